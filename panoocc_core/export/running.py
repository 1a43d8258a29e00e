"""An exported step in the place of its network."""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import ModelConfig
from ..step import BoxPrediction, Stage, StepInput, StepOutput, Wanted
from ..weights.tensor_files import CheckpointError
from .archive import check_archive
from .spec import ExportSpec, read_spec
from .traced import Port, input_ports, output_ports, type_name

ONNX_TYPES = {"float32": "tensor(float)", "int32": "tensor(int32)", "uint8": "tensor(uint8)"}
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True)
class Runner:
    """What computes a file."""

    run: Callable[[dict[str, Tensor]], Sequence[Tensor]]
    device: torch.device  # that computes
    why_not_cuda: str | None = None  # where nobody has chosen the CPU, and CUDA cannot be had


class FileExecutor:
    """Takes the steps of a network by an exported file: inputs and outputs are on the CPU, wherever it computes.

    Args:
        device: cpu, cuda or cuda:<index>; auto is CUDA where the file can be run there.
        threads: of the CPU; None: as many as torch has.

    Attributes:
        runner: what computes, and where.

    Raises:
        CheckpointError: the file cannot be used; the text says why, and what to do.
    """

    def __init__(self, file: Path, config: ModelConfig, device: str = "auto", threads: int | None = None):
        self.config, self.file, self.spec = config, file, read_spec(file, config)
        precision = type_name(self.spec.precision)
        inputs = input_ports(config, precision)
        outputs = output_ports(config, precision, self.spec.instances == "boxes")
        if (self.spec.inputs, self.spec.outputs) != (inputs, outputs):
            raise CheckpointError(f"{file}: has other inputs or outputs than this version: write it again")
        make = _onnx_runner if self.spec.kind == "onnx" else _pt2_runner
        self.runner, self.device = make(file, self.spec, device, threads), torch.device("cpu")
        self._names = [port.name for port in outputs]
        states = [port for port in inputs if port.name.startswith("state_")]
        self._missing = [torch.zeros(port.shape, dtype=getattr(torch, port.dtype)) for port in states]

    def step(self, inputs: StepInput, wanted: Wanted, stage: Stage = nullcontext) -> StepOutput:
        """See `Executor`.

        Raises:
            ValueError: images with lenses, more cameras at a voxel than the file reads, or logits are wanted.
        """
        if wanted.logits:
            raise ValueError(f"{self.file}: an exported step gives no logits, which label points: take the network")
        if inputs.projections.lenses:
            raise ValueError(f"{self.file}: an exported step takes pinhole cameras alone; take lens: undistort")
        with stage("network"):
            found = dict(zip(self._names, self.runner.run(self._named(inputs)), strict=True))
        if (most := int(found["most_cameras"])) > self.spec.cameras_per_voxel:
            raise ValueError(
                f"{self.file}: {most} cameras see one voxel, and the file reads {self.spec.cameras_per_voxel}: export "
                f"the network again with --cameras-per-voxel {most}"
            )
        boxes = None
        if wanted.instances and self.config.panoptic.instances == "boxes":
            boxes = BoxPrediction(found["box_logits"][None], found["box_codes"][None])
        return StepOutput(found["class_id"], found["confidence"], found["is_finite"] > 0, found["state"], boxes)

    def _named(self, inputs: StepInput) -> dict[str, Tensor]:
        """`input_ports` of a step: of missing states, which are the older ones, zeros stand in their places."""
        named = {"images": inputs.images, "projections": inputs.projections.image_from_network}
        named["ego_motion"] = inputs.ego_motion
        if slots := len(self._missing):
            missing = slots - len(inputs.states)
            named["motions"] = torch.cat((inputs.motions.new_zeros(missing, 3, 4), inputs.motions))
            named["known"] = torch.tensor([0] * missing + [1] * len(inputs.states), dtype=torch.int32)
            states = (*self._missing[:missing], *inputs.states)
            named |= {f"state_{i}": state for i, state in enumerate(states)}
        return named


def _onnx_runner(file: Path, spec: ExportSpec, device: str, threads: int | None) -> Runner:
    try:
        import onnxruntime
    except ImportError as error:
        raise CheckpointError(
            f"{file}: onnxruntime is not installed, which runs .onnx files: pip install onnxruntime"
        ) from error
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise CheckpointError(f"{file}: device {device!r} is unknown; use cpu, cuda, cuda:<index> or auto")
    wanted = torch.device("cuda:0" if device in ("auto", "cuda") else device)
    why_not_cuda = None
    if wanted.type == "cuda" and CUDA_PROVIDER not in onnxruntime.get_available_providers():
        why_not_cuda = f"onnxruntime here has no {CUDA_PROVIDER}, onnxruntime-gpu does"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
    if wanted.type == "cuda" and why_not_cuda is None:
        providers.insert(0, (CUDA_PROVIDER, {"device_id": wanted.index}))
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # of onnxruntime's own kinds
        raise CheckpointError(f"{file}: onnxruntime cannot read it: {str(error).splitlines()[0][:200]}") from error
    session.disable_fallback()  # else a step that fails on CUDA is taken by the CPU from then on
    if len(providers) > 1 and CUDA_PROVIDER not in session.get_providers():  # one that cannot start is left out
        why_not_cuda = f"onnxruntime cannot start its {CUDA_PROVIDER} on {wanted}, and says above why"
    if why_not_cuda and device != "auto":
        raise CheckpointError(f"{file}: cannot be run on {device}: {why_not_cuda}; mend that, or take device: cpu")
    _check_ports(file, spec.inputs, session.get_inputs())
    _check_ports(file, spec.outputs, session.get_outputs())

    def run(named: dict[str, Tensor]) -> list[Tensor]:
        found = session.run(None, {name: tensor.numpy() for name, tensor in named.items()})
        return [torch.from_numpy(np.asarray(array)) for array in found]

    return Runner(run, torch.device("cpu") if why_not_cuda else wanted, why_not_cuda)


def _check_ports(file: Path, ports: Sequence[Port], found: Sequence[object]) -> None:
    """Raises CheckpointError unless a session has exactly these inputs, or outputs."""
    there = [(one.name, one.type, tuple(one.shape)) for one in found]  # type: ignore[attr-defined]
    wanted = [(port.name, ONNX_TYPES[port.dtype], port.shape) for port in ports]
    if there != wanted:
        odd = next((name for name, *_ in set(there) ^ set(wanted)), "their order")
        raise CheckpointError(f"{file}: its tensors are not those of its configuration ({odd}): write it again")


def _pt2_runner(file: Path, spec: ExportSpec, device: str, threads: int | None) -> Runner:
    if device not in ("auto", "cpu"):
        raise CheckpointError(f"{file}: .pt2 files run on the CPU here, not on {device}; take device: cpu")
    check_archive(file)
    try:
        program = torch.export.load(file)
    except Exception as error:  # of any kind, where versions of torch differ
        raise CheckpointError(
            f"{file}: torch {torch.__version__} cannot load it, which was written by torch "
            f"{spec.versions.get('torch')}: {str(error).splitlines()[0][:200]}"
        ) from error
    module = program.module(check_guards=False)

    def run(named: dict[str, Tensor]) -> Sequence[Tensor]:
        return module(*named.values())

    return Runner(run, torch.device("cpu"), None if device == "cpu" else ".pt2 files run on the CPU here")
