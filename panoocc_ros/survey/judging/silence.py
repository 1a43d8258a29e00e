"""What falls silent while the rest goes on: a camera that dies or begins late, transforms and odometry with gaps."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from panoocc_core.geometry import NS_PER_S

from ...frames.rig import Rig
from ...messages.types import IMAGE_TYPES, ODOMETRY, TRANSFORMS
from ...motion.motion_options import MotionOptions
from ...streams.transforms import clean_frame
from ..findings import RigReport
from ..intake import Intake
from ..stamps import Silence, silences
from ..tree import MAX_TRANSFORMS

QUIET_PERIODS, QUIET_NS = 3, NS_PER_S // 2  # without a message, beyond both of which there is a gap
START_NS = NS_PER_S  # ... at the start, when what is published now is found one by one
MAX_SILENCES = 3  # in one text
FEW = 3  # messages, below which there is no period
CLOCK = "(seconds from the first image on)"


def judge_silence(report: RigReport, rig: Rig, intake: Intake, sources: MotionOptions) -> tuple[str, ...]:
    """Add which cameras, transforms and odometry were silent between the first image and the last one of all.

    Args:
        report: has the cameras' chains of frames.

    Returns:
        the cameras that were.
    """
    heard_of = {camera.name: intake.of_topic(camera.topic, IMAGE_TYPES) for camera in rig.cameras}
    arrivals = {name: heard.arrivals_ns for name, heard in heard_of.items() if heard is not None and heard.arrivals_ns}
    periods = [_period_ns(ones) for ones in arrivals.values() if len(ones) >= FEW]
    if not periods:
        return ()
    span_ns = min(map(min, arrivals.values())), max(map(max, arrivals.values()))
    silent = []
    for name, ones in arrivals.items():
        period_ns = _period_ns(ones) if len(ones) >= FEW else median(periods)
        if not _is_cut(intake, rig.camera(name).topic) and (told := _told(ones, span_ns, period_ns)):
            silent.append(name)
            report.fault(
                f"{name}: nothing {told} on {rig.camera(name).topic}, while other images came {CLOCK}: did its driver "
                "die, is its cable or its power loose, are images lost on the way?",
                name,
            )
    for topic, about, ones in (*_of_transforms(report, rig, intake), *_of_odometry(intake, sources)):
        if told := _told(ones, span_ns, _period_ns(ones)):
            report.fault(
                f"{topic} silent {told}{about}, while images came {CLOCK}: the vehicle's motion is not known there. "
                "Did its sender die, or is it overloaded?"
            )
    return tuple(silent)


def _of_transforms(report: RigReport, rig: Rig, intake: Intake) -> list[tuple[str, str, list[int]]]:
    """When the moving transforms came that the cameras need: topic, which frames, times; frames sent together once."""
    heard = intake.of_topic(rig.tf_topic, (TRANSFORMS,))
    if heard is None or heard.left_out:
        return []
    needed = {rig.base_frame, *(frame for camera in report.cameras for frame in camera.chain)}
    arrivals = defaultdict[str, list[int]](list)
    messages = (message for topic, message in intake.transforms if topic == rig.tf_topic)
    for at_ns, message in zip(heard.arrivals_ns, messages):
        for frame in {clean_frame(one.child_frame_id) for one in message.transforms[:MAX_TRANSFORMS]} & needed:
            arrivals[frame].append(at_ns)
    together = defaultdict[tuple[int, ...], list[str]](list)
    for frame, ones in arrivals.items():
        if len(ones) >= FEW:
            together[tuple(ones)].append(frame)
    return [(rig.tf_topic, f" about {', '.join(sorted(frames))}", list(ones)) for ones, frames in together.items()]


def _of_odometry(intake: Intake, sources: MotionOptions) -> list[tuple[str, str, list[int]]]:
    """The same of the odometry that is asked for."""
    heard = intake.of_topic(sources.odometry_topic, (ODOMETRY,))
    if heard is None or heard.left_out or len(heard.arrivals_ns) < FEW:
        return []
    return [(sources.odometry_topic, "", heard.arrivals_ns)]


def _is_cut(intake: Intake, topic: str) -> bool:
    return bool(intake.heard[topic].left_out)


def _period_ns(arrivals_ns: Sequence[int]) -> float:
    return median(after - before for before, after in pairwise(sorted(arrivals_ns)))


def _told(arrivals_ns: Sequence[int], span_ns: tuple[int, int], period_ns: float) -> str:
    """When something was silent, in words; empty: never."""
    longest_ns = max(QUIET_NS, QUIET_PERIODS * period_ns)
    found = silences(arrivals_ns, span_ns, longest_ns, max(longest_ns, START_NS))
    more = f", and {len(found) - MAX_SILENCES} times more" if len(found) > MAX_SILENCES else ""
    return ", ".join(map(_in_words, found[:MAX_SILENCES])) + more


def _in_words(silence: Silence) -> str:
    begin_s, end_s = silence.begin_s, silence.end_s
    if begin_s is None:
        return "at all" if end_s is None else f"until {end_s:.2f}"
    return f"since {begin_s:.2f}" if end_s is None else f"from {begin_s:.2f} to {end_s:.2f}"
