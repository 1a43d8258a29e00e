"""An exported step beside its network: both drive through the same simulated street, each with its own memory."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ..base.devices import full_float32
from ..config import ModelConfig
from ..geometry import NS_PER_S
from ..memory import VoxelMemory
from ..models.panoocc import PanoOcc
from ..network import Network
from ..preprocess import network_input
from ..sim.camera import Rig
from ..sim.renderer import Renderer
from ..sim.scene import Scene
from ..step import Executor, StepOutput, Wanted
from ..stream import prepare
from ..types import CameraImage, Frame

SEED, BEGIN_S, USUAL_STEP_S = 7, 0.5, 0.5
# Per precision: share of voxels whose class may differ, and differences of states relative to their RMS and of boxes.
LIMITS = {"fp32": (1e-3, 1e-2, 2e-2), "fp16": (1e-2, 0.3, 0.5), "bf16": (5e-2, 2.0, 4.0)}


@dataclass(frozen=True, slots=True)
class FileAgreement:
    """The worst over all frames."""

    frames: int
    states_fused: int  # in the last of them
    other_class: float  # share of the voxels
    worst_confidence: float  # of 255
    worst_state: float  # largest difference of a remembered feature, as a share of their RMS
    worst_box: float  # largest difference of a box logit or code; 0 without boxes
    file_cpu_s: float  # a step, median
    network_cpu_s: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def disagrees(self, precision: str) -> str | None:
        """Why the file is not the network's, or None."""
        classes, state, box = LIMITS[precision]
        if not self.other_class <= classes:
            return f"{100 * self.other_class:.3g} % of the voxels have another class"
        if not self.worst_state <= state:
            return f"a remembered feature differs by {self.worst_state:.3g} of their RMS"
        if not self.worst_box <= box:
            return f"a box differs by {self.worst_box:.3g}"
        return None

    def __str__(self) -> str:
        return (
            f"{self.frames} frames of a simulated street, {self.states_fused} states of history in the last: "
            f"{100 * (1 - self.other_class):.4f} % of the voxels have the same class, confidences differ by at most "
            f"{self.worst_confidence:g} of 255, remembered features by {self.worst_state:.2g} of their RMS, boxes by "
            f"{self.worst_box:.2g}; CPU time a step {self.file_cpu_s:.3f} s, of the network {self.network_cpu_s:.3f} s"
        )


def street_frames(rig: Rig, config: ModelConfig) -> list[Frame]:
    """Frames of a street by which a network's history fills up, as far apart as its states are."""
    ages_s = config.temporal.ages_s
    step_s = ages_s[-1] if ages_s else USUAL_STEP_S
    seconds = [BEGIN_S + step_s * index for index in range(len(ages_s) + 2)]
    scene = Scene(SEED, seconds[-1] + 1)
    renderer = Renderer(scene)
    cameras = [camera for camera in rig if camera.name in config.cameras]
    small = [camera.scaled(min(1.0, 1.2 * config.images.width / camera.width)) for camera in cameras]
    return [_frame(scene, renderer, tuple(small), time_s) for time_s in seconds]


def _frame(scene: Scene, renderer: Renderer, rig: Rig, time_s: float) -> Frame:
    pictures, images = renderer.pictures(rig, time_s), []
    for camera in rig:
        shutter_s = time_s + camera.shutter_offset_s
        image = torch.from_numpy(np.ascontiguousarray(pictures[camera.name].rgb))
        stamp_ns, pose = round(shutter_s * NS_PER_S), scene.world_from_ego(shutter_s)
        images.append(CameraImage(camera.name, stamp_ns, image, camera.intrinsics, camera.ego_from_camera, pose))
    return Frame(round(time_s * NS_PER_S), scene.world_from_ego(time_s), tuple(images))


@torch.inference_mode()
def most_cameras(network: PanoOcc, frames: Sequence[Frame]) -> int:
    """How many cameras see one voxel, at most."""
    inputs = (network_input(frame, network.config, network.device) for frame in frames)
    return max(int(network.cameras_per_voxel(one.projections).max()) for one in inputs)


@torch.inference_mode()
@full_float32()
def agreement(file: Executor, network: Network, frames: Sequence[Frame]) -> FileAgreement:
    """How far a file is from its network on frames in their order."""
    memories, cpu_s = [VoxelMemory(), VoxelMemory()], ([], [])  # type: ignore[var-annotated]
    worst = dict.fromkeys(("other_class", "worst_confidence", "worst_state", "worst_box"), 0.0)
    fused = 0
    for frame in frames:
        outputs: list[StepOutput] = []
        for number, executor in enumerate((file, network)):
            prepared = prepare(network.config, executor.device, frame, memories[number])
            begin_s = time.process_time()
            output = executor.step(prepared.inputs, Wanted(visible=False))
            outputs.append(output)
            cpu_s[number].append(time.process_time() - begin_s)
            memories[number], fused = prepared.after(output.state).memory, len(prepared.inputs.states)
        for name, value in _differences(*outputs).items():
            worst[name] = max(worst[name], value)
    times = [float(np.median(of_one[1:] or of_one)) for of_one in cpu_s]  # the first one is slower
    return FileAgreement(len(frames), fused, **worst, file_cpu_s=times[0], network_cpu_s=times[1])


def _differences(found: StepOutput, wanted: StepOutput) -> dict[str, float]:
    rms = float(wanted.state.float().square().mean().sqrt())
    boxes = 0.0
    if found.boxes is not None and wanted.boxes is not None:
        boxes = max(
            _worst(found.boxes.class_logits[-1], wanted.boxes.class_logits[-1]),
            _worst(found.boxes.codes[-1], wanted.boxes.codes[-1]),
        )
    return {
        "other_class": float((found.class_id != wanted.class_id).float().mean()),
        "worst_confidence": _worst(found.confidence, wanted.confidence),
        "worst_state": _worst(found.state, wanted.state) / max(rms, 1e-6),
        "worst_box": boxes,
    }


def _worst(found: Tensor, wanted: Tensor) -> float:
    """Largest difference; infinite where one is not a number."""
    worst = float((found.float() - wanted.float()).abs().max())
    return worst if np.isfinite(worst) else np.inf
