"""`panoocc train` and `panoocc eval` as a user calls them."""

import io
import json
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
import yaml

from panoocc_core import load_model
from panoocc_core.data.simulated_drive import SimulatedDrive
from panoocc_core.sim.rig import waymo_rig
from panoocc_core.train import curves
from panoocc_core.weights.tensor_files import read_tensors
from panoocc_ros.commands import eval as eval_command
from panoocc_ros.commands import train as command
from panoocc_ros.commands.cli import main
from panoocc_ros.commands.eval import _seeds_in_words

from .nuscenes_folder import write_nuscenes
from .toy_training import STREET_SCALE, STREET_SECONDS, rendered_streets, write_network

SETTINGS = {
    "losses": {"occupancy_ce": 1.0, "occupancy_lovasz": 1.0, "gate_focal": 0.5, "box_class": 0.2, "box_l1": 0.05},
    "data": {
        "kind": "streets",
        "drives": 2,
        "first_seed": 10_000,
        "validation_drives": 1,
        "validation_first_seed": 9_000,
        "seconds": STREET_SECONDS,
        "scale": STREET_SCALE,
    },
    "optimiser": {"lr": 1.0e-3, "clip_norm": 10.0},
    "schedule": {"warmup_steps": 2},
    "epochs": 1,
    "augment": {"colour": 0.5, "mirror": 0.5, "grid_mask": 0.7},
}


def panoocc(*words: object) -> int:
    try:
        return main([str(word) for word in words])
    except SystemExit as refused:  # by argparse
        return int(refused.code)


@pytest.fixture(scope="module", autouse=True)
def own_threads():
    """`--threads` must not outlive a test."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Network, recipe, and a training in `out`."""
    path = tmp_path_factory.mktemp("command")
    settings = {**SETTINGS, "model": str(write_network(path))}
    (path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    status = train(path, "--out", path / "out")
    assert status == 0
    return path


def train(folder, *words: object) -> int:
    own = () if "--streets" in words else ("--streets", rendered_streets()[1])
    return panoocc("train", folder / "recipe.yaml", "--no-progress", "--threads", 1, *own, *words)


def test_a_training_writes_curves_weights_and_its_recipe(folder):
    out = folder / "out"
    rows = (out / "curve.csv").read_text().splitlines()
    assert rows[0].startswith("step,loss,occupancy_ce,occupancy_lovasz,gate_focal") and len(rows) == 1 + 8
    assert [line.split(",")[0] for line in rows[1:]] == [str(i) for i in range(8)]
    header, *validation = (out / "validation.csv").read_text().splitlines()
    assert header == "step,miou,geometric_iou" and len(validation) == 1
    assert 0 <= float(validation[0].split(",")[2]) <= 1
    made_by = json.loads((out / "recipe.json").read_text())
    assert made_by["optimiser"]["lr"] == 1e-3 and made_by["network"]["embed"] == 16
    assert not list(out.glob("*.part"))


def test_the_weights_load(folder):
    model = load_model(folder / "toy.yaml", folder / "out/weights.safetensors")
    assert model.config.embed == 16


def test_a_folder_with_a_training_is_not_begun_anew(folder, capsys):
    before = (folder / "out/snapshot.pt").read_bytes()
    assert train(folder, "--out", folder / "out") == 2
    assert "go on with --resume, or give another --out" in capsys.readouterr().err
    assert (folder / "out/snapshot.pt").read_bytes() == before
    assert train(folder, "--out", folder / "out", "--resume", "--set", "seed=3") == 2
    assert "seed changed" in capsys.readouterr().err
    assert train(folder, "--out", folder / "out", "--resume") == 0  # there is nothing left to learn
    assert (folder / "out/snapshot.pt").exists()


def test_resuming_says_where_it_begins_unless_all_is_as_asked(folder, tmp_path, capsys):
    out, weights = tmp_path / "out", folder / "out/weights.safetensors"
    assert train(folder, "--out", out, "--resume", "--checkpoint", weights, "--stop-after", 4) == 0
    assert "snapshot.pt is not there yet: the training begins anew" in capsys.readouterr().err
    assert train(folder, "--out", out, "--resume", "--stop-after", 8) == 0
    assert "panoocc train:" not in capsys.readouterr().err
    assert train(folder, "--out", out, "--resume", "--checkpoint", weights) == 0
    assert f"snapshot.pt; {weights} is not used" in capsys.readouterr().err


def test_a_stopped_training_is_resumed_to_the_same_weights(folder, capsys):
    out = folder / "stopped"
    assert train(folder, "--out", out, "--stop-after", 4) == 0
    assert capsys.readouterr().out.strip().endswith("snapshot.pt")
    assert not (out / "validation.csv").read_text().splitlines()[1:]
    assert train(folder, "--out", out, "--resume") == 0
    one, other = (read_tensors(place / "weights.safetensors") for place in (out, folder / "out"))
    assert set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "epoch=3"), "unknown key 'epoch'"),
        (("--set", "epochs"), "write KEY=VALUE"),
        (("--threads", "0"), "--threads: 0 is outside 1..1024"),
        (("--device", "tpu"), "device 'tpu'"),
        (("--data", "/nowhere"), "leave out --data"),
        (("--checkpoint", "/nowhere.pth"), "no such file"),
        (("--set", "batch=9"), "2 clips are too few for 9 side by side"),
        (("--set", "optimiser.groups=[{prefix: nose}]"), "no parameter begins with 'nose'"),
        (("--set", "data.rig=tricycle"), "unknown simulated rig 'tricycle'"),
        (("--set", "data.rig=waymo"), "waymo has the cameras FRONT, FRONT_LEFT"),
    ],
)
def test_bad_input_is_said_and_gives_status_2(folder, tmp_path, capsys, words, message):
    assert train(folder, "--out", tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out/snapshot.pt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "batch=9"), "2 clips are too few for 9 side by side"),
        (("--set", "optimiser.groups=[{prefix: nose}]"), "optimiser.groups: no parameter begins with 'nose'"),
        (("--set", "fixed_norms=[nose]"), "fixed_norms: no parameter begins with 'nose'"),
        (("--set", "losses.class_weights={nocar: 2}"), "losses.class_weights: 'nocar' is not one of"),
        (("--set", "data.rig=waymo"), "waymo has the cameras FRONT, FRONT_LEFT"),
        (("--tensorboard",), "pip install tensorboard"),
    ],
)
def test_a_recipe_is_looked_at_before_hours_of_rendering(folder, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setattr(command, "simulated_streets", lambda *_, **__: pytest.fail("the rendering has begun"))
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: None)
    assert train(folder, "--out", tmp_path / "out", "--streets", tmp_path / "streets", *words) == 2
    assert message in capsys.readouterr().err


def test_looking_at_a_recipe_leaves_the_training_as_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "check_before_rendering", lambda *_: None)
    assert train(folder, "--out", tmp_path / "out") == 0
    one, other = (read_tensors(place / "weights.safetensors") for place in (tmp_path / "out", folder / "out"))
    assert set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("workers", [0, -3])
def test_less_than_one_renderer_is_refused(folder, tmp_path, capsys, workers):
    assert train(folder, "--out", tmp_path / "out", "--workers", workers) == 2
    assert evaluate(folder, "--workers", workers) == 2
    assert capsys.readouterr().err.count(f"--workers: {workers} is outside 1..64") == 2


def test_another_rig_is_rendered_for_a_network_of_its_cameras(tmp_path, capsys):
    """Networks learn from the streets of their own rig, and are measured on them."""
    write_network(tmp_path, cameras=[camera.name for camera in waymo_rig()])
    data = {**SETTINGS["data"], "drives": 1, "seconds": 1.0, "rig": "waymo"}
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({**SETTINGS, "model": str(tmp_path / "toy.yaml"), "data": data})
    )
    words = ("--streets", tmp_path / "streets", "--workers", 1)
    assert train(tmp_path, "--out", tmp_path / "out", *words, "--set", "clip_frames=2") == 0
    made = SimulatedDrive(next((tmp_path / "streets").glob("street-*-010000.npz")))
    assert [camera.name for camera in made.frame(0).cameras] == [camera.name for camera in waymo_rig()]
    words = ("--model", tmp_path / "toy.yaml", "--checkpoint", tmp_path / "out/weights.safetensors", *words)
    words = (*words, "--first-seed", 9_000, "--scenes", 1, "--seconds", 1, "--scale", STREET_SCALE, "--no-rays")
    before = {path.name for path in (tmp_path / "streets").iterdir()}
    assert panoocc("eval", *words, "--no-progress") == 0  # the rig that has the network's cameras
    assert {path.name for path in (tmp_path / "streets").iterdir()} == before  # the same drive, not another one
    capsys.readouterr()
    assert panoocc("eval", *words, "--rig", "nuscenes", "--no-progress") == 2
    assert "give a rig whose cameras are called so" in capsys.readouterr().err


def test_an_unknown_recipe_names_those_that_exist(tmp_path, capsys):
    assert panoocc("train", "nanu", "--out", tmp_path) == 2
    assert "unknown training recipe 'nanu': give a YAML file or one of nano, " in capsys.readouterr().err


def test_recipes_on_nuscenes_ask_for_it(folder, tmp_path, capsys):
    words = ("--set", "data={kind: nuscenes, version: x, training_split: a, validation_split: b}")
    settings = {**SETTINGS, "model": str(folder / "toy.yaml"), "data": {"kind": "nuscenes"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    assert train(tmp_path, "--out", tmp_path / "out", *words) == 2
    assert "give its root with --data" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_gives_status_4(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert train(folder, "--out", tmp_path / "file/out") == 4
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.parametrize("boxes", [0.2, 0.0])
def test_a_training_that_diverges_gives_status_1(folder, tmp_path, capsys, boxes):
    changes = (
        "optimiser.lr=10",
        "optimiser.weight_decay=10",
        "optimiser.groups=[{prefix: decoder, lr_scale: 1000}]",
        "schedule.warmup_steps=0",
        f"losses.box_class={boxes}",
        f"losses.box_l1={boxes}",
    )
    assert train(folder, "--out", tmp_path / "out", "--set", *changes) == 1
    message = capsys.readouterr().err
    assert "not finite" in message and "step" in message and "lower optimiser.lr" in message


def test_tensorboard_is_asked_for_by_name_where_it_is_missing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: None)
    assert train(folder, "--out", tmp_path / "out", "--tensorboard") == 2
    assert "pip install tensorboard" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "eval"])
def test_help_explains_with_examples(command, capsys):
    assert panoocc(command, "--help") == 0
    text = capsys.readouterr().out
    assert "examples:" in text and "exit status:" in text and f"panoocc {command}" in text


def evaluate(folder, *words: object) -> int:
    own = () if "--data" in words else ("--first-seed", 9_000, "--scenes", 1, "--seconds", STREET_SECONDS)
    own = own and (*own, "--streets", rendered_streets()[1], "--scale", STREET_SCALE)
    return panoocc(
        "eval",
        *("--model", folder / "toy.yaml", "--checkpoint", folder / "out/weights.safetensors", "--no-progress"),
        *(*own, *words),
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "/nowhere", "--scenes", 20), "--scenes is for simulated streets and does not go with --data"),
        (("--first-seed", 1, "--data", "/nowhere"), "--first-seed is for simulated streets"),
        (("--data", "/nowhere", "--rig", "waymo", "--scale", 1), "--rig is for simulated streets"),
        (("--data", "/nowhere", "--workers", 1), "--workers is for simulated streets"),
        (("--split", "mini_val"), "--split is for a data set: give its folder with --data"),
        (("--gts", "/nowhere"), "--gts is for a data set"),
    ],
)
def test_options_of_the_other_kind_of_drives_are_refused(folder, capsys, words, message):
    """Even with the value that they have by themselves: who gives one believes that it counts."""
    assert evaluate(folder, *words) == 2
    assert message in capsys.readouterr().err


def test_neither_a_closed_pipe_nor_a_full_disk_costs_the_rest(folder, tmp_path, capsys, monkeypatch):
    words = ("--no-rays", "--no-panoptic", "--no-alone", "--json", tmp_path / "eval.json")

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        def fileno(self) -> int:
            return unread.fileno()

    with monkeypatch.context() as patch, (tmp_path / "unread").open("w") as unread:
        patch.setattr(sys, "stdout", Closed())
        assert evaluate(folder, *words, "--picture", tmp_path / "eval.png") == 141
    assert json.loads((tmp_path / "eval.json").read_text())["frames"] == 4 and (tmp_path / "eval.png").stat().st_size
    (tmp_path / "eval.json.part").symlink_to("/dev/full")
    capsys.readouterr()
    assert evaluate(folder, *words) == 4
    assert "toy: 1 drives, 4 frames" in capsys.readouterr().out


def test_eval_writes_the_numbers_that_are_compared(folder, tmp_path, capsys):
    assert evaluate(folder, "--json", tmp_path / "eval.json", "--threads", 1) == 0
    found = json.loads((tmp_path / "eval.json").read_text())
    assert len(found["scenes"]) == 1 and found["scenes"][0].endswith("009000") and found["frames"] == 4
    for key in ("geometric_iou", "miou", "geometric_iou_without_history", "miou_without_history"):
        assert 0 <= found[key] <= 1, key
    assert found["per_class"] and "free" not in found["per_class"]
    assert {"pq", "ray_iou", "model", "report", "per_class_without_history"} <= set(found)
    text = capsys.readouterr().out
    assert "simulated streets, seeds 9000 to 9000\n" in text and "toy: 1 drives, 4 frames" in text


def test_only_of_the_package_s_own_weights_it_is_known_what_is_held_out():
    assert _seeds_in_words(range(100, 120), own_weights=True) == "simulated streets, seeds 100 to 119 (held out)"
    assert "NOT held out" in _seeds_in_words(range(8_999, 9_001), own_weights=True)
    for seeds in (range(100, 120), range(9_000, 9_001)):
        assert "held out" not in _seeds_in_words(seeds, own_weights=False)


def test_a_data_set_without_voxel_labels_measures_nothing_and_says_so(folder, tmp_path, capsys):
    write_nuscenes(tmp_path / "nuscenes")
    words = ("--data", tmp_path / "nuscenes", "--split", "all", "--json", tmp_path / "eval.json")
    assert evaluate(folder, *words, "--no-boxes") == 2
    captured = capsys.readouterr()
    assert "has no true voxels for toy; give --gts FOLDER with Occ3D's labels" in captured.err and not captured.out
    assert not (tmp_path / "eval.json").exists()
    assert evaluate(folder, *words) == 0
    assert list(json.loads((tmp_path / "eval.json").read_text())["report"]["sections"]) == ["boxes"]
    assert "a camera sees" not in capsys.readouterr().out


def test_a_killed_renderer_gives_one_line_and_status_1(folder, tmp_path, capsys, monkeypatch):
    def killed(*_, **__):
        raise BrokenProcessPool("terminated abruptly")

    monkeypatch.setattr(eval_command, "simulated_streets", killed)
    assert evaluate(folder) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "killed" in line] and not [line for line in lines if "Traceback" in line]


def test_outputs_are_looked_at_before_the_work(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(eval_command, "simulated_streets", lambda *_, **__: pytest.fail("the work has begun"))
    for words, message in (
        (("--json", tmp_path), f"{tmp_path}: is a folder"),
        (("--picture", tmp_path / "e.xyz"), "must end in .png, .svg, .pdf"),
    ):
        assert evaluate(folder, *words) == 2
        assert message in capsys.readouterr().err


def test_eval_leaves_out_what_is_not_wanted(folder, tmp_path):
    words = ("--no-rays", "--no-panoptic", "--no-alone")
    assert evaluate(folder, "--json", tmp_path / "eval.json", *words) == 0
    found = json.loads((tmp_path / "eval.json").read_text())
    assert not {"pq", "ray_iou", "miou_without_history"} & set(found) and "miou" in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scenes", 0), "--scenes: 0 is outside 1..10000"),
        (("--first-seed", -3), "--first-seed: -3 is outside 0..9223372036854775807"),
        (("--threads", "9" * 5000), "--threads: '99"),
        (("--rate", 0), "rate_hz must be above 0"),
        (("--json", "/nowhere/eval.json"), "/nowhere/eval.json: the folder is not there"),
        (("--checkpoint", "/nowhere.pth"), "no such file"),
        (("--data", "/nowhere"), "/nowhere"),
    ],
)
def test_eval_says_what_is_wrong(folder, capsys, words, message):
    assert evaluate(folder, *words) == 2
    assert message in capsys.readouterr().err


def test_eval_without_weights_says_how_to_give_some(folder, capsys):
    assert panoocc("eval", "--model", folder / "toy.yaml") == 2
    words = capsys.readouterr().err
    assert "--checkpoint: no weights come with the package for toy" in words and "take the model nano" in words
    assert "seeded" not in words  # eval has no such option
