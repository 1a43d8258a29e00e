"""Parameters as rclpy declares them: what it refuses is told with the value."""

import pytest

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402

from panoocc_ros.outputs.output_options import OutputOptions  # noqa: E402
from panoocc_ros.ros.parameter_fields import SettingsError  # noqa: E402
from panoocc_ros.ros.parameters import declared  # noqa: E402


@pytest.mark.parametrize("given, told", [(".nan", "nan"), ("2000.0", "2000.0")])
def test_a_value_outside_its_limits_is_told(given, told):
    context = Context()
    rclpy.init(args=["--ros-args", "-p", f"grid_2d_min_z_m:={given}"], context=context)
    node = Node("panoocc_declared", context=context)
    try:
        with pytest.raises(SettingsError, match=f"parameter grid_2d_min_z_m: {told} is outside -1000..1000"):
            declared(node, OutputOptions)
    finally:
        node.destroy_node()
        context.try_shutdown()
