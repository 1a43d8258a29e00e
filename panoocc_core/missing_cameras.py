"""What a network still sees when cameras die: the single failures and random drop-outs of M2-Occ (arXiv 2603.09737).

A drive is followed with all its cameras until they die; from there every case goes on alone, from the same memory.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from random import Random
from typing import Any, Literal

import torch

from .base.devices import full_float32
from .config import ModelConfig
from .geometry import NS_PER_S
from .ground_truth import Drive, naming_frame
from .memory import VoxelMemory
from .metrics.confusion import Confusion
from .network import Network
from .stream import classes, encode, output_geometry
from .types import CameraImage, Frame

Missing = Literal["blank", "reuse_last"]
POLICIES: tuple[Missing, ...] = ("blank", "reuse_last")
REUSE_AGE_NS = NS_PER_S  # the node's `reuse_age_s`


@dataclass(frozen=True, slots=True)
class Scores:
    """Of the voxels that a camera would see if all were alive."""

    miou: float  # of the classes present
    geometric_iou: float


@dataclass(frozen=True, slots=True)
class DeadRow:
    """What is left of the scores in one kind of failure; None: no frame lies in that time."""

    dead: str  # the camera, or how many of how many
    missing: Missing
    soon: Scores | None  # while the last images are young enough to be reused
    later: Scores | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def without(frame: Frame, dead: Collection[str], last: Frame | None, missing: Missing) -> Frame:
    """The frame that the node makes of a set in which cameras are missing, under its `missing_camera`.

    Args:
        last: the last frame with images of the dead cameras, if there is one.
    """
    is_young = last is not None and 0 <= frame.stamp_ns - last.stamp_ns <= REUSE_AGE_NS
    images = {c.name: c for c in last.cameras} if last is not None and is_young and missing == "reuse_last" else {}

    def stand_in(camera: CameraImage) -> CameraImage:
        blank = replace(camera, image=torch.zeros_like(camera.rgb()), is_blank=True)
        return images.get(camera.name, blank)

    return replace(frame, cameras=tuple(stand_in(one) if one.name in dead else one for one in frame.cameras))


def check_counts(config: ModelConfig, counts: Sequence[int]) -> None:
    """Raises ValueError unless a network has more cameras than are to die."""
    cameras = len(config.cameras)
    for count in counts:
        if not 0 < count < cameras:
            raise ValueError(f"{config.name} has {cameras} cameras: 1 to {cameras - 1} of them can die, not {count}")


def failures(cameras: Sequence[str], counts: Sequence[int], drive: int) -> Iterator[tuple[str, frozenset[str]]]:
    """Cameras that die together on a drive, with the row that they count in: each alone for 1, else some at random."""
    for count in counts:
        if count == 1:
            yield from ((name, frozenset({name})) for name in cameras)
        else:
            chosen = Random(f"{drive} {count}").sample(sorted(cameras), count)
            yield f"{count} of {len(cameras)}", frozenset(chosen)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    soon: Confusion
    later: Confusion

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(self.soon + other.soon, self.later + other.later)


@torch.inference_mode()
@full_float32()
def dead_camera_sweep(
    network: Network,
    drives: Iterable[Drive],
    counts: Sequence[int],
    dead_from_s: float = 4.0,
    on_drive: Callable[[], object] = lambda: None,
) -> list[DeadRow]:
    """Every failure on every drive; the first row is that of all cameras, on the same frames.

    Args:
        counts: how many cameras die together, see `check_counts` and `failures`.
        dead_from_s: when, from the first frame of a drive on; 0: they have never sent an image.

    Raises:
        ValueError: a drive ends before, or has no dense truth on the network's grid; the message names drive and frame.
    """
    config, sums = network.config, dict[tuple[str, Missing], _Sums]()
    for number, drive in enumerate(drives):
        begin, last, memory = _until(network, drive, dead_from_s)
        cases = [("none", frozenset[str](), POLICIES[:1])]
        cases += [(name, dead, POLICIES) for name, dead in failures(config.cameras, counts, number)]
        for name, dead, policies in cases:
            for missing in policies:
                found = _follow(network, drive, begin, memory, last, dead, missing)
                before = sums.get((name, missing))
                sums[name, missing] = found if before is None else before + found
        on_drive()
    if not sums:
        raise ValueError("there is no drive to evaluate")
    return list(_rows(config, sums))


def _rows(config: ModelConfig, sums: dict[tuple[str, Missing], _Sums]) -> Iterator[DeadRow]:
    def scores(confusion: Confusion) -> Scores | None:
        if not confusion.counts.any():
            return None
        return Scores(confusion.miou_of_present(config.labels), confusion.geometric_iou(config.labels))

    means = dict[tuple[str, Missing], _Sums]()
    for missing in POLICIES:
        singles = [sums[name, missing] for name in config.cameras if (name, missing) in sums]
        if singles:
            means[f"1 of {len(config.cameras)}", missing] = reduce(add, singles)
    alone = {key: one for key, one in sums.items() if key[0] in ("none", *config.cameras)}
    for (dead, missing), one in (alone | means | sums).items():
        yield DeadRow(dead, missing, scores(one.soon), scores(one.later))


def _until(network: Network, drive: Drive, dead_from_s: float) -> tuple[int, Frame | None, VoxelMemory]:
    """The first frame without the cameras, the last one with them, and the memory after that.

    Raises:
        ValueError: the drive ends before.
    """
    memory, last, start_ns = VoxelMemory(), None, None
    for index in range(len(drive)):
        with naming_frame(drive, index):
            frame = drive.frame(index)
            start_ns = frame.stamp_ns if start_ns is None else start_ns
            if frame.stamp_ns - start_ns >= dead_from_s * NS_PER_S:
                return index, last, memory
            memory, last = encode(network, frame, memory).memory, frame
    raise ValueError(f"{drive.name}: has no frame {dead_from_s:g} s after its first one, when cameras are to die")


def _follow(
    network: Network,
    drive: Drive,
    begin: int,
    memory: VoxelMemory,
    last: Frame | None,
    dead: Collection[str],
    missing: Missing,
) -> _Sums:
    """The frames from `begin` on, in one case."""
    config, geometry = network.config, output_geometry(network.config)
    sums = _Sums(Confusion.empty(len(config.labels.names)), Confusion.empty(len(config.labels.names)))
    for index in range(begin, len(drive)):
        with naming_frame(drive, index):
            frame = drive.frame(index)
            truth = drive.truth(index).in_classes_of(config.labels)
            if truth.class_id is None or truth.geometry is None:
                raise ValueError("truth: dead cameras are judged by dense voxels, and this frame has none")
            if difference := truth.geometry.differs_from(geometry):
                raise ValueError(f"the true voxels are not those of {config.name}: {difference}")
            step = encode(network, without(frame, dead, last, missing), memory)
            found = Confusion.empty(len(config.labels.names)).add(
                classes(network, step.fused)[0].cpu().numpy(), truth.class_id, truth.camera_mask
            )
        memory = step.memory
        is_soon = last is not None and frame.stamp_ns - last.stamp_ns <= REUSE_AGE_NS
        sums = replace(sums, soon=sums.soon + found) if is_soon else replace(sums, later=sums.later + found)
    return sums


def dead_camera_table(rows: Sequence[DeadRow], title: str) -> str:
    """The rows as text: mIoU and geometric IoU of both times."""

    def percent(scores: Scores | None) -> str:
        return f"{'-':>14s}" if scores is None else f"{100 * scores.miou:6.1f}% {100 * scores.geometric_iou:5.1f}%"

    head = f"{'dead':>18s} {'missing_camera':>14s}  {'mIoU, IoU: <= 1 s':>18s}  {'later':>14s}"
    lines = [f"{row.dead:>18s} {row.missing:>14s}  {percent(row.soon):>18s}  {percent(row.later):>14s}" for row in rows]
    return "\n".join([title, head, *lines])
