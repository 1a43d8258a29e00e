"""Devices and small frames that the core's tests share."""

import numpy as np
import pytest
import torch

from panoocc_core import CameraImage, Frame, ModelConfig, load_model, model_config
from panoocc_core.geometry import NS_PER_S, rigid

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    """Every device of this machine in turn."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def nano() -> ModelConfig:
    return model_config("nano")


@pytest.fixture(scope="session")
def nano_model(nano):
    return load_model(nano, seeded_weights=True)


def heading(degrees: float) -> np.ndarray:
    """Rotation [3, 3] about z."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])


EGO_FROM_OPTICAL = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
YAWS_DEG = {
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_FRONT_LEFT": 55,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}


def street_frame(
    seconds: float, x_m: float = 0.0, yaw_deg: float = 0.0, size_hw=(90, 160), mount_z_m: float = 1.5, motion=None
) -> Frame:
    """Six cameras with generated images that depend on the time, the vehicle at x_m."""
    stamp_ns = round(seconds * NS_PER_S)
    world_from_ego = rigid(heading(yaw_deg), np.array([x_m, 0.0, 0.0]))
    draw = torch.Generator().manual_seed(stamp_ns % 1_000_003)
    height, width = size_hw
    intrinsics = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1.0]])
    cameras = tuple(
        CameraImage(
            name=name,
            stamp_ns=stamp_ns,
            image=torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8),
            intrinsics=intrinsics,
            ego_from_camera=rigid(heading(yaw) @ EGO_FROM_OPTICAL, np.array([1.0, 0.0, mount_z_m])),
            world_from_ego=world_from_ego,
        )
        for name, yaw in YAWS_DEG.items()
    )
    return Frame(stamp_ns, world_from_ego, cameras, motion)
