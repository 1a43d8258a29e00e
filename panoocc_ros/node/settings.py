"""The node's parameters as one frozen, validated tree: names, defaults, limits and what they mean stand only here.

`parameters.py` declares them with rclpy; `config/params.yaml` documents them (a test holds the two together).  The
other nodes' settings are made of the same `parameter`s.  No ROS here: offline commands have these settings too.
"""

from dataclasses import dataclass
from typing import Any, Literal

from ..frames.waiting import AssemblerOptions
from ..outputs.output_options import OutputOptions
from ..ros.parameter_fields import SettingsError, parameter

CAMERA_LIMITS = ("max_focal_change", "max_centre_shift", "max_mount_shift_m", "max_mount_turn_deg")  # parameters


@dataclass(frozen=True)
class NodeSettings(OutputOptions, AssemblerOptions):
    """Parameters of the node `panoocc`, those of the assembler and of the outputs among them.

    Raises:
        SettingsError: a value is outside its limits or choices, or parameters contradict each other.
    """

    autostart: bool = parameter(
        True, "Configure and activate the node at once; false: it waits for the transitions of its lifecycle."
    )
    model: str = parameter("pano_small_occ3d", "Model preset, or the path of a YAML file that describes one.")
    checkpoint: str = parameter(
        "",
        "File with the weights (.safetensors, or a published .pth), or a step that panoocc export wrote (.onnx, .pt2). "
        "Empty takes the weights that come with the package.",
    )
    seeded_weights: bool = parameter(
        False, "Run with weights from a random generator with a fixed seed: for trials only, the voxels mean nothing."
    )
    device: str = parameter(
        "auto", "cpu, cuda, cuda:<number>, or auto: cuda where there is one, else cpu with a warning."
    )
    precision: str = parameter("fp32", "Number format of the network.", choices=("fp32", "fp16", "bf16"))
    cuda_graph: Literal["auto", "on", "off"] = parameter(
        "auto",
        "Replay the network's step as one CUDA graph. auto: on CUDA, and where that fails a WARN says why; on: or the "
        "node does not start; off: operator by operator, which shows the time of every stage.",
        choices=("auto", "on", "off"),
    )
    threads: int = parameter(0, "CPU threads of the network; 0 leaves the choice to torch.", limits=(0, 1024))
    rig: str = parameter(
        "auto",
        "Rig: which camera is on which topic, and the frames. A name in config/rigs, or a YAML file; auto: the rig "
        "with the network's cameras.",
    )
    base_frame: str = parameter(
        "", "Frame of the vehicle, in which grids are given; empty takes the rig's (usually base_link)."
    )
    fixed_frame: str = parameter(
        "", "Frame through which history is fused; empty takes the rig's. It must not jump: odom rather than map."
    )
    network_frame: str = parameter(
        "", "Frame in which the network's voxels lie; empty takes the rig's, or else the pose that the preset has."
    )
    instances: Literal["", "boxes", "components", "none"] = parameter(
        "",
        "What tells things apart: boxes, components (connected voxels of one class), none; empty: the network's.",
        choices=("", "boxes", "components", "none"),
    )
    sync_spread_ms: float = parameter(
        0.0, "Largest distance of an image from the reference camera; 0 takes the rig's.", limits=(0.0, 10_000.0)
    )
    calibration: str = parameter(
        "", "YAML file with mounts and intrinsics, in place of /tf_static and CameraInfo; empty: they are sent."
    )
    lens: Literal["", "undistort", "project"] = parameter(
        "",
        "Lens distortion of images that are not rectified: undistort takes it out of the picture, which cuts off what "
        "lies beyond a flat one; project leaves it there and projects the voxels through the lens; empty: the rig's.",
        choices=("", "undistort", "project"),
    )
    max_focal_change: float = parameter(
        0.0,
        "Share by which a focal length may change before the memory is cleared; 0 takes the network's.",
        limits=(0.0, 10.0),
        dynamic=True,
    )
    max_centre_shift: float = parameter(
        0.0,
        "Share of the image by which a principal point may move before the memory is cleared; 0 takes the network's.",
        limits=(0.0, 1.0),
        dynamic=True,
    )
    max_mount_shift_m: float = parameter(
        0.0,
        "Distance by which a mount may move before the memory is cleared; 0 takes the network's.",
        limits=(0.0, 100.0),
        dynamic=True,
    )
    max_mount_turn_deg: float = parameter(
        0.0,
        "Angle by which a mount may turn before the memory is cleared; 0 takes the network's.",
        limits=(0.0, 180.0),
        dynamic=True,
    )
    image_reliability: str = parameter(
        "best_effort",
        "QoS of images and camera infos. best_effort matches every driver; reliable loses nothing on playback.",
        choices=("best_effort", "reliable"),
    )
    image_queue: int = parameter(5, "Depth of the subscription of every camera.", limits=(1, 100))
    thread_priorities: Literal["system", "nice", "realtime"] = parameter(
        "system",
        "Which threads go first: system; nice: the worker (niceness -5) before labelling and decoding ahead (5); "
        "realtime: the same with SCHED_RR 1 for the worker. What the system refuses is told.",
        choices=("system", "nice", "realtime"),
    )
    max_set_age_s: float = parameter(
        0.0,
        "Oldest set that is begun with, by its stamp and by the arrival of its last image; older ones are dropped. 0: "
        "no limit: the newest complete set counts, which is as old as a step takes.",
        limits=(0.0, 60.0),
        dynamic=True,
    )
    frame_budget_ms: float = parameter(
        0.0,
        "Longest time that the worker may take for a set, such as the cameras' period; optional outputs are left out "
        "to hold it. 0: none.",
        limits=(0.0, 60_000.0),
        dynamic=True,
    )
    label_points_topic: str = parameter(
        "", "Clouds (PointCloud2) to be labelled and published as ~/labelled_points; empty: none."
    )
    label_max_age_s: float = parameter(
        0.5, "Furthest grid, in time, that labels a cloud; without one the cloud is lost.", limits=(0.0, 60.0)
    )
    label_wait_s: float = parameter(
        0.5,
        "How long a cloud waits for a grid that is not older than itself; 0: the newest grid labels it at once.",
        limits=(0.0, 60.0),
    )
    label_outside: Literal["unknown", "clamp"] = parameter(
        "unknown",
        "Points beyond the grid: unknown (label 255), or clamp: they take the border voxel.",
        choices=("unknown", "clamp"),
    )
    diagnostics_period_s: float = parameter(
        1.0, "Time between two messages on /diagnostics.", limits=(0.1, 60.0), dynamic=True
    )
    latency_warn_ms: float = parameter(
        0.0,
        "From complete set to grid: timing is a WARN while set after set takes longer; 0: no limit.",
        limits=(0.0, 1e6),
        dynamic=True,
    )
    latency_error_ms: float = parameter(
        0.0,
        "From complete set to grid: timing is an ERROR while set after set takes longer; 0: no limit.",
        limits=(0.0, 1e6),
        dynamic=True,
    )
    latency_consecutive_s: float = parameter(
        1.0,
        "How long sets have to exceed a limit, one after another, before timing tells; 0: one set is enough.",
        limits=(0.0, 30.0),
        dynamic=True,
    )
    save_dir: str = parameter(
        "", "Folder for the bags of ~/save; empty: panoocc in ROS_HOME, or in ~/.ros.", dynamic=True
    )

    def __post_init__(self) -> None:
        OutputOptions.__post_init__(self)
        AssemblerOptions.__post_init__(self)
        if self.checkpoint and self.seeded_weights:
            raise SettingsError("parameters checkpoint and seeded_weights exclude each other: keep one of the two")


def camera_limits(chosen: Any) -> dict[str, float]:
    """How far cameras may move before the memory is cleared, where that is not the network's own choice.

    Args:
        chosen: the parameters CAMERA_LIMITS as attributes.
    """
    return {name: value for name in CAMERA_LIMITS if (value := getattr(chosen, name))}
