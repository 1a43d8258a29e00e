"""From the messages of a set to images: decoded, rectified, with pose and lens."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from panoocc_core.base.processors import processor_count
from panoocc_core.base.reduction import Fit
from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.cameras.lens import Calibration, CalibrationError, calibration
from panoocc_core.cameras.rectified import upright_image
from panoocc_core.cameras.upright import quarter_turns
from panoocc_core.config import ImageConfig
from panoocc_core.cuda.staging import SideUploads
from panoocc_core.preprocess import fit
from panoocc_core.types import CameraImage

from ..load.priorities import give_way
from .images import ENCODINGS
from .picture_watch import PictureWatch
from .pictures import DecodingAhead, Picture, PictureForDevice
from .rig import Rig
from .sets import ReadySet, Refused

SETS_AHEAD = 2  # whose images are decoded, at most, before they are used: more would only take memory


class FrameDecoder:
    """Decodes the images of a set side by side, some before the set is complete.

    `take` belongs to one thread and `images` to another.  Without `images` pictures are as large as they were sent.
    Where `gives_way`, what is decoded ahead has threads of its own, which let others go first.  With `uploads` images
    go to a device as they were sent, where it can decode them, else as RGB, and are undistorted and turned there.
    """

    def __init__(
        self,
        rig: Rig,
        watch: PictureWatch,
        images: ImageConfig | None = None,
        gives_way: bool = False,
        uploads: SideUploads | None = None,
    ) -> None:
        self._rig, self._watch, self._images, self._uploads = rig, watch, images, uploads
        self.converted: dict[str, str] = {}  # camera -> its encoding, where cv_bridge decodes it
        self.turns: dict[str, int] = {}  # quarter turns by which a camera's pictures are turned upright
        self._calibrations: dict[str, tuple[Any, bool, Calibration]] = {}
        self._lock = threading.Lock()  # of the calibrations
        threads = min(len(rig.names), processor_count())
        self._pool = self._pool_ahead = ThreadPoolExecutor(threads, "decoder")
        if gives_way:
            self._pool_ahead = ThreadPoolExecutor(threads, "ahead", initializer=give_way)
        self._ahead = DecodingAhead(self._pool_ahead, SETS_AHEAD * len(rig.names))

    def take(self, camera: str, message: Any, info: Any | None) -> Picture:
        """An image that has come, with what is known of its camera by now; its pixels are begun with, if that helps.

        Only what fits its CameraInfo is decoded so early: without one, nobody knows how large it may be.
        """
        picture = Picture(message) if self._uploads is None else PictureForDevice(message, self._uploads)
        if info is not None:
            self._ahead.begin(picture, lambda: self._calibration(camera, info, self.turns.get(camera, 0)))
        return picture

    def images(self, ready: ReadySet) -> dict[str, CameraImage | Refused]:
        """Camera -> its image, or why that or its calibration cannot be used; those that sent none are left out."""
        names = [name for name in self._rig.names if name in ready.messages.messages]
        # The decoders let go of Python's lock.
        return dict(zip(names, self._pool.map(lambda name: self._camera_image(name, ready), names)))

    def close(self) -> None:
        """End the threads; `images` can be called no more."""
        for pool in (self._pool, self._pool_ahead):
            pool.shutdown(wait=False, cancel_futures=True)

    def _camera_image(self, name: str, ready: ReadySet) -> CameraImage | Refused:
        picture: Picture = ready.messages.messages[name]
        try:
            pose = ready.poses[name]
            calibrated = self._calibration(name, ready.infos[name], quarter_turns(pose.ego_from_camera))
            on_device = picture if isinstance(picture, PictureForDevice) else None
            rectified = picture.pixels(calibrated) if on_device is None else on_device.sent(calibrated)
            camera, self.turns[name] = upright_image(
                name, rectified, calibrated, pose.ego_from_camera, pose.stamp_ns, pose.world_from_ego
            )
            self._ahead.used(picture)
            if (encoding := getattr(picture.message, "encoding", "")) and encoding.lower() not in ENCODINGS:
                self.converted[name] = encoding
            looks = camera.rgb().numpy() if on_device is None else on_device.glimpse(calibrated)
            self._watch.look(name, pose.stamp_ns, looks, pose.world_from_ego)
            return camera
        except ImageError as error:
            return Refused("image", name, f"{error} (topic {self._rig.camera(name).topic})")
        except CalibrationError as error:
            return Refused("camera_info", name, f"{error} (topic {self._rig.camera(name).info_topic})")
        except ValueError as error:
            return Refused("frame", name, str(error))

    def _calibration(self, name: str, info: Any, turns: int) -> Calibration:
        """The calibration of a camera whose pictures are turned upright by so many quarter turns.

        Raises:
            CalibrationError: the CameraInfo cannot be used.
        """
        is_sideways = turns % 2 == 1
        with self._lock:
            known = self._calibrations.get(name)
            if known is None or known[0] is not info or known[1] != is_sideways:
                camera = self._rig.camera(name)
                calibrated = calibration(
                    info, camera.is_rectified, lambda size_hw: self._fit(size_hw, is_sideways), camera.lens
                )
                known = self._calibrations[name] = (info, is_sideways, calibrated)
            return known[2]

    def _fit(self, size_hw: tuple[int, int], is_sideways: bool) -> Fit:
        if self._images is None:
            return Fit()
        if not is_sideways:
            return fit(size_hw, self._images)
        reduction, undistorted_hw = fit(size_hw[::-1], self._images)
        return Fit(reduction, undistorted_hw and undistorted_hw[::-1])
