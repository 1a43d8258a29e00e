"""What the voxel warp computes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Sampled = Callable[[Tensor, tuple[int, int, int], Tensor], Tensor]
VoxelWarp = Callable[[Sequence[Tensor], Tensor, tuple[int, int, int], Tensor | None, int], Tensor]


def of_states(sampled: Sampled) -> VoxelWarp:
    """`panoocc_core.ops.voxel_warp`, given how tokens [N, C] of a volume are sampled at places [N, 3]."""

    def voxel_warp(
        states: Sequence[Tensor], motions: Tensor, shape_hwz: tuple[int, int, int], current: Tensor | None, slots: int
    ) -> Tensor:
        volumes = [sampled(tokens, shape_hwz, places(motion, shape_hwz)) for tokens, motion in zip(states, motions)]
        return side_by_side(volumes, current, slots)

    return voxel_warp


def places(motion: Tensor, shape_hwz: tuple[int, int, int]) -> Tensor:
    """Places [N, 3] (x, y, z) in voxels, 0 at the first one's centre, of all voxels after a motion [3, 4]; float32."""
    rows, columns, layers = (torch.arange(size, dtype=motion.dtype, device=motion.device) for size in shape_hwz)
    y, x, z = torch.meshgrid(rows, columns, layers, indexing="ij")
    cells = torch.stack((x, y, z), dim=-1).flatten(0, 2)
    moved = [(cells * axis[:3]).sum(1) + axis[3] for axis in motion]  # no matrix product: TF32 is too coarse for places
    return torch.stack(moved, dim=1).float()


def side_by_side(volumes: list[Tensor], current: Tensor | None, slots: int) -> Tensor:
    """Volumes [N, C], oldest first, and the current one in [N, slots * C], the oldest one repeated."""
    volumes = volumes if current is None else [*volumes, current]
    return torch.cat([volumes[0]] * (slots - len(volumes)) + volumes, dim=1)


def _sampled(tokens: Tensor, shape_hwz: tuple[int, int, int], positions: Tensor) -> Tensor:
    rows, columns, layers = shape_hwz
    volume = tokens.view(rows, columns, layers, -1).permute(3, 2, 0, 1)[None]  # [1, channel, layer, row, column]
    grid = (positions + 0.5) / positions.new_tensor((columns, rows, layers)) * 2 - 1
    sampled = functional.grid_sample(volume.float(), grid[None, :, None, None], align_corners=False)
    return sampled[0, :, :, 0, 0].T.to(tokens.dtype)


voxel_warp = of_states(_sampled)
