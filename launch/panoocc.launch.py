"""The occupancy node, with RViz on demand: `ros2 launch panoocc panoocc.launch.py checkpoint:=/path/to/weights`.

Only what is given on the command line overrides the parameter file; defaults stand in the node alone.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, SetParameter
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

CONFIG = PathJoinSubstitution([FindPackageShare("panoocc"), "config"])
OVERRIDES = ("model", "checkpoint", "seeded_weights", "rig", "device")  # passed on where they are given


def occupancy_node(context: LaunchContext) -> list[Node]:
    """The node, with the parameters that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    overrides = {
        name: value.lower() == "true" if name == "seeded_weights" else value for name, value in given.items() if value
    }
    return [
        Node(
            package="panoocc",
            executable="occupancy_node",
            name="panoocc",
            output="screen",
            parameters=[LaunchConfiguration("params"), overrides],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, node and RViz."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value="", description=f"parameter {name}") for name in OVERRIDES),
            DeclareLaunchArgument("params", default_value=PathJoinSubstitution([CONFIG, "params.yaml"])),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
            DeclareLaunchArgument("rviz", default_value="false", description="start RViz too"),
            SetParameter("use_sim_time", LaunchConfiguration("use_sim_time")),
            OpaqueFunction(function=occupancy_node),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([CONFIG, "panoocc.rviz"])],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
