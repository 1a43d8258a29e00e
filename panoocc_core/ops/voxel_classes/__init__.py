"""From features of voxels to their classes, without the logits of the whole grid."""

from torch import Tensor

from ..backend import running_kernels
from ..reference_mode import chosen
from . import portable, reference, tuned
from .rule import ClassRule, Mlp, decided

__all__ = ["ClassRule", "Mlp", "decided", "voxel_classes"]


def voxel_classes(
    points: Tensor,
    mlp: Mlp,
    gate: Tensor | None,
    rule: ClassRule,
    factors: tuple[int, int, int] = (1, 1, 1),
) -> tuple[Tensor, Tensor]:
    """Class and probability of every voxel of the output grid; for inference, without gradients.

    Where a free voxel is known by its gate, its logits need not be made: what is not finite in them does not show.

    Args:
        points: features [layer, row, column, channel].
        mlp: linear layers with a softplus between each two; the last one's outputs are the class logits.
        gate: float32 [layer, row, column], logits of being occupied, or None; only without `factors`.
        rule: how logits become a class.
        factors: (z, y, x), how many times finer than the points the output grid is: logits are trilinear between them.

    Returns:
        uint8 and float32 [layer * z, row * y, column * x].

    Raises:
        ValueError: gate and factors are both given, or more classes than a byte holds.
    """
    if gate is not None and factors != (1, 1, 1):
        raise ValueError("a gate is of the points: it cannot decide voxels between them (gate and factors)")
    if len(mlp[-1][0]) > 256:
        raise ValueError(f"{len(mlp[-1][0])} classes are more than a byte tells apart")
    kernels = running_kernels(points.device)
    if kernels == "triton":
        from . import triton

        if triton.fits(mlp):
            return triton.voxel_classes(points, mlp, gate, rule, factors)
    operator = chosen(tuned.voxel_classes, reference.voxel_classes, portable.voxel_classes)
    return operator(points, mlp, gate, rule, factors)
