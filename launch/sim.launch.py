"""A simulated street into the node: `ros2 launch panoocc sim.launch.py view:=rviz model:=nano`.

Takes the arguments of panoocc.launch.py as well; `evaluate:=true` compares the node's grids with the truth.
"""

from dataclasses import fields

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.ros.launching import check_arguments, declared, declared_view, given, is_true, required
from panoocc_ros.sim.settings import SimSettings

OF_THE_NODE = (*(field.name for field in fields(NodeSettings)), "namespace", "params", "view")
# Parameters of the simulator, which are called sim_... where the node has one of that name.  A rig of the node says on
# which topics cameras are, one of the simulator where they sit; those of one name belong together.
PARAMETERS = {
    f"sim_{field.name}" if field.name in OF_THE_NODE else field.name: field.name
    for field in fields(SimSettings)
    if field.name != "use_clock"
}


def check(context: LaunchContext) -> None:
    """Before anything is started."""
    check_arguments(context, __file__, (*PARAMETERS, *OF_THE_NODE, "use_sim_time", "evaluate"))
    given(context, SimSettings, PARAMETERS)
    is_true(context, "evaluate")


def simulator(context: LaunchContext) -> list[Node]:
    """The simulator with the parameters that were given, and the evaluator where one is wanted."""
    parameters = given(context, SimSettings, PARAMETERS)
    # Grids are compared voxel by voxel: the truth lies on the network's unless told otherwise.
    parameters.setdefault("grid", ParameterValue(context.launch_configurations["model"], value_type=str))
    parameters |= {"use_clock": is_true(context, "use_sim_time"), "use_sim_time": False}  # it makes the time
    started = [
        required(package="panoocc", executable="sim_node", name="simulator", output="screen", parameters=[parameters])
    ]
    if is_true(context, "evaluate"):
        started.append(
            required(
                package="panoocc",
                executable="evaluate_node",
                name="evaluator",
                namespace=context.launch_configurations["namespace"].strip("/"),  # of the node whose grids it compares
                output="screen",
            )
        )
    return started


def generate_launch_description() -> LaunchDescription:
    """Node, simulator, and on demand a viewer and the evaluation."""
    node = PathJoinSubstitution([FindPackageShare("panoocc"), "launch", "panoocc.launch.py"])
    return LaunchDescription(
        [
            *declared(SimSettings, PARAMETERS),
            DeclareLaunchArgument("model", default_value="nano", description="Of the node; the truth takes its grid."),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="The simulator gives the time, and waits if need be."
            ),
            declared_view("none"),
            DeclareLaunchArgument("evaluate", default_value="false", description="Compare the grids with the truth."),
            OpaqueFunction(function=check),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(node)),
            OpaqueFunction(function=simulator),
        ]
    )
