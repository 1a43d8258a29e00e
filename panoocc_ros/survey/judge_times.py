"""Cameras against each other in time: rates, offsets to the reference, clocks, and the sets that become of them."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from statistics import median
from types import SimpleNamespace
from typing import Any

from panoocc_core.cameras.calibration_file import CalibrationFile
from panoocc_core.config import ModelConfig
from panoocc_core.geometry import NS_PER_S

from ..frames.assembler import AssemblerStatus, FrameAssembler
from ..frames.rig import Rig
from ..frames.waiting import AssemblerOptions
from ..messages.types import CAMERA_INFO, IMAGE_TYPES, TRANSFORMS
from ..streams.notices import NoticeKind
from .findings import CameraReport, RigReport
from .intake import Intake
from .timing import offset

SLOW_SHARE = 0.75  # of the usual rate, below which a camera is slower than the others
UNEVEN_SHARE = 0.25  # of the period, above which the times between images are uneven
OTHER_PERIOD = 0.2  # share, by which `period_ms` of the rig may differ from what was measured
MIN_BEHIND_MS = 100.0  # of stamps behind those of the others when the images come
LOST_SHARE = 0.1  # of the sets; a few at both ends of what was heard say nothing
AHEAD_NS = NS_PER_S  # by which transforms are handed over before the images of their time
TOLD: tuple[NoticeKind, ...] = ("clock", "contradiction")


def judge_times(report: RigReport, rig: Rig, intake: Intake) -> None:
    """Add the offsets of all cameras to the reference, and what is wrong with their times."""
    reference = intake.of_topic(rig.camera(rig.reference).topic, IMAGE_TYPES)
    periods = [camera.timing.period_ms for camera in report.cameras if camera.timing.period_ms]
    if not periods:
        return
    period_ms = median(periods)
    _judge_rates(report, period_ms)
    _judge_delays(report, period_ms)
    for camera in report.cameras:
        heard = intake.of_topic(camera.topic, IMAGE_TYPES)
        if heard is None or reference is None or camera.name == rig.reference:
            continue
        expected_ms = rig.camera(camera.name).shutter_offset_ms
        camera.offset = offset(heard.stamps_ns, reference.stamps_ns, expected_ms)
        _judge_offset(report, rig, camera, expected_ms)
    if rig.spread_ms > period_ms / 2:
        report.note(
            f"spread_ms is {rig.spread_ms:g}, more than half of the {period_ms:.0f} ms between two images: images of "
            "neighbouring instants may be mixed"
        )
    if rig.period_ms is not None and abs(rig.period_ms / period_ms - 1) > OTHER_PERIOD:
        report.note(
            f"period_ms of the rig is {rig.period_ms:g}, measured are {period_ms:.1f}: correct it, or leave it out"
        )


def _judge_rates(report: RigReport, period_ms: float) -> None:
    rates = {camera.name: camera.timing.rate_hz for camera in report.cameras if camera.timing.rate_hz is not None}
    usual_hz = median(rates.values())
    for camera in report.cameras:
        rate_hz, jitter_ms = rates.get(camera.name), camera.timing.jitter_ms
        if rate_hz is not None and rate_hz < SLOW_SHARE * usual_hz:
            report.fault(
                f"{camera.name}: {rate_hz:.2f} images a second on {camera.topic}, the others have {usual_hz:.2f}: sets "
                "wait for it, or take an old image in its place. Set its driver to the rate of the others, or find out "
                "where its images are lost"
            )
        elif jitter_ms is not None and jitter_ms > UNEVEN_SHARE * period_ms:
            report.note(
                f"{camera.name}: the times between its images vary by {jitter_ms:.1f} ms: are images lost, or is it "
                "not triggered?"
            )


def _judge_delays(report: RigReport, period_ms: float) -> None:
    """Stamps that are off by whole periods look right beside the others, but their images come too early or late."""
    delays = {camera.name: camera.timing.delay_ms for camera in report.cameras if camera.timing.delay_ms is not None}
    usual_ms = median(delays.values())
    for name, delay_ms in delays.items():
        behind_ms = delay_ms - usual_ms
        if abs(behind_ms) >= max(MIN_BEHIND_MS, 0.9 * period_ms):
            where = "further back" if behind_ms > 0 else "less far back"
            report.fault(
                f"{name}: when its images come their stamps lie {abs(behind_ms):.0f} ms {where} than those of most "
                "cameras: another clock (PTP?), or a slow driver. Stamps must be those of the exposure, of one clock"
            )


def _judge_offset(report: RigReport, rig: Rig, camera: CameraReport, expected_ms: float) -> None:
    apart = camera.offset
    if apart is None:
        return
    away_ms = apart.usual_ms - expected_ms
    said = f"{apart.usual_ms:+.1f} ms from those of {rig.reference}"
    if abs(away_ms) > rig.spread_ms:
        report.fault(
            f"{camera.name}: its stamps lie {said}; shutter_offset_ms says {expected_ms:+.1f}, and spread_ms allows no "
            f"more than {rig.spread_ms:g}. If it is exposed then, set shutter_offset_ms: {apart.usual_ms:.1f} in the "
            "rig file; if not, synchronise its clock"
        )
    elif abs(away_ms) + apart.residual_ms > rig.spread_ms:
        report.fault(
            f"{camera.name}: its stamps lie {said} and wander by {apart.residual_ms:.1f} ms, more than spread_ms "
            f"({rig.spread_ms:g}) allows: synchronise the cameras, or set a larger spread_ms"
        )
    elif abs(away_ms) > rig.spread_ms / 2:
        report.note(f"{camera.name}: its stamps lie {said}; shutter_offset_ms: {apart.usual_ms:.1f} leaves more room")


def judge_sets(report: RigReport, rig: Rig, intake: Intake, given: CalibrationFile | None, config: ModelConfig) -> None:
    """Add how many sets had everything, by the node's own synchroniser, and why the others had not."""
    options = replace(AssemblerOptions(missing_camera="drop").patient(), max_waiting=10_000)
    with closing(FrameAssembler(rig, options, given, config)) as assembler:
        for camera in rig.cameras:
            info = intake.of_topic(camera.info_topic, (CAMERA_INFO,))
            for message in info.calibrations if info is not None else ():
                assembler.on_camera_info(camera.name, message)
        complete, now_ns = 0, 0
        for now_ns, camera_name, message, is_static in _in_order(rig, intake):
            if camera_name is None:
                assembler.on_transforms(message, is_static)
            else:
                assembler.on_image(camera_name, message, now_ns)
                while assembler.poll(now_ns) is not None:
                    complete += 1
        complete += len(assembler.finish())
        status = assembler.status(now_ns)
    lost = sum(status.set_drops.values())
    report.sets = complete, complete + lost
    for notice in status.of_kind(*TOLD):
        report.fault(notice.text)
    if complete == 0:
        report.fault(f"no set of images had everything: {_why_lost(status)}")
    elif lost > max(2, LOST_SHARE * (complete + lost)):
        report.note(f"{lost} of {complete + lost} sets lacked something: {_why_lost(status)}")


def _why_lost(status: AssemblerStatus) -> str:
    if not status.set_drops:
        return "no two cameras' images were of one instant"
    (key, count), *_ = status.set_drops.most_common(1)
    text = status.last_texts.get(key) or key[0]
    return text if len(status.set_drops) == 1 else f"{text} ({count} times; other reasons less often)"


def _in_order(rig: Rig, intake: Intake) -> Sequence[tuple[int, str | None, Any, bool]]:
    """When (ns), whose image (None: transforms), the message, and whether its transforms are fixed ones."""
    names = {camera.topic: camera.name for camera in rig.cameras}
    events: list[tuple[int, str | None, Any, bool]] = []
    for topic, heard in intake.heard.items():
        if topic in names and heard.type in IMAGE_TYPES:
            headers = [(at, _header(stamp, heard.frame)) for at, stamp in zip(heard.arrivals_ns, heard.stamps_ns)]
            events += [(at, names[topic], SimpleNamespace(header=header), False) for at, header in headers]
    first_ns = min((at for at, *_ in events), default=0)
    for topic, at, message in intake.transforms:
        is_static = topic == rig.tf_static_topic
        if intake.heard[topic].type == TRANSFORMS and topic in (rig.tf_topic, rig.tf_static_topic):
            events.append((first_ns - 2 * AHEAD_NS if is_static else at - AHEAD_NS, None, message, is_static))
    return sorted(events, key=lambda event: event[0])


def _header(stamp_ns: int, frame: str) -> Any:
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame)
