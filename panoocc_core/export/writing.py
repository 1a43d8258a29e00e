"""Writing a step to a file, and holding it against the network itself before anybody gets it."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from ..models.panoocc import PanoOcc
from ..network import Network
from ..sim.camera import Rig
from ..types import Frame
from ..weights.tensor_files import CheckpointError
from .checking import FileAgreement, agreement, most_cameras, street_frames
from .running import FileExecutor
from .spec import FORMAT, ExportSpec, network_facts, sha256_of, spec_path, weights_sha256, write_spec
from .traced import Port, TracedStep, input_ports, output_ports, type_name

OPSET = 18  # of ONNX; TensorRT 10 reads up to 20


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A step that can be written, in one format or in several, and what it is held against."""

    network: Network  # as it runs
    plain: PanoOcc  # that was traced
    precision: Literal["fp32", "fp16", "bf16"]
    rig: str
    cameras: int  # that are read at a voxel
    frames: tuple[Frame, ...]  # of a simulated street
    program: torch.export.ExportedProgram
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written, and how it compares."""

    spec: ExportSpec
    agreement: FileAgreement


def trace(network: Network, plain: Network, rig: Rig, rig_name: str, cameras: int | None = None) -> Traced:
    """A step of a network as operators and shapes.

    Args:
        network: as it runs, to compare with.
        plain: the same ready to infer, but with none of its layers packed for this processor.
        rig: whose cameras are those of the network.
        cameras: how many are read at a voxel; None: as many as see one of the rig's voxels.

    Raises:
        CheckpointError: the network cannot be exported, or more of the rig's cameras see one voxel.
    """
    config = network.config
    if not isinstance(plain, PanoOcc):
        raise CheckpointError(f"{config.name}: networks of its family are not exported")
    names: dict[torch.dtype, Literal["fp32", "fp16", "bf16"]] = {torch.float16: "fp16", torch.bfloat16: "bf16"}
    precision = names.get(plain.dtype, "fp32")
    frames = tuple(street_frames(rig, config))
    seen = most_cameras(plain, frames)
    cameras = min(seen if cameras is None else cameras, len(config.cameras))
    if cameras < seen:
        raise CheckpointError(f"cameras per voxel: {seen} cameras of the rig {rig_name} see one voxel, not {cameras}")
    inputs = input_ports(config, type_name(precision))
    outputs = output_ports(config, type_name(precision), config.panoptic.instances == "boxes")
    with _quiet():
        program = _program(TracedStep(plain, cameras), inputs)
    return Traced(network, plain, precision, rig_name, cameras, frames, program, inputs, outputs)


def kind_of(file: Path, precision: str) -> Literal["onnx", "pt2"]:
    """What a file of such a name is written as.

    Raises:
        CheckpointError: not at this precision.
    """
    if file.suffix != ".onnx":
        return "pt2"
    if precision != "fp32":
        raise CheckpointError(f"precision {precision}: .onnx files are fp32; TensorRT makes halves (--fp16)")
    return "onnx"


def write(traced: Traced, file: Path, on_stage: Callable[[str], object] = lambda name: None) -> Written:
    """Write a step to a .onnx or .pt2 file, and its configuration beside it, if it agrees with the network.

    Args:
        on_stage: called with "write" and "check".

    Raises:
        CheckpointError: it cannot be written so, or disagrees; then no file is left.
        OSError: it cannot be written.
    """
    config = traced.network.config
    kind = kind_of(file, traced.precision)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        part = Path(folder) / file.name
        on_stage("write")
        with _quiet():
            _write_onnx(traced, part) if kind == "onnx" else _write_pt2(traced, part)
        spec = ExportSpec(
            format=FORMAT,
            kind=kind,
            model=config.name,
            precision=traced.precision,
            cameras=config.cameras,
            cameras_per_voxel=traced.cameras,
            rig=traced.rig,
            instances=config.panoptic.instances,
            classes=config.labels.names,
            network=network_facts(config),
            inputs=traced.inputs,
            outputs=traced.outputs,
            size_bytes=part.stat().st_size,
            sha256=sha256_of(part),
            weights_sha256=weights_sha256(traced.plain),
            versions=_versions(kind),
        )
        write_spec(spec, spec_path(part))
        on_stage("check")
        found = agreement(FileExecutor(part, config, "cpu"), traced.network, traced.frames)
        if reason := found.disagrees(traced.precision):
            raise CheckpointError(f"{file}: is not left, as it does not compute what {config.name} does: {reason}")
        spec = replace(spec, checked=found.as_dict())
        write_spec(spec, spec_path(part))
        part.replace(file)
        spec_path(part).replace(spec_path(file))
    return Written(spec, found)


@torch.no_grad()
def _program(step: TracedStep, ports: Sequence[Port]) -> torch.export.ExportedProgram:
    """The program of a step; shapes are those of the ports."""
    sample = tuple(torch.zeros(port.shape, dtype=getattr(torch, port.dtype)) for port in ports)
    step.eval()(*sample)  # what is computed once is, with real tensors
    program = torch.export.export(step, sample, strict=False)
    for node in program.graph.nodes:  # where in our files it came from is nobody's business
        for note in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
            node.meta.pop(note, None)
    return program


def _write_pt2(traced: Traced, file: Path) -> None:
    program, sample = traced.program, traced.program.example_inputs
    program.example_inputs = None  # else they are pickled into the archive
    try:
        torch.export.save(program, file)
    finally:
        program.example_inputs = sample  # which ONNX's exporter needs


def _write_onnx(traced: Traced, file: Path) -> None:
    try:
        import onnx
        from onnxscript import optimizer
    except ImportError as error:
        raise CheckpointError("onnx or onnxscript, which write .onnx files, is missing: pip install both") from error
    made = torch.onnx.export(
        traced.program,
        input_names=[port.name for port in traced.inputs],
        output_names=[port.name for port in traced.outputs],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
        optimize=False,  # whoever runs the file optimises; here that takes minutes
    )
    assert made is not None
    optimizer.inline(made.model)
    optimizer.fold_constants(made.model)
    optimizer.remove_unused_nodes(made.model)
    made.save(str(file), external_data=False)
    model = onnx.load(str(file))
    for node in model.graph.node:
        del node.metadata_props[:]  # where in our files it came from is nobody's business
    onnx.save(model, str(file))
    if foreign := sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain}):
        raise CheckpointError(f"{file.name}: has operators that are not ONNX's own: {', '.join(foreign)}")
    onnx.checker.check_model(str(file), full_check=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters of PyTorch say much that concerns nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _versions(kind: str) -> dict[str, str]:
    found: dict[str, Any] = {"torch": torch.__version__}
    if kind == "onnx":
        found["onnx_opset"] = str(OPSET)
    for name in ("panoocc", *(("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
