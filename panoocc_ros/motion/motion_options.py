"""Where the vehicle's motion comes from: what the node has as parameters and the commands as options.

No library is needed here: launch files read the parameters in the Python of ros2, which need not have PyTorch.
"""

from dataclasses import dataclass
from typing import Literal

from ..ros.parameter_fields import SettingsError, check_parameters, parameter

PoseSource = Literal["tf", "odometry"]
RateSource = Literal["", "auto", "sensors", "poses", "zeros"]


@dataclass(frozen=True, slots=True)
class MotionOptions:
    """Sources of the vehicle's poses and rates.

    Raises:
        SettingsError: a value is none of its choices, or a source needs a topic that is not named.
    """

    pose_source: PoseSource = parameter(
        "tf",
        "Where the vehicle's pose comes from: tf, or the messages on odometry_topic (mounts still come from TF, or "
        "from a calibration file).",
        choices=("tf", "odometry"),
    )
    odometry_topic: str = parameter(
        "",
        "nav_msgs/Odometry: its twist is the vehicle's velocity, and with pose_source odometry its pose is the "
        "vehicle's; empty: none.",
    )
    imu_topic: str = parameter(
        "", "sensor_msgs/Imu, for the vehicle's acceleration (with gravity) and rotation rate; empty: none."
    )
    ego_motion: RateSource = parameter(
        "",
        "Where velocity, acceleration and rotation rate come from: sensors (imu_topic and odometry_topic, and no set "
        "without them), poses (their differences), zeros, or auto (sensors as far as they are there, else poses); "
        "empty: as the network was trained (auto).",
        choices=("", "auto", "sensors", "poses", "zeros"),
    )

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.pose_source == "odometry" and not self.odometry_topic:
            raise SettingsError(
                "odometry needs the topic of a nav_msgs/Odometry as odometry_topic (--odometry-topic)", "pose_source"
            )
        missing = [name for name in ("imu_topic", "odometry_topic") if not getattr(self, name)]
        if self.ego_motion == "sensors" and missing:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
            raise SettingsError(f"sensors needs {' and '.join(missing)} ({options}), or choose auto", "ego_motion")
        if self.imu_topic and self.imu_topic == self.odometry_topic:
            raise SettingsError(f"both are {self.imu_topic!r}", "imu_topic", "odometry_topic")
