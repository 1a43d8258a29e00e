"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) over a ragged list of visits.

A visit is one query at one source of values: a voxel in one camera that sees it, or in the horizontal layer that it
lies in.  Offsets and weights belong to the query, so that they are stored once however many sources it visits.
"""

from torch import Tensor

from . import reference


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    positions: Tensor,
    offsets: Tensor,
    weights: Tensor,
    query: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """Weighted sum of value maps around the position of each visit.

    Args:
        values: [source, token, head, channel]; the tokens of all levels, finest first, row-major in each level.
        shapes: (rows, columns) of every level.
        positions: float32 [visit, 2], (x, y) in 0..1 over the map, pixel centres at +0.5.
        offsets: float32 [query, head, level, point, 2], (x, y) from the position in cells of the level.
        weights: [query, head, level, point], already normalised.
        query: int64 [visit], whose offsets and weights hold; None where every query has one visit, in its order.
        source: int64 [visit], the value maps that are read; None where there is one source only.

    Returns:
        [visit, head * channel].
    """
    return reference.deform_attn(values, shapes, positions, offsets, weights, query, source)
