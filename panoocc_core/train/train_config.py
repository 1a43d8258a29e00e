"""What a training does: a recipe is a YAML file in `config/train`; nothing else knows its numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ..base.ranges import Length, Ranged, Text, Within, check_ranges
from ..base.resources import listing
from ..base.rig_files import AUTO
from ..base.strict_yaml import ConfigError, build, load_yaml, merged, named_yaml
from ..config import ModelConfig, model_config
from ..data.street_plan import RateHz, Scale, Seconds
from ..ops.backend import Kernels
from .loss_config import PUBLISHED, TERMS, LossConfig

MAX_SEED = 2**63 - 1  # of torch's generators


Seed = Annotated[int, Within(0, MAX_SEED)]
Count = Annotated[int, Within(1, 100_000)]
Share = Annotated[float, Within(0, 1)]


@dataclass(frozen=True, slots=True)
class StreetsConfig:
    """Simulated streets as data: seeds from `first_seed` on, each one drive."""

    kind: Literal["streets"] = "streets"
    drives: Count = 200
    first_seed: Seed = 10_000  # evaluation uses seeds below 1,000
    validation_drives: Count = 4
    validation_first_seed: Seed = 9_000
    seconds: Seconds = 12.0
    rate_hz: RateHz = 2.0
    scale: Scale = 0.16  # image size, 1 is that of the rig's file
    rig: Text = (
        AUTO  # a name in config/sim_rigs, or a YAML file with the network's cameras; auto: the one that has them
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        own, held_out = self.seeds, self.validation_seeds
        if (common := max(own.start, held_out.start)) < min(own.stop, held_out.stop):
            raise ValueError(f"seed {common} is in both the training's and the validation's drives")

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.drives)

    @property
    def validation_seeds(self) -> range:
        return range(self.validation_first_seed, self.validation_first_seed + self.validation_drives)


@dataclass(frozen=True, slots=True)
class FolderConfig(Ranged):
    """A nuScenes folder as data, with Occ3D's labels where the network learns from dense voxels."""

    kind: Literal["nuscenes"] = "nuscenes"
    version: Text = "v1.0-trainval"
    training_split: Text = "train"  # one of nuScenes' splits, or a text file of scene names (docs/data.md)
    validation_split: Text = "val"


@dataclass(frozen=True, slots=True)
class GroupConfig(Ranged):
    """Parameters whose names begin with `prefix` learn at their own rate; 0 freezes them and their batch norms."""

    prefix: Text
    lr_scale: Annotated[float, Within(0, 1000)] = 1.0


@dataclass(frozen=True, slots=True)
class OptimiserConfig(Ranged):
    """AdamW (arXiv 1711.05101)."""

    lr: Annotated[float, Within(0, 10, above=True)] = 2e-4
    weight_decay: Annotated[float, Within(0, 10)] = 0.01
    clip_norm: Annotated[float, Within(0, 1_000_000, above=True)] = 35.0  # of all gradients together
    groups: Annotated[tuple[GroupConfig, ...], Length(0, 100)] = ()  # the first prefix that fits counts


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How the learning rate goes."""

    kind: Literal["cosine", "steps"] = "cosine"
    warmup_steps: Annotated[int, Within(0, 10_000_000)] = 500
    warmup_from: Share = 1 / 3  # share of the rate at the first step
    final_share: Share = 1e-3  # cosine: of the rate at the end
    drop_epochs: Annotated[tuple[Count, ...], Length(0, 100)] = ()  # steps: after these the rate is divided by ten

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.kind == "steps" and not self.drop_epochs:
            raise ValueError("a schedule of steps needs drop_epochs")


@dataclass(frozen=True, slots=True)
class AugmentConfig(Ranged):
    """How images are changed at random (`augment`); everything is a probability, 0 = never."""

    colour: Share = 0.0  # of each: brightness, contrast, saturation, hue, order of channels; every image on its own
    overflow: Literal["clip", "wrap"] = "clip"  # quirk "wrap": a changed colour above 255 begins again at 0
    mirror: Share = 0.0  # all images of a frame left to right
    grid_mask: Share = 0.0  # squares are removed from all images of a frame that is learned from
    grid_mask_ratio: Share = 0.5  # share of the squares' spacing that stays


@dataclass(frozen=True, slots=True)
class TrainConfig(Ranged):
    """One training, whole."""

    name: Text
    model: Text  # preset, or YAML file
    losses: LossConfig
    data: StreetsConfig | FolderConfig = StreetsConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Count = 12
    batch: Annotated[int, Within(1, 1024)] = 1  # clips side by side in one process; each gives one frame to every step
    clip_frames: Annotated[int, Within(1, 1000)] = (
        4  # consecutive; later ones are fused with the memory of earlier ones
    )
    # Frames of a clip that are learned from.  "all": every one, and clips follow each other; "last": a clip for every
    # frame, the earlier ones only fill the memory (as published).
    supervise: Literal["all", "last"] = "all"
    clip_stride: Annotated[int, Within(1, 1000)] = 1  # "last": frames of a clip are so many apart
    augment: AugmentConfig = AugmentConfig()
    # Batch norms below these prefixes keep statistics, scale and shift.
    fixed_norms: Annotated[tuple[Text, ...], Length(0, 100)] = ()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the forward pass; weights and losses are float32
    kernels: Kernels = "auto"  # of the operators (ops/backend.py); auto: what PANOOCC_KERNELS says
    calibrate: bool = False  # at the end, set the classifier's bias on the validation drives (class_bias.py)
    seed: Seed = 0
    description: Annotated[str, Length(0, 1000)] = ""

    @property
    def model_config(self) -> ModelConfig:
        return model_config(self.model)


def recipes() -> dict[str, Path]:
    """Names and files of the recipes that are installed."""
    return listing("train")


def train_config(recipe: str | Path, changes: dict[str, Any] | None = None) -> TrainConfig:
    """The recipe of a name or a YAML file, with changes laid over it; losses build on those published for its truth.

    Raises:
        ConfigError: unknown recipe, unknown key or unusable value, or one that the network can do nothing with.
    """
    path = named_yaml("train", str(recipe), "training recipe")
    data = merged(load_yaml(path), changes or {})
    data.setdefault("name", path.stem)
    if "model" not in data:
        raise ConfigError(f"{path.name}: the key 'model' is missing")
    network = model_config(str(data["model"]))
    if isinstance(losses := data.get("losses", {}), dict):
        data["losses"] = merged(dict(PUBLISHED[network.truth]), losses)
    config = build(TrainConfig, data, path.name)
    try:
        _check_fits(config, network)
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}") from error
    return config


def _check_fits(config: TrainConfig, network: ModelConfig) -> None:
    """What would be refused at the first frame, or after the last one, is refused before there is any.

    Raises:
        ValueError: a key of the recipe does not fit the network; the message names it.
    """
    config.losses.check_classes(network.labels.names[: network.class_count])
    part_is_there = {
        "gate_focal": network.decoder.gate_threshold is not None,
        "thing_focal": network.decoder.thing_head,
        "box_class": bool(network.boxes.classes),
        "box_l1": bool(network.boxes.classes),
        "sparse_focal": network.decoder.head_count > 0,
    }
    for name in TERMS:
        known = name in (*PUBLISHED[network.truth], "sparse_focal") and part_is_there.get(name, True)
        if getattr(config.losses, name) and not known:
            raise ValueError(
                f"losses.{name}: {network.name} (truth: {network.truth}) has nothing that learns by it; set it to 0"
            )
    if network.decoder.head_count and not config.losses.sparse_focal:
        raise ValueError(f"losses.sparse_focal: nothing else teaches the occupancy heads of {network.name}; give it")
    if config.calibrate and network.truth != "voxels":
        raise ValueError(f"calibrate: needs dense voxels as truth, and {network.name} has none; set it to false")
