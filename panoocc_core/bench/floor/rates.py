"""How fast the device at hand multiplies, copies and gathers: measured in the run whose floors are made of it.

Every kind of product is measured at the shape at which the network has most of it, with the fastest of the ways that
torch offers, in parts that the caches hold, so that no rate contains the price of fresh memory.  Of gathers the fastest
way may be an operator of ours.  The best repetition counts: a floor is what the device can do, not what it does beside
other work.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...base.devices import full_float32
from ...ops.deform_attn import deform_attn
from ..machine import computing_threads
from .counting import Kind, Work

REPEATS = 5
PART_BYTES = 8 << 20  # of an output
COPIED_BYTES = 64 << 20
CACHED_TABLE, LARGE_TABLE = 8 << 20, 128 << 20  # of gathers; on CUDA the large one has 1 GB
CACHED_UP_TO = 16 << 20  # a table of this size is taken as cached
GATHERED_ROWS, ROWS_A_BAG, HEADS = 400_000, 32, 8
PRODUCTS: tuple[Kind, ...] = ("product", "conv3", "conv1")


@dataclass(frozen=True, slots=True)
class Rates:
    """Best of a few repetitions; per second of wall time, of as many threads as stands there."""

    threads: int  # 0: a CUDA device
    product_gflops: float
    conv3_gflops: float
    conv1_gflops: float
    copy_gbps: float  # read and written together
    gather_cached_gbps: float  # rows of one head from a table of 8 MB
    gather_large_gbps: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def seconds(self, work: Work) -> float:
        """The least that a work takes: its FLOPs or its bytes, whichever take longer, and what it gathers."""
        speed = {"product": self.product_gflops, "conv3": self.conv3_gflops, "conv1": self.conv1_gflops}
        multiplied = work.flops / speed.get(work.kind, self.product_gflops) / 1e9 if work.kind != "gather" else 0.0
        gather = self.gather_cached_gbps if work.table_bytes <= CACHED_UP_TO else self.gather_large_gbps
        return max(multiplied, work.moved_bytes / self.copy_gbps / 1e9) + work.gathered_bytes / gather / 1e9

    def best(self, other: "Rates") -> "Rates":
        """The better of two measurements of one device."""
        return Rates(*(max(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)))

    def __str__(self) -> str:
        return (
            f"products {self.product_gflops:.0f}, 3x3 convolutions {self.conv3_gflops:.0f}, 1x1 "
            f"{self.conv1_gflops:.0f} GFLOP/s; copies {self.copy_gbps:.0f}, gathers {self.gather_cached_gbps:.0f} "
            f"(8 MB) and {self.gather_large_gbps:.1f} GB/s (large table)"
        )


@torch.inference_mode()
@full_float32()
def measure_rates(works: Sequence[Work], device: torch.device, dtype: torch.dtype, threads: int = 1) -> Rates:
    """The rates of a device for the works of one network.

    Args:
        threads: of the CPU.
    """
    on_cuda = device.type == "cuda"
    with computing_threads(threads):
        products = {}
        for kind in PRODUCTS:
            largest = max((work for work in works if work.kind == kind), key=lambda work: work.flops, default=None)
            shape = (64, 64, 4096) if largest is None else largest.shape
            products[kind] = _product_rate(kind, shape, device, dtype)
        row = next((work.shape[0] for work in works if work.kind == "gather" and "cross" in work.name), 32)
        row_bytes = row * dtype.itemsize
        large = LARGE_TABLE * (8 if on_cuda else 1)
        return Rates(
            threads=0 if on_cuda else threads,
            product_gflops=products["product"],
            conv3_gflops=products["conv3"],
            conv1_gflops=products["conv1"],
            copy_gbps=_copy_rate(device),
            gather_cached_gbps=_gather_rate(CACHED_TABLE, row_bytes, device),
            gather_large_gbps=_gather_rate(large, row_bytes, device),
        )


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Best wall time after one run for warm-up; on a CPU with one thread its CPU time, as others may be at work."""
    work()
    if device.type == "cuda":
        return min(_cuda_seconds(work, device) for _ in range(REPEATS))
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for _ in range(REPEATS):
        begin_s = clock()
        work()
        times.append(clock() - begin_s)
    return max(min(times), 1e-9)


def _cuda_seconds(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record(torch.cuda.current_stream(device))
    for _ in range(times):
        work()
    end.record(torch.cuda.current_stream(device))
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / times


def _product_rate(kind: Kind, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> float:
    inputs, outputs, rows = shape
    part = PART_BYTES * (16 if device.type == "cuda" else 1)
    rows = max(256, min(rows, part // (dtype.itemsize * max(inputs, outputs))))
    if kind == "product":
        ways, flops = list(_products(inputs, outputs, rows, device, dtype)), 2 * rows * inputs * outputs
    else:
        side, taps = max(16, int(rows**0.5)), 3 if kind == "conv3" else 1
        ways = list(_convolutions(inputs, outputs, side, taps, device, dtype))
        flops = 2 * side * side * inputs * outputs * taps * taps
    return max(flops / seconds_of(way, device) / 1e9 for way in ways)


def _drawn(*shape: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)


def _has_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has oneDNN's products with packed weights for this type."""
    return device.type == "cpu" and dtype != torch.float16 and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _products(
    inputs: int, outputs: int, rows: int, device: torch.device, dtype: torch.dtype
) -> Iterator[Callable[[], object]]:
    x, weight = _drawn(rows, inputs, device=device, dtype=dtype), _drawn(outputs, inputs, device=device, dtype=dtype)
    out = torch.empty(rows, outputs, device=device, dtype=dtype)
    yield lambda: torch.mm(x, weight.t(), out=out)
    yield lambda: functional.linear(x, weight)
    if _has_onednn(device, dtype):
        with suppress(RuntimeError):  # a build of torch without it
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
            yield lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def _convolutions(
    inputs: int, outputs: int, side: int, taps: int, device: torch.device, dtype: torch.dtype
) -> Iterator[Callable[[], object]]:
    layout, around = torch.channels_last, taps // 2
    x = _drawn(1, inputs, side, side, device=device, dtype=dtype).contiguous(memory_format=layout)
    weight = _drawn(outputs, inputs, taps, taps, device=device, dtype=dtype).contiguous(memory_format=layout)
    yield lambda: functional.conv2d(x, weight, padding=around)
    if _has_onednn(device, dtype):
        with suppress(RuntimeError):
            pair = ([around, around], [1, 1], [1, 1], 1)
            packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *pair, list(x.shape))
            more: tuple[Any, ...] = (None, *pair, "none", [], "")
            torch.ops.mkldnn._convolution_pointwise(x, packed, *more)
            yield lambda: torch.ops.mkldnn._convolution_pointwise(x, packed, *more)


def _copy_rate(device: torch.device) -> float:
    source = torch.zeros(COPIED_BYTES * (8 if device.type == "cuda" else 1) // 4, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / seconds_of(lambda: target.copy_(source), device) / 1e9


def _gather_rate(table_bytes: int, row_bytes: int, device: torch.device) -> float:
    """Weighted sums of rows at random places, as the samplers' gathers are; of float32, as bytes are what counts."""
    columns = max(1, row_bytes // 4)
    table = torch.ones(table_bytes // (4 * columns), columns, device=device)
    rates = (4 * columns * rows / seconds_of(way, device) / 1e9 for rows, way in (_bags(table), _attention(table)))
    return max(rates)


def _bags(table: Tensor) -> tuple[int, Callable[[], object]]:
    """How many rows torch's own operation adds up, and its call."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(len(table), (GATHERED_ROWS,), generator=draw).to(table.device)
    weights = torch.rand(GATHERED_ROWS, generator=draw).to(table.device)
    begin = torch.arange(0, GATHERED_ROWS, ROWS_A_BAG, device=table.device)
    return GATHERED_ROWS, lambda: functional.embedding_bag(rows, table, begin, mode="sum", per_sample_weights=weights)


def _attention(table: Tensor) -> tuple[int, Callable[[], object]]:
    """The same of the operator that samples a map, four rows at every place."""
    side = int((len(table) / HEADS) ** 0.5)
    values = table[: side * side * HEADS].view(1, side * side, HEADS, -1)
    points, draw = ROWS_A_BAG // 4, torch.Generator().manual_seed(0)
    queries = GATHERED_ROWS // (HEADS * ROWS_A_BAG)
    anywhere = torch.rand(queries, 2, HEADS, 1, points, generator=draw) * (side - 2)
    weights = torch.rand(queries, HEADS, 1, points, generator=draw).to(table.device)
    offsets = anywhere.movedim(1, -1).to(table.device)
    corner = torch.zeros(queries, 1, 2, device=table.device)
    shape = ((side - 2, side - 2),)
    return queries * HEADS * ROWS_A_BAG, lambda: deform_attn(values, shape, corner, offsets, weights)
