"""Image messages on their way into sets, each with its pixels as soon as somebody has needed them."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakSet, ref

import torch

from panoocc_core.base.reduction import Pixels
from panoocc_core.base.sent_image import SentImage, sent_rgb
from panoocc_core.cameras.lens import Calibration
from panoocc_core.cameras.upright import turned
from panoocc_core.cuda.staging import SideUploads

from .images import decode, glimpse, sent_as_it_is


class _OnHost:
    """The pixels of a message, made once."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self._lock = threading.Lock()
        self._made: tuple[Calibration, Pixels] | None = None

    def pixels(self, calibration: Calibration) -> Pixels:
        with self._lock:
            if self._made is None or self._made[0] is not calibration:
                self._made = None
                taken = decode(self._message, calibration.size_hw, reduction=calibration.reduction)
                self._made = calibration, calibration.rectify(taken)
            return self._made[1]

    def turned(self, calibration: Calibration, turns: int) -> torch.Tensor:
        return torch.from_numpy(turned(self.pixels(calibration), turns))


class Picture:
    """One image message; whoever needs its pixels first makes them, the others get the same."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.arrived_s = time.perf_counter()
        self._on_host = _OnHost(message)

    def make(self, calibration: Calibration) -> None:
        """Do ahead what its set will need; errors as of `pixels`."""
        self.pixels(calibration)

    def pixels(self, calibration: Calibration) -> Pixels:
        """RGB uint8 [height, width, 3] without lens distortion; not to be written to.

        Raises:
            ImageError: the message cannot be decoded, or is of another size than the calibration.
            CalibrationError: it cannot be undistorted.
        """
        return self._on_host.pixels(calibration)


class _Sent(NamedTuple):
    calibration: Calibration
    image: SentImage  # not yet turned
    glimpse: Pixels  # [height, width, channel]


class PictureForDevice(Picture):
    """One image message for a device, which decodes what it can, and rectifies."""

    def __init__(self, message: Any, uploads: SideUploads) -> None:
        super().__init__(message)
        self._uploads, self._sending = uploads, threading.Lock()
        self._sent: _Sent | None = None

    def make(self, calibration: Calibration) -> None:
        self._for_device(calibration)

    def sent(self, calibration: Calibration) -> SentImage:
        """The image, not yet turned upright, on its way to the device; errors as of `pixels`."""
        return self._for_device(calibration).image

    def glimpse(self, calibration: Calibration) -> Pixels:
        """Something [height, width, channel] that looks as the picture does; errors as of `pixels`."""
        return self._for_device(calibration).glimpse

    def _for_device(self, calibration: Calibration) -> _Sent:
        with self._sending:
            if self._sent is None or self._sent.calibration is not calibration:
                self._sent = None
                image = sent_as_it_is(self.message, calibration.size_hw, calibration.reduction)
                if image is not None:
                    looks = glimpse(self.message)
                else:
                    looks = decode(self.message, calibration.size_hw, reduction=calibration.reduction)
                    image = sent_rgb(torch.from_numpy(looks))
                # Not a method of the picture, by which it would hold itself.
                on_host = partial(self._on_host.turned, calibration)
                image = replace(image, maps=calibration.maps, on_host=on_host)
                self._sent = _Sent(calibration, self._uploads.send(image), looks)
            return self._sent


class DecodingAhead:
    """Makes the pixels of pictures before their sets are complete, in the threads of a pool.

    What nobody holds any more, because its set was dropped, is not decoded.  At most `limit` pictures have pixels that
    no set has used yet: those of further ones are made when their set is worked on.
    """

    def __init__(self, pool: ThreadPoolExecutor, limit: int) -> None:
        self._pool, self._limit = pool, limit
        self._unused: WeakSet[Picture] = WeakSet()

    def begin(self, picture: Picture, calibration: Callable[[], Calibration]) -> None:
        """Let a picture be decoded; `calibration` is asked in the thread that does it.  An error is told by its set."""
        if len(self._unused) < self._limit:
            self._unused.add(picture)
            self._pool.submit(_make, ref(picture), calibration)

    def used(self, picture: Picture) -> None:
        """A set has used a picture's pixels."""
        self._unused.discard(picture)


def _make(picture: "ref[Picture]", calibration: Callable[[], Calibration]) -> None:
    held = picture()
    if held is not None:
        held.make(calibration())
