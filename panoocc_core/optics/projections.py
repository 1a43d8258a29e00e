"""From points to the pixels of several images at once, on any device: what networks sample their images by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import Matrix
from .lens_model import NEAR_M, LensKind, LensModel, imaged

UNSEEN = np.array([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]])  # from points to a blank camera: all lie behind it


@dataclass(frozen=True, slots=True, eq=False)
class LensGroup:
    """Cameras whose lenses are of one kind, c of them."""

    kind: LensKind
    place: Tensor  # int64 [c], of each in the order of the images
    coefficients: Tensor  # [c, k]
    field_rad: Tensor  # [c]
    lens_from_points: Tensor  # [c, 3, 4], into the axes of the calibration
    image_from_lens: Tensor  # [c, 3, 3]

    def pixels(self, points_m: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [c, n, 2] of points [n, 3], and which [c, n] the lenses see."""
        points = points_m @ self.lens_from_points[:, :, :3].mT + self.lens_from_points[:, None, :, 3]
        places, seen = imaged(self.kind, self.coefficients, self.field_rad, points)
        return places @ self.image_from_lens[:, :2, :2].mT + self.image_from_lens[:, None, :2, 2], seen


@dataclass(frozen=True, slots=True, eq=False)
class Projections:
    """Where points appear in the images of a set, whole numbers being the centres of pixels."""

    image_from_network: Tensor  # float32 [camera, 3, 4] of pinholes; of a camera with a lens: sees nothing
    lenses: tuple[LensGroup, ...] = ()

    def pixels(self, points_m: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [camera, n, 2] of points [n, 3], anywhere outside the image too, and which [camera, n] lie before the
        camera and in the field of its lens."""
        matrix = self.image_from_network
        points = torch.einsum("cij,nj->cni", matrix[:, :, :3], points_m) + matrix[:, None, :, 3]
        depth = points[..., 2:]
        pixels, seen = points[..., :2] / depth.clamp(min=NEAR_M), depth[..., 0] > NEAR_M
        for group in self.lenses:
            found = group.pixels(points_m)
            pixels, seen = pixels.index_copy(0, group.place, found[0]), seen.index_copy(0, group.place, found[1])
        return pixels, seen

    def mirrored(self, width: int) -> "Projections":
        """Of images in which the pixel x, counted from the left edge, has become width - x."""

        def across(matrix: Tensor) -> Tensor:
            return torch.stack((width * matrix[:, 2] - matrix[:, 0], matrix[:, 1], matrix[:, 2]), dim=1)

        groups = tuple(replace(group, image_from_lens=across(group.image_from_lens)) for group in self.lenses)
        return Projections(across(self.image_from_network), groups)


@dataclass(frozen=True, slots=True, eq=False)
class LensedImage:
    """One camera with a lens, and where it is."""

    lens: LensModel
    image_from_camera: Matrix  # [3, 3], the camera matrix
    camera_from_points: Matrix  # [3, 4]


def lens_groups(
    images: Iterable[tuple[int, LensedImage]], dtype: torch.dtype, device: torch.device
) -> tuple[LensGroup, ...]:
    """Images with lenses by their places in a set, those whose lenses are of one kind together."""
    groups: dict[tuple[LensKind, int], list[tuple[int, LensedImage]]] = {}
    for place, image in images:
        groups.setdefault((image.lens.kind, len(image.lens.coefficients)), []).append((place, image))

    def tensor(values: Sequence[Matrix] | Sequence[tuple[float, ...]] | Sequence[float]) -> Tensor:
        return torch.as_tensor(np.stack([np.asarray(value) for value in values]), dtype=dtype, device=device)

    return tuple(
        LensGroup(
            kind=kind,
            place=torch.tensor([place for place, _ in members], device=device),
            coefficients=tensor([one.lens.coefficients for _, one in members]),
            field_rad=tensor([one.lens.field_rad for _, one in members]),
            lens_from_points=tensor([one.lens.calibrated_from_camera @ one.camera_from_points for _, one in members]),
            image_from_lens=tensor([one.image_from_camera @ one.lens.calibrated_from_camera.T for _, one in members]),
        )
        for (kind, _), members in groups.items()
    )
