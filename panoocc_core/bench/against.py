"""Another implementation timed alternately with ours: one frame by one, the next by the other, in one run.

The other one is a program that is started once and told by lines on its standard input what to do:

- `load PATH`: read the frame in this file (`frame_file.write_frame`) and make it ready; not timed.
- `step`: compute it; timed, with the CPU time of the program's process and all its threads.

It answers each with the line `done` on its standard output, when all is computed; other lines are passed over.  It ends
when its input does.  `examples/bench_against.py` is such a program.
"""

import ctypes
import os
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import IO, Any

from ..types import Frame
from .frame_file import write_frame

LOAD, STEP, DONE = "load", "step", "done"
ANSWER_S, END_S = 600.0, 5.0
KEPT_LINES = 5  # of what a program says, for an error's text


class RivalError(RuntimeError):
    """The other implementation ended, or does not answer."""


@dataclass(frozen=True, slots=True)
class AgainstReport:
    """Medians over the counted frames; the ratios are medians of frame by frame, above 1: ours takes less."""

    ours: str
    theirs: str
    frames: int
    our_wall_ms: float
    our_cpu_ms: float
    their_wall_ms: float
    their_cpu_ms: float | None  # None: this system does not tell
    wall_ratio: float
    cpu_ratio: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Rival:
    """The other implementation as a running program.

    Args:
        command: the program and its words; it has to compute in this very process.
        threads: set as OMP_NUM_THREADS.
    """

    def __init__(self, command: Sequence[str], threads: int):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
            )
        except OSError as error:
            raise RivalError(f"{command[0]} cannot be started: {error}") from error
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def load(self, path: Path) -> None:
        self._ask(f"{LOAD} {path}")

    def step(self) -> None:
        self._ask(STEP)

    def cpu_s(self) -> float | None:
        """CPU time of the program so far, all threads; None: this system does not tell."""
        return cpu_seconds_of(self._process.pid)

    def close(self) -> None:
        """Close its input; if it does not end by itself, end it."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise RivalError(self._end()) from error
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            try:
                answer = self._lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise RivalError(f"no line {DONE!r} came within {ANSWER_S:g} s of {line!r}") from None
            if answer is None:
                raise RivalError(self._end())
            if answer == DONE:
                return
            self._said.append(answer)

    def _end(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        said = f"; the last that it said: {' | '.join(self._said)}" if self._said else ""
        return f"it ended with status {self._process.poll()} before it answered{said}"


@contextmanager
def running(command: Sequence[str], threads: int) -> Iterator[Rival]:
    """Inside, the other implementation runs.

    Raises:
        RivalError: it cannot be started, ends or does not answer.
    """
    rival = Rival(command, threads)
    try:
        yield rival
    finally:
        rival.close()


def cpu_seconds_of(pid: int) -> float | None:
    """CPU time of a process so far, by its clock (clock_getcpuclockid(3)); None where there is none."""
    clock = ctypes.c_int()
    try:
        if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
            return None
        return time.clock_gettime(clock.value)
    except (AttributeError, OSError):
        return None


def alternate(
    ours: tuple[str, Callable[[Frame], object]],
    theirs: tuple[str, Sequence[str]],
    frames: Sequence[Frame],
    threads: int,
    on_frame: Callable[[], object] = lambda: None,
) -> AgainstReport:
    """Both see every frame, in turn; the first frame is for warm-up.

    Args:
        ours: what it is called, and a step that returns when all is computed.
        theirs: what it is called, and the command.

    Raises:
        RivalError: the other one cannot be started, ends or does not answer.
        ValueError: fewer than two frames, or frames that cannot be written.
    """
    if len(frames) < 2:
        raise ValueError("two frames at least are needed: the first is for warm-up")
    walls, cpus = [], []
    with TemporaryDirectory() as folder, running(theirs[1], threads) as rival:
        for number, frame in enumerate(frames):
            path = Path(folder) / f"{number}.npz"
            write_frame(path, frame)
            rival.load(path)
            path.unlink()
            pair = (
                _timed(lambda frame=frame: ours[1](frame), time.process_time),  # type: ignore[misc]
                _timed(rival.step, rival.cpu_s),
            )
            if number:
                walls.append((pair[0][0], pair[1][0]))
                cpus.append((pair[0][1], pair[1][1]))
            on_frame()
    our_cpu, their_cpu = [our for our, _ in cpus if our is not None], [their for _, their in cpus if their is not None]
    return AgainstReport(
        ours=ours[0],
        theirs=theirs[0],
        frames=len(walls),
        our_wall_ms=1e3 * median(our for our, _ in walls),
        our_cpu_ms=1e3 * median(our_cpu),
        their_wall_ms=1e3 * median(their for _, their in walls),
        their_cpu_ms=1e3 * median(their_cpu) if their_cpu else None,
        wall_ratio=median(their / our for our, their in walls),
        cpu_ratio=median(their / our for our, their in zip(our_cpu, their_cpu)) if their_cpu else None,
    )


def _timed(work: Callable[[], object], cpu_s: Callable[[], float | None]) -> tuple[float, float | None]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), cpu_s()
    work()
    wall, end = time.perf_counter() - wall, cpu_s()
    return wall, None if cpu is None or end is None else end - cpu


def serve(prepare: Callable[[Path], object], step: Callable[[Any], object], lines: IO[str], answers: IO[str]) -> None:
    """The other side of the protocol.

    Args:
        prepare: makes what `step` takes of a file that `load` names.

    Raises:
        ValueError: a line that is not of the protocol.
    """
    loaded: object = None
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == LOAD and rest:
            loaded = prepare(Path(rest))
        elif word == STEP and loaded is not None:
            step(loaded)
        else:
            raise ValueError(f"{line.strip()!r} is none of: {LOAD} PATH, and then {STEP}")
        print(DONE, file=answers, flush=True)


def against_table(report: AgainstReport) -> str:
    """The report as text."""
    width = max(len(report.ours), len(report.theirs), 5)
    their_cpu = "-" if report.their_cpu_ms is None else f"{report.their_cpu_ms:.1f}"
    cpu_ratio = "-" if report.cpu_ratio is None else f"{report.cpu_ratio:.2f}"
    return "\n".join(
        (
            f"alternately, frame by frame, median of {report.frames} frames",
            f"{'':{width}s} {'wall ms':>10s} {'CPU ms':>10s}",
            f"{report.ours:{width}s} {report.our_wall_ms:10.1f} {report.our_cpu_ms:10.1f}",
            f"{report.theirs:{width}s} {report.their_wall_ms:10.1f} {their_cpu:>10s}",
            f"{'ratio':{width}s} {report.wall_ratio:10.2f} {cpu_ratio:>10s}   above 1: ours takes less",
        )
    )
