"""A network so small that a training takes a second, and drives made by hand that it can learn."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import yaml

from panoocc_core import Frame, model_config
from panoocc_core.data.simulated import simulated_streets
from panoocc_core.data.street_plan import StreetPlan
from panoocc_core.geometry import Matrix
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.labels import OCC3D
from panoocc_core.models import build_network
from panoocc_core.network import Network
from panoocc_core.stream import output_geometry
from panoocc_core.train.loop import Options, start_from_scratch, train
from panoocc_core.train.loss_config import LossConfig
from panoocc_core.train.processes import ALONE, Processes
from panoocc_core.train.train_config import OptimiserConfig, ScheduleConfig, TrainConfig
from panoocc_core.types import GridGeometry

from .conftest import street_frame

NETWORK = {
    "extends": "nano",
    "name": "toy",
    "images": {"height": 32, "width": 64},
    "backbone": {"kind": "resnet", "blocks": [1, 1], "output_stages": [1, 2], "width": 8},
    "levels": 2,
    "embed": 16,
    "heads": 2,
    "ffn": 32,
    "grid": {"rows": 6, "columns": 6, "layers": 4, "range_m": [-12.0, -12.0, -1.0, 12.0, 12.0, 5.4]},
    "encoder": {"cross_points": 2},
    "decoder": {
        "upsample": [{"kernel": [1, 2, 2], "stride": [1, 2, 2], "padding": [0, 0, 0], "channels": 16}],
        "mlp": [16, 16],
    },
    "boxes": {"queries": 6, "layers": 1},
}
LOSSES = LossConfig(occupancy_ce=1.0)
ALL_NORMS = ("backbone", "fusion", "decoder")


def write_network(folder: Path, **changes: object) -> Path:
    """The toy network as a YAML file."""
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({**NETWORK, **changes}))
    return path


def recipe(network: Path, **changes) -> TrainConfig:
    """A training of the toy network: one clip of four frames at a time."""
    given = {
        "losses": LOSSES,
        "optimiser": OptimiserConfig(lr=2e-3),
        "schedule": ScheduleConfig(warmup_steps=2),
        "epochs": 2,
        **changes,
    }
    return TrainConfig("toy", str(network), **given)


@dataclass(frozen=True, slots=True)
class ToyDrive:
    """Frames half a second apart on a straight street; one class fills the world, and the images have its colour."""

    name: str
    geometry: GridGeometry
    class_name: str
    colour: tuple[int, int, int]
    frames: int

    def __len__(self) -> int:
        return self.frames

    def frame(self, index: int) -> Frame:
        frame = street_frame(index / 2, x_m=2.0 * index, size_hw=(32, 64))
        grain = torch.tensor(self.colour) / 255
        cameras = tuple(replace(c, image=(c.image * 0.2 + grain * 200).to(torch.uint8)) for c in frame.cameras)
        return replace(frame, cameras=cameras)

    def world_from_ego(self, index: int) -> Matrix:
        return self.frame(index).world_from_ego

    def truth(self, index: int) -> GroundTruth:
        class_id = np.full(self.geometry.shape_xyz, OCC3D.names.index(self.class_name), np.uint8)
        return GroundTruth(index * 500_000_000, self.geometry, class_id, camera_mask=np.ones(class_id.shape, bool))


def toy_drives(config: TrainConfig, frames: Sequence[int] = (8, 8)) -> list[ToyDrive]:
    """Red streets are full of cars, blue ones empty, in turn."""
    geometry = output_geometry(config.model_config)
    kinds = (("car", (255, 0, 0)), ("free", (0, 0, 255)))
    return [ToyDrive(f"drive {i}", geometry, *kinds[i % 2], count) for i, count in enumerate(frames)]


def trained(
    config: TrainConfig,
    out: Path,
    drives: Sequence | None = None,
    processes: Processes = ALONE,
    validation: Sequence = (),
    **options,
) -> Network:
    """The network after a training, from scratch or resumed."""
    model = start_from_scratch(build_network(config.model_config), config)
    learned = toy_drives(config) if drives is None else drives
    train(config, model, learned, validation, Options(out, **options), processes)
    return model


def curve_without_seconds(out: Path) -> list[list[str]]:
    """Rows of the curve, header first, without the column of seconds, which stands last."""
    rows = [line.split(",") for line in (out / "curve.csv").read_text().splitlines()]
    assert rows[0][-1] == "seconds"
    return [row[:-1] for row in rows]


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module, **tolerance) -> None:
    state = other.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, state[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=name)


STREET_SECONDS, STREET_SCALE, STREET_SEEDS = 2.0, 0.03, (10_000, 10_001, 9_000)


@cache
def rendered_streets() -> tuple[tempfile.TemporaryDirectory, Path]:
    """A folder with three rendered streets of four frames on the toy network's grid, made once for all tests."""
    folder = tempfile.TemporaryDirectory(prefix="panoocc_test_streets_")
    geometry = output_geometry(model_config(write_network(Path(folder.name))))
    simulated_streets(
        Path(folder.name), STREET_SEEDS, geometry, StreetPlan(STREET_SECONDS, 2.0, STREET_SCALE), workers=1
    )
    return folder, Path(folder.name)
