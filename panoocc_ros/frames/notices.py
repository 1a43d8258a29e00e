"""Oddities of the input, each told once however often it comes: bounded, newest first."""

from dataclasses import dataclass

from panoocc_core.geometry import NS_PER_S

from .sets import Notice, NoticeKind


@dataclass(slots=True)
class _Seen:
    text: str
    count: int
    first_ns: int
    last_ns: int


class Notices:
    """What was noticed, by kind and subject; of more than `most`, the one that was not seen for longest goes."""

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._seen: dict[tuple[NoticeKind, str], _Seen] = {}  # the one seen last stands last

    def note(self, kind: NoticeKind, subject: str, text: str, now_ns: int) -> None:
        """Something was seen (again)."""
        known = self._seen.pop((kind, subject), None)
        count, first_ns = (1, now_ns) if known is None else (known.count + 1, known.first_ns)
        self._seen[kind, subject] = _Seen(text, count, first_ns, now_ns)
        if len(self._seen) > self.most:
            del self._seen[next(iter(self._seen))]

    def clear(self, kind: NoticeKind, subject: str) -> None:
        """It is seen to be mended."""
        self._seen.pop((kind, subject), None)

    def read(self, now_ns: int) -> tuple[Notice, ...]:
        """A copy, the one seen last first."""
        return tuple(
            Notice(
                kind,
                subject,
                seen.text,
                seen.count,
                (now_ns - seen.first_ns) / NS_PER_S,
                (now_ns - seen.last_ns) / NS_PER_S,
            )
            for (kind, subject), seen in reversed(self._seen.items())
        )
