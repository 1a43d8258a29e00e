"""The status `labels`: whether other people's point clouds are labelled, and why not."""

from collections.abc import Callable, Sequence

from ..streams.cloud_queue import CloudCounts, Loss
from .recent import Recent
from .verdicts import OK, WARN, Health

_WHY: dict[Loss, str] = {
    "no_grid": "found no grid in time",
    "no_transform": "lacked transforms",
    "refused": "cannot be used",
    "queue_full": "were too many to wait",
    "busy": "were too many",
    "failed": "failed",
}


class CloudWatch:
    """Makes the status of a topic of clouds from counters that only rise; `now_s` is the time by which it is told."""

    def __init__(self, topic: str, now_s: Callable[[], float]) -> None:
        self._topic = topic
        self._lost: Recent[Loss] = Recent(now_s)
        self._come: Recent[str] = Recent(now_s)

    def health(self, counts: CloudCounts, problems: Sequence[str], has_listener: bool) -> Health:
        """WARN while clouds are lost, or nothing comes although somebody listens.

        Args:
            problems: what is wrong with the publishers of the topic.
        """
        lost, come = self._lost.rises(counts.lost), self._come.rises({"clouds": counts.clouds}).total()
        values = {"clouds": f"{counts.clouds}", "labelled": f"{counts.labelled}", "points": f"{counts.points}"}
        values |= {"unknown": f"{counts.unknown}", "not_finite": f"{counts.not_finite}"}
        values |= {f"lost.{why}": f"{count}" for why, count in counts.lost.items()}
        bad = [*problems, *(f"{count} clouds {_WHY[why]}: {counts.texts[why]}" for why, count in lost.items())]
        if has_listener and not come and not bad:
            bad = [f"nothing comes on {self._topic}"]
        if bad:
            return Health("labels", WARN, "; ".join(bad), values)
        return Health("labels", OK, "clouds are labelled" if has_listener else "nobody listens", values)
