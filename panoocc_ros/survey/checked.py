"""A rig held against what came: every camera by itself, in time, in the tree of frames, and in what it sees."""

import difflib
from dataclasses import replace

import numpy as np

from panoocc_core.cameras.calibration_file import CalibrationFile
from panoocc_core.config import ModelConfig
from panoocc_core.geometry import Matrix
from panoocc_core.types import Frame

from ..frames.resolver import Resolver
from ..frames.rig import Rig
from ..messages.types import IMAGE_TYPES, ODOMETRY
from ..motion.motion_options import MotionOptions
from ..streams.edge import TransformError, shown
from ..streams.transforms import TransformBuffer
from .findings import CameraReport, RigReport
from .intake import Intake
from .judging.camera import judge_camera, named
from .judging.silence import judge_silence
from .judging.times import judge_sets, judge_times
from .judging.views import judge_views
from .tree import KEEP_NS, fill, vehicle_frame


def topics_of(rig: Rig, sources: MotionOptions) -> set[str]:
    """All that a rig and the sources of the vehicle's motion name."""
    cameras = {topic for camera in rig.cameras for topic in (camera.topic, camera.info_topic)}
    return {*cameras, rig.tf_topic, rig.tf_static_topic, sources.odometry_topic} - {""}


def checked(
    intake: Intake,
    rig: Rig,
    config: ModelConfig,
    given: CalibrationFile | None = None,
    sources: MotionOptions | None = None,
) -> RigReport:
    """The report on a rig.

    Args:
        config: the network's, whose grid and crop the views are of, and whose cameras are wanted.
        given: what counts in place of messages.
        sources: where the vehicle's pose comes from; None: from the transforms.
    """
    report, sources = RigReport([]), sources or MotionOptions()
    missing = [name for name in config.cameras if name not in rig.names]
    if missing:
        report.fault(
            f"{config.name} takes {', '.join(missing)}, which the rig lacks (it has {', '.join(rig.names)}): name the "
            "rig's cameras after the network's, or choose another network with --model"
        )
    present = tuple(name for name in config.cameras if name in rig.names) or rig.names
    rig = rig.select(present)
    report.reference = rig.reference
    if not any(intake.stamps_ns(camera.topic) for camera in rig.cameras):
        report.cameras = [CameraReport(camera.name, camera.topic) for camera in rig.cameras]
        others = named(topic for topic, kind in intake.topics.items() if kind in IMAGE_TYPES)
        report.fault(
            f"no image came on any topic of the rig ({named(camera.topic for camera in rig.cameras)}); images are "
            f"on {others}: do the drivers run, is it the right rig file? `panoocc rig make` writes one"
        )
        return report
    buffer, mounts, infos = TransformBuffer(KEEP_NS), {}, {}
    if given is not None:
        mounts, infos = given.mounts, given.infos
    for text in fill(buffer, intake, lambda topic: topic == rig.tf_static_topic):
        report.fault(text)
    if sources.pose_source == "tf" or any(name not in mounts for name in rig.names):
        rig = _with_known_base(report, rig, intake, buffer)
    resolver = Resolver(replace(rig, network_frame=None), given, config, "", sources, buffer)
    resolver.has_static = rig.tf_static_topic in intake.heard
    for text in intake.cuts:
        report.note(text)
    _take_odometry(report, intake, resolver, sources)
    for name in rig.names:
        given_of = mounts.get(name), infos.get(name)
        report.cameras.append(judge_camera(report, rig, name, intake, buffer, *given_of))
    frame = _frame(report, None if given is None or given.ego_from_network is None else given.ego_from_network.matrix)
    # What explains more comes first: cameras that are exchanged, then what fell silent.
    exchanged = () if frame is None else judge_views(report, frame, config)
    _judge_motion(report, rig, intake, resolver)
    silent = judge_silence(report, rig, intake, sources)
    judge_sets(report, rig, intake, resolver)
    judge_times(report, rig, intake, silent, exchanged)
    return report


def checked_frame(frame: Frame, config: ModelConfig) -> RigReport:
    """The report on one set of images, which has neither times nor transforms."""
    report = RigReport([CameraReport(camera.name, image=camera) for camera in frame.cameras])
    judge_views(report, frame, config)
    return report


def _frame(report: RigReport, ego_from_network: Matrix | None) -> Frame | None:
    """The newest pictures of all cameras that have one, each in the vehicle's frame at its own shutter."""
    images = tuple(camera.image for camera in report.cameras if camera.image is not None)
    return Frame(0, np.eye(4), images, ego_from_network=ego_from_network) if images else None


def _with_known_base(report: RigReport, rig: Rig, intake: Intake, buffer: TransformBuffer) -> Rig:
    """The rig, or where no transform names its base_frame the same one with the frame that is probably meant."""
    if rig.base_frame in buffer.frames:
        return rig
    near = difflib.get_close_matches(rig.base_frame, buffer.frames, n=1)
    frames = [camera.frame or heard.frame for camera in rig.cameras if (heard := intake.heard.get(camera.topic))]
    stamps = sorted(stamp for camera in rig.cameras for stamp in intake.stamps_ns(camera.topic))
    meant = near[0] if near else vehicle_frame(buffer, frames, stamps[len(stamps) // 2])
    if meant is None:
        return rig
    report.fault(
        f"base_frame: no transform names {shown(rig.base_frame)}, is {shown(meant)} meant? Correct it in the rig file; "
        "all else is checked as if it were"
    )
    return replace(rig, base_frame=meant)


def _judge_motion(report: RigReport, rig: Rig, intake: Intake, resolver: Resolver) -> None:
    """Whether the vehicle's pose in the frame that does not move is there; the cameras' chains go on up to it."""
    stamps = sorted(stamp for camera in rig.cameras for stamp in intake.stamps_ns(camera.topic))
    if not stamps:
        return
    at_ns = stamps[len(stamps) // 2]
    try:
        resolver.world_from(rig.base_frame, at_ns, may_guess=True)
    except TransformError as error:
        topics = named(topic for topic, kind in intake.topics.items() if kind == ODOMETRY)
        odometry = "" if topics == "none" else f"; there is odometry on {topics}: --pose-source odometry takes one"
        report.fault(f"no pose of the vehicle from {resolver.motion.pose_source}: {error}{odometry}")
        return
    fixed_frame = resolver.motion.poses.fixed_frame
    assert fixed_frame is not None
    try:
        above = resolver.buffer.chain(fixed_frame, rig.base_frame, at_ns)
    except TransformError:  # by odometry
        above = (fixed_frame, rig.base_frame)
    for camera in report.cameras:
        if camera.chain[:1] == (rig.base_frame,):
            camera.chain = (*above, *camera.chain[1:])


def _take_odometry(report: RigReport, intake: Intake, resolver: Resolver, sources: MotionOptions) -> None:
    """Give the resolver the odometry that it asks for; what is wrong with it is told once."""
    texts: set[str] = set()
    for topic, message in intake.odometry:
        if topic == sources.odometry_topic:
            try:
                texts.add(resolver.motion.on_odometry(message) or "")
            except ValueError as error:
                texts.add(f"{topic}: a message was refused: {error}")
    for text in sorted(texts - {""}):
        report.fault(text)
