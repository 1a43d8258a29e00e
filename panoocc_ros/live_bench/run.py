"""The node under the load of a vehicle's cameras: a process that sends, the node, and a recorder, each on its own."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from panoocc_core.base.resources import folder
from panoocc_core.geometry import NS_PER_S

from ..bags.bag import BagReader
from ..bags.recording import Recording, read_recording
from ..demo.processes import Child, Children, environment_on_this_machine
from ..health.latency import Summary, latency_table, summarise
from ..health.verdicts import OUTPUT, TIMING, summary_from_values
from ..messages.fields import stamp_ns

NODE = "panoocc"
GRIDS = f"/{NODE}/occupancy"
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # up to Jazzy, and after it
START_S = 300.0
SPARE_S = 60.0  # by which the sender may be late
LAST_S = 1.5  # in which the node says how it ended
TICK_S = 0.25
SENT_TO_RECEIVED = "sent_to_received"
TINY = {  # a real network whose own time leaves two cores room for everything around it
    "extends": "nano",
    "description": "nano at a quarter of its size, for the measurement of what is around a network",
    "images": {"height": 56, "width": 128},
    "backbone": {"blocks": [1, 1, 1], "width": 16},
    "embed": 32,
    "ffn": 64,
    "grid": {"rows": 16, "columns": 16},
    "temporal": {"ages_s": [0.5]},
    "panoptic": {"instances": "none"},
}


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What became of the images that were sent."""

    profile: str | None  # of DDS; None: its defaults
    rate_hz: float
    sets_sent: int
    images_sent: int
    images_received: int  # by the node
    sets_formed: int
    grids: int
    grids_received: int  # by a recorder
    drops: dict[str, int]  # reason -> sets
    late_ms: dict[str, float]  # of the sender: how far behind its schedule it was
    node_cpu: float  # cores, on the mean
    times_ms: Summary  # stage -> percentiles

    @property
    def images_lost(self) -> int:
        """Between sender and node."""
        return self.images_sent - self.images_received

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"images_lost": self.images_lost}


def write_tiny(path: Path) -> Path:
    """Write the preset TINY as a YAML file."""
    path.write_text(yaml.safe_dump(TINY, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent, and to what."""

    bag: Path  # whose images are sent again and again
    rig: str  # name or file
    cameras: tuple[str, ...]  # of the rig
    parameters: Mapping[str, Any]  # of the node
    seconds: float
    rate_hz: float
    at_once: bool = False  # all cameras send at one instant, as triggered ones do; else as in the bag

    @property
    def sets(self) -> int:
        """Of images."""
        return max(1, round(self.seconds * self.rate_hz))


def live_bench(load: Load, out: Path, profile: Path | None) -> LiveReport:
    """Send images to the node, and see what becomes of them.

    Args:
        out: an empty folder for logs and recording.
        profile: of Fast DDS; None takes its defaults.

    Raises:
        ProcessError: one of the processes failed.
    """
    sent, recorded = out / "sent.json", out / "recorded.mcap"
    cpu_s: list[tuple[float, float]] = []
    with Children(environment_with(profile), out) as children:
        node = children.start("node", [*ours("occupancy_node"), *ros_arguments(load)])
        recorder = children.start("recorder", [*ours("record_bag"), GRIDS, "/diagnostics", "--out", str(recorded)])
        sender = children.start("sender", sender_command(load, sent))
        limit_s = START_S + 2 * load.seconds + SPARE_S
        children.wait(sender, limit_s, TICK_S, on_tick=lambda: cpu_s.append((time.monotonic(), node.cpu_s)))
        time.sleep(LAST_S)
        if recorder.stop() != 0:
            raise recorder.fail("could not write the recording")
    recording = read_recording(recorded, NODE)
    if OUTPUT not in recording.diagnostics:
        raise node.fail("said nothing on /diagnostics")
    told = json.loads(sent.read_text())
    ages_ms = [age_ms for _, age_ms in received_grids(recorded)]
    received = {SENT_TO_RECEIVED: summarise(ages_ms)} if ages_ms else {}
    times_ms = summary_from_values(_values(recording, TIMING)) | received
    output = _values(recording, OUTPUT)
    cameras = [subject for subject in recording.diagnostics if subject.startswith("camera ")]
    return LiveReport(
        profile=None if profile is None else profile.name,
        rate_hz=load.rate_hz,
        sets_sent=load.sets,
        images_sent=sum(told["images"].values()),
        images_received=sum(int(_values(recording, camera)["images"]) for camera in cameras),
        sets_formed=int(output["sets_in"]),
        grids=int(output["grids_out"]),
        grids_received=recording.grids,
        drops=drops_told(recording),
        late_ms=told["late_ms"],
        node_cpu=cores(cpu_s, *told["span_s"]),
        times_ms=times_ms,
    )


def live_table(report: LiveReport) -> str:
    """The report as text."""
    return "\n".join(
        [
            f"DDS profile: {report.profile or 'none, the defaults'}",
            f"{report.images_sent} images sent in {report.sets_sent} sets at {report.rate_hz:g} Hz, "
            f"{report.images_lost} lost on the way; {report.sets_formed} sets, {report.grids} grids, "
            f"{report.grids_received} received; sets dropped: {reasons(report.drops)}",
            f"the node took {report.node_cpu:.2f} cores; the sender was {report.late_ms['p95_ms']:.1f} ms late (p95)",
            latency_table(report.times_ms),
        ]
    )


def sender_command(load: Load, report: Path) -> list[str]:
    command = [sys.executable, "-m", "panoocc_ros.live_bench.sender", str(load.bag), "--report", str(report)]
    command += ["--rig", load.rig, "--cameras", *load.cameras, *(["--at-once"] if load.at_once else [])]
    return command + ["--rate", str(load.rate_hz), "--sets", str(load.sets), "--wait", str(START_S)]


def ros_arguments(load: Load) -> list[str]:
    """In JSON, which ROS reads as YAML: a file's name stays a text."""
    parameters = {**load.parameters, "diagnostics_period_s": LAST_S / 3}
    words = [("-p", f"{name}:={json.dumps(value)}") for name, value in parameters.items()]
    return ["--ros-args", *(word for pair in words for word in pair)]


def drops_told(recording: Recording) -> dict[str, int]:
    """Sets that the node dropped, by reason, when it last said so."""
    output = _values(recording, OUTPUT)
    return {key.removeprefix("drops."): int(value) for key, value in output.items() if key.startswith("drops.")}


def reasons(dropped: Mapping[str, int]) -> str:
    """Counts of drops as a text."""
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none"


def _values(recording: Recording, subject: str) -> dict[str, str]:
    return {value.key: value.value for value in recording.diagnostics[subject].values}


def received_grids(recorded: Path) -> list[tuple[float, float]]:
    """When each grid came to another process, in seconds of the system's clock, and milliseconds since the stamp of its
    set's last image, when that was sent.
    """
    with BagReader(recorded) as bag:
        return [
            (raw.stamp_ns / NS_PER_S, (raw.stamp_ns - stamp_ns(bag.deserialise(raw).newest_image_stamp)) / 1e6)
            for raw in bag.messages((GRIDS,))
        ]


def sampled(node: Child, samples: list[tuple[float, float, float]], then: Callable[[], object]) -> Callable[[], None]:
    """What takes a sample of a process (instant, resident memory in MB, CPU time so far), and then does something."""

    def sample() -> None:
        samples.append((time.monotonic(), node.memory_mb, node.cpu_s))
        then()

    return sample


def cores(samples: list[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """CPU time a second between two instants, from samples of (instant, CPU time so far)."""
    within = [sample for sample in samples if begin_s <= sample[0] <= end_s]
    if len(within) < 2:
        return 0.0
    return (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])


def ours(name: str) -> list[str]:
    return [sys.executable, "-m", "panoocc_ros", name]


def environment_with(profile: Path | None) -> dict[str, str]:
    """That of all processes, with a profile of Fast DDS or without any."""
    environment = {name: value for name, value in environment_on_this_machine().items() if name not in PROFILES}
    return environment | ({} if profile is None else dict.fromkeys(PROFILES, str(profile)))


def shipped_profile() -> Path:
    """The profile of Fast DDS that comes with the package."""
    return folder("config") / "fastdds.xml"
