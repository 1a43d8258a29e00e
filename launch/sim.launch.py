"""A simulated street into the node: `ros2 launch panoocc sim.launch.py rviz:=true checkpoint:=/path/to/weights`.

Takes the arguments of panoocc.launch.py as well; `evaluate:=true` compares the node's grids with the truth.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Parameters of the simulator and their types, passed on where they are given.  Its `rig` is not the node's: one says
# where cameras sit, the other on which topics they are.  Rigs of one name belong together.
SIM_ARGUMENTS = {
    "seed": int,
    "seconds": float,
    "loop": bool,
    "rate_hz": float,
    "scale": float,
    "faults": str,
    "grid": str,
    "with_truth": bool,
    "workers": int,
}


def simulator(context: LaunchContext) -> list[Node]:
    """The simulator, with the parameters that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in SIM_ARGUMENTS}
    parameters = {
        name: value.lower() == "true" if SIM_ARGUMENTS[name] is bool else SIM_ARGUMENTS[name](value)
        for name, value in given.items()
        if value
    }
    # Grids are compared voxel by voxel: the truth lies on the network's unless told otherwise.
    parameters.setdefault("grid", LaunchConfiguration("model").perform(context))
    parameters["use_clock"] = LaunchConfiguration("use_sim_time").perform(context).lower() == "true"
    if rig := LaunchConfiguration("sim_rig").perform(context):
        parameters["rig"] = rig
    return [
        Node(package="panoocc", executable="sim_node", name="simulator", output="screen", parameters=[parameters]),
    ]


def generate_launch_description() -> LaunchDescription:
    """Simulator, node, and on demand RViz and the evaluation."""
    node = PathJoinSubstitution([FindPackageShare("panoocc"), "launch", "panoocc.launch.py"])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value="", description=f"parameter {name} of the simulator")
                for name in SIM_ARGUMENTS
            ),
            DeclareLaunchArgument("sim_rig", default_value="", description="parameter rig of the simulator"),
            DeclareLaunchArgument("model", default_value="nano", description="of the node; the truth takes its grid"),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="the simulator gives the time, and waits if need be"
            ),
            DeclareLaunchArgument("rviz", default_value="false", description="start RViz too"),
            DeclareLaunchArgument("evaluate", default_value="false", description="compare the grids with the truth"),
            OpaqueFunction(function=simulator),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(node)),
            Node(
                package="panoocc",
                executable="evaluate_node",
                name="evaluator",
                output="screen",
                condition=IfCondition(LaunchConfiguration("evaluate")),
            ),
        ]
    )
