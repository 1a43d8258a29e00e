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
        values.dtype in (torch.float32, torch.bfloat16)
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
    """See `panoocc_core.ops.deform_attn`."""
    queries, heads, levels, points = weights.shape
    channels = values.shape[-1]
    x, y = (_rows(offsets[..., axis].flatten(1).float()) for axis in (0, 1))
    if x.stride() != y.stride():
        x, y = x.contiguous(), y.contiguous()
    table, positions, weights = values.contiguous(), reference_points.contiguous(), weights.float().contiguous()
    slots = positions.shape[1]
    source = None if source is None else source.contiguous()
    sizes = (c_int32 * (2 * levels))(*(size for shape in shapes for size in shape))
    out = torch.empty(queries, heads * channels)

    def attend(begin: int, end: int) -> None:
        library().panoocc_deform_attn(
            *(pointer(table), values.dtype == torch.bfloat16, values.shape[1] * heads),
            *(levels, sizes),
            *(heads, points, channels, slots),
            *(pointer(positions), pointer(source)),
            *(pointer(x), pointer(y), x.stride(0), pointer(weights)),
            *(pointer(out), begin, end),
        )

    in_parts(queries, attend)
    return out.to(values.dtype)


def _rows(planes: Tensor) -> Tensor:
    """The same [query, sample], each query's numbers beside each other."""
    return planes if planes.stride(-1) == 1 else planes.contiguous()
