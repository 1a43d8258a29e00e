"""What a training does: a recipe is a YAML file in `config/train`; nothing else knows its numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..base.resources import listing
from ..base.strict_yaml import ConfigError, build, load_yaml, merged
from ..config import ModelConfig, model_config
from .loss_config import PUBLISHED, TERMS, LossConfig

MAX_SEED = 2**63 - 1  # of torch's generators


def _check(config: object, names: tuple[str, ...], low: float, high: float | None = None) -> None:
    """The numbers of these fields are finite, at least `low` and at most `high`.

    Raises:
        ValueError: one is not; the message names it and its range.
    """
    for name in names:
        value = getattr(config, name)
        if not (low <= value < float("inf") and (high is None or value <= high)):  # so written, NaN is refused
            wanted = f"at least {low}" if high is None else f"{low} to {high}"
            raise ValueError(f"{name} must be {wanted}, not {value}")


def _check_above_zero(config: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be more than 0, not {value}")


@dataclass(frozen=True, slots=True)
class StreetsConfig:
    """Simulated streets as data: seeds from `first_seed` on, each one drive."""

    kind: Literal["streets"] = "streets"
    drives: int = 200
    first_seed: int = 10_000  # evaluation uses seeds below 1,000
    validation_drives: int = 4
    validation_first_seed: int = 9_000
    seconds: float = 12.0
    rate_hz: float = 2.0
    scale: float = 0.16  # image size, 1 is that of the rig's file: 1600x900 for nuScenes
    rig: str = "nuscenes"  # a name in config/sim_rigs, or a YAML file; its cameras are called as the network's

    def __post_init__(self) -> None:
        _check(self, ("drives", "validation_drives"), 1)
        _check(self, ("first_seed", "validation_first_seed"), 0)
        own, held_out = set(self.seeds), set(self.validation_seeds)
        if own & held_out:
            raise ValueError(f"seed {min(own & held_out)} is in both the training's and the validation's drives")

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.drives)

    @property
    def validation_seeds(self) -> range:
        return range(self.validation_first_seed, self.validation_first_seed + self.validation_drives)


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """A nuScenes folder as data, with Occ3D's labels where the network learns from dense voxels."""

    kind: Literal["nuscenes"] = "nuscenes"
    version: str = "v1.0-trainval"
    training_split: str = "train.txt"  # a text file of scene names (docs/data.md), or mini_train
    validation_split: str = "val.txt"


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Parameters whose names begin with `prefix` learn at their own rate; 0 freezes them and their batch norms."""

    prefix: str
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        _check(self, ("lr_scale",), 0)


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """AdamW (arXiv 1711.05101)."""

    lr: float = 2e-4
    weight_decay: float = 0.01
    clip_norm: float = 35.0  # of all gradients together
    groups: tuple[GroupConfig, ...] = ()  # the first prefix that fits counts

    def __post_init__(self) -> None:
        _check_above_zero(self, ("lr", "clip_norm"))
        _check(self, ("weight_decay",), 0)


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How the learning rate goes."""

    kind: Literal["cosine", "steps"] = "cosine"
    warmup_steps: int = 500
    warmup_from: float = 1 / 3  # share of the rate at the first step
    final_share: float = 1e-3  # cosine: of the rate at the end
    drop_epochs: tuple[int, ...] = ()  # steps: after these epochs the rate is divided by ten

    def __post_init__(self) -> None:
        _check(self, ("warmup_steps",), 0)
        _check(self, ("warmup_from", "final_share"), 0, 1)
        if self.kind == "steps" and not self.drop_epochs:
            raise ValueError("a schedule of steps needs drop_epochs")
        if min(self.drop_epochs, default=1) < 1:
            raise ValueError(f"drop_epochs must be at least 1, not {min(self.drop_epochs)}")


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How images are changed at random (`augment`); everything is a probability, 0 = never."""

    colour: float = 0.0  # of each: brightness, contrast, saturation, hue, order of channels; every image on its own
    overflow: Literal["clip", "wrap"] = "clip"  # quirk "wrap": a changed colour above 255 begins again at 0
    mirror: float = 0.0  # all images of a frame left to right
    grid_mask: float = 0.0  # squares are removed from all images of a frame that is learned from
    grid_mask_ratio: float = 0.5  # share of the squares' spacing that stays

    def __post_init__(self) -> None:
        _check(self, ("colour", "mirror", "grid_mask", "grid_mask_ratio"), 0, 1)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training, whole."""

    name: str
    model: str  # preset, or YAML file
    losses: LossConfig
    data: StreetsConfig | FolderConfig = StreetsConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: int = 12
    batch: int = 1  # clips side by side in one process; each gives one frame to every step
    clip_frames: int = 4  # consecutive frames of a clip; later ones are fused with the memory of earlier ones
    # Frames of a clip that are learned from.  "all": every one, and clips follow each other; "last": a clip for every
    # frame, the earlier ones only fill the memory (as published).
    supervise: Literal["all", "last"] = "all"
    clip_stride: int = 1  # "last": frames of a clip are so many apart
    augment: AugmentConfig = AugmentConfig()
    fixed_norms: tuple[str, ...] = ()  # batch norms below these prefixes keep statistics, scale and shift
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the forward pass; weights and losses are float32
    calibrate: bool = False  # at the end, set the classifier's bias on the validation drives (calibration.py)
    seed: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        _check(self, ("epochs", "batch", "clip_frames", "clip_stride"), 1)
        _check(self, ("seed",), 0, MAX_SEED)

    @property
    def model_config(self) -> ModelConfig:
        return model_config(self.model)


def recipes() -> dict[str, Path]:
    """Names and files of the recipes that are installed."""
    return listing("train")


def train_config(recipe: str | Path, changes: dict[str, Any] | None = None) -> TrainConfig:
    """The recipe of a name or a YAML file, with changes laid over it; losses build on the family's published ones.

    Raises:
        ConfigError: unknown recipe, unknown key or unusable value, or one that the network can do nothing with.
    """
    path = _recipe_path(str(recipe))
    data = merged(load_yaml(path), changes or {})
    data.setdefault("name", path.stem)
    if "model" not in data:
        raise ConfigError(f"{path.name}: the key 'model' is missing")
    network = model_config(str(data["model"]))
    data["losses"] = merged(dict(PUBLISHED[network.family]), data.get("losses", {}))
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
    }
    for name in TERMS:
        known = name in PUBLISHED[network.family] and part_is_there.get(name, True)
        if getattr(config.losses, name) and not known:
            raise ValueError(
                f"losses.{name}: {network.name} ({network.family}) has nothing that learns by it; set it to 0"
            )
    if config.calibrate and network.family != "occ3d":
        raise ValueError(
            f"calibrate: needs dense voxels as truth, and {network.name} ({network.family}) has none; set it to false"
        )


def _recipe_path(recipe: str) -> Path:
    if recipe.endswith((".yaml", ".yml")):
        return Path(recipe)
    available = recipes()
    if recipe not in available:
        raise ConfigError(f"unknown training recipe {recipe!r}; there are {', '.join(available)} (or give a YAML file)")
    return available[recipe]
