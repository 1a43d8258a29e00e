"""What a sparse decoder costs and is worth at several capacities, on the same frames and features."""

import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..base.devices import full_float32
from ..base.strict_yaml import ConfigError
from ..config import ModelConfig, SparseConfig
from ..ground_truth import Drive, naming_frame
from ..memory import VoxelMemory
from ..metrics.confusion import Confusion
from ..models.sparse_decoder import SparseVoxelDecoder, build_decoder
from ..models.voxel_decoder import classify
from ..network import Network
from ..stream import encode, output_geometry
from ..types import GridGeometry
from ..voxels import token_count
from ..weights.inference import fold_norms

Capacity = tuple[float, ...] | None  # shares by stage; None: the dense decoder


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """One capacity: medians over the frames, scores over all of them."""

    capacity: Capacity
    wall_ms: float  # of the decoder
    cpu_ms: float  # of the process; on CUDA that of giving orders
    memory_mb: float  # most that the decoder's tensors take at once, beside weights and input
    miou: float  # of the classes present, where a camera sees
    geometric_iou: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def checked_capacities(config: ModelConfig, capacities: Sequence[Sequence[float]]) -> list[Capacity]:
    """The dense decoder and then each of the capacities; one share stands for all stages.

    Raises:
        ConfigError: the network has no sparse decoder, or a capacity is none of its.
    """
    if config.decoder.sparse is None:
        raise ConfigError(
            f"{config.name} has no sparse decoder: give a preset with decoder.sparse, such as nano_sparse"
        )
    stages, found = len(config.decoder.upsample), list[Capacity]([None])
    for capacity in capacities:
        shares = tuple(capacity) * stages if len(capacity) == 1 else tuple(capacity)
        if len(shares) != stages:
            raise ConfigError(f"capacity {list(capacity)}: give one share, or one for each of the {stages} stages")
        try:
            found.append(SparseConfig(shares).capacity)
        except ValueError as error:
            raise ConfigError(f"capacity {list(capacity)}: {error}") from error
    return found


@torch.inference_mode()
@full_float32()
def sweep(
    network: Network,
    drives: Iterable[Drive],
    capacities: Sequence[Capacity],
    on_frame: Callable[[], object] = lambda: None,
) -> list[CapacityRow]:
    """Every frame, with its history, is encoded once and decoded at each capacity.

    Args:
        capacities: from `checked_capacities`.

    Raises:
        ValueError: there are no frames, or one of them has no dense truth on the network's grid; the message names
            drive and frame.
    """
    config, decoder = network.config, getattr(network, "decoder", None)
    if not isinstance(decoder, SparseVoxelDecoder):
        raise ValueError(f"{config.name} has no sparse decoder")
    geometry = output_geometry(config)
    scores = [Confusion.empty(len(config.labels.names)) for _ in capacities]
    walls: list[list[float]] = [[] for _ in capacities]
    cpus: list[list[float]] = [[] for _ in capacities]
    memory_mb: list[float] = []
    for drive in drives:
        memory = VoxelMemory()
        for index in range(len(drive)):
            with naming_frame(drive, index):
                step = encode(network, drive.frame(index), memory)
                truth = drive.truth(index).in_classes_of(config.labels)
                true = _true_classes(truth.class_id, truth.geometry, geometry, config.name)
            memory = step.memory
            if not memory_mb:  # the first time is not counted below
                memory_mb = [
                    peak_mb(partial(decoder.occupancy_of, step.fused, capacity), network.device)
                    for capacity in capacities
                ]
            for number, capacity in enumerate(capacities):
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                predicted = decoder.occupancy_of(step.fused, capacity)[0].cpu().numpy()  # waits for the device
                walls[number].append((time.perf_counter() - wall_s) * 1e3)
                cpus[number].append((time.process_time() - cpu_s) * 1e3)
                scores[number] = scores[number].add(predicted, true, truth.camera_mask)
            on_frame()
    if not memory_mb:
        raise ValueError("there is no frame to evaluate")
    return [
        CapacityRow(
            capacity,
            median(walls[number]),
            median(cpus[number]),
            memory_mb[number],
            scores[number].miou_of_present(config.labels),
            scores[number].geometric_iou(config.labels),
        )
        for number, capacity in enumerate(capacities)
    ]


def _true_classes(class_id, own: GridGeometry | None, wanted: GridGeometry, name: str):  # type: ignore[no-untyped-def]
    if class_id is None or own is None:
        raise ValueError(f"truth: the capacities of {name} are compared on dense voxels, and this frame has none")
    if difference := own.differs_from(wanted):
        raise ValueError(f"the true voxels are not those of {name}: {difference}")
    return class_id


def peak_mb(work: Callable[[], object], device: torch.device) -> float:
    """Most memory that the tensors which `work` makes take at once, without what operators need inside on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with _LiveBytes() as live:
        work()
    return live.peak / 1e6


def planned_cost(config: ModelConfig, capacity: Capacity) -> tuple[float, float]:
    """Memory as `peak_mb` counts it, and GFLOP of products and convolutions, of one frame's decoder.

    Nothing is computed, as all shapes are fixed.  The dense decoder is taken with all class logits, part of which an
    occupancy gate saves.
    """
    sparse = None if capacity is None else SparseConfig(capacity)
    with torch.device("meta"), torch.inference_mode():
        decoder = build_decoder(replace(config, decoder=replace(config.decoder, sparse=sparse))).eval()
        fold_norms(decoder)
        tokens = torch.empty(token_count(config.grid), config.embed)

        def work() -> object:
            if sparse is not None:
                return decoder.occupancy(tokens, config.labels.free_id)
            return classify(decoder(tokens), config.decoder, config.labels.free_id)

        with FlopCounterMode(display=False) as counter:
            memory_mb = peak_mb(work, torch.device("meta"))
    return memory_mb, counter.get_total_flops() / 1e9


def _has_storage(value: object) -> bool:
    """Whether it is a tensor of its own bytes: packed weights of oneDNN are not."""
    return isinstance(value, Tensor) and not value.is_mkldnn


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operators make, from when they are made until nobody has them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _has_storage(t)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if _has_storage(tensor):
                storage = tensor.untyped_storage()
                place, size = storage._cdata, storage.nbytes()  # of the storage itself: meta tensors have no data
                if size and place not in self._known and place not in given:
                    self._known.add(place)
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._freed, place, size)
        return out

    def _freed(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def capacity_table(rows: Sequence[CapacityRow], title: str) -> str:
    """The rows as text."""
    lines = [
        title,
        f"{'capacity':>16s} {'wall ms':>9s} {'CPU ms':>9s} {'memory MB':>10s} {'mIoU':>7s} {'geo. IoU':>9s}",
    ]
    for row in rows:
        name = "dense" if row.capacity is None else " ".join(f"{share:g}" for share in row.capacity)
        lines.append(
            f"{name:>16s} {row.wall_ms:9.1f} {row.cpu_ms:9.1f} {row.memory_mb:10.1f} {100 * row.miou:6.1f}% "
            f"{100 * row.geometric_iou:8.1f}%"
        )
    return "\n".join(lines)
