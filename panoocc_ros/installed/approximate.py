"""Sets of images by message_filters.ApproximateTimeSynchronizer, in place of our own synchroniser.

No subscriptions and no node are needed: the messages are handed to its filters.  It knows no missing cameras, no clocks
and no deadlines: a set comes when an image of every camera lies within the slop, else none does.  What is added here
is a clock that went back, told as our own synchroniser tells it, for which it is made anew, and the counters.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from panoocc_core.geometry import NS_PER_S

from ..ros.parameter_fields import SettingsError
from ..streams.stream_time import StreamTime, gone_back
from ..streams.synchroniser import MessageSet

REMEDY = "install ros-$ROS_DISTRO-message-filters, or set sync_policy to own"


class ApproximateSynchroniser:
    """See the module; has what the assembler asks of `streams.synchroniser.Synchroniser`, and takes what that takes.

    Raises:
        SettingsError: message_filters is not installed.
    """

    def __init__(
        self, cameras: Sequence[str], reference: str, spread_ns: int, *, silent_ns: int, depth: int, **_unknown: Any
    ) -> None:
        self._cameras, self._reference, self._spread_ns = tuple(cameras), reference, spread_ns
        self.silent_ns, self.depth = silent_ns, depth
        self.missing, self.deadline_ns, self.reuse_age_ns = "drop", 0, 0  # of these it knows nothing
        self.restarts = 0  # how often the cameras' clock went back
        self.images_dropped: Counter[tuple[str, str]] = Counter()  # (reason, camera)
        self.sets_dropped: Counter[str] = Counter()  # it has no sets before they are complete
        self.last_drop: str | None = None
        self.last_texts: dict[str, str] = {}
        self._times = {name: StreamTime() for name in cameras}
        self._arrived_ns: dict[str, int] = {}
        self._done: list[MessageSet] = []
        self._begin()

    def add(self, camera: str, stamp_ns: int, message: Any, now_ns: int) -> list[MessageSet]:
        """Take one image and return the sets that it completes."""
        place, self._arrived_ns[camera] = self._times[camera].note(stamp_ns), now_ns
        if place == "straggler":
            self.images_dropped["clock_back", camera] += 1
            return []
        if place == "repeated":
            self.images_dropped["duplicate", camera] += 1
            return []
        if place == "late":
            self._judge_clock(camera, now_ns)
        self._trim(camera)
        self._filters[camera].signalMessage(_enveloped(stamp_ns, message))
        done, self._done = self._done, []
        return done

    def expire(self, now_ns: int) -> list[MessageSet]:
        """It knows no deadline."""
        return []

    def flush(self) -> list[MessageSet]:
        """No more images will come: what waits belongs to no set."""
        for name in self._cameras:
            self._lose("unmatched", name)
        return []

    @property
    def undecided(self) -> int:
        """How many images of the reference camera wait."""
        return len(self._queue(self._reference))

    @property
    def awaited(self) -> list[str]:
        """The cameras of which no image waits, while some of the reference camera do."""
        return [name for name in self._cameras if not self._queue(name)] if self.undecided else []

    def _begin(self) -> None:
        try:
            from message_filters import ApproximateTimeSynchronizer, SimpleFilter
        except ImportError as error:
            raise SettingsError(f"message_filters cannot be imported ({error}): {REMEDY}", "sync_policy") from error
        self._filters = {name: SimpleFilter() for name in self._cameras}
        # Sets lie closer together than the slop there; here an image may lie as far as that from the reference.
        slop_s = (self._spread_ns + 1) / NS_PER_S
        self._synchroniser = ApproximateTimeSynchronizer(list(self._filters.values()), self.depth, slop_s)
        self._synchroniser.registerCallback(self._take)

    def _take(self, *messages: Any) -> None:
        stamps_ns = {name: one.stamp_ns for name, one in zip(self._cameras, messages)}
        images = {name: one.message for name, one in zip(self._cameras, messages)}
        self._done.append(MessageSet(stamps_ns[self._reference], stamps_ns, images))
        oldest_ns = min(stamps_ns.values())
        for name in self._cameras:  # what lies before a set would come to nothing, but stay
            if not self._times[name].behind:  # else they may be the first ones of a clock that went back
                self._lose("unmatched", name, lambda stamp_ns: stamp_ns < oldest_ns)

    def _trim(self, camera: str) -> None:
        """It drops the oldest images of a full queue itself; so that they are counted, here."""
        queue = self._queue(camera)
        while len(queue) >= self.depth:
            del queue[min(queue)]
            self.images_dropped["queue_full", camera] += 1

    def _judge_clock(self, camera: str, now_ns: int) -> None:
        """After a late image: go on with what has come since, if the clock went back."""
        living = {name: self._times[name] for name, ns in self._arrived_ns.items() if now_ns - ns < self.silent_ns}
        gone = gone_back(living, dict.fromkeys(living, self._spread_ns), camera)
        if gone == "none":
            return
        names = self._cameras if gone == "all" else (camera,)
        for name in names:
            self._times[name].restart()
            self._lose("clock_back", name, self._times[name].is_left)
        if gone == "all":
            self.restarts += 1
            kept = sorted((ns, name) for name in names for ns in self._queue(name))
            queues = {name: self._queue(name) for name in names}
            self._begin()
            for stamp_ns, name in kept:
                self._filters[name].signalMessage(queues[name][stamp_ns])

    def _lose(self, reason: str, camera: str, is_lost: Callable[[int], bool] = lambda stamp_ns: True) -> None:
        queue = self._queue(camera)
        for stamp_ns in [one for one in queue if is_lost(one)]:
            del queue[stamp_ns]
            self.images_dropped[reason, camera] += 1

    def _queue(self, camera: str) -> dict[int, Any]:
        """The images that wait, by stamp."""
        queue: dict[int, Any] = self._synchroniser.queues[self._cameras.index(camera)]
        return queue


def _enveloped(stamp_ns: int, message: Any) -> Any:
    """A message with a header that it understands, whosever class the message is of."""
    from rclpy.time import Time

    header = SimpleNamespace(stamp=Time(nanoseconds=stamp_ns).to_msg())
    return SimpleNamespace(header=header, stamp_ns=stamp_ns, message=message)
