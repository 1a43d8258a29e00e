"""The occupancy node, with RViz on demand: `ros2 launch panoocc panoocc.launch.py checkpoint:=/path/to/weights`.

Every parameter of the node is an argument.  Only what is given on the command line overrides the parameter file;
defaults stand in the node alone.
"""

from dataclasses import fields

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node, SetParameter
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.ros.launching import check_arguments, check_rviz, declared, file_of, given, is_true, required

CONFIG = PathJoinSubstitution([FindPackageShare("panoocc"), "config"])
PARAMETERS = {field.name: field.name for field in fields(NodeSettings)}
OTHERS = ("namespace", "params", "use_sim_time", "rviz")
RVIZ_TOPICS = ("points", "markers")


def nodes(context: LaunchContext) -> list[SetParameter | Node]:
    """What is started, after everything that was given has been looked at."""
    check_arguments(context, __file__, (*PARAMETERS, *OTHERS))
    parameters = [file_of(context, "params"), given(context, NodeSettings, PARAMETERS)]
    use_sim_time, with_rviz = is_true(context, "use_sim_time"), is_true(context, "rviz")
    namespace = context.launch_configurations["namespace"].strip("/")
    started = [
        SetParameter("use_sim_time", use_sim_time),
        required(
            package="panoocc",
            executable="occupancy_node",
            name="panoocc",
            namespace=namespace,
            output="screen",
            parameters=parameters,
        ),
    ]
    if with_rviz:
        check_rviz()
        started.append(
            required(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([CONFIG, "panoocc.rviz"])],
                remappings=[(f"/panoocc/{topic}", f"/{namespace}/panoocc/{topic}") for topic in RVIZ_TOPICS]
                if namespace
                else [],
            )
        )
    return started


def generate_launch_description() -> LaunchDescription:
    """Arguments, node and RViz."""
    return LaunchDescription(
        [
            *declared(NodeSettings, PARAMETERS),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node, e.g. robot1"),
            DeclareLaunchArgument(
                "params",
                default_value=PathJoinSubstitution([CONFIG, "params.yaml"]),
                description="file with the node's parameters; arguments that are given override it",
            ),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
            DeclareLaunchArgument("rviz", default_value="false", description="start RViz too"),
            OpaqueFunction(function=nodes),
        ]
    )
