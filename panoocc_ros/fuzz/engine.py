"""Hypothesis over one reader after another: what nobody handles, what takes too long, and how much memory it took."""

import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from .targets import Target, targets

SLOW_S = 30.0  # no input takes so long
MEMORY_MB = 512  # nor do all of one reader together take so much more than there was before
MAX_SHOWN = 2000  # characters of an input


@dataclass(frozen=True, slots=True)
class Fault:
    """What a reader let through, with the smallest input that was found."""

    error: str
    where: str  # the innermost lines of ours, and those below
    input: str

    def __str__(self) -> str:
        return f"{self.error}\n{self.where}\n  input: {self.input}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reader after its inputs."""

    name: str
    inputs: int
    refused: int  # with an error that it may raise
    seconds: float
    slowest_s: float
    memory_mb: float  # by which the process's peak rose meanwhile
    fault: Fault | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class MemoryFault(Exception):
    """More memory than the inputs of one reader may take."""


def fuzz(
    inputs: int,
    number: int,
    only: Collection[str] = (),
    on_target: Callable[[str, int], object] = lambda name, inputs: None,
    on_inputs: Callable[[int], object] = lambda done: None,
) -> Iterator[Finding]:
    """Each reader under its share of the inputs; the same `number` gives the same ones.

    Args:
        only: names of readers; none: all.

    Raises:
        ValueError: a name is no reader's.
    """
    with tempfile.TemporaryDirectory(prefix="panoocc_fuzz_") as folder:
        known = targets(Path(folder))
        if unknown := [name for name in only if name not in known]:
            raise ValueError(f"there is no reader {', '.join(unknown)}; there are {', '.join(known)}")
        chosen = {name: target for name, target in known.items() if not only or name in only}
        shares = sum(target.share for target in chosen.values())
        for name, target in chosen.items():
            count = max(1, round(inputs * target.share / shares))
            on_target(name, count)
            yield _fuzz_one(name, target, count, number, on_inputs)


def peak_mb() -> float:
    """Most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _fuzz_one(name: str, target: Target, count: int, number: int, on_inputs: Callable[[int], object]) -> Finding:
    done, refused, slowest_s, before_mb, start_s = 0, 0, 0.0, peak_mb(), time.monotonic()
    failed: list[Any] = []  # the last input that failed, which is the smallest one when the search ends

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(target.inputs)
    def check(value: Any) -> None:
        nonlocal done, refused, slowest_s
        done += 1
        on_inputs(1)
        begin_s = time.monotonic()
        try:
            with _at_most(SLOW_S):
                target.read(value)
        except target.refuses:
            refused += 1
        except BaseException:
            failed[:] = [value]
            raise
        slowest_s = max(slowest_s, time.monotonic() - begin_s)
        if peak_mb() > before_mb + MEMORY_MB:
            failed[:] = failed or [value]  # the peak stays: every smaller input seems to fail after it
            raise MemoryFault(f"more than {MEMORY_MB} MB were taken")

    fault = None
    try:
        check()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if not failed:  # Hypothesis itself failed
            raise
        fault = Fault(f"{type(error).__name__}: {error}", _innermost(error), repr(failed[0])[:MAX_SHOWN])
    return Finding(name, done, refused, time.monotonic() - start_s, slowest_s, peak_mb() - before_mb, fault)


def _innermost(error: BaseException, most: int = 4) -> str:
    """The last lines of code on the way to an error."""
    return "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)[-most:])).rstrip()


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """A block that is ended by a TimeoutError; in the main thread, where Python hears signals."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def table(findings: Sequence[Finding]) -> str:
    """The findings as text."""
    head = f"{'reader':>17s} {'inputs':>8s} {'refused':>8s} {'seconds':>8s} {'slowest ms':>10s} {'memory MB':>9s}"
    lines = [
        f"{f.name:>17s} {f.inputs:8d} {f.refused:8d} {f.seconds:8.1f} {1e3 * f.slowest_s:10.1f} {f.memory_mb:9.1f}"
        f"{'' if f.fault is None else '  FAULT'}"
        for f in findings
    ]
    return "\n".join([head, *lines])
