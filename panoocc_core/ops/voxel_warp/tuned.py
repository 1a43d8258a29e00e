"""The voxel warp as a weighted gather from every state."""

import torch
from torch import Tensor
from torch.nn import functional

from ..interpolation import cell_and_fraction, weighted_rows
from .reference import of_states


def _sampled(tokens: Tensor, shape_hwz: tuple[int, int, int], positions: Tensor) -> Tensor:
    rows, columns, layers = shape_hwz
    positions = positions + 1  # with the border
    x, right = cell_and_fraction(positions[:, 0], columns)
    y, down = cell_and_fraction(positions[:, 1], rows)
    z, above = cell_and_fraction(positions[:, 2], layers)
    corners, weights = [], []
    for dy, weight_y in ((0, 1 - down), (1, down)):
        for dx, weight_x in ((0, 1 - right), (1, right)):
            for dz, weight_z in ((0, 1 - above), (1, above)):
                corners.append(((y + dy) * (columns + 2) + x + dx) * (layers + 2) + z + dz)
                weights.append(weight_y * weight_x * weight_z)
    volume = tokens.view(rows, columns, layers, -1)
    table = functional.pad(volume, (0, 0, 1, 1, 1, 1, 1, 1)).flatten(0, 2)
    return weighted_rows(table, torch.stack(corners, dim=1), torch.stack(weights, dim=1))


voxel_warp = of_states(_sampled)
