"""Player and recorder over DDS: bytes, order and exit codes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from rclpy.duration import Duration  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

from panoocc_ros.bags import play, record  # noqa: E402
from panoocc_ros.bags.bag import BagReader  # noqa: E402
from panoocc_ros.bags.writer import BagWriter  # noqa: E402
from panoocc_ros.sim.node import main as sim_main  # noqa: E402
from test.ros.drive import IMAGE_TYPE, TF_TYPE, Drive  # noqa: E402
from test.ros.live import PATIENCE_S, ROOT, NodeProcess, Peer  # noqa: E402

pytestmark = pytest.mark.live

DRIVE = Drive()
SETS = 3


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return DRIVE.write_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", SETS)


@pytest.fixture
def recorder(tmp_path):
    """Starts a recorder as a process of its own; returns it and its log."""
    started = []

    def start(*arguments):
        log = (tmp_path / "record.log").open("wb")
        command = [sys.executable, "-m", "panoocc_ros.bags.record", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT))
        return started[-1], tmp_path / "record.log"

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("arguments", [["--params-file", "/nowhere.yaml"], ["-p", "model"], ["-r", "__node:=a b"]])
@pytest.mark.parametrize("name", ["play", "record", "sim"])
def test_bad_arguments_of_ros_end_in_one_line(name, arguments, bag, tmp_path, capfd):
    given = ["--ros-args", *arguments]
    code = {
        "play": lambda: play.main([str(bag), *given]),
        "record": lambda: record.main(["/tf", "--out", str(tmp_path / "out.mcap"), *given]),
        "sim": lambda: sim_main(["sim_node", *given]),
    }[name]()
    words = capfd.readouterr().err
    assert code == 2 and "Traceback" not in words and "renderer" not in words, words
    assert arguments[-1].split(":=")[-1] in words, words


def played(bag, *options):
    """Exit code of the player in this process."""
    return play.main([str(bag), "--quiet", *options])


def test_what_is_played_is_what_is_recorded_byte_for_byte(tmp_path, bag, recorder, capsys):
    camera = DRIVE.rig.cameras[0].topic
    count = SETS + len(DRIVE.poses(0)) * SETS + 1
    process, log = recorder(camera, "/tf", "/tf_static", "--out", tmp_path / "again.mcap", "--count", count)
    options = ("--topics", camera, "/tf", "/tf_static", "--rate", "3", "--wait-for-subscribers")
    assert played(bag, *options) == 0, log.read_text()
    assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert f"{count} messages" in capsys.readouterr().out
    with BagReader(bag) as before, BagReader(tmp_path / "again.mcap") as after:
        assert after.topics == {camera: IMAGE_TYPE, "/tf": TF_TYPE, "/tf_static": TF_TYPE}
        for topic in after.topics:
            sent, kept = ([one.data for one in reader.messages((topic,))] for reader in (before, after))
            assert kept == sent, topic


def test_a_player_that_plays_to_nobody_says_so(bag, capsys):
    camera = DRIVE.rig.cameras[0].topic
    assert played(bag, "--topics", camera, "/tf", "--rate", "20") == 3
    assert f"nobody has subscribed to /tf, {camera}" in capsys.readouterr().err


def test_the_rhythm_of_the_stamps_is_kept(bag):
    peer = Peer()
    try:
        arguments = play.parser().parse_args(
            [str(bag), "--rate", "2", "--quiet", "--topics", DRIVE.rig.cameras[0].topic]
        )
        begin_s = time.monotonic()
        report = play.play(arguments, peer.node)
        assert report.messages == SETS
        assert time.monotonic() - begin_s >= 0.5 * (SETS - 1) / 2
    finally:
        peer.close()


def spin_until(player, condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        player.spin(0.05)


def test_the_clock_goes_with_the_bag_but_no_more_often_than_asked():
    heard, peer = [], Peer()
    try:
        peer.node.create_subscription(Clock, "/clock", lambda message: heard.append(message.clock.nanosec), 1000)
        with closing(play.Player(peer.node, {}, clock_hz=10.0)) as player:
            spin_until(player, lambda: player._clock.get_subscription_count())
            for stamp_ms in [*range(0, 400, 5), 100, 400]:  # 100 is late: the clock does not go back
                player.set_clock(stamp_ms * 1_000_000)
            spin_until(player, lambda: len(heard) >= 5)
            player.spin(0.3)
            assert heard == [0, 100_000_000, 200_000_000, 300_000_000, 400_000_000]
            player.rewind()
            player.set_clock(0)
            spin_until(player, lambda: len(heard) >= 6)
            assert heard[-1] == 0
    finally:
        peer.close()


def test_node_player_and_evaluator_work_together_in_a_namespace(tmp_path, capsys):
    """The rig's names are relative to it, images and transforms come from it, and the diagnostics name it."""
    rig = tmp_path / "rig.yaml"
    topics = "tf_topic: tf\ntf_static_topic: tf_static\n"
    rig.write_text(topics + (ROOT / "config" / "rigs" / "nuscenes.yaml").read_text().replace("topic: /", "topic: "))
    messages = [replace(message, topic=f"/robot1{message.topic}") for message in DRIVE.messages(SETS)]
    with BagWriter(tmp_path / "drive.mcap") as writer:
        for message in messages:
            writer.write(message.topic, message.type, message.stamp_ns, message.data)
    started = [
        NodeProcess(tmp_path / "node.log", namespace="robot1", model="nano", seeded_weights=True, rig=rig),
        NodeProcess(tmp_path / "evaluator.log", "evaluate_node", "robot1"),
    ]
    try:
        options = ("--wait-for-node", "/robot1/panoocc", "--step", "--wait-for-listeners", "1", "--wait-timeout", "120")
        assert played(tmp_path / "drive.mcap", *options) == 0, started[0].words
        assert f"{SETS} sets, 0 without a grid" in capsys.readouterr().out, started[0].words
        assert "/robot1/panoocc/occupancy" in started[1].words, started[1].words
    finally:
        for process in started:
            process.kill()


def test_the_player_says_what_is_wrong(tmp_path, bag, capsys):
    broken = tmp_path / "cut.mcap"
    broken.write_bytes(bag.read_bytes()[:5000])
    for options, code, words in (
        ((tmp_path / "none.mcap",), 2, "none.mcap"),
        ((broken,), 2, "cut.mcap"),
        ((bag, "--topics", "/lidar"), 2, "the bag has no topic /lidar"),
        ((bag, "--wait-for-subscribers", "/tf", "--wait-timeout", "0.3"), 3, "nobody has subscribed to /tf"),
        ((bag, "--wait-for-node", "panoocc", "--wait-timeout", "0.3"), 3, "node panoocc is not there"),
    ):
        assert played(*options) == code, options
        assert words in capsys.readouterr().err, options
    for options, words in (
        (("--step",), "--wait-for-node"),
        (("--wait-for-listeners", "1"), "--wait-for-node"),
        (("--loop", "-1"), "-1 is not 0 or more"),
        (("--rate", "fast"), "'fast' is not a number"),
    ):
        with pytest.raises(SystemExit) as refused:
            played(bag, *options)
        assert refused.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--use-sim-time",)], ids=["wall clock", "a /clock that never comes"])
def test_a_recorder_that_is_interrupted_leaves_a_whole_bag(tmp_path, recorder, options):
    out, begin_ns = tmp_path / "cut_short.mcap", time.time_ns()
    process, log = recorder("/tf", "--out", out, *options)
    peer = Peer()
    try:
        poses = DRIVE.poses(0)
        peer.advertise(poses)
        peer.send(poses)
        assert peer.publishers["/tf"].wait_for_all_acked(Duration(seconds=PATIENCE_S))
        assert not out.exists(), "a bag that is not whole must not have its name"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        peer.close()
    with BagReader(out) as reader:
        kept = list(reader.messages())
    assert [one.data for one in kept] == [one.data for one in poses]
    stamps = [one.stamp_ns for one in kept]
    assert begin_ns < stamps[0] and stamps == sorted(stamps) and stamps[-1] < time.time_ns()
    assert ("no /clock came" in log.read_text()) == bool(options)


def test_a_recorder_that_is_killed_leaves_what_it_had_and_the_next_one_says_where(tmp_path, recorder):
    out = tmp_path / "drive.mcap"
    process, log = recorder("/tf", "--out", out)
    peer = Peer()
    try:
        poses = DRIVE.poses(0)
        peer.advertise(poses)
        peer.send(poses)
        assert peer.publishers["/tf"].wait_for_all_acked(Duration(seconds=PATIENCE_S))
        part = tmp_path / "drive.mcap.part" / "drive" / "drive.mcap"
        end_s = time.monotonic() + PATIENCE_S
        while not any(part.read_bytes()[500:]) and time.monotonic() < end_s:
            time.sleep(0.2)
        process.kill()
        process.wait()
        again, log = recorder("/tf", "--out", out, "--timeout", "1")
        assert again.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        peer.close()
    assert f"what it had is in {tmp_path / 'drive.partial.mcap'}" in log.read_text()
    assert (tmp_path / "drive.partial.mcap").stat().st_size >= 500 and out.exists()


def test_the_recorder_says_what_is_wrong(tmp_path, capsys):
    (tmp_path / "there.mcap").write_bytes(b"something")
    assert record.main(["/tf", "--out", str(tmp_path / "there.mcap")]) == 4
    assert "there.mcap exists already" in capsys.readouterr().err
    assert record.main(["/silence", "--out", str(tmp_path / "few.mcap"), "--count", "1", "--timeout", "0.3"]) == 3
    assert "nobody published /silence" in capsys.readouterr().err
