"""What is sent to the node to measure it, and what is told of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from panoocc_core import model_config
from panoocc_core.sim import nuscenes_rig
from panoocc_ros.bags.bag import BagError, BagReader
from panoocc_ros.commands.bench import over_dds
from panoocc_ros.commands.cli import main
from panoocc_ros.frames.rig import load_rig
from panoocc_ros.health.stages import ARRIVAL_TO_OUTPUT, ARRIVAL_TO_READY, BESIDE_NETWORK, DECODE, PUBLISH
from panoocc_ros.live_bench import feed
from panoocc_ros.live_bench.feed import LEAD_S, TF_HZ, mounts_and_feeds, schedule, topics_of
from panoocc_ros.live_bench.run import (
    SENT_TO_RECEIVED,
    LiveReport,
    Load,
    cores,
    environment_with,
    live_bench,
    live_table,
    shipped_profile,
    write_tiny,
)
from panoocc_ros.messages.fields import stamp_ns, transforms
from panoocc_ros.messages.types import TRANSFORMS, new_message, typestore
from panoocc_ros.ros.exit_codes import BAD_INPUT
from panoocc_ros.sim.bag import write_street_bag
from test.ros.needs_ros import require_ros

RIG = load_rig("nuscenes")
NAMES = model_config("nano").cameras
T0 = 1_800_000_000_000_000_000


@pytest.fixture(scope="module")
def small_bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "street.mcap"
    return write_street_bag(path, 0, 1.0, 2.0, nuscenes_rig(0.03), workers=1)


@pytest.fixture(scope="module")
def feeds(small_bag):
    with BagReader(small_bag) as bag:
        return mounts_and_feeds(bag, RIG)[1]


def test_images_keep_their_spread_and_get_stamps_of_now(feeds):
    messages = list(schedule(feeds, RIG, 12.0, 5, T0))
    kinds = topics_of(feeds) | {RIG.tf_topic: TRANSFORMS}
    assert [one.due_ns for one in messages] == sorted(one.due_ns for one in messages)
    read = [(one, typestore().deserialize_cdr(one.data, kinds[one.topic])) for one in messages]
    poses = [next(iter(transforms(message))) for one, message in read if one.topic == RIG.tf_topic]
    others = [(one, message) for one, message in read if one.topic != RIG.tf_topic]
    assert all(stamp_ns(message.header.stamp) == one.due_ns for one, message in others)
    images = {camera.topic: [one.due_ns for one, _ in others if one.topic == camera.topic] for camera in RIG.cameras}
    first_ns = min(min(stamps) for stamps in images.values())
    assert first_ns == T0 + LEAD_S * 1e9
    assert max(stamps[0] for stamps in images.values()) - first_ns == 43_000_000  # as nuScenes' cameras turn
    for stamps in images.values():
        assert len(stamps) == 5 and np.diff(stamps) == pytest.approx(1e9 / 12, abs=2)
    pose_ns = [pose.stamp_ns for pose in poses]
    assert pose_ns[0] == T0 and np.diff(pose_ns) == pytest.approx(1e9 / TF_HZ)
    assert pose_ns[-1] > max(one.due_ns for one, _ in others)
    shift_m = poses[-1].parent_from_child[:3, 3] - poses[0].parent_from_child[:3, 3]
    assert shift_m == pytest.approx((8.0 * (pose_ns[-1] - T0) / 1e9, 0, 0))


def test_the_images_of_a_bag_come_by_turns(feeds):
    front = feeds[0]
    assert len(front.images) == 2
    sent = [one.data for one in schedule(feeds, RIG, 12.0, 4, T0) if one.topic == front.image_topic]
    assert [data[12:] for data in sent] == [front.images[number % 2][12:] for number in range(4)]


def test_the_mounts_of_all_messages_are_sent_in_one_and_no_more_images_are_held_than_are_wanted(small_bag, monkeypatch):
    """As where every driver publishes its own fixed transform, and a bag is long."""
    monkeypatch.setattr(feed, "MAX_IMAGES", 1)
    with BagReader(small_bag) as bag:
        whole = next(iter(bag.messages([RIG.tf_static_topic])))
        mounts = bag.deserialise(whole).transforms
        parts = [new_message(TRANSFORMS, transforms=[one]) for one in [*mounts, mounts[0]]]
        reads, messages = [], bag.messages

        def one_by_one(topics):
            if list(topics) != [RIG.tf_static_topic]:
                for raw in messages(topics):
                    reads.append(raw)
                    yield raw
                return
            for part in parts:
                yield replace(whole, data=bytes(typestore().serialize_cdr(part, TRANSFORMS)))

        monkeypatch.setattr(bag, "messages", one_by_one)
        sent, found = mounts_and_feeds(bag, RIG)
        total = sum(1 for _ in messages([*topics_of(found)]))
    merged = [one.child for one in transforms(typestore().deserialize_cdr(sent, TRANSFORMS))]
    assert merged == [one.child_frame_id for one in mounts] and len(merged) > 5
    assert all(len(one.images) == 1 for one in found) and len(reads) < total


def test_the_vehicle_moves_in_the_frames_of_its_rig(feeds):
    rig = replace(RIG, base_frame="chassis", fixed_frame="map")
    sent = next(one for one in schedule(feeds, rig, 12.0, 1, T0) if one.topic == rig.tf_topic)
    pose = next(iter(transforms(typestore().deserialize_cdr(sent.data, TRANSFORMS))))
    assert (pose.parent, pose.child) == ("map", "chassis")


@pytest.mark.parametrize(("distro", "alone"), [("humble", "1"), ("jazzy", None)])
def test_processes_that_are_measured_hear_this_machine_only(monkeypatch, distro, alone):
    """By the name that the distribution knows."""
    monkeypatch.setenv("ROS_DISTRO", distro)
    monkeypatch.delenv("ROS_LOCALHOST_ONLY", raising=False)
    for profile in (None, shipped_profile()):
        environment = environment_with(profile)
        assert environment.get("ROS_LOCALHOST_ONLY") == alone
        assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--model", "nano", "pano_small_4f"], "runs one network, not 2"),
        (["--frames", "3"], "--frames: it does nothing with --live"),
        (["--output-costs", "costs.json"], "give either"),
    ],
)
def test_what_a_live_bench_would_leave_aside_is_refused(options, text, capsys):
    assert main(["bench", "--live", "2", *options]) == BAD_INPUT
    assert text in capsys.readouterr().err


def test_a_bag_of_another_rig_is_refused(small_bag):
    with BagReader(small_bag) as bag, pytest.raises(BagError, match="no /front/camera_info: choose a bag"):
        mounts_and_feeds(bag, load_rig("waymo"))


def test_the_tiny_network_is_a_small_one_of_the_usual_kind(tmp_path):
    tiny, nano = model_config(write_tiny(tmp_path / "tiny.yaml")), model_config("nano")
    assert tiny.cameras == nano.cameras and tiny.temporal.ages_s and tiny.images.preparation == "direct"
    assert np.prod(tiny.output_shape_xyz) * 4 == np.prod(nano.output_shape_xyz)


def test_cpu_time_counts_while_images_are_sent():
    samples = [(0.0, 0.0), (1.0, 8.0), (2.0, 9.5), (3.0, 11.0), (4.0, 50.0)]
    assert cores(samples, 0.9, 3.1) == pytest.approx(1.5)
    assert cores(samples[:1], 0.0, 1.0) == 0.0


def test_the_table_says_what_was_lost():
    report = LiveReport(None, 12.0, 10, 60, 57, 10, 8, 8, {"busy": 2}, {"p95_ms": 0.5}, 0.8, {})
    text = live_table(report)
    assert report.as_dict()["images_lost"] == 3
    assert "none, the defaults" in text and "3 lost on the way" in text and "dropped: 2 busy" in text


def test_the_command_measures_with_the_profile_and_without(small_bag, tmp_path, capsys, monkeypatch):
    loads = []

    def measured(load, out, profile):
        assert out.is_dir() and model_config(load.parameters["model"]).name == "tiny"
        loads.append((load, profile))
        name = None if profile is None else profile.name
        return LiveReport(name, load.rate_hz, load.sets, 60, 60, 10, 10, 10, {}, {"p95_ms": 0.5}, 0.8, {})

    monkeypatch.setattr(over_dds, "live_bench", measured)
    out = tmp_path / "live.json"
    assert main(["bench", "--live", "2.5", "--rate", "4", "--bag", str(small_bag), "--json", str(out)]) == 0
    assert [profile and profile.is_file() for _, profile in loads] == [True, None]
    assert loads[0][0].sets == 10 and loads[0][0].rig == "nuscenes" and loads[0][0].cameras == RIG.select(NAMES).names
    assert [report["profile"] for report in json.loads(out.read_text())["live"]] == ["fastdds.xml", None]
    assert "tiny: DDS profile: fastdds.xml" in capsys.readouterr().out


@pytest.mark.live
def test_every_image_that_is_sent_to_the_node_is_accounted_for(small_bag, tmp_path):
    require_ros()
    parameters = {"model": str(write_tiny(tmp_path / "tiny.yaml")), "seeded_weights": True, "threads": 1}
    load = Load(small_bag, "nuscenes", NAMES, parameters, 1.0, 12.0, at_once=True)
    report = live_bench(load, tmp_path, shipped_profile())
    assert report.sets_sent == 12 and report.images_sent == 72
    assert 0 <= report.images_lost < 36 and 0 < report.grids <= report.sets_formed <= 12
    assert report.grids + sum(report.drops.values()) == report.sets_formed
    times_ms = report.times_ms
    assert {ARRIVAL_TO_READY, DECODE, PUBLISH, BESIDE_NETWORK, SENT_TO_RECEIVED} <= set(times_ms)
    assert times_ms[BESIDE_NETWORK]["p50_ms"] < times_ms[ARRIVAL_TO_OUTPUT]["p50_ms"]
    assert report.node_cpu > 0
