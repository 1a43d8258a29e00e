"""Plays a bag into the node: `ros2 launch panoocc replay.launch.py bag:=/path/to/bag model:=nano seeded_weights:=true`.

Takes the arguments of panoocc.launch.py as well.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """The node on simulated time, and the player that gives the time."""
    node = PathJoinSubstitution([FindPackageShare("panoocc"), "launch", "panoocc.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder or .mcap file"),
            DeclareLaunchArgument("rate", default_value="1.0"),
            DeclareLaunchArgument("loop", default_value="1", description="how often; 0 for ever"),
            DeclareLaunchArgument("rviz", default_value="true"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(node), launch_arguments={"use_sim_time": "true"}.items()
            ),
            Node(
                package="panoocc",
                executable="play_bag",
                name="player",
                output="screen",
                arguments=[
                    LaunchConfiguration("bag"),
                    "--clock",
                    "--wait-for-node",
                    "panoocc",
                    "--wait-timeout",
                    "300",
                    "--rate",
                    LaunchConfiguration("rate"),
                    "--loop",
                    LaunchConfiguration("loop"),
                ],
            ),
        ]
    )
