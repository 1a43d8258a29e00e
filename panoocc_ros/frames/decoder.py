"""From a set that has everything to a frame: images decoded, rectified, with pose and lens."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.cameras.lens import Calibration, CalibrationError, calibration
from panoocc_core.cameras.rectified import rectified_image
from panoocc_core.types import CameraImage, Frame

from .images import decode
from .picture_watch import PictureWatch
from .rig import Rig
from .sets import ReadySet, Refused

BLANK_HW = (360, 640)  # where nobody says how large the images of a camera would be


class FrameDecoder:
    """Decodes the images of a set side by side.  All methods belong to one thread."""

    def __init__(self, rig: Rig, pictures: PictureWatch) -> None:
        self._rig, self._pictures = rig, pictures
        self.turns: dict[str, int] = {}  # quarter turns by which a camera's pictures are turned upright
        self._calibrations: dict[str, tuple[Any, Calibration]] = {}
        self._pool = ThreadPoolExecutor(min(len(rig.names), os.cpu_count() or 1), "decoder")

    def frame(self, ready: ReadySet) -> Frame:
        """The frame of a set.

        Raises:
            Refused: an image or a calibration cannot be used; the text names the camera.
        """
        # OpenCV lets go of Python's lock while it decodes.
        cameras = tuple(self._pool.map(lambda name: self._camera_image(name, ready), self._rig.names))
        return Frame(ready.stamp_ns, ready.world_from_ego, cameras, ego_from_network=ready.ego_from_network)

    def close(self) -> None:
        """End the threads; `frame` can be called no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _camera_image(self, name: str, ready: ReadySet) -> CameraImage:
        message = ready.messages.messages.get(name)
        try:
            if message is None:
                return self._blank(name, ready)
            pose, lens = ready.poses[name], self._calibration(name, ready.infos[name])
            taken = decode(message, lens.size_hw)
            camera, self.turns[name] = rectified_image(
                name, taken, lens, pose.ego_from_camera, pose.stamp_ns, pose.world_from_ego
            )
            self._pictures.look(name, pose.stamp_ns, camera.image.numpy(), pose.world_from_ego)
            return camera
        except ImageError as error:
            raise Refused("image", name, f"{error} (topic {self._rig.camera(name).topic})") from error
        except CalibrationError as error:
            raise Refused("camera_info", name, f"{error} (topic {self._rig.camera(name).info_topic})") from error
        except ValueError as error:
            raise Refused("frame", name, str(error)) from error

    def _blank(self, name: str, ready: ReadySet) -> CameraImage:
        """A camera that sees nothing: what is not known of it does not matter."""
        return CameraImage(
            name=name,
            stamp_ns=ready.stamp_ns,
            image=torch.zeros((*BLANK_HW, 3), dtype=torch.uint8),
            intrinsics=np.eye(3),
            ego_from_camera=np.eye(4),
            world_from_ego=ready.world_from_ego,
            is_blank=True,
        )

    def _calibration(self, name: str, info: Any) -> Calibration:
        known = self._calibrations.get(name)
        if known is None or known[0] is not info:
            known = self._calibrations[name] = (info, calibration(info, self._rig.camera(name).is_rectified))
        return known[1]
