"""The configuration tree of a network.  A preset is a YAML file in `config/models`; nothing else knows its numbers.

Fields whose comment says "quirk" name what published weights were trained with although it reads like a mistake;
presets for own training switch them off.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from .base.resources import listing
from .base.strict_yaml import ConfigError, build, load_yaml, merged
from .geometry import Matrix, rigid, rotation_from_quaternion
from .labels import BUILT_IN, LabelSet, label_set

__all__ = ["ConfigError", "ModelConfig", "model_config"]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the backbone sees: every camera is cropped at the top, resized, normalised and padded to one size."""

    height: int  # after crop and resize, before padding
    width: int
    channel_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]  # in channel_order
    std: tuple[float, float, float]
    pad_multiple: int = 32
    # quirk "scaled": the intrinsics of a resized image are scaled without the half pixel to a pixel's centre.
    resized_intrinsics: Literal["scaled", "exact"] = "exact"

    @property
    def padded_hw(self) -> tuple[int, int]:
        """Network input size; projections are divided by it."""
        multiple = self.pad_multiple
        return math.ceil(self.height / multiple) * multiple, math.ceil(self.width / multiple) * multiple


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """ResNet with bottleneck blocks (arXiv 1512.03385), deformable in some stages."""

    kind: Literal["resnet"] = "resnet"
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    style: Literal["caffe", "pytorch"] = "pytorch"  # where a stage's stride lies: first 1x1 or the 3x3 convolution
    deformable_stages: tuple[int, ...] = ()  # counted from 1
    output_stages: tuple[int, ...] = (2, 3, 4)
    width: int = 64  # channels of the stem

    @property
    def output_channels(self) -> tuple[int, ...]:
        return tuple(self.width * 4 * 2 ** (stage - 1) for stage in self.output_stages)


@dataclass(frozen=True, slots=True)
class InternImageConfig:
    """InternImage-style backbone: deformable aggregation layers (arXiv 2211.05778)."""

    kind: Literal["internimage"] = "internimage"
    width: int = 160  # channels of the first stage, doubled by every further one
    heads: tuple[int, ...] = (10, 20, 40, 40)
    blocks: tuple[int, ...] = (6, 6, 32, 6)
    kernel: int = 3
    offset_scale: float = 1.71
    mlp_ratio: int = 4
    output_stages: tuple[int, ...] = (2, 3, 4)

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.blocks):
            raise ValueError("heads and blocks must name the same number of stages")

    @property
    def output_channels(self) -> tuple[int, ...]:
        return tuple(self.width * 2 ** (stage - 1) for stage in self.output_stages)


@dataclass(frozen=True, slots=True)
class PoseConfig:
    """A fixed pose."""

    translation_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    @property
    def matrix(self) -> Matrix:
        return rigid(rotation_from_quaternion(np.array(self.rotation_xyzw)), np.array(self.translation_m))


@dataclass(frozen=True, slots=True)
class GridConfig:
    """The coarse voxel grid of the queries, in the network's frame."""

    rows: int  # H, along y
    columns: int  # W, along x
    layers: int  # Z
    range_m: tuple[float, float, float, float, float, float]  # x, y, z minimum, then maximum
    ego_from_network: PoseConfig = PoseConfig()  # the frame the weights were trained in

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.layers) < 1:
            raise ValueError("rows, columns and layers must be positive")
        if any(high <= low for low, high in zip(self.range_m[:3], self.range_m[3:])):
            raise ValueError("range_m must hold x, y, z minimum and then the larger maximum")


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """View encoder: voxel queries attend to themselves and to the cameras (paper section 3.2)."""

    layers: int = 3
    self_points: int = 8
    cross_points: int = 8
    # quirk "first_tokens": self-attention samples the first rows * columns tokens of the list as if they were the map.
    self_memory: Literal["first_tokens", "own_layer"] = "own_layer"
    # quirk "metric_linspace": heights 0.5 m inside both ends of the range instead of the voxel centres.
    reference_heights: Literal["metric_linspace", "voxel_centres"] = "voxel_centres"


@dataclass(frozen=True, slots=True)
class EgoMotionConfig:
    """The 18 numbers about the vehicle's motion that are added to every query."""

    # quirk "scalar_repeated": the quaternion's scalar part stands in all four places.
    quaternion: Literal["scalar_repeated", "wxyz"] = "wxyz"
    rates: Literal["auto", "sensors", "poses", "zeros"] = "auto"  # auto: sensors where a frame has them, else poses
    interval_s: float = 0.5  # position and yaw change are taken over this time
    # quirk: a scene's first frame gets the change from the frame before it, or absolute coordinates at the very start.
    first_frame_jump: bool = False


@dataclass(frozen=True, slots=True)
class TemporalConfig:
    """How earlier volumes are kept by time, aligned and fused."""

    kind: Literal["concat", "recurrent"]  # unfused queue with 3-D convolutions, or the fused state fed back
    ages_s: tuple[float, ...]  # wanted ages, oldest first; empty: no history
    tolerance_s: float = 0.3
    spacing_s: float = 0.5  # states are kept at this spacing
    points: int = 4  # recurrent: sampling points of the fusing attention
    memory: Literal["first_tokens", "own_layer"] = "own_layer"  # recurrent: as EncoderConfig.self_memory
    keep_height: bool = False  # quirk: the vertical shift between two poses is ignored
    max_speed_mps: float = 70.0  # faster is a teleport
    max_turn_radps: float = 4.0
    # A camera beyond these, compared with when the history began, has been moved or changed: the memory is cleared.
    # Autofocus and a cabin on springs stay within; stored volumes do not depend on the cameras.
    max_focal_change: float = 0.05  # share of the focal length
    max_centre_shift: float = 0.1  # of the principal point, share of the image's width and height
    max_mount_shift_m: float = 0.25
    max_mount_turn_deg: float = 5.0

    def __post_init__(self) -> None:
        if list(self.ages_s) != sorted(self.ages_s, reverse=True) or any(age <= 0 for age in self.ages_s):
            raise ValueError("ages_s must be positive, oldest first")
        if self.kind == "recurrent" and len(self.ages_s) > 1:
            raise ValueError("a recurrent network has at most one entry in ages_s")
        for limit in (field.name for field in fields(self) if field.name.startswith("max_")):
            if not 0 < getattr(self, limit) < math.inf:
                raise ValueError(f"{limit} must be positive and finite")

    @property
    def horizon_s(self) -> float:
        """The oldest age at which a state can still be used; a longer pause of the stream clears the memory."""
        return max(self.ages_s, default=0.5) + self.tolerance_s


@dataclass(frozen=True, slots=True)
class UpsampleConfig:
    """One transposed convolution with batch norm and ReLU; all triples are (z, y, x)."""

    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    channels: int


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """From coarse voxel features to class logits on the output grid."""

    upsample: tuple[UpsampleConfig, ...]
    mlp: tuple[int, ...] = (32, 128, 128, 32)
    logit_upsample: tuple[int, int, int] = (1, 1, 1)  # (z, y, x), trilinear
    gate_threshold: float | None = None  # occupied only where the occupancy gate's probability reaches it
    gate_kernel: int = 3
    # Networks without a class for free space have one sigmoid per class: below this best probability a voxel is free.
    empty_below: float | None = None
    thing_head: bool = False  # two logits per coarse voxel; the box memory is weighted with softmax channel 0


@dataclass(frozen=True, slots=True)
class PointConfig:
    """How LiDAR points read their class from the volume (evaluation)."""

    rule: Literal["direct", "high_resolution"] = "direct"
    cells_xyz: tuple[int, int, int] | None = None  # high_resolution: the finer grid


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """Box branch: learned queries attend to the bird's-eye map (arXiv 2010.04159, 2005.12872)."""

    queries: int = 900
    layers: int = 6
    points: int = 4
    classes: tuple[str, ...] = ()
    max_boxes: int = 300
    centre_limits_m: tuple[float, float, float, float, float, float] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One network, whole."""

    name: str
    description: str
    family: Literal["occ3d", "lidar_segmentation"]  # how published parameter names are spelt
    cameras: tuple[str, ...]  # in the order of the weights
    images: ImageConfig
    backbone: ResNetConfig | InternImageConfig
    grid: GridConfig
    encoder: EncoderConfig
    ego_motion: EgoMotionConfig
    temporal: TemporalConfig
    decoder: DecoderConfig
    boxes: BoxConfig
    points: PointConfig = PointConfig()
    levels: int = 4  # of the feature pyramid; one more than the backbone's outputs adds a strided convolution
    embed: int = 256
    heads: int = 8
    ffn: int = 512
    label_key: str = "occ3d_nuscenes"
    class_names: tuple[str, ...] | None = None  # only for label sets that are not built in

    def __post_init__(self) -> None:
        outputs = len(self.backbone.output_stages)
        if self.levels < outputs:
            raise ValueError(f"levels must be at least {outputs}, the number of the backbone's outputs")
        if self.embed % self.heads:
            raise ValueError("embed must be a multiple of heads")
        if self.decoder.mlp[0] != self.decoder.upsample[-1].channels:
            raise ValueError("decoder.mlp must begin with the channels of the last upsampling stage")
        labels = self.labels
        if self.decoder.empty_below is not None and labels.free_id != len(labels.names) - 1:
            raise ValueError("decoder.empty_below needs a label set whose last class is free")
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ValueError("cameras must be a list of different names")

    @property
    def labels(self) -> LabelSet:
        """The classes of the output.

        Raises:
            ConfigError: label_key is neither built in nor given by class_names.
        """
        if self.class_names is not None:
            return label_set(self.label_key, self.class_names)
        if self.label_key not in BUILT_IN:
            raise ConfigError(
                f"{self.name}.label_key: {self.label_key!r} is not one of {', '.join(BUILT_IN)}; give class_names"
            )
        return BUILT_IN[self.label_key]

    @property
    def class_count(self) -> int:
        """Classes that the network itself tells apart: without free space where that is decided by `empty_below`."""
        return len(self.labels.names) - (self.decoder.empty_below is not None)

    @property
    def output_shape_xyz(self) -> tuple[int, int, int]:
        """Number of voxels of the output grid along x, y and z."""
        zyx = [self.grid.layers, self.grid.rows, self.grid.columns]
        for stage in self.decoder.upsample:
            zyx = [
                (size - 1) * stride - 2 * padding + kernel
                for size, stride, padding, kernel in zip(zyx, stage.stride, stage.padding, stage.kernel)
            ]
        z, y, x = (size * factor for size, factor in zip(zyx, self.decoder.logit_upsample))
        return x, y, z


def presets() -> dict[str, Path]:
    """Names and files of the presets that are installed."""
    return listing("models")


def model_config(preset: str | Path) -> ModelConfig:
    """The configuration of a preset name or a YAML file.  A file may build on a preset with `extends: <name>`.

    Raises:
        ConfigError: unknown preset, unknown key or unusable value.
    """
    path = _preset_path(str(preset))
    return build(ModelConfig, {"name": path.stem, **_with_bases(path, ())}, path.name)


def _preset_path(preset: str) -> Path:
    if preset.endswith((".yaml", ".yml")):
        return Path(preset)
    available = presets()
    if preset not in available:
        raise ConfigError(f"unknown model preset {preset!r}; presets: {', '.join(available)} (or give a YAML file)")
    return available[preset]


def _with_bases(path: Path, seen: tuple[Path, ...]) -> dict:
    data = load_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data
    base_path = _preset_path(str(base))
    if base_path in (*seen, path):
        raise ConfigError(f"{path}: extends itself through {base!r}")
    return merged(_with_bases(base_path, (*seen, path)), data)
