"""Live tests need rclpy and the built workspace: skipped without them, but never where PANOOCC_REQUIRE_ROS=1."""

import os

import pytest


def require_ros():
    """Skip the module where ROS is not there; where it must be there, let the import fail."""
    if os.environ.get("PANOOCC_REQUIRE_ROS") != "1":
        for module in ("rclpy", "panoocc.msg", "tf2_msgs.msg", "vision_msgs.msg"):
            pytest.importorskip(module, reason=f"{module} is not there: run the live tests with `make test`")
