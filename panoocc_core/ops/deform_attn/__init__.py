"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) for a ragged list of queries.

A query samples one source of values around its reference point: one camera, or one horizontal layer of voxels.  Queries
may share offsets and weights, as those of a voxel do that several cameras see; these are stored once.
"""

from torch import Tensor

from ..reference_mode import wants_reference
from . import cpu, reference


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    row: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """Weighted sum of value maps around the reference point of every query.

    Args:
        values: [source, token, head, channel]; the tokens of all levels, finest first, row-major in each level.
        shapes: (rows, columns) of every level.
        reference_points: float32 [query, 2], (x, y) in 0..1 over the map, pixel centres at +0.5.
        offsets: float32 [row, head, level, point, 2], (x, y) from the reference point in cells of the level.
        weights: [row, head, level, point], already normalised.
        row: int64 [query], whose offsets and weights hold; None where every query has its own, in their order.
        source: int64 [query], the value maps that are read; None where there is one source only.

    Returns:
        [query, head * channel].
    """
    operator = reference.deform_attn if wants_reference() else cpu.deform_attn
    return operator(values, shapes, reference_points, offsets, weights, row, source)
