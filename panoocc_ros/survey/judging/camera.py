"""One camera by itself: its topics, its CameraInfo, its frame, and its newest picture as the network would get it."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.cameras.lens import Calibration, CalibrationError, calibration
from panoocc_core.cameras.rectified import rectified_image
from panoocc_core.geometry import Matrix

from ...frames.images import decode
from ...frames.rig import Rig, RigCamera
from ...messages.fields import stamp_ns
from ...messages.types import CAMERA_INFO, IMAGE_TYPES
from ...streams.edge import TransformError
from ...streams.transforms import TransformBuffer
from ..findings import CameraReport, RigReport
from ..intake import Heard, Intake
from ..stamps import timing

MAX_NAMED = 6  # topics in one text


def judge_camera(
    report: RigReport,
    rig: Rig,
    name: str,
    intake: Intake,
    buffer: TransformBuffer,
    given_mount: Matrix | None,
    given_info: Any | None,
) -> CameraReport:
    """What is known of a camera; what is wrong goes into the report.

    Args:
        given_mount: ego_from_camera [4, 4] of a calibration file.
        given_info: its fields of CameraInfo.
    """
    entry, found = rig.camera(name), CameraReport(name, rig.camera(name).topic)
    heard = intake.of_topic(entry.topic, IMAGE_TYPES)
    info_heard = intake.of_topic(entry.info_topic, (CAMERA_INFO,))
    if heard is None or not heard.stamps_ns:
        report.fault(f"{name}: {_why_nothing(intake, entry.topic, IMAGE_TYPES, heard)}", name)
    for topic in (entry.topic, entry.info_topic):
        if len(senders := intake.senders.get(topic, ())) > 1:
            report.fault(f"{name}: {topic} has {len(senders)} publishers ({named(senders)}): stop all but one", name)
    calibrated = _calibration(report, entry, given_info, info_heard, intake)
    if heard is None or not heard.stamps_ns:
        return found
    found.timing = timing(heard.stamps_ns, heard.arrivals_ns)
    found.encoding = next(iter(heard.encodings), "")
    _judge_messages(report, entry, heard, None if given_info is not None else info_heard)
    mount = given_mount
    if mount is None:
        mount = _mount(report, found, rig, entry, heard, buffer)
    if calibrated is None:
        return found
    try:
        taken = decode(heard.newest, calibrated.size_hw)
        if mount is not None:
            at_ns = stamp_ns(heard.newest.header.stamp)
            found.image, found.turns = rectified_image(name, taken, calibrated, mount, at_ns, np.eye(4))
    except ImageError as error:
        report.fault(f"{name}: {entry.topic}: {error}", name)
    except (CalibrationError, ValueError) as error:
        report.fault(f"{name}: {entry.info_topic}: {error}", name)
    return found


def _why_nothing(intake: Intake, topic: str, kinds: Sequence[str], heard: Heard | None) -> str:
    """Why there is no message of a topic, and what may be meant."""
    what = "CameraInfo" if CAMERA_INFO in kinds else "image"
    if heard is not None and heard.broken:
        return f"no {what} on {topic} can be read: {heard.why_broken}"
    there = intake.topics.get(topic)
    if there is not None and there not in kinds:
        return f"{topic} holds {there}, not {' or '.join(kinds)}: correct the topic in the rig file"
    if there is not None:
        return f"no {what} came on {topic}, though it is there: is its driver sending?"
    others = [name for name, kind in intake.topics.items() if kind in kinds]
    near = [f"{topic}/compressed", topic.removesuffix("/compressed"), *difflib.get_close_matches(topic, others, n=1)]
    meant = next((name for name in near if name in others), None)
    there = f"is {meant} meant?" if meant else f"of this kind there are {named(others)}"
    return f"no {what} came on {topic}, nobody sends it; {there}"


def named(topics: Iterable[str]) -> str:
    names = sorted(topics)
    return ", ".join(names[:MAX_NAMED]) + (", ..." if names[MAX_NAMED:] else "") if names else "none"


def _calibration(
    report: RigReport, entry: RigCamera, given: Any | None, heard: Heard | None, intake: Intake
) -> Calibration | None:
    """The calibration, if the CameraInfo, or what the calibration file gives in its place, can be used."""
    info = given
    if info is None:
        if heard is None or not heard.calibrations:
            why = _why_nothing(intake, entry.info_topic, (CAMERA_INFO,), heard)
            report.fault(f"{entry.name}: {why}; intrinsics can be given with --calibration FILE", entry.name)
            return None
        info = heard.calibrations[-1]
        if len(heard.calibrations) > 1:
            report.fault(
                f"{entry.name}: CameraInfo on {entry.info_topic} changes while it is sent ({len(heard.calibrations)} "
                "different ones): are there two senders?",
                entry.name,
            )
    try:
        return calibration(info, entry.is_rectified, use=entry.lens)
    except CalibrationError as error:
        where = "the calibration file" if given is not None else entry.info_topic
        report.fault(f"{entry.name}: CameraInfo of {where} cannot be used: {error}", entry.name)
        return None


def _judge_messages(report: RigReport, entry: RigCamera, heard: Heard, info: Heard | None) -> None:
    name = entry.name
    for what, values in (("frames", heard.frames), ("encodings", heard.encodings), ("sizes", heard.sizes)):
        if len(values) > 1:
            told = ", ".join(sorted(map(str, values))[:MAX_NAMED])
            report.fault(
                f"{name}: its images on {entry.topic} have several {what} ({told}): stop all publishers but one",
                name,
            )
    if heard.broken:
        report.fault(f"{name}: {heard.broken} images on {entry.topic} cannot be read: {heard.why_broken}", name)
    if info is not None and info.frame and heard.frame and info.frame != heard.frame and entry.frame is None:
        report.fault(
            f"{name}: its images are of the frame {heard.frame}, its CameraInfo on {entry.info_topic} of {info.frame}: "
            "is that its own info_topic? If so, set `frame` in the rig file",
            name,
        )


def _mount(
    report: RigReport, found: CameraReport, rig: Rig, entry: RigCamera, heard: Heard, buffer: TransformBuffer
) -> Matrix | None:
    """ego_from_camera [4, 4] by the transforms, if they have it."""
    frame = entry.frame or heard.frame
    if not frame:
        report.fault(
            f"{entry.name}: header.frame_id of {entry.topic} is empty: set it, or `frame` in the rig file", entry.name
        )
        return None
    stamps_ns = sorted(heard.stamps_ns)
    at_ns = stamps_ns[len(stamps_ns) // 2]
    try:
        found.chain = buffer.chain(rig.base_frame, frame, at_ns)
        return buffer.lookup(rig.base_frame, frame, at_ns)
    except TransformError as error:
        found.chain = found.chain or ("?", frame)
        report.fault(
            f"{entry.name}: no mount: {error}. Send the transform from {rig.base_frame} to {frame} on "
            f"{rig.tf_static_topic}, or give the mount with --calibration FILE",
            entry.name,
        )
        return None
