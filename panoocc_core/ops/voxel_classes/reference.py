"""What the classes of voxels are."""

from torch import Tensor
from torch.nn import functional

from .rule import ClassRule, Mlp, decided


def voxel_classes(
    points: Tensor,
    mlp: Mlp,
    gate: Tensor | None,
    rule: ClassRule,
    factors: tuple[int, int, int] = (1, 1, 1),
) -> tuple[Tensor, Tensor]:
    """See `panoocc_core.ops.voxel_classes`."""
    logits = points
    for number, (weight, bias) in enumerate(mlp):
        logits = functional.linear(logits if number == 0 else functional.softplus(logits), weight, bias)
    if factors != (1, 1, 1):
        volume = logits.permute(3, 0, 1, 2)[None]
        resized = functional.interpolate(volume, scale_factor=[float(f) for f in factors], mode="trilinear")
        logits = resized[0].permute(1, 2, 3, 0)
    return decided(logits, gate, rule)
