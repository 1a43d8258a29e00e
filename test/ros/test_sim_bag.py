"""Bags of simulated streets: what is in them is what the simulator knows, and the assembler can use it."""

import errno
import math
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.interfaces import QosDurability, QosReliability

from panoocc_core.geometry import NS_PER_S
from panoocc_core.sim import Renderer, Scene, drive_renderer, load_sim_rig, nuscenes_rig
from panoocc_core.sim.drive_renderer import Drive, truth_grid
from panoocc_ros.bags import writer as bag_module
from panoocc_ros.bags.bag import BagError, BagReader, RawMessage
from panoocc_ros.commands.cli import main
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.rig import load_rig
from panoocc_ros.messages.clouds import positions_m
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.messages.truth import BOXES, LABELS, TRUE_OCCUPANCY
from panoocc_ros.messages.types import typestore
from panoocc_ros.sim.bag import write_street_bag
from panoocc_ros.sim.faults import Faults, parse_fault
from panoocc_ros.sim.messages import LIDAR_FRAME, LIDAR_TOPIC, START_NS
from test.ros.messages import listed

RIG = nuscenes_rig(0.08)
DRIVE = Drive(seed=4, seconds=1.5, rate_hz=2)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_street_bag(tmp_path_factory.mktemp("bags") / "street", DRIVE.seed, DRIVE.seconds, DRIVE.rate_hz, RIG)


@pytest.fixture(scope="module")
def messages(bag: Path) -> list[RawMessage]:
    with BagReader(bag) as reader:
        return list(reader.messages())


def test_topics_are_those_of_the_rig_file(bag: Path) -> None:
    with BagReader(bag) as reader:
        topics = reader.topics
    expected = {"/tf": "tf2_msgs/msg/TFMessage", "/tf_static": "tf2_msgs/msg/TFMessage"}
    expected |= {"/odom": "nav_msgs/msg/Odometry", "/imu": "sensor_msgs/msg/Imu"}
    for camera in load_rig("nuscenes").cameras:
        expected[camera.topic] = "sensor_msgs/msg/CompressedImage"
        expected[camera.info_topic] = "sensor_msgs/msg/CameraInfo"
    assert topics == expected


def test_static_transforms_are_latched(bag: Path) -> None:
    with BagReader(bag) as reader:
        profiles = {c.topic: c.ext.offered_qos_profiles[0] for c in reader._reader.connections}  # type: ignore[union-attr]
    assert profiles["/tf_static"].durability == QosDurability.TRANSIENT_LOCAL
    assert profiles["/tf"].durability == QosDurability.VOLATILE
    assert {profile.reliability for profile in profiles.values()} == {QosReliability.RELIABLE}


def test_every_camera_has_its_own_shutter_stamps_in_order(bag: Path, messages: list[RawMessage]) -> None:
    assert [m.stamp_ns for m in messages] == sorted(m.stamp_ns for m in messages)
    assert messages[0].topic == "/tf_static"
    for camera in RIG:
        stamps = [m.stamp_ns for m in messages if m.topic == f"/{camera.name.lower()}/image_raw/compressed"]
        due = [START_NS + round((DRIVE.time_s(i) + camera.shutter_offset_s) * 1e9) for i in range(3)]
        assert stamps == due
    with BagReader(bag) as reader:
        for raw in messages:
            if raw.topic != "/tf" and not raw.topic.startswith("/tf_static"):
                header = reader.deserialise(raw).header
                assert header.stamp.sec * NS_PER_S + header.stamp.nanosec == raw.stamp_ns
                assert raw.topic.split("/")[1] == header.frame_id


def test_images_are_the_simulator_s(bag: Path, messages: list[RawMessage]) -> None:
    renderer = Renderer(Scene(DRIVE.seed, DRIVE.time_s(DRIVE.sets) + 1))
    expected = renderer.pictures(RIG, DRIVE.time_s(2))
    with BagReader(bag) as reader:
        for camera in RIG:
            raw = [m for m in messages if m.topic == f"/{camera.name.lower()}/image_raw/compressed"][2]
            rgb = cv2.imdecode(np.asarray(reader.deserialise(raw).data), cv2.IMREAD_COLOR)[..., ::-1]
            difference = np.abs(rgb.astype(int) - expected[camera.name].rgb)
            assert difference.mean() < 6, camera.name
            other = np.abs(rgb.astype(int) - renderer.picture(camera, 0.1).rgb).mean()
            assert difference.mean() < other


def test_the_assembler_makes_frames_with_the_simulator_s_poses(bag: Path) -> None:
    assembler = FrameAssembler(load_rig("nuscenes"))
    topics = {c.topic: c.name for c in assembler.rig.cameras}
    infos = {c.info_topic: c.name for c in assembler.rig.cameras}
    frames = []
    with BagReader(bag) as reader:
        for raw in reader.messages():
            message = reader.deserialise(raw)
            if raw.topic in topics:
                assembler.on_image(topics[raw.topic], message, raw.stamp_ns)
            elif raw.topic in infos:
                assembler.on_camera_info(infos[raw.topic], message)
            elif raw.topic.startswith("/tf"):
                assembler.on_transforms(message, raw.topic == "/tf_static")
            while (ready := assembler.poll(raw.stamp_ns)) is not None:
                frames.append(assembler.frame(ready))
        frames += [assembler.frame(ready) for ready in assembler.finish()]
    assert len(frames) == DRIVE.sets
    scene = Scene(DRIVE.seed, DRIVE.time_s(DRIVE.sets) + 1)
    for number, frame in enumerate(frames):
        time_s = DRIVE.time_s(number)
        np.testing.assert_allclose(frame.world_from_ego, scene.world_from_ego(time_s), atol=1e-4)
        for image in frame.cameras:
            camera = next(c for c in RIG if c.name == image.name)
            shutter_s = time_s + camera.shutter_offset_s
            np.testing.assert_allclose(image.world_from_ego, scene.world_from_ego(shutter_s), atol=1e-4)
            np.testing.assert_allclose(image.ego_from_camera, camera.ego_from_camera, atol=1e-9)
            np.testing.assert_allclose(image.intrinsics, camera.intrinsics)
            assert image.size_hw == (camera.height, camera.width)


def test_odometry_and_imu_tell_the_motion_of_the_poses(messages: list[RawMessage]) -> None:
    read = typestore().deserialize_cdr
    odometry = [read(m.data, m.type) for m in messages if m.topic == "/odom"]
    imus = [read(m.data, m.type) for m in messages if m.topic == "/imu"]
    assert len(imus) in (2 * len(odometry), 2 * len(odometry) - 1)
    places = np.array([(m.pose.pose.position.x, m.pose.pose.position.y) for m in odometry])
    speeds = np.array([m.twist.twist.linear.x for m in odometry])
    travelled_m = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
    assert speeds[:-1].sum() * 0.02 == pytest.approx(travelled_m, rel=0.02)
    assert [m.linear_acceleration.z for m in imus] == pytest.approx([9.81] * len(imus))
    turned_rad = np.unwrap([2 * math.atan2(m.pose.pose.orientation.z, m.pose.pose.orientation.w) for m in odometry])
    by_rates_rad = sum(m.angular_velocity.z for m in imus[:-1]) * 0.01
    assert by_rates_rad == pytest.approx(turned_rad[-1] - turned_rad[0], abs=2e-3)


def test_transforms_reach_beyond_all_shutters_at_100_hz(messages: list[RawMessage]) -> None:
    stamps = np.array([m.stamp_ns for m in messages if m.topic == "/tf"])
    shutters = [m.stamp_ns for m in messages if "image_raw" in m.topic]
    assert stamps[0] < min(shutters) and max(shutters) < stamps[-1]
    assert np.abs(np.diff(stamps) - 10_000_000).max() <= 1


def test_worker_processes_write_the_same_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive_renderer, "_FEW_SETS", 1)
    contents = []
    for workers in (1, 2):
        path = write_street_bag(tmp_path / f"{workers}.mcap", 1, 1.0, 3, RIG[:2], grid=GRID, workers=workers)
        with BagReader(path) as reader:
            contents.append([(m.topic, m.stamp_ns, m.data) for m in reader.messages()])
    assert contents[0] == contents[1]
    assert len(contents[0]) > 100


TRUTH_DRIVE = Drive(seed=11, seconds=1.0, rate_hz=2)
TRUTH_RIG = nuscenes_rig(0.12)
GRID = truth_grid("pano_small_occ3d")  # 0.4 m


@pytest.fixture(scope="module")
def truth_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "truth.mcap"
    drive = TRUTH_DRIVE
    return write_street_bag(path, drive.seed, drive.seconds, drive.rate_hz, TRUTH_RIG, grid=GRID)


def read(path: Path, topic: str) -> list[Any]:
    with BagReader(path) as reader:
        return [reader.deserialise(raw) for raw in reader.messages([topic])]


def test_the_truth_bears_the_stamp_of_the_reference_camera(truth_bag: Path) -> None:
    reference = load_rig("nuscenes").camera(load_rig("nuscenes").reference)
    stamps = [stamp_ns(image.header.stamp) for image in read(truth_bag, reference.topic)]
    assert len(stamps) == TRUTH_DRIVE.sets
    grids = read(truth_bag, TRUE_OCCUPANCY)
    assert [stamp_ns(grid.header.stamp) for grid in grids] == stamps
    assert [grid.sequence for grid in grids] == list(range(TRUTH_DRIVE.sets))
    assert {grid.header.frame_id for grid in grids} == {"base_link"}
    assert [stamp_ns(m.markers[0].header.stamp) for m in read(truth_bag, BOXES)] == stamps
    with BagReader(truth_bag) as reader:
        profiles = {c.topic: c.ext.offered_qos_profiles[0] for c in reader._reader.connections}  # type: ignore[union-attr]
    latched = {topic for topic, one in profiles.items() if one.durability == QosDurability.TRANSIENT_LOCAL}
    assert latched == {"/tf_static", LABELS}
    assert len(read(truth_bag, LABELS)) == 1


def test_the_first_camera_of_named_rigs_is_their_reference() -> None:
    for name in ("nuscenes", "waymo"):
        assert load_sim_rig(name, 0.1)[0].name == load_rig(name).reference
        assert {camera.name for camera in load_sim_rig(name, 0.1)} == set(load_rig(name).names)


def places(grid: Any) -> tuple[np.ndarray, np.ndarray]:
    """Indices and centres [n, 3] of the voxels that a VoxelGrid lists, by the rule of VoxelGrid.msg."""
    index = listed(grid).astype(np.int64)
    cells = np.stack([index % grid.size_x, index // grid.size_x % grid.size_y, index // (grid.size_x * grid.size_y)], 1)
    edge = np.array([grid.voxel_size.x, grid.voxel_size.y, grid.voxel_size.z])
    corner = np.array([grid.origin.position.x, grid.origin.position.y, grid.origin.position.z])
    return cells, (cells + 0.5) * edge + corner


def test_true_voxels_that_are_visible_lie_where_the_images_show_their_class(truth_bag: Path) -> None:
    scene = Scene(TRUTH_DRIVE.seed, TRUTH_DRIVE.scene_seconds)
    number, camera = 1, TRUTH_RIG[0]
    grid = read(truth_bag, TRUE_OCCUPANCY)[number]
    is_seen = np.unpackbits(grid.visible, bitorder="little")[listed(grid)] == 1
    class_id = np.asarray(grid.class_id)[is_seen]
    camera_from_ego = np.linalg.inv(camera.ego_from_camera)
    points = places(grid)[1][is_seen] @ camera_from_ego[:3, :3].T + camera_from_ego[:3, 3]
    ahead = points[:, 2] > 1.0
    pixels = np.round(points[ahead] @ camera.intrinsics.T / points[ahead, 2:])[:, :2].astype(int)
    inside = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(axis=1)
    (u, v), voxels = pixels[inside].T, class_id[ahead][inside]
    assert len(voxels) > 1000 and len(set(voxels.tolist())) > 4

    def agreement(time_s: float) -> float:
        return float((Renderer(scene).picture(camera, time_s).class_id[v, u] == voxels).mean())

    right = agreement(TRUTH_DRIVE.time_s(number))
    # Not all: at the middle of a voxel something smaller or farther than its class may be seen.
    assert right > 0.8, right
    assert agreement(TRUTH_DRIVE.time_s(number) + 1.0) < right - 0.05


def test_boxes_stand_around_the_voxels_of_their_things(truth_bag: Path) -> None:
    grid, (marker,) = read(truth_bag, TRUE_OCCUPANCY)[0], read(truth_bag, BOXES)[0].markers
    ends = np.array([(point.x, point.y, point.z) for point in marker.points]).reshape(-1, 24, 3)
    middles = ends.mean(axis=1)
    cells, centres = places(grid)
    instances = np.asarray(grid.instance_id)
    at_edge = ((cells[:, :2] == 0) | (cells[:, :2] == (grid.size_x - 1, grid.size_y - 1))).any(axis=1)
    cut_off = set(instances[at_edge].tolist())
    vehicles = [id_ for id_ in set(instances.tolist()) - cut_off - {0} if (instances == id_).sum() > 200]
    assert len(vehicles) > 3
    for id_ in vehicles:
        middle = centres[instances == id_].mean(axis=0)
        assert np.linalg.norm(middles - middle, axis=1).min() < 1.5, id_


def test_faults_are_written_and_counted(tmp_path: Path) -> None:
    faults = Faults([parse_fault("dead camera=cam_front from=0.5")], ("cam_front", "cam_front_right"))
    path = write_street_bag(tmp_path / "a.mcap", 0, 1.0, 2, RIG[:2], faults=faults)
    assert len(read(path, "/cam_front/image_raw/compressed")) == 1
    assert len(read(path, "/cam_front_right/image_raw/compressed")) == 2
    assert faults.injected == {"dead cam_front": 2}


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_street_bag(tmp_path / "a.mcap", 0, 1.0, 2, RIG[:1], progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": 1e9}, "seconds"),
        ({"rate_hz": 0}, "rate"),
        ({"rate_hz": float("inf")}, "rate"),
        ({"supersample": 0}, "supersample"),
        ({"workers": 0}, "workers"),
        ({"rig": ()}, "camera"),
    ],
)
def test_bad_arguments_are_named_and_leave_nothing(tmp_path: Path, arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        usual = {"seed": 0, "seconds": 1.0, "rate_hz": 2.0, "rig": RIG}
        write_street_bag(tmp_path / "a.mcap", **{**usual, **arguments})
    assert not list(tmp_path.iterdir())


def test_an_existing_bag_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_text("precious")
    with pytest.raises(BagError, match="exists"):
        write_street_bag(path, 0, 0.5, 2, RIG)
    assert path.read_text() == "precious"


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("no JPEG today")

    monkeypatch.setattr(drive_renderer, "capture", fail)
    with pytest.raises(RuntimeError, match="no JPEG today"):
        write_street_bag(tmp_path / "a.mcap", 0, 0.5, 2, RIG)
    assert not list(tmp_path.iterdir())


TINY = ["--seconds", "0.5", "--scale", "0.05", "--no-progress", "--rig", "waymo"]


def test_the_command_writes_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "street.mcap"
    arguments = ["sim", "--out", str(path), *TINY]
    assert main(arguments) == 0
    with BagReader(path) as reader:
        assert reader.count(["/front/image_raw/compressed"]) == reader.count([TRUE_OCCUPANCY]) == 1
    assert main(arguments) == 4
    assert "exists already: choose another name, or replace it with --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--rate", "0", "--overwrite"]) == 2
    assert "rate" in capsys.readouterr().err
    assert path.is_file()


def test_the_command_leaves_the_truth_out_and_tells_of_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "street.mcap"
    words = ["--no-truth", "--fault", "drop camera=front", "--fault", "tf_gap from=0.1"]
    assert main(["sim", "--out", str(path), *TINY, *words]) == 0
    with BagReader(path) as reader:
        assert not [topic for topic in reader.topics if topic.startswith("/truth")]
        assert "/front/image_raw/compressed" not in reader.topics and "/tf" in reader.topics
    told = capsys.readouterr().out
    assert "drop front: 1 messages" in told and "tf_gap: " in told


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--rig", "tricycle"], "unknown simulated rig 'tricycle'"),
        (["--grid", "pano_tiny"], "unknown model preset 'pano_tiny'"),
        (["--grid", "none.yaml"], "model preset 'none.yaml': no such file"),
        (["--fault", "melt"], "unknown fault 'melt'"),
        (["--fault", "drop camera=cam_front"], "the rig has no camera 'cam_front', only front"),
        (["--scale", "0"], "scale"),
        (["--seconds", "1e9"], "seconds"),
    ],
)
def test_bad_arguments_of_the_command_are_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    assert main(["sim", "--out", str(tmp_path / "a.mcap"), *TINY, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("panoocc sim: ") and named in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_grid_and_no_truth_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["sim", "--out", str(tmp_path / "a.mcap"), "--grid", "pano_small_occ3d", "--no-truth"])
    assert stopped.value.code == 2 and "not allowed with" in capsys.readouterr().err


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drive_renderer, "_rendered", killed)
    words = ["--seconds", "1", "--rate", "8", "--scale", "0.05", "--no-progress", "--no-truth", "--workers", "2"]
    assert main(["sim", "--out", str(tmp_path / "a.mcap"), *words]) == 1
    told = capsys.readouterr().err
    assert told == "panoocc sim: a worker process was killed, e.g. for want of memory; fewer --workers need less\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writes", [0, 30])
def test_a_full_disk_is_named_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], writes: int
) -> None:
    whole, done = bag_module.Writer.write, []

    def write(self: Any, *arguments: Any) -> None:
        done.append(arguments)
        if len(done) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(self, *arguments)

    monkeypatch.setattr(bag_module.Writer, "write", write)
    assert main(["sim", "--out", str(tmp_path / "a.mcap"), *TINY, "--workers", "1"]) == 4
    assert "a.mcap: cannot be written: No space left on device" in capsys.readouterr().err
    assert len(done) == writes + 1
    assert [path.name for path in tmp_path.iterdir()] == (["a.partial.mcap"] if writes else [])


def test_a_lidar_turns_at_its_rate_and_sees_the_ground_below_it(tmp_path):
    path = write_street_bag(tmp_path / "street.mcap", 3, 2.0, 1.0, nuscenes_rig(0.02), workers=1, lidar_hz=4.0)
    with BagReader(path) as bag:
        clouds = [bag.deserialise(message) for message in bag.messages([LIDAR_TOPIC])]
        (mounts,) = [bag.deserialise(message).transforms for message in bag.messages(["/tf_static"])]
    (mount,) = (one for one in mounts if one.child_frame_id == LIDAR_FRAME)
    assert len(mounts) == 8  # of six cameras, and the IMU
    stamps = [stamp_ns(cloud.header.stamp) for cloud in clouds]
    assert len(clouds) >= 4 and np.abs(np.diff(stamps) - 250_000_000).max() <= 1
    for cloud in clouds:
        points_m = positions_m(cloud)
        assert cloud.header.frame_id == LIDAR_FRAME and len(points_m) > 5000
        height_m = mount.transform.translation.z
        assert mount.header.frame_id == "base_link" and abs(points_m[:, 2].min() + height_m) < 0.3
