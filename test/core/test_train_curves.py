"""Curves: rows in files, and the same numbers as TensorBoard's events, also after a kill."""

import csv
import shutil

import pytest

from panoocc_core.train.snapshot import FILE

from .toy_training import recipe, toy_drives, trained, write_network


def rows_of(path) -> dict[int, dict[str, float]]:
    with path.open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return {int(row.pop("step")): row for row in rows}


def test_events_are_the_rows_of_the_files_each_step_once(tmp_path):
    """The training is killed after step 11, of which the snapshot at step 4 knows nothing."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config, out = recipe(write_network(tmp_path)), tmp_path / "out"

    def go_on(**options) -> None:
        trained(config, out, validation=toy_drives(config, (4,)), tensorboard=True, resume=True, **options)

    go_on(stop_after_steps=4)
    shutil.copy(out / FILE, tmp_path / FILE)
    go_on(stop_after_steps=12)
    shutil.copy(tmp_path / FILE, out / FILE)
    go_on()
    events = accumulator.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    for name, steps in (("curve", list(range(32))), ("validation", [15, 31])):
        rows = rows_of(out / f"{name}.csv")
        assert list(rows) == steps
        for column in rows[steps[0]]:
            found = {event.step: event.value for event in events.Scalars(f"{name}/{column}")}
            assert list(found) == steps and len(events.Scalars(f"{name}/{column}")) == len(steps), column
            assert found == pytest.approx({step: row[column] for step, row in rows.items()}, rel=1e-5), column
