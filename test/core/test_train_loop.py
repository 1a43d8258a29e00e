"""The training loop: it learns, goes on after being killed as if it had not been, and says why it cannot."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core import load_model
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.models import build_network
from panoocc_core.train import snapshot
from panoocc_core.train.loop import Options, TrainingError, start_from_scratch, train
from panoocc_core.train.loss_config import LossConfig
from panoocc_core.train.optimiser import build_optimiser
from panoocc_core.train.snapshot import SnapshotError
from panoocc_core.train.train_config import GroupConfig, OptimiserConfig, ScheduleConfig
from panoocc_core.weights.tensor_files import CheckpointError, read_tensors

from .toy_training import (
    ALL_NORMS,
    assert_same_weights,
    curve_without_seconds,
    recipe,
    toy_drives,
    trained,
    write_network,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return write_network(tmp_path_factory.mktemp("toy"))


def losses_of(out: Path) -> list[float]:
    with (out / "curve.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_drives_are_told_apart_by_their_images_alone(network, tmp_path):
    """Without the images nothing is better than a guess between two classes: a loss of log 2."""
    config = recipe(
        network,
        epochs=9,
        batch=2,
        schedule=ScheduleConfig(warmup_steps=0),
        optimiser=OptimiserConfig(lr=1e-2),
        fixed_norms=ALL_NORMS,  # the norm of an image in one colour would take the colour away
    )
    trained(config, tmp_path, toy_drives(config, (4, 4)))
    losses = losses_of(tmp_path)
    assert len(losses) == 9 * 4 and losses[0] > 1.5
    assert np.mean(losses[-4:]) < 0.5 * np.log(2)


@pytest.mark.parametrize("supervise", ["all", "last"])
def test_a_stopped_training_goes_on_as_if_it_had_not_been(network, tmp_path, supervise):
    epochs = 2 if supervise == "all" else 1
    config = recipe(network, supervise=supervise, clip_frames=3, precision="bf16", epochs=epochs)
    whole = trained(config, tmp_path / "whole")
    for steps in (1, 5, 9, 10):
        trained(config, tmp_path / "parts", resume=True, stop_after_steps=steps)
    resumed = trained(config, tmp_path / "parts", resume=True)
    assert_same_weights(whole, resumed)
    assert curve_without_seconds(tmp_path / "whole") == curve_without_seconds(tmp_path / "parts")
    one, other = (read_tensors(tmp_path / out / "weights.safetensors") for out in ("whole", "parts"))
    assert set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_written_after_the_snapshot_is_forgotten(network, tmp_path):
    """A killed training's curve is longer than its snapshot; its last line may be torn."""
    config = recipe(network)
    trained(config, tmp_path / "whole")
    trained(config, tmp_path / "killed", stop_after_steps=8)
    with (tmp_path / "killed/curve.csv").open("a") as file:
        file.write("8,99,99\n9,99,99\n1")
    trained(config, tmp_path / "killed", resume=True)
    assert curve_without_seconds(tmp_path / "whole") == curve_without_seconds(tmp_path / "killed")


def test_a_curve_has_one_row_for_every_step_of_the_optimiser(network, tmp_path):
    config = recipe(network, supervise="last", clip_frames=4, epochs=1)
    trained(config, tmp_path)
    rows = curve_without_seconds(tmp_path)[1:]
    assert [int(row[0]) for row in rows] == list(range(16))  # a window ends at every frame of two drives of eight
    assert all(row[1] for row in rows)


def test_a_damaged_snapshot_is_refused(network, tmp_path):
    config = recipe(network)
    trained(config, tmp_path, stop_after_steps=4)
    path = tmp_path / "snapshot.pt"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(damaged)
        with pytest.raises(SnapshotError, match=r"snapshot\.pt.*begin anew in another --out"):
            trained(config, tmp_path, resume=True)


def test_a_snapshot_of_another_recipe_names_what_changed(network, tmp_path):
    config = recipe(network)
    trained(config, tmp_path, stop_after_steps=4)
    with pytest.raises(SnapshotError, match=r"clip_frames, seed changed.*Undo that"):
        trained(replace(config, seed=1, clip_frames=2), tmp_path, resume=True)
    wider = write_network(tmp_path, ffn=48)
    with pytest.raises(SnapshotError, match="network changed"):
        trained(replace(config, model=str(wider)), tmp_path, resume=True)


def test_a_snapshot_of_more_processes_says_how_many_to_start(network, tmp_path):
    config, path = recipe(network), tmp_path / snapshot.FILE
    trained(config, tmp_path, stop_after_steps=4)
    model = start_from_scratch(build_network(config.model_config), config)
    optimiser, scaler = build_optimiser(model, config.optimiser), torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(SnapshotError, match="made by 1 processes, not 2; start as many"):
        origin = snapshot.origin_of(config, 2, snapshot.drive_list(toy_drives(config)), [])
        snapshot.restore_snapshot(path.read_bytes(), path, origin, model, optimiser, scaler)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drives": (8, 8, 8)}, r"training drives: 3 instead of 2, with drive 2\)"),
        ({"drives": (8,)}, r"training drives: 1 instead of 2, without drive 1\)"),
        ({"drives": (8, 7)}, r"training drives: drive 1 has 7 frames instead of 8\)"),
        ({"backwards": True}, r"training drives: another order\)"),
        ({"validation": (8, 8)}, r"\(validation drives: 2 instead of 1, with drive 1\)"),
    ],
)
def test_a_snapshot_of_other_data_names_what_differs(network, tmp_path, change, message):
    config = recipe(network)

    def resumed(drives=(8, 8), validation=(8,), backwards=False, **options):
        learned, held_out = toy_drives(config, drives), toy_drives(config, validation)
        trained(config, tmp_path, learned[::-1] if backwards else learned, validation=held_out, **options)

    resumed(stop_after_steps=4)
    with pytest.raises(
        SnapshotError, match=rf"snapshot\.pt: was made from other data .*{message}\. Give the same folder"
    ):
        resumed(**change, resume=True)
    resumed(resume=True, stop_after_steps=8)


def test_a_snapshot_that_does_not_say_its_data_fits_any(network, tmp_path):
    config, path = recipe(network), tmp_path / snapshot.FILE
    trained(config, tmp_path, stop_after_steps=4)
    content = torch.load(path, weights_only=True)
    del content["data"]
    torch.save(content, path)
    trained(config, tmp_path, toy_drives(config, (8, 8, 8)), resume=True, stop_after_steps=8)


def test_a_snapshot_from_before_a_key_existed_fits_the_keys_default(network, tmp_path, monkeypatch):
    config = recipe(network)
    whole = snapshot.recipe_text

    def older(given):
        text = whole(given)
        assert ', "augment"' in text or '{"augment"' in text
        return json.dumps(
            {key: value for key, value in json.loads(text).items() if key not in ("augment", "calibrate")}
        )

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "recipe_text", older)
        trained(config, tmp_path, stop_after_steps=4)
    trained(config, tmp_path, resume=True, stop_after_steps=8)
    assert len(losses_of(tmp_path)) == 8


class FullDisk:
    """A file that takes no more than so many bytes."""

    def __init__(self, file, size: int):
        self._file, self._left = file, size

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._left -= len(data)
        if self._left < 0:
            raise OSError(28, "No space left on device")
        return self._file.write(data)


def test_a_full_disk_leaves_the_former_snapshot_whole(network, tmp_path, monkeypatch):
    config = recipe(network)
    trained(config, tmp_path, stop_after_steps=4)
    before = (tmp_path / "snapshot.pt").read_bytes()
    opened = Path.open

    def full(self, mode="r", *arguments, **keywords):
        file = opened(self, mode, *arguments, **keywords)
        return FullDisk(file, 10_000) if self.name == "snapshot.pt.part" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match=r"snapshot\.pt|No space"):
            trained(config, tmp_path, resume=True, stop_after_steps=8)
    assert (tmp_path / "snapshot.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    resumed = trained(config, tmp_path, resume=True)
    assert_same_weights(trained(config, tmp_path / "whole"), resumed)


@pytest.mark.parametrize("broken", ["backbone.conv1.weight", "queries.embedding.weight", "decoder.mlp.0.weight"])
def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_term(network, tmp_path, broken):
    config = recipe(network)
    model = start_from_scratch(build_network(config.model_config), config)
    with torch.no_grad():
        model.get_parameter(broken).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite at step 0 \(occupancy_ce nan\); lower optimiser.lr"):
        train(config, model, toy_drives(config), (), Options(tmp_path))
    assert not (tmp_path / "weights.safetensors").exists()


def test_what_is_frozen_keeps_weights_and_statistics(network, tmp_path):
    groups = (GroupConfig("backbone", 0.0), GroupConfig("neck", 0.1))
    config = recipe(network, optimiser=OptimiserConfig(lr=2e-3, groups=groups), fixed_norms=("decoder",), epochs=1)
    before = start_from_scratch(build_network(config.model_config), config).state_dict()
    after = trained(config, tmp_path).state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not {name for name in moved if name.startswith("backbone")}
    assert not {name for name in moved if "decoder" in name and ("running" in name or "num_batches" in name)}
    parts = {name.split(".")[0] for name in moved}
    assert {"neck", "queries", "encoder", "decoder", "fusion"} <= parts
    assert any(name.startswith("fusion") and "running_mean" in name for name in moved)


def test_truth_on_another_grid_is_refused_with_both_shapes(network, tmp_path):
    config = recipe(network)
    drives = toy_drives(config)
    other = replace(drives[0].geometry, shape_xyz=(10, 12, 4))
    wrong = [replace(drive, geometry=other) for drive in drives]
    with pytest.raises(ValueError, match=r"\(10, 12, 4\).*\(12, 12, 4\)"):
        trained(config, tmp_path, wrong)


def test_truth_without_voxels_is_refused(network, tmp_path):
    class Blind(type(toy_drives(recipe(network))[0])):
        def truth(self, index):
            return GroundTruth(0)

    config = recipe(network)
    good = toy_drives(config)[0]
    blind = Blind("blind", good.geometry, "car", (0, 0, 0), 8)
    with pytest.raises(ValueError, match="dense voxels, and this frame has none"):
        trained(config, tmp_path, [blind, blind])


@pytest.mark.parametrize("part", ["frame", "truth"])
def test_a_frame_that_cannot_be_read_is_named_by_drive_and_frame(network, tmp_path, part):
    config = recipe(network)
    good = toy_drives(config)[0]

    class Broken(type(good)):
        def frame(self, index):
            frame = super().frame(index)
            return replace(frame, world_from_ego=np.full((4, 4), np.nan)) if (part, index) == ("frame", 5) else frame

        def truth(self, index):
            truth = super().truth(index)
            return replace(truth, class_id=truth.class_id + 77) if (part, index) == ("truth", 5) else truth

    message = {"frame": "world_from_ego has entries that are not finite", "truth": "class_id holds the class"}[part]
    broken = Broken("broken", good.geometry, "car", (0, 0, 0), 8)
    with pytest.raises(ValueError, match=f"^broken, frame 5: .*{message}"):
        trained(config, tmp_path, [broken])


def test_too_few_clips_are_refused(network, tmp_path):
    with pytest.raises(ValueError, match="4 clips are too few for 5 side by side"):
        trained(recipe(network, batch=5), tmp_path)


def test_an_unknown_part_of_the_network_is_refused(network, tmp_path):
    for changes in (
        {"optimiser": OptimiserConfig(groups=(GroupConfig("backbones"),))},
        {"fixed_norms": ("backbones",)},
    ):
        with pytest.raises(ConfigError, match="no parameter begins with 'backbones'; the parts are backbone"):
            trained(recipe(network, **changes), tmp_path)
    with pytest.raises(ValueError, match="class_weights: 'cat' is not one of"):
        trained(recipe(network, losses=LossConfig(occupancy_ce=1.0, class_weights={"cat": 2.0})), tmp_path)


def test_a_full_disk_leaves_the_former_recipe_whole(network, tmp_path, monkeypatch):
    config = recipe(network, epochs=1)
    trained(config, tmp_path)
    before = (tmp_path / "recipe.json").read_text()

    def torn(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[:100])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", torn)
    with pytest.raises(OSError, match="recipe.json"):
        trained(config, tmp_path, resume=True)
    assert (tmp_path / "recipe.json").read_text() == before


def test_the_written_weights_are_those_of_the_network(network, tmp_path):
    config = recipe(network, epochs=1)
    model = trained(config, tmp_path).eval()
    loaded = load_model(config.model_config, tmp_path / "weights.safetensors")
    assert torch.equal(loaded.queries.embedding.weight, model.queries.embedding.weight)
    with pytest.raises(CheckpointError):
        load_model("nano", tmp_path / "weights.safetensors")


KILLED = """
import sys, torch
from pathlib import Path
from test.core.toy_training import recipe, trained
torch.set_num_threads(1)
trained(recipe(Path(sys.argv[1])), Path(sys.argv[2]), snapshot_every_s=0.0)
"""


def test_a_killed_process_leaves_what_gives_the_same_weights(network, tmp_path):
    out = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(network), str(out)], env=environment, cwd=ROOT)
    try:
        deadline = time.monotonic() + 200
        while not (out / "snapshot.pt").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    config = recipe(network)
    resumed = trained(config, out, resume=True)
    assert_same_weights(trained(config, tmp_path / "whole"), resumed)
    assert curve_without_seconds(out) == curve_without_seconds(tmp_path / "whole")
