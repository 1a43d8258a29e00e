"""The voxel warp as eight gathers a volume: ONNX's `GridSample` of volumes is newer than what runtimes have."""

import torch
from torch import Tensor
from torch.nn import functional

from .reference import of_states


def _sampled(tokens: Tensor, shape_hwz: tuple[int, int, int], positions: Tensor) -> Tensor:
    rows, columns, layers = shape_hwz
    table = functional.pad(tokens.view(rows, columns, layers, -1), (0, 0, 1, 1, 1, 1, 1, 1)).flatten(0, 2)
    low, fraction = zip(*(_cell(positions[:, axis] + 1, size) for axis, size in enumerate((columns, rows, layers))))
    first = (low[1] * (columns + 2) + low[0]) * (layers + 2) + low[2]
    out = torch.zeros_like(tokens[:1])
    for corner in range(8):
        ups = [corner >> axis & 1 for axis in range(3)]  # along x, y and z
        weight = torch.ones_like(first)
        for up, upper in zip(ups, fraction):
            weight = weight * (upper if up else 1 - upper)
        row = first + ((ups[1] * (columns + 2) + ups[0]) * (layers + 2) + ups[2])
        out = out + table.index_select(0, row.long()) * weight[:, None].to(table.dtype)
    return out


def _cell(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Lower neighbour, a whole number, in an axis with a border cell at both ends, and the weight of the upper one."""
    position = position.clamp(0, size + 1)
    low = position.floor().clamp(max=size)
    return low, position - low


voxel_warp = of_states(_sampled)
