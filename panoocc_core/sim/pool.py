"""Worker processes that render streets: one thread each, and none outlives its parent or its use."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
import torch

GRACE_S = 5  # for a result on its way, and for unwinding
WORKER_KILLED = "a worker process was killed, e.g. for want of memory"


class WorkerPool:
    """Processes that work on what is submitted; closing them does not wait for what they are in the middle of.

    Args:
        initializer: called with `arguments` in every process before its first work.
        unwinds: work that is given up cleans up, e.g. removes half a file; else its process ends on the spot.
    """

    def __init__(
        self,
        workers: int,
        initializer: Callable[..., object] | None = None,
        *arguments: Any,
        unwinds: bool = True,
    ):
        self.workers = workers
        # Forking a process that runs threads, as torch and ROS do, may hang; a spawned one starts clean.
        self._context = _KnownProcesses()
        self._pool = ProcessPoolExecutor(workers, self._context, _begin, (unwinds, initializer, *arguments))

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Begin some work; work and arguments are pickled."""
        # Ctrl-C is for the parent, which ends its workers: they inherit that they do not hear it, from their start on.
        resource_tracker.ensure_running()  # its start would undo the blocking
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(_worked, work, *arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """End the workers; what they are in the middle of is given up."""
        for process in self._context.processes:
            if process.pid is not None:  # Ctrl-C may have come before it was started
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


class _KnownProcesses(SpawnContext):
    """Remembers the processes that were made, which an executor does not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[BaseProcess] = []

    def Process(self, *arguments: Any, **options: Any) -> BaseProcess:  # type: ignore[override]
        process = super().Process(*arguments, **options)
        self.processes.append(process)
        return process


_is_working = False  # of this worker process
_is_told_to_end = False
_unwinds = True


def _begin(unwinds: bool, initializer: Callable[..., object] | None, *arguments: Any) -> None:
    global _unwinds
    _unwinds = unwinds
    signal.signal(signal.SIGTERM, _on_sigterm)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if initializer is not None:
        initializer(*arguments)


def _worked(work: Callable[..., Any], *arguments: Any) -> Any:
    global _is_working
    _is_working = True
    try:
        if _is_told_to_end:  # what waits for this process already cannot be called back
            raise SystemExit(1)
        return work(*arguments)
    finally:
        _is_working = False


def _on_sigterm(*_: object) -> None:
    """Give the work up.  A result that is on its way is sent first: half of one would block the parent."""
    global _is_told_to_end
    if _is_told_to_end or (_is_working and not _unwinds):
        os._exit(1)
    _is_told_to_end = True
    signal.alarm(GRACE_S)  # ends the process, where the parent is broken and takes no result any more
    if _is_working:
        raise SystemExit(1)


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, and they would render on, or wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # nobody else ends this process
