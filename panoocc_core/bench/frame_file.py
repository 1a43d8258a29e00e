"""A frame in a file that any program can read: how another implementation, or another checkout, gets its input."""

from pathlib import Path

import numpy as np
import torch

from ..preprocess import pixels_from_ego
from ..types import CameraImage, Frame


def write_frame(path: Path, frame: Frame) -> None:
    """Write a frame as .npz, not compressed.

    Its arrays, cameras in one order throughout:

    - `names`: text [camera]
    - `images`: uint8 [camera, row, column, 3], RGB
    - `intrinsics`: float64 [camera, 3, 3], pixels
    - `ego_from_camera`: float64 [camera, 4, 4], mounts (optical frames)
    - `world_from_ego_at_shutter`: float64 [camera, 4, 4], and `shutter_ns`: int64 [camera]
    - `projections`: float64 [camera, 3, 4], into the pixels of the image from the ego frame at the frame's stamp
    - `world_from_ego`: float64 [4, 4], and `stamp_ns`: int64, of the frame

    Raises:
        ValueError: the images have several sizes, or a lens whose distortion is in them.
        OSError: the file cannot be written.
    """
    cameras = frame.cameras
    images = [camera.image for camera in cameras if isinstance(camera.image, torch.Tensor) and camera.lens is None]
    if len(images) < len(cameras) or len({image.shape for image in images}) > 1:
        raise ValueError("a frame for another program needs images of one size without distortion: give another bag")
    with path.open("wb") as file:
        np.savez(
            file,
            names=np.array([camera.name for camera in cameras]),
            images=np.stack([image.cpu().numpy() for image in images]),
            intrinsics=np.stack([camera.intrinsics for camera in cameras]),
            ego_from_camera=np.stack([camera.ego_from_camera for camera in cameras]),
            world_from_ego_at_shutter=np.stack([camera.world_from_ego for camera in cameras]),
            shutter_ns=np.array([camera.stamp_ns for camera in cameras], np.int64),
            projections=np.stack([pixels_from_ego(camera, frame) for camera in cameras]),
            world_from_ego=frame.world_from_ego,
            stamp_ns=np.int64(frame.stamp_ns),
        )


def read_frame_file(path: Path) -> Frame:
    """What `write_frame` wrote.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        columns = zip(
            found["names"],
            found["shutter_ns"],
            found["images"],
            found["intrinsics"],
            found["ego_from_camera"],
            found["world_from_ego_at_shutter"],
            strict=True,
        )
        cameras = tuple(
            CameraImage(str(name), int(stamp_ns), torch.from_numpy(image), k, mount, pose)
            for name, stamp_ns, image, k, mount, pose in columns
        )
        return Frame(int(found["stamp_ns"]), found["world_from_ego"], cameras)
    except (KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: no frame of panoocc bench: {error}") from error
