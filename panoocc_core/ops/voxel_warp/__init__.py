"""Volumes of the past where the vehicle is now, laid out as the fusion reads them."""

from collections.abc import Sequence

from torch import Tensor

from ..backend import gradient_flows, running_kernels
from ..reference_mode import chosen
from . import portable, reference, tuned


def voxel_warp(
    states: Sequence[Tensor],
    motions: Tensor,
    shape_hwz: tuple[int, int, int],
    current: Tensor | None = None,
    slots: int | None = None,
) -> Tensor:
    """Volumes sampled trilinearly at moved voxel centres, zeros outside, and side by side.

    Args:
        states: volumes [N, channel], oldest first, in the order (row * W + column) * Z + layer.
        motions: [state, 3, 4], from a voxel's (x, y, z) now, which is (column, row, layer), to its place then, in
            voxels; float32 or float64, in which places are computed.
        shape_hwz: rows (y), columns (x) and layers (z).
        current: the volume of now, which comes last.
        slots: how many volumes the result has: the oldest one stands in for those that are missing.  None: as many as
            there are.

    Returns:
        [N, slots * channel].

    Raises:
        ValueError: there is no volume, or more than slots.
    """
    given = () if current is None else (current,)
    count = len(states) + len(given)
    slots = count if slots is None else slots
    if not 0 < count <= slots:
        raise ValueError(f"{count} volumes do not fit into {slots} slots")
    kernels = running_kernels(motions.device)
    if kernels == "triton" and not gradient_flows(motions, *states, *given):  # the kernel has no gradients
        from . import triton

        return triton.voxel_warp(states, motions, shape_hwz, current, slots)
    operator = chosen(tuned.voxel_warp, reference.voxel_warp, portable.voxel_warp)
    return operator(states, motions, shape_hwz, current, slots)
