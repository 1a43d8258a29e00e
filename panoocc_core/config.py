"""The configuration tree of a network.  A preset is a YAML file in `config/models`; nothing else knows its numbers.

Fields whose comment says "quirk" name what published weights were trained with although it reads like a mistake;
presets for own training switch them off.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from .base.image_files import MAX_IMAGE_SIDE
from .base.ranges import Length, Ranged, Text, Within, check_ranges
from .base.resources import listing
from .base.strict_yaml import ConfigError, build, load_yaml, merged, named_yaml
from .geometry import Matrix, quaternion_from_rotation, rigid, rotation_from_quaternion
from .labels import BOX_CLASSES, BUILT_IN, InstanceSource, LabelSet, label_set, things_of_boxes

__all__ = ["ConfigError", "ModelConfig", "model_config"]

MAX_TOKENS = 1 << 20  # coarse voxels; the largest published network has 160,000
MAX_VOXELS = 64_000_000  # of the output; the largest published network has 10.24 million
MAX_STATES = 256  # kept by the temporal memory

Channels = Annotated[int, Within(1, 8192)]
Side = Annotated[int, Within(1, MAX_IMAGE_SIDE)]
Factor = Annotated[int, Within(1, 16)]  # of a grid or a kernel, along one axis
Padding = Annotated[int, Within(0, 16)]
Cells = Annotated[int, Within(1, 4096)]  # of a grid, along one axis
Points = Annotated[int, Within(1, 64)]  # sampled by one head
Layers = Annotated[int, Within(1, 64)]
Stage = Annotated[int, Within(1, 8)]  # of a backbone, counted from 1
Blocks = Annotated[tuple[Annotated[int, Within(1, 256)], ...], Length(1, 8)]  # of every stage
OutputStages = Annotated[tuple[Stage, ...], Length(1, 8)]
Metres = Annotated[float, Within(-10_000, 10_000)]
Seconds = Annotated[float, Within(0, 60, above=True)]
Limit = Annotated[float, Within(0, 1000, above=True)]
Share = Annotated[float, Within(0, 1)]
Pixel = Annotated[float, Within(-1000, 1000)]
Deviation = Annotated[float, Within(0.001, 1000)]


def _check_stages(name: str, stages: tuple[int, ...], count: int) -> None:
    if any(low >= high for low, high in zip(stages, stages[1:])) or max(stages, default=1) > count:
        raise ValueError(f"{name} must be stages of 1 to {count}, each once and in order, not {list(stages)}")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the backbone sees: every camera is cropped at the top, resized, normalised and padded to one size."""

    height: Side  # after crop and resize, before padding
    width: Side
    channel_order: Literal["RGB", "BGR"]
    mean: tuple[Pixel, Pixel, Pixel]  # in channel_order
    std: tuple[Deviation, Deviation, Deviation]
    pad_multiple: Annotated[int, Within(1, 1024)] = 32
    # quirk "scaled": the intrinsics of a resized image are scaled without the half pixel to a pixel's centre.
    resized_intrinsics: Literal["scaled", "exact"] = "exact"
    # "stepwise": an image is decoded whole, undistorted, cropped and resized, each as when published weights were
    # trained.  "direct": it is decoded no larger than needed, and the rest is one step, in 8 bits.
    preparation: Literal["stepwise", "direct"] = "stepwise"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.preparation == "direct" and self.resized_intrinsics != "exact":
            raise ValueError("preparation: direct needs resized_intrinsics: exact, as its pixels are where they are")

    @property
    def padded_hw(self) -> tuple[int, int]:
        """Network input size; projections are divided by it."""
        multiple = self.pad_multiple
        return math.ceil(self.height / multiple) * multiple, math.ceil(self.width / multiple) * multiple


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """ResNet with bottleneck blocks (arXiv 1512.03385), deformable in some stages."""

    kind: Literal["resnet"] = "resnet"
    blocks: Blocks = (3, 4, 6, 3)
    style: Literal["caffe", "pytorch"] = "pytorch"  # where a stage's stride lies: first 1x1 or the 3x3 convolution
    deformable_stages: tuple[Stage, ...] = ()
    output_stages: OutputStages = (2, 3, 4)
    width: Annotated[int, Within(1, 512)] = 64  # channels of the stem

    def __post_init__(self) -> None:
        check_ranges(self)
        _check_stages("deformable_stages", self.deformable_stages, len(self.blocks))
        _check_stages("output_stages", self.output_stages, len(self.blocks))

    @property
    def output_channels(self) -> tuple[int, ...]:
        return tuple(self.width * 4 * 2 ** (stage - 1) for stage in self.output_stages)


@dataclass(frozen=True, slots=True)
class InternImageConfig:
    """InternImage-style backbone: deformable aggregation layers (arXiv 2211.05778)."""

    kind: Literal["internimage"] = "internimage"
    width: Annotated[int, Within(2, 512)] = 160  # channels of the first stage, doubled by every further one
    heads: tuple[Annotated[int, Within(1, 256)], ...] = (10, 20, 40, 40)
    blocks: Blocks = (6, 6, 32, 6)
    kernel: Literal[3, 5, 7] = 3
    offset_scale: Annotated[float, Within(0, 100, above=True)] = 1.71
    mlp_ratio: Annotated[int, Within(1, 16)] = 4
    output_stages: OutputStages = (2, 3, 4)

    def __post_init__(self) -> None:
        check_ranges(self)
        _check_stages("output_stages", self.output_stages, len(self.blocks))
        if len(self.heads) != len(self.blocks):
            raise ValueError("heads and blocks must name the same number of stages")
        if self.width % 2:
            raise ValueError(f"width must be even, not {self.width}")
        for stage, heads in enumerate(self.heads):
            if (self.width << stage) % heads:
                raise ValueError(f"heads[{stage}] must divide the stage's {self.width << stage} channels, not {heads}")

    @property
    def output_channels(self) -> tuple[int, ...]:
        return tuple(self.width * 2 ** (stage - 1) for stage in self.output_stages)


@dataclass(frozen=True, slots=True)
class PoseConfig:
    """A fixed pose."""

    translation_m: tuple[Metres, Metres, Metres] = (0.0, 0.0, 0.0)
    rotation_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not 0.99 < math.hypot(*self.rotation_xyzw) < 1.01:
            raise ValueError(f"rotation_xyzw must be a quaternion of length 1, not {list(self.rotation_xyzw)}")

    @property
    def matrix(self) -> Matrix:
        return rigid(rotation_from_quaternion(np.array(self.rotation_xyzw)), np.array(self.translation_m))


@dataclass(frozen=True, slots=True)
class GridConfig:
    """The coarse voxel grid of the queries, in the network's frame."""

    rows: Annotated[int, Within(1, 4096)]  # H, along y
    columns: Annotated[int, Within(1, 4096)]  # W, along x
    layers: Annotated[int, Within(1, 1024)]  # Z
    range_m: tuple[Metres, Metres, Metres, Metres, Metres, Metres]  # x, y, z minimum, then maximum
    ego_from_network: PoseConfig = PoseConfig()  # the frame the weights were trained in
    network_frame: Text | None = None  # of which sensor it is, by the usual name in TF; None: the vehicle's own frame

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.rows * self.columns * self.layers > MAX_TOKENS:
            raise ValueError(f"rows * columns * layers must be at most {MAX_TOKENS}")
        if any(high - low < 0.01 for low, high in zip(self.range_m[:3], self.range_m[3:])):
            raise ValueError("range_m must hold x, y, z minimum and then the larger maximum")


@dataclass(frozen=True, slots=True)
class EncoderConfig(Ranged):
    """View encoder: voxel queries attend to themselves and to the cameras (paper section 3.2)."""

    layers: Layers = 3
    self_points: Points = 8
    cross_points: Points = 8
    # quirk "first_tokens": self-attention samples the first rows * columns tokens of the list as if they were the map.
    self_memory: Literal["first_tokens", "own_layer"] = "own_layer"
    # quirk "metric_linspace": heights 0.5 m inside both ends of the range instead of the voxel centres.
    reference_heights: Literal["metric_linspace", "voxel_centres"] = "voxel_centres"


@dataclass(frozen=True, slots=True)
class EgoMotionConfig(Ranged):
    """The 18 numbers about the vehicle's motion that are added to every query."""

    # quirk "scalar_repeated": the quaternion's scalar part stands in all four places.
    quaternion: Literal["scalar_repeated", "wxyz"] = "wxyz"
    rates: Literal["auto", "sensors", "poses", "zeros"] = "auto"  # auto: sensors where a frame has them, else poses
    interval_s: Seconds = 0.5  # position and yaw change are taken over this time
    # quirk: a scene's first frame gets the change from the frame before it, or absolute coordinates at the very start.
    first_frame_jump: bool = False


@dataclass(frozen=True, slots=True)
class TemporalConfig:
    """How earlier volumes are kept by time, aligned and fused."""

    kind: Literal["concat", "recurrent"]  # unfused queue with 3-D convolutions, or the fused state fed back
    ages_s: Annotated[tuple[Seconds, ...], Length(0, 16)]  # wanted ages, oldest first; empty: no history
    tolerance_s: Seconds = 0.3
    spacing_s: Seconds = 0.5  # states are kept at this spacing
    points: Points = 4  # recurrent: sampling points of the fusing attention
    memory: Literal["first_tokens", "own_layer"] = "own_layer"  # recurrent: as EncoderConfig.self_memory
    keep_height: bool = False  # quirk: the vertical shift between two poses is ignored
    max_speed_mps: Limit = 70.0  # faster is a teleport
    max_turn_radps: Limit = 4.0
    # A camera beyond these, compared with when the history began, has been moved or changed: the memory is cleared.
    # Autofocus and a cabin on springs stay within; stored volumes do not depend on the cameras.
    max_focal_change: Limit = 0.05  # share of the focal length
    max_centre_shift: Limit = 0.1  # of the principal point, share of the image's width and height
    max_mount_shift_m: Limit = 0.25
    max_mount_turn_deg: Limit = 5.0

    def __post_init__(self) -> None:
        check_ranges(self)
        if any(older <= newer for older, newer in zip(self.ages_s, self.ages_s[1:])):
            raise ValueError(f"ages_s must be in order, oldest first, not {list(self.ages_s)}")
        if self.horizon_s > MAX_STATES * self.spacing_s:
            raise ValueError(f"spacing_s must be at least {self.horizon_s / MAX_STATES:.4g} with these ages_s")
        if self.kind == "recurrent" and len(self.ages_s) > 1:
            raise ValueError("a recurrent network has at most one entry in ages_s")

    @property
    def horizon_s(self) -> float:
        """The oldest age at which a state can still be used; a longer pause of the stream clears the memory."""
        return max(self.ages_s, default=0.5) + self.tolerance_s


@dataclass(frozen=True, slots=True)
class UpsampleConfig:
    """One transposed convolution with batch norm and ReLU; all triples are (z, y, x)."""

    kernel: tuple[Factor, Factor, Factor]
    stride: tuple[Factor, Factor, Factor]
    padding: tuple[Padding, Padding, Padding]
    channels: Channels

    def __post_init__(self) -> None:
        check_ranges(self)
        if any(padding >= kernel for padding, kernel in zip(self.padding, self.kernel)):
            raise ValueError(f"padding must be below kernel, not {list(self.padding)} with {list(self.kernel)}")


@dataclass(frozen=True, slots=True)
class SparseConfig:
    """How many voxels of its volume go on after each upsampling stage: those that its occupancy head ranks highest."""

    capacity: Annotated[tuple[Annotated[float, Within(0, 1, above=True)], ...], Length(1, 8)]  # shares

    def __post_init__(self) -> None:
        check_ranges(self)
        if any(later > earlier for earlier, later in zip(self.capacity, self.capacity[1:])):
            raise ValueError(
                f"capacity must not grow from stage to stage, as only children of kept voxels are computed, not "
                f"{list(self.capacity)}"
            )


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """From coarse voxel features to class logits on the output grid."""

    upsample: Annotated[tuple[UpsampleConfig, ...], Length(1, 8)]
    mlp: Annotated[tuple[Channels, ...], Length(2, 16)] = (32, 128, 128, 32)
    logit_upsample: tuple[Factor, Factor, Factor] = (1, 1, 1)  # (z, y, x), trilinear
    gate_threshold: Share | None = None  # occupied only where the occupancy gate's probability reaches it
    gate_kernel: Literal[1, 3, 5, 7] = 3
    # Networks without a class for free space have one sigmoid per class: below this best probability a voxel is free.
    empty_below: Share | None = None
    thing_head: bool = False  # two logits per coarse voxel; the box memory is weighted with softmax channel 0
    sparse: SparseConfig | None = None  # None: every voxel goes on after every stage

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.mlp[0] != self.upsample[-1].channels:
            raise ValueError("mlp must begin with the channels of the last upsampling stage")
        if self.gate_threshold is not None and self.logit_upsample != (1, 1, 1):
            raise ValueError("a network with gate_threshold must have no logit_upsample: the gate is of finest voxels")
        if self.sparse is not None:
            self._check_sparse(self.sparse)

    def _check_sparse(self, sparse: SparseConfig) -> None:
        if len(sparse.capacity) != len(self.upsample):
            raise ValueError(
                f"sparse.capacity must have one share for each of the {len(self.upsample)} stages of upsample, not "
                f"{len(sparse.capacity)}"
            )
        for number, stage in enumerate(self.upsample):
            if any(k != s + 2 * p for k, s, p in zip(stage.kernel, stage.stride, stage.padding)):
                raise ValueError(f"sparse: upsample[{number}].kernel must be stride + 2 * padding along each axis")
        if not self.free_below:
            raise ValueError("sparse needs gate_threshold or empty_below, above 0: what is dropped is free by them")

    @property
    def free_below(self) -> float | None:
        """The probability of being occupied below which a voxel is free; None: the best class decides alone."""
        return self.gate_threshold if self.empty_below is None else self.empty_below

    @property
    def closed_logit(self) -> float:
        """The highest logit of being occupied that a dropped voxel has: just below what it takes to be occupied."""
        probability = 0.99 * (self.free_below or 1.0)
        return math.log(probability / (1 - probability))

    @property
    def head_count(self) -> int:
        """Occupancy heads of the sparse decoder: one a stage; the gate, where there is one, is the last stage's."""
        return 0 if self.sparse is None else len(self.upsample) - (self.gate_threshold is not None)


@dataclass(frozen=True, slots=True)
class PointConfig:
    """How LiDAR points read their class from the volume (evaluation)."""

    rule: Literal["direct", "high_resolution"] = "direct"
    cells_xyz: tuple[Cells, Cells, Cells] | None = None  # high_resolution: the finer grid

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.rule == "high_resolution") > (self.cells_xyz is not None):
            raise ValueError("cells_xyz is missing, which the rule high_resolution needs")


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """Box branch: learned queries attend to the bird's-eye map (arXiv 2010.04159, 2005.12872)."""

    queries: Annotated[int, Within(1, 10_000)] = 900
    layers: Layers = 6
    points: Points = 4
    classes: Annotated[tuple[Text, ...], Length(0, 255)] = ()  # none: a network without a box branch
    max_boxes: Annotated[int, Within(1, 10_000)] = 300
    centre_limits_m: tuple[Metres, Metres, Metres, Metres, Metres, Metres] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must be different names")
        if any(high <= low for low, high in zip(self.centre_limits_m[:3], self.centre_limits_m[3:])):
            raise ValueError("centre_limits_m must hold x, y, z minimum and then the larger maximum")


@dataclass(frozen=True, slots=True)
class OriginConfig(Ranged):
    """What people call a network, where its weights come from, and what of its configuration was checked.

    It holds for the file that says it, not for those that extend it.
    """

    title: Annotated[str, Length(0, 100)] = ""  # empty: the preset's name
    checkpoint: Text = "none"
    confirmed: Text = "nothing"


@dataclass(frozen=True, slots=True)
class PanopticConfig(Ranged):
    """How things are told apart and joined with the classes of the voxels (`panoptic/fusion.py`)."""

    instances: InstanceSource = "boxes"  # boxes need a trained box branch; components are connected voxels of one class
    min_score: Share = 0.3  # of a box that claims voxels
    min_voxels: Annotated[int, Within(1, 1000)] = 2  # fewer are no instance
    # A box claims the voxels whose centres lie in it, or beyond its faces by so many voxels.
    margin_voxels: Annotated[float, Within(0, 4)] = 0.5
    join_m: Annotated[float, Within(0, 100)] = 0.0  # unclaimed voxels so near a box of their class join it; 0: none do
    refine: bool = False  # a box of at least this score sets the class of all thing voxels that it claims
    refine_score: Share = 0.5


@dataclass(frozen=True, slots=True)
class TrackingConfig(Ranged):
    """How instances are followed from frame to frame (`panoptic/tracks.py`)."""

    reach_m: Limit = 2.0  # how far from where its track expects it an instance may be found ...
    reach_mps: Limit = 4.0  # ... and how much further for every second since it was seen
    other_class_m: Limit = 1.5  # a track of another class is taken as if it were so much further away
    max_age_s: Seconds = 2.0  # a track that was not seen for longer has ended
    velocity_time_s: Seconds = 0.5  # over which velocities are smoothed


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One network, whole."""

    name: Text
    description: Annotated[str, Length(0, 1000)]
    truth: Literal["voxels", "points"]  # what it learns from and is measured by: dense voxels, or labelled LiDAR points
    cameras: Annotated[tuple[Text, ...], Length(1, 32)]  # in the order of the weights
    images: ImageConfig
    backbone: ResNetConfig | InternImageConfig
    grid: GridConfig
    encoder: EncoderConfig
    ego_motion: EgoMotionConfig
    temporal: TemporalConfig
    decoder: DecoderConfig
    boxes: BoxConfig
    panoptic: PanopticConfig = PanopticConfig()
    tracking: TrackingConfig = TrackingConfig()
    points: PointConfig = PointConfig()
    origin: OriginConfig = OriginConfig()
    levels: Stage = 4  # of the feature pyramid; one more than the backbone's outputs adds a strided convolution
    embed: Annotated[int, Within(2, 4096)] = 256
    heads: Annotated[int, Within(1, 256)] = 8
    ffn: Channels = 512
    label_key: Text = "occ3d_nuscenes"
    class_names: Annotated[tuple[Text, ...], Length(2, 255)] | None = None  # for label sets that are not built in
    published_decoder: Literal["voxel_decoder", "voxel_encoder"] = "voxel_decoder"  # its name in published checkpoints
    real_time_on_cpu: bool = False  # keeps up with a rig on two cores: the demo does not wait for it

    def __post_init__(self) -> None:
        check_ranges(self)
        outputs = len(self.backbone.output_stages)
        if self.levels < outputs:
            raise ValueError(f"levels must be at least {outputs}, the number of the backbone's outputs")
        if self.embed % self.heads:
            raise ValueError("embed must be a multiple of heads")
        labels = self.labels
        if len(set(labels.names)) < len(labels.names):
            raise ValueError("class_names must be different names")
        if self.panoptic.instances == "boxes":
            self._check_boxes(labels)
        if self.decoder.empty_below is not None and labels.free_id != len(labels.names) - 1:
            raise ValueError("decoder.empty_below needs a label set whose last class is free")
        if self.decoder.sparse is not None and labels.free_id is None:
            raise ValueError("decoder.sparse needs a label set with a class for free space")
        if len(set(self.cameras)) != len(self.cameras):
            raise ValueError("cameras must be a list of different names")
        if not all(size > 0 for size in self.output_shape_xyz) or math.prod(self.output_shape_xyz) > MAX_VOXELS:
            raise ValueError(
                f"grid and decoder make an output of {self.output_shape_xyz} voxels (x, y, z), which must be at least "
                f"one along each and at most {MAX_VOXELS} together"
            )

    def _check_boxes(self, labels: LabelSet) -> None:
        detected = [kind in self.boxes.classes for kind in BOX_CLASSES]
        if not things_of_boxes(labels)[detected].any():
            raise ValueError(
                f"panoptic.instances: boxes needs box classes that are things of {labels.key}, and {self.name} has "
                "none (boxes.classes); choose components (connected voxels of one class) or none"
            )

    @property
    def title(self) -> str:
        """What people call the network."""
        return self.origin.title or self.name

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

    def placed(self, ego_from_network: Matrix | None) -> "ModelConfig":
        """The same network with its frame where a vehicle has it [4, 4]; None: where the weights were trained.

        Raises:
            ValueError: the frame is kilometres away.
        """
        if ego_from_network is None:
            return self
        x, y, z = ego_from_network[:3, 3].tolist()
        qx, qy, qz, qw = quaternion_from_rotation(ego_from_network[:3, :3]).tolist()
        return replace(self, grid=replace(self.grid, ego_from_network=PoseConfig((x, y, z), (qx, qy, qz, qw))))


def presets() -> dict[str, Path]:
    """Names and files of the presets that are installed."""
    return listing("models")


def model_config(preset: str | Path) -> ModelConfig:
    """The configuration of a preset name or a YAML file.  A file may build on a preset with `extends: <name>`.

    Raises:
        ConfigError: unknown preset, unknown key or unusable value.
    """
    path = named_yaml("models", str(preset), "model preset")
    return build(ModelConfig, {"name": path.stem, **_with_bases(path, ())}, path.name)


def _with_bases(path: Path, seen: tuple[Path, ...]) -> dict:
    data = load_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data
    base_path = named_yaml("models", str(base), "model preset")
    if base_path in (*seen, path):
        raise ConfigError(f"{path}: extends itself through {base!r}")
    inherited = _with_bases(base_path, (*seen, path))
    inherited.pop("origin", None)
    return merged(inherited, data)
