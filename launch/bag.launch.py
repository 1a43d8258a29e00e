"""Plays a bag into the node and shows its grids: `ros2 launch panoocc bag.launch.py bag:=/path/to/bag model:=nano`.

Takes the arguments of panoocc.launch.py as well.  When the bag is over, everything ends; with a viewer, when that does.
"""

from dataclasses import fields

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.ros.argument_types import LOOPS, RATE
from panoocc_ros.ros.launching import (
    check_arguments,
    check_exists,
    check_number,
    chosen_view,
    declared_view,
    required,
    required_until_done,
)

ARGUMENTS = ("bag", "rate", "loop", "view")
OF_THE_NODE = (*(field.name for field in fields(NodeSettings)), "namespace", "params")


def check(context: LaunchContext) -> None:
    """Before anything is started."""
    check_arguments(context, __file__, (*ARGUMENTS, *OF_THE_NODE))
    check_exists(context, "bag")
    check_number(context, "rate", RATE)
    check_number(context, "loop", LOOPS)


def player(context: LaunchContext) -> list[Node]:
    """The player, which begins when the node listens."""
    given = context.launch_configurations
    node = "/".join((*given["namespace"].strip("/").split(), "panoocc"))
    options = {"--wait-for-node": node, "--wait-timeout": "300", "--rate": given["rate"], "--loop": given["loop"]}
    words = [given["bag"], "--clock", *(word for option in options.items() for word in option)]
    play = {"package": "panoocc", "executable": "play_bag", "name": "player", "output": "screen", "arguments": words}
    if chosen_view(context) == "none":
        return [required(**play)]
    return [required_until_done("close the viewer, or Ctrl-C, to end", **play)]


def generate_launch_description() -> LaunchDescription:
    """The node on simulated time, the player that gives the time, and a viewer."""
    node = PathJoinSubstitution([FindPackageShare("panoocc"), "launch", "panoocc.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder, or .mcap or .db3 file."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed; 2.0 plays twice as fast."),
            DeclareLaunchArgument("loop", default_value="1", description="How often the bag is played; 0: for ever."),
            declared_view("auto"),
            OpaqueFunction(function=check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(node), launch_arguments={"use_sim_time": "true"}.items()
            ),
            OpaqueFunction(function=player),
        ]
    )
