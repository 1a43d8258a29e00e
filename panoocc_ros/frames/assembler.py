"""From messages to frames: one path for the live node and for bags, so that both give the same result.

What a set becomes depends on the stamps alone: sets are formed by the synchroniser, a transform counts only when
samples lie on both sides of the time asked for, and sets leave in order.  Clocks decide merely how long to wait for
what is missing.  Everything that is dropped has a reason, a text and a counter.
"""

import itertools
import os
import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from panoocc_core.config import ModelConfig
from panoocc_core.geometry import NS_PER_S
from panoocc_core.types import CameraImage, Frame

from ..messages.fields import stamp_ns, transforms
from .calibration_file import CalibrationFile
from .camera_info import Calibration, CalibrationError, calibration, same_calibration
from .images import ImageError, decode
from .notices import Notices
from .picture_watch import PictureWatch
from .plausibility import GeometryWatch
from .rig import AUTO, Rig
from .sets import AssemblerOptions, AssemblerStatus, CameraPose, Counters, ReadySet, Refused
from .synchroniser import MessageSet, Synchroniser
from .transforms import ConflictingTransform, TooEarly, TransformBuffer, TransformError, clean_frame
from .upright import quarter_turns, turned

__all__ = ["CameraPose", "FrameAssembler", "AssemblerOptions", "AssemblerStatus", "ReadySet", "Refused"]

FIXED_FRAMES = ("odom", "map", "world")  # REP-105: odom does not jump


@dataclass(slots=True)
class _Waiting:
    messages: MessageSet
    since_ns: int
    lacks: str = "its turn"


class _Lacking(Exception):
    """Something that may still come."""

    def __init__(self, reason: str, camera: str, text: str, hopeless: bool = False) -> None:
        super().__init__(text)
        self.reason, self.camera, self.text, self.hopeless = reason, camera, text, hopeless


class FrameAssembler:
    """Collects messages and hands out complete sets.

    All methods but `frame` belong to one thread; `frame` may run in another one.  `now_ns` is the caller's clock (ROS
    time, or the time of a bag's messages); where it goes back, only waiting starts afresh.
    """

    def __init__(
        self, rig: Rig, options: AssemblerOptions | None = None, calibration: CalibrationFile | None = None
    ) -> None:
        self.rig, self.options = rig, options or AssemblerOptions()
        self._synchroniser = Synchroniser(
            rig.names,
            rig.reference,
            rig.spread_ns,
            period_ns=rig.period_ns,
            offsets_ns={camera.name: camera.shutter_offset_ns for camera in rig.cameras},
            missing=self.options.missing_camera,
            deadline_ns=_ns(self.options.deadline_s),
            silent_ns=_ns(self.options.camera_timeout_s),
            reuse_age_ns=_ns(self.options.reuse_age_s),
        )
        self._buffer = TransformBuffer()
        self._notices = Notices()
        self._pictures = PictureWatch()
        self._geometry = GeometryWatch()
        self._turns: dict[str, int] = {}  # quarter turns by which a camera's pictures are turned upright
        self._mounts = {} if calibration is None else calibration.mounts  # of the file, in place of transforms
        self._given_infos = {} if calibration is None else calibration.infos
        self._infos: dict[str, Any] = {name: info for name, info in self._given_infos.items() if name in rig.names}
        self._calibrations: dict[str, tuple[Any, Calibration]] = {}  # of the thread that calls `frame`
        self._decoders = ThreadPoolExecutor(min(len(rig.names), os.cpu_count() or 1), "decoder")
        self._queue: deque[_Waiting] = deque()
        self._fixed_frame = None if rig.fixed_frame == AUTO else rig.fixed_frame
        self._reset: str | None = None
        self._settled = True  # a set came out since the last jump
        self._clock_ns, self._lag_ns = -(2**62), 0
        self._counters = Counters()
        self._lock = threading.Lock()

    def on_image(self, camera: str, message: Any, now_ns: int) -> None:
        """Take a sensor_msgs Image or CompressedImage of `camera`."""
        stamp, epoch = stamp_ns(message.header.stamp), self._synchroniser.epoch
        self._counters.images[camera] += 1
        sets = self._synchroniser.add(camera, stamp, message, self._now(now_ns))
        if self._synchroniser.epoch != epoch:
            self._buffer.clear()
            self._restart("the stamps of the images went back")
        self._enqueue(sets)

    def on_camera_info(self, camera: str, message: Any) -> None:
        """Take a sensor_msgs CameraInfo of `camera`; it serves until another calibration comes."""
        if camera in self._given_infos:
            return
        known = self._infos.get(camera)
        if known is None or not same_calibration(known, message):
            self._infos[camera] = message

    def on_transforms(self, message: Any, static: bool) -> None:
        """Take a tf2_msgs TFMessage of /tf or /tf_static."""
        for parent, child, stamp, matrix in transforms(message):
            try:
                went_back = self._buffer.set(parent, child, stamp, matrix, static)
                if went_back and self._settled and self._carries_base(child):
                    self._synchroniser.clear()
                    self._buffer.clear()
                    self._restart("the stamps of the transforms went back")
                    self._buffer.set(parent, child, stamp, matrix, static)
            except (ConflictingTransform, ValueError) as error:
                self._counters.transform_drops["refused"] += 1
                self._notices.note("refused", clean_frame(child), str(error), self._clock_ns)

    def poll(self, now_ns: int) -> ReadySet | None:
        """The oldest set that has everything, or None; call it until it returns None, and from time to time."""
        now = self._now(now_ns)
        self._enqueue(self._synchroniser.expire(now))
        return self._next_ready(now - _ns(self.options.tf_timeout_s), now - _ns(self.options.tf_timeout_s / 2))

    def finish(self) -> list[ReadySet]:
        """The sets that are ready when nothing more will come (the end of a bag); the others are dropped."""
        self._enqueue(self._synchroniser.flush())
        ready = []
        while (one := self._next_ready(2**62, 2**62)) is not None:
            ready.append(one)
        return ready

    def clear(self, reason: str) -> None:
        """Forget everything that moves, as after a jump of the clock that the caller has seen."""
        self._synchroniser.clear()
        self._buffer.clear()
        self._restart(reason)

    def frame(self, ready: ReadySet) -> Frame:
        """Decode the images of a set.

        Raises:
            Refused: an image or a calibration cannot be used; it is counted, and the text names the camera.
        """
        try:
            # OpenCV lets go of Python's lock while it decodes.
            cameras = tuple(self._decoders.map(lambda name: self._camera_image(name, ready), self.rig.names))
            return Frame(ready.stamp_ns, ready.world_from_ego, cameras)
        except Refused as refusal:
            self._drop(refusal.reason, refusal.camera, str(refusal))
            raise

    def judge_geometry(self, frame: Frame, config: ModelConfig) -> tuple[str, ...] | None:
        """Warnings about mounts and intrinsics, where they are new or have become others; else None.

        Of the thread that calls `frame`.  An empty tuple says that they are plausible.
        """
        return self._geometry.warnings if self._geometry.look(frame, config, self._turns) else None

    def status(self, now_ns: int) -> AssemblerStatus:
        """A copy of the counters."""
        silent = self._synchroniser.silent(self._now(now_ns))
        with self._lock:
            drops = Counter(self._counters.set_drops)
        for camera, count in self._synchroniser.sets_dropped.items():
            drops["missing_camera", camera] += count
        return AssemblerStatus(
            images=Counter(self._counters.images),
            sets=self._counters.sets,
            ready=self._counters.ready,
            image_drops=Counter(self._synchroniser.images_dropped),
            set_drops=drops,
            resets=Counter(self._counters.resets),
            blank=Counter(self._counters.blank),
            reused=Counter(self._counters.reused),
            waiting=len(self._queue),
            transform_drops=Counter(self._counters.transform_drops),
            collecting=self._synchroniser.undecided,
            images_waiting=self._synchroniser.waiting,
            waiting_for=self._queue[0].lacks if self._queue else None,
            last_drop=self._counters.last_drop,
            tf_missing=self._counters.tf_missing,
            notices=self._notices.read(self._clock_ns),
            silent={name: None if age is None else age / NS_PER_S for name, age in silent.items()},
            missing_info=tuple(name for name in self.rig.names if name not in self._infos),
            fixed_frame=self._fixed_frame,
            geometry=self._geometry.warnings,
            pictures=self._pictures.findings(),
            odd_pictures=self._pictures.sets(),
        )

    def close(self) -> None:
        """End the threads that decode; `frame` can be called no more."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _now(self, now_ns: int) -> int:
        if now_ns + self._lag_ns < self._clock_ns:
            self._lag_ns = self._clock_ns - now_ns  # the caller's clock went back; ours does not
        self._clock_ns = now_ns + self._lag_ns
        return self._clock_ns

    def _enqueue(self, sets: list[MessageSet]) -> None:
        for messages in sets:
            self._counters.sets += 1
            self._queue.append(_Waiting(messages, self._clock_ns))
            if len(self._queue) > self.options.max_waiting:
                lacks = self._queue.popleft().lacks
                self._drop("queue_full", "", f"too many sets wait; the oldest one waited for {lacks}")

    def _restart(self, reason: str) -> None:
        for _ in self._queue:
            self._drop("clock_back", "", reason)
        self._queue.clear()
        self._settled = False
        self._reset = reason
        self._counters.resets[reason] += 1
        if self.rig.fixed_frame == AUTO:
            self._fixed_frame = None

    def _next_ready(self, timeout_before_ns: int, guess_before_ns: int) -> ReadySet | None:
        while self._queue:
            waiting = self._queue[0]
            try:
                ready = self._resolve(waiting.messages, may_guess=waiting.since_ns <= guess_before_ns)
            except _Lacking as lacking:
                waiting.lacks = lacking.text
                if not lacking.hopeless and waiting.since_ns > timeout_before_ns:
                    return None
                self._queue.popleft()
                self._drop(lacking.reason, lacking.camera, lacking.text)
                if lacking.reason.startswith("tf_"):
                    self._counters.tf_missing = lacking.text
                continue
            self._queue.popleft()
            self._reset, self._settled = None, True
            self._counters.ready += 1
            self._counters.tf_missing = None
            self._counters.blank.update(ready.messages.blank)
            self._counters.reused.update(ready.messages.reused)
            return ready
        return None

    def _resolve(self, messages: MessageSet, may_guess: bool) -> ReadySet:
        for name in self.rig.names:
            if name not in self._infos:
                topic = self.rig.camera(name).info_topic
                raise _Lacking("no_camera_info", name, f"camera {name}: no CameraInfo on {topic} yet")
        poses = {}
        try:
            fixed = self._fixed(may_guess)
            world_from_ego = self._buffer.lookup(fixed, self.rig.base_frame, messages.stamp_ns)
        except TransformError as error:
            raise _Lacking(
                _tf_reason(error), "", f"pose of the vehicle: {error}", isinstance(error, TooEarly)
            ) from error
        for name in self.rig.names:
            stamp = messages.stamps_ns.get(name, messages.stamp_ns)
            frame = self._optical_frame(name, messages.messages.get(name))
            try:
                ego_from_camera = self._mounts.get(name)
                if ego_from_camera is None:
                    ego_from_camera = self._buffer.lookup(self.rig.base_frame, frame, stamp)
                poses[name] = CameraPose(stamp, ego_from_camera, self._buffer.lookup(fixed, self.rig.base_frame, stamp))
            except TransformError as error:
                raise _Lacking(
                    _tf_reason(error), name, f"camera {name}: {error}", isinstance(error, TooEarly)
                ) from error
        return ReadySet(messages.stamp_ns, messages, world_from_ego, poses, dict(self._infos), fixed, self._reset)

    def _optical_frame(self, name: str, message: Any) -> str:
        source = self._infos[name] if message is None else message
        frame = self.rig.camera(name).frame or clean_frame(source.header.frame_id)
        if not frame:
            text = f"camera {name}: the image's header.frame_id is empty: set it, or `frame` in the rig file"
            raise _Lacking("no_frame_id", name, text, hopeless=True)
        return frame

    def _fixed(self, may_guess: bool) -> str:
        """The frame that counts as not moving; "auto" waits for a usual name before it takes just any."""
        if self._fixed_frame is None:
            chain = self._buffer.ancestors(self.rig.base_frame)
            usual = [frame for frame in FIXED_FRAMES if frame in chain]
            moved_in = [parent for child, parent in itertools.pairwise(chain) if self._buffer.is_moving(child)]
            if not usual and not (moved_in and may_guess):
                raise TransformError(
                    f"above {self.rig.base_frame!r} there is none of {', '.join(FIXED_FRAMES)}, only {chain[1:]}: "
                    "send the vehicle's pose on /tf, or set fixed_frame"
                )
            self._fixed_frame = usual[0] if usual else moved_in[0]
        return self._fixed_frame

    def _carries_base(self, child: str) -> bool:
        try:
            return clean_frame(child) in self._buffer.ancestors(self.rig.base_frame)
        except TransformError:
            return False

    def _camera_image(self, name: str, ready: ReadySet) -> CameraImage:
        pose, message = ready.poses[name], ready.messages.messages.get(name)
        try:
            lens = self._calibration(name, ready.infos[name])
            image = _blank(lens, name) if message is None else lens.rectify(decode(message, lens.size_hw))
            if message is not None:
                self._pictures.look(name, pose.stamp_ns, image, pose.world_from_ego)
            turn = np.eye(4)
            turn[:3, :3] = lens.camera_from_rectified
            ego_from_camera = pose.ego_from_camera @ turn
            turns = self._turns[name] = quarter_turns(ego_from_camera)
            image, intrinsics, ego_from_camera = turned(image, lens.intrinsics, ego_from_camera, turns)
            return CameraImage(
                name=name,
                stamp_ns=pose.stamp_ns,
                image=torch.from_numpy(image),
                intrinsics=intrinsics,
                ego_from_camera=ego_from_camera,
                world_from_ego=pose.world_from_ego,
                is_blank=message is None,
            )
        except ImageError as error:
            raise Refused("image", name, f"{error} (topic {self.rig.camera(name).topic})") from error
        except CalibrationError as error:
            raise Refused("camera_info", name, f"{error} (topic {self.rig.camera(name).info_topic})") from error
        except ValueError as error:
            raise Refused("frame", name, str(error)) from error

    def _calibration(self, name: str, info: Any) -> Calibration:
        known = self._calibrations.get(name)
        if known is None or known[0] is not info:
            known = self._calibrations[name] = (info, calibration(info, self.rig.camera(name).is_rectified))
        return known[1]

    def _drop(self, reason: str, camera: str, text: str) -> None:
        with self._lock:
            self._counters.set_drops[reason, camera] += 1
            self._counters.last_drop = text


def _blank(lens: Calibration, name: str) -> Any:
    if lens.size_hw is None:
        raise CalibrationError(f"height and width are zero, so that {name} cannot be blank")
    return np.zeros((*lens.size_hw, 3), dtype=np.uint8)


def _tf_reason(error: TransformError) -> str:
    return "tf_too_early" if isinstance(error, TooEarly) else "tf_timeout"


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
