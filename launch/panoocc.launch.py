"""The occupancy node, with a viewer on demand: `ros2 launch panoocc panoocc.launch.py checkpoint:=/path/to/weights`.

Every parameter of the node is an argument.  Only what is given on the command line overrides the parameter file;
defaults stand in the node alone.
"""

from dataclasses import fields

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import SetParameter
from launch_ros.substitutions import FindPackageShare

from launch import Action, LaunchContext, LaunchDescription
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.ros.launching import (
    check_arguments,
    chosen_view,
    declared,
    declared_view,
    file_of,
    given,
    is_true,
    required_lifecycle,
    viewer,
)

CONFIG = PathJoinSubstitution([FindPackageShare("panoocc"), "config"])
PARAMETERS = {field.name: field.name for field in fields(NodeSettings)}
OTHERS = ("namespace", "params", "use_sim_time", "view")


def nodes(context: LaunchContext) -> list[Action]:
    """What is started, after everything that was given has been looked at."""
    check_arguments(context, __file__, (*PARAMETERS, *OTHERS))
    parameters = [file_of(context, "params"), given(context, NodeSettings, PARAMETERS)]
    use_sim_time, view = is_true(context, "use_sim_time"), chosen_view(context)
    namespace = context.launch_configurations["namespace"].strip("/")
    node = required_lifecycle(
        package="panoocc",
        executable="occupancy_node",
        name="panoocc",
        namespace=namespace,
        output="screen",
        parameters=parameters,
    )
    return [SetParameter("use_sim_time", use_sim_time), node, *viewer(view, namespace, use_sim_time)]


def generate_launch_description() -> LaunchDescription:
    """Arguments, node and viewer."""
    return LaunchDescription(
        [
            *declared(NodeSettings, PARAMETERS, otherwise="as the file params says, else "),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node, e.g. robot1."),
            DeclareLaunchArgument(
                "params",
                default_value=PathJoinSubstitution([CONFIG, "params.yaml"]),
                description="File with the node's parameters, which arguments override. Not given: the package's "
                "config/params.yaml.",
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="Take the time from /clock, as of a player."
            ),
            declared_view("none"),
            OpaqueFunction(function=nodes),
        ]
    )
