"""One thread that always works on the newest job, so that slow work never holds up whoever brings the jobs."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Worker(Generic[Job]):
    """Runs `work(job)` in its own thread behind a one-slot mailbox.

    A job that has not begun when the next one comes is replaced by it: `submit` hands it back, to be counted.
    `merge(old, new)` may carry over what must not be lost with the old job.  An exception of `work` goes to
    `on_error` and the thread lives on, whatever that one does.  `on_begin` is called first, in the thread.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        on_error: Callable[[Exception], None],
        merge: Callable[[Job, Job], Job] = lambda old, new: new,
        name: str = "worker",
        now_s: Callable[[], float] = time.monotonic,
        on_begin: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_begin = on_begin
        self._work, self._on_error, self._merge, self._now_s = work, on_error, merge, now_s
        self._slot: Job | None = None
        self._closed = False
        self._begun_s: float | None = None  # when the job in work was begun
        self._changed = threading.Condition()
        # A daemon: a step that takes half a minute must not keep the process alive after Ctrl-C.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job is being worked on or waits."""
        with self._changed:
            return self._begun_s is not None or self._slot is not None

    @property
    def busy_s(self) -> float | None:
        """For how long the job in work has been worked on; None between jobs."""
        with self._changed:
            return None if self._begun_s is None else self._now_s() - self._begun_s

    def is_alive(self) -> bool:
        """Whether its thread has not ended yet."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> Job | None:
        """Leave a job; returns the one that it replaces, if any (the job itself once the worker is closed)."""
        with self._changed:
            if self._closed:
                return job
            replaced = self._slot
            self._slot = job if replaced is None else self._merge(replaced, job)
            self._changed.notify_all()
        return replaced

    def close(self, timeout_s: float) -> bool:
        """Take no more jobs; returns whether the running one ended in time."""
        with self._changed:
            self._closed, self._slot = True, None
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _next(self) -> Job | None:
        with self._changed:
            self._begun_s = None
            self._changed.wait_for(lambda: self._closed or self._slot is not None)
            job, self._slot = self._slot, None
            self._begun_s = None if job is None else self._now_s()
            return job

    def _run(self) -> None:
        self._on_begin()
        while (job := self._next()) is not None:
            try:
                self._work(job)
            except Exception as error:  # whatever went wrong with one job, the next one is worked on
                self._report(error)
            del job  # six images must not stay in memory until the next set comes
        del self._work, self._on_error, self._merge, self._on_begin  # whose owner would hold itself through this worker

    def _report(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:  # even a report that fails must not end the thread
            logging.getLogger(__name__).exception("the failure of a job could not be reported")
