"""When a player sends what: by the clock, or one set of images at a time."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Stamped(Protocol):
    """What pacing needs to know about a message of a bag."""

    @property
    def topic(self) -> str: ...

    @property
    def stamp_ns(self) -> int: ...


Message = TypeVar("Message", bound=Stamped)


class Pacer:
    """Turns message times into waiting times: the first message is due at once, the rest at `rate` times real time."""

    def __init__(self, rate: float, now_s: Callable[[], float] = time.monotonic) -> None:
        if not rate > 0:
            raise ValueError(f"rate must be positive, not {rate}")
        self._rate, self._now_s = rate, now_s
        self._start: tuple[int, float] | None = None

    def wait_s(self, stamp_ns: int) -> float:
        """Seconds until the message is due; 0 or less when it is due now."""
        if self._start is None:
            self._start = (stamp_ns, self._now_s())
        first_ns, begun_s = self._start
        return begun_s + (stamp_ns - first_ns) * 1e-9 / self._rate - self._now_s()


def steps(
    messages: Iterable[Message], image_topics: frozenset[str], tf_topics: frozenset[str], lead_ns: int
) -> Iterator[list[Message]]:
    """Messages in bag order, cut where an image topic comes for the second time: one set of images a step.

    Transforms up to `lead_ns` after the cut are moved ahead of it, because a set's last image may wait for the
    transform that the bag holds only behind the next set's first image.
    """
    stream = _Pushback(messages)
    while group := _one_set(stream, image_topics):
        yield group + _transforms_ahead(stream, tf_topics, lead_ns)


class _Pushback(Generic[Message]):
    """An iterator to which messages can be given back."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = iter(messages)
        self._returned: deque[Message] = deque()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        return self._returned.popleft() if self._returned else next(self._messages)

    def give_back(self, messages: list[Message]) -> None:
        self._returned.extendleft(reversed(messages))


def _one_set(stream: _Pushback[Message], image_topics: frozenset[str]) -> list[Message]:
    group: list[Message] = []
    seen: set[str] = set()
    for message in stream:
        if message.topic in seen:
            stream.give_back([message])
            break
        if message.topic in image_topics:
            seen.add(message.topic)
        group.append(message)
    return group


def _transforms_ahead(stream: _Pushback[Message], tf_topics: frozenset[str], lead_ns: int) -> list[Message]:
    ahead: list[Message] = []
    others: list[Message] = []
    limit_ns: int | None = None
    for message in stream:
        limit_ns = message.stamp_ns + lead_ns if limit_ns is None else limit_ns
        if message.stamp_ns > limit_ns:
            others.append(message)
            break
        (ahead if message.topic in tf_topics else others).append(message)
    stream.give_back(others)
    return ahead
