"""Time and memory of a network, as ratios measured in one run: stage by stage, and against the machine's own speed."""

import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import cv2
import torch

from ..network import Network
from ..ops.deform_attn import deform_attn, reference
from ..ops.interpolation import ring_cells
from ..sim.camera import Rig
from ..sim.renderer import Renderer
from ..sim.scene import Scene
from ..stream import OccupancyStream
from ..types import Frame

GEMM_SIDE = 2048


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Medians over the counted frames."""

    model: str
    device: str
    precision: str
    hardware: str
    frames: int
    wall_ms: dict[str, float]  # stage -> median; "total" is their sum
    cpu_ms: dict[str, float]
    gemm_gflops: float  # the machine's speed with one large matrix product of the same precision, in this run
    gemm_equivalents: float  # how many GFLOP of such products one frame takes: independent of the machine's speed
    sampling_ratio: float  # our deformable attention against one grid_sample a level, wall time, below 1 is faster
    peak_memory_mb: float
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    with one_thread():
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch and OpenCV compute with one thread."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def bench(network: Network, frames: Sequence[Frame], warmup: int, on_frame: Callable[[], object]) -> BenchReport:
    """Run frames through a stream; the first `warmup` are not counted.

    Raises:
        ValueError: no frame is left to be counted.
    """
    counted = len(frames) - warmup
    if counted < 1:
        raise ValueError(f"{len(frames)} frames and {warmup} for warm-up leave none to measure; give a longer bag")
    stream, results = OccupancyStream(network, exact_times=True), []
    for frame in frames:
        results.append(stream.step(frame))
        on_frame()
    stages = list(results[0].timings_ms)
    wall = {stage: median(r.timings_ms[stage] for r in results[warmup:]) for stage in stages}
    cpu = {stage: median(r.cpu_ms[stage] for r in results[warmup:]) for stage in stages}
    wall["total"], cpu["total"] = sum(wall.values()), sum(cpu.values())
    speed = gemm_gflops(network.device, network.dtype)
    return BenchReport(
        model=network.config.name,
        device=str(network.device),
        precision=str(network.dtype).removeprefix("torch."),
        hardware=hardware(network.device),
        frames=counted,
        wall_ms=wall,
        cpu_ms=cpu,
        gemm_gflops=speed,
        gemm_equivalents=wall["total"] / 1e3 * speed,
        sampling_ratio=sampling_ratio(network.device),
        peak_memory_mb=peak_memory_mb(network.device),
    )


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median wall time after one run for warm-up."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return median(times[1:])


@torch.inference_mode()
def gemm_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s (multiply and add counted as two) of a square matrix product."""
    a = torch.randn(GEMM_SIDE, GEMM_SIDE, device=device).to(dtype)
    return 2 * GEMM_SIDE**3 / _seconds(lambda: a @ a, device) / 1e9


@torch.inference_mode()
def sampling_ratio(device: torch.device, queries: int = 4000) -> float:
    """Time of our deformable attention divided by that of one `grid_sample` a level, the usual torch formulation."""
    shapes = ((112, 200), (56, 100), (28, 50), (14, 25), (7, 13))
    heads, channels, points = 8, 32, 8
    draw = torch.Generator().manual_seed(0)
    cells = sum((rows + 2) * (columns + 2) for rows, columns in shapes)
    values = torch.randn(1, cells, heads, channels, generator=draw).to(device)
    values.index_fill_(1, ring_cells(shapes, device), 0)
    offsets = torch.rand(queries, heads, len(shapes), points, 2, generator=draw).to(device)
    offsets = offsets * offsets.new_tensor([(columns, rows) for rows, columns in shapes])[:, None]  # all over the maps
    weights = torch.rand(queries, heads, len(shapes), points, generator=draw).to(device)
    inputs = (values, shapes, offsets.new_zeros(queries, 1, 2), offsets, weights)
    return _seconds(lambda: deform_attn(*inputs), device) / _seconds(lambda: reference.deform_attn(*inputs), device)


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far: of the device's tensors on CUDA, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def hardware(device: torch.device) -> str:
    """What the numbers were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(report: BenchReport) -> str:
    """The report as text."""
    lines = [
        f"{report.model} on {report.hardware}, {report.precision}, median of {report.frames} frames",
        f"{'stage':12s} {'wall ms':>10s} {'CPU ms':>10s} {'share':>7s}",
    ]
    total = report.cpu_ms["total"]
    for stage, wall in report.wall_ms.items():
        cpu = report.cpu_ms[stage]
        lines.append(f"{stage:12s} {wall:10.1f} {cpu:10.1f} {100 * cpu / total:6.1f}%")
    lines += [
        f"matrix products in this run: {report.gemm_gflops:.0f} GFLOP/s; a frame takes as long as "
        f"{report.gemm_equivalents:.0f} GFLOP of them",
        f"deformable attention takes {report.sampling_ratio:.2f} of the time of one grid_sample a level",
        f"peak memory {report.peak_memory_mb:.0f} MB",
        *report.notes,
    ]
    return "\n".join(lines)


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
