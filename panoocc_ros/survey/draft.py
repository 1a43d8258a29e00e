"""A rig out of what was heard: cameras under the names that a network knows, frames, times; and what was guessed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from panoocc_core.config import ModelConfig

from ..frames.directions import fitting_names, in_words, misfit_deg
from ..frames.rig import Rig, RigCamera
from ..messages.types import ODOMETRY, TRANSFORMS
from ..motion.poses import FIXED_FRAMES, TransformPoses
from ..streams.edge import TransformError
from ..streams.transforms import TransformBuffer
from .finding_cameras import FoundCamera, found_cameras
from .intake import Intake
from .stamps import Offset, Timing, offset, timing
from .tree import fill, vehicle_frame

# What speaks against a camera where there are more than names, as if it looked so many degrees further away:
NARROW, NO_INFO = 0.25, 45.0  # for every degree that it sees less than the widest one; that it sends no CameraInfo
FAR_DEG = 40.0  # from where a name says, beyond which it is a guess
FLAT_DEG = 120.0  # that a flat picture shows at most
EVEN_MS = 1.0  # shutters that are no further apart fire together
MIN_SPREAD_MS, USUAL_SPREAD_MS = 10.0, 50.0


class NoCameras(ValueError):
    """Nothing that was heard makes a rig; the text says what there is."""


@dataclass(frozen=True, slots=True, eq=False)
class DraftCamera:
    """One camera of the rig, with what is known of it."""

    entry: RigCamera
    found: FoundCamera
    timing: Timing
    offset: Offset | None  # to the reference
    checks: tuple[str, ...]  # what was guessed, or is missing

    @property
    def told(self) -> str:
        """What is known of it, for a comment."""
        heard, parts = self.found.heard, []
        if self.found.yaw_deg is not None:
            parts.append(f"looks {in_words(self.found.yaw_deg)}")
        if self.found.width_deg is not None:
            parts.append(f"sees {self.found.width_deg:.0f} degrees")
        if self.timing.rate_hz is not None:
            parts.append(f"{self.timing.rate_hz:.1f} images a second")
        parts += [kind for kind, _ in heard.encodings.most_common(1) if kind]
        parts.append(f"frame {self.entry.frame or heard.frame}" if self.entry.frame or heard.frame else "no frame_id")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A rig, and what has to be said about it."""

    rig: Rig
    cameras: tuple[DraftCamera, ...]  # as in the rig
    fixed_frame: str | None  # that `auto` takes; None: there is none
    missing: tuple[str, ...]  # names of the network for which there is no camera
    unused: tuple[FoundCamera, ...]  # cameras that no name was left for
    checks: tuple[str, ...]  # about the vehicle


def drafted(intake: Intake, config: ModelConfig, base_frame: str = "") -> Draft:
    """The rig that fits what was heard and the network's names.

    Args:
        base_frame: the vehicle's; empty: guessed.

    Raises:
        NoCameras: there are no colour images, or no network's camera among them.
    """
    tf_topic, tf_static_topic = _transform_topics(intake)
    buffer = TransformBuffer(keep_ns=2**60)
    checks = [*fill(buffer, intake, lambda topic: topic == tf_static_topic), *intake.cuts]
    stamp_ns = _middle_ns(intake)
    frames = [heard.frame for heard in intake.images.values() if heard.frame]
    base = base_frame or vehicle_frame(buffer, frames, stamp_ns)
    if base is None:
        checks.append("base_frame: no transform names a frame of the images, so base_link is a guess")
    elif not base_frame and base != "base_link":
        checks.append(f"base_frame: there is no base_link; is {base} the frame on the ground below the rear axle?")
    found = found_cameras(intake, buffer, base, stamp_ns)
    if not found:
        raise NoCameras(_why_none(intake))
    names = fitting_names(
        {camera.topic: camera.yaw_deg for camera in found}, config.cameras, _handicaps(found, len(config.cameras))
    )
    chosen = {name: next(camera for camera in found if camera.topic == topic) for name, topic in names.items()}
    ordered = {name: chosen[name] for name in config.cameras if name in chosen}
    reference = min(ordered, key=lambda name: abs(ordered[name].yaw_deg or 0.0))
    cameras = [_drafted_camera(name, camera, ordered[reference], buffer) for name, camera in ordered.items()]
    spread_ms, period_ms, of_times = _times(cameras)
    fixed = _fixed_frame(buffer, base, stamp_ns)
    if fixed is None:
        odometry = ", ".join(topic for topic, kind in intake.topics.items() if kind == ODOMETRY)
        remedy = f"take odometry ({odometry}) with pose_source odometry, or " if odometry else ""
        checks.append(
            f"fixed_frame: nothing above {base or 'base_link'} moves: {remedy}send the vehicle's pose on {tf_topic}"
        )
    rig = Rig(
        cameras=tuple(camera.entry for camera in cameras),
        reference=reference,
        base_frame=base or "base_link",
        fixed_frame="auto" if fixed is None or fixed in FIXED_FRAMES else fixed,
        spread_ms=spread_ms,
        period_ms=period_ms,
        tf_topic=tf_topic,
        tf_static_topic=tf_static_topic,
    )
    return Draft(
        rig,
        tuple(cameras),
        fixed,
        tuple(name for name in config.cameras if name not in chosen),
        tuple(camera for camera in found if camera.topic not in names.values()),
        (*checks, *of_times),
    )


def _transform_topics(intake: Intake) -> tuple[str, str]:
    """Topics of the moving and the fixed transforms: the usual ones, else those that are called so in a namespace."""
    there = [topic for topic, kind in intake.topics.items() if kind == TRANSFORMS]
    static = [topic for topic in there if topic.endswith("static")]
    moving = [topic for topic in there if topic not in static]

    def chosen(topics: Sequence[str], usual: str) -> str:
        return usual if usual in topics or not topics else min(topics, key=lambda topic: (len(topic), topic))

    return chosen(moving, "/tf"), chosen(static, "/tf_static")


def _middle_ns(intake: Intake) -> int:
    stamps = sorted(stamp for heard in intake.images.values() for stamp in heard.stamps_ns)
    return stamps[len(stamps) // 2] if stamps else 0


def _why_none(intake: Intake) -> str:
    if intake.images:
        kinds = {topic: next(iter(heard.encodings), "nothing readable") for topic, heard in intake.images.items()}
        there = ", ".join(f"{topic} ({kind})" for topic, kind in list(kinds.items())[:8])
        return f"no colour images came; there are {there}"
    there = ", ".join(list(intake.topics)[:12]) or "none"
    return f"no images came: topics of sensor_msgs/Image or CompressedImage are wanted; there are the topics {there}"


def _handicaps(found: Sequence[FoundCamera], wanted: int) -> dict[str, float]:
    """Of cameras that look alike the wider one serves, and one that has all that it needs."""
    if len(found) <= wanted:
        return {}
    widest = max((camera.width_deg or 0.0 for camera in found), default=0.0)
    return {
        camera.topic: NARROW * (widest - (camera.width_deg or 0.0)) + (NO_INFO if camera.info is None else 0.0)
        for camera in found
    }


def _drafted_camera(name: str, found: FoundCamera, reference: FoundCamera, buffer: TransformBuffer) -> DraftCamera:
    times = timing(found.heard.stamps_ns, found.heard.arrivals_ns)
    apart = offset(found.heard.stamps_ns, reference.heard.stamps_ns) if found is not reference else None
    is_steady = apart is not None and apart.residual_ms < (times.period_ms or 0.0) / 4
    shutter_ms = round(apart.usual_ms, 1) if apart is not None and is_steady and abs(apart.usual_ms) > EVEN_MS else 0.0
    entry = RigCamera(name, found.topic, found.info_topic, frame=found.frame, shutter_offset_ms=shutter_ms)
    checks = []
    if found.width_deg is not None and found.width_deg > FLAT_DEG and not entry.is_rectified:
        entry = replace(entry, lens="project")
        checks.append(
            "it sees too much for a flat picture, so the voxels are projected through its lens (lens: project)"
        )
    if found.mount is None:
        shown = found.heard.frame or "without a name"
        checks.append(f"no transform leads to its frame ({shown}); its name follows from the topic's")
    elif misfit_deg(name, found.yaw_deg) > FAR_DEG:
        checks.append(
            f"it looks {in_words(found.yaw_deg or 0.0)}, which is not where {name} should: nothing fits better"
        )
    if found.info is None:
        checks.append(f"no CameraInfo came, {found.info_topic} is a guess; or give --calibration FILE")
    if found.frame is not None:
        checks.append(
            f"its images say frame {found.heard.frame!r}; {found.frame} looks along its z axis, as REP 103 wants"
        )
    if found.others:
        checks.append(f"there are its images on {', '.join(found.others)} too")
    return DraftCamera(entry, found, times, apart, tuple(checks))


def _times(cameras: Sequence[DraftCamera]) -> tuple[float, float | None, list[str]]:
    """`spread_ms` and `period_ms` of the rig, and what is odd about them."""
    periods = [camera.timing.period_ms for camera in cameras if camera.timing.period_ms is not None]
    if not periods:
        return USUAL_SPREAD_MS, None, ["spread_ms: too few images came to measure times; record a few seconds"]
    period_ms = median(periods)
    needed_ms = max(
        (abs(o.usual_ms - c.entry.shutter_offset_ms) + o.residual_ms for c in cameras if (o := c.offset) is not None),
        default=0.0,
    )
    third_ms = period_ms / 3
    spread_ms = max(min(3 * needed_ms, third_ms), min(MIN_SPREAD_MS, third_ms))
    if needed_ms <= third_ms:
        return round(spread_ms, 1), round(period_ms, 1), []
    spread_ms = min(1.2 * needed_ms, 0.45 * period_ms)
    text = f"spread_ms: the cameras' stamps wander by {needed_ms:.0f} ms against each other: are they synchronised?"
    return round(spread_ms, 1), round(period_ms, 1), [text]


def _fixed_frame(buffer: TransformBuffer, base: str | None, stamp_ns: int) -> str | None:
    """The frame through which history can be fused, as the resolver would choose it."""
    try:
        return TransformPoses(buffer, base or "base_link", None, topic="").fixed(stamp_ns, may_guess=True)
    except TransformError:
        return None
