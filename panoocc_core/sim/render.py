"""Pictures of a scene as its cameras take them: colour, class, instance and depth of every pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..labels import OCC3D
from . import shading
from .materials import surface
from .rays import FAR_M, GROUND, SKY, Hits, ShadowMap, cast
from .rig import Rig, SimCamera
from .scene import Scene
from .shapes import Floats, Ints, ShapeTable

_SHADOW_CELL_M = 0.15
_MOVING_SHADOWS_M = 45.0  # farther ones, and those of thin shapes, are smaller than a pixel or two
_THIN_M = 0.12


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What one camera sees at one time; the four images agree pixel by pixel."""

    rgb: NDArray[np.uint8]  # [height, width, 3]
    class_id: NDArray[np.uint8]  # [height, width], ids of labels.OCC3D; the sky is free
    instance_id: NDArray[np.int32]  # [height, width], 0 = stuff and sky
    depth_m: Floats  # [height, width], along the optical axis; inf for the sky


class Renderer:
    """Renders one scene; keeps what does not change with time (textures, shadows of what stands).

    `supersample` n takes n x n rays per pixel for the colours.  `noise` is the sensor's noise in 8-bit steps.
    """

    def __init__(self, scene: Scene, supersample: int = 1, noise: float = 1.5):
        if supersample < 1:
            raise ValueError(f"supersample must be at least 1, not {supersample}")
        self.scene, self.supersample, self.noise = scene, supersample, noise
        self._texture = shading.noise_texture(scene.seed)
        shapes = scene.shapes_at(0.0)
        still = shapes.centre_m[~shapes.moving]
        low, high = still.min(axis=0) - 12, still.max(axis=0) + 12
        self._still_shadows = ShadowMap(scene.to_sun, np.append(low[:2], 0), np.append(high[:2], 25), _SHADOW_CELL_M)
        self._still_shadows.add(shapes, ~shapes.moving)

    def picture(self, camera: SimCamera, time_s: float) -> Picture:
        """What `camera` sees when its shutter opens at `time_s`."""
        shapes = self.scene.shapes_at(time_s)
        world_from_camera = self.scene.world_from_ego(time_s) @ camera.ego_from_camera
        hits = cast(camera, world_from_camera, shapes)
        shadows = self._shadows(shapes, hits.origin)
        if self.supersample == 1:
            rgb = self._colours(hits, shapes, shadows)
        else:
            n = self.supersample
            fine = cast(camera.scaled(n), world_from_camera, shapes)
            colours = self._colours(fine, shapes, shadows)
            rgb = colours.reshape(camera.height, n, camera.width, n, 3).mean(axis=(1, 3))
        return self._labelled(camera, hits, shapes, self._exposed(rgb, camera, time_s))

    def pictures(self, rig: Rig, time_s: float) -> dict[str, Picture]:
        """One picture per camera, each at its own shutter time after `time_s`."""
        return {camera.name: self.picture(camera, time_s + camera.shutter_offset_s) for camera in rig}

    def _shadows(self, shapes: ShapeTable, origin: Floats) -> ShadowMap:
        near = np.hypot(*(shapes.centre_m[:, :2] - origin[:2]).T) < _MOVING_SHADOWS_M
        shadows = self._still_shadows.around(origin, FAR_M)
        shadows.add(shapes, shapes.moving & near & (np.median(shapes.half_m, axis=1) > _THIN_M))
        return shadows

    def _colours(self, hits: Hits, shapes: ShapeTable, shadows: ShadowMap) -> Floats:
        """Linear colours [height, width, 3]."""
        index = hits.shape.ravel()
        direction = np.ascontiguousarray(hits.direction.reshape(3, -1).T)
        length = np.linalg.norm(direction, axis=1)
        ray, distance = direction / length[:, None], hits.depth_m.ravel() * length
        out = np.empty((len(index), 3), np.float32)
        above = index == SKY
        out[above] = shading.sky(ray[above], self.scene.to_sun, self._texture)
        for here, shade in ((index == GROUND, self._ground), (index >= 0, self._solids)):
            spots = _Spots(
                index[here], ray[here], distance[here], hits.origin + ray[here] * distance[here, None], shapes, shadows
            )
            out[here] = shading.haze(shade(spots), spots.distance_m)
        return out.reshape(*hits.shape.shape, 3)

    def _ground(self, spots: "_Spots") -> Floats:
        x, y = spots.point[:, 0], spots.point[:, 1]
        footprint = spots.distance_m / 180 / np.sqrt(np.maximum(-spots.ray[:, 2], 0.05))
        albedo = self.scene.ground.colours(x, y, footprint)
        grain = shading.sample(self._texture, x * 50, y * 50) * np.clip(1.4 - spots.distance_m / 30, 0.2, 1)
        wide = shading.sample(self._texture, x * 4, y * 4)
        soft = self.scene.ground.classes(x, y) == OCC3D.names.index("terrain")
        strength = np.where(soft, np.float32(1), np.float32(0.32))
        albedo *= np.clip(1 + strength * (0.30 * grain + 0.45 * wide), 0.3, 2)[:, None]
        upright = np.zeros_like(spots.point)
        upright[:, 2] = 1
        return albedo * shading.light(upright, spots.shadows.lit(spots.point), self.scene.to_sun)

    def _solids(self, spots: "_Spots") -> Floats:
        shapes, index = spots.shapes, spots.index
        local = np.einsum("nij,nj->ni", shapes.local_from_world[index], spots.point - shapes.centre_m[index])
        normal, face = shading.normals(shapes, index, local)
        albedo, gloss = surface(shapes, index, local, face, spots.point, self._texture)
        lit = spots.shadows.lit(spots.point + 0.1 * normal)
        colour = albedo * shading.light(normal, lit, self.scene.to_sun)
        shiny = gloss > 0
        ray, out = spots.ray[shiny], normal[shiny]
        cosine = -(ray * out).sum(axis=1, keepdims=True)
        mirrored = ray + 2 * cosine * out
        strength = gloss[shiny, None] * (0.25 + 0.75 * (1 - np.clip(cosine, 0, 1)) ** 3)
        reflected = shading.sky(mirrored, self.scene.to_sun, self._texture)
        reflected *= np.where(mirrored[:, 2:] > 0, np.float32(1), np.float32(0.4))  # below the horizon is the street
        colour[shiny] = colour[shiny] * (1 - strength) + reflected * strength
        # A little darkness where things meet the ground.
        return colour * np.clip(0.6 + 0.8 * spots.point[:, 2:], 0, 1)

    def _exposed(self, colours: Floats, camera: SimCamera, time_s: float) -> NDArray[np.uint8]:
        image = shading.to_srgb(colours, self.scene.exposure)
        key = [self.scene.seed, round(time_s * 1e6) % 2**32, *camera.name.encode()]
        grain = np.random.default_rng(key).standard_normal(image.shape[:2], dtype=np.float32)
        image += (self.noise * grain)[..., None]
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _labelled(self, camera: SimCamera, hits: Hits, shapes: ShapeTable, rgb: NDArray[np.uint8]) -> Picture:
        free = np.uint8(OCC3D.names.index("free"))
        solid = np.maximum(hits.shape, 0)
        points = hits.direction[:2] * np.where(np.isfinite(hits.depth_m), hits.depth_m, 0) + hits.origin[:2, None, None]
        ground = self.scene.ground.classes(points[0], points[1])
        class_id = np.where(hits.shape >= 0, shapes.class_id[solid], np.where(hits.shape == GROUND, ground, free))
        instance_id = np.where(hits.shape >= 0, shapes.instance_id[solid], 0).astype(np.int32)
        return Picture(rgb, class_id.astype(np.uint8), instance_id, hits.depth_m)


@dataclass(frozen=True, slots=True, eq=False)
class _Spots:
    """Points that pixels see, and what shading them takes."""

    index: Ints  # [n], shape
    ray: Floats  # [n, 3], unit direction from the camera
    distance_m: Floats  # [n]
    point: Floats  # [n, 3], world frame
    shapes: ShapeTable
    shadows: ShadowMap
