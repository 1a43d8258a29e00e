"""The worked planner as a node: grids in, speeds out, and standstill without grids."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from test.ros.needs_ros import require_ros

require_ros()

from test.ros.live import PATIENCE_S, ROOT  # noqa: E402  isort: skip  sets the domain before rclpy is there

import rclpy  # noqa: E402
from panoocc.msg import LabelSet, VoxelGrid  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from std_msgs.msg import Float64  # noqa: E402

from panoocc_core.labels import OCC3D  # noqa: E402
from panoocc_ros.messages.voxel_grid import fill_label_set  # noqa: E402
from panoocc_ros.ros.graph import qos  # noqa: E402
from test.planner.cases import grid_bytes, grid_message  # noqa: E402

pytestmark = pytest.mark.live


def test_the_planner_node_drives_by_grids_and_stops_without(tmp_path):
    free, seen = np.full((80, 40, 10), OCC3D.free_id, np.uint8), np.ones((80, 40, 10), bool)
    grid = deserialize_message(grid_bytes(grid_message(free, visible=seen, corner_m=(-20.0, -10.0, -1.0))), VoxelGrid)
    broken = deserialize_message(grid_bytes(grid_message(free, visible=seen)), VoxelGrid)
    broken.size_x = 79
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, str(ROOT / "examples" / "planner_loop.py")]
    rclpy.init()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        node, speeds = rclpy.create_node("maker"), []
        labels = node.create_publisher(LabelSet, "/panoocc/labels", qos(latched=True))
        grids = node.create_publisher(VoxelGrid, "/panoocc/occupancy", qos())
        node.create_subscription(Float64, "/planner/speed_mps", lambda message: speeds.append(message.data), qos())
        labels.publish(fill_label_set(LabelSet(), OCC3D))

        def until(condition, message=None):
            end_s = time.monotonic() + PATIENCE_S
            while not condition():
                words = (tmp_path / "log").read_text()
                assert time.monotonic() < end_s and process.poll() is None, words
                if message is not None:
                    message.header.stamp = node.get_clock().now().to_msg()
                    grids.publish(message)
                rclpy.spin_once(node, timeout_sec=0.2)

        until(lambda: any(speed > 5 for speed in speeds), grid)  # 16 m ahead are free
        speeds.clear()
        until(lambda: 0.0 in speeds)  # nothing comes
        until(lambda: "occupied has 4000 bytes" in (tmp_path / "log").read_text(), broken)
        speeds.clear()
        until(lambda: any(speed > 5 for speed in speeds), grid)
        process.send_signal(2)
        assert process.wait(PATIENCE_S) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
        rclpy.shutdown()
