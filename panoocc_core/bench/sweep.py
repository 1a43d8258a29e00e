"""How the cost of a network grows with its voxels, cameras, images and history: derived configurations, seeded weights.

The images are noise, as no time depends on what they show; the cameras stand in a ring.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import ModelConfig
from ..geometry import NS_PER_S, rigid
from ..memory import states_kept
from ..pictures.charts import LINES, new_figure, styled, write_figure
from ..stream import OccupancyStream
from ..types import CameraImage, Frame
from ..voxels import token_count
from ..weights.checkpoint import load_model
from .capacity import peak_mb
from .floor import TOTAL, floors, works
from .measured import GRID_ALONE, Effort, device_rates, facts_of, steady, stream_times

FRAMES, SPEED_MPS = 3, 8.0
FIELD_DEG, MOUNT_HEIGHT_M = 70.0, 1.6
EFFORT = Effort(frames=4)
EGO_FROM_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One derived network."""

    axis: str
    value: str  # as a reader knows it
    size: float  # along the axis: coarse voxels, cameras, pixels of one image, states
    wall_ms: float
    cpu_ms: float | None
    stages_ms: dict[str, float]  # wall
    gflop: float
    floor_ms: float  # of CPU time; on CUDA of wall time
    ratio: float
    memory_mb: float  # tensors that live at once in a step, and the history

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def variants(config: ModelConfig) -> Iterator[tuple[str, str, float, ModelConfig]]:
    """Axis, value, size along the axis and configuration of every network of a sweep."""
    grid, images, temporal = config.grid, config.images, config.temporal
    for factor in (0.5, 1, 1.5, 2):
        rows, columns = round(grid.rows * factor), round(grid.columns * factor)
        changed = replace(config, grid=replace(grid, rows=rows, columns=columns))
        yield "voxels", f"{rows}x{columns}x{grid.layers}", token_count(changed.grid), changed
    for count in (2, 4, 6, 8):
        names = tuple(f"CAM_{number}" for number in range(count))
        yield "cameras", str(count), count, replace(config, cameras=names)
    for factor in (0.5, 1, 1.5, 2):
        height, width = (max(images.pad_multiple, round(side * factor)) for side in (images.height, images.width))
        changed = replace(config, images=replace(images, height=height, width=width))
        yield "image size", f"{width}x{height}", width * height, changed
    most = 1 if temporal.kind == "recurrent" else 4
    for count in range(most + 1):
        ages_s = tuple(temporal.spacing_s * number for number in range(count, 0, -1))
        yield (
            "history",
            f"{count} state{'s' * (count != 1)}",
            count,
            replace(config, temporal=replace(temporal, ages_s=ages_s)),
        )


def ring_frames(config: ModelConfig) -> list[Frame]:
    """Frames of noise from cameras in a ring, of the size that the network takes."""
    height, width = config.images.height, config.images.width
    focal = width / 2 / np.tan(np.deg2rad(FIELD_DEG / 2))
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    draw = torch.Generator().manual_seed(0)
    frames = []
    for number in range(FRAMES):
        stamp_ns = round(number * config.temporal.spacing_s * NS_PER_S)
        world_from_ego = rigid(np.eye(3), np.array([SPEED_MPS * stamp_ns / NS_PER_S, 0, 0]))
        cameras = []
        for place, name in enumerate(config.cameras):
            a = 2 * np.pi * place / len(config.cameras)
            turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
            image = torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8)
            mount = rigid(turn @ EGO_FROM_OPTICAL, np.array([0, 0, MOUNT_HEIGHT_M]))
            cameras.append(CameraImage(name, stamp_ns, image, intrinsics, mount, world_from_ego))
        frames.append(Frame(stamp_ns, world_from_ego, tuple(cameras)))
    return frames


@torch.inference_mode()
def sweep_sizes(
    config: ModelConfig, device: torch.device, precision: str = "fp32", on_network: Callable[[], object] = lambda: None
) -> list[SweepRow]:
    """Measure every variant of a network, with as many threads as are set."""
    rows, rates = [], None
    for axis, value, size, changed in variants(config):
        network = load_model(changed, seeded_weights=True, device=device, precision=precision)
        frames = ring_frames(changed)
        counted = works(changed, facts_of(network, frames[0]), network.dtype.itemsize)
        rates = rates or device_rates(counted, network, torch.get_num_threads())  # of one network for all
        times, stream = stream_times(network, frames, EFFORT)
        floor = floors(counted, rates.get("one thread"), rates.get("all threads") or rates["device"])[TOTAL]
        total = times.stages[TOTAL]
        ratio = total.ratios(floor)["wall" if floor.cpu_ms is None else "cpu"]
        assert ratio is not None
        history = states_kept(changed.temporal) * token_count(changed.grid) * changed.embed * network.dtype.itemsize
        again = OccupancyStream(network)
        again.memory = stream.memory
        *_, frame = (frame for frame, _ in zip(steady(frames, changed), range(times.frames + FRAMES)))
        rows.append(
            SweepRow(
                axis=axis,
                value=value,
                size=size,
                wall_ms=total.p50,
                cpu_ms=total.cpu,
                stages_ms={name: stage.p50 for name, stage in times.stages.items() if name != TOTAL},
                gflop=floor.gflop,
                floor_ms=floor.wall_ms if floor.cpu_ms is None else floor.cpu_ms,
                ratio=ratio,
                memory_mb=peak_mb(partial(again.step, frame, GRID_ALONE), device) + history / 1e6,
            )
        )
        on_network()
    return rows


def sweep_table(rows: Sequence[SweepRow], title: str) -> str:
    """The rows as text, axis by axis."""
    lines = [
        title,
        f"{'':24s} {'wall ms':>9s} {'CPU ms':>9s} {'GFLOP':>8s} {'floor ms':>9s} {'x':>6s} {'memory MB':>10s}",
    ]
    for row in rows:
        cpu = f"{'-':>9s}" if row.cpu_ms is None else f"{row.cpu_ms:9.1f}"
        lines.append(
            f"{row.axis:11s} {row.value:12s} {row.wall_ms:9.1f} {cpu} {row.gflop:8.2f} {row.floor_ms:9.1f} "
            f"{row.ratio:6.2f} {row.memory_mb:10.1f}"
        )
    return "\n".join(lines)


def draw_sweep(path: Path, rows: Sequence[SweepRow], title: str) -> None:
    """Time and floor along every axis, as PNG, SVG or PDF by the name's ending.

    Raises:
        ValueError, OSError: as `write_figure`.
    """
    axes_of = dict.fromkeys(row.axis for row in rows)
    with styled():
        figure = new_figure(10, 6)
        for axis, name in zip(figure.subplots(2, 2).flat, axes_of, strict=True):
            part = [row for row in rows if row.axis == name]
            sizes = [row.size for row in part]
            axis.plot(
                sizes, [row.wall_ms if row.cpu_ms is None else row.cpu_ms for row in part], "o-", label="measured"
            )
            axis.plot(sizes, [row.floor_ms for row in part], "o--", color=LINES[1], label="floor")
            axis.set_xticks(sizes, [row.value for row in part])
            axis.set_ylim(bottom=0)
            axis.set_title(name)
            axis.set_ylabel("ms a frame")
        figure.axes[0].legend()
        figure.suptitle(title)
        write_figure(path, figure)
