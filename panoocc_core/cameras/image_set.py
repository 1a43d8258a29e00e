"""A set of images in files, one of each camera, as a frame."""

import os
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..base.image_files import ImageFileError
from ..base.processors import processor_count
from ..geometry import Matrix
from ..types import CameraImage, Frame
from .calibration_file import CalibrationFile, load_calibration
from .image_bytes import ImageError, check_pixels, one_line, picture_of
from .lens import CalibrationError, LensUse, calibration
from .rectified import rectified_image

CALIBRATION = "calibration.yaml"  # in a folder of images, where no other file is named
ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
MAX_FILE_BYTES = 512 << 20


def read_frame(
    calibration: str | Path,
    images: str | Path | Mapping[str, str | Path],
    cameras: Sequence[str] | None = None,
    stamp_ns: int = 0,
    world_from_ego: Matrix | None = None,
    lens: LensUse = "undistort",
) -> Frame:
    """The frame of a set of images that were taken at one instant.

    A series of sets with their stamps and poses has a history, which `OccupancyStream` fuses; one set alone has none.

    Args:
        calibration: YAML file with mount and intrinsics of every camera (see `config/calibration_example.yaml`).
        images: camera -> file (JPEG, PNG or TIFF), or a folder whose files bear the cameras' names.
        cameras: those of the network; None: all that `images` names, of a folder all of the calibration.
        stamp_ns: when they were taken.
        world_from_ego: pose [4, 4] of the vehicle at `stamp_ns` in a frame that does not move; None: identity.
        lens: whether the distortion of lenses is taken out of the images, or stays and voxels are projected through it.

    Raises:
        ConfigError: the calibration cannot be used.
        ImageError: a camera lacks an image or its calibration, or a file is no image, or of another size than its
            calibration; the message names camera and file.
    """
    given = load_calibration(calibration)
    if isinstance(images, Mapping):
        wanted = tuple(images) if cameras is None else tuple(cameras)
        files = _named_files(images, wanted)
    else:
        wanted = tuple(camera.name for camera in given.cameras) if cameras is None else tuple(cameras)
        if not wanted:
            raise ImageError(f"{calibration}: names no camera: add mount and intrinsics of each that has an image")
        files = _files_in(Path(images), wanted)
    _check_calibrated(given, wanted, Path(calibration))
    pose = np.eye(4) if world_from_ego is None else world_from_ego

    def read(name: str) -> CameraImage:
        return _camera_image(name, files[name], given, Path(calibration), stamp_ns, pose, lens)

    with ThreadPoolExecutor(min(len(wanted), processor_count())) as pool:
        taken = tuple(pool.map(read, wanted))
    network = None if given.ego_from_network is None else given.ego_from_network.matrix
    return Frame(stamp_ns, pose, taken, ego_from_network=network)


def _named_files(images: Mapping[str, str | Path], wanted: Sequence[str]) -> dict[str, Path]:
    missing = [name for name in wanted if name not in images]
    if missing or not wanted:
        there = ", ".join(images) or "none"
        raise ImageError(f"there is no image of {', '.join(missing) or 'any camera'}; there are images of: {there}")
    return {name: Path(images[name]) for name in wanted}


def _files_in(folder: Path, wanted: Sequence[str]) -> dict[str, Path]:
    try:
        there = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    except OSError as error:
        raise ImageError(f"{folder}: cannot be read as a folder of images: {error.strerror}") from error
    found = {name: [path for path in there if path.stem.lower() == name.lower()] for name in wanted}
    missing = [name for name, paths in found.items() if not paths]
    if missing:
        names = ", ".join(path.name for path in there[:8]) or "no images"
        raise ImageError(
            f"{folder}: there is no image of {', '.join(missing)}: call the files as the cameras, e.g. "
            f"{missing[0]}.jpg (there are: {names})"
        )
    for name, paths in found.items():
        if len(paths) > 1:
            raise ImageError(
                f"{folder}: {' and '.join(path.name for path in paths)} are all images of {name}: keep one"
            )
    return {name: paths[0] for name, paths in found.items()}


def _check_calibrated(given: CalibrationFile, wanted: Sequence[str], path: Path) -> None:
    known = {camera.name: camera for camera in given.cameras}
    for name in wanted:
        if name not in known:
            raise ImageError(f"{path}: the camera {name!r} is not among {', '.join(known) or 'its cameras'}: add it")
        for key in ("ego_from_camera", "intrinsics"):
            if getattr(known[name], key) is None:
                raise ImageError(f"{path}: camera {name!r} lacks {key}, which a set of images cannot tell: add it")


def _camera_image(
    name: str, file: Path, given: CalibrationFile, path: Path, stamp_ns: int, world_from_ego: Matrix, use: LensUse
) -> CameraImage:
    info = given.infos[name]

    def check_claim(size_hw: tuple[int, int]) -> None:
        check_pixels(size_hw)
        if size_hw != (info.height, info.width):
            raise ImageError(
                f"it is {size_hw[1]}x{size_hw[0]}, but {path} calibrates {info.width}x{info.height}: give the image as "
                "the camera took it, or the calibration of this size"
            )

    try:
        calibrated = calibration(info, is_rectified=False, use=use)
        taken = picture_of(_bytes_of(file), check_claim)
        return rectified_image(name, taken, calibrated, given.mounts[name], stamp_ns, world_from_ego)[0]
    except (ImageError, ImageFileError, CalibrationError) as error:
        raise ImageError(f"camera {name}, {file}: {error}") from error
    except OSError as error:
        raise ImageError(f"camera {name}, {file}: cannot be read: {error.strerror}") from error
    except Exception as error:  # decoders raise many kinds
        raise ImageError(f"camera {name}, {file}: cannot be used: {one_line(error)}") from error


def _bytes_of(file: Path) -> bytes:
    # A pipe that nobody writes to must not be waited for.
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= MAX_FILE_BYTES:
            raise ImageError(f"is no file of 1 to {MAX_FILE_BYTES} bytes")
        return opened.read()
