"""Multi-scale deformable attention by the package deformops (MIT), for training and as a rival to be measured.

Its operator takes one source a batch entry, with the same number of queries each: the slots that exist are sorted by
source and padded to the source that has most.  That number is asked of the device, which a CUDA graph does not allow.
"""

from itertools import accumulate

import torch
from torch import Tensor


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`."""
    from deformops.registry import msda

    queries, device = len(reference_points), values.device
    if source is None:
        source = torch.zeros(queries, 1, dtype=torch.int32, device=device)
    sizes = torch.tensor(shapes, device=device)  # [level, 2]
    begins = torch.tensor(list(accumulate((r * c for r, c in shapes[:-1]), initial=0)), device=device)

    out = values.new_zeros(queries, values.shape[2] * values.shape[3])
    query, slot = (source >= 0).nonzero().unbind(1)  # [pair]
    if not len(query):
        return out
    pair_source, order = source[query, slot].long().sort(stable=True)
    query, slot = query[order], slot[order]
    count = pair_source.bincount(minlength=len(values))
    place = torch.arange(len(query), device=device) - (count.cumsum(0) - count)[pair_source]

    moved = offsets[query].float() / sizes.flip(1)[:, None]  # [pair, head, level, point, 2]
    padded = (len(values), int(count.max()))
    locations = moved.new_zeros(*padded, *moved.shape[1:]).index_put(
        (pair_source, place), reference_points[query, slot, None, None, None].float() + moved
    )
    listed = weights[query].flatten(2)  # [pair, head, level * point]
    own_weights = listed.new_zeros(*padded, *listed.shape[1:]).index_put((pair_source, place), listed)
    attended = msda(_without_rings(values, shapes), sizes, begins, locations, own_weights.to(values.dtype))
    out = out.index_add(0, query, attended.flatten(2)[pair_source, place])
    return out / (source >= 0).sum(1).clamp(min=1)[:, None]


def _without_rings(values: Tensor, shapes: tuple[tuple[int, int], ...]) -> Tensor:
    """[source, cell, head, channel] without the cells around the maps."""
    levels = values.split([(rows + 2) * (columns + 2) for rows, columns in shapes], dim=1)
    maps = [level.unflatten(1, (r + 2, c + 2))[:, 1:-1, 1:-1].flatten(1, 2) for level, (r, c) in zip(levels, shapes)]
    return torch.cat(maps, dim=1)
