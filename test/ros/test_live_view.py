"""`panoocc view --live`: what is published beside the grids is found, and Ctrl-C leaves whole files."""

import os
import signal
import subprocess
import sys

import cv2
import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_ros.bags.bag import RawMessage  # noqa: E402
from panoocc_ros.messages.types import typestore  # noqa: E402
from test.ros.drive import Drive  # noqa: E402
from test.ros.live import PATIENCE_S, ROOT, Peer  # noqa: E402
from test.ros.test_viewers import CAMERAS, rows_of  # noqa: E402
from test.ros.view_bags import grid_messages  # noqa: E402

pytestmark = pytest.mark.live

COUNT = 4
FROM_BEGIN = ("/tf_static", "/panoocc/labels")  # latched


def test_the_grids_of_a_node_are_shown_with_what_belongs_to_them(tmp_path):
    pytest.importorskip("rerun")
    drive, peer = Drive(), Peer()
    made = [
        RawMessage(topic, kind, stamp, _cdr(message, kind))
        for stamp, topic, kind, message in grid_messages(drive, COUNT)
    ]
    messages = [*drive.messages(COUNT), *made]
    film, rrd = tmp_path / "live.mp4", tmp_path / "live.rrd"
    command = [sys.executable, "-m", "panoocc_ros.commands.cli", "view", "--live"]
    command += ["--save", str(rrd), "--video", str(film), "--fps", "4"]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as process:
        try:
            peer.publish(messages, FROM_BEGIN)
            peer.send([one for one in messages if one.topic in FROM_BEGIN])
            while "showing" not in (line := process.stderr.readline()):
                assert line, "it ended before it showed anything"
            for k in range(COUNT):
                after, before = drive.stamp_ns(k - 1) + 250_000_000, drive.stamp_ns(k) + 250_000_000
                due = [one for one in messages if after < one.stamp_ns <= before and one.topic not in FROM_BEGIN]
                peer.send([one for one in due if one.topic != "/panoocc/occupancy"])
                peer.spin(0.3)
                peer.send([one for one in due if one.topic == "/panoocc/occupancy"])
                peer.spin(0.7)
        finally:
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=PATIENCE_S)
            peer.close()
    assert process.returncode == 0 and "Traceback" not in told, told
    rows = rows_of(rrd)
    shown = len(rows["/world/ego/voxels"])
    assert 1 <= shown <= COUNT and ("not shown: newer ones came" in told) == (shown < COUNT)
    assert sum(1 for _ in iter(cv2.VideoCapture(str(film)).grab, False)) == shown
    assert len(rows["/world/ego/grid_2d"]) == len(rows["/world/ego"]) == shown, told
    assert all(f"/world/ego/cameras/{name}" in rows for name in CAMERAS), told
    labels = [row for row in rows["/world/ego/boxes"] if any(key.endswith(":labels") for key in row)]
    assert len(labels) == shown


def _cdr(message, kind):
    return bytes(typestore().serialize_cdr(message, kind))
