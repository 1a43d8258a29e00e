"""The state of a training on disk, whole or not at all: what a killed training goes on from."""

import io
import json
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from ..whole_files import whole_file
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


def save_snapshot(
    folder: Path,
    config: TrainConfig,
    processes: int,
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
        "recipe": recipe_text(config),
        "processes": processes,
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
    config: TrainConfig,
    processes: int,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> Progress:
    """Put a snapshot's state into model and optimiser.

    Args:
        data: the snapshot, which may have come from another machine.
        path: of its file, for messages.

    Raises:
        SnapshotError: unreadable, or made by another recipe or another number of processes.
    """
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        made_by, progress = json.loads(content["recipe"]), Progress(**content["progress"])
    except Exception as error:
        raise SnapshotError(f"{path}: is no snapshot of a training ({error}); begin anew in another --out") from error
    _check_recipe(path, made_by, json.loads(recipe_text(config)))
    if content["processes"] != processes:
        raise SnapshotError(f"{path}: was made by {content['processes']} processes, not {processes}; start as many")
    try:
        model.load_state_dict(content["model"])
        optimiser.load_state_dict(content["optimiser"])
        scaler.load_state_dict(content["scaler"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise SnapshotError(f"{path}: does not fit the network ({error}); begin anew in another --out") from error
    return progress


def recipe_text(config: TrainConfig) -> str:
    """The recipe and its network as JSON, for comparison and for the record."""
    return json.dumps({**asdict(config), "network": asdict(config.model_config)}, sort_keys=True)


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
