"""Curves of a training: one row a step in a CSV file, and TensorBoard events where it is installed."""

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.whole_files import whole_file


class Curves:
    """Rows of named numbers by step; rows from `first_step` on that a file already has are dropped (a resumed run).

    Args:
        events: where rows go as well, see `event_writer`.
    """

    def __init__(self, path: Path, columns: Sequence[str], first_step: int, events: Any = None):
        self.path, self.columns = path, ["step", *columns]
        kept = _rows_before(path, first_step)
        with whole_file(path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(kept)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self.columns, extrasaction="ignore", restval="")
        self._events = events

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One row."""
        self._writer.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{self.path.stem}/{name}", value, step)

    def flush(self) -> None:
        """Bring to disk what is still on its way there: a snapshot must not be newer than the curves."""
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _rows_before(path: Path, step: int) -> list[dict[str, str]]:
    """Whole rows of earlier steps, in order: a kill may have torn the last one."""
    if not path.exists():
        return []
    kept: list[dict[str, str]] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if None in row.values() or not row["step"].isdigit():
                break
            if int(row["step"]) < step and (not kept or int(row["step"]) > int(kept[-1]["step"])):
                kept.append(row)
    return kept


def check_tensorboard() -> None:
    """TensorBoard can be written.

    Raises:
        ImportError: it is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("TensorBoard curves need the package tensorboard: pip install tensorboard")


def event_writer(folder: Path, first_step: int) -> Any:
    """TensorBoard's events below a folder; those from `first_step` on that are there already are no longer shown.

    All curves of a training share one: a second writer in the same folder would hide what the first one has written.

    Raises:
        ImportError: TensorBoard is not installed.
    """
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
