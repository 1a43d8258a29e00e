"""A set that was saved becomes the same set again: images, CameraInfo, mounts, pose, and so the same grid."""

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core.config import model_config
from panoocc_core.types import VehicleMotion
from panoocc_ros.bags import saved_set
from panoocc_ros.bags.bag import BagReader, BagWriteError
from panoocc_ros.bags.saved_set import Made, free_path, write_set
from panoocc_ros.bags.source import ready_sets
from panoocc_ros.commands.cli import main
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.messages.types import LABEL_SET, new_message, typestore
from panoocc_ros.motion.motion_options import MotionOptions
from test.ros.bags import RIG, write_drive
from test.ros.test_run import GRID, NANO, read

LAST = RIG.names[-1]
SOURCES = MotionOptions()


def to_bytes(message):
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def sets_of(path, rig=RIG):
    """The sets of a bag, and the frame of each."""
    assembler = FrameAssembler(rig, AssemblerOptions(camera_timeout_s=0.3).patient())
    with BagReader(path) as bag:
        return [(ready, assembler.frame(ready)) for _, ready in ready_sets(bag, assembler)]


def same_frames(one, other):
    assert one.stamp_ns == other.stamp_ns and one.cameras and len(one.cameras) == len(other.cameras)
    np.testing.assert_allclose(one.world_from_ego, other.world_from_ego, atol=1e-12)
    for before, after in zip(one.cameras, other.cameras):
        assert (before.name, before.is_blank) == (after.name, after.is_blank)
        if not before.is_blank:
            assert before.stamp_ns == after.stamp_ns and torch.equal(before.image, after.image)
            for field in ("intrinsics", "ego_from_camera", "world_from_ego"):
                np.testing.assert_allclose(getattr(before, field), getattr(after, field), atol=1e-12)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("drive") / "drive.mcap", sets=2)


@pytest.mark.parametrize("number", [0, 1])
def test_a_saved_set_is_the_same_set_again(drive, tmp_path, number):
    ready, frame = sets_of(drive)[number]
    texts = {"status": "all is well", "parameters": "panoocc: {}"}
    write_set(
        tmp_path / "set.mcap",
        RIG,
        SOURCES,
        ready,
        [Made("labels", LABEL_SET, new_message(LABEL_SET), True)],
        texts,
        to_bytes,
    )
    ((again, same),) = sets_of(tmp_path / "set.mcap")
    same_frames(frame, same)
    assert again.fixed_frame == ready.fixed_frame and again.messages.stamps_ns == ready.messages.stamps_ns
    assert [one.data for _, one in read(tmp_path / "set.mcap", "/panoocc/status")] == ["all is well"]
    assert len(read(tmp_path / "set.mcap", "/panoocc/labels")) == 1


def test_a_camera_that_saw_nothing_sees_nothing_again(tmp_path):
    topics = (RIG.camera(LAST).topic, RIG.camera(LAST).info_topic)
    path = write_drive(tmp_path / "drive.mcap", sets=2, skip=topics)
    ready, frame = sets_of(path)[0]
    assert frame.cameras[-1].is_blank
    write_set(tmp_path / "set.mcap", RIG, SOURCES, ready, [], {}, to_bytes)
    with BagReader(tmp_path / "set.mcap") as bag:
        assert set(topics) <= set(bag.topics)  # else `panoocc run` would refuse the bag
    ((_, same),) = sets_of(tmp_path / "set.mcap")
    same_frames(frame, same)


def test_what_a_calibration_file_said_is_in_the_bag(drive, tmp_path):
    from panoocc_core.cameras.calibration_file import CalibrationFile, CameraCalibration, CameraIntrinsics, Mount

    mount = Mount((1.0, 2.0, 3.0), (0.5, -0.5, 0.5, -0.5))
    intrinsics = CameraIntrinsics(100, 80, (50.0, 0, 50, 0, 51.0, 40, 0, 0, 1), D=(0.1, 0, 0, 0, 0))
    given = CalibrationFile((CameraCalibration(LAST, mount, intrinsics),))
    assembler = FrameAssembler(RIG, AssemblerOptions().patient(), given)
    with BagReader(drive) as bag:
        ready = [one for _, one in ready_sets(bag, assembler)][0]
    write_set(tmp_path / "set.mcap", RIG, SOURCES, ready, [], {}, to_bytes)
    again, _ = sets_of(tmp_path / "set.mcap")[0]
    np.testing.assert_allclose(again.poses[LAST].ego_from_camera, mount.matrix, atol=1e-12)
    assert again.infos[LAST].k[4] == 51.0 and again.infos[LAST].d[0] == 0.1


@pytest.mark.parametrize("pose_source", ["tf", "odometry"])
def test_measured_rates_are_measured_again(drive, tmp_path, pose_source):
    sources = MotionOptions(pose_source=pose_source, odometry_topic="/odometry", imu_topic="/imu")
    motion = VehicleMotion((0.5, -0.25, 9.75), (0.01, 0.02, 0.3), (4.0, 0.5, 0.0))
    for measured in (motion, replace(motion, acceleration_mps2=None), replace(motion, velocity_mps=None)):
        ready = replace(sets_of(drive)[0][0], motion=measured)
        path = tmp_path / f"{'_'.join(measured.measured)}.mcap"
        write_set(path, RIG, sources, ready, [], {}, to_bytes)
        options = AssemblerOptions(pose_source=pose_source, odometry_topic="/odometry", imu_topic="/imu").patient()
        assembler = FrameAssembler(RIG, options, config=model_config("nano"))
        with BagReader(path) as bag:
            ((_, again),) = ready_sets(bag, assembler)
        assert again.motion == measured
        np.testing.assert_allclose(again.world_from_ego, ready.world_from_ego, atol=1e-12)


def test_panoocc_run_makes_the_same_grid_of_a_saved_set(drive, tmp_path):
    """As the node saves it: the set, the grid that it became, and texts."""
    ready, frame = sets_of(drive)[0]
    grids = tmp_path / "grids.mcap"
    assert main(["run", str(drive), *NANO, "--limit", "1", "--out", str(grids), "--outputs", "occupancy"]) == 0
    (_, grid), *_ = read(grids, GRID)
    saved, again = tmp_path / "set.mcap", tmp_path / "again.mcap"
    write_set(
        saved, RIG, SOURCES, ready, [Made("occupancy", "panoocc/msg/VoxelGrid", grid, False)], {"status": "x"}, to_bytes
    )
    assert main(["run", str(saved), *NANO, "--out", str(again), "--outputs", "occupancy"]) == 0
    ((_, same),) = read(again, GRID)
    assert to_bytes(grid) == to_bytes(same)  # numbers, things, confidence, what the cameras see, stamps


def test_nothing_is_overwritten_and_a_folder_has_a_limit(drive, tmp_path, monkeypatch):
    ready, _ = sets_of(drive)[0]
    monkeypatch.setattr(saved_set.time, "strftime", lambda _: "20261130_120000")
    first = free_path(tmp_path / "new" / "folder")
    write_set(first, RIG, SOURCES, ready, [], {}, to_bytes)
    second = free_path(first.parent)
    assert first.name == "panoocc_set_20261130_120000.mcap" and second.name == "panoocc_set_20261130_120000_2.mcap"
    with pytest.raises(BagWriteError, match="exists already"):
        write_set(first, RIG, SOURCES, ready, [], {}, to_bytes)
    monkeypatch.setattr(saved_set, "MAX_BAGS", 1)
    with pytest.raises(BagWriteError, match="1 bags of sets already"):
        free_path(first.parent)
    (tmp_path / "file").write_text("")
    with pytest.raises(BagWriteError, match="cannot be written"):
        free_path(tmp_path / "file")
    monkeypatch.setattr(saved_set, "MAX_IMAGE_BYTES", 100)
    with pytest.raises(BagWriteError, match="images have"):
        write_set(second, RIG, SOURCES, ready, [], {}, to_bytes)
    assert not second.exists()


def test_a_full_disk_is_told(drive, tmp_path, monkeypatch):
    ready, _ = sets_of(drive)[0]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(BagWriteError, match="No space left on device"):
        write_set(tmp_path / "set.mcap", RIG, SOURCES, ready, [], {}, to_bytes)
    assert not (tmp_path / "set.mcap").exists()


def test_the_default_folder_is_where_ros_has_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    assert saved_set.default_folder() == tmp_path / "panoocc"
    monkeypatch.delenv("ROS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert saved_set.default_folder() == tmp_path / ".ros" / "panoocc"
