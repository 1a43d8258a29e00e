"""The node on Autoware's topics: `ros2 launch panoocc autoware.launch.py checkpoint:=/path/to/weights`.

Takes the arguments of panoocc.launch.py.  What Autoware itself puts on these topics is to be switched off there.
"""

from dataclasses import fields

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import SetRemap
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.ros.launching import check_arguments

# Topic of the node, below ~/ -> topic that Autoware listens to (autoware_launch 662752e, August 2026).
TOPICS = {
    "obstacles": "/perception/obstacle_segmentation/pointcloud",
    "grid_2d": "/perception/occupancy_grid_map/map",
    "detected_objects": "/perception/object_recognition/detection/camera_only/objects",
}
OF_THE_NODE = (*(field.name for field in fields(NodeSettings)), "namespace", "params", "use_sim_time", "view")


def check(context: LaunchContext) -> None:
    """Before anything is started."""
    check_arguments(context, __file__, OF_THE_NODE)


def generate_launch_description() -> LaunchDescription:
    """The node, with its topics renamed."""
    share = FindPackageShare("panoocc")
    node = PathJoinSubstitution([share, "launch", "panoocc.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params",
                default_value=PathJoinSubstitution([share, "config", "autoware.yaml"]),
                description="File with the node's parameters, which arguments override. Not given: the package's "
                "config/autoware.yaml.",
            ),
            OpaqueFunction(function=check),
            GroupAction(
                [
                    *(SetRemap(src=f"~/{topic}", dst=target) for topic, target in TOPICS.items()),
                    IncludeLaunchDescription(PythonLaunchDescriptionSource(node)),
                ]
            ),
        ]
    )
