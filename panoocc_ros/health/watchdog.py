"""Sees from a thread of its own when another one hangs, and at what: its stack goes into the log, once."""

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..ros.progress import Progress
from ..ros.throttle import RateLimit, bounded

LOOK_S = 0.5
STACKS_S = 60.0  # at most so often a stack of one thread is told; a hang that begins earlier is told then
MAX_STACK = 6000  # characters; the innermost calls are kept
CALLBACK_LATE_S = 5.0  # no callback may take longer


@dataclass(frozen=True, slots=True)
class Watched:
    """One thread: whether it hangs, and what is done about it."""

    progress: Progress
    why_late: Callable[[tuple[str, float]], str | None]  # of `Progress.now`: a sentence while it hangs
    alarm: Callable[[str], object] = lambda text: None  # called at every look while it hangs


class Watchdog:
    """Looks at some threads from time to time.

    Args:
        tell: takes what is to stand in the log: the sentence and the stack of a thread that hangs.
    """

    def __init__(self, watched: Sequence[Watched], tell: Callable[[str], object]) -> None:
        self._watched, self._tell = watched, tell
        self._is_told = [False] * len(watched)
        self._has_failed = False
        self._limits = [RateLimit(1 / STACKS_S) for _ in watched]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Look once."""
        for number, one in enumerate(self._watched):
            now = one.progress.now
            text = None if now is None else one.why_late(now)
            if text is None:
                self._is_told[number] = False
                continue
            if not self._is_told[number] and self._limits[number].open():
                self._is_told[number] = True
                self._tell(f"{text}; it is at\n{stack_of(one.progress.thread_id)}")
            one.alarm(text)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            try:
                self.look()
            except Exception as error:  # of any kind: whoever watches must not end unseen
                self._on_failure(error)

    def _on_failure(self, error: Exception) -> None:
        """Tell the first failure of all, if that can be told."""
        if not self._has_failed:
            self._has_failed = True
            with suppress(Exception):
                self._tell(f"the watchdog failed, and goes on: {''.join(traceback.format_exception(error)).rstrip()}")


def why_late(now: tuple[str, float]) -> str | None:
    """A sentence about a callback that takes too long; None about any other.

    Args:
        now: the callback in work, and for how long (s).
    """
    name, lasting_s = now
    if lasting_s < CALLBACK_LATE_S:
        return None
    return f"the node's own thread has been in one callback, {name}, for {lasting_s:.0f} s: nothing is heard meanwhile"


def stack_of(thread_id: int | None) -> str:
    """The Python stack of a thread, the innermost call last; also while it is in code that is not Python."""
    frame = sys._current_frames().get(thread_id or 0)
    if frame is None:
        return "an end: the thread is not there any more"
    return bounded("".join(traceback.format_stack(frame)).rstrip()[-MAX_STACK:], MAX_STACK)
