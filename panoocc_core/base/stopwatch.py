"""Times of named stages on a CPU and on CUDA."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Measures stages; what is not measured is absent.

    On a CPU: wall time and CPU time.  On CUDA: the device's time between two events, which keeps nobody waiting; CPU
    time, that of giving orders only, is left out.

    Args:
        device: where the stages run.
        exact: wait for the device at both ends of every stage, so that wall and CPU time are the stage's own on CUDA
            too.  Slows the network down; for `bench`.
        on_stage: called with the name of every stage when it begins, so that somebody outside sees where it hangs.
    """

    def __init__(
        self, device: torch.device, exact: bool = False, on_stage: Callable[[str], object] = lambda name: None
    ):
        self._device, self._exact, self._on_stage = device, exact, on_stage
        self._by_events = device.type == "cuda" and not exact
        self._wall_ms, self._cpu_ms = dict[str, float](), dict[str, float]()
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what runs inside; several stages of one name are added."""
        self._on_stage(name)
        if self._by_events:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stream = torch.cuda.current_stream(self._device)
            begin.record(stream)
            yield
            end.record(stream)
            self._events.append((name, begin, end))
            return
        self._settle()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        self._settle()
        _add(self._wall_ms, name, (time.perf_counter() - wall_s) * 1e3)
        _add(self._cpu_ms, name, (time.process_time() - cpu_s) * 1e3)

    def wall_ms(self) -> dict[str, float]:
        """Times by stage, in the order of their beginnings; on CUDA waits until the last stage is done."""
        if not self._by_events:
            return dict(self._wall_ms)
        times: dict[str, float] = {}
        for name, begin, end in self._events:
            end.synchronize()
            _add(times, name, begin.elapsed_time(end))
        return times

    def cpu_ms(self) -> dict[str, float]:
        """CPU time of the process by stage, all cores together; empty where it was not measured."""
        return dict(self._cpu_ms)

    def _settle(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _add(times: dict[str, float], name: str, value: float) -> None:
    times[name] = times.get(name, 0.0) + value
