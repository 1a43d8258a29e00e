"""Oddities of the input, each told once however often it comes: bounded, newest first."""

import threading
from dataclasses import dataclass, replace
from typing import Literal

from panoocc_core.geometry import NS_PER_S

NoticeKind = Literal[
    "refused",
    "contradiction",
    "late_transform",
    "late",
    "clock",
    "apart",
    "calibration",
    "unusable",
    "network_frame",
    "grid_frame",
    "motion",
]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something odd about the input: what it is, whom it concerns, and when it was seen.

    The kinds: a transform was `refused`; senders `contradict` each other; an image came too `late` for its set, or a
    transform (`late_transform`), and by how much; a camera's `clock` is another one or stands; an image lies too far
    `apart` from the reference camera's; a CameraInfo (`calibration`) disagrees with the calibration file, or is of
    another frame than the images; a camera's images are `unusable`, one after the other; the `network_frame` is not
    where the weights were trained; the `grid_frame` is not known; an IMU or an odometry cannot serve the vehicle's
    `motion`.  A notice goes when its cause is seen to be mended; else its age tells whether it still matters.
    """

    kind: NoticeKind
    subject: str  # a camera's name, the frame of a transform, a topic: the kind says which; "" where there is one only
    text: str  # a sentence that names camera, frame or topic
    count: int  # how often it was seen
    since_s: float  # seconds since it was first seen
    age_s: float  # seconds since it was last seen


@dataclass(slots=True)
class _Seen:
    text: str
    count: int
    first_ns: int
    last_ns: int


class Notices:
    """What was noticed, by kind and subject; of more than `most`, the one that was not seen for longest goes.

    Safe to use from two threads.
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._seen: dict[tuple[NoticeKind, str], _Seen] = {}  # the one seen last stands last
        self._lock = threading.Lock()

    def note(self, kind: NoticeKind, subject: str, text: str, now_ns: int) -> None:
        """Something was seen (again)."""
        with self._lock:
            known = self._seen.pop((kind, subject), None)
            count, first_ns = (1, now_ns) if known is None else (known.count + 1, known.first_ns)
            self._seen[kind, subject] = _Seen(text, count, first_ns, now_ns)
            if len(self._seen) > self.most:
                del self._seen[next(iter(self._seen))]

    def clear(self, kind: NoticeKind, subject: str) -> None:
        """It is seen to be mended."""
        with self._lock:
            self._seen.pop((kind, subject), None)

    def date(self, now_ns: int) -> None:
        """What was noted before the clock was known was noted just now."""
        with self._lock:
            for seen in self._seen.values():
                seen.first_ns = seen.last_ns = now_ns

    def read(self, now_ns: int) -> tuple[Notice, ...]:
        """A copy, the one seen last first."""
        with self._lock:
            seen_so_far = [(key, replace(seen)) for key, seen in reversed(self._seen.items())]
        return tuple(
            Notice(
                kind,
                subject,
                seen.text,
                seen.count,
                (now_ns - seen.first_ns) / NS_PER_S,
                (now_ns - seen.last_ns) / NS_PER_S,
            )
            for (kind, subject), seen in seen_so_far
        )
