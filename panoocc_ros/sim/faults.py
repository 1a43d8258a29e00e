"""What goes wrong between a camera and its user, as data: lost, late and broken images, dead cameras, gaps and jumps.

`Faults` stands between the simulator and whoever takes its messages, a bag or a live topic.  The same faults, seed and
messages give the same result.
"""

import copy
import dataclasses
import heapq
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from panoocc_core.geometry import NS_PER_S

from ..messages.fields import set_stamp, stamp_ns
from ..messages.types import CAMERA_INFO, COMPRESSED_IMAGE

TF_TOPIC = "/tf"


class Event(NamedTuple):
    """One message on its way: `stamp_ns` is when it is delivered or recorded; its header has a stamp of its own."""

    topic: str
    type: str
    stamp_ns: int
    message: Any
    latched: bool = False


class FaultError(ValueError):
    """A fault that cannot be injected; the message quotes it and says what is allowed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to go wrong, and the number that says how much."""

    text: str
    of_cameras: bool = True
    word: str = ""  # what the number is called; empty: there is none
    default: float | None = None  # None: it must be given
    limits: tuple[float, float] = (0.0, 1.0)


KINDS = {
    "drop": Kind("images are lost: all, or a random share", word="share", default=1.0),
    "late": Kind("images arrive late, by so many seconds", word="by", limits=(0.0, 60.0)),
    "truncate": Kind("JPEG files are cut off, and keep a share of their bytes", word="keep", default=0.5),
    "garble": Kind("a share of a JPEG's bytes is noise, the first ones among them", word="share", default=0.1),
    "freeze": Kind("the camera sends the same picture again and again, under new stamps"),
    "repeat": Kind("the camera sends the same picture and the same stamp again and again"),
    "dead": Kind("the camera sends nothing at all"),
    "tf_gap": Kind("/tf is silent", of_cameras=False),
    "clock_jump": Kind(
        "all stamps are so many seconds off (negative: back)", of_cameras=False, word="by", limits=(-86400.0, 86400.0)
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; times are seconds since the first message.

    Raises:
        FaultError: an unknown kind, a number out of range, or a camera where none belongs.
    """

    kind: str
    camera: str | None = None  # namespace of the camera's topics; None: every camera
    start_s: float = 0.0
    end_s: float = math.inf
    amount: float | None = None  # what KINDS[kind].word means; None takes its default

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaultError(f"unknown fault {self.kind!r}; there are {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        if self.camera is not None and not kind.of_cameras:
            raise FaultError(f"fault {self.kind}: it concerns no single camera; leave out camera={self.camera}")
        if not 0 <= self.start_s < self.end_s:  # false for NaN too
            raise FaultError(f"fault {self.kind}: from={self.start_s:g} to={self.end_s:g} is no span of time")
        amount = kind.default if self.amount is None else self.amount
        if kind.word and amount is None:
            raise FaultError(f"fault {self.kind}: {kind.word}=NUMBER is missing ({kind.text})")
        if not kind.word and amount is not None:
            raise FaultError(f"fault {self.kind}: it takes no number")
        low, high = kind.limits
        if amount is not None and not low <= amount <= high:
            raise FaultError(f"fault {self.kind}: {kind.word}={amount:g} is outside {low:g}..{high:g}")
        object.__setattr__(self, "amount", amount)

    @property
    def label(self) -> str:
        """Kind and camera, for counters."""
        return f"{self.kind} {self.camera}" if self.camera else self.kind

    def is_on(self, time_s: float) -> bool:
        """Whether the fault is there at a time since the first message."""
        return self.start_s <= time_s < self.end_s


def parse_fault(text: str) -> Fault:
    """A fault from words such as "drop camera=cam_front from=2 to=4 share=0.5".

    Raises:
        FaultError: the words are no fault; the message quotes them and says what is allowed.
    """
    kind, *words = text.split() or [""]
    if kind not in KINDS:
        raise FaultError(f"unknown fault {kind!r}; there are {', '.join(KINDS)}")
    places = {"from": "start_s", "to": "end_s"}
    if KINDS[kind].of_cameras:
        places["camera"] = "camera"
    if KINDS[kind].word:
        places[KINDS[kind].word] = "amount"
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in places or not equals:
            raise FaultError(f"fault {text!r}: {word!r} is none of {', '.join(f'{key}=' for key in places)}")
        if places[name] in values:
            raise FaultError(f"fault {text!r}: {name}= is given twice")
        values[places[name]] = value.lower() if name == "camera" else _number(text, name, value)
    return Fault(kind, **values)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Faults from one line in which semicolons part them; empty for none.

    Raises:
        FaultError: as `parse_fault`.
    """
    return tuple(parse_fault(part) for part in text.split(";") if part.strip())


def fault_table() -> str:
    """Every kind with its words, one a line."""
    rows = []
    for name, kind in KINDS.items():
        words = "[camera=NAME] [from=S] [to=S]" if kind.of_cameras else "[from=S] [to=S]"
        if kind.word:
            number = f"{kind.word}=NUMBER" if kind.default is None else f"[{kind.word}={kind.default:g}]"
            words = f"{words} {number}"
        rows.append((f"{name} {words}", kind.text))
    width = max(len(usage) for usage, _ in rows)
    return "\n".join(f"{usage:<{width}}  {text}" for usage, text in rows)


def _number(text: str, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise FaultError(f"fault {text!r}: {name}={value} is not a number") from error


@dataclass(slots=True)
class _Memory:
    """What one fault knows of one camera."""

    random: np.random.Generator
    last: Event | None = None  # the newest image that was not touched


@dataclass(slots=True)
class Faults:
    """Takes messages in the order of their stamps and gives them back, spoilt, in the order of their delivery.

    Messages are not changed but replaced.  `cameras` are the namespaces of the rig's topics.

    Raises:
        FaultError: a fault names a camera that the rig lacks.
    """

    faults: Sequence[Fault]
    cameras: Sequence[str]
    seed: int = 0
    injected: Counter[str] = field(default_factory=Counter)  # Fault.label -> messages
    _origin_ns: int | None = None
    _memories: dict[tuple[int, str], _Memory] = field(default_factory=dict)
    _waiting: list[tuple[int, int, Event]] = field(default_factory=list)  # a heap by the time of delivery
    _order: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for fault in self.faults:
            if fault.camera is not None and fault.camera not in self.cameras:
                raise FaultError(
                    f"fault {fault.kind}: the rig has no camera {fault.camera!r}, only {', '.join(self.cameras)}"
                )

    def push(self, event: Event) -> None:
        """Take one message; the first one's stamp is the faults' time 0."""
        if self._origin_ns is None:
            self._origin_ns = event.stamp_ns
        time_s = self._time_s(event.stamp_ns)
        spoilt: Event | None = event
        for number, fault in enumerate(self.faults):
            if spoilt is not None and _concerns(fault, event):
                spoilt = self._apply(number, fault, spoilt, fault.is_on(time_s))
        if spoilt is not None:
            heapq.heappush(self._waiting, (spoilt.stamp_ns, next(self._order), spoilt))

    def pop_until(self, stamp_ns: float) -> list[Event]:
        """The messages that are delivered up to a time."""
        due = []
        while self._waiting and self._waiting[0][0] <= stamp_ns:
            due.append(heapq.heappop(self._waiting)[2])
        return due

    @property
    def waiting(self) -> int:
        """Messages that were taken and not given back."""
        return len(self._waiting)

    def offset_ns(self, stamp_ns: int) -> int:
        """How far the clock is off at a time."""
        on = [fault for fault in self.faults if fault.kind == "clock_jump" and fault.is_on(self._time_s(stamp_ns))]
        return sum(_ns(fault) for fault in on)

    def _time_s(self, stamp_ns: int) -> float:
        return 0.0 if self._origin_ns is None else (stamp_ns - self._origin_ns) / NS_PER_S

    def _apply(self, number: int, fault: Fault, event: Event, is_on: bool) -> Event | None:
        memory = self._memory(number, event.topic)
        if not is_on:
            memory.last = event
            return event
        if fault.kind == "drop" and memory.random.random() >= (fault.amount or 0.0):
            return event
        if fault.kind in ("freeze", "repeat") and memory.last is None:
            memory.last = event  # frozen from the very first image on
            return event
        self.injected[fault.label] += 1
        return _spoilt(fault, event, memory)

    def _memory(self, number: int, topic: str) -> _Memory:
        key = (number, topic)
        if key not in self._memories:
            self._memories[key] = _Memory(np.random.default_rng([self.seed, number, zlib.crc32(topic.encode())]))
        return self._memories[key]


def with_faults(events: Iterable[Event], faults: Faults) -> Iterator[Event]:
    """All messages of a finite stream, in the order of their delivery."""
    for event in events:
        faults.push(event)
        # The next message is not older than this one, so that nothing can come before what is due now.
        yield from faults.pop_until(event.stamp_ns)
    yield from faults.pop_until(math.inf)


def _concerns(fault: Fault, event: Event) -> bool:
    if fault.kind == "clock_jump":
        return not event.latched
    if fault.kind == "tf_gap":
        return event.topic == TF_TOPIC
    kinds = (COMPRESSED_IMAGE, CAMERA_INFO) if fault.kind == "dead" else (COMPRESSED_IMAGE,)
    return event.type in kinds and fault.camera in (None, event.topic.split("/")[1])


def _spoilt(fault: Fault, event: Event, memory: _Memory) -> Event | None:
    """What becomes of a message that the fault has hit; None: it is lost."""
    if fault.kind in ("drop", "dead", "tf_gap"):
        return None
    if fault.kind == "late":
        return event._replace(stamp_ns=event.stamp_ns + _ns(fault))
    if fault.kind == "clock_jump":
        return event._replace(message=_shifted(event.message, _ns(fault)))
    image, amount = event.message, fault.amount or 0.0
    if fault.kind == "truncate":
        return event._replace(message=_with_data(image, image.data[: int(len(image.data) * amount)]))
    if fault.kind == "garble":
        return event._replace(message=_with_data(image, _garbled(image.data, amount, memory.random)))
    assert memory.last is not None
    if fault.kind == "freeze":
        return event._replace(message=_with_data(image, memory.last.message.data))
    return event._replace(message=memory.last.message)  # repeat


def _with_data(image: Any, data: Any) -> Any:
    return dataclasses.replace(image, data=data)


def _garbled(data: Any, share: float, random: np.random.Generator) -> Any:
    noise = np.array(data, dtype=np.uint8)
    hit = random.random(len(noise)) < share
    hit[:2] = True
    noise[hit] ^= random.integers(1, 256, int(hit.sum()), dtype=np.uint8)  # never what it was
    return noise


def _shifted(message: Any, offset_ns: int) -> Any:
    """The same message with all its stamps moved."""
    moved = copy.deepcopy(message)
    for part in (moved, *getattr(moved, "transforms", ()), *getattr(moved, "markers", ())):
        times = [part.header.stamp] if hasattr(part, "header") else []
        times += [getattr(part, name) for name in ("oldest_image_stamp", "newest_image_stamp") if hasattr(part, name)]
        for time in times:
            set_stamp(time, stamp_ns(time) + offset_ns)
    return moved


def _ns(fault: Fault) -> int:
    return round((fault.amount or 0.0) * NS_PER_S)
