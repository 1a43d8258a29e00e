"""Networks from files: strict loading of published checkpoints, conversion to safetensors, seeded stand-ins.

Every entry must be there, none may be left over, and all shapes must fit; otherwise all that is wrong is listed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..base.devices import usable_device
from ..base.resources import shipped_weights
from ..base.whole_files import whole_file
from ..config import ModelConfig, model_config, presets
from ..models import build_network
from ..network import Network
from .inference import freeze, ready_for_inference
from .published_names import HEADS, published_names
from .seeded import Shapes, seeded_state
from .tensor_files import CheckpointError, read_tensors

INTERNAL_NAMES = (
    "the file has the names of Network.state_dict(), but a checkpoint has the published ones: write it with "
    "panoocc_core.weights.checkpoint.save_published, as panoocc train does"
)
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LISTED = 8  # entries named per kind of mismatch


class NoWeightsError(CheckpointError):
    """No weights were named, and none come with the package."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How the entries of a file differ from what a network needs."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    unequal: tuple[str, ...]  # copies of a shared box branch that differ

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen or self.unequal)

    def __str__(self) -> str:
        kinds = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape or type", self.misshapen),
            ("unequal copies of a shared branch", self.unequal),
        )
        return ";\n".join(f"  {len(names)} {kind}: {_some(names)}" for kind, names in kinds if names)


def _some(names: tuple[str, ...]) -> str:
    rest = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest


def expected_shapes(model: Network) -> Shapes:
    """Published name -> shape and dtype of every entry, copies of the shared box branches included."""
    state = model.state_dict()
    names = published_names(state, model.config)
    return {
        name: (tuple(state[ours].shape), str(state[ours].dtype).removeprefix("torch."))
        for ours, copies in names.items()
        for name in copies
    }


def compare(model: Network, tensors: Mapping[str, Tensor]) -> Mismatch:
    """What keeps `tensors` (published names) from being the weights of `model`.

    The copies of a shared box branch may be there in full, or the first one alone.
    """
    state = model.state_dict()
    names = published_names(state, model.config)
    known = {copy for copies in names.values() for copy in copies}
    missing, misshapen, unequal = [], [], []
    collapsed = not any(copy in tensors for copies in names.values() for copy in copies[1:])
    for ours, copies in names.items():
        for copy in copies[:1] if collapsed else copies:
            given = tensors.get(copy)
            if given is None:
                missing.append(copy)
            elif given.shape != state[ours].shape:
                misshapen.append(f"{copy} {tuple(given.shape)} instead of {tuple(state[ours].shape)}")
            elif _kind(given) != _kind(state[ours]):
                misshapen.append(f"{copy} {given.dtype} instead of {state[ours].dtype}")
            elif copy != copies[0] and copies[0] in tensors and not torch.equal(given, tensors[copies[0]]):
                unequal.append(copy)
    unexpected = sorted(set(tensors) - known)
    return Mismatch(tuple(missing), tuple(unexpected), tuple(misshapen), tuple(unequal))


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    """Half precision may stand for single, but neither whole nor complex numbers for real ones."""
    return tensor.is_floating_point(), tensor.is_complex()


def load_published(model: Network, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill `model` with the entries of a published checkpoint, strictly.

    Raises:
        CheckpointError: anything is missing, left over, misshapen or not finite; `source` begins the message.
    """
    mismatch = compare(model, tensors)
    if mismatch:
        others = fitting_presets(tensors) if mismatch.missing or mismatch.misshapen or mismatch.unexpected else []
        if others:
            raise CheckpointError(_another_member(source, model.config, others))
        hint = f";\n{INTERNAL_NAMES}" if model.state_dict().keys() & set(mismatch.unexpected) else ""
        raise CheckpointError(f"{source} is no checkpoint of {model.config.name}:\n{mismatch}{hint}")
    names = published_names(model.state_dict(), model.config)
    broken = tuple(copies[0] for copies in names.values() if not tensors[copies[0]].float().isfinite().all())
    if broken:
        raise CheckpointError(f"{source}: {len(broken)} tensors hold NaN or infinity: {_some(broken)}")
    model.load_state_dict({ours: tensors[copies[0]] for ours, copies in names.items()})


def _another_member(source: str, wanted: ModelConfig, found: list[str]) -> str:
    """That a file holds the weights of other presets, by all their titles where their parameters are the same."""
    titles = " or ".join(dict.fromkeys(model_config(name).title for name in found))
    same = " (the same parameters)" if len(found) > 1 else ""
    return (
        f"{source}: this file is {titles}{same}; you asked for {wanted.title}: ask for the preset "
        f"{' or '.join(found)}, or give a file of {wanted.title}"
    )


def with_fresh_heads(model: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a dense network's checkpoint with the occupancy heads of `model` as they are, to train from."""
    state = model.state_dict()
    names = published_names((name for name in state if name.startswith(HEADS)), model.config)
    fresh = {copies[0]: state[ours] for ours, copies in names.items()}
    return {**tensors, **({} if fresh.keys() & tensors.keys() else fresh)}


def fitting_presets(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the installed presets whose networks take exactly these entries."""
    out = []
    for name in presets():
        with torch.device("meta"):  # no memory is taken
            model = build_network(model_config(name))
        found = compare(model, tensors)
        if not (found.missing or found.unexpected or found.misshapen):
            out.append(name)
    return out


def seeded_tensors(model: Network, seed: int = 0) -> dict[str, Tensor]:
    """Stand-in weights of a network under published names; see `seeded_weights`."""
    return {name: torch.from_numpy(value) for name, value in seeded_state(expected_shapes(model), seed).items()}


def load_model(
    model: str | Path | ModelConfig,
    checkpoint: Path | None = None,
    seeded_weights: bool = False,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    seed: int = 0,
    plain: bool = False,
) -> Network:
    """A network ready to infer: preset name, YAML file or configuration, with weights from a file or seeded ones.

    Without either, the weights that come with the package for that preset.

    Args:
        precision: "fp32", "fp16" or "bf16" for weights and features; coordinates stay in float32.
        plain: as its modules are written, without anything that computes the same faster: to compare with.

    Raises:
        ConfigError: the preset or file cannot be used.
        CheckpointError: both kinds of weights, or a file that does not fit.
        NoWeightsError: none are named, and the package has none.
        ValueError: unknown device or precision.
    """
    config = model if isinstance(model, ModelConfig) else model_config(model)
    if checkpoint is not None and seeded_weights:
        raise CheckpointError("give a checkpoint file or ask for seeded weights (untrained), not both")
    if checkpoint is None and not seeded_weights:
        checkpoint = shipped_weights(config.name)
        if checkpoint is None:
            having = " or ".join(name for name in presets() if shipped_weights(name) is not None)
            raise NoWeightsError(
                f"no weights come with the package for {config.name}: give a checkpoint file (panoocc train makes "
                f"one), or take the model {having}, which comes with weights"
            )
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    target = usable_device(device)
    given = None if checkpoint is None else read_tensors(Path(checkpoint))  # first: what cannot be read is told at once
    network = build_network(config)
    tensors = seeded_tensors(network, seed) if given is None else given
    load_published(network, tensors, "the seeded state" if checkpoint is None else str(checkpoint))
    if plain:
        return network.eval().requires_grad_(False).to(target, PRECISIONS[precision])
    return freeze(ready_for_inference(network).to(target, PRECISIONS[precision]))


def save_published(model: Network, target: Path, metadata: Mapping[str, str]) -> int:
    """Write a network's weights as safetensors (published names, one copy of shared branches); returns their number.

    The file appears only once it is whole.

    Raises:
        CheckpointError: the target cannot be written.
    """
    state = model.state_dict()
    names = published_names(state, model.config)
    tensors = {copies[0]: state[ours].detach().cpu().contiguous().clone() for ours, copies in names.items()}
    try:
        with whole_file(target) as part:
            save_file(tensors, part, metadata={"format": "pt", **metadata})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{target}: cannot be written: {error}") from error
    return len(tensors)


def convert(source: Path, target: Path, preset: str | None = None) -> str:
    """Convert a published checkpoint to safetensors (published names, one copy of shared branches); returns a report.

    Raises:
        CheckpointError: see `read_tensors` and `load_published`; also when no preset fits or the target is unwritable.
    """
    tensors = read_tensors(source)
    candidates = [preset] if preset else fitting_presets(tensors)
    if not candidates:
        raise CheckpointError(
            f"{source}: fits none of the presets {', '.join(presets())}; name the one it is meant for with --model "
            "to see what differs"
        )
    model = build_network(model_config(candidates[0]))
    load_published(model, tensors, str(source))
    kept = save_published(model, target, {"panoocc_model": candidates[0]})
    parameters = sum(p.numel() for p in model.parameters())
    return (
        f"{source}: {len(tensors)} entries, a checkpoint of {' = '.join(candidates)}\n"
        f"{target}: {kept} tensors, {parameters / 1e6:.2f} M parameters, {target.stat().st_size / 1e6:.1f} MB; "
        f"{len(tensors) - kept} copies of shared box branches left out"
    )
