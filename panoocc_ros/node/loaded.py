"""What the node has once it is configured: a network that is ready, and all that follows from the parameters."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch

from panoocc_core import CameraImage, Frame, ModelConfig, OccupancyStream
from panoocc_core.base.devices import is_out_of_memory
from panoocc_core.cameras.calibration_file import CalibrationFile
from panoocc_core.cameras.lens import calibration as calibration_of
from panoocc_core.cuda.front_end import front_end_on
from panoocc_core.cuda.graph import CapturedSteps
from panoocc_core.cuda.kernels import CudaError
from panoocc_core.export.running import FileExecutor
from panoocc_core.geometry import rigid
from panoocc_core.memory import VoxelMemory
from panoocc_core.network import Network
from panoocc_core.ops.backend import running_kernels
from panoocc_core.optics import LensModel
from panoocc_core.step import Executor, Wanted
from panoocc_core.stream import prepare

from ..frames.assembler import FrameAssembler
from ..frames.rig import Rig
from ..health.verdicts import DEVICE_NOTES
from ..outputs.planner_outputs import check_outputs
from ..ros.parameter_fields import SettingsError
from ..streams.cloud_queue import reads_logits
from .choices import (
    chosen_calibration,
    chosen_config,
    chosen_rig,
    device_notes,
    file_notes,
    loaded_executor,
    placed_by,
    rig_for,
    unused,
)
from .settings import CAMERA_LIMITS, NodeSettings, camera_limits

CudaGraph = Literal["auto", "on", "off"]
SHIPPED = "shipped with the package"
CAMERA_HEIGHT_M = 1.5
NO_LENSES: Mapping[str, LensModel] = MappingProxyType({})
OPTICAL_AXES = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # of a camera that looks ahead, in the vehicle frame


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What `load` makes; nothing in it changes while the node is configured, but for `network.config`."""

    settings: NodeSettings
    rig: Rig  # its cameras in the order of the network
    all_cameras: tuple[str, ...]  # also those that the network does not take
    calibration: CalibrationFile | None
    network: Network | FileExecutor
    steps: Executor  # takes the network's steps: itself, or captured ones
    own_limits: Mapping[str, float]  # how far cameras may move, as the network has it
    facts: Mapping[str, str]  # values of the status `model`


def load(settings: NodeSettings, logger: Any) -> Loaded:
    """Check the parameters against each other and the files that they name, load the network and warm it up.

    Raises:
        SettingsError: a parameter cannot be used.
    """
    begin_s = time.perf_counter()
    config = chosen_config(settings.model, instances=settings.instances, ego_motion=settings.ego_motion)
    rig = chosen_rig(
        settings.rig,
        config,
        settings.base_frame,
        settings.fixed_frame,
        settings.sync_spread_ms,
        settings.lens,
    )
    for sentence in unused(config, rig, settings.network_frame):
        logger.info(sentence)
    used = rig_for(config, rig, settings.network_frame)
    calibration = chosen_calibration(settings.calibration, rig)
    check_outputs(settings, placed_by(calibration, config))
    # What the parameters ask for is there: known before minutes of loading.
    FrameAssembler(used, settings, calibration, config, settings.grid_frame).close()
    logger.info(f"loading {config.name}")
    network = loaded_executor(
        config,
        settings.checkpoint,
        settings.seeded_weights,
        settings.device,
        settings.precision,
        settings.threads,
        logger.warning,
    )
    check_images(network.device)
    loaded_s = time.perf_counter()
    reads = settings.label_points_topic and reads_logits(config)
    steps = warmed_up(network, settings.cuda_graph, logger, bool(reads), lenses_of(calibration, used))
    own_limits = {name: getattr(config.temporal, name) for name in CAMERA_LIMITS}
    take_limits(network, own_limits, settings)
    facts = {
        "model": config.name,
        "instances": config.panoptic.instances,
        "weights": "seeded" if settings.seeded_weights else settings.checkpoint or SHIPPED,
        "device": str(network.runner.device if isinstance(network, FileExecutor) else network.device),
        "precision": settings.precision,
        "steps": _steps(network, steps),
        "load_s": f"{loaded_s - begin_s:.1f}",
        "warm_up_s": f"{time.perf_counter() - loaded_s:.1f}",
    }
    if isinstance(network, FileExecutor):
        notes = file_notes(network)
    else:
        facts["kernels"] = running_kernels(network.device)
        notes = device_notes(settings.device, settings.precision)
    if notes:
        facts[DEVICE_NOTES] = "; ".join(notes)
    return Loaded(settings, used, rig.names, calibration, network, steps, own_limits, facts)


def _steps(network: Network | FileExecutor, steps: Executor) -> str:
    """How a network's steps are taken, in words."""
    if isinstance(network, FileExecutor):
        return f"exported file, {network.spec.kind}"
    return "eager" if steps is network else "CUDA graph"


def with_settings(loaded: Loaded, settings: NodeSettings) -> Loaded:
    """The same with other dynamic parameters.

    Raises:
        SettingsError: they do not fit the network.
    """
    check_outputs(settings, placed_by(loaded.calibration, loaded.network.config))
    return replace(loaded, settings=settings)


def take_limits(network: Network | FileExecutor, own_limits: Mapping[str, float], settings: NodeSettings) -> None:
    """Have the network's stream clear its memory by the limits of these parameters, or else by its own ones."""
    temporal = replace(network.config.temporal, **{**own_limits, **camera_limits(settings)})  # type: ignore[arg-type]
    network.config = replace(network.config, temporal=temporal)


def check_images(device: torch.device) -> None:
    """Raises SettingsError where CuPy is installed and of no use on the device."""
    try:
        front_end_on(device)
    except CudaError as error:
        text = f"{error}; install the CuPy of this machine's CUDA, or none, or use device cpu"
        raise SettingsError(text, "device") from error


def lenses_of(file: CalibrationFile | None, rig: Rig) -> dict[str, LensModel]:
    """Camera -> lens whose distortion its images keep, of those that are known before a message is."""
    found = {}
    for camera in rig.cameras:
        info = None if file is None else file.infos.get(camera.name)
        lens = None if info is None else calibration_of(info, camera.is_rectified, use=camera.lens).lens
        if lens is not None:
            found[camera.name] = lens
    return found


def warmed_up(
    network: Network | FileExecutor,
    cuda_graph: CudaGraph,
    logger: Any,
    with_logits: bool = False,
    lenses: Mapping[str, LensModel] = NO_LENSES,
) -> Executor:
    """What takes the network's steps, after one over a black picture of every camera, so that the first real one takes
    as long as the others; captured steps are so for every number of recalled states.

    Args:
        with_logits: some steps will be asked for logits.
        lenses: of the cameras that have some, see `black_frame`.

    Raises:
        SettingsError: device or host has too little memory, or `cuda_graph` is on and the step cannot be captured.
    """
    try:
        frame = black_frame(network.config, NO_LENSES if isinstance(network, FileExecutor) else lenses)
        OccupancyStream(network).step(frame)
        if cuda_graph == "off" or (cuda_graph == "auto" and network.device.type != "cuda"):
            return network
        try:
            return captured(network, frame, with_logits)
        except CudaError as error:
            if cuda_graph == "on":
                raise SettingsError(f"{error}; set cuda_graph to auto or off", "cuda_graph") from error
            logger.warning(f"the network runs operator by operator: {error}")
            return network
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = f"{network.config.name} needs more memory than there is on {network.device}: {error}".splitlines()[0]
        raise SettingsError(reason, "model", "device") from error


def captured(network: Network | FileExecutor, frame: Frame, with_logits: bool) -> CapturedSteps:
    """A network's steps on CUDA, captured over frames like this one, for every choice of outputs.

    Raises:
        CudaError: the network is elsewhere, or cannot be captured.
    """
    if network.device.type != "cuda":
        raise CudaError(f"the network is on {network.device}, and graphs are of CUDA devices")
    assert isinstance(network, Network)  # an exported file is on the host
    steps = CapturedSteps(network)
    with torch.inference_mode():
        inputs = prepare(network.config, network.device, frame, VoxelMemory()).inputs
        for logits in (False, True)[: 1 + with_logits]:
            for instances in (False, True):
                steps.prepare(inputs, Wanted(instances=instances, logits=logits))
    return steps


def black_frame(config: ModelConfig, lenses: Mapping[str, LensModel] = NO_LENSES) -> Frame:
    """Cameras of the network's size, evenly around the vehicle, that see black; some through lenses."""
    height, width = config.images.height, config.images.width
    # Side by side: an exported step reads no more cameras at a voxel than its rig has.
    focal = width / 2 / np.tan(np.pi / max(4, len(config.cameras)))
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    image = torch.zeros((height, width, 3), dtype=torch.uint8)
    cameras = []
    for number, name in enumerate(config.cameras):
        yaw_rad = 2 * np.pi * number / len(config.cameras)
        cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
        turned = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ OPTICAL_AXES
        mount = rigid(turned, np.array([0.0, 0.0, CAMERA_HEIGHT_M]))
        cameras.append(CameraImage(name, 0, image, intrinsics, mount, np.eye(4), lens=lenses.get(name)))
    return Frame(0, np.eye(4), tuple(cameras))
