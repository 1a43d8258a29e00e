"""The node for many minutes: whether its memory grows once it is warm, whether grids keep coming, and how late."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from panoocc_core.pictures.charts import new_figure, styled, write_figure

from ..bags.recording import read_recording
from ..demo.processes import Children
from ..health.latency import summarise
from .run import (
    GRIDS,
    LAST_S,
    NODE,
    SPARE_S,
    START_S,
    Load,
    drops_told,
    environment_with,
    ours,
    reasons,
    received_grids,
    ros_arguments,
    sampled,
    sender_command,
)

SAMPLE_S = 1.0
LISTEN_S = 6.0  # to what the node says in the end
BLOCKS = 12  # memory moves in steps; means of blocks are nearly independent of each other
STALL_PERIODS, STALL_S = 10, 5.0  # without a grid, whichever is longer
MAX_GROWTH_MB_H = 20.0
SURE = 0.95


@dataclass(frozen=True, slots=True)
class Growth:
    """Memory of the warm node over time: a line through the means of blocks."""

    mb_per_hour: float
    uncertainty_mb_per_hour: float  # half the interval in which the slope lies with the probability SURE

    def is_sure(self, limit_mb_per_hour: float) -> bool:
        """Whether it certainly grows faster than this."""
        return self.mb_per_hour - self.uncertainty_mb_per_hour > limit_mb_per_hour


@dataclass(frozen=True, slots=True)
class SoakReport:
    """What became of the node; times in seconds since the first images."""

    rate_hz: float
    warm_from_s: float  # the end of the warm-up, which begins with the first grid
    time_s: tuple[float, ...]  # of the samples of memory and CPU
    memory_mb: tuple[float, ...]
    cpu_cores: tuple[float, ...]  # since the sample before
    growth: Growth
    sets_sent: int
    grid_time_s: tuple[float, ...]  # when each grid was received
    latency_ms: tuple[float, ...]  # of each, from the stamp of its newest image
    dropped: dict[str, int]  # reason -> sets, as the node counts them
    longest_gap_s: float  # without a grid, from the first image sent to the last
    limit_mb_per_hour: float

    @property
    def drops(self) -> int:
        """Sets that gave no grid."""
        return max(0, self.sets_sent - len(self.grid_time_s))

    @property
    def faults(self) -> tuple[str, ...]:
        """What must not be, in words."""
        found = []
        if self.growth.is_sure(self.limit_mb_per_hour):
            found.append(f"memory grows: {growth_text(self.growth)} after warm-up")
        if not self.grid_time_s:
            found.append("no grid came")
        elif self.longest_gap_s > max(STALL_S, STALL_PERIODS / self.rate_hz):
            found.append(f"it stalled: no grid for {self.longest_gap_s:.1f} s")
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        warm = [ms for at_s, ms in zip(self.grid_time_s, self.latency_ms) if at_s >= self.warm_from_s]
        latency = summarise(warm) if warm else None
        return asdict(self) | {"drops": self.drops, "faults": self.faults, "warm_latency": latency}


def growth_of(time_s: NDArray[np.float64], memory_mb: NDArray[np.float64]) -> Growth:
    """The slope of memory over time.

    Raises:
        ValueError: there are fewer samples than three.
    """
    if len(time_s) < 3:
        raise ValueError(f"{len(time_s)} samples of memory say nothing of its growth: run longer")
    blocks = np.array_split(np.arange(len(time_s)), min(BLOCKS, len(time_s)))
    x, y = (np.array([values[block].mean() for block in blocks]) for values in (time_s / 3600, memory_mb))
    line = stats.linregress(x, y)
    return Growth(float(line.slope), float(line.stderr * stats.t.ppf((1 + SURE) / 2, len(x) - 2)))


def growth_text(growth: Growth) -> str:
    """The slope in words."""
    return f"{growth.mb_per_hour:+.1f} +- {growth.uncertainty_mb_per_hour:.1f} MB an hour"


def soak(
    load: Load,
    out: Path,
    profile: Path | None,
    warm_up_s: float,
    limit_mb_per_hour: float = MAX_GROWTH_MB_H,
    on_second: Callable[[], object] = lambda: None,
) -> SoakReport:
    """Send images to the node for a long time, and see what becomes of it.

    Args:
        out: an empty folder for logs and recording.
        profile: of Fast DDS; None takes its defaults.

    Raises:
        ProcessError: one of the processes failed.
        ValueError: the time after the warm-up is too short.
    """
    sent, recorded, told = out / "sent.json", out / "recorded.mcap", out / "diagnostics.mcap"
    samples: list[tuple[float, float, float]] = []
    with Children(environment_with(profile), out) as children:
        node = children.start("node", [*ours("occupancy_node"), *ros_arguments(load)])
        recorder = children.start("recorder", [*ours("record_bag"), GRIDS, "--out", str(recorded)])
        sender = children.start("sender", sender_command(load, sent))
        on_tick = sampled(node, samples, on_second)
        children.wait(sender, START_S + 2 * load.seconds + SPARE_S, SAMPLE_S, on_tick=on_tick)
        time.sleep(LAST_S)
        if recorder.stop(SPARE_S) != 0:
            raise recorder.fail("could not write the recording")
        listener = children.start("listener", [*ours("record_bag"), "/diagnostics", "--out", str(told)])
        time.sleep(LISTEN_S)
        listener.stop(SPARE_S)
    begin_s, end_s = json.loads(sent.read_text())["span_s"]
    offset_s = time.time() - time.monotonic()  # the recorder has the system's clock
    grids = [(at_s - offset_s - begin_s, ms) for at_s, ms in received_grids(recorded)]
    dropped = drops_told(read_recording(told, NODE))
    return report_of(load, samples, grids, dropped, begin_s, end_s, warm_up_s, limit_mb_per_hour)


def report_of(
    load: Load,
    samples: Sequence[tuple[float, float, float]],
    grids: Sequence[tuple[float, float]],
    dropped: dict[str, int],
    begin_s: float,
    end_s: float,
    warm_up_s: float,
    limit_mb_per_hour: float,
) -> SoakReport:
    """What the measurements say.

    Args:
        samples: (instant, resident memory, CPU time so far) of the node.
        dropped: reason -> sets.
        grids: (seconds since `begin_s`, milliseconds since its newest image).
        begin_s, end_s: instants between which images were sent.
    """
    at, memory, cpu = np.array([one for one in samples if begin_s <= one[0] <= end_s]).reshape(-1, 3).T
    cores = np.diff(cpu, prepend=cpu[:1]) / np.diff(at, prepend=at[:1] - SAMPLE_S)
    came_s = [at_s for at_s, _ in grids]
    warm_from_s = warm_up_s + (came_s[0] if came_s else 0.0)  # before its first grid nothing gets warm
    is_warm = at >= begin_s + warm_from_s
    return SoakReport(
        rate_hz=load.rate_hz,
        warm_from_s=warm_from_s,
        time_s=tuple((at - begin_s).round(2).tolist()),
        memory_mb=tuple(memory.round(2).tolist()),
        cpu_cores=tuple(cores.round(3).tolist()),
        growth=growth_of(at[is_warm], memory[is_warm]),
        sets_sent=load.sets,
        grid_time_s=tuple(round(time_s, 3) for time_s in came_s),
        latency_ms=tuple(round(ms, 1) for _, ms in grids),
        dropped=dropped,
        longest_gap_s=float(np.diff([0.0, *came_s, max([end_s - begin_s, *came_s])]).max()),
        limit_mb_per_hour=limit_mb_per_hour,
    )


def soak_table(report: SoakReport) -> str:
    """The report as text: a line for each quarter of the time, and the verdict."""
    edges = np.linspace(0, max((*report.time_s, 1.0)), 5)
    lines = [f"{'seconds':>13s} {'memory MB':>10s} {'CPU cores':>10s} {'grids':>6s} {'p50 ms':>8s} {'p95 ms':>8s}"]
    at, came = np.array(report.time_s), np.array(report.grid_time_s)
    for low, high in zip(edges, edges[1:]):
        now, here = (at >= low) & (at <= high), (came >= low) & (came <= high)
        memory_mb, cores = (np.array(values)[now].mean() for values in (report.memory_mb, report.cpu_cores))
        late = np.percentile(np.array(report.latency_ms)[here], (50, 95)) if here.any() else (np.nan, np.nan)
        lines.append(
            f"{low:6.0f}-{high:6.0f} {memory_mb:10.1f} {cores:10.2f} {here.sum():6d} {late[0]:8.1f} {late[1]:8.1f}"
        )
    lines.append(f"memory from second {report.warm_from_s:.0f} on, after warm-up: {growth_text(report.growth)}")
    lines.append(
        f"{report.sets_sent} sets sent, {len(report.grid_time_s)} grids received, {report.drops} without a grid; "
        f"longest time without one {report.longest_gap_s:.1f} s; the node says why: {reasons(report.dropped)}"
    )
    return "\n".join([*lines, *(f"FAULT: {fault}" for fault in report.faults)])


def draw_soak(report: SoakReport, path: Path) -> None:
    """Memory, latency and sets without a grid over time, as a picture."""
    with styled():
        figure = new_figure(9, 7)
        memory, latency, drops = figure.subplots(3, 1, sharex=True)
        memory.plot(np.array(report.time_s) / 60, report.memory_mb)
        memory.axvspan(0, report.warm_from_s / 60, alpha=0.15, label="warm-up")
        memory.set(ylabel="memory (MB)", title=f"{growth_text(report.growth)} after warm-up", ylim=(0, None))
        memory.legend(loc="lower right")
        came = np.array(report.grid_time_s) / 60
        latency.plot(came, report.latency_ms, ".", markersize=3)
        latency.set(ylabel="newest image to grid (ms)", ylim=(0, None))
        due = np.arange(1, report.sets_sent + 1) / report.rate_hz / 60
        drops.plot(due, np.arange(1, len(due) + 1) - np.searchsorted(came, due, side="right"))
        drops.set(ylabel="sets without a grid", xlabel="minutes")
        write_figure(path, figure)
