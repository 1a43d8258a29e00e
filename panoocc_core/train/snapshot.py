"""The state of a training on disk, whole or not at all: what a killed training goes on from."""

import io
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from ..base.whole_files import whole_file
from ..ground_truth import Drive
from .train_config import TrainConfig

FILE = "snapshot.pt"


class SnapshotError(ValueError):
    """A snapshot that cannot be gone on from; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training has come: everything before this round of this epoch has been learned from."""

    epoch: int = 0
    round: int = 0
    step: int = 0


DriveList = list[tuple[str, int]]  # names and numbers of frames, in order


@dataclass(frozen=True, slots=True)
class Origin:
    """What a training is made from: going on with another recipe, process count or data would mix two trainings."""

    recipe: str  # `recipe_text`
    processes: int
    data: str  # `data_text`


def origin_of(config: TrainConfig, processes: int, learned: DriveList, held_out: DriveList) -> Origin:
    """The origin of a training that learns from some drives and is validated on others."""
    return Origin(recipe_text(config), processes, data_text(learned, held_out))


def drive_list(drives: Sequence[Drive]) -> DriveList:
    """What tells drives apart without reading their content; simulated ones have plan and seed in their names."""
    return [(drive.name, len(drive)) for drive in drives]


def save_snapshot(
    folder: Path,
    origin: Origin,
    progress: Progress,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Replace the folder's snapshot.

    Raises:
        OSError: it cannot be written; the one before is still there.
    """
    content = {
        **asdict(origin),
        "progress": asdict(progress),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
    }
    try:
        with whole_file(folder / FILE) as part, part.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # what torch makes of a full disk
        raise OSError(f"{folder / FILE}: cannot be written: {error}") from error


def restore_snapshot(
    data: bytes,
    path: Path,
    origin: Origin,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> Progress:
    """Put a snapshot's state into model and optimiser.

    Args:
        data: the snapshot, which may have come from another machine.
        path: of its file, for messages.

    Raises:
        SnapshotError: unreadable, or of another origin.
    """
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        made_by, progress = json.loads(content["recipe"]), Progress(**content["progress"])
    except Exception as error:
        raise SnapshotError(f"{path}: is no snapshot of a training ({error}); begin anew in another --out") from error
    _check_recipe(path, made_by, json.loads(origin.recipe))
    if content["processes"] != origin.processes:
        raise SnapshotError(
            f"{path}: was made by {content['processes']} processes, not {origin.processes}; start as many"
        )
    if "data" in content:  # snapshots did not say it from the beginning
        _check_data(path, json.loads(content["data"]), json.loads(origin.data))
    try:
        model.load_state_dict(content["model"])
        optimiser.load_state_dict(content["optimiser"])
        scaler.load_state_dict(content["scaler"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise SnapshotError(f"{path}: does not fit the network ({error}); begin anew in another --out") from error
    return progress


def recipe_text(config: TrainConfig) -> str:
    """The recipe and its network as JSON, for comparison and for the record."""
    network = asdict(config.model_config)
    del network["origin"]  # words about the network, which may change
    return json.dumps({**asdict(config), "network": network}, sort_keys=True)


def data_text(learned: DriveList, held_out: DriveList) -> str:
    """The drives as JSON, for comparison: the keys are the words for them in messages."""
    return json.dumps({"training": learned, "validation": held_out})


def _defaults() -> dict[str, Any]:
    """The keys that a recipe need not give, as JSON has them."""
    given = {field.name: field.default for field in fields(TrainConfig) if field.default is not MISSING}
    plain = {name: asdict(value) if is_dataclass(value) else value for name, value in given.items()}  # type: ignore[arg-type]
    return dict(json.loads(json.dumps(plain)))


def _check_recipe(path: Path, made_by: dict[str, Any], wanted: dict[str, Any]) -> None:
    # A key that recipes did not have yet when the snapshot was made stood for its default.
    made_by = {**_defaults(), **made_by}
    changed = sorted(key for key in wanted.keys() | made_by.keys() if wanted.get(key) != made_by.get(key))
    if changed:
        raise SnapshotError(
            f"{path}: was made by another recipe; {', '.join(changed)} changed. Undo that, or begin anew in another "
            "--out"
        )


def _check_data(path: Path, made_from: dict[str, Any], wanted: dict[str, Any]) -> None:
    changes = [
        f"{kind} drives: {_difference(made_from[kind], wanted[kind])}"
        for kind in wanted
        if made_from[kind] != wanted[kind]
    ]
    if changes:
        raise SnapshotError(
            f"{path}: was made from other data ({'; '.join(changes)}). Give the same folder, version, splits and seeds "
            "again, or begin anew in another --out, from these weights with --checkpoint"
        )


def _difference(before: list[list[Any]], now: list[list[Any]]) -> str:
    """What is another in a list of drives."""
    frames_before, frames_now = dict(before), dict(now)
    parts = [f"{len(now)} instead of {len(before)}"] if len(now) != len(before) else []
    for word, names in (
        ("without", [name for name in frames_before if name not in frames_now]),
        ("with", [name for name in frames_now if name not in frames_before]),
    ):
        if names:
            parts.append(f"{word} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
    for name, frames in frames_before.items():
        if frames_now.get(name, frames) != frames:
            parts.append(f"{name} has {frames_now[name]} frames instead of {frames}")
            break
    return ", ".join(parts) or "another order"
