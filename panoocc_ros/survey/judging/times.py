"""Cameras against each other in time: rates, offsets to the reference, clocks, and the sets that become of them."""

from collections import Counter
from collections.abc import Collection
from statistics import median
from types import SimpleNamespace

from panoocc_core.geometry import NS_PER_S

from ...frames.pictures import Picture
from ...frames.resolver import Lacking, Resolver
from ...frames.rig import Rig
from ...frames.waiting import PATIENT_SETS, AssemblerOptions
from ...messages.types import CAMERA_INFO, IMAGE_TYPES
from ...streams.notices import Notices
from ...streams.synchroniser import Synchroniser
from ..findings import CameraReport, RigReport
from ..intake import Intake
from ..stamps import offset

SLOW_SHARE = 0.75  # of the usual rate, below which a camera is slower than the others
UNEVEN_SHARE = 0.25  # of the period, above which the times between images are uneven
OTHER_PERIOD = 0.2  # share, by which `period_ms` of the rig may differ from what was measured
MIN_BEHIND_MS = 100.0  # of stamps behind those of the others when the images come
LOST_SHARE = 0.1  # of the sets; a few at both ends of what was heard say nothing
MAX_REASONS = 2  # why sets were lost


def judge_times(
    report: RigReport, rig: Rig, intake: Intake, silent: Collection[str], exchanged: Collection[str]
) -> None:
    """Add the offsets of all cameras to the reference, and what is wrong with their times.

    Args:
        report: has the sets.
        silent: cameras with gaps that are told already: their rates say nothing more.
        exchanged: cameras that seem to be others, whose offsets then are those of others, too.
    """
    reference = intake.of_topic(rig.camera(rig.reference).topic, IMAGE_TYPES)
    periods = [camera.timing.period_ms for camera in report.cameras if camera.timing.period_ms]
    if not periods:
        return
    period_ms = median(periods)
    _judge_rates(report, period_ms, silent)
    _judge_delays(report, period_ms)
    for camera in report.cameras:
        heard = intake.of_topic(camera.topic, IMAGE_TYPES)
        if heard is None or reference is None or camera.name == rig.reference:
            continue
        expected_ms = rig.camera(camera.name).shutter_offset_ms - rig.camera(rig.reference).shutter_offset_ms
        camera.offset = offset(heard.stamps_ns, reference.stamps_ns, expected_ms)
        if not {camera.name, rig.reference} & {*exchanged}:
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


def _judge_rates(report: RigReport, period_ms: float, silent: Collection[str]) -> None:
    rates = {camera.name: camera.timing.rate_hz for camera in report.cameras if camera.timing.rate_hz is not None}
    usual_hz = median(rates.values())
    for camera in report.cameras:
        if camera.name in silent:
            continue
        rate_hz, jitter_ms = rates.get(camera.name), camera.timing.jitter_ms
        if rate_hz is not None and rate_hz < SLOW_SHARE * usual_hz:
            report.fault(
                f"{camera.name}: {rate_hz:.2f} images a second on {camera.topic}, the others have {usual_hz:.2f}: sets "
                "wait for it, or take an old image in its place. Set its driver to the rate of the others, or find out "
                "where its images are lost",
                camera.name,
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
                "cameras: another clock (PTP?), or a slow driver. Stamps must be those of the exposure, of one clock",
                name,
            )


def _judge_offset(report: RigReport, rig: Rig, camera: CameraReport, expected_ms: float) -> None:
    apart = camera.offset
    if apart is None:
        return
    away_ms = apart.usual_ms - expected_ms
    said = f"{apart.usual_ms:+.1f} ms from those of {rig.reference}"
    own_ms = rig.camera(camera.name).shutter_offset_ms + away_ms
    is_lossless = report.sets is not None and report.sets[0] == report.sets[1] > 0
    tell = report.note if is_lossless else report.fault  # what costs no set is no fault
    if abs(away_ms) > rig.spread_ms:
        tell(
            f"{camera.name}: its stamps lie {said}; by shutter_offset_ms it is {expected_ms:+.1f}, and spread_ms "
            f"allows no more than {rig.spread_ms:g}. If it is exposed then, set shutter_offset_ms: {own_ms:.1f} in the "
            "rig file; if not, synchronise its clock",
            camera.name,
        )
    elif abs(away_ms) + apart.residual_ms > rig.spread_ms:
        tell(
            f"{camera.name}: its stamps lie {said} and wander by {apart.residual_ms:.1f} ms, more than spread_ms "
            f"({rig.spread_ms:g}) allows: synchronise the cameras, or set a larger spread_ms",
            camera.name,
        )
    elif abs(away_ms) > rig.spread_ms / 2:
        report.note(f"{camera.name}: its stamps lie {said}; shutter_offset_ms: {own_ms:.1f} leaves more room")


def judge_sets(report: RigReport, rig: Rig, intake: Intake, resolver: Resolver) -> None:
    """Add how many sets had everything, by the node's own rules, and why the others had not.

    Args:
        resolver: has all transforms that came.
    """
    notices, lost = Notices(), Counter[str]()
    synchroniser = Synchroniser(
        rig.names,
        rig.reference,
        rig.spread_ns,
        period_ns=rig.period_ns,
        offsets_ns={camera.name: camera.shutter_offset_ns for camera in rig.cameras},
        missing="drop",
        silent_ns=round(AssemblerOptions().camera_timeout_s * NS_PER_S),
        depth=2 * PATIENT_SETS,
        notices=notices,
    )
    for camera in rig.cameras:
        info = intake.of_topic(camera.info_topic, (CAMERA_INFO,))
        for message in info.calibrations if info is not None else ():
            resolver.on_camera_info(camera.name, message)
    sets, now_ns = [], 0
    for now_ns, name, picture, stamp_ns in _images(rig, intake):
        sets += synchroniser.add(name, stamp_ns, picture, now_ns)
    sets += synchroniser.flush()
    for messages in sets:
        try:
            resolver.resolve(messages, None, may_guess=True)
        except Lacking as lacking:
            lost[lacking.text] += 1
    complete = len(sets) - lost.total()
    for camera_name, count in synchroniser.sets_dropped.items():
        lost[synchroniser.last_texts[camera_name]] += count
    report.sets = complete, complete + lost.total()
    for notice in notices.read(now_ns):
        if notice.kind == "clock":
            report.fault(notice.text, notice.subject)
    why = "; ".join(f"{count} times {text}" for text, count in lost.most_common(MAX_REASONS))
    if complete == 0:
        report.fault(f"no set of images had everything: {why or 'no images of all cameras were of one instant'}")
    elif lost.total() > max(2, LOST_SHARE * report.sets[1]):
        report.note(f"{lost.total()} of {report.sets[1]} sets lacked something: {why}")


def _images(rig: Rig, intake: Intake) -> list[tuple[int, str, Picture, int]]:
    """When each image came (ns), of which camera, what there is of it, and its stamp; in the order of arrival."""
    images = []
    for camera in rig.cameras:
        heard = intake.of_topic(camera.topic, IMAGE_TYPES)
        if heard is not None:
            picture = Picture(SimpleNamespace(header=SimpleNamespace(frame_id=heard.frame)))
            images += [(at, camera.name, picture, stamp) for at, stamp in zip(heard.arrivals_ns, heard.stamps_ns)]
    return sorted(images, key=lambda image: image[0])
