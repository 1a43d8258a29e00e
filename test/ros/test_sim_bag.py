"""Bags of simulated streets: what is in them is what the simulator knows, and the pipeline can use it."""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.interfaces import QosDurability, QosReliability

from panoocc_core.geometry import NS_PER_S
from panoocc_core.sim import Renderer, Scene, nuscenes_rig
from panoocc_ros import sim_stream
from panoocc_ros.bag import BagError, BagReader, RawMessage
from panoocc_ros.pipeline import Pipeline
from panoocc_ros.rig import load_rig
from panoocc_ros.sim_bag import write_street_bag
from panoocc_ros.sim_command import add_command
from panoocc_ros.sim_stream import START_NS, Drive

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


def test_the_pipeline_makes_frames_with_the_simulator_s_poses(bag: Path) -> None:
    pipeline = Pipeline(load_rig("nuscenes"))
    topics = {c.topic: c.name for c in pipeline.rig.cameras}
    infos = {c.info_topic: c.name for c in pipeline.rig.cameras}
    frames = []
    with BagReader(bag) as reader:
        for raw in reader.messages():
            message = reader.deserialise(raw)
            if raw.topic in topics:
                pipeline.on_image(topics[raw.topic], message, raw.stamp_ns)
            elif raw.topic in infos:
                pipeline.on_camera_info(infos[raw.topic], message)
            else:
                pipeline.on_transforms(message, raw.topic == "/tf_static")
            while (ready := pipeline.poll(raw.stamp_ns)) is not None:
                frames.append(pipeline.frame(ready))
        frames += [pipeline.frame(ready) for ready in pipeline.finish()]
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


def test_transforms_reach_beyond_all_shutters_at_100_hz(messages: list[RawMessage]) -> None:
    stamps = np.array([m.stamp_ns for m in messages if m.topic == "/tf"])
    shutters = [m.stamp_ns for m in messages if "image_raw" in m.topic]
    assert stamps[0] < min(shutters) and max(shutters) < stamps[-1]
    assert np.abs(np.diff(stamps) - 10_000_000).max() <= 1


def test_worker_processes_write_the_same_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim_stream, "_FEW_SETS", 1)
    contents = []
    for workers in (1, 2):
        path = write_street_bag(tmp_path / f"{workers}.mcap", 1, 1.0, 3, RIG[:2], workers=workers)
        with BagReader(path) as reader:
            contents.append([(m.topic, m.stamp_ns, m.data) for m in reader.messages()])
    assert contents[0] == contents[1]
    assert len(contents[0]) > 100


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
        write_street_bag(tmp_path / "a.mcap", **{"rig": RIG, **arguments})
    assert not list(tmp_path.iterdir())


def test_an_existing_bag_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_text("precious")
    with pytest.raises(BagError, match="exists"):
        write_street_bag(path, 0, 0.5, 2, RIG)
    assert path.read_text() == "precious"


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(rgb: np.ndarray) -> bytes:
        raise RuntimeError("no JPEG today")

    monkeypatch.setattr(sim_stream, "_jpeg", fail)
    with pytest.raises(RuntimeError, match="no JPEG today"):
        write_street_bag(tmp_path / "a.mcap", 0, 0.5, 2, RIG)
    assert not list(tmp_path.iterdir())


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    arguments = parser.parse_args(words)
    return int(arguments.run(arguments))


def test_the_command_writes_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "street.mcap"
    arguments = ["sim", "--out", str(path), "--seconds", "0.5", "--scale", "0.05", "--no-progress"]
    assert run(arguments) == 0
    with BagReader(path) as reader:
        assert reader.count(["/cam_front/image_raw/compressed"]) == 1
    assert run(arguments) == 4
    assert "exists" in capsys.readouterr().err
    assert run([*arguments, "--rate", "0", "--overwrite"]) == 2
    assert "rate" in capsys.readouterr().err
    assert path.is_file()
