"""Pictures of a scene as its cameras take them: colour, class, instance and depth of every pixel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..labels import OCC3D
from . import shading
from .camera import Rig, SimCamera
from .lens_sides import lens_sides
from .materials import surface
from .rays import FAR_M, GROUND, SKY, DeviceHits, cast_on
from .scene import Scene
from .shadow import ShadowMap, empty_map
from .shapes import Floats, ShapeTable
from .surfaces import GroundTable, SolidTable, solid_table

_SHADOW_CELL_M = 0.15
_MOVING_SHADOWS_M = 45.0  # farther ones, and those of thin shapes, are smaller than a pixel or two
_THIN_M = 0.12
_FREE, _TERRAIN = OCC3D.names.index("free"), OCC3D.names.index("terrain")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What one camera sees at one time; the four images agree pixel by pixel."""

    rgb: NDArray[np.uint8]  # [height, width, 3]
    class_id: NDArray[np.uint8]  # [height, width], ids of labels.OCC3D; the sky is free
    instance_id: NDArray[np.int32]  # [height, width], 0 = stuff and sky
    depth_m: Floats  # [height, width], along the optical axis, through a lens along the ray; inf for the sky


class Renderer:
    """Renders one scene; keeps what does not change with time (textures, shadows of what stands).

    `supersample` n takes n x n rays per pixel for the colours.  `noise` is the sensor's noise in 8-bit steps.  All work
    per pixel is done on `device`.
    """

    def __init__(
        self, scene: Scene, supersample: int = 1, noise: float = 1.5, device: torch.device | str = "cpu"
    ) -> None:
        if supersample < 1:
            raise ValueError(f"supersample must be at least 1, not {supersample}")
        self.scene, self.supersample, self.noise, self.device = scene, supersample, noise, torch.device(device)
        self._texture = torch.from_numpy(shading.noise_texture(scene.seed)).to(self.device)
        self._to_sun = torch.from_numpy(scene.to_sun).to(self.device)
        self._ground = GroundTable(scene.ground, self.device)
        shapes = scene.shapes_at(0.0)
        still = shapes.centre_m[~shapes.moving]
        low, high = still.min(axis=0) - 12, still.max(axis=0) + 12
        low_m, high_m = np.append(low[:2], 0), np.append(high[:2], 25)
        self._still_shadows = empty_map(scene.to_sun, low_m, high_m, _SHADOW_CELL_M, self.device)
        self._still_shadows.add(shapes, ~shapes.moving)

    @torch.inference_mode()
    def picture(self, camera: SimCamera, time_s: float) -> Picture:
        """What `camera` sees when its shutter opens at `time_s`."""
        world_from_ego, shapes = self.scene.world_from_ego(time_s), self.scene.shapes_at(time_s)
        solids = solid_table(shapes, self.device)
        shadows = self._shadows(shapes, (world_from_ego @ camera.ego_from_camera)[:3, 3].astype(np.float32))

        def taken(pinhole: SimCamera) -> Picture:
            world_from_camera = world_from_ego @ pinhole.ego_from_camera
            hits = cast_on(self.device, pinhole, world_from_camera, shapes)
            if self.supersample == 1:
                colours = self._colours(hits, solids, shadows)
            else:
                n = self.supersample
                fine = cast_on(self.device, pinhole.scaled(n), world_from_camera, shapes)
                colours = self._colours(fine, solids, shadows)
                colours = colours.view(3, pinhole.height, n, pinhole.width, n).mean(dim=(2, 4))
            return self._labelled(hits, solids, self._exposed(colours, pinhole, time_s))

        return taken(camera) if camera.lens is None else _through_lens(camera, taken)

    def pictures(self, rig: Rig, time_s: float) -> dict[str, Picture]:
        """One picture per camera, each at its own shutter time after `time_s`."""
        return {camera.name: self.picture(camera, time_s + camera.shutter_offset_s) for camera in rig}

    def _shadows(self, shapes: ShapeTable, origin: Floats) -> ShadowMap:
        near = np.hypot(*(shapes.centre_m[:, :2] - origin[:2]).T) < _MOVING_SHADOWS_M
        shadows = self._still_shadows.around(origin, FAR_M)
        shadows.add(shapes, shapes.moving & near & (np.median(shapes.half_m, axis=1) > _THIN_M))
        return shadows

    def _colours(self, hits: DeviceHits, solids: SolidTable, shadows: ShadowMap) -> Tensor:
        """Linear colours [3, height, width]."""
        index, direction = hits.shape.flatten(), hits.direction.flatten(1)
        length = shading.length(direction)
        ray, distance = direction / length, hits.depth_m.flatten() * length
        out = torch.empty_like(ray)
        above = (index == SKY).nonzero()[:, 0]
        out.index_copy_(1, above, shading.sky(ray.index_select(1, above), self._to_sun, self._texture))
        for group, shade in ((index == GROUND, self._on_ground), (index >= 0, self._on_solids)):
            here = group.nonzero()[:, 0]
            own_ray, own_distance = ray.index_select(1, here), distance.index_select(0, here)
            point = hits.origin[:, None] + own_ray * own_distance
            spots = _Spots(index.index_select(0, here), own_ray, own_distance, point, solids, shadows)
            out.index_copy_(1, here, shading.haze(shade(spots), own_distance))
        return out.view(hits.direction.shape)

    def _on_ground(self, spots: "_Spots") -> Tensor:
        x, y, _ = spots.point
        footprint = spots.distance_m / 180 / (-spots.ray[2]).clamp(min=0.05).sqrt()
        albedo = self._ground.colours(x, y, footprint)
        grain = shading.sample(self._texture, x * 50, y * 50) * (1.4 - spots.distance_m / 30).clamp(0.2, 1)
        wide = shading.sample(self._texture, x * 4, y * 4)
        strength = torch.where(self._ground.classes(x, y) == _TERRAIN, 1.0, 0.32)
        albedo *= (1 + strength * (0.30 * grain + 0.45 * wide)).clamp_(0.3, 2)
        upright = torch.zeros_like(spots.point)
        upright[2] = 1
        return albedo * shading.light(upright, spots.shadows.lit(spots.point), self._to_sun)

    def _on_solids(self, spots: "_Spots") -> Tensor:
        local = spots.solids.local(spots.index, spots.point)
        normal, face = shading.normals(spots.solids, spots.index, local)
        albedo, gloss = surface(spots.solids, spots.index, local, face, spots.point, self._texture)
        lit = spots.shadows.lit(spots.point + 0.1 * normal)
        colour = albedo * shading.light(normal, lit, self._to_sun)
        shiny = (gloss > 0).nonzero()[:, 0]
        ray, out = spots.ray.index_select(1, shiny), normal.index_select(1, shiny)
        cosine = -(ray * out).sum(dim=0)
        mirrored = ray + 2 * cosine * out
        strength = gloss.index_select(0, shiny) * (0.25 + 0.75 * (1 - cosine.clamp_(0, 1)) ** 3)
        reflected = shading.sky(mirrored, self._to_sun, self._texture)
        reflected *= torch.where(mirrored[2] > 0, 1.0, 0.4)  # below the horizon is the street
        colour.index_copy_(1, shiny, torch.lerp(colour.index_select(1, shiny), reflected, strength))
        # A little darkness where things meet the ground.
        return colour * (0.6 + 0.8 * spots.point[2]).clamp_(0, 1)

    def _exposed(self, colours: Tensor, camera: SimCamera, time_s: float) -> Tensor:
        """sRGB, uint8 [height, width, 3]; the noise is the same on every device."""
        image = shading.to_srgb(colours, self.scene.exposure)
        key = [self.scene.seed, round(time_s * 1e6) % 2**32, *camera.name.encode()]
        grain = np.random.default_rng(key).standard_normal(image.shape[1:], dtype=np.float32)
        image += torch.from_numpy(self.noise * grain).to(self.device)
        return (image + 0.5).clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()

    def _labelled(self, hits: DeviceHits, solids: SolidTable, rgb: Tensor) -> Picture:
        solid = hits.shape.clamp(min=0)
        depth = torch.where(hits.depth_m.isfinite(), hits.depth_m, 0)
        x, y = hits.direction[:2] * depth + hits.origin[:2, None, None]
        below = torch.where(hits.shape == GROUND, self._ground.classes(x, y), _FREE)
        class_id = torch.where(hits.shape >= 0, _taken(solids.class_id, solid), below)
        instance_id = torch.where(hits.shape >= 0, _taken(solids.instance_id, solid), 0)
        arrays = (rgb, class_id.to(torch.uint8), instance_id, hits.depth_m)
        return Picture(*(array.cpu().numpy() for array in arrays))


def _through_lens(camera: SimCamera, taken: Callable[[SimCamera], Picture]) -> Picture:
    """The picture of a camera with a lens, of those that pinholes take of its sides."""
    sides = lens_sides(camera)
    pictures = [taken(side) for side in sides.cameras(camera)]
    return Picture(
        rgb=sides.through([one.rgb for one in pictures], 0, smooth=True),
        class_id=sides.through([one.class_id for one in pictures], _FREE),
        instance_id=sides.through([one.instance_id for one in pictures], 0),
        depth_m=sides.through([one.depth_m for one in pictures], np.inf) * sides.stretch,
    )


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """Entries [height, width] of a column [m]."""
    return values.index_select(0, index.flatten()).view(index.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Spots:
    """Points that pixels see, and what shading them takes."""

    index: Tensor  # [n], shape
    ray: Tensor  # [3, n], unit direction from the camera
    distance_m: Tensor  # [n]
    point: Tensor  # [3, n], world frame
    solids: SolidTable
    shadows: ShadowMap
