"""What lies beside an exported step: how it was made, what goes in and what comes out."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from ..base.strict_yaml import build, load_yaml
from ..config import ModelConfig
from ..network import Network
from ..weights.tensor_files import MAX_BYTES, CheckpointError
from .traced import Port

FORMAT = 1  # raised when inputs or outputs change
SUFFIXES = (".onnx", ".pt2")
# What says nothing about the step itself: the host has its own of these, or nobody computes with them.
_OF_THE_HOST = ("description", "origin", "tracking", "points", "real_time_on_cpu", "ego_motion", "panoptic")
_OF_THE_MEMORY = ("kind", "ages_s", "points", "memory", "keep_height")


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """The YAML file beside an exported step."""

    format: int
    kind: Literal["onnx", "pt2"]
    model: str  # preset, or the name of its file
    precision: Literal["fp32", "fp16", "bf16"]
    cameras: tuple[str, ...]  # in the order of `images` and `projections`
    cameras_per_voxel: int  # that are read; more are an error
    rig: str  # by which that was chosen
    instances: Literal["boxes", "components", "none"]
    classes: tuple[str, ...]
    network: dict[str, Any]  # all that the step was made by: grid, image normalisation, ages of the states ...
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    size_bytes: int
    sha256: str  # of the file
    weights_sha256: str
    versions: dict[str, str]
    checked: dict[str, float] = field(default_factory=dict)  # worst differences from the network itself


def spec_path(file: Path) -> Path:
    """Where the configuration of an exported file lies."""
    return file.with_name(f"{file.name}.yaml")


def is_exported(path: Path | str | None) -> bool:
    """Whether a file is an exported step, by its name."""
    return path is not None and Path(path).suffix in SUFFIXES


def network_facts(config: ModelConfig) -> dict[str, Any]:
    """What of a configuration an exported step depends on, as JSON has it."""
    facts = {name: value for name, value in asdict(config).items() if name not in (*_OF_THE_HOST, "name")}
    facts["temporal"] = {name: facts["temporal"][name] for name in _OF_THE_MEMORY}
    for name in ("ego_from_network", "network_frame"):  # the host says where the frame is
        del facts["grid"][name]
    return json.loads(json.dumps(facts))


def write_spec(spec: ExportSpec, path: Path) -> None:
    """Write what lies beside a file."""
    text = yaml.safe_dump(json.loads(json.dumps(asdict(spec))), sort_keys=False, width=120)
    path.write_text("# Written by panoocc export: what goes into the file beside it, and what comes out.\n" + text)


def read_spec(file: Path, config: ModelConfig) -> ExportSpec:
    """What lies beside an exported step, which must be one of this network and whole.

    Raises:
        CheckpointError: file or configuration is missing, damaged, of another network or of another version.
    """
    again = "write it again with panoocc export"
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; panoocc export writes one")
    beside = spec_path(file)
    if not beside.is_file():
        raise CheckpointError(f"{file}: its configuration {beside.name} is not beside it; copy both, or {again}")
    data = load_yaml(beside)
    if data.get("format") != FORMAT:
        raise CheckpointError(f"{beside}: is of format {data.get('format')}, and this version reads {FORMAT}: {again}")
    spec = replace(build(ExportSpec, {**data, "network": {}}, beside.name), network=data["network"])
    if f".{spec.kind}" != file.suffix:
        raise CheckpointError(f"{beside}: is of a file .{spec.kind}, not of {file.name}: {again}")
    size = file.stat().st_size
    if size != spec.size_bytes or size > MAX_BYTES:
        raise CheckpointError(f"{file}: has {size} bytes, not the {spec.size_bytes} that {beside.name} says: {again}")
    if sha256_of(file) != spec.sha256:
        raise CheckpointError(f"{file}: is not the file that {beside.name} was written for (its hash differs): {again}")
    theirs, ours = spec.network, network_facts(config)
    if theirs != ours:
        differing = ", ".join(_differing(theirs, ours)) or "its keys"
        raise CheckpointError(
            f"{file}: is a step of {spec.model}, which is not {config.name} as it is here: {differing} differ; name "
            f"the model that it was made of, or {again}"
        )
    if config.panoptic.instances == "boxes" and spec.instances != "boxes":
        raise CheckpointError(f"{file}: has no box branch; take instances: {spec.instances}, or {again}")
    return spec


def _differing(theirs: Any, ours: Any, where: str = "") -> Iterable[str]:
    """The names of what two trees do not have in common."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from _differing(theirs.get(key), ours.get(key), f"{where}.{key}" if where else key)
    elif theirs != ours:
        yield where


def sha256_of(path: Path) -> str:
    """Of a file, a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def weights_sha256(network: Network) -> str:
    """Of all weights with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
