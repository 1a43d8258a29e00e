"""The tree of frames: which transforms are missing, refused, late or contradict each other."""

from collections.abc import Mapping, Sequence

from ...frames.sets import AssemblerStatus
from ...streams.notices import NoticeKind
from .health import ERROR, OK, WARN, Health, age_text, is_of_transforms
from .lately import of_now

TRANSFORM_NOTICES: tuple[NoticeKind, ...] = (
    *("refused", "contradiction", "late_transform"),
    *("network_frame", "grid_frame", "motion"),
)
MAX_NOTICES = 3  # in one message


def transforms_health(
    status: AssemblerStatus, lost_sets: Mapping[tuple[str, str], int], problems: Sequence[str]
) -> Health:
    """ERROR while sets are lost for the lack of a transform; WARN about transforms that are refused or not heard.

    Args:
        lost_sets: those lost lately, by (reason, camera).
        problems: what is wrong with the publishers of the transforms.
    """
    lost, lost_lately = (
        sum(count for (reason, _), count in counts.items() if is_of_transforms(reason))
        for counts in (status.set_drops, lost_sets)
    )
    values = {"fixed_frame": status.fixed_frame or "not known yet", "network_frame": status.network_frame}
    values |= {"pose_source": status.pose_source, "last_transform_age_s": age_text(status.transforms_age_s)}
    values |= {"sets_lost": str(lost)}
    values |= {f"transforms.{reason}": str(count) for reason, count in sorted(status.transform_drops.items())}
    values |= {f"{topic}.{reason}": str(count) for (reason, topic), count in sorted(status.motion_drops.items())}
    notices = [one.text for one in of_now(status, *TRANSFORM_NOTICES)]
    warnings = [*notices[:MAX_NOTICES], *problems]
    if status.tf_missing is not None and lost_lately:
        return Health("transforms", ERROR, "; ".join([status.tf_missing, *warnings]), values)
    if warnings:
        return Health("transforms", WARN, "; ".join(warnings), values)
    if not status.ready:
        return Health("transforms", WARN, "no set of images has had its transforms yet", values)
    if status.fixed_frame is None:
        return Health("transforms", WARN, "no set of images has had its transforms since the stamps went back", values)
    return Health("transforms", OK, f"history is fused through {values['fixed_frame']}", values)
