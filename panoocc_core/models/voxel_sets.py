"""Features of some voxels of a volume alone: convolutions and interpolation that know of no others.

Every shape follows from the number of voxels and from the kernel, never from the voxels' places.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

Triple = tuple[int, int, int]  # z, y, x
Taps = list[tuple[int, int]]  # offset of a neighbour, and its place in the kernel


@dataclass(frozen=True, slots=True, eq=False)
class VoxelSet:
    """Some voxels of a volume, none twice; rows of their features have the same order."""

    index: Tensor  # int64 [k], places in the order of z, y, x
    shape: Triple  # of the volume

    @classmethod
    def full(cls, shape: Triple, device: torch.device) -> "VoxelSet":
        """All voxels, in their order."""
        return cls(torch.arange(math.prod(shape), device=device), shape)

    def of_rows(self, rows: Tensor) -> "VoxelSet":
        """Those of some rows, int64 [m]."""
        return VoxelSet(self.index.index_select(0, rows), self.shape)

    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """z, y and x of every voxel, int64 [k]."""
        _, rows, columns = self.shape
        row = self.index // columns
        return row // rows, row % rows, self.index % columns

    def children(self, factors: Triple) -> list["VoxelSet"]:
        """For each of the `phases` of the factors the one child of every voxel, in the volume so many times finer."""
        shape = (self.shape[0] * factors[0], self.shape[1] * factors[1], self.shape[2] * factors[2])
        z, y, x = self.places()
        first = (z * (factors[0] * shape[1]) + y * factors[1]) * shape[2] + x * factors[2]
        return [VoxelSet(first + step, shape) for step in _steps(phases(factors), shape)]

    def widened(self, reach: Triple) -> "VoxelSet":
        """The same voxels in a volume with a border of `reach` voxels around."""
        shape = (self.shape[0] + 2 * reach[0], self.shape[1] + 2 * reach[1], self.shape[2] + 2 * reach[2])
        z, y, x = self.places()
        return VoxelSet(((z + reach[0]) * shape[1] + y + reach[1]) * shape[2] + x + reach[2], shape)


def phases(factors: Triple) -> Iterator[Triple]:
    """The places of the children within a voxel."""
    return product(range(factors[0]), range(factors[1]), range(factors[2]))


def _steps(offsets: Iterator[Triple] | Sequence[Triple], shape: Triple) -> list[int]:
    """How far offsets in z, y, x are apart in a volume's order."""
    return [(z * shape[1] + y) * shape[2] + x for z, y, x in offsets]


class _Neighbours:
    """Finds the rows of voxels around those of a set."""

    def __init__(self, voxels: VoxelSet, reach: Triple):
        self.wide, self.count = voxels.widened(reach), len(voxels.index)
        self.rows = voxels.index.new_full((math.prod(self.wide.shape),), self.count)
        self.rows[self.wide.index] = torch.arange(self.count, device=self.rows.device)

    def __call__(self, offset: Triple) -> Tensor:
        """Rows of the voxels at an offset in z, y, x, int64 [k]; k where there is none."""
        return self.rows.index_select(0, self.wide.index + _steps([offset], self.wide.shape)[0])


def conv_transpose(
    features: Tensor, voxels: VoxelSet, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple
) -> tuple[Tensor, VoxelSet]:
    """Transposed 3-D convolution at the children of some voxels; voxels that are not among them count as zeros.

    Args:
        features: [k, C].
        weight: [C, C', kernel z, y, x] with kernel = stride + 2 padding along each axis, so that the volume grows by
            the stride.

    Returns:
        [k * children, C'] and the children, those of one voxel after each other.
    """
    kernel = weight.shape[2:]
    taps = [_conv_taps(*axis) for axis in zip(kernel, stride, padding)]
    reach = [max(abs(offset) for phase in axis for offset, _ in phase) for axis in taps]
    neighbours = _Neighbours(voxels, (reach[0], reach[1], reach[2]))
    places = math.prod(kernel)
    # What every voxel adds to each child around it; a row of zeros stands for the voxels that are not there.
    table = functional.pad(features, (0, 0, 0, 1)) @ weight.permute(0, 2, 3, 4, 1).flatten(1)
    table = table.view(-1, weight.shape[1])  # row * places + place in the kernel
    sums = []
    for phase in phases(stride):
        found = [
            neighbours((dz, dy, dx)) * places + (tz * kernel[1] + ty) * kernel[2] + tx
            for (dz, tz), (dy, ty), (dx, tx) in product(*(axis[place] for axis, place in zip(taps, phase)))
        ]
        sums.append(functional.embedding_bag(torch.stack(found, dim=1), table, mode="sum"))
    children = voxels.children(stride)
    out = torch.stack(sums, dim=1).flatten(0, 1)
    index = torch.stack([child.index for child in children], dim=1).flatten()
    return out if bias is None else out + bias, VoxelSet(index, children[0].shape)


def _conv_taps(kernel: int, stride: int, padding: int) -> list[Taps]:
    """For every place of a child within its voxel, along one axis: the neighbours that reach it."""
    assert kernel == stride + 2 * padding
    far = range(-kernel, kernel + 1)
    return [
        [(d, place + padding - d * stride) for d in far if 0 <= place + padding - d * stride < kernel]
        for place in range(stride)
    ]


def scalar_conv(features: Tensor, voxels: VoxelSet, weight: Tensor, bias: Tensor) -> Tensor:
    """3-D convolution of features [k, C] with a kernel [1, C, n, n, n], n odd, to one number a voxel: float32 [k].

    Every voxel adds to each of its neighbours, in a volume of numbers; no two add to one place at once.
    """
    side = weight.shape[-1]
    edge = side // 2
    addends = (weight[0].flatten(1).t() @ features.t()).float()  # [place in the kernel, k]
    wide = voxels.widened((edge, edge, edge))
    total = addends.new_zeros(math.prod(wide.shape))
    offsets = [(edge - z, edge - y, edge - x) for z, y, x in phases((side, side, side))]
    for step, addend in zip(_steps(offsets, wide.shape), addends):
        total.index_add_(0, wide.index + step, addend)
    return total.index_select(0, wide.index) + bias.float()


def interpolated(values: Tensor, voxels: VoxelSet, factors: Triple) -> Iterator[tuple[Tensor, VoxelSet]]:
    """Values [k, C] interpolated linearly at the children of their voxels: one child of each at a time.

    Neighbours that are not among the voxels do not count, and the weights of the others are scaled to one: at the
    border of the volume that is what dense interpolation does too.
    """
    neighbours = _Neighbours(voxels, (1, 1, 1))
    padded = functional.pad(values, (0, 0, 0, 1))
    for phase, children in zip(phases(factors), voxels.children(factors)):
        found, weights = [], []
        for taps in product(*(_linear_taps(factor, place) for factor, place in zip(factors, phase))):
            (dz, wz), (dy, wy), (dx, wx) = taps
            found.append(neighbours((dz, dy, dx)))
            weights.append((found[-1] < len(values)) * (wz * wy * wx))
        weight = torch.stack(weights, dim=1).to(values.dtype)
        weight = weight / weight.sum(dim=1, keepdim=True)
        bags = torch.stack(found, dim=1)
        yield functional.embedding_bag(bags, padded, mode="sum", per_sample_weights=weight), children


def _linear_taps(factor: int, place: int) -> list[tuple[int, float]]:
    """Offsets and weights along one axis of the one or two voxels whose centres are around that of a child."""
    distance = (place + 0.5) / factor - 0.5  # from the centre of its own voxel
    if distance == 0:
        return [(0, 1.0)]
    return [(0, 1 - abs(distance)), (1 if distance > 0 else -1, abs(distance))]


def repeated(volume: Tensor, factors: Triple) -> Tensor:
    """Every value [Z, Y, X] at all children of its voxel."""
    depth, height, width = volume.shape
    wide = volume[:, None, :, None, :, None].expand(depth, factors[0], height, factors[1], width, factors[2])
    return wide.reshape(depth * factors[0], height * factors[1], width * factors[2])
