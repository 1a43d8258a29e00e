"""The tree of frames that a survey has heard, and what was wrong with the transforms in it."""

from collections.abc import Callable, Iterable
from itertools import islice

from panoocc_core.geometry import NS_PER_S

from ..messages.fields import transforms
from ..streams.edge import shown
from ..streams.transforms import TransformBuffer
from .intake import Intake

KEEP_NS = 3600 * NS_PER_S  # all of a survey
MAX_TRANSFORMS = 1000  # of one message
OPTICAL = "optical"  # in the name of a frame that looks along its z axis (REP 103)


def fill(buffer: TransformBuffer, intake: Intake, is_static: Callable[[str], bool]) -> tuple[str, ...]:
    """File all transforms that came; returns what was refused, or contradicts itself, each frame once.

    Args:
        is_static: whether a topic has the fixed ones.
    """
    problems: dict[str, str] = {}
    for topic, message in intake.transforms:
        for one in islice(transforms(message), MAX_TRANSFORMS):
            name = f"{shown(one.parent)} <- {shown(one.child)}"
            try:
                if one.parent_from_child is None:
                    raise ValueError(f"it {one.problem}")
                contradiction = buffer.set(one.parent, one.child, one.stamp_ns, one.parent_from_child, is_static(topic))
                if contradiction:
                    problems[one.child] = f"{topic}: {contradiction}"
            except ValueError as error:
                buffer.refuse(one.child, f"the transform {name} was refused: {error}")
                problems[one.child] = f"{topic}: the transform {name} was refused: {error}"
    return tuple(problems.values())


def fixed_above(buffer: TransformBuffer, frame: str, stamp_ns: int) -> list[str]:
    """A frame and those above it that do not move against it, the nearest first."""
    found = [frame]
    for name, is_moving in buffer.ancestors(frame, stamp_ns).items():
        if is_moving:
            break
        found.append(name)
    return found


def vehicle_frame(buffer: TransformBuffer, camera_frames: Iterable[str], stamp_ns: int) -> str | None:
    """The frame of the vehicle by the cameras that hang below it: base_link, else the highest that moves with all."""
    chains = [fixed_above(buffer, frame, stamp_ns) for frame in camera_frames if frame in buffer.frames]
    if not chains:
        return None
    common = [name for name in max(chains, key=len) if sum(name in chain for chain in chains) > len(chains) / 2]
    usual = next((name for name in ("base_link", "base_footprint") if name in common), None)
    return usual or (common[-1] if common else None)
