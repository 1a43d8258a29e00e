"""What shading reads of a scene, as tensors of one device: the solids of one instant, and the ground."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..labels import OCC3D
from .shapes import ShapeTable
from .solids import turned
from .street import CELL_M, Ground

_TERRAIN = OCC3D.names.index("terrain")
_GAMMA = 2.2  # as `shapes.linear`


@dataclass(frozen=True, slots=True, eq=False)
class SolidTable:
    """`ShapeTable` with its columns as tensors, component first."""

    kind: Tensor  # int32 [m]
    material: Tensor  # int32 [m]
    class_id: Tensor  # uint8 [m]
    instance_id: Tensor  # int32 [m]
    centre_m: Tensor  # [3, m]
    half_m: Tensor  # [3, m]
    colour: Tensor  # [3, m], linear
    local_from_world: Tensor  # [9, m]
    world_from_shape: Tensor  # [9, m]
    lean: Tensor  # [4, m], of the hulls' sides: vertical components of their normals

    def half_of(self, index: Tensor) -> Tensor:
        """Half sizes [3, n] of the solids `index` [n]."""
        return self.half_m.index_select(1, index)

    def local(self, index: Tensor, points: Tensor) -> Tensor:
        """Points [3, n] of the world in the unit frames of the solids `index` [n]."""
        to_local = self.local_from_world.index_select(1, index).view(3, 3, -1)
        return turned(to_local, points - self.centre_m.index_select(1, index))


def solid_table(shapes: ShapeTable, device: torch.device) -> SolidTable:
    """The solids of one instant on a device."""
    columns = (
        shapes.centre_m,
        shapes.half_m,
        shapes.colour,
        shapes.local_from_world.reshape(-1, 9),
        shapes.world_from_shape.reshape(-1, 9),
        shapes.planes[:, :4, 2],
    )
    packed = np.concatenate(columns, axis=1, dtype=np.float32)  # one transfer
    floats = torch.from_numpy(np.ascontiguousarray(packed.T)).to(device).split([part.shape[1] for part in columns])
    whole = np.stack((shapes.kind, shapes.material, shapes.class_id, shapes.instance_id)).astype(np.int32)
    kind, material, class_id, instance_id = torch.from_numpy(whole).to(device)
    return SolidTable(kind, material, class_id.to(torch.uint8), instance_id, *floats)


class GroundTable:
    """Class and colour of the plane z = 0 on a device."""

    def __init__(self, ground: Ground, device: torch.device):
        self._low_xy = [float(value) for value in ground.low_xy]
        self._class_id = torch.from_numpy(ground.class_id).to(device)
        self._mips = [torch.from_numpy(mip).to(device) for mip in ground.mips]

    def classes(self, x: Tensor, y: Tensor) -> Tensor:
        """Class, uint8 [...], of points."""
        column = ((x.double() - self._low_xy[0]) / CELL_M).floor_().long()
        row = ((y.double() - self._low_xy[1]) / CELL_M).floor_().long()
        rows, columns = self._class_id.shape
        known = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        place = row.clamp_(0, rows - 1) * columns + column.clamp_(0, columns - 1)
        found = self._class_id.view(-1).index_select(0, place.view(-1)).view(place.shape)
        return torch.where(known, found, _TERRAIN)

    def colours(self, x: Tensor, y: Tensor, footprint_m: Tensor) -> Tensor:
        """Linear colour [3, n] of points [n], averaged over about `footprint_m`."""
        level = (footprint_m > 0.2).int() + (footprint_m > 0.8).int()
        out = x.new_empty((3, len(x)))
        for number, mip in enumerate(self._mips):
            here = (level == number).nonzero()[:, 0]
            cell_m = CELL_M * 4**number
            u, v = (
                ((values.index_select(0, here).double() - low) / cell_m - 0.5).float()
                for values, low in zip((x, y), self._low_xy)
            )
            out.index_copy_(1, here, _bilinear(mip, u, v))
        return (out / 255) ** _GAMMA


def _bilinear(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Colours [3, n] of an image [rows, columns, 3] at pixels; its border goes on outside.

    Terrain has a texture of its own (see `render`), so that the repeated border is not noticed.
    """
    rows, columns = image.shape[:2]
    left, top = u.floor(), v.floor()
    right, below = u - left, v - top
    texels = image.view(-1, 3)
    total = u.new_zeros((3, len(u)))
    for down, weight_v in ((0, 1 - below), (1, below)):
        row = (top.long() + down).clamp_(0, rows - 1) * columns
        for aside, weight_u in ((0, 1 - right), (1, right)):
            place = row + (left.long() + aside).clamp_(0, columns - 1)
            total.addcmul_(texels.index_select(0, place).T.float(), weight_u * weight_v)
    return total
