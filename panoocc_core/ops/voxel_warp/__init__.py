"""Resampling of voxel features at moved voxel centres."""

from torch import Tensor

from ..reference_mode import wants_reference
from . import cpu, reference


def voxel_warp(tokens: Tensor, shape_hwz: tuple[int, int, int], positions: Tensor) -> Tensor:
    """Trilinear samples of a voxel volume, zeros outside.

    Args:
        tokens: [row * column * layer, channel] in the order (h * W + w) * Z + z.
        shape_hwz: rows (y), columns (x) and layers (z).
        positions: float32 [sample, 3] (x, y, z) in voxels, 0 at the centre of the first one.

    Returns:
        [sample, channel].
    """
    operator = reference.voxel_warp if wants_reference() else cpu.voxel_warp
    return operator(tokens, shape_hwz, positions)
