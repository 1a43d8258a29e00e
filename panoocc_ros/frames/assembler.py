"""From messages to frames: one path for the live node and for bags, so that both give the same result.

What a set becomes depends on the stamps alone: sets are formed by the synchroniser, a transform counts only when
samples lie on both sides of the time asked for, and sets leave in order.  Clocks decide merely how long to wait for
what is missing.  Everything that is dropped has a reason, a text and a counter.
"""

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from panoocc_core.cameras.calibration_file import CalibrationFile
from panoocc_core.config import ModelConfig
from panoocc_core.cuda.staging import SideUploads
from panoocc_core.geometry import NS_PER_S, Matrix
from panoocc_core.types import Frame

from ..installed.approximate import ApproximateSynchroniser
from ..installed.tf2_transforms import Tf2Transforms
from ..messages.fields import StampedTransform, stamp_ns, transforms
from ..streams.edge import TooLate, shown
from ..streams.notices import Notices
from ..streams.synchroniser import MessageSet, Synchroniser
from ..streams.transforms import TransformBuffer, clean_frame
from .decoder import FrameDecoder
from .picture_watch import PictureWatch
from .plausibility import GeometryWatch
from .resolver import Lacking, Resolver
from .rig import Rig
from .sets import NO_CAMERA_INFO, NO_MOTION, REFUSED, AssemblerStatus, Counters, ReadySet, Refused
from .stand_ins import StandIns
from .waiting import AssemblerOptions

MAX_TRANSFORMS = 1000  # of one message
MAX_GUESS_WAIT_S = 0.25  # for a fixed frame with a usual name
CLOCK_UNKNOWN = -(2**62)
SYNCHRONISERS: dict[str, Callable[..., Synchroniser | ApproximateSynchroniser]] = {
    "own": Synchroniser,
    "approximate": ApproximateSynchroniser,
}
BUFFERS: dict[str, Callable[[], TransformBuffer]] = {"own": TransformBuffer, "tf2": Tf2Transforms}
IMAGES_WENT_BACK = "the stamps of the images went back"


@dataclass(slots=True)
class _Waiting:
    messages: MessageSet
    since_ns: int
    lacks: str = "its turn"


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """The last set that was lost for want of a transform."""

    wanted: TooLate
    at_ns: int


class FrameAssembler:
    """Collects messages and hands out complete sets.

    All methods but `frame` belong to one thread; `frame` may run in another one.  `now_ns` is when a message came, by
    any clock (ROS time, or the time at which a bag has it); where it goes back, only waiting starts afresh.  With
    `AssemblerOptions.patient` no clock ends the waiting.  `config` is that of the network: with it, a frame of the
    voxels that the weights do not know is noticed, and images are made as small as the network allows.  `map_frame`:
    sets bring the vehicle's pose in this frame too, where it comes soon enough.  `gives_way`, `uploads`: see
    `FrameDecoder`.
    """

    def __init__(
        self,
        rig: Rig,
        options: AssemblerOptions | None = None,
        calibration: CalibrationFile | None = None,
        config: ModelConfig | None = None,
        map_frame: str = "",
        gives_way: bool = False,
        uploads: SideUploads | None = None,
    ) -> None:
        self.rig, self.options = rig, options or AssemblerOptions()
        self._notices = Notices()
        self._synchroniser = SYNCHRONISERS[self.options.sync_policy](
            rig.names,
            rig.reference,
            rig.spread_ns,
            period_ns=rig.period_ns,
            offsets_ns={camera.name: camera.shutter_offset_ns for camera in rig.cameras},
            missing=self.options.missing_camera,
            deadline_ns=_ns(self.options.deadline_s),
            silent_ns=_ns(self.options.camera_timeout_s),
            reuse_age_ns=_ns(self.options.reuse_age_s),
            depth=2 * self.options.max_waiting,
            notices=self._notices,
        )
        self._resolver = Resolver(
            rig, calibration, config, map_frame, self.options, BUFFERS[self.options.transform_source]()
        )
        self._pictures, self._geometry = PictureWatch(), GeometryWatch()
        self._decoder = FrameDecoder(rig, self._pictures, None if config is None else config.images, gives_way, uploads)
        self._stand_ins = StandIns(self.options.missing_camera, _ns(self.options.reuse_age_s))
        self._is_set_unused = False  # the newest that was handed out: whoever works on sets does not keep up
        self._without_info: set[str] = set()  # cameras whose CameraInfo no set waits for any more
        self._queue: deque[_Waiting] = deque()
        self._reset: str | None = None
        self._given_up: _GivenUp | None = None
        self._clock_ns, self._lag_ns = CLOCK_UNKNOWN, 0
        self._counters = Counters()
        self._lock = threading.Lock()

    def take_options(self, options: AssemblerOptions) -> None:
        """Wait otherwise from now on; `camera_timeout_s` stays as it was."""
        self.options = replace(options, camera_timeout_s=self.options.camera_timeout_s)
        synchroniser = self._synchroniser
        synchroniser.deadline_ns = _ns(options.deadline_s)
        synchroniser.missing = self._stand_ins.policy = options.missing_camera
        synchroniser.reuse_age_ns = self._stand_ins.reuse_age_ns = _ns(options.reuse_age_s)
        synchroniser.depth = 2 * options.max_waiting

    @property
    def sets_formed(self) -> int:
        """How many sets of images there have been, whatever became of them."""
        return self._counters.sets

    @property
    def has_waiting(self) -> bool:
        """Whether a set has its images, and lacks a transform or a CameraInfo."""
        return bool(self._queue)

    @property
    def network_frame(self) -> str:
        """Who says where the voxels lie, for a text."""
        return self._resolver.network_frame

    def on_image(self, camera: str, message: Any, now_ns: int) -> None:
        """Take a sensor_msgs Image or CompressedImage of `camera`."""
        restarts = self._synchroniser.restarts
        self._counters.images[camera] += 1
        picture = self._decoder.take(camera, message, None if self._is_set_unused else self._resolver.info(camera))
        sets = self._synchroniser.add(camera, stamp_ns(message.header.stamp), picture, self._now(now_ns))
        self._note_or_clear("calibration", camera, self._resolver.on_image(camera, message))
        if self._synchroniser.restarts != restarts:
            self._begin_anew()
        self._enqueue(sets)

    def on_camera_info(self, camera: str, message: Any) -> None:
        """Take a sensor_msgs CameraInfo of `camera`; it serves until another calibration comes."""
        if camera in self._without_info:
            self._without_info.clear()  # those of the others may be on their way too
        self._note_or_clear("calibration", camera, self._resolver.on_camera_info(camera, message))

    def await_no_info(self) -> None:
        """No set waits for the CameraInfo of a camera that has sent none so far: it is known that none will come."""
        self._without_info.update(self._resolver.missing_info)

    def on_transforms(self, message: Any, static: bool) -> None:
        """Take a tf2_msgs TFMessage of the rig's tf_topic or tf_static_topic."""
        self._resolver.has_static |= static
        if not static:
            self._counters.transforms_ns = self._clock_ns
        surplus = len(message.transforms) - MAX_TRANSFORMS
        if surplus > 0:
            self._counters.transform_drops["refused"] += surplus
            text = f"a message of {len(message.transforms)} transforms: only the first {MAX_TRANSFORMS} are taken"
            self._notices.note("refused", "", text, self._clock_ns)
        for item in itertools.islice(transforms(message), MAX_TRANSFORMS):
            self._take(item, static)

    def on_odometry(self, message: Any) -> None:
        """Take a nav_msgs/Odometry of the option `odometry_topic`."""
        topic = self.options.odometry_topic
        odd = self._told_if_refused(topic, lambda: self._resolver.motion.on_odometry(message))
        self._note_or_clear("contradiction", topic, odd)
        if self.options.pose_source == "odometry":
            stamp = stamp_ns(message.header.stamp)
            self._say_how_late(clean_frame(message.child_frame_id), f"the odometry on {topic}", stamp)

    def on_imu(self, message: Any) -> None:
        """Take a sensor_msgs/Imu of the option `imu_topic`."""
        self._told_if_refused(self.options.imu_topic, lambda: self._resolver.motion.on_imu(message))

    def world_from(self, frame: str, stamp_ns: int, may_guess: bool = False) -> Matrix:
        """Pose [4, 4] of any frame at a time, in the frame through which history is fused.

        Args:
            may_guess: take any moving frame above the vehicle's for that one, where no set has chosen it yet.

        Raises:
            TransformError: there is none, or not yet; the text says what to do.
        """
        return self._resolver.world_from(frame, stamp_ns, may_guess)

    def poll(self, now_ns: int, wants_map: bool = True) -> ReadySet | None:
        """The oldest set that has everything, or None; call it until it returns None, and from time to time.

        Args:
            wants_map: sets bring, and wait for, the vehicle's pose in `map_frame`.
        """
        now = self._now(now_ns)
        self._enqueue(self._synchroniser.expire(now))
        timeout_s = self.options.tf_timeout_s
        return self._next_ready(now - _ns(timeout_s), now - _ns(min(timeout_s / 2, MAX_GUESS_WAIT_S)), wants_map)

    def finish(self) -> list[ReadySet]:
        """The sets that are ready when nothing more will come (the end of a bag); the others are dropped."""
        self._enqueue(self._synchroniser.flush())
        ready = []
        while (one := self._next_ready(2**62, 2**62)) is not None:
            ready.append(one)
        return ready

    def frame(self, ready: ReadySet) -> Frame:
        """The frame of a set, with its images decoded.  One that cannot be used is refused: it is as good as missing.

        Raises:
            Refused: no frame can be made without it, as `missing_camera` says; the text names the camera.
        """
        self._is_set_unused = False
        decoded = self._decoder.images(ready)
        refused = {name: str(one) for name, one in decoded.items() if isinstance(one, Refused)}
        self._note_refused(refused, decoded.keys() - refused.keys())
        try:
            cameras = self._stand_ins.fill(ready, self.rig.names, decoded)
        except Refused as refusal:
            self._drop(refusal.reason, refusal.camera, str(refusal))
            raise
        with self._lock:
            for camera in cameras:
                if camera.name in refused:
                    (self._counters.blank if camera.is_blank else self._counters.reused)[camera.name] += 1
        return Frame(ready.stamp_ns, ready.world_from_ego, cameras, ready.motion, ready.ego_from_network)

    def judge_geometry(self, frame: Frame, config: ModelConfig) -> tuple[str, ...] | None:
        """Warnings about mounts and intrinsics, where they are new or have become others; else None.

        Of the thread that calls `frame`.  An empty tuple says that they are plausible.
        """
        return self._geometry.warnings if self._geometry.look(frame, config, self._decoder.turns) else None

    def close(self) -> None:
        """End the threads that decode; `frame` can be called no more."""
        self._decoder.close()

    def status(self, now_ns: int) -> AssemblerStatus:
        """A copy of the counters."""
        now, came_ns = self._now(now_ns), self._counters.transforms_ns
        with self._lock:
            drops, texts = Counter(self._counters.set_drops), dict(self._counters.last_texts)
            refused = Counter(self._counters.refused)
            blank, reused = Counter(self._counters.blank), Counter(self._counters.reused)
        for camera, count in self._synchroniser.sets_dropped.items():
            drops["missing_camera", camera] += count
            texts["missing_camera", camera] = self._synchroniser.last_texts[camera]
        return AssemblerStatus(
            images=Counter(self._counters.images),
            sets=self._counters.sets,
            ready=self._counters.ready,
            image_drops=self._synchroniser.images_dropped + refused,
            set_drops=drops,
            motion_drops=self._resolver.motion.counts,
            transform_drops=self._counters.transform_drops + self._resolver.buffer.counts,
            resets=Counter(self._counters.resets),
            waiting=len(self._queue),
            collecting=self._synchroniser.undecided,
            waiting_for=self._waiting_for(),
            last_drop=self._counters.last_drop,
            last_texts=texts,
            tf_missing=self._counters.tf_missing,
            notices=self._notices.read(now),
            blank=blank,
            reused=reused,
            spread_ns=self._counters.spread_ns,
            transforms_age_s=None if came_ns is None else (now - came_ns) / NS_PER_S,
            missing_info=self._resolver.missing_info,
            fixed_frame=self._resolver.motion.poses.fixed_frame,
            pose_source=self._resolver.motion.pose_source,
            network_frame=self.network_frame,
            geometry=self._geometry.warnings,
            pictures=self._pictures.findings(),
            converted=dict(self._decoder.converted),
            odd_pictures=self._pictures.sets(),
        )

    def _now(self, now_ns: int) -> int:
        if self._clock_ns == CLOCK_UNKNOWN:
            self._notices.date(now_ns)
            if self._counters.transforms_ns is not None:
                self._counters.transforms_ns = now_ns
        if now_ns + self._lag_ns < self._clock_ns:
            self._lag_ns = self._clock_ns - now_ns  # the caller's clock went back; ours does not
        self._clock_ns = now_ns + self._lag_ns
        return self._clock_ns

    def _take(self, item: StampedTransform, static: bool) -> None:
        child, name = clean_frame(item.child), f"{shown(item.parent)} <- {shown(item.child)}"
        try:
            if item.parent_from_child is None:
                raise ValueError(f"it {item.problem}")
            contradiction = self._resolver.buffer.set(
                item.parent, item.child, item.stamp_ns, item.parent_from_child, static
            )
        except ValueError as error:
            text = f"the transform {name} was refused: {error}"
            self._counters.transform_drops["refused"] += 1
            self._resolver.buffer.refuse(child, text)
            self._notices.note("refused", shown(child), text, self._clock_ns)
            return
        self._notices.clear("refused", shown(child))
        self._note_or_clear("contradiction", shown(child), contradiction)
        self._say_how_late(child, f"the transform {name}", item.stamp_ns)

    def _told_if_refused(self, topic: str, take: Callable[[], str | None]) -> str | None:
        """What `take` returns; a message that it refuses is told, as long as no good one comes."""
        try:
            odd = take()
        except ValueError as error:
            self._notices.note("refused", topic, f"a message on {topic} was refused: {error}", self._clock_ns)
            return None
        self._notices.clear("refused", topic)
        return odd

    def _say_how_late(self, child: str, name: str, stamp: int) -> None:
        """Tell how long ago the set was lost that this transform would have saved."""
        given_up = self._given_up
        if given_up is None or given_up.wanted.child != child or stamp < given_up.wanted.stamp_ns:
            return
        seconds = (self._clock_ns - given_up.at_ns) / NS_PER_S
        text = f"{name} came {seconds:.2f} s after the set was given up that needed it"
        self._notices.note("late_transform", shown(child), text, self._clock_ns)
        self._counters.last_drop, self._given_up = text, None

    def _note_or_clear(self, kind: Any, subject: str, text: str | None) -> None:
        if text is None:
            self._notices.clear(kind, subject)
        else:
            self._notices.note(kind, subject, text, self._clock_ns)

    def _enqueue(self, sets: list[MessageSet]) -> None:
        if self._synchroniser.last_drop is not None:
            self._counters.last_drop, self._synchroniser.last_drop = self._synchroniser.last_drop, None
        for messages in sets:
            self._counters.sets += 1
            self._queue.append(_Waiting(messages, self._clock_ns))
        while sets and len(self._queue) > max(self.options.max_waiting, len(sets)):
            lacks = self._queue.popleft().lacks
            self._drop("queue_full", "", f"more sets wait than max_waiting; the oldest one waited for {lacks}")

    def _begin_anew(self) -> None:
        self._resolver.restart()
        for _ in self._queue:
            self._drop("clock_back", "", IMAGES_WENT_BACK)
        self._queue.clear()
        self._given_up = None
        self._reset = IMAGES_WENT_BACK
        self._counters.resets[IMAGES_WENT_BACK] += 1

    def _waiting_for(self) -> str | None:
        if self._queue:
            return self._queue[0].lacks
        awaited = self._synchroniser.awaited
        return f"images of {', '.join(awaited)}" if awaited else None

    def _next_ready(self, timeout_before_ns: int, guess_before_ns: int, wants_map: bool = True) -> ReadySet | None:
        while self._queue:
            waiting = self._queue[0]
            may_guess = waiting.since_ns <= guess_before_ns
            messages = self._with_infos(waiting.messages)
            try:
                ready = self._resolver.resolve(messages, self._reset, may_guess, wants_map)
            except Lacking as lacking:
                waiting.lacks = lacking.text
                if not lacking.is_hopeless and waiting.since_ns > timeout_before_ns:
                    return None
                if lacking.reason == NO_CAMERA_INFO and lacking.camera not in self._without_info:
                    self._without_info.add(lacking.camera)
                    continue
                self._queue.popleft()
                self._give_up(lacking)
                continue
            self._queue.popleft()
            self._count_without_info(waiting.messages.messages.keys() - messages.messages.keys())
            self._note_or_clear("network_frame", "", self._resolver.doubt_of_network_frame(ready))
            self._note_or_clear("grid_frame", "", ready.map_problem)
            for topic in (self.options.imu_topic, self.options.odometry_topic):
                self._note_or_clear("motion", topic, ready.motion_problems.get(topic))
            self._reset, self._is_set_unused = None, True
            self._counters.ready += 1
            self._counters.spread_ns = ready.messages.spread_ns
            self._counters.tf_missing = None
            with self._lock:
                self._counters.blank.update(ready.messages.blank)
                self._counters.reused.update(ready.messages.reused)
            return ready
        return None

    def _with_infos(self, messages: MessageSet) -> MessageSet:
        """A set without the images of cameras whose CameraInfo is not awaited: they are as good as missing."""
        unusable = self._without_info & messages.messages.keys()
        if self.options.missing_camera == "drop" or unusable == messages.messages.keys():
            return messages
        return messages.without(unusable) if unusable else messages

    def _count_without_info(self, cameras: Iterable[str]) -> None:
        with self._lock:
            self._counters.refused.update((NO_CAMERA_INFO, camera) for camera in cameras)

    def _note_refused(self, refused: Mapping[str, str], good: Iterable[str]) -> None:
        for camera, text in refused.items():
            self._notices.note("unusable", camera, text, self._clock_ns)
        for camera in good:
            self._notices.clear("unusable", camera)
        with self._lock:
            self._counters.refused.update((REFUSED, camera) for camera in refused)
            self._counters.last_texts |= {(REFUSED, camera): text for camera, text in refused.items()}

    def _give_up(self, lacking: Lacking) -> None:
        self._drop(lacking.reason, lacking.camera, lacking.text)
        if lacking.reason.startswith("tf_") or lacking.reason == NO_MOTION:
            self._counters.tf_missing = lacking.text
        if lacking.too_late is not None:
            self._given_up = _GivenUp(lacking.too_late, self._clock_ns)

    def _drop(self, reason: str, camera: str, text: str) -> None:
        with self._lock:
            self._counters.set_drops[reason, camera] += 1
            self._counters.last_drop = self._counters.last_texts[reason, camera] = text


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
