"""Sets of images in files: what is read is what was calibrated; what cannot be used is told with camera and file."""

import os

import cv2
import numpy as np
import pytest
import yaml

import panoocc_core as panoocc
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.base.whole_files import whole_file
from panoocc_core.data.grid_file import is_grid_file, save_grid
from panoocc_core.geometry import quaternion_from_rotation, rigid
from panoocc_core.optics import LensModel
from panoocc_core.sim import example_set, nuscenes_rig
from panoocc_core.sim.example_set import ExampleSetError, write_example_set
from test.core.conftest import EGO_FROM_OPTICAL, YAWS_DEG, heading

WIDTH, HEIGHT = 96, 54
K = [80.0, 0, 48, 0, 80, 27, 0, 0, 1]


def entry(name, yaw_deg=0.0, roll_deg=0.0, **lens):
    roll = heading(roll_deg)  # about the optical axis
    mount = heading(yaw_deg) @ EGO_FROM_OPTICAL @ roll
    return {
        "name": name,
        "ego_from_camera": {
            "translation_m": [1.0, 0.2, 1.5],
            "rotation_xyzw": quaternion_from_rotation(mount).tolist(),
        },
        "intrinsics": {"width": WIDTH, "height": HEIGHT, "K": K, **lens},
    }


def calibration(folder, entries, **more):
    path = folder / "calibration.yaml"
    path.write_text(yaml.safe_dump({"cameras": entries, **more}))
    return path


def gradient(shift=0):
    """RGB whose channels tell the column, the row and the camera."""
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return np.stack((columns * 2, rows * 4, np.full_like(rows, 40 + shift)), axis=2).astype(np.uint8)


def write(path, rgb):
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


@pytest.fixture
def street(tmp_path):
    for place, name in enumerate(YAWS_DEG):
        write(tmp_path / f"{name}.png", gradient(20 * place))
    calibration(tmp_path, [entry(name, yaw) for name, yaw in YAWS_DEG.items()])
    return tmp_path


def test_a_folder_and_named_files_give_the_same_frame(street):
    frame = panoocc.read_frame(street / "calibration.yaml", street)
    assert [camera.name for camera in frame.cameras] == list(YAWS_DEG) and frame.stamp_ns == 0
    files = {name: street / f"{name}.png" for name in reversed(YAWS_DEG)}
    again = panoocc.read_frame(str(street / "calibration.yaml"), files, tuple(YAWS_DEG))
    for place, (one, other) in enumerate(zip(frame.cameras, again.cameras, strict=True)):
        np.testing.assert_array_equal(one.image, gradient(20 * place))
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.intrinsics, np.reshape(K, (3, 3)))
        np.testing.assert_allclose(
            one.ego_from_camera,
            rigid(heading(YAWS_DEG[one.name]) @ EGO_FROM_OPTICAL, np.array([1.0, 0.2, 1.5])),
            atol=1e-9,
        )
        np.testing.assert_array_equal(one.ego_from_camera, other.ego_from_camera)
    few = panoocc.read_frame(street / "calibration.yaml", street, ("CAM_BACK", "CAM_FRONT"))
    assert [camera.name for camera in few.cameras] == ["CAM_BACK", "CAM_FRONT"]


def test_stamp_pose_and_the_frame_of_the_voxels_go_along(street):
    mount = {"translation_m": [0.9, 0, 1.8], "rotation_xyzw": [0, 0, 0, 1]}
    path = calibration(street, [entry("CAM_FRONT")], ego_from_network=mount)
    pose = rigid(heading(30), np.array([5.0, 6, 0]))
    frame = panoocc.read_frame(path, street, stamp_ns=7, world_from_ego=pose)
    assert frame.stamp_ns == frame.cameras[0].stamp_ns == 7 and frame.ego_from_network[2, 3] == 1.8
    np.testing.assert_array_equal(frame.world_from_ego, pose)
    np.testing.assert_array_equal(frame.cameras[0].world_from_ego, pose)


def test_file_kinds_and_spellings(street):
    for ending in (".JPG", ".jpeg", ".tif"):
        (street / "CAM_BACK.png").unlink(missing_ok=True)
        path = write(street / f"cam_back{ending}", gradient())
        frame = panoocc.read_frame(street / "calibration.yaml", street, ("CAM_BACK",))
        assert np.abs(frame.cameras[0].image.numpy().astype(int) - gradient()).mean() < 6
        path.unlink()


def test_lens_distortion_is_undone_and_a_camera_upside_down_is_turned(street):
    path = calibration(street, [entry("CAM_FRONT", D=[-0.3, 0.1, 0, 0, 0]), entry("CAM_BACK", 180, 180)])
    bent, turned = panoocc.read_frame(path, street).cameras
    middle = bent.image[27, 48].tolist()
    assert np.abs(np.array(middle[:2]) - (96, 108)).max() <= 2
    r = (90 - 48) / 80  # at column 90 shows what the lens put nearer to the middle
    assert bent.image[27, 90].tolist()[0] == pytest.approx(2 * (48 + 80 * r * (1 - 0.3 * r**2 + 0.1 * r**4)), abs=2)
    np.testing.assert_array_equal(turned.image, gradient(20 * list(YAWS_DEG).index("CAM_BACK"))[::-1, ::-1])
    np.testing.assert_allclose(turned.ego_from_camera[:3, 1], (0, 0, -1), atol=1e-9)  # down is down again


def test_what_cannot_be_used_is_told_with_camera_and_file(street):
    def refused(match, images=street, path=street / "calibration.yaml", cameras=None, kind=panoocc.ImageError):
        with pytest.raises(kind, match=match):
            panoocc.read_frame(path, images, cameras)

    refused(
        "there is no image of CAM_BACK; there are images of: CAM_FRONT",
        {"CAM_FRONT": "x"},
        cameras=("CAM_FRONT", "CAM_BACK"),
    )
    refused("there is no image of any camera", {})
    refused("nowhere: cannot be read as a folder", street / "nowhere")
    refused("camera CAM_FRONT, .*none.jpg: cannot be read: No such file", {"CAM_FRONT": street / "none.jpg"})
    refused("camera CAM_FRONT, .*: cannot be read: Is a directory", {"CAM_FRONT": street})
    refused("the camera 'CAM_TOP' is not among CAM_FRONT,", {"CAM_TOP": "x"})
    refused("nothing.yaml: no such file", path=street / "nothing.yaml", kind=ConfigError)
    whole = (street / "CAM_FRONT.png").read_bytes()
    for data, match in (
        (b"", "no file of 1 to"),
        (b"GIF89a..", "begins with 47 49 46 38 and is neither JPEG, PNG nor TIFF"),
        (whole[:200], "cut off"),
        (whole.replace(b"IDAT", b"IDAX", 1), "damaged"),
    ):
        (street / "CAM_FRONT.png").write_bytes(data)
        refused(f"camera CAM_FRONT, .*CAM_FRONT.png: .*{match}")
    write(street / "CAM_FRONT.png", gradient()[:50])
    refused("it is 96x50, but .*calibration.yaml calibrates 96x54")
    (street / "CAM_FRONT.png").unlink()
    refused("no image of CAM_FRONT: call the files as the cameras, e.g. CAM_FRONT.jpg .there are: CAM_BACK.png")
    write(street / "CAM_FRONT.jpg", gradient())
    write(street / "cam_front.png", gradient())
    refused("CAM_FRONT.jpg and cam_front.png are all images of CAM_FRONT")
    for key in ("intrinsics", "ego_from_camera"):
        half = entry("CAM_BACK")
        del half[key]
        refused(f"camera 'CAM_BACK' lacks {key}", path=calibration(street, [half]))


def test_a_calibration_without_cameras_is_told(street):
    mount = {"translation_m": [0.0, 0.0, 0.3], "rotation_xyzw": [0.0, 0.0, 0.0, 1.0]}
    path = street / "calibration.yaml"
    path.write_text(yaml.safe_dump({"ego_from_network": mount}))
    with pytest.raises(panoocc.ImageError, match=r"calibration.yaml: names no camera"):
        panoocc.read_frame(path, street)


def test_a_pipe_in_place_of_an_image_is_not_waited_for(street):
    os.mkfifo(street / "pipe.jpg")
    with pytest.raises(panoocc.ImageError, match="camera CAM_FRONT, .*pipe.jpg: is no file"):
        panoocc.read_frame(street / "calibration.yaml", {"CAM_FRONT": street / "pipe.jpg"})


def test_the_example_set_is_read_as_it_was_made(tmp_path, monkeypatch):
    folder, rig = tmp_path / "deep" / "street", nuscenes_rig(0.04)[:2]

    def killed(path):
        if path.name == f"{rig[1].name}.jpg":
            raise KeyboardInterrupt
        return whole_file(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(example_set, "whole_file", killed)
        write_example_set(folder, rig, seed=4)
    before = (folder / "CAM_FRONT.jpg").read_bytes()
    write_example_set(folder, rig, seed=3, overwrite=True)
    assert (folder / "CAM_FRONT.jpg").read_bytes() != before
    frame = panoocc.read_frame(folder / "calibration.yaml", folder)
    assert {camera.name for camera in frame.cameras} == {camera.name for camera in rig}
    for made, read in zip(rig, frame.cameras, strict=True):
        np.testing.assert_allclose(read.intrinsics, made.intrinsics)
        np.testing.assert_allclose(read.ego_from_camera, made.ego_from_camera, atol=1e-12)
        assert read.size_hw == (made.height, made.width) and read.image.float().std() > 10
    with pytest.raises(ExampleSetError, match="exists already"):
        write_example_set(folder, rig, seed=4)
    (folder / "mine.txt").touch()
    with pytest.raises(ExampleSetError, match=r"did not write what is there .mine.txt"):
        write_example_set(folder, rig, seed=5, overwrite=True)
    (folder / "mine.txt").unlink()
    (folder / "calibration.yaml").write_text("cameras: []")
    with pytest.raises(ExampleSetError, match="calibration.yaml"):
        write_example_set(folder, rig, seed=5, overwrite=True)


def test_a_grid_file_holds_what_the_network_found(street, tmp_path, nano_model):
    frame = panoocc.read_frame(street / "calibration.yaml", street)
    occupancy = panoocc.OccupancyStream(nano_model).step(frame)
    path = tmp_path / "grid.npz"
    save_grid(path, occupancy)
    with np.load(path, allow_pickle=False) as grid:
        for name in ("class_id", "confidence", "instance_id", "visible"):
            np.testing.assert_array_equal(grid[name], getattr(occupancy, name))
        assert grid["class_names"].tolist() == list(occupancy.labels.names) and grid["free_id"] == 17
        np.testing.assert_array_equal(grid["ego_from_grid"], occupancy.geometry.ego_from_grid)
        occupied = grid["class_id"] != grid["free_id"]
        middles_m = (np.argwhere(occupied) + 0.5) * grid["voxel_size_m"] @ grid["ego_from_grid"][:3, :3].T
        middles_m += grid["ego_from_grid"][:3, 3]
        np.testing.assert_allclose(middles_m, occupancy.geometry.centres_m(np.argwhere(occupied)))
        assert len(grid["box_class"]) == len(occupancy.boxes) == len(grid["box_instance_id"])
    assert is_grid_file(path) and not is_grid_file(street / "CAM_FRONT.png") and not is_grid_file(tmp_path / "none")
    np.savez(tmp_path / "other.npz", written_by=np.array("somebody"))
    assert not is_grid_file(tmp_path / "other.npz")
    path.write_bytes(path.read_bytes()[:-30])
    assert not is_grid_file(path)
    picture = panoocc.picture(frame, occupancy, note="not trained")
    assert picture.mode == "RGB" and picture.width == 1800 and panoocc.overlay(frame, occupancy, 600).width == 600


def test_a_fisheye_keeps_what_it_sees_only_if_voxels_are_projected_through_it(tmp_path):
    focal = float(96 / np.radians(190))
    lens = {"K": [focal, 0, 48, 0, focal, 27, 0, 0, 1], "distortion_model": "equidistant", "D": [-0.02, 0.004, 0, 0]}
    write(tmp_path / "A.png", gradient())
    path = calibration(tmp_path, [entry("A", **lens)])
    (kept,) = panoocc.read_frame(path, tmp_path, lens="project").cameras
    assert kept.lens == LensModel("equidistant", (-0.02, 0.004, 0.0, 0.0)) and kept.cut_off == 0
    np.testing.assert_array_equal(kept.image, gradient())
    (flat,) = panoocc.read_frame(path, tmp_path).cameras
    assert flat.lens is None and 0.4 < flat.cut_off < 0.7
