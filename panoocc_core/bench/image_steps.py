"""What an image costs between its bytes and the network: CPU time of one thread, step by step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from ..cameras.image_bytes import picture_of
from ..cameras.lens import LensInfo, calibration
from ..config import ImageConfig
from ..preprocess import fit, network_pixels
from .machine import computing_threads, cpu_name

T = TypeVar("T")

DISTORTION = (-0.3, 0.1, 0.001, -0.001, 0.0)  # of a usual lens
JPEG_QUALITY = 92
REPEATS = 5


@dataclass(frozen=True, slots=True)
class ImageReport:
    """Medians over images and repetitions, for one camera."""

    size_hw: tuple[int, int]
    jpeg_kb: float
    network_hw: tuple[int, int]
    reduction: int  # times, of the decoded image
    hardware: str
    cpu_ms: dict[str, float]  # step -> CPU time; "stepwise" and "direct" are all that a distorted image needs

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench_images(
    jpegs: Sequence[bytes],
    config: ImageConfig,
    size_hw: tuple[int, int] | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> ImageReport:
    """Decode, undistort, crop and resize JPEGs of one size, as networks with `preparation: stepwise` and `direct` do.

    Args:
        size_hw: the images are brought to this size first; None: as they are.

    Raises:
        ImageError, ImageFileError: these are no JPEGs.
    """
    jpegs = jpegs if size_hw is None else [_resized(data, size_hw) for data in jpegs]
    height, width = picture_of(jpegs[0], _any_size).shape[:2]
    info, direct = _info(height, width), replace(config, resized_intrinsics="exact", preparation="direct")
    stepwise, fitted = replace(direct, preparation="stepwise"), fit((height, width), direct)
    whole_size, fitting = calibration(info, False), calibration(info, False, lambda _: fitted)
    samples: dict[str, list[float]] = {}

    def step(name: str, work: Callable[..., T], *arguments: Any) -> T:
        begin_s = time.thread_time()
        made = work(*arguments)
        samples.setdefault(name, []).append((time.thread_time() - begin_s) * 1e3)
        return made

    with computing_threads(1):
        for data in [*jpegs] * (REPEATS + 1):
            whole = step("decode", picture_of, data, _any_size)
            small = step("decode, reduced", picture_of, data, _any_size, fitted.reduction)
            undistorted = step("undistort", whole_size.rectify, whole)
            step("crop and resize, float", network_pixels, [torch.from_numpy(undistorted)], stepwise)
            remapped = step("undistort and resize, one remap", fitting.rectify, small)
            step("crop, after the remap", network_pixels, [torch.from_numpy(remapped)], direct)
            step("crop and resize, 8 bits", network_pixels, [torch.from_numpy(small)], direct)
            on_image()
    cpu_ms = {name: median(times[len(jpegs) :]) for name, times in samples.items()}  # the first round is not counted
    cpu_ms["stepwise"] = cpu_ms["decode"] + cpu_ms["undistort"] + cpu_ms["crop and resize, float"]
    cpu_ms["direct"] = (
        cpu_ms["decode, reduced"] + cpu_ms["undistort and resize, one remap"] + cpu_ms["crop, after the remap"]
    )
    return ImageReport(
        size_hw=(height, width),
        jpeg_kb=sum(map(len, jpegs)) / len(jpegs) / 1e3,
        network_hw=(config.height, config.width),
        reduction=fitted.reduction,
        hardware=f"{cpu_name()}, one thread, torch {torch.__version__}",
        cpu_ms=cpu_ms,
    )


def images_table(reports: Sequence[ImageReport]) -> str:
    """The reports, of one network, as text."""
    sizes = [f"{report.size_hw[1]}x{report.size_hw[0]}" for report in reports]
    height, width = reports[0].network_hw
    lines = [
        f"images on {reports[0].hardware}, to {width}x{height}, CPU ms of one camera",
        f"{'step':32s} " + " ".join(f"{size:>10s}" for size in sizes),
    ]
    for name in reports[0].cpu_ms:
        lines.append(f"{name:32s} " + " ".join(f"{report.cpu_ms[name]:10.2f}" for report in reports))
    lines.append(f"{'kB a JPEG':32s} " + " ".join(f"{report.jpeg_kb:10.0f}" for report in reports))
    return "\n".join(lines)


def _any_size(_: tuple[int, int]) -> None:
    """No claim of a header is refused."""


def _info(height: int, width: int) -> LensInfo:
    focal = 0.8 * width
    k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1])
    p = np.hstack((k.reshape(3, 3), np.zeros((3, 1)))).ravel()
    return LensInfo(height, width, "plumb_bob", np.array(DISTORTION), k, np.eye(3).ravel(), p)


def _resized(data: bytes, size_hw: tuple[int, int]) -> bytes:
    image = cv2.resize(picture_of(data, _any_size), size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
