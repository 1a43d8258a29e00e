"""The sources of the vehicle's motion that the options choose, as one: poses, rates, and their messages."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from panoocc_core.types import VehicleMotion

from ..streams.transforms import TransformBuffer
from .motion_options import MotionOptions
from .odometry import OdometryPoses
from .poses import Poses, TransformPoses
from .rates import Rates, Unusable


class MotionSources:
    """Poses and rates of the vehicle.

    Args:
        fixed_frame: that poses shall be given in; None: the source's choice.
        tf_topic: where the transforms come from, for texts.
        rates: "auto", "sensors", "poses" or "zeros"; for the last two nothing is measured.
    """

    def __init__(
        self,
        options: MotionOptions,
        rates: str,
        buffer: TransformBuffer,
        base_frame: str,
        fixed_frame: str | None,
        tf_topic: str,
    ) -> None:
        topics = (options.imu_topic, options.odometry_topic) if rates in ("auto", "sensors") else ("", "")
        self._rates = Rates(buffer, base_frame, *topics)
        self._odometry, self._topic = None, options.odometry_topic
        self._is_strict = rates == "sensors" and any(topics)
        self.pose_source = f"transforms ({tf_topic})"  # who says where the vehicle is, for a text
        self.poses: Poses
        if options.pose_source == "odometry":
            self._odometry = self.poses = OdometryPoses(buffer, base_frame, fixed_frame, self._topic)
            self.pose_source = f"odometry ({self._topic})"
        else:
            self.poses = TransformPoses(buffer, base_frame, fixed_frame, tf_topic)

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """(reason, topic) -> messages of odometry and IMU that were refused, "late" (and filed), "repeated" ..."""
        counts = {topic: Counter(one) for topic, one in self._rates.counts}
        if self._odometry is not None:  # which files the same messages
            counts[self._topic] = counts.get(self._topic, Counter()) | self._odometry.counts
        return Counter({(why, topic): count for topic, one in counts.items() for why, count in one.items()})

    def on_odometry(self, message: Any) -> str | None:
        """Take a nav_msgs/Odometry; returns what is odd about its sender, if anything is.

        Raises:
            ValueError: it was refused, and counted.
        """
        odd = None if self._odometry is None else self._odometry.take(message)
        self._rates.on_odometry(message)
        return odd

    def on_imu(self, message: Any) -> None:
        """Take a sensor_msgs/Imu.

        Raises:
            ValueError: it was refused, and counted.
        """
        self._rates.on_imu(message)

    def rates(self, stamp_ns: int, may_do_without: bool) -> tuple[VehicleMotion | None, Mapping[str, str]]:
        """The measured rates, and by topic why some are not among them.

        Raises:
            Late: they may still come, and are waited for.
            Unusable: they are not all known, and have to be ("sensors").
        """
        motion, problems = self._rates.at(stamp_ns, may_do_without and not self._is_strict)
        if self._is_strict and (motion is None or not motion.is_complete):
            why = "; ".join(problems.values()) or "imu_topic and odometry_topic are both needed"
            raise Unusable(f"ego_motion is sensors, and they do not tell all: {why}")
        return motion, problems

    def restart(self) -> None:
        """The clock went back: keep what has come since."""
        self.poses.restart()
        self._rates.restart()
