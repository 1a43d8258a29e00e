"""One instant of a scene as a vehicle would record it, and the truth that it cannot record."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import NS_PER_S
from ..ground_truth import GroundTruth
from ..types import GridGeometry
from .boxes import true_boxes
from .camera import Rig
from .lidar import Lidar, true_points
from .renderer import Picture, Renderer
from .scene import Scene
from .truth import truth
from .visibility import View, mask_from_views


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """What the cameras of a rig take, each at its own shutter time."""

    jpegs: tuple[NDArray[np.uint8], ...]  # the bytes of each image, in the order of the rig
    truth: GroundTruth | None  # stamped with the scene's time


def capture(
    renderer: Renderer,
    rig: Rig,
    time_s: float,
    geometry: GridGeometry | None,
    *,
    truth_delay_s: float = 0.0,
    lidar: Lidar | None = None,
    jpeg_quality: int = 92,
) -> Capture:
    """The images of a rig that fires at `time_s`, with the truth on a grid.

    Args:
        geometry: of the true voxels; None leaves them out.
        truth_delay_s: from `time_s` to when the truth holds.
        lidar: whose labelled points the truth has; None: no points.  Without voxels and points there is no truth.

    Raises:
        ValueError: the grid has more than 64 million voxels, or none.
    """
    pictures = renderer.pictures(rig, time_s)
    jpegs = tuple(_jpeg(pictures[camera.name].rgb, jpeg_quality) for camera in rig)
    if geometry is None and lidar is None:
        return Capture(jpegs, None)
    scene, truth_s = renderer.scene, time_s + truth_delay_s
    there = GroundTruth(round(truth_s * NS_PER_S), boxes=true_boxes(scene, truth_s))
    if geometry is not None:
        there = _with_voxels(there, scene, rig, pictures, time_s, geometry, truth_s)
    if lidar is not None:
        there = replace(there, points=true_points(scene, truth_s, lidar))
    return Capture(jpegs, there)


def _with_voxels(
    there: GroundTruth,
    scene: Scene,
    rig: Rig,
    pictures: Mapping[str, Picture],
    time_s: float,
    geometry: GridGeometry,
    truth_s: float,
) -> GroundTruth:
    solid = truth(scene, geometry, truth_s)
    # The pictures have the depths already: no second casting of rays.
    views = [
        View(
            camera,
            scene.world_from_ego(time_s + camera.shutter_offset_s) @ camera.ego_from_camera,
            pictures[camera.name].depth_m,
        )
        for camera in rig
    ]
    return replace(
        there,
        geometry=geometry,
        class_id=solid.class_id,
        instance_id=solid.instance_id,
        camera_mask=mask_from_views(views, geometry, solid.world_from_ego),
    )


def _jpeg(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"an image of {rgb.shape} could not be encoded as JPEG")
    return np.asarray(data, np.uint8)
