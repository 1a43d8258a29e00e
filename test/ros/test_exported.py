"""`panoocc export`, and its file in the place of the network: over a bag, and in the node."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.export.spec import spec_path
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.commands.cli import main
from panoocc_ros.health.verdicts import DEVICE_NOTES
from panoocc_ros.node.choices import file_notes, loaded_executor, loaded_network
from panoocc_ros.node.loaded import load, take_limits
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.ros.parameter_fields import SettingsError
from test.ros.bags import RIG, write_drive

GRID = "/panoocc/occupancy"
RUN = ["--model", "nano", "--device", "cpu", "--threads", "1", "--no-progress", "--dense", "--outputs", "occupancy"]


@pytest.fixture(scope="module", autouse=True)
def threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "nano.pt2"
    assert main(["export", "nano", "--format", "pt2", "--out", str(file), "--threads", "1"]) == 0
    return file


def grids(path: Path) -> list:
    with BagReader(path) as bag:
        return [bag.deserialise(message) for message in bag.messages([GRID])]


def test_a_bag_gives_the_grids_of_the_network(exported, tmp_path, capsys):
    """As many as the network gives, with history, tracks and boxes; the summary and the stages as ever."""
    drive = tmp_path / "drive.mcap"
    write_drive(drive, sets=4)
    by_file, by_network = tmp_path / "file.mcap", tmp_path / "network.mcap"
    assert main(["run", str(drive), *RUN, "--checkpoint", str(exported), "--out", str(by_file)]) == 0
    told = capsys.readouterr()
    assert "NOTE" not in told.err and "network" in told.out and "4 grids out" in told.out
    assert main(["run", str(drive), *RUN, "--out", str(by_network)]) == 0
    found, wanted = grids(by_file), grids(by_network)
    assert len(found) == len(wanted) == 4
    for one, other in zip(found, wanted):
        assert one.header.stamp == other.header.stamp and one.instance_source == other.instance_source == 1
        assert (np.asarray(one.class_id) != np.asarray(other.class_id)).mean() < 1e-3
    assert any(len(np.unique(np.asarray(one.class_id))) > 2 for one in found)


class Logger:
    """Takes what the node would log."""

    info = warning = error = staticmethod(logging.getLogger(__name__).info)


def test_the_node_takes_a_file_in_the_networks_place(exported):
    loaded = load(NodeSettings(model="nano", checkpoint=str(exported), device="cpu", threads=1), Logger())
    assert loaded.facts["weights"] == str(exported) and loaded.facts["device"] == "cpu"
    assert loaded.rig.names == RIG.select(loaded.network.config.cameras).names
    assert DEVICE_NOTES not in loaded.facts
    take_limits(loaded.network, loaded.own_limits, NodeSettings(model="nano", max_focal_change=0.3))
    assert loaded.network.config.temporal.max_focal_change == 0.3


def test_auto_says_that_a_file_is_on_the_cpu_whatever_gpu_there_is(exported, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    said = []
    file = loaded_executor(model_config("nano"), exported, device="auto", threads=1, warn=said.append)
    assert said == list(file_notes(file)) and len(said) == 1
    assert said[0].startswith("device auto takes the CPU: .pt2 files run on the CPU here")


RUNS = ["run", "{bag}", "--model", "nano", "--checkpoint"]
EXPORTS = ["export", "nano", "--format", "pt2", "--out"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*RUNS, "{file}", "--precision", "bf16"], "computes in fp32, not in bf16"),
        ([*RUNS, "{file}", "--device", "cuda"], "run on the CPU here"),
        ([*RUNS, "{folder}/no.onnx"], "no such file; panoocc export writes one"),
        (["bench", "--model", "nano", "--checkpoint", "{file}"], "has no stages: time it by --against"),
        ([*EXPORTS, "{folder}/step.onnx"], "give a name that ends in .pt2"),
        ([*EXPORTS, "{file}"], "--overwrite"),
        ([*EXPORTS, "{folder}/w.pt2", "--rig", "waymo"], "--rig waymo: lacks CAM_FRONT"),
        ([*EXPORTS, "{folder}/no/w.pt2"], "there is no folder"),
        (["export", "pano_small_occ3d", *EXPORTS[2:], "{folder}/w.pt2"], "no weights come with the package"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_left(exported, tmp_path, capsys, words, says):
    bag = tmp_path / "drive.mcap"
    write_drive(bag, sets=1)
    words = [word.format(bag=bag, file=exported, folder=tmp_path) for word in words]
    if words[0] == "run":
        words += ["--out", str(tmp_path / "out.mcap"), "--no-progress"]
    assert main(words) in (2, 4)
    told = capsys.readouterr().err
    assert says in told and "Traceback" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["drive.mcap"]


@pytest.mark.parametrize("more", [("--rig", "waymo"), ("--precision", "bf16")])
def test_an_export_that_is_refused_leaves_the_one_that_was_there(tmp_path, more):
    file = tmp_path / "w.onnx"
    file.write_bytes(b"written before")
    spec = spec_path(file)
    spec.write_text("written: before")
    words = ["export", "nano", "--format", "onnx", "--out", str(file), "--overwrite", *more]
    assert main(words) in (2, 4)
    assert file.read_bytes() == b"written before" and spec.is_file()


def test_where_weights_are_needed_a_file_says_so(exported):
    with pytest.raises(SettingsError, match="is an exported step: here the weights themselves are needed"):
        loaded_network(model_config("nano"), exported)


def test_the_node_says_which_parameter_is_wrong(exported, tmp_path):
    stale = tmp_path / "nano.pt2"
    stale.write_bytes(exported.read_bytes() + b"0")
    spec_path(stale).write_bytes(spec_path(exported).read_bytes())
    with pytest.raises(SettingsError, match="has .* bytes, not the .* that nano.pt2.yaml says") as caught:
        load(NodeSettings(model="nano", checkpoint=str(stale), device="cpu"), Logger())
    assert caught.value.names == ("checkpoint",)
