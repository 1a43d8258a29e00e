"""Published checkpoints: strict loading, the duplicated heads, conversion, refusals."""

import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from panoocc_core import CheckpointError, OccupancyStream, load_model
from panoocc_core.base.devices import usable_device
from panoocc_core.config import ModelConfig, model_config, presets
from panoocc_core.models import build_network
from panoocc_core.weights.checkpoint import convert, expected_shapes, fitting_presets, load_published, seeded_tensors
from panoocc_core.weights.published_names import published_names
from panoocc_core.weights.seeded import seeded_state
from panoocc_core.weights.tensor_files import read_tensors

from ..parity.check import read_keys
from .conftest import street_frame

KEYS = Path(__file__).parents[1] / "parity" / "keys"
PUBLISHED = {
    "PanoOcc_small": "pano_small_occ3d",
    "PanoOcc_base": "pano_base_occ3d",
    "PanoOcc_small_1f": "pano_small_1f",
    "PanoOcc_small_4f": "pano_small_4f",
    "PanoOcc_base_4f": "pano_base_4f",
    "PanoOcc_large_4f": "pano_large_4f",
}


@pytest.fixture(scope="module")
def tensors(nano):
    return seeded_tensors(build_network(nano))


def save_pth(path, tensors):
    torch.save({"meta": {"epoch": 24, "CLASSES": ["car"]}, "state_dict": tensors, "optimizer": {}}, path)
    return path


@pytest.mark.parametrize(("keys", "preset"), PUBLISHED.items())
def test_full_size_parameter_lists_are_accepted_one_for_one(keys, preset):
    with torch.device("meta"):
        model = build_network(model_config(preset))
    assert expected_shapes(model) == read_keys(KEYS / f"{keys}.keys.txt")


def test_base_pretrain_is_the_same_network_as_base():
    assert "pano_base_pretrain_occ3d" in presets()
    shapes = []
    for name in ("pano_base_occ3d", "pano_base_pretrain_occ3d"):
        with torch.device("meta"):
            shapes.append(expected_shapes(build_network(model_config(name))))
    assert shapes[0] == shapes[1]


def test_a_full_size_network_is_filled_and_found():
    shapes = read_keys(KEYS / "PanoOcc_small_1f.keys.txt")
    full = {name: torch.from_numpy(value) for name, value in seeded_state(shapes).items()}
    model = build_network(model_config("pano_small_1f"))
    load_published(model, full, "the generated file")
    first = "pts_bbox_head.cls_branches.0.0.weight"
    assert torch.equal(model.boxes.class_branch[0].weight, full[first])
    assert fitting_presets(full) == ["pano_small_1f"]


def test_a_file_gives_the_same_occupancy_as_its_conversion(tmp_path, nano: ModelConfig, tensors):
    source = save_pth(tmp_path / "nano.pth", {f"module.{name}": value for name, value in tensors.items()})
    target = tmp_path / "nano.safetensors"
    report = convert(source, target, "nano")
    assert "a checkpoint of nano" in report and f"{len(tensors)} entries" in report
    one = OccupancyStream(load_model("nano", checkpoint=source)).step(street_frame(0))
    other = OccupancyStream(load_model("nano", checkpoint=target)).step(street_frame(0))
    assert torch.equal(one.class_id, other.class_id) and torch.equal(one.confidence, other.confidence)
    names = published_names(build_network(nano).state_dict(), nano)
    assert set(load_file(target)) == {copies[0] for copies in names.values()}  # one copy of the shared branches


def test_old_names_of_the_deformable_offsets_are_understood(tmp_path):
    shapes = read_keys(KEYS.parent / "portable" / "occ_small" / "keys.txt")
    state = {
        n.replace(".conv2.conv_offset.", ".conv2_offset."): torch.from_numpy(v) for n, v in seeded_state(shapes).items()
    }
    assert any("conv2_offset" in name for name in state)
    assert set(read_tensors(save_pth(tmp_path / "old.pth", state))) == set(shapes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop("img_backbone.conv1.weight"), "1 missing: img_backbone.conv1.weight"),
        (lambda t: t.update({"img_backbone.extra": torch.zeros(1)}), "1 unexpected: img_backbone.extra"),
        (
            lambda t: t.update({"img_backbone.bn1.weight": torch.zeros(7)}),
            r"1 of another shape or type: img_backbone.bn1.weight \(7,\) instead of \(24,\)",
        ),
        (
            lambda t: t.update({"img_backbone.bn1.weight": torch.zeros(24, dtype=torch.complex64)}),
            "1 of another shape or type: img_backbone.bn1.weight torch.complex64 instead of torch.float32",
        ),
        (
            lambda t: t.update({"pts_bbox_head.cls_branches.1.0.bias": torch.zeros(64)}),
            "1 unequal copies of a shared branch: pts_bbox_head.cls_branches.1.0.bias",
        ),
        (lambda t: t["img_backbone.conv1.weight"].view(-1)[:1].fill_(float("nan")), "1 tensors hold NaN or infinity"),
    ],
)
def test_anything_that_does_not_fit_is_listed(tmp_path, tensors, change, expected):
    broken = {name: value.clone() for name, value in tensors.items()}
    change(broken)
    path = save_pth(tmp_path / "broken.pth", broken)
    with pytest.raises(CheckpointError, match=expected) as error:
        load_model("nano", checkpoint=path)
    assert "broken.pth" in str(error.value)


def on_paper(preset: str) -> dict[str, torch.Tensor]:
    """The entries of a preset's file, all zeros that take no memory."""
    with torch.device("meta"):
        shapes = expected_shapes(build_network(model_config(preset)))
    return {name: torch.zeros((), dtype=getattr(torch, kind)).expand(shape) for name, (shape, kind) in shapes.items()}


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        (
            "pano_base_4f",
            "pano_small_4f",
            "this file is Pano-base-4f; you asked for Pano-small-4f: ask for the preset ",
        ),
        ("pano_small_1f", "pano_small_4f", "this file is Pano-small-1f; you asked for Pano-small-4f"),
        ("pano_base_4f", "pano_base_4f_cat", "this file is Pano-base-4f; you asked for Pano-base-4f-cat"),
        (
            "pano_base_pretrain_occ3d",
            "pano_small_occ3d",
            "this file is Pano-base or Pano-base-pretrain .the same parameters.; you asked for Pano-small: ask for the "
            "preset pano_base_occ3d or pano_base_pretrain_occ3d, or give a file of Pano-small",
        ),
    ],
)
def test_a_checkpoint_of_another_member_of_the_family_is_named(given, wanted, message):
    with torch.device("meta"):
        model = build_network(model_config(wanted))
    with pytest.raises(CheckpointError, match="^a.pth: " + message) as error:
        load_published(model, on_paper(given), "a.pth")
    assert "\n" not in str(error.value)


def test_a_file_of_no_member_is_not_called_one():
    """One entry too few: everything that differs is listed, and no name is guessed."""
    entries = on_paper("pano_base_4f")
    del entries["img_backbone.conv1.weight"]
    with torch.device("meta"):
        model = build_network(model_config("pano_small_4f"))
    with pytest.raises(CheckpointError, match="is no checkpoint of pano_small_4f:") as error:
        load_published(model, entries, "a.pth")
    assert "this file is" not in str(error.value)


def test_shipped_weights_are_named_too(tmp_path, tensors):
    with pytest.raises(CheckpointError, match="this file is nano; you asked for Pano-small-1f"):
        load_model("pano_small_1f", checkpoint=save_pth(tmp_path / "a.pth", tensors))


class Hostile:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def hostile_zip(path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Hostile()}, path)


def hostile_pickle(path):
    path.write_bytes(pickle.dumps(Hostile()))


CODE = r"refused, because it holds code, not only tensors \(it names \w+.print\): do not use it"


def truncated(path):
    torch.save({"state_dict": {"a": torch.zeros(5000)}}, path)
    path.write_bytes(path.read_bytes()[:3000])


def inflating(path):
    """A ZIP whose pickle is a thousand times as long as the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(64 << 20))


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (
            hostile_zip,
            "a.pth",
            CODE,
        ),
        (
            hostile_pickle,
            "a.pth",
            CODE,
        ),
        (lambda p: p.write_text("<html>not found</html>"), "a.pth", "not a checkpoint .it begins with b'<h'"),
        (lambda p: torch.save({1: torch.zeros(2), (2, 3): torch.zeros(2)}, p), "a.pth", "holds no tensors"),
        (lambda p: torch.save({"a": torch.eye(3).to_sparse()}, p), "a.pth", "a is a sparse"),
        (lambda p: torch.save({"a": torch.zeros(2), "module.a": torch.zeros(2)}, p), "a.pth", "a is there twice"),
        (truncated, "a.pth", "not a readable checkpoint"),
        (lambda p: p.write_bytes(b"not a checkpoint"), "a.pth", "a.pth: "),
        (lambda p: p.write_bytes(b""), "a.pth", "a.pth: "),
        (lambda p: p.write_bytes(b"x" * 100), "a.safetensors", "not a readable checkpoint"),
        (lambda p: torch.save([1, 2, 3], p), "a.pth", "holds no tensors"),
        (lambda p: torch.save({"state_dict": {"epoch": 3}}, p), "a.pth", "holds no tensors"),
        (lambda p: save_file({"a": torch.zeros(2)}, p), "a.safetensors", "1 unexpected: a"),
        (lambda p: None, "absent.pth", "no such file"),
        (lambda p: p.mkdir(), "a", "a is a folder, and no checkpoint is in it"),
        (lambda p: (p.mkdir(), (p / "b.pth").touch()), "a", r"a is a folder: give the file in it \(b.pth\)"),
        (lambda p: torch.save({"a": torch.zeros(2)}, p, pickle_protocol=4), "a.pth", "is pickled with protocol 4"),
        (lambda p: torch.save({"a": Hostile()}, p, pickle_protocol=4), "a.pth", CODE),
        (lambda p: torch.save({"a": Hostile()}, p, _use_new_zipfile_serialization=False), "a.pth", CODE),
        (lambda p: p.write_bytes((2**40).to_bytes(8, "little") + b"{}"), "a.safetensors", "header too large"),
        (inflating, "a.pth", "claims 64 MiB, which it does not hold"),
    ],
)
def test_bad_files_are_refused_clearly_and_nothing_runs(tmp_path, capfd, write, name, message):
    path = tmp_path / name
    write(path)
    with pytest.raises(CheckpointError, match=message):
        load_model("nano", checkpoint=path)
    assert "this must never be printed" not in capfd.readouterr().out


def test_weights_must_be_chosen():
    with pytest.raises(
        CheckpointError, match="no weights come with the package for pano_small_occ3d.*model nano, which"
    ):
        load_model("pano_small_occ3d")


def test_a_file_with_internal_names_is_told_which_ones_are_wanted(tmp_path, tensors):
    path = tmp_path / "state.safetensors"
    save_file(build_network(model_config("nano")).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"more;\s+\d+ unexpected.*\s.*save_published"):
        load_model("nano", checkpoint=path)
    path = save_pth(tmp_path / "extra.pth", {**tensors, "img_backbone.extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="1 unexpected: img_backbone.extra$"):
        load_model("nano", checkpoint=path)


@pytest.mark.parametrize(
    ("device", "text"),
    [("cuda:99", "is not on this machine|cannot be used"), ("gpu", "unknown"), ("meta", "not supported")],
)
def test_devices_that_cannot_be_used_are_named(device, text):
    with pytest.raises(ValueError, match=text):
        usable_device(device)


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_values_beside_the_tensors_are_passed_over(tmp_path, zipped):
    values = [np.float64(0.4), np.int64(3), np.bool_(True), np.str_("a"), np.arange(5.0), np.dtype("f4")]
    content = {"meta": {"best": values}, "state_dict": {"a": torch.ones(2), "b": np.ones(2)}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert list(read_tensors(tmp_path / "a.pth")) == ["a"]


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, kind):
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    tensors = {f"img_backbone.layer{i}.weight": torch.randn(3, 5) for i in range(4)}
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(
            {"meta": {"best": np.float64(1)}, "state_dict": tensors}, path, _use_new_zipfile_serialization=kind == "zip"
        )
    whole, draw, refused = path.read_bytes(), random.Random(kind), 0
    for i in range(400):
        place = draw.randrange(len(whole) if i % 2 else min(len(whole), 1500))
        rest = (
            b""
            if i % 3 == 0
            else bytes([draw.randrange(256)]) * draw.randint(0, 3) + whole[place + draw.randint(0, 4) :]
        )
        path.write_bytes(whole[:place] + rest)
        try:
            read_tensors(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600
    assert refused > 200
