"""How fast the vehicle moves and turns at a time, from sensor_msgs/Imu and the twist of nav_msgs/Odometry.

Values are interpolated between the samples on both sides of the time asked for, and turned into the vehicle's frame by
the fixed transform of the sensor's.  Covariances are ignored, but for the -1 by which a message says that it lacks a
quantity.  What cannot be used is left to the poses, with the reason.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix
from panoocc_core.types import Triple, VehicleMotion

from ..messages.fields import stamp_ns, vector
from ..streams.edge import CONTRADICTION, TransformError, doubted, shown
from ..streams.track import Track
from ..streams.transforms import TransformBuffer, clean_frame
from .odometry import pose_of

KEEP_NS, MAX_SAMPLES = 10 * NS_PER_S, 20_000
APART_NS = NS_PER_S // 2  # between samples that lie further apart nothing is interpolated
GRAVITY_NS = NS_PER_S  # the mean acceleration over this time shows gravity
MIN_GRAVITY_MPS2, MAX_GRAVITY_MPS2 = 6.0, 13.0  # of the mean, along the vehicle's z; a slope takes little of it
SPEED_NS = NS_PER_S // 5  # poses this far apart tell a speed
OFF_MPS, OFF_SHARE = 1.0, 0.25  # a twist further than this from the change of the poses is not theirs


class Late(Exception):
    """A sample at or behind the time asked for has not come, but may still."""


class Unusable(Exception):
    """A quantity is not to be had, and waiting does not help."""


class _ImuSample(NamedTuple):
    frame: str
    acceleration_mps2: Matrix | None  # [3]; None: the IMU says that it lacks it
    rotation_rate_radps: Matrix | None


class _TwistSample(NamedTuple):
    frame: str
    velocity_mps: Matrix  # [3]
    rotation_rate_radps: Matrix  # [3]
    is_measured: bool  # else the message says that it lacks both
    header_from_frame: Matrix  # [4, 4], the pose in the same message


@dataclass(slots=True)
class _Source:
    """One topic."""

    topic: str
    track: Track[Any] = field(default_factory=lambda: Track(KEEP_NS, MAX_SAMPLES))
    counts: Counter[str] = field(default_factory=Counter)
    gave_up: bool = False  # a set has waited in vain since the last sample

    def file(self, stamp: int, sample: Any) -> None:
        outcome = self.track.file(stamp, sample)
        if outcome:
            self.counts[outcome] += 1
        self.gave_up = False

    def around(self, stamp: int, may_do_without: bool) -> tuple[Any, Any, float]:
        """The samples before and after a time, and the share of the way between them.

        Raises:
            Late: see the class.
            Unusable: see the class.
        """
        track = self.track
        k = track.index_of(stamp)
        if track.has(stamp):
            return track.samples[k], track.samples[k], 0.0
        if k == len(track.stamps_ns):
            if not may_do_without and not self.gave_up:
                raise Late(f"no message at or after {stamp / NS_PER_S:.3f} s on {self.topic} yet")
            self.gave_up = True
            raise Unusable(self._silence(stamp))
        if k == 0:
            late_s = (track.stamps_ns[0] - stamp) / NS_PER_S
            raise Unusable(f"the first message on {self.topic} is of {late_s:.3f} s after the images")
        before_ns, after_ns = track.stamps_ns[k - 1 : k + 1]
        if after_ns - before_ns > APART_NS:
            raise Unusable(f"nothing came on {self.topic} for {(after_ns - before_ns) / NS_PER_S:.2f} s")
        return track.samples[k - 1], track.samples[k], (stamp - before_ns) / (after_ns - before_ns)

    def _silence(self, stamp: int) -> str:
        if not self.track.stamps_ns:
            return f"nothing has come on {self.topic}: is its sender alive?"
        age_s = (stamp - self.track.stamps_ns[-1]) / NS_PER_S
        return f"the newest message on {self.topic} is {age_s:.3f} s older than the images: is its sender alive?"


class Rates:
    """The vehicle's rates; without topics it knows none.

    Args:
        buffer: where the fixed transforms of the sensors' frames are.
    """

    def __init__(self, buffer: TransformBuffer, base_frame: str, imu_topic: str, odometry_topic: str) -> None:
        self._buffer, self._base_frame = buffer, base_frame
        self._imu = _Source(imu_topic) if imu_topic else None
        self._odometry = _Source(odometry_topic) if odometry_topic else None
        self._twist_doubt, self._twist_text = 0, ""

    @property
    def counts(self) -> Iterator[tuple[str, Counter[str]]]:
        """Topic and counters of its messages: "refused", "late" (and filed), "repeated" and so on."""
        return ((one.topic, one.counts) for one in (self._imu, self._odometry) if one is not None)

    def on_imu(self, message: Any) -> None:
        """Take a sensor_msgs/Imu.

        Raises:
            ValueError: it was refused, and counted.
        """
        if self._imu is None:
            return
        lacks_turn, lacks_acceleration = (
            _is_lacking(covariance)
            for covariance in (message.angular_velocity_covariance, message.linear_acceleration_covariance)
        )
        acceleration, turn = vector(message.linear_acceleration), vector(message.angular_velocity)
        if (not lacks_acceleration and not np.isfinite(acceleration).all()) or (
            not lacks_turn and not np.isfinite(turn).all()
        ):
            self._imu.counts["refused"] += 1
            raise ValueError("it has numbers that are not finite")
        frame = clean_frame(message.header.frame_id)
        sample = _ImuSample(frame, None if lacks_acceleration else acceleration, None if lacks_turn else turn)
        self._imu.file(stamp_ns(message.header.stamp), sample)

    def on_odometry(self, message: Any) -> None:
        """Take the twist of a nav_msgs/Odometry.

        Raises:
            ValueError: it was refused, and counted.
        """
        if self._odometry is None:
            return
        twist = message.twist.twist
        velocity, turn = vector(twist.linear), vector(twist.angular)
        try:
            if not np.isfinite([velocity, turn]).all():
                raise ValueError("its twist has numbers that are not finite")
            pose = pose_of(message)
        except ValueError:
            self._odometry.counts["refused"] += 1
            raise
        stamp = stamp_ns(message.header.stamp)
        is_measured = not _is_lacking(message.twist.covariance)
        sample = _TwistSample(clean_frame(message.child_frame_id), velocity, turn, is_measured, pose)
        if is_measured:
            self._compare(stamp, sample, self._odometry)
        self._odometry.file(stamp, sample)

    def at(self, stamp: int, may_do_without: bool) -> tuple[VehicleMotion | None, dict[str, str]]:
        """The rates at a time, and by topic why some of its quantities are not among them.

        Raises:
            Late: a sample may still come, and nobody said that it can be done without.
        """
        found: dict[str, Triple] = {}
        problems: dict[str, str] = {}
        for source, read in ((self._odometry, self._twist_at), (self._imu, self._imu_at)):
            if source is None:
                continue
            try:
                found |= read(source, stamp, may_do_without, problems)
            except Unusable as why:
                problems[source.topic] = str(why)
        return (VehicleMotion(**found) if found else None), problems

    def restart(self) -> None:
        """The clock went back: keep what has come since."""
        for source in (self._imu, self._odometry):
            if source is not None:
                source.track.restart()
                source.gave_up = False
        self._twist_doubt = 0

    def _imu_at(self, source: _Source, stamp: int, may_do_without: bool, problems: dict[str, str]) -> dict[str, Triple]:
        before, after, ratio = source.around(stamp, may_do_without)
        base_from_imu = self._mount(source.topic, after.frame)[:3, :3]
        found = {}
        for name in ("rotation_rate_radps", "acceleration_mps2"):
            start, end = getattr(before, name), getattr(after, name)
            if start is None or end is None:
                what = name.rpartition("_")[0].replace("_", " ")
                problems[source.topic] = f"the IMU on {source.topic} says (covariance -1) that it has no {what}"
            else:
                found[name] = _triple(base_from_imu @ _between(start, end, ratio))
        if "acceleration_mps2" in found:
            doubt = self._doubt_of_gravity(source, stamp, base_from_imu)
            if doubt is not None:
                del found["acceleration_mps2"]
                problems[source.topic] = doubt
        return found

    def _twist_at(
        self, source: _Source, stamp: int, may_do_without: bool, problems: dict[str, str]
    ) -> dict[str, Triple]:
        before, after, ratio = source.around(stamp, may_do_without)
        if not (before.is_measured and after.is_measured):
            problems[source.topic] = f"the odometry on {source.topic} says (covariance -1) that it has no twist"
            return {}
        if self._twist_doubt >= CONTRADICTION:
            problems[source.topic] = self._twist_text
            return {}
        base_from_child = self._mount(source.topic, after.frame)
        velocity = _between(before.velocity_mps, after.velocity_mps, ratio)
        turn = _between(before.rotation_rate_radps, after.rotation_rate_radps, ratio)
        # The twist is that of the child frame's origin; the vehicle's own goes round it.
        child_to_base = -base_from_child[:3, :3].T @ base_from_child[:3, 3]
        return {
            "velocity_mps": _triple(base_from_child[:3, :3] @ (velocity + np.cross(turn, child_to_base))),
            "rotation_rate_radps": _triple(base_from_child[:3, :3] @ turn),
        }

    def _mount(self, topic: str, frame: str) -> Matrix:
        """base_from_frame [4, 4]."""
        if not frame:
            raise Unusable(f"the messages on {topic} do not name their frame: set it in the sensor's driver")
        try:
            return self._buffer.fixed(self._base_frame, frame)
        except TransformError as error:
            raise Unusable(
                f"the frame {shown(frame)} of {topic} is not known to ride on the vehicle: {error}; send its fixed "
                "transform"
            ) from error

    def _doubt_of_gravity(self, source: _Source, stamp: int, base_from_imu: Matrix) -> str | None:
        """What is wrong with the mean acceleration lately, if it does not show gravity along the vehicle's z."""
        track = source.track
        first, last = track.index_of(stamp - GRAVITY_NS), track.index_of(stamp + 1)
        recent = [one.acceleration_mps2 for one in track.samples[first : last + 1] if one.acceleration_mps2 is not None]
        mean = base_from_imu @ np.mean(recent, axis=0)
        if mean[2] >= MIN_GRAVITY_MPS2 and np.linalg.norm(mean) <= MAX_GRAVITY_MPS2:
            return None
        numbers = ", ".join(f"{number:.1f}" for number in mean)
        why = "gravity was taken out, or the unit is not m/s^2"
        if np.linalg.norm(mean) >= MIN_GRAVITY_MPS2:
            why = "gravity does not point along z: is the transform of its frame right, do its axes follow REP 103?"
        return f"the acceleration on {source.topic} is {numbers} m/s^2 on average in the vehicle's frame: {why}"

    def _compare(self, stamp: int, sample: _TwistSample, source: _Source) -> None:
        """Hold a twist against the change of the poses in the same messages."""
        track = source.track
        k = track.index_of(stamp - SPEED_NS) - 1
        if k < 0 or stamp - track.stamps_ns[k] > 2 * SPEED_NS or (track.stamps_ns and stamp <= track.stamps_ns[-1]):
            return
        start = track.samples[k]
        seconds = (stamp - track.stamps_ns[k]) / NS_PER_S
        moved_m = sample.header_from_frame[:3, 3] - start.header_from_frame[:3, 3]
        by_poses = _in_child(start, sample, moved_m / seconds)
        by_twist = (start.velocity_mps + sample.velocity_mps) / 2
        off_mps, speed_mps = math.dist(by_poses, by_twist), float(np.linalg.norm(by_poses))
        is_odd = off_mps > OFF_MPS + OFF_SHARE * max(speed_mps, float(np.linalg.norm(by_twist)))
        self._twist_doubt = doubted(self._twist_doubt, is_odd)
        if is_odd:
            texts = [", ".join(f"{number:.1f}" for number in numbers) for numbers in (by_twist, by_poses)]
            self._twist_text = (
                f"the twist on {source.topic} is {texts[0]} m/s, the change of its poses {texts[1]} m/s (both in "
                f"{shown(sample.frame)}): one of the two is not filled in, or in another frame"
            )


def _in_child(start: _TwistSample, end: _TwistSample, velocity: Matrix) -> Matrix:
    """A velocity [3] in the frame that rides along, turned half-way from its start to its end."""
    mean = start.header_from_frame[:3, :3] + end.header_from_frame[:3, :3]
    return mean.T @ velocity / 2


def _is_lacking(covariance: Sequence[float]) -> bool:
    """Whether a covariance says, as sensor_msgs/Imu has it, that the quantity was not measured."""
    return len(covariance) > 0 and covariance[0] == -1.0


def _between(start: Matrix, end: Matrix, ratio: float) -> Matrix:
    return (1 - ratio) * start + ratio * end


def _triple(numbers: Matrix) -> Triple:
    x, y, z = numbers.tolist()
    return x, y, z
