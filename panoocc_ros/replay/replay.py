"""A bag through the same assembler as the live node's: grids and points into a new bag, as fast as the machine can.

Every set is worked on, none is skipped for lack of time; apart from that the grids equal those of the node bit for bit
(on one device; with several CPU threads, the libraries below torch may round a confidence differently once in a while).
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from tqdm import tqdm

from panoocc_core import Frame, Occupancy, OccupancyStream
from panoocc_core.cameras.calibration_file import CalibrationFile
from panoocc_core.geometry import NS_PER_S, Matrix, invert
from panoocc_core.labels import InstanceSource

from ..bags.bag import PREFIX, BagError, BagReader, BrokenMessage, RawMessage
from ..bags.source import TimedHandler, message_count, ready_sets
from ..bags.writer import BagWriter
from ..frames.assembler import FrameAssembler
from ..frames.rig import Rig
from ..frames.sets import AssemblerStatus, ReadySet
from ..messages.types import CAMERA_INFO, IMAGE_TYPES, IMU, ODOMETRY, TRANSFORMS, new_message
from ..motion.motion_options import MotionOptions
from ..node.step import Lost, step
from ..outputs.catalogue import ANNOUNCEMENTS, OUTPUTS
from ..outputs.output import Output, Result, TopicRates, wanted_by
from ..outputs.output_options import OutputOptions

MAX_NAMED = 12  # topics in one text
POSES_KEPT = 256  # more than the memory reaches back, at 30 frames a second


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What is written, and how much."""

    outputs: tuple[Output, ...] = tuple(output for output in OUTPUTS if output.in_bags and output.by_default)
    options: OutputOptions = field(default_factory=OutputOptions)
    limit: int | None = None  # grids
    show_progress: bool = False


@dataclass(slots=True)
class ReplayReport:
    """What became of a bag."""

    grids: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # text -> sets that the network failed on
    broken: Counter[str] = field(default_factory=Counter)  # topic -> messages that could not be read
    last_broken: dict[str, str] = field(default_factory=dict)  # topic -> why the last one could not
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    frame_motions: list[tuple[float, float]] = field(
        default_factory=list
    )  # metres and yaw (degrees) since the last frame
    fused_motions: list[tuple[float, float]] = field(default_factory=list)  # ... since the newest state that was fused
    instances: InstanceSource = "none"  # what told the things of the grids apart
    sources: Counter[str] = field(default_factory=Counter)  # the same of grids that were read -> how many of them
    things: int = 0  # of all grids
    numbers: set[int] = field(default_factory=set)  # of all their tracks
    grids_with_history: int = 0
    longest_history_s: float = 0.0  # longest time from a reset of the memory, or the first frame, to a frame
    resets: Counter[str] = field(default_factory=Counter)
    ego_motion: Counter[str] = field(default_factory=Counter)  # where the rates of motion came from -> grids
    status: AssemblerStatus | None = None
    wall_s: float = 0.0
    bag_s: float = 0.0

    def add_times(self, times_ms: dict[str, float]) -> None:
        """Times of one grid, by stage."""
        for stage, value in times_ms.items():
            self.stage_ms.setdefault(stage, []).append(value)

    def note_broken(self, error: BrokenMessage, topic: str) -> None:
        """A message of a topic could not be read."""
        self.broken[topic] += 1
        self.last_broken[topic] = str(error)


def check_topics(
    bag: BagReader, rig: Rig, given: CalibrationFile | None = None, sources: MotionOptions | None = None
) -> None:
    """That the bag has what the rig and the sources of motion need, and what a calibration file does not give.

    Raises:
        BagError: a topic is missing or has the wrong type; the text names it and what the bag has instead.
    """
    if not bag.message_count:
        raise BagError(f"{bag.path}: the bag holds no messages")
    infos = {} if given is None else given.infos
    for camera in rig.cameras:
        remedy = "name them in a rig file and give it with --rig"
        check_topic(bag, camera.topic, IMAGE_TYPES, f"camera {camera.name}", remedy)
        if camera.name not in infos:
            more = "; where CameraInfo was not recorded, give the calibration with --calibration"
            check_topic(bag, camera.info_topic, (CAMERA_INFO,), f"camera {camera.name}", remedy + more)
    check_poses(bag, rig, sources or MotionOptions())


def check_poses(bag: BagReader, rig: Rig, sources: MotionOptions) -> None:
    """That the bag has the topics of the vehicle's motion.

    Raises:
        BagError: a topic is missing or has the wrong type.
    """
    for topic, kind, what in ((sources.odometry_topic, ODOMETRY, "odometry"), (sources.imu_topic, IMU, "IMU")):
        if topic:
            check_topic(bag, topic, (kind,), what, f"choose one of them with --{what.lower()}-topic, or none")
    has_transforms = any(topic in bag.topics for topic in (rig.tf_topic, rig.tf_static_topic))
    if not has_transforms and sources.pose_source == "tf":
        raise BagError(f"{bag.path}: {_no_transforms(bag, rig, f'neither {rig.tf_topic} nor {rig.tf_static_topic}')}")
    for topic in (rig.tf_topic, rig.tf_static_topic):
        if topic in bag.topics:
            check_topic(bag, topic, (TRANSFORMS,), "transforms", "")


def lacks(bag: BagReader, rig: Rig, given: CalibrationFile | None = None, sources: MotionOptions | None = None) -> str:
    """What a bag that gave no grid does not hold, and what helps; empty where it has all."""
    has_poses = bag.count([rig.tf_topic]) or (sources is not None and sources.pose_source == "odometry")
    missing = [] if has_poses else [_no_transforms(bag, rig, f"no {rig.tf_topic}")]
    if not bag.count([rig.tf_static_topic]) and (given is None or not set(rig.names) <= set(given.mounts)):
        missing.append(
            f"{_no_transforms(bag, rig, f'no {rig.tf_static_topic}')} (of a split recording the first file has it: "
            "give the whole folder), or give the cameras' mounts with --calibration FILE.yaml"
        )
    return "; ".join(missing)


def _no_transforms(bag: BagReader, rig: Rig, what: str) -> str:
    others = [topic for topic in _of_types(bag, (TRANSFORMS,)) if topic not in (rig.tf_topic, rig.tf_static_topic)]
    if others:
        return (
            f"the bag has {what}, but transforms on {_named(others)}: choose with --tf-topic and --tf-static-topic, or "
            "tf_topic and tf_static_topic in a rig file"
        )
    odometry = _of_types(bag, (ODOMETRY,))
    more = f"; odometry is on {_named(odometry)}: --pose-source odometry --odometry-topic takes it" if odometry else ""
    return f"the bag has {what}: the vehicle's poses and the cameras' mounts have to be recorded with the images{more}"


def check_topic(bag: BagReader, topic: str, kinds: tuple[str, ...], what: str, remedy: str) -> None:
    """That a bag has a topic of one of some types.

    Raises:
        BagError: it has not; the text names the topics that could be meant, `what` it is and what helps.
    """
    if topic not in bag.topics:
        there = _named(_of_types(bag, kinds))
        raise BagError(f"{bag.path}: no topic {topic} ({what}); its topics of this kind are {there}: {remedy}")
    if bag.topics[topic] not in kinds:
        raise BagError(f"{bag.path}: {topic} holds {bag.topics[topic]}, not {' or '.join(kinds)}")


def _of_types(bag: BagReader, kinds: tuple[str, ...]) -> list[str]:
    return [topic for topic, kind in bag.topics.items() if kind in kinds]


def _named(topics: list[str]) -> str:
    return ", ".join(topics[:MAX_NAMED]) + (", ..." if topics[MAX_NAMED:] else "") if topics else "none"


class Watcher(Protocol):
    """Who uses the grids of a replay while they come, and reads topics of its bag beside."""

    topics: Mapping[str, TimedHandler]  # what is done with the messages of each
    with_logits: bool  # whether grids need them

    def on_grid(self, occupancy: Occupancy) -> None:
        """Take the next grid."""


class Replay:
    """One run over one bag."""

    def __init__(
        self,
        bag: BagReader,
        stream: OccupancyStream,
        rig: Rig,
        assembler: FrameAssembler,
        watcher: Watcher | None = None,
    ) -> None:
        self._bag, self._stream, self._rig, self._assembler = bag, stream, rig, assembler
        self._watcher = watcher
        self.report = ReplayReport(bag_s=(bag.end_ns - bag.start_ns) / NS_PER_S)
        self._poses: deque[tuple[int, Matrix]] = deque(maxlen=POSES_KEPT)  # of the frames before
        self._history_begin_ns: int | None = None
        self._since_s = time.perf_counter()

    def run(self, writer: BagWriter, options: ReplayOptions) -> ReplayReport:
        """Write the grids of the whole bag.

        Raises:
            BagError: the bag is damaged, or the output cannot be written.
        """
        begin_s, rates = time.perf_counter(), TopicRates(options.options, options.outputs)
        for now_ns, ready in self._ready_sets(writer, options.show_progress):
            self._work(ready, now_ns, writer, options, rates)
            if options.limit is not None and self.report.grids >= options.limit:
                break
        self.report.status = self._assembler.status(self._bag.end_ns)
        self.report.wall_s = time.perf_counter() - begin_s
        return self.report

    def _announce(self, writer: BagWriter) -> None:
        labels, frame_id = self._stream.network.config.labels, self._assembler.rig.base_frame
        for one in ANNOUNCEMENTS:
            message = one.make(labels, frame_id, new_message)
            writer.write(f"{PREFIX}/{one.topic}", one.type, self._bag.start_ns, message, latched=True)

    def _ready_sets(self, writer: BagWriter, show_progress: bool) -> Iterator[tuple[int, ReadySet]]:
        others = {} if self._watcher is None else self._watcher.topics
        total = message_count(self._bag, self._assembler, others)
        with tqdm(total=total, unit="msg", disable=not show_progress) as bar:

            def show(_message: RawMessage) -> None:
                bar.update()
                bar.set_postfix(grids=self.report.grids, refresh=False)

            def pass_on(message: RawMessage) -> None:
                writer.write(message.topic, message.type, message.stamp_ns, message.data)

            on_broken = self.report.note_broken
            yield from ready_sets(self._bag, self._assembler, show, pass_on, on_broken, others)

    def _work(self, ready: ReadySet, now_ns: int, writer: BagWriter, options: ReplayOptions, rates: TopicRates) -> None:
        begin_s = time.perf_counter()
        times_ms = {"read": (begin_s - self._since_s) * 1e3}
        wanted = wanted_by(options.outputs)
        if self._watcher is not None:
            wanted = replace(wanted, instances=True, logits=self._watcher.with_logits)
        done = step(self._assembler, self._stream, ready, ready.reset, wanted)
        if isinstance(done, Lost):
            if done.kind == "failed":  # the assembler has counted what it refused
                self.report.failures[done.text] += 1
            self._since_s = time.perf_counter()
            return
        stepped_s = time.perf_counter()
        if self.report.grids == 0:
            self._announce(writer)
        result = Result(
            done.occupancy,
            done.frame,
            self.report.grids,
            self._assembler.rig.base_frame,
            self._rig.names,
            options.options,
            ready.map_from_ego,
        )
        stamp_ns = done.occupancy.stamp_ns
        for output in options.outputs:
            if output.applies(done.occupancy, wanted) and rates.is_due(output, stamp_ns):
                message = output.make(result, new_message)
                if message is not None:
                    writer.write(f"{PREFIX}/{output.topic}", output.type, now_ns, message, output.latched)
                    rates.sent(output)
        rates.next_grid(stamp_ns)
        if self._watcher is not None:
            self._watcher.on_grid(done.occupancy)
        self._note(done.frame, done.occupancy)
        self._since_s = time.perf_counter()
        times_ms |= {**done.times_ms, "write": (self._since_s - stepped_s) * 1e3}
        times_ms |= {"total": times_ms["read"] + (self._since_s - begin_s) * 1e3}
        self.report.add_times(times_ms)

    def _note(self, frame: Frame, occupancy: Occupancy) -> None:
        self.report.grids += 1
        self.report.instances = occupancy.instances
        self.report.ego_motion[occupancy.history.ego_motion] += 1
        if occupancy.boxes is not None and occupancy.boxes.instance_id is not None:
            self.report.things += len(occupancy.boxes)
            self.report.numbers.update(occupancy.boxes.instance_id.tolist())
        if occupancy.history.reset is not None:
            self.report.resets[occupancy.history.reset] += 1
        if self._poses and occupancy.history.reset is None:
            self.report.frame_motions.append(ego_motion(self._poses[-1][1], frame.world_from_ego))
        if self._history_begin_ns is None or occupancy.history.reset is not None:
            self._history_begin_ns = frame.stamp_ns
        reach_s = (frame.stamp_ns - self._history_begin_ns) / NS_PER_S
        self.report.longest_history_s = max(self.report.longest_history_s, reach_s)
        if occupancy.history.ages_s:
            self.report.grids_with_history += 1
            fused_ns = frame.stamp_ns - round(occupancy.history.ages_s[-1] * NS_PER_S)
            stamp_ns, pose = min(self._poses, key=lambda item: abs(item[0] - fused_ns))
            if abs(stamp_ns - fused_ns) < NS_PER_S // 1000:
                self.report.fused_motions.append(ego_motion(pose, frame.world_from_ego))
        self._poses.append((frame.stamp_ns, frame.world_from_ego))


def ego_motion(world_from_before: Matrix, world_from_after: Matrix) -> tuple[float, float]:
    """Distance in metres and signed yaw in degrees from one pose [4, 4] to a later one, seen from the first."""
    before_from_after = invert(world_from_before) @ world_from_after
    yaw = np.degrees(np.arctan2(before_from_after[1, 0], before_from_after[0, 0]))
    return float(np.linalg.norm(before_from_after[:3, 3])), float(yaw)
