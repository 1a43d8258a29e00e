"""A bag through the same pipeline as the live node's: grids and points into a new bag, as fast as the machine can.

Every set is worked on, none is skipped for lack of time; apart from that the grids equal those of the node bit for bit
(on one device; with several CPU threads, the libraries below torch may round a confidence differently once in a while).
"""

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from panoocc_core import Frame, NonFiniteError, Occupancy, OccupancyStream
from panoocc_core.geometry import NS_PER_S, Matrix, invert

from ..frames.assembler import Pipeline, PipelineStatus, ReadySet, Refused
from ..frames.rig import Rig
from ..messages.foxglove import fill_foxglove_grid
from ..messages.points import fill_points
from ..messages.types import new_message, typestore
from ..messages.voxel_grid import Encoding, fill_label_set, fill_voxel_grid, occupied_voxels
from .bag import BagError, BagReader, BagWriter, RawMessage
from .source import TF_TOPICS, message_count, ready_sets

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
POSES_KEPT = 256  # more than the memory reaches back, at 30 frames a second


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What is written, and how much."""

    encoding: Encoding = "sparse"
    with_confidence: bool = True
    with_points: bool = True
    with_foxglove: bool = True
    limit: int | None = None  # grids
    show_progress: bool = False


@dataclass(slots=True)
class ReplayReport:
    """What became of a bag."""

    grids: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # text -> sets that the network failed on
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    frame_motions: list[tuple[float, float]] = field(
        default_factory=list
    )  # metres and yaw (degrees) since the last frame
    fused_motions: list[tuple[float, float]] = field(default_factory=list)  # ... since the newest state that was fused
    grids_with_history: int = 0
    longest_history_s: float = 0.0  # longest time from a reset of the memory, or the first frame, to a frame
    resets: Counter[str] = field(default_factory=Counter)
    status: PipelineStatus | None = None
    wall_s: float = 0.0
    bag_s: float = 0.0

    def add_times(self, times_ms: dict[str, float]) -> None:
        """Times of one grid, by stage."""
        for stage, value in times_ms.items():
            self.stage_ms.setdefault(stage, []).append(value)


def check_topics(bag: BagReader, rig: Rig) -> None:
    """That the bag has what the rig needs.

    Raises:
        BagError: a topic is missing or has the wrong type; the text names it and what the bag has instead.
    """
    topics = bag.topics
    images = [topic for topic, kind in topics.items() if kind in IMAGE_TYPES]
    infos = [topic for topic, kind in topics.items() if kind == INFO_TYPE]
    for camera in rig.cameras:
        for topic, kinds, there in ((camera.topic, IMAGE_TYPES, images), (camera.info_topic, (INFO_TYPE,), infos)):
            if topic not in topics:
                raise BagError(
                    f"{bag.path}: no topic {topic} (camera {camera.name}); its topics of this kind are "
                    f"{', '.join(there) or 'none'}: name them in a rig file and give it with --rig"
                )
            if topics[topic] not in kinds:
                raise BagError(f"{bag.path}: {topic} holds {topics[topic]}, not {' or '.join(kinds)}")
    if not any(topic in topics for topic in TF_TOPICS):
        raise BagError(
            f"{bag.path}: neither /tf nor /tf_static: without the vehicle's poses and the cameras' mounts no grid can "
            "be made; record both topics"
        )


class Replay:
    """One run over one bag."""

    def __init__(self, bag: BagReader, stream: OccupancyStream, rig: Rig, pipeline: Pipeline) -> None:
        self._bag, self._stream, self._rig, self._pipeline = bag, stream, rig, pipeline
        self.report = ReplayReport(bag_s=(bag.end_ns - bag.start_ns) / NS_PER_S)
        self._poses: deque[tuple[int, Matrix]] = deque(maxlen=POSES_KEPT)  # of the frames before
        self._history_begin_ns: int | None = None
        self._since_s = time.perf_counter()

    def run(self, writer: BagWriter, options: ReplayOptions) -> ReplayReport:
        """Write the grids of the whole bag.

        Raises:
            BagError: the bag is damaged, or the output cannot be written.
        """
        begin_s = time.perf_counter()
        output = _Output(writer, options, self._rig.names)
        for now_ns, ready in self._ready_sets(writer, options.show_progress):
            if self.report.grids == 0:
                output.write_labels(self._stream.model.config.labels, self._bag.start_ns)
            self._work(ready, now_ns, output)
            if options.limit is not None and self.report.grids >= options.limit:
                break
        self.report.status = self._pipeline.status(self._bag.end_ns)
        self.report.wall_s = time.perf_counter() - begin_s
        return self.report

    def _ready_sets(self, writer: BagWriter, show_progress: bool) -> Iterator[tuple[int, ReadySet]]:
        total = message_count(self._bag, self._pipeline)
        with tqdm(total=total, unit="msg", disable=not show_progress) as bar:

            def show(_message: RawMessage) -> None:
                bar.update()
                bar.set_postfix(grids=self.report.grids, refresh=False)

            def pass_on(message: RawMessage) -> None:
                writer.write(message.topic, message.type, message.stamp_ns, message.data)

            yield from ready_sets(self._bag, self._pipeline, show, pass_on)

    def _work(self, ready: ReadySet, now_ns: int, output: "_Output") -> None:
        begin_s = time.perf_counter()
        times_ms = {"read": (begin_s - self._since_s) * 1e3}
        if ready.reset is not None:
            self._stream.reset(ready.reset)
        try:
            frame = self._pipeline.frame(ready)
            decoded_s = time.perf_counter()
            occupancy = self._stream.step(frame)
        except (ValueError, NonFiniteError) as error:
            if not isinstance(error, Refused):  # the pipeline has counted those
                self.report.failures[str(error)] += 1
            self._since_s = time.perf_counter()
            return
        stepped_s = time.perf_counter()
        output.write(occupancy, self.report.grids, now_ns, self._pipeline.rig.base_frame)
        self._note(frame, occupancy)
        self._since_s = time.perf_counter()
        times_ms |= {"decode": (decoded_s - begin_s) * 1e3, **occupancy.timings_ms}
        times_ms |= {"write": (self._since_s - stepped_s) * 1e3}
        times_ms |= {"total": times_ms["read"] + (self._since_s - begin_s) * 1e3}
        self.report.add_times(times_ms)

    def _note(self, frame: Frame, occupancy: Occupancy) -> None:
        self.report.grids += 1
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


class _Output:
    """Topics of the new bag, named as the node names them."""

    def __init__(self, writer: BagWriter, options: ReplayOptions, rig_cameras: tuple[str, ...]) -> None:
        self._writer, self._options, self._rig_cameras = writer, options, rig_cameras

    def write_labels(self, labels: Any, now_ns: int) -> None:
        kind = "panoocc/msg/LabelSet"
        self._writer.write("/panoocc/labels", kind, now_ns, fill_label_set(new_message(kind), labels), latched=True)

    def write(self, occupancy: Occupancy, sequence: int, now_ns: int, frame_id: str) -> None:
        voxels, types = occupied_voxels(occupancy), typestore().types
        kind = "panoocc/msg/VoxelGrid"
        grid = fill_voxel_grid(
            new_message(kind),
            occupancy,
            sequence,
            frame_id=frame_id,
            rig_cameras=self._rig_cameras,
            encoding=self._options.encoding,
            with_confidence=self._options.with_confidence,
            voxels=voxels,
        )
        self._writer.write("/panoocc/occupancy", kind, now_ns, grid)
        if self._options.with_points:
            kind, field_class = "sensor_msgs/msg/PointCloud2", types["sensor_msgs/msg/PointField"]
            points = fill_points(new_message(kind), voxels, occupancy.stamp_ns, frame_id, field_class)
            self._writer.write("/panoocc/points", kind, now_ns, points)
        if self._options.with_foxglove:
            kind, field_class = "foxglove_msgs/msg/VoxelGrid", types["foxglove_msgs/msg/PackedElementField"]
            cells = fill_foxglove_grid(new_message(kind), voxels, occupancy.stamp_ns, frame_id, field_class)
            self._writer.write("/panoocc/occupancy_foxglove", kind, now_ns, cells)
