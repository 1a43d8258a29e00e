"""Curves of a training: one row a step in a CSV file, and TensorBoard events where it is installed."""

import csv
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Curves:
    """Rows of named numbers by step; rows from `first_step` on that a file already has are dropped (a resumed run)."""

    def __init__(self, path: Path, columns: list[str], first_step: int, tensorboard: bool = False):
        self.path, self.columns = path, ["step", *columns]
        kept = _rows_before(path, first_step)
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, self.columns, extrasaction="ignore", restval="")
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._events = _event_writer(path.parent) if tensorboard else None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One row."""
        self._writer.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{self.path.stem}/{name}", value, step)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _rows_before(path: Path, step: int) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step", "").isdigit() and int(row["step"]) < step]


def _event_writer(folder: Path) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("TensorBoard curves need the package tensorboard: pip install tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
