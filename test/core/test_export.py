"""An exported step in the place of its network: both formats, on a street; what is stale or may run code is refused."""

import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from panoocc_core import CheckpointError, OccupancyStream, load_model
from panoocc_core.export.archive import check_archive
from panoocc_core.export.checking import agreement
from panoocc_core.export.running import FileExecutor
from panoocc_core.export.spec import read_spec, spec_path
from panoocc_core.export.traced import filled_in
from panoocc_core.export.writing import Traced, trace, write
from panoocc_core.sim import load_sim_rig
from panoocc_core.step import Wanted
from panoocc_core.weights.inference import ready_for_inference

from .conftest import street_frame

KINDS = ("pt2", "onnx")


@pytest.fixture(scope="module")
def trained():
    """Nano with its own weights, whose boxes and classes mean something."""
    return load_model("nano")


@pytest.fixture(scope="module")
def traced(trained) -> Traced:
    plain = ready_for_inference(load_model("nano", plain=True))
    return trace(trained, plain, load_sim_rig("nuscenes"), "nuscenes")


@pytest.fixture(scope="module")
def files(traced, tmp_path_factory) -> dict[str, Path]:
    """A step of nano in both formats, each held against the network when it was written."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f".onnx files need {package}: pip install -r requirements/kernels.txt")
    folder, made = tmp_path_factory.mktemp("exported"), {}
    for kind in KINDS:
        made[kind] = folder / f"nano.{kind}"
        done = write(traced, made[kind])
        assert done.agreement.states_fused == 2 and done.agreement.other_class < 1e-4
        assert done.spec.cameras_per_voxel == 2 and done.spec.checked["worst_state"] < 1e-3
    assert {path.name for path in folder.iterdir()} == {f"nano.{kind}{end}" for kind in KINDS for end in ("", ".yaml")}
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_by_a_file_is_the_networks(files, trained, traced, kind):
    """Memory, resets, tracks and what is seen are the host's: they go on as with the network."""
    streams = OccupancyStream(FileExecutor(files[kind], trained.config, "cpu")), OccupancyStream(trained)
    frames = traced.frames
    for index, frame in enumerate((*frames, replace(frames[0], stamp_ns=0))):
        found, wanted = (stream.step(frame) for stream in streams)
        assert (found.class_id != wanted.class_id).float().mean() < 1e-3
        assert found.history.ages_s == wanted.history.ages_s and found.history.reset == wanted.history.reset
        assert len(found.boxes) == len(wanted.boxes) and found.instances == "boxes"
        assert (found.visible == wanted.visible).float().mean() > 0.99
        assert set(found.timings_ms) == {"prepare", "network", "instances", "visible"}, index
    assert found.history.reset == "clock_jump"


def test_missing_states_are_the_oldest_there_is():
    current, old, older = torch.zeros(2, 1), torch.ones(2, 1), torch.full((2, 1), 2.0)
    known = [torch.tensor(one, dtype=torch.int32) for one in ([0, 0], [0, 1], [1, 1])]
    motions = torch.stack((torch.full((3, 4), 2.0), torch.ones(3, 4)))
    found = [filled_in([older, old], motions, one, current) for one in known]
    assert [[float(state[0]) for state in states] for states, _ in found] == [[0, 0], [1, 1], [2, 1]]
    assert [moved[:, 0, 1].tolist() for _, moved in found] == [[0, 0], [1, 1], [2, 1]]
    assert torch.equal(found[0][1][0], torch.eye(3, 4))  # the present has not moved


def test_more_cameras_at_a_voxel_than_the_file_reads_are_an_error(files, trained):
    """Never silently fewer: all cameras of this frame look ahead."""
    executor = FileExecutor(files["pt2"], trained.config)
    frame = street_frame(0.0)
    same = tuple(replace(one, ego_from_camera=frame.cameras[0].ego_from_camera) for one in frame.cameras)
    with pytest.raises(ValueError, match="6 cameras see one voxel, and the file reads 2.*--cameras-per-voxel 6"):
        OccupancyStream(executor).step(replace(frame, cameras=same))


def test_what_a_file_cannot_give_is_an_error(files, trained):
    executor = FileExecutor(files["pt2"], trained.config)
    with pytest.raises(ValueError, match="gives no logits"):
        OccupancyStream(executor).step(street_frame(0.0), Wanted(logits=True))


def copied(file: Path, folder: Path) -> Path:
    for path in (file, spec_path(file)):
        shutil.copy(path, folder)
    return folder / file.name


def damage(file: Path, how: str) -> Path:
    """Something is wrong with a file or with what lies beside it."""
    beside = spec_path(file)
    content = yaml.safe_load(beside.read_text())
    if how == "no file":
        file.unlink()
    elif how == "no configuration":
        beside.unlink()
    elif how == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "other bytes":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif how == "other version":
        content["format"] = 99
    elif how == "other ports":
        content["inputs"][0]["shape"][2] += 16
    elif how == "unknown key":
        content["more"] = 1
    if how in ("other version", "other ports", "unknown key"):
        beside.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no file", "no such file; panoocc export writes one"),
        ("no configuration", "its configuration nano.onnx.yaml is not beside it"),
        ("cut off", r"has \d+ bytes, not the \d+ that"),
        ("other bytes", "its hash differs"),
        ("other version", "is of format 99, and this version reads 1"),
        ("other ports", "has other inputs or outputs than this version"),
        ("unknown key", "unknown key 'more'"),
    ],
)
def test_a_stale_or_damaged_file_says_so(files, trained, tmp_path, how, says):
    with pytest.raises(ValueError, match=says):
        FileExecutor(damage(copied(files["onnx"], tmp_path), how), trained.config)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cameras": ("CAM_BACK", "CAM_FRONT", "CAM_FRONT_LEFT")}, "cameras differ"),
        ({"embed": 32}, "embed differ"),
    ],
)
def test_a_file_of_another_network_says_what_differs(files, trained, change, says):
    with pytest.raises(CheckpointError, match=f"is a step of nano, which is not nano as it is here: .*{says}"):
        read_spec(files["pt2"], replace(trained.config, **change))


def test_another_grid_says_so_and_the_hosts_own_settings_do_not_matter(files, trained):
    config = trained.config
    with pytest.raises(CheckpointError, match="grid.range_m differ"):
        read_spec(files["pt2"], replace(config, grid=replace(config.grid, range_m=(-20.0, -20, -1, 20, 20, 5.4))))
    own = replace(config.temporal, max_speed_mps=10.0)
    assert read_spec(files["pt2"], replace(config, temporal=own, name="mine")).model == "nano"


class Shell:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled!",)


def rewritten(file: Path, target: Path, changes: dict[str, bytes]) -> Path:
    """An archive with some of its parts changed or added."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            top, _, name = entry.filename.partition("/")
            new.writestr(entry.filename, changes.pop(name, None) or old.read(entry))
        for name, data in changes.items():
            new.writestr(f"{top}/{name}", data)
    return target


def part(file: Path, name: str) -> dict:
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read(next(one for one in archive.namelist() if one.endswith(name))))


def test_an_archive_that_could_run_code_is_refused(files, tmp_path, capsys):
    """Each of these makes torch.export.load unpickle, evaluate or call something."""
    file, changes = files["pt2"], {}
    evil = pickle.dumps(Shell())
    changes["sample inputs"] = {"data/sample_inputs/model.pt": evil}
    changes["a legacy part"] = {"data/weights/model.pt": evil}
    changes["an object"] = {"data/constants/opaque_obj_0": evil}
    weights = part(file, "model_weights_config.json")
    next(iter(weights["config"].values()))["use_pickle"] = True
    changes["a pickled weight"] = {"data/weights/model_weights_config.json": json.dumps(weights).encode()}
    for how in ("target", "formula", "guards", "name"):
        model = part(file, "models/model.json")
        node = model["graph_module"]["graph"]["nodes"][0]
        if how == "target":
            node["target"] = "torch.hub.load"
        elif how == "formula":
            next(iter(model["graph_module"]["graph"]["tensor_values"].values()))["sizes"][0] = {
                "as_expr": {"expr_str": "__import__('os').system('true')", "hint": None}
            }
        elif how == "guards":
            model["guards_code"] = ["__import__('os')"]
        else:
            node["outputs"] = [{"as_tensor": {"name": "x = 1; import os"}}]
        changes[how] = {"models/model.json": json.dumps(model).encode()}
    for number, (how, parts) in enumerate(changes.items()):
        with pytest.raises(CheckpointError, match="refused, because it may run code"):
            check_archive(rewritten(file, tmp_path / f"{number}.pt2", parts))
        assert "unpickled" not in capsys.readouterr().out, how
    check_archive(rewritten(file, tmp_path / "whole.pt2", {}))
    (tmp_path / "no.pt2").write_bytes(b"PK nothing")
    with pytest.raises(CheckpointError, match="is no archive of torch.export"):
        check_archive(tmp_path / "no.pt2")


def test_a_file_that_disagrees_is_not_left(files, trained, traced, tmp_path):
    """Held against a network with other weights than those it was written with."""
    other = load_model("nano", seeded_weights=True)
    with pytest.raises(CheckpointError, match="is not left, as it does not compute what nano does"):
        write(replace(traced, network=other, frames=traced.frames[:1]), tmp_path / "wrong.pt2")
    assert list(tmp_path.iterdir()) == []


def test_too_few_cameras_for_the_rig_and_halves_in_onnx_are_refused(traced, tmp_path):
    with pytest.raises(CheckpointError, match="2 cameras of the rig nuscenes see one voxel, not 1"):
        trace(traced.network, traced.plain, load_sim_rig("nuscenes"), "nuscenes", cameras=1)
    with pytest.raises(CheckpointError, match="precision fp16: .onnx files are fp32"):
        write(replace(traced, precision="fp16"), tmp_path / "half.onnx")


def test_onnx_without_a_runtime_says_what_to_install(files, trained, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(CheckpointError, match="pip install onnxruntime"):
        FileExecutor(files["onnx"], trained.config)


@pytest.mark.parametrize(
    ("providers", "says"),
    [
        ((), "onnxruntime here has no CUDAExecutionProvider, onnxruntime-gpu does"),
        (
            ("CUDAExecutionProvider",),
            "onnxruntime cannot start its CUDAExecutionProvider on cuda:1, and says above why",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_file_never_falls_to_the_cpu_silently(files, trained, monkeypatch, providers, says):
    """onnxruntime leaves out a provider that it cannot start, here one that it lists and does not have."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*providers, "CPUExecutionProvider"])
    with pytest.raises(CheckpointError, match=f"cannot be run on cuda:1: {says}; mend that, or take device: cpu"):
        FileExecutor(files["onnx"], trained.config, "cuda:1")
    found = FileExecutor(files["onnx"], trained.config, "auto").runner
    assert found.device.type == "cpu" and found.why_not_cuda == says.replace("cuda:1", "cuda:0")
    assert FileExecutor(files["onnx"], trained.config, "cpu").runner.why_not_cuda is None
    with pytest.raises(CheckpointError, match="device 'tpu' is unknown"):
        FileExecutor(files["onnx"], trained.config, "tpu")


def test_cuda_is_asked_for_by_its_index_and_kept(files, trained, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    asked = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, file, options, providers):
            asked.append(providers)
            super().__init__(file, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return [provider if isinstance(provider, str) else provider[0] for provider in asked[-1]]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    for device, index in (("cuda:1", 1), ("cuda", 0), ("auto", 0)):
        runner = FileExecutor(files["onnx"], trained.config, device).runner
        assert asked[-1][0] == ("CUDAExecutionProvider", {"device_id": index})
        assert runner.device == torch.device("cuda", index) and runner.why_not_cuda is None


def test_onnx_has_standard_operators_that_tensorrt_reads(files):
    """By the list of onnx-tensorrt 10.0, docs/operators.md; bytes are the type of outputs alone."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(files["onnx"]))
    assert {node.domain for node in model.graph.node} == {""} and len(model.opset_import) == 1
    assert 17 <= model.opset_import[0].version <= 20
    unknown = {node.op_type for node in model.graph.node} - set(TENSORRT.split())
    assert not unknown
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = inferred.graph.value_info
    bytes_ = {one.name for one in values if one.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    assert not bytes_
    dims = [d for info in (*model.graph.input, *model.graph.output) for d in info.type.tensor_type.shape.dim]
    assert all(d.dim_value > 0 and not d.dim_param for d in dims)


TENSORRT = """
Abs Add And ArgMax Cast CastLike Clip Concat Constant ConstantOfShape Conv ConvTranspose Div Einsum Exp Expand Flatten
Floor Gather GatherElements Gemm Greater GreaterOrEqual GridSample Identity LayerNormalization Less LessOrEqual Log
MatMul Max MaxPool Min Mul Neg Not Pad Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Round
ScatterElements ScatterND Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tile TopK Transpose
Unsqueeze Where
"""


def test_agreement_sees_what_differs(trained, traced):
    frames = traced.frames[:2]
    found = agreement(load_model("nano", seeded_weights=True), trained, frames)
    assert found.other_class > 0.01 and found.disagrees("fp32") and np.isfinite(found.worst_state)
    assert agreement(trained, trained, frames).disagrees("fp32") is None
