"""Callbacks of a node that may fail without ending it."""

import functools
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .progress import Progress
from .throttle import ProblemLog


class Guard:
    """Wraps callbacks: what one of them raises is counted and logged, and the node goes on.  For one thread.

    What fails once ROS has been shut down is no fault: nothing can be sent any more.

    Args:
        is_running: whether ROS has not been shut down (`node.context.ok`).
    """

    def __init__(self, log: ProblemLog, is_running: Callable[[], bool]) -> None:
        self._log, self._is_running = log, is_running
        self.failures: Counter[str] = Counter()  # by the callback's name
        self.last_error = ""
        self.progress = Progress()  # which callback is in work

    @property
    def errors(self) -> int:
        """How many calls have failed."""
        return self.failures.total()

    def __call__(self, callback: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The callback of a subscription or a timer, guarded; `name` says in the log which it is."""

        @functools.wraps(callback)
        def guarded(*arguments: Any) -> None:
            outer = self.progress.begin(name)
            try:
                callback(*arguments)
            except Exception as error:
                if self._is_running():
                    self._note(name, error)
            finally:
                self.progress.end(outer)

        return guarded

    def service(self, callback: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
        """The callback of a service whose response has `success` and `message`, guarded."""

        @functools.wraps(callback)
        def guarded(request: Any, response: Any) -> Any:
            self.progress.begin(name)
            try:
                return callback(request, response)
            except Exception as error:
                response.success, response.message = False, self._note(name, error)
                return response
            finally:
                self.progress.end()

        return guarded

    def _note(self, name: str, error: Exception) -> str:
        self.failures[name] += 1
        place = traceback.extract_tb(error.__traceback__)[-1]
        self.last_error = f"{name}: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        self._log.error(f"callback {name}", f"a callback failed: {self.last_error}")
        return self.last_error
