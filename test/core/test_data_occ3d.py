"""Occ3D's voxel labels beside nuScenes, and what a folder is taken for."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from panoocc_core.data import DataError, NuScenes, Occ3D, Occ3DDrive, open_dataset
from panoocc_core.data.occ3d import GEOMETRY, read_voxels
from panoocc_core.labels import OCC3D

from . import nuscenes_folder as by_hand

GENUINE = os.environ.get("PANOOCC_OCC3D_LABEL")
SHAPE = (200, 200, 16)
FREE = OCC3D.names.index("free")
SCENE = "scene-0061"


def voxels() -> dict[str, np.ndarray]:
    """One car's voxel at x 14.1, y 1.5, z 1.3 (the landmark) in free space; the LiDAR sees it, no camera does."""
    arrays = {"semantics": np.full(SHAPE, FREE, np.uint8)}
    arrays |= {name: np.zeros(SHAPE, np.uint8) for name in ("mask_lidar", "mask_camera")}
    arrays["semantics"][135, 103, 5] = OCC3D.names.index("car")
    arrays["mask_lidar"][135, 103, 5] = 1
    return arrays


def label_file(root: Path, index: int = 0) -> Path:
    path = root / "gts" / SCENE / by_hand.token("sample", SCENE, index) / "labels.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def root(tmp_path):
    by_hand.write_nuscenes(tmp_path)
    for index in range(3):
        np.savez_compressed(label_file(tmp_path, index), **voxels())
    return tmp_path


def first_drive(root, **options) -> Occ3DDrive:
    return Occ3D(NuScenes(root, by_hand.VERSION), **options).drives([SCENE])[0]


def test_voxels_lie_in_the_frame_of_boxes_and_points(root):
    drive = first_drive(root)
    truth = drive.truth(1)
    assert (drive.name, len(drive)) == (SCENE, 3) and len(drive.frame(1).cameras) == 6
    assert truth.stamp_ns == drive.frame(1).stamp_ns and truth.geometry is GEOMETRY
    occupied = np.argwhere(truth.class_id != FREE)
    low = GEOMETRY.centres_m(occupied)[0] - 0.2
    point = truth.points.position_m[0]  # the landmark
    assert (low <= point).all() and (point < low + 0.4).all()
    assert truth.lidar_mask[tuple(occupied[0])] and not truth.camera_mask.any()
    assert truth.lidar_mask.dtype == truth.camera_mask.dtype == bool and len(truth.boxes) == 1
    assert truth.instance_id is None  # Occ3D has none


def test_the_grid_ends_where_the_benchmark_says():
    corners = GEOMETRY.centres_m(np.array([(0, 0, 0), (199, 199, 15)]))
    np.testing.assert_allclose(corners - [[0.2], [-0.2]], [(-40, -40, -1), (40, 40, 5.4)])


def changed(**changes):
    def damage(path):
        arrays = {**voxels(), **changes}
        np.savez_compressed(path, **{name: value for name, value in arrays.items() if value is not None})

    return damage


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def bomb(path):
    """An array of 16 GB that compresses to nothing; only its header is written."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("semantics.npy", "w") as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 34,)}
        np.lib.format.write_array_header_1_0(member, header)


def unlabelled(path):
    path.unlink()


BROKEN = {
    "missing": (unlabelled, "labels.npz: no such file"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:300]), "labels.npz: cannot be read"),
    "flipped": (flipped, "labels.npz: .*(damaged|cannot be read)"),
    "text": (lambda path: path.write_text("404"), "labels.npz: cannot be read"),
    "bomb": (bomb, r"semantics is uint8 \(17179869184,\), not uint8 \(200, 200, 16\)"),
    "other shape": (changed(semantics=np.zeros((200, 200, 8), np.uint8)), r"semantics is uint8 \(200, 200, 8\)"),
    "other type": (changed(semantics=np.zeros(SHAPE, np.int64)), "semantics is int64"),
    "no mask": (changed(mask_camera=None), "no array 'mask_camera' .it has semantics.npy, mask_lidar.npy"),
    "wide mask": (changed(mask_lidar=np.full(SHAPE, 2, np.uint8)), "mask_lidar holds 2, not only 0 and 1"),
    "class 18": (changed(semantics=np.full(SHAPE, 18, np.uint8)), r"holds class 18; Occ3D has 0\.\.17"),
    "objects": (changed(semantics=np.full(SHAPE, None, dtype=object)), "semantics is object"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_wrong_labels(root, damage, message):
    drive = first_drive(root)
    damage(label_file(root))
    with pytest.raises(DataError, match=message):
        drive.truth(0)
    assert drive.truth(1).class_id is not None


def test_arrays_in_column_order_read_the_same(tmp_path):
    ordered = {name: np.asfortranarray(array) for name, array in voxels().items()}
    np.savez(tmp_path / "labels.npz", **ordered)
    class_id, lidar_mask, camera_mask = read_voxels(tmp_path / "labels.npz")
    assert class_id.flags.writeable
    np.testing.assert_array_equal(class_id, voxels()["semantics"])


def test_scenes_without_labels_are_named(root):
    with pytest.raises(DataError, match="gts: has no folder scene-0916 .1 of 2 scenes have no labels"):
        open_dataset(root)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        first_drive(root, gts=root / "nowhere")


def test_folders_are_recognised(root, tmp_path_factory):
    names = root / "one.txt"
    names.write_text(SCENE)
    assert isinstance(open_dataset(root, split=names)[0], Occ3DDrive)
    assert not isinstance(open_dataset(root, "nuscenes", split=names)[0], Occ3DDrive)
    elsewhere = tmp_path_factory.mktemp("labels") / "gts"
    (root / "gts").rename(elsewhere)
    assert not isinstance(open_dataset(root, split=names)[0], Occ3DDrive)
    assert open_dataset(root, split=names, gts=elsewhere)[0].truth(0).class_id is not None


def test_simulated_drives_are_recognised_and_have_no_split(tmp_path):
    (tmp_path / "street-0123456789-000001.npz").touch()  # drives are read when they are asked for
    (tmp_path / "street-0123456789-000000.npz").touch()
    assert [path.stem[-1] for path in open_dataset(tmp_path).paths] == ["0", "1"]
    with pytest.raises(DataError, match="simulated drives have no split"):
        open_dataset(tmp_path, split="mini_val")


def test_folders_that_are_something_else_are_explained(root, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    explanations = {
        root / "nowhere": "no such folder",
        root / by_hand.VERSION: "is a folder of tables; give the folder above it",
        root / "gts": "has Occ3D's voxel labels, which belong to nuScenes' images: give nuScenes' root",
        root / "samples": "is no data set that can be read; .*it has CAM_BACK/, CAM_BACK_LEFT/",
        empty: "it has nothing",
    }
    for path, text in explanations.items():
        with pytest.raises(DataError, match=text):
            open_dataset(path)
    with pytest.raises(DataError, match="kind 'kitti' is not known; known are nuscenes"):
        open_dataset(root, "kitti")
    with pytest.raises(DataError, match="has no folder v1.0-.* with tables; unpack"):
        open_dataset(empty, "nuscenes")
    (root / "v1.0-trainval").mkdir()
    (root / "v1.0-trainval" / "scene.json").write_text("[]")
    with pytest.raises(DataError, match=r"has v1\.0-mini, v1\.0-trainval; name the version to read"):
        open_dataset(root)


@pytest.mark.skipif(GENUINE is None, reason="PANOOCC_OCC3D_LABEL names no labels.npz of Occ3D-nuScenes")
def test_a_genuine_file():
    """The axes are x, y, z: the road is wide and flat, and things stand on it."""
    class_id, lidar_mask, camera_mask = read_voxels(Path(GENUINE))
    road = np.argwhere(class_id == OCC3D.names.index("driveable_surface"))
    assert len(road) > 1000 and (np.ptp(road, axis=0)[:2] > 50).all() and np.ptp(road[:, 2]) <= 3
    cars = np.argwhere(class_id == OCC3D.names.index("car"))
    assert len(cars) == 0 or road[:, 2].mean() < cars[:, 2].mean() < road[:, 2].mean() + 5
    assert 0.005 < (class_id != FREE).mean() < 0.2
    assert 0 < camera_mask.sum() < camera_mask.size and lidar_mask.sum() > 0
