"""Occ3D-Waymo's voxel labels, in files made by hand in the published format."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from panoocc_core.config import model_config
from panoocc_core.data import DataError, WaymoLabels, read_waymo_voxels
from panoocc_core.labels import OCC3D_WAYMO
from panoocc_core.stream import output_geometry
from panoocc_core.train.targets import dense_targets

SHAPE, FREE = (200, 200, 16), 23
VEHICLE, ROAD = 1, 13


def voxels() -> dict[str, np.ndarray]:
    """A vehicle's voxel ahead, which LiDAR and camera see, one of road behind, which no image shows; the rest free."""
    arrays = {"voxel_label": np.full(SHAPE, FREE, np.uint8)}
    arrays |= {name: np.zeros(SHAPE, np.uint8) for name in ("origin_voxel_state", "final_voxel_state")}
    arrays["infov"] = np.zeros(SHAPE, bool)
    ahead, behind = (135, 103, 5), (60, 100, 2)
    arrays["voxel_label"][ahead], arrays["voxel_label"][behind] = VEHICLE, ROAD
    for place in (ahead, behind):
        arrays["origin_voxel_state"][place] = arrays["final_voxel_state"][place] = 1
    arrays["infov"][100:] = True
    return arrays


def write(path: Path, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: array for name, array in {**voxels(), **changes}.items() if array is not None}
    np.savez_compressed(path, **arrays)
    return path


@pytest.fixture
def label_file(tmp_path) -> Path:
    return write(tmp_path / "validation" / "012" / "007_04.npz")


def test_classes_and_masks_are_those_of_the_file(label_file):
    class_id, lidar_mask, camera_mask = read_waymo_voxels(label_file)
    assert class_id.dtype == np.uint8 and lidar_mask.dtype == camera_mask.dtype == bool
    occupied = np.argwhere(class_id != OCC3D_WAYMO.free_id)
    assert occupied.tolist() == [[60, 100, 2], [135, 103, 5]]
    assert [OCC3D_WAYMO.names[class_id[tuple(place)]] for place in occupied] == ["road", "vehicle"]
    assert lidar_mask.sum() == 2 and np.argwhere(camera_mask).tolist() == [[135, 103, 5]]


def test_a_scene_is_a_list_of_truths_in_the_ego_frame(label_file):
    write(label_file.with_name("010_04.npz"))
    (label_file.parent / "007.npz").touch()  # voxels of 0.1 m lie beside them
    scene = WaymoLabels(label_file.parent)
    assert len(scene) == 2 and scene.frames == (7, 10)
    truth = scene[1]
    assert truth.stamp_ns == 1_000_000_000 and truth.labels is OCC3D_WAYMO
    vehicle = truth.geometry.centres_m(np.argwhere(truth.class_id == VEHICLE))
    np.testing.assert_allclose(vehicle, [[14.2, 1.4, 1.2]], atol=1e-9)
    with pytest.raises(IndexError):
        scene[2]


@pytest.mark.parametrize("preset", ["pano_waymo_small", "pano_waymo_base"])
def test_the_presets_for_waymo_learn_from_these_files(label_file, preset):
    truth, config = WaymoLabels(label_file.parent)[0], model_config(preset)
    assert truth.geometry.differs_from(output_geometry(config)) is None
    classes, mask = dense_targets(truth, config)
    assert classes[135, 103, 5] == VEHICLE and mask.sum() == 1


def bomb(path: Path) -> None:
    """A label of 16 GB that compresses to nothing; only its header is written."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("voxel_label.npy", "w") as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": (4096, 4096, 1024)}
        np.lib.format.write_array_header_1_0(member, header)


def changed(**changes):
    return lambda path: write(path, **changes)


BROKEN = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:300]), "cannot be read"),
    "bomb": (bomb, "voxel_label has 4096x4096x1024 voxels, and the grid of 0.4 m has 200x200x16"),
    "other grid": (changed(voxel_label=np.zeros((200, 200, 64), np.uint8)), r"200x200x64 voxels, .* without _04 have"),
    "other type": (changed(voxel_label=np.zeros(SHAPE, np.int64)), "voxel_label is int64"),
    "nuScenes": (changed(voxel_label=None, semantics=np.zeros(SHAPE, np.uint8)), "no array 'voxel_label' .it has "),
    "no mask": (changed(final_voxel_state=None), "no array 'final_voxel_state'"),
    "no view": (changed(infov=None), "no array 'infov'"),
    "mask of another grid": (changed(infov=np.zeros((8, 8, 8), bool)), r"infov is bool \(8, 8, 8\)"),
    "wide mask": (changed(origin_voxel_state=np.full(SHAPE, 2, np.uint8)), "origin_voxel_state holds 2 to 2, not only"),
    "real mask": (changed(infov=np.zeros(SHAPE)), "infov is float64, not a mask"),
    "class 15": (changed(voxel_label=np.full(SHAPE, 15, np.uint8)), r"holds class 15; Occ3D-Waymo has 0\.\.14 and 23"),
    "objects": (changed(voxel_label=np.full(SHAPE, None, dtype=object)), "voxel_label is object"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_wrong_labels_are_named_with_their_file(label_file, damage, message):
    scene = WaymoLabels(label_file.parent)
    damage(label_file)
    with pytest.raises(DataError, match="007_04.npz: .*" + message):
        scene[0]


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
def test_masks_may_be_stored_as_bits_or_numbers(tmp_path, kind):
    mask = voxels()["final_voxel_state"].astype(kind)
    assert read_waymo_voxels(write(tmp_path / "000_04.npz", final_voxel_state=mask))[2].sum() == 1


def test_folders_that_are_none_of_a_scene_are_explained(tmp_path, label_file):
    with pytest.raises(DataError, match="nowhere: no such folder; give that of one scene"):
        WaymoLabels(tmp_path / "nowhere")
    with pytest.raises(DataError, match="validation: has no labels called 000_04.npz"):
        WaymoLabels(tmp_path / "validation")
