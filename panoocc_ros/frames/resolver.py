"""What a set of images needs beside them: the vehicle's pose and motion, and of every camera its lens and its mount."""

from collections.abc import Mapping
from typing import Any

from panoocc_core.base.rig_files import AUTO
from panoocc_core.cameras.calibration_file import CalibrationFile
from panoocc_core.cameras.lens import same_calibration
from panoocc_core.config import ModelConfig
from panoocc_core.geometry import Matrix, points_up, shift_and_turn
from panoocc_core.types import VehicleMotion

from ..motion.motion_options import MotionOptions
from ..motion.rates import Late, Unusable
from ..motion.sources import MotionSources
from ..streams.edge import TooEarly, TooLate, TransformError, doubted, shown
from ..streams.synchroniser import MessageSet
from ..streams.transforms import NotConnected, TransformBuffer, UnknownFrame, clean_frame
from .rig import Rig
from .sets import NO_CAMERA_INFO, NO_MOTION, CameraPose, ReadySet

DISAGREES = 0.02  # of the focal length: more than a lens trembles
ELSEWHERE_M, ELSEWHERE_DEG = 0.05, 1.0  # beyond these, a network's frame is not where the weights were trained


class Lacking(Exception):
    """A set lacks something that may still come, or (hopeless) will not."""

    def __init__(self, reason: str, camera: str, text: str, cause: Exception | None = None) -> None:
        super().__init__(text)
        self.reason, self.camera, self.text = reason, camera, text
        self.is_hopeless = cause is None or isinstance(cause, TooEarly)
        self.too_late = cause if isinstance(cause, TooLate) else None


class Resolver:
    """Transforms, motion and calibrations as they come, and what of them belongs to a set.

    What a calibration file says counts in place of messages.  Without `config` nothing is held against the network's.
    `map_frame` is the frame that maps lie in, if that is not the vehicle's.
    """

    def __init__(
        self,
        rig: Rig,
        given: CalibrationFile | None,
        config: ModelConfig | None,
        map_frame: str = "",
        sources: MotionOptions | None = None,
        buffer: TransformBuffer | None = None,
    ) -> None:
        self._rig, self._config, self._map_frame = rig, config, map_frame
        self.buffer = TransformBuffer() if buffer is None else buffer
        self.motion = MotionSources(
            sources or MotionOptions(),
            (sources and sources.ego_motion) or ("auto" if config is None else config.ego_motion.rates),
            self.buffer,
            rig.base_frame,
            None if rig.fixed_frame == AUTO else rig.fixed_frame,
            rig.tf_topic,
        )
        self._poses = self.motion.poses
        self.has_static = False  # something has come on the rig's tf_static_topic
        self._given_mounts = {} if given is None else given.mounts
        self._given_network = None if given is None or given.ego_from_network is None else given.ego_from_network.matrix
        self._given_infos = {} if given is None else given.infos
        self._infos: dict[str, Any] = {name: info for name, info in self._given_infos.items() if name in rig.names}
        self._image_frames: dict[str, str] = {}  # header.frame_id, by camera
        self._info_frames: dict[str, str] = {}
        self._foreign: dict[str, tuple[int, str]] = {}  # doubt that a camera's CameraInfo is its own, and why
        self._disagreements: dict[str, str | None] = {}  # with the calibration file

    @property
    def network_frame(self) -> str:
        """Who says where the voxels lie, for a text."""
        if self._given_network is not None:
            return "that of the calibration file"
        return "that of the model preset" if self._rig.network_frame is None else self._rig.network_frame

    @property
    def missing_info(self) -> tuple[str, ...]:
        """The cameras without CameraInfo."""
        return tuple(name for name in self._rig.names if name not in self._infos)

    def info(self, camera: str) -> Any | None:
        """The CameraInfo that counts for a camera now, if there is one."""
        return self._infos.get(camera)

    def on_image(self, camera: str, message: Any) -> str | None:
        """Take the frame of an image; returns what is odd about the camera's CameraInfo, as `on_camera_info` does."""
        self._image_frames[camera] = clean_frame(message.header.frame_id)
        return self._oddity(camera)

    def on_camera_info(self, camera: str, message: Any) -> str | None:
        """Take a CameraInfo; returns how it disagrees with the calibration file or the images' frame, if it does."""
        given = self._given_infos.get(camera)
        if given is not None:
            self._disagreements[camera] = _disagreement(camera, given, message)
            return self._oddity(camera)
        self._info_frames[camera] = clean_frame(message.header.frame_id)
        known = self._infos.get(camera)
        if known is None or not same_calibration(known, message):
            self._infos[camera] = message
        return self._oddity(camera)

    def _oddity(self, camera: str) -> str | None:
        """What is odd about a camera's CameraInfo; of two senders in turn each message would mend the other's."""
        if camera in self._given_infos:
            return self._disagreements.get(camera)
        ours, theirs, topics = self._image_frames.get(camera), self._info_frames.get(camera), self._rig.camera(camera)
        if not ours or not theirs or topics.frame is not None:
            return None
        doubt, text = self._foreign.get(camera, (0, ""))
        if ours != theirs:
            text = (
                f"camera {camera}: its images are of the frame {shown(ours)!r}, its CameraInfo on {topics.info_topic} "
                f"of {shown(theirs)!r}: is that the camera's own info_topic, with one sender? If so, set `frame` in "
                "the rig file"
            )
        doubt = doubted(doubt, ours != theirs)
        self._foreign[camera] = doubt, text
        return text if doubt else None

    def restart(self) -> None:
        """The clock went back: keep what holds for all times, and what has come since."""
        self.buffer.restart()
        self.motion.restart()

    def resolve(self, messages: MessageSet, reset: str | None, may_guess: bool, wants_map: bool = True) -> ReadySet:
        """A set with all that it needs; of cameras without an image nothing is needed.

        Raises:
            Lacking: something is missing; the text names camera, frame or topic.
        """
        for name in messages.messages:
            if name not in self._infos:
                topic = self._rig.camera(name).info_topic
                text = f"camera {name}: no CameraInfo on {topic} yet"
                raise Lacking(NO_CAMERA_INFO, name, text, LookupError())
        try:
            fixed = self._poses.fixed(messages.stamp_ns, may_guess)
            world_from_ego = self._poses.of_vehicle(messages.stamp_ns)
        except TransformError as error:
            raise Lacking(_reason(error), "", f"pose of the vehicle: {error}{self._remedy(error)}", error) from error
        poses = {}
        for name, stamp_ns in messages.stamps_ns.items():
            try:
                ego_from_camera = self._mount(name, messages.messages[name].message, stamp_ns)
                at_shutter = self._poses.of_vehicle(stamp_ns)
            except TransformError as error:
                raise Lacking(_reason(error), name, f"camera {name}: {error}{self._remedy(error)}", error) from error
            poses[name] = CameraPose(stamp_ns, ego_from_camera, at_shutter)
        network = self._ego_from_network(messages.stamp_ns)
        map_from_ego, problem = None, None
        if wants_map and self._map_frame:
            map_from_ego, problem = self._map_from_ego(messages.stamp_ns, may_guess)
        motion, motion_problems = self._motion(messages.stamp_ns, may_guess)
        return ReadySet(
            messages.stamp_ns,
            messages,
            world_from_ego,
            poses,
            dict(self._infos),
            fixed,
            network,
            reset,
            map_from_ego,
            problem,
            motion,
            motion_problems,
        )

    def world_from(self, frame: str, stamp_ns: int, may_guess: bool) -> Matrix:
        """Pose [4, 4] of any frame in the fixed one.

        Raises:
            TransformError: there is none, or not yet; the text says what to do.
        """
        try:
            self._poses.fixed(stamp_ns, may_guess)
            return self._poses.of_frame(frame, stamp_ns)
        except TransformError as error:
            ours = (self._rig.base_frame, self._poses.fixed_frame)
            is_mount = isinstance(error, UnknownFrame) and error.frame not in ours
            no_mounts = "" if self.has_static else f"; nothing has come on {self._rig.tf_static_topic}"
            error.args = (f"{error}{no_mounts if is_mount else self._remedy(error)}",)
            raise

    def doubt_of_network_frame(self, ready: ReadySet) -> str | None:
        """How far the voxels of a set, or a frame that could be theirs, lie from where the weights were trained."""
        config = self._config
        if config is None:
            return None
        if ready.ego_from_network is not None:
            usual = config.grid.network_frame
            remedy = f"is it a {usual}?" if usual else "these weights know the vehicle's frame: name none"
            return self._elsewhere(
                ready.ego_from_network,
                f"the network's frame, {self.network_frame}, lies {{}} from where {config.name} was trained to have "
                f"it, and counts: {remedy}",
            )
        for name in _spellings(config.grid.network_frame):
            try:
                pose = self.buffer.lookup(self._rig.base_frame, name, ready.stamp_ns)
            except TransformError:
                continue
            return self._elsewhere(
                pose,
                f"the frame {name} lies {{}} from where {config.name} takes it to be, and the latter counts: set "
                f"network_frame to {name} in the rig file (--network-frame) if it is the LiDAR's",
            )
        return None

    def _elsewhere(self, pose: Matrix, text: str) -> str | None:
        assert self._config is not None
        shift_m, turn_deg = shift_and_turn(self._config.grid.ego_from_network.matrix, pose)
        if shift_m <= ELSEWHERE_M and turn_deg <= ELSEWHERE_DEG:
            return None
        return text.format(f"{shift_m:.2f} m and {turn_deg:.1f} degrees")

    def _ego_from_network(self, stamp_ns: int) -> Matrix | None:
        """Where the frame of the voxels is [4, 4], if file or rig say so."""
        frame = self._rig.network_frame
        if self._given_network is not None or frame is None:
            return self._given_network
        try:
            return self.buffer.lookup(self._rig.base_frame, frame, stamp_ns)
        except TransformError as error:
            remedy = "; name one that there is as network_frame (--network-frame), or none, to take the preset's pose"
            if not isinstance(error, (UnknownFrame, NotConnected)):
                remedy = self._remedy(error)
            raise Lacking(_reason(error), "", f"network_frame {shown(frame)}: {error}{remedy}", error) from error

    def _map_from_ego(self, stamp_ns: int, may_do_without: bool) -> tuple[Matrix | None, str | None]:
        """The vehicle's pose [4, 4] in the frame of maps, or why it is not to be had; a set need not be lost for it.

        Raises:
            Lacking: it may still come.
        """
        problem = "its z axis does not point up"
        try:
            pose = self._poses.of_vehicle_in(self._map_frame, stamp_ns)
            if points_up(pose):
                return pose, None
        except TransformError as error:
            if isinstance(error, TooLate) and not error.is_stale and not may_do_without:
                raise Lacking(_reason(error), "", f"grid_frame {shown(self._map_frame)}: {error}", error) from error
            problem = str(error)
        return None, (
            f"~/grid_2d is not sent, grid_frame {shown(self._map_frame)}: {problem}; send it, or name another frame "
            f"(--grid-frame), or none, to have it in {self._rig.base_frame}"
        )

    def _mount(self, name: str, image: Any, stamp_ns: int) -> Matrix:
        """ego_from_camera [4, 4]."""
        given = self._given_mounts.get(name)
        if given is not None:
            return given
        frame = self._rig.camera(name).frame or clean_frame(image.header.frame_id)
        if not frame:
            text = f"camera {name}: the image's header.frame_id is empty: set it, or `frame` in the rig file"
            raise Lacking("no_frame_id", name, text)
        return self.buffer.lookup(self._rig.base_frame, frame, stamp_ns)

    def _motion(self, stamp_ns: int, may_do_without: bool) -> tuple[VehicleMotion | None, Mapping[str, str]]:
        """The measured rates, and by topic why some are not among them.

        Raises:
            Lacking: they may still come; or they will not, and have to.
        """
        try:
            return self.motion.rates(stamp_ns, may_do_without)
        except (Late, Unusable) as why:
            cause = why if isinstance(why, Late) else None
            raise Lacking(NO_MOTION, "", f"motion of the vehicle: {why}", cause) from why

    def _remedy(self, error: TransformError) -> str:
        """The end of a sentence: what to do about a transform that is missing."""
        if isinstance(error, UnknownFrame) and error.frame == self._rig.base_frame:
            return "; choose the vehicle's with base_frame (--base-frame)"
        remedy = self._poses.remedy(error)
        if not remedy and isinstance(error, UnknownFrame) and not self.has_static:
            return f"; nothing has come on {self._rig.tf_static_topic}: mounts can be given by a calibration file"
        return remedy


def _spellings(frame: str | None) -> tuple[str, ...]:
    """Converters of data sets keep a sensor's capitals, or do not."""
    return () if frame is None else (frame, frame.upper())


def _reason(error: TransformError) -> str:
    return "tf_too_early" if isinstance(error, TooEarly) else "tf_timeout"


def _disagreement(camera: str, given: Any, message: Any) -> str | None:
    """How a CameraInfo differs from the file's by more than a lens trembles."""
    ours, theirs = (_numbers(info) for info in (given, message))
    limits = (0, 0, *[DISAGREES * ours[2]] * 4)
    if all(abs(a - b) <= limit for a, b, limit in zip(ours, theirs, limits)):
        return None
    texts = [", ".join(f"{number:g}" for number in numbers) for numbers in (theirs, ours)]
    return (
        f"camera {camera}: width, height, fx, fy, cx, cy of its CameraInfo are {texts[0]}, of the calibration file "
        f"{texts[1]}; the file counts"
    )


def _numbers(info: Any) -> list[float]:
    return [float(number) for number in (info.width, info.height, *(info.k[i] for i in (0, 4, 2, 5)))]
