"""The demo from end to end, with the installed executables as processes."""

import json

import cv2
import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_ros import demo  # noqa: E402
from panoocc_ros.bag import BagReader  # noqa: E402
from test.ros.drive import Drive  # noqa: E402

pytestmark = pytest.mark.live

SETS = 4


def test_every_result_is_left_behind(tmp_path, capsys):
    bag, out = Drive().write_bag(tmp_path / "drive.mcap", SETS), tmp_path / "out"
    code = demo.main(["--bag", str(bag), "--out", str(out), "--pace", "step"])
    words = capsys.readouterr()
    assert code == 0, words.err
    report = json.loads((out / "report.json").read_text())
    assert (report["sets_in"], report["grids_out"], report["grids_recorded"], report["drops"]) == (SETS, SETS, SETS, {})
    assert {"decode", "encoder", "publish", "ready_to_output"} <= set(report["stages"])
    for numbers in report["stages"].values():
        assert 0 <= numbers["p50_ms"] <= numbers["p95_ms"] <= numbers["p99_ms"] and numbers["count"] == SETS
    assert "ready_to_output" in words.out and "seeded, not trained" in words.out
    assert cv2.imread(str(out / "panoocc_demo.png")) is not None
    with BagReader(out / "occupancy.mcap") as reader:
        assert reader.count(("/panoocc/occupancy",)) == SETS and reader.count(("/panoocc/labels",)) == 1
    assert not list(out.glob("*.part")) and not list(out.glob(".*"))


def test_a_node_that_cannot_start_ends_the_demo_with_its_words(tmp_path, capsys):
    bag = Drive().write_bag(tmp_path / "drive.mcap", 1)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a checkpoint")
    code = demo.main(["--bag", str(bag), "--out", str(tmp_path / "out"), "--checkpoint", str(broken)])
    words = capsys.readouterr().err
    assert code == 1 and "node ended with exit code 2" in words and "parameter checkpoint" in words
