"""What a row of the table is, and what came of it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from panoocc_ros.health.verdicts import ERROR, WARN
from panoocc_ros.sim.faults import Event, Faults, parse_fault
from test.faults.traffic import CAMERAS, image_topic, info_topic

CAMERA_TIMEOUT_S, TF_TIMEOUT_S = 1.0, 0.5  # of the node under test
HISTORY_S = 1.3  # a longer pause between two grids is a gap: the oldest state that nano takes
PROMPT_S = 1.0  # what is said, and what is back, later than this is too late

Spoil = Callable[[int, list[Event]], list[Event]]  # set since the fault began, its messages -> what is sent


@dataclass(frozen=True)
class Says:
    """A status of the node that has at least this level, and this text in its message."""

    subject: str
    level: int
    text: str

    def __str__(self):
        return f"{self.subject} is {'WARN' if self.level == WARN else 'ERROR'}: '… {self.text} …'"


@dataclass(frozen=True)
class Fault:
    """One way to go wrong, and what must follow; times in seconds."""

    name: str
    spoil: Spoil | None = None  # what becomes of the messages; None: nothing
    act: Callable[[Any], AbstractContextManager] = lambda live: nullcontext()  # what is done beside, while it lasts
    says: Says | None = None  # what the node must say; None: nothing, or `counts` tells it
    after_s: float = 0.0  # how long the fault must last, by contract or for DDS, before that is said
    lasts_s: float = 1.0  # at least
    counts: tuple[str, ...] = ()  # "subject/key": values of statuses that must rise
    resets: Mapping[str, int] = field(default_factory=dict)  # of the memory, beside `gap` where grids are far apart
    goes_on: bool = True  # grids must come while it lasts
    meets_sets: bool = False  # it shows when the next set has been sent, and not before
    is_fresh: bool = False  # it is there from the activation of the node on
    is_new_session: bool = False  # the node is activated anew in its course
    told: str | None = None  # offline: what the summary of `panoocc run` must say; None: it is not tried offline
    is_short: bool = False  # live in the short form, too
    is_answered: bool = False  # what is done has an answer, which is what the node says
    note: str = ""  # what is asserted beside

    @property
    def asserted_of_memory(self):
        """What must become of the memory."""
        resets = ", ".join(f"{count} {reason}" for reason, count in self.resets.items())
        return f"memory cleared: {resets}" if resets else "memory kept"

    @property
    def asserted(self):
        """One sentence about what the row holds the node to."""
        parts = [] if self.says is None else [str(self.says)]
        parts += [f"{', '.join(self.counts)} rise"] if self.counts else []
        if self.after_s:
            parts.append(f"counted from {self.after_s:g} s on")
        parts += ["grids go on"] if self.goes_on else []
        parts.append("a new stream" if self.is_new_session or self.is_fresh else self.asserted_of_memory)
        return "; ".join([*parts, *([self.note] if self.note else [])])


@dataclass
class Outcome:
    """One row of faults.json."""

    fault: str
    mode: str
    detected_s: float | None = None
    resumed_s: float | None = None
    history_ok: bool | None = None
    counters_ok: bool | None = None
    problems: list[str] = field(default_factory=list)
    note: str = ""

    def as_json(self):
        """The row as it is written."""
        return {
            "fault": self.fault,
            "mode": self.mode,
            "detected_s": None if self.detected_s is None else round(self.detected_s, 2),
            "resumed_s": None if self.resumed_s is None else round(self.resumed_s, 2),
            "history_ok": self.history_ok,
            "counters_ok": self.counters_ok,
            "passed": not self.problems,
            "note": "; ".join([self.note, *(f"FAILED: {one}" for one in self.problems)]),
        }


def camera(name, level, text):
    """What a camera's status says."""
    return Says(f"camera {name}", level, text)


# --- how messages are spoilt ---


def injected(text):
    """A fault of the simulator, in the words of its option --fault."""
    injecting = None

    def spoil(k, events):
        nonlocal injecting
        if k == 0:
            injecting = Faults((parse_fault(text),), [name.lower() for name in CAMERAS])
        for event in events:
            injecting.push(event)
        return injecting.pop_until(math.inf)

    return spoil


def images(change, *names):
    """`change(k, message)` of the images of some cameras, or of all."""
    topics = {image_topic(name) for name in names or CAMERAS}
    return lambda k, events: [
        event._replace(message=change(k, event.message)) if event.topic in topics else event for event in events
    ]


def infos(change, *names):
    """`change(k, message)` of the CameraInfos of some cameras, or of all."""
    topics = {info_topic(name) for name in names or CAMERAS}
    return lambda k, events: [
        event._replace(message=change(k, event.message)) if event.topic in topics else event for event in events
    ]


def poses(change):
    """`change(k, message)` of the vehicle's poses; None: it is not sent."""
    changed = lambda k, event: event._replace(message=change(k, event.message)) if event.topic == "/tf" else event  # noqa: E731
    return lambda k, events: [one for event in events if (one := changed(k, event)).message is not None]


def without(*topics):
    """Messages of some topics are not sent."""
    return lambda k, events: [event for event in events if event.topic not in topics]


def replaced(**fields):
    """A change that sets fields of a message."""
    return lambda k, message: dataclasses.replace(message, **fields)


def gaps(stamps_ns):
    """How many grids came so long after the one before that the memory must have been cleared for it."""
    return sum(after - before > HISTORY_S * 1e9 for before, after in pairwise(stamps_ns))


__all__ = ["ERROR", "WARN", "Fault", "Outcome", "Says"]
