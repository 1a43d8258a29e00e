"""What is whole, and small: the messages and files that damage begins with."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save

from panoocc_core.base.resources import listing
from panoocc_core.data.grid_file import save_grid
from panoocc_core.geometry import NS_PER_S
from panoocc_core.labels import OCC3D
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy

from ..bags.writer import BagWriter
from ..messages.fields import fill_header, set_stamp
from ..messages.types import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    IMU,
    LABEL_SET,
    ODOMETRY,
    POINT_CLOUD,
    TRANSFORMS,
    VOXEL_GRID,
    new_message,
    typestore,
)
from ..messages.voxel_grid import fill_label_set, fill_voxel_grid

START_NS = 1_700_000_000 * NS_PER_S
SIZE_HW = (6, 8)
ENCODINGS = ("rgb8", "bgra8", "mono16", "bayer_rggb8", "yuv422", "nv12", "nv24", "i420", "8UC3", "32FC1")
MODELS = (
    ("plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0)),
    ("equidistant", (0.1, 0.0, 0.0, 0.0)),
    ("rational_polynomial", (0.0,) * 8),
)


@cache
def messages() -> dict[str, list[Any]]:
    """Type -> whole messages."""
    return {
        IMAGE: [_image(encoding) for encoding in ENCODINGS],
        COMPRESSED_IMAGE: [
            _compressed(data, kind) for data, kind in zip(pictures(), ("jpeg", "png", "bayer_rggb8; jpeg"))
        ],
        CAMERA_INFO: [_camera_info(model, numbers) for model, numbers in MODELS],
        TRANSFORMS: [_transforms()],
        POINT_CLOUD: [_cloud()],
        VOXEL_GRID: [fill_voxel_grid(new_message(VOXEL_GRID), occupancy(), 7, encoding=e) for e in ("sparse", "dense")],
        LABEL_SET: [fill_label_set(new_message(LABEL_SET), OCC3D)],
        ODOMETRY: [_odometry()],
        IMU: [_imu()],
    }


@cache
def pictures() -> tuple[bytes, ...]:
    """A JPEG, a PNG and a grey JPEG."""
    rgb = np.arange(SIZE_HW[0] * SIZE_HW[1] * 3, dtype=np.uint8).reshape(*SIZE_HW, 3)
    made = ((".jpg", rgb), (".png", rgb), (".jpg", rgb[..., 0]))
    return tuple(cv2.imencode(suffix, pixels)[1].tobytes() for suffix, pixels in made)


def occupancy() -> Occupancy:
    """A grid of 3x4x2 voxels with all that a grid can have."""
    shape = (3, 4, 2)
    class_id = (torch.arange(24) % len(OCC3D.names)).to(torch.uint8).reshape(shape)
    return Occupancy(
        stamp_ns=START_NS,
        oldest_image_stamp_ns=START_NS,
        newest_image_stamp_ns=START_NS,
        class_id=class_id,
        confidence=class_id * 3,
        instance_id=torch.where(class_id == 4, 5, 0).to(torch.int32),
        geometry=GridGeometry(shape, (0.4, 0.4, 0.4), np.eye(4)),
        labels=OCC3D,
        cameras=("CAM_FRONT",),
        history=HistoryReport(),
        visible=class_id > 3,
    )


def cdr(kinds: Sequence[str]) -> list[tuple[str, bytes]]:
    """Type and bytes of whole messages."""
    of_type = messages()
    return [(kind, bytes(typestore().serialize_cdr(one, kind))) for kind in kinds for one in of_type[kind]]


def grid_file(folder: Path) -> bytes:
    """A file of one grid."""
    save_grid(folder / "whole.npz", occupancy())
    return (folder / "whole.npz").read_bytes()


def checkpoints() -> tuple[bytes, bytes]:
    """Weights as safetensors, and as a file of torch.save."""
    tensors = {"img_backbone.conv1.weight": torch.zeros(2, 3), "x": torch.ones(4, dtype=torch.int64)}
    file = io.BytesIO()
    torch.save({"state_dict": tensors, "meta": {"epoch": 1}}, file)
    return save(tensors), file.getvalue()


def bags(folder: Path) -> tuple[bytes, bytes]:
    """A few messages as MCAP and as sqlite3."""
    for name in ("whole.mcap", "whole"):
        with BagWriter(folder / name, overwrite=True) as bag:
            for kind, ones in messages().items():
                if kind in (CAMERA_INFO, TRANSFORMS):
                    bag.write(f"/{kind.rsplit('/')[-1].lower()}", kind, START_NS, ones[0])
    mcap = (folder / "whole.mcap").read_bytes()
    files = [file for file in (folder / "whole").iterdir() if file.suffix != ".yaml"]
    return mcap, files[0].read_bytes()


def yaml_files(where: str) -> list[str]:
    """The shipped files of a folder of `config`, or the example of a calibration."""
    if where == "calibration":
        return [(next(iter(listing("rigs").values())).parents[1] / "calibration_example.yaml").read_text()]
    return [path.read_text() for path in sorted(listing(where).values())]


def _image(encoding: str) -> Any:
    height, width = SIZE_HW
    message = new_message(IMAGE, encoding=encoding, height=height, width=width)
    message.step = width * {"rgb8": 3, "8UC3": 3, "bgra8": 4, "32FC1": 4, "mono16": 2, "yuv422": 2}.get(encoding, 1)
    rows = height * 3 if encoding == "nv24" else height * 3 // 2 if encoding in ("nv12", "i420") else height
    message.data = np.arange(message.step * rows).astype(np.uint8)
    fill_header(message.header, START_NS, "cam_front")
    return message


def _compressed(data: bytes, kind: str) -> Any:
    message = new_message(COMPRESSED_IMAGE, format=kind, data=np.frombuffer(data, np.uint8).copy())
    fill_header(message.header, START_NS, "cam_front")
    return message


def _camera_info(model: str, numbers: Sequence[float]) -> Any:
    message = new_message(CAMERA_INFO, height=SIZE_HW[0], width=SIZE_HW[1], distortion_model=model, d=np.array(numbers))
    fill_header(message.header, START_NS, "cam_front")
    message.k = np.array([5.0, 0, 4, 0, 5, 3, 0, 0, 1])
    message.r, message.p = np.eye(3).ravel(), np.array([5.0, 0, 4, 0, 0, 5, 3, 0, 0, 0, 1, 0])
    return message


def _transforms() -> Any:
    message = new_message(TRANSFORMS)
    for parent, child in (("odom", "base_link"), ("base_link", "cam_front")):
        item = new_message("geometry_msgs/msg/TransformStamped", child_frame_id=child)
        fill_header(item.header, START_NS, parent)
        item.transform.rotation.w = 1.0
        message.transforms.append(item)
    return message


def _cloud() -> Any:
    message = new_message(POINT_CLOUD, height=1, width=5, point_step=16, row_step=80, is_dense=True)
    fill_header(message.header, START_NS, "lidar")
    for offset, name in enumerate(("x", "y", "z", "intensity")):
        message.fields.append(
            new_message("sensor_msgs/msg/PointField", name=name, offset=4 * offset, datatype=7, count=1)
        )
    message.data = np.arange(20, dtype=np.float32).view(np.uint8)
    return message


def _odometry() -> Any:
    message = new_message(ODOMETRY, child_frame_id="base_link")
    fill_header(message.header, START_NS, "odom")
    message.pose.pose.orientation.w = 1.0
    return message


def _imu() -> Any:
    message = new_message(IMU)
    fill_header(message.header, START_NS, "base_link")
    message.orientation.w, message.linear_acceleration.z = 1.0, 9.81
    set_stamp(message.header.stamp, START_NS)
    return message
