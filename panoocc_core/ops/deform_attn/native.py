"""Multi-scale deformable attention on a CPU by compiled loops, without gradients: native.c."""

from ctypes import c_int32

import torch
from torch import Tensor

from ..backend import gradient_flows
from ..native_library import in_parts, library, pointer

CHANNELS = 8  # that a head has, or a multiple
MOST_ROWS = 1 << 31  # of all tables together


def takes(values: Tensor, reference_points: Tensor, offsets: Tensor, weights: Tensor) -> bool:
    """Whether the loops are made for such values, and no gradient is to flow."""
    sources, cells, heads, channels = values.shape
    return (
        type(values) is Tensor  # others may have no memory of their own
        and values.dtype in (torch.float32, torch.bfloat16)
        and channels % CHANNELS == 0
        and weights[:1].numel() <= library().panoocc_most_samples()
        and sources * cells * heads < MOST_ROWS
        and not gradient_flows(values, reference_points, offsets, weights)
    )


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`.

    Raises:
        ValueError: sizes that do not belong together, or sources that are not there: the loops look at neither.
    """
    sources, cells, heads, channels = values.shape
    queries, _, levels, points = weights.shape
    _check(values, shapes, reference_points, offsets, weights, source)
    x, y = (_rows(offsets[..., axis].flatten(1).float()) for axis in (0, 1))
    if x.stride() != y.stride():
        x, y = x.contiguous(), y.contiguous()
    table, positions = values.contiguous(), reference_points.float().contiguous()
    weights = weights.float().contiguous()
    source = None if source is None else source.to(torch.int32).contiguous()
    sizes = (c_int32 * (2 * levels))(*(size for shape in shapes for size in shape))
    out = torch.empty(queries, heads * channels, dtype=torch.float32, device="cpu")

    def attend(begin: int, end: int) -> None:
        library().panoocc_deform_attn(
            *(pointer(table), values.dtype == torch.bfloat16, cells * heads),
            *(levels, sizes),
            *(heads, points, channels, positions.shape[1]),
            *(pointer(positions), pointer(source)),
            *(pointer(x), pointer(y), x.stride(0), pointer(weights)),
            *(pointer(out), begin, end),
        )

    in_parts(queries, attend)
    return out.to(values.dtype)


def _check(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None,
) -> None:
    sources, cells, heads, _ = values.shape
    queries, points = weights.shape[0], weights.shape[3]
    slots = 1 if source is None else source.shape[1]
    for name, found, expected in (
        ("cells of values", [cells], [sum((rows + 2) * (columns + 2) for rows, columns in shapes)]),
        ("weights", weights.shape, [queries, heads, len(shapes), points]),
        ("offsets", offsets.shape, [queries, heads, len(shapes), points, 2]),
        ("reference_points", reference_points.shape, [queries, slots, 2]),
        ("source", [queries, slots] if source is None else source.shape, [queries, slots]),
    ):
        if list(found) != expected:
            raise ValueError(f"{name}: {list(found)}, and beside the other arguments it must be {expected}")
    if source is None and sources != 1:
        raise ValueError(f"values holds {sources} maps, and source does not say which of them is read")
    if source is not None and source.numel() and int(source.max()) >= sources:
        raise ValueError(f"source names map {int(source.max())}, and values holds {sources}")


def _rows(planes: Tensor) -> Tensor:
    """The same [query, sample], each query's numbers beside each other."""
    return planes if planes.stride(-1) == 1 else planes.contiguous()
