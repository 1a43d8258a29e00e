"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) of queries that may look at several maps.

A query has slots, one for each source of values that it may look at: a camera, or the one horizontal layer of voxels
that it lies in.  Its offsets and weights hold in all.  Shapes are known ahead: a slot that does not exist is marked.
"""

from collections.abc import Callable

from torch import Tensor

from ..backend import running_kernels
from ..reference_mode import chosen
from . import native, portable, reference, tuned


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """Weighted sums of value maps around the reference points of every query, averaged over its slots.

    Args:
        values: [source, cell, head, channel]; the cells of all levels, finest first, each a row-major map of
            (rows + 2) x (columns + 2) with a ring of zeros around it (`interpolation.ring_cells`).
        shapes: (rows, columns) of every level, without the ring.
        reference_points: float32 [query, slot, 2], (x, y) in 0..1 over the map, pixel centres at +0.5.
        offsets: [query, head, level, point, 2], (x, y) from the reference point in cells of the level, added in
            float32; a view of planes where x and y lie far apart is read as it is.
        weights: [query, head, level, point], already normalised.
        source: int32 [query, slot], the maps that are read, -1 where the slot does not exist; None where there is one
            source and one slot, which always exists.

    Returns:
        [query, head * channel]: means over the slots that exist, zero where none does.
    """
    implementation = _implementation(values, reference_points, offsets, weights)
    return implementation(values, shapes, reference_points, offsets, weights, source)


def _implementation(values: Tensor, *others: Tensor) -> Callable[..., Tensor]:
    kernels = running_kernels(values.device, has_deformops=True)
    if kernels == "native" and native.takes(values, *others):
        return native.deform_attn
    if kernels == "triton":
        from . import triton

        return triton.deform_attn
    if kernels == "deformops":
        from . import deformops

        return deformops.deform_attn
    return chosen(tuned.deform_attn, reference.deform_attn, portable.deform_attn)
