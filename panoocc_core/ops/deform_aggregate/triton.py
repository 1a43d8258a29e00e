"""Grouped deformable aggregation on CUDA: deformable attention in which every pixel looks at its image alone."""

from functools import cache

import torch
from torch import Tensor

from ..deform_attn.triton import deform_attn
from ..interpolation import bordered


def deform_aggregate(values: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """See `panoocc_core.ops.deform_aggregate`."""
    images, rows, columns, groups, _ = values.shape
    maps = bordered(values.flatten(3)).flatten(1, 2).unflatten(2, (groups, -1))
    pixels, image = _pixels(images, rows, columns, values.device)
    out = deform_attn(
        maps, ((rows, columns),), pixels, offsets.flatten(0, 2).unsqueeze(2), weights.flatten(0, 2).unsqueeze(2), image
    )
    return out.view(images, rows, columns, -1)


@cache  # a network has a handful of sizes; graphs read them by their addresses, so that they must stay
@torch.inference_mode(False)  # kept from an inference, they serve a training too
def _pixels(images: int, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres float32 [pixel, 1, 2] in 0..1 and images int32 [pixel, 1] of all pixels."""
    y = (torch.arange(rows, device=device) + 0.5) / rows
    x = (torch.arange(columns, device=device) + 0.5) / columns
    centre = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)
    image = torch.arange(images, dtype=torch.int32, device=device).repeat_interleave(rows * columns)
    return centre.view(1, -1, 2).repeat(images, 1, 1).view(-1, 1, 2), image[:, None]
