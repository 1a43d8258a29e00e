"""What images of simulated streets cost."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from ..sim.camera import Rig
from ..sim.renderer import Renderer
from ..sim.scene import Scene
from .machine import computing_threads, cpu_name


@dataclass(frozen=True, slots=True)
class RenderReport:
    """What images of simulated streets cost: one thread of a CPU, medians over sets of one image a camera."""

    cameras: int
    size_hw: tuple[int, int]  # of the first camera
    hardware: str
    sets: int  # counted
    wall_s: float  # a set
    cpu_s: float  # a set
    sets_per_cpu_s: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench_rendering(
    rig: Rig, seeds: Sequence[int] = (0, 1, 2), sets: int = 3, on_set: Callable[[], object] = lambda: None
) -> RenderReport:
    """Render sets of images on every seed's street, a second apart; what is made once a street is not counted, nor is
    its first set."""
    wall_s, cpu_s = [], []
    with computing_threads(1):
        for seed in seeds:
            renderer = Renderer(Scene(seed, sets + 2.0))
            renderer.pictures(rig, 0.5)
            for number in range(sets):
                wall, cpu = time.perf_counter(), time.process_time()
                renderer.pictures(rig, 1.5 + number)
                wall_s.append(time.perf_counter() - wall)
                cpu_s.append(time.process_time() - cpu)
                on_set()
    return RenderReport(
        cameras=len(rig),
        size_hw=(rig[0].height, rig[0].width),
        hardware=f"{cpu_name()}, one thread, torch {torch.__version__}",
        sets=len(cpu_s),
        wall_s=median(wall_s),
        cpu_s=median(cpu_s),
        sets_per_cpu_s=1 / median(cpu_s),
    )


def rendering_table(report: RenderReport) -> str:
    """The report as text."""
    height, width = report.size_hw
    lines = [
        f"simulated images on {report.hardware}, median of {report.sets} sets of {report.cameras} of {width}x{height}",
        f"{'stage':12s} {'wall ms':>10s} {'CPU ms':>10s}",
        f"{'rendering':12s} {1e3 * report.wall_s:10.1f} {1e3 * report.cpu_s:10.1f}",
        f"{report.sets_per_cpu_s:.1f} sets per CPU second",
    ]
    return "\n".join(lines)
