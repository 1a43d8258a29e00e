"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) over a ragged list of queries."""

from torch import Tensor

from . import reference


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    locations: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """Weighted sum of value maps at the sampling locations of each query.

    Args:
        values: [source, token, head, channel]; the tokens of all levels, finest first, row-major in each level.
        shapes: (rows, columns) of every level.
        locations: float32 [query, head, level, point, 2], (x, y) in 0..1 over the map, pixel centres at +0.5.
        weights: [query, head, level, point], already normalised.
        source: int64 [query], the value maps that each query reads; None where there is one source only.

    Returns:
        [query, head * channel].
    """
    return reference.deform_attn(values, shapes, locations, weights, source)
