"""What comes in: the clock, images and CameraInfo of every camera, sets of one instant, and whether the rig can be."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ...frames.rig import RigCamera
from ...frames.sets import REFUSED, AssemblerStatus
from ...streams.notices import NoticeKind
from ..arrivals import Arrivals
from ..recent import HOLD_S
from ..running_time import RunningTime
from .health import (
    ERROR,
    LOOK_AT_TRANSFORMS,
    OK,
    WARN,
    Health,
    age_text,
    counts_text,
    is_of_transforms,
    without_image,
)
from .lately import Lately, of_now

CLOCK_STANDS_S = 5.0
CAMERA_NOTICES: tuple[NoticeKind, ...] = ("clock", "apart", "late", "calibration")
MANY_LOST = 0.2  # of a camera's images, on their way to the node: more are no accident


def clock_health(time: RunningTime) -> Health:
    """ERROR before anything has come on /clock, WARN while it stands: no deadline passes then, and no age grows."""
    if not time.has_begun:
        return Health("clock", ERROR, "use_sim_time is set, but nothing has come on /clock: play with --clock")
    if time.standing_s > CLOCK_STANDS_S:
        text = f"the time on /clock has stood for {time.standing_s:.0f} s: playback is paused, or over"
        return Health("clock", WARN, text)
    return Health("clock", OK, "time goes on")


def camera_health(
    camera: RigCamera,
    arrivals: Arrivals,
    status: AssemblerStatus,
    lately: Lately,
    problems: Sequence[str],
    waited_s: float,
    timeout_s: float,
) -> Health:
    """ERROR while no image of a camera comes, or none that can be used; WARN while some cannot, or many are lost.

    Args:
        problems: what is wrong with the publishers of its two topics.
        waited_s: how long the node has been there, for a camera that has sent nothing yet.
        timeout_s: a camera without an image for so long is dead; one whose images are refused for so long is no better.
    """
    age_s, rate_hz = arrivals.age_s(camera.name), arrivals.rate_hz(camera.name)
    expected_hz, lost_images = arrivals.expected_hz(camera.name), arrivals.lost_share(camera.name)
    drops: Counter[str] = Counter()
    for (reason, culprit), count in (status.image_drops + status.set_drops).items():
        drops[reason] += count if culprit == camera.name else 0
    values = {"topic": camera.topic, "images": str(status.images[camera.name])}
    values |= {"rate_hz": f"{rate_hz:.2f}", "expected_rate_hz": "unknown" if not expected_hz else f"{expected_hz:.2f}"}
    values |= {"lost_on_the_way_percent": f"{100 * lost_images:.0f}", "last_image_age_s": age_text(age_s)}
    values |= {f"drops.{reason}": str(count) for reason, count in sorted(drops.items()) if count}
    if camera.name in status.converted:
        values["decoded_by"] = f"cv_bridge ({status.converted[camera.name]})"

    notices = [one for one in of_now(status, *CAMERA_NOTICES) if one.subject == camera.name]
    lost = Counter(
        {
            reason: n
            for (reason, culprit), n in lately.lost_sets.items()
            if culprit == camera.name and not is_of_transforms(reason)
        }
    )
    warnings = [*(notice.text for notice in notices), *problems]
    if camera.name in status.pictures:
        warnings.append(status.pictures[camera.name])
    if lost_images >= MANY_LOST:
        share = f"{100 * lost_images:.0f} % of its images do not arrive"
        warnings.append(f"{share}: stamps on {camera.topic} have gaps (a DDS profile? a busy machine?)")
    if lost:
        warnings.append(f"sets lost in the last {HOLD_S:.0f} s: {counts_text(lost)}")
    if refused := lately.refused_images[camera.name]:
        why = status.last_texts.get((REFUSED, camera.name), "")
        warnings.append(f"images refused in the last {HOLD_S:.0f} s: {refused}, the last one: {why}")
    rate = f"{rate_hz:.1f} Hz"
    level, message = _unusable(camera, age_s, camera.name in status.missing_info, waited_s, timeout_s) or (OK, rate)
    lacks_info = age_s is not None and age_s <= timeout_s and camera.name in status.missing_info
    if level == OK and any(notice.kind == "clock" for notice in notices):
        level = ERROR  # no set can be made of its images
    for one in of_now(status, "unusable"):
        if level == OK and one.subject == camera.name and (lasting_s := one.since_s - one.age_s) >= timeout_s:
            level, message = ERROR, f"{rate}, and none that can be used for {lasting_s:.1f} s"
    return Health(
        f"camera {camera.name}",
        max(level, WARN if warnings else OK),
        "; ".join([message, *warnings]),
        values,
        f"ros2 topic hz {camera.info_topic if lacks_info else camera.topic}",
    )


def _unusable(
    camera: RigCamera, age_s: float | None, lacks_info: bool, waited_s: float, timeout_s: float
) -> tuple[int, str] | None:
    if age_s is None:
        text = f"no image yet on {camera.topic}; is the camera running, is the topic of the rig right?"
        return (ERROR if waited_s > timeout_s else WARN), text
    if age_s > timeout_s:
        return ERROR, f"dead: the last image on {camera.topic} came {age_s:.1f} s ago"
    if lacks_info:
        return ERROR, f"no CameraInfo yet on {camera.info_topic}; images cannot be used without it"
    return None


def sets_health(
    status: AssemblerStatus, lost_sets: Mapping[tuple[str, str], int], incomplete: Mapping[str, int]
) -> Health:
    """WARN while sets of images are lost, or lack an image.

    Args:
        lost_sets: those lost lately, by (reason, camera).
        incomplete: those lately in which an older image of a camera stands in, or none, by camera.
    """
    values = {"formed": str(status.sets), "with_transforms": str(status.ready), "waiting": str(status.waiting)}
    if status.spread_ns is not None:
        values["spread_ms"] = f"{status.spread_ns / 1e6:.1f}"
    if status.waiting_for:
        values["waiting_for"] = status.waiting_for
    for name, counts in (
        ("incomplete", without_image(status.set_drops)),
        ("reused", status.reused),
        ("blank", status.blank),
    ):
        values |= {f"{name}.{camera}": str(count) for camera, count in sorted(counts.items())}
    texts = []
    if dropped := without_image(lost_sets):
        texts.append(f"dropped for want of an image of {counts_text(dropped)}")
    if incomplete:
        texts.append(f"with an older image, or none, of {counts_text(incomplete)}")
    if others := sum(lost_sets.values()) - sum(dropped.values()):
        texts.append(f"lost {others}, the last one since {status.last_drop}")
    if texts:
        tf_alone = all(is_of_transforms(reason) for reason, _ in lost_sets) and not incomplete
        remedy = LOOK_AT_TRANSFORMS if tf_alone else ""
        return Health("sets", WARN, f"in the last {HOLD_S:.0f} s: {'; '.join(texts)}", values, remedy)
    return Health("sets", OK, f"{status.sets} sets", values)


def geometry_health(status: AssemblerStatus) -> Health:
    """WARN about mounts and intrinsics that cannot be true, as the first grids show them."""
    if status.geometry is None:
        return Health("geometry", OK, "not judged yet: no set of images has been decoded")
    if status.geometry:
        return Health("geometry", WARN, "; ".join(status.geometry))
    return Health("geometry", OK, "mounts and intrinsics are plausible")
