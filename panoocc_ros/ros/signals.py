"""Ends of this process: what SIGINT, SIGTERM and SIGHUP do to it."""

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .waiting_threads import wait_briefly


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated here, so that everything cleans up; further ones do not disturb that.

    A signal that is ignored or handled already stays so, e.g. under nohup.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one hears signals
        yield
        return
    process, numbers = os.getpid(), (signal.SIGTERM, signal.SIGHUP)
    is_ending = False

    def end(number: int, _: Any) -> None:
        nonlocal is_ending
        if os.getpid() != process:  # a fork, which has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not is_ending:
            is_ending = True
            raise Terminated(number)

    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Ctrl-C ends the process at once and without a word: for imports, in which there is nothing to clean up yet."""
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run_main(module: str) -> int:
    """The exit code of `main()` of a module; Ctrl-C causes no traceback, neither in its imports nor after its end."""
    wait_briefly()
    with ended_by_interrupt():
        main = importlib.import_module(module).main
    code = int(main())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, and nothing more: what is in hand is brought to its end."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
