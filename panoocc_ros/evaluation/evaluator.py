"""A node's grids against the truth: which belong together by their stamps, and what they are worth.  Pure; no ROS here.

Messages are read by attribute, so that those of live topics and those of bags are scored by the same code.
"""

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from panoocc_core.geometry import NS_PER_S
from panoocc_core.labels import LabelSet
from panoocc_core.metrics import PanopticQuality, TrackingQuality
from panoocc_core.metrics.confusion import distance_bins
from panoocc_core.metrics.panoptic import MIN_VOXELS
from panoocc_core.metrics.seen_space import VISIBLE_SCORES, SeenSpace
from panoocc_core.panoptic import connected_instances
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.types import GridGeometry

from ..health.verdicts import ERROR, OK, WARN, Health
from ..messages.fields import stamp_ns
from ..messages.voxel_grid import instances_from_message, labels_from_message, voxels_from_message

PREDICTION, TRUTH = "prediction", "truth"  # what is joined

CAPACITY = 100  # messages of each kind that wait for their partners: 20 s at 5 Hz, for networks that are slow
JUMP_BACK_NS = NS_PER_S  # a stamp that much older than the newest of its kind: the clock was set back


class EvaluationError(ValueError):
    """Prediction and truth cannot be compared; the message says what differs."""


class StampJoin:
    """Joins messages of several kinds that have the same stamp; at most `capacity` of each kind wait.

    Within a kind stamps are expected to increase.  So when one stamp is complete, what waits with an older one will
    never be: it expires, and is counted by kind.  When stamps jump back, as simulated time does when a drive begins
    again, what waits expires: it would take up the places of what comes, or meet the same stamps of another round.
    One kind is the first to jump, and all that waits goes; when the others follow, perhaps after more of the old round,
    only what waits of themselves does.  (A round must be longer than twice the time by which a kind lags.)
    """

    def __init__(self, kinds: Sequence[str], capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._capacity = capacity
        self._waiting: dict[str, dict[int, Any]] = {kind: {} for kind in kinds}
        self._newest: dict[str, int] = {}  # stamps since the kind's last jump
        self._round = dict.fromkeys(kinds, 0)  # how often a kind has begun again
        self.expired: Counter[str] = Counter()
        self.jumps_back = 0

    @property
    def waiting(self) -> dict[str, int]:
        """How many messages of each kind have no partner yet."""
        return {kind: len(messages) for kind, messages in self._waiting.items()}

    def add(self, kind: str, stamp: int, message: Any) -> dict[str, Any] | None:
        """One more message; returns all messages of its stamp, by kind, where it completes them."""
        if stamp <= self._newest.get(kind, stamp) - JUMP_BACK_NS:
            self._jump_back(kind)
        self._newest[kind] = max(stamp, self._newest.get(kind, stamp))
        mine = self._waiting[kind]
        mine[stamp] = message
        if all(stamp in messages for messages in self._waiting.values()):
            joined = {kind: messages.pop(stamp) for kind, messages in self._waiting.items()}
            for other, messages in self._waiting.items():
                self._expire(other, [old for old in messages if old < stamp])
            return joined
        if len(mine) > self._capacity:
            self._expire(kind, [next(iter(mine))])
        return None

    def clear(self) -> None:
        """Forget what waits, and the counts."""
        for messages in self._waiting.values():
            messages.clear()
        self._newest.clear()
        self._round = dict.fromkeys(self._round, 0)
        self.expired.clear()
        self.jumps_back = 0

    def _jump_back(self, kind: str) -> None:
        """The first kind to jump begins a round, which the others enter when they jump as well."""
        newest_round = max(self._round.values())
        is_first = self._round[kind] == newest_round
        self._round[kind] = newest_round + is_first
        self.jumps_back += is_first
        del self._newest[kind]
        for one in self._waiting if is_first else (kind,):
            self._expire(one, list(self._waiting[one]))

    def _expire(self, kind: str, stamps: Sequence[int]) -> None:
        for stamp in stamps:
            del self._waiting[kind][stamp]
        self.expired[kind] += len(stamps)


@dataclass(frozen=True, slots=True)
class Scores:
    """Fractions of 1, NaN where a score does not exist."""

    iou: float  # occupied against free, whatever the class
    miou: float  # over the classes that the truth has
    pq: float  # panoptic quality, over the same classes
    stq: float = math.nan  # segmentation and tracking quality, over the same classes
    aq: float = math.nan  # its association quality
    id_switches: float = math.nan  # a count
    followed: float = math.nan  # true objects that could have switched, a count
    visible_iou: float = math.nan  # of what is called visible and what truly is
    falsely_visible: float = math.nan  # of what is called visible, hidden
    falsely_hidden: float = math.nan  # of what is truly visible, called hidden
    free_but_occupied: float = math.nan  # of what is called free and visible
    free_but_occupied_hidden: float = math.nan  # of what is called free and hidden
    free_but_occupied_truly_visible: float = math.nan  # of what is called free and is truly visible


@dataclass(frozen=True, slots=True)
class FrameScores:
    """One grid, and all grids up to it."""

    stamp_ns: int
    frame: Scores
    running: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """What was counted over grids, a value."""

    panoptic: PanopticQuality
    tracks: TrackingQuality | None  # None where no prediction had instance ids
    seen: SeenSpace | None = None  # None where prediction or truth do not say what is visible

    def then(self, later: "Counted", clock_went_back: bool = False) -> "Counted":
        """These and the next grids.

        Another drive has begun where the clock was set back, or where neither a true object nor a predicted id is
        known: the simulator's next street, say.
        """
        mine, theirs = self.tracks, later.tracks
        if mine is not None and (clock_went_back or (theirs is not None and _is_another_drive(mine, theirs))):
            mine = mine.ended()
        tracks = theirs if mine is None else mine if theirs is None else mine.then(theirs)
        seen = later.seen if self.seen is None else self.seen if later.seen is None else self.seen + later.seen
        return Counted(self.panoptic + later.panoptic, tracks, seen)


def _is_another_drive(tracks: TrackingQuality, later: TrackingQuality) -> bool:
    return bool(later.drive.true_size) and not tracks.drive.meets(later.drive)


def scores(found: Counted, labels: LabelSet) -> Scores:
    """The numbers of what was counted."""
    quality, tracks = found.panoptic, found.tracks
    confusion = quality.confusion
    iou = math.nan if labels.free_id is None else confusion.geometric_iou(labels)
    miou = confusion.miou_of_present(labels, quality.ignored)
    visible = {} if found.seen is None else found.seen.scores()
    plain = Scores(iou, miou, quality.means_of_present(labels).pq, **visible)
    if tracks is None:
        return plain
    means = tracks.means_of_present()
    return replace(
        plain,
        stq=means.stq,
        aq=means.aq,
        id_switches=float(means.id_switches),
        followed=float(means.followed),
    )


def class_iou(quality: PanopticQuality, labels: LabelSet) -> dict[str, float]:
    """IoU by name, of the classes that the truth has."""
    present = quality.confusion.present() & ~np.isin(np.arange(len(labels.names)), quality.ignored)
    return {name: float(iou) for name, iou, there in zip(labels.names, quality.iou(), present) if there}


def counted(
    messages: Mapping[str, Any], predicted_labels: LabelSet, true_labels: LabelSet, min_voxels: int = MIN_VOXELS
) -> Counted:
    """What one set of messages of the same stamp is worth.

    Without instance ids in the prediction, the connected parts of its thing classes are its instances, and there are no
    tracks.  Where the truth does not say what the cameras can see, every voxel counts.

    Raises:
        EvaluationError: grids or label sets differ, or a message contradicts itself.
        ValueError: a grid has a class that is none of its label set.
    """
    check_labels(predicted_labels, true_labels)
    predicted, instances = _read(messages, PREDICTION, predicted_labels)
    true, true_instances = _read(messages, TRUTH, true_labels)
    check_geometry(predicted.geometry, true.geometry, "truth")
    if true_instances is None:
        true_instances = np.zeros(true.class_id.shape, np.int32)
    ignored = [i for i, name in enumerate(true_labels.names) if name == "noise"]
    truth = (true.class_id, true_instances, true.visible)
    tracks = None
    if instances is None:
        instances = connected_instances(predicted.class_id, predicted_labels)
    else:
        tracks = TrackingQuality.empty(true_labels, ignored).add(predicted.class_id, instances, *truth)
    panoptic = PanopticQuality.empty(len(true_labels.names), ignored, min_voxels)
    panoptic = panoptic.add(predicted.class_id, instances, *truth)
    return Counted(panoptic, tracks, _seen(predicted, true))


def _seen(predicted: VoxelVolume, true: VoxelVolume) -> SeenSpace | None:
    if predicted.visible is None or true.visible is None or true.labels.free_id is None:
        return None
    is_free, truly_free = (one.class_id == one.labels.free_id for one in (predicted, true))
    return SeenSpace.empty().add(
        is_free, predicted.visible, ~truly_free, true.visible, distance_bins(predicted.geometry)
    )


def _read(messages: Mapping[str, Any], kind: str, labels: LabelSet) -> tuple[VoxelVolume, np.ndarray | None]:
    """Voxels and instance ids of one of the messages; what cannot be read is told with its kind."""
    try:
        return voxels_from_message(messages[kind], labels), instances_from_message(messages[kind])
    except ValueError as error:
        raise EvaluationError(f"{kind}: {error}") from error


def check_labels(predicted: LabelSet, true: LabelSet) -> None:
    """Raises EvaluationError unless class ids mean the same."""
    for place, (ours, theirs) in enumerate(zip_longest(predicted.names, true.names, fillvalue="(none)")):
        if ours != theirs:
            raise EvaluationError(
                f"label sets differ: class {place} is {ours!r} in {predicted.key} of the prediction, {theirs!r} in "
                f"{true.key} of the truth; evaluate a model of the truth's label set"
            )
    if predicted.free_id != true.free_id:
        raise EvaluationError(
            f"label sets differ: free space is class {predicted.free_id} of the prediction, {true.free_id} of the truth"
        )


def check_geometry(predicted: GridGeometry, other: GridGeometry, name: str) -> None:
    """Raises EvaluationError unless both grids lie in the same place with the same voxels."""
    difference = predicted.differs_from(other)
    if difference:
        raise EvaluationError(
            f"the grid of the prediction is not that of {name}: {difference}; make the truth on the model's grid "
            "(`panoocc sim --grid <model>`)"
        )


class Evaluator:
    """Takes messages as they come and keeps the running scores.

    Grids and label sets travel apart, so grids may come first: what belongs together is then held until both label sets
    are known, at most `capacity` sets of messages, of which the oldest is dropped.
    """

    def __init__(self, capacity: int = CAPACITY, min_voxels: int = MIN_VOXELS) -> None:
        self._join = StampJoin((PREDICTION, TRUTH), capacity)
        self._min_voxels = min_voxels
        self._labels: dict[str, LabelSet] = {}
        self._held: deque[tuple[int, dict[str, Any]]] = deque()  # (stamp, messages) that wait for the label sets
        self._capacity = capacity
        self._counted: Counted | None = None
        self._last_stamp_ns = -math.inf  # of what was counted
        self.received: Counter[str] = Counter()
        self.pairs = 0
        self.refused = 0
        self.dropped = 0  # of what was held
        self.problem: str | None = None  # of the newest set of messages
        self.refused_labels: Counter[str] = Counter()
        self.label_problems: dict[str, str] = {}  # by kind, of the newest message where that was refused

    def set_labels(self, kind: str, labels: LabelSet) -> list[FrameScores]:
        """What the class ids of predictions or of the truth mean; returns the scores of the grids that waited for it.

        Another meaning begins the scores anew.
        """
        if self._labels.get(kind, labels) != labels:
            self._counted, self.pairs, self.refused = None, 0, 0
        self._labels[kind] = labels
        self.label_problems.pop(kind, None)
        if self.absent_labels:
            return []
        held = list(self._held)
        self._held.clear()
        return [scores for stamp, messages in held if (scores := self._scored(stamp, messages)) is not None]

    def add_labels(self, kind: str, message: Any) -> list[FrameScores]:
        """Like `set_labels`, of a message; one that cannot be used changes nothing but `label_problems`."""
        try:
            labels = labels_from_message(message)
        except (ValueError, OverflowError, TypeError) as error:
            self.refused_labels[kind] += 1
            self.label_problems[kind] = f"the label set of the {kind} cannot be used: {error}"
            return []
        return self.set_labels(kind, labels)

    def add(self, kind: str, message: Any) -> FrameScores | None:
        """One more grid; returns scores where it completes a stamp.  What cannot be compared becomes `problem`."""
        self.received[kind] += 1
        stamp = stamp_ns(message.header.stamp)
        joined = self._join.add(kind, stamp, message)
        if joined is None:
            return None
        if self.absent_labels:
            self._hold(stamp, joined)
            return None
        return self._scored(stamp, joined)

    def _hold(self, stamp: int, joined: dict[str, Any]) -> None:
        self._held.append((stamp, joined))
        if len(self._held) > self._capacity:
            self._held.popleft()
            self.dropped += 1

    def _scored(self, stamp: int, joined: Mapping[str, Any]) -> FrameScores | None:
        try:
            found = self._score(stamp, joined)
        except ValueError as error:
            self.problem, self.refused = str(error), self.refused + 1
            return None
        self.problem, self.pairs = None, self.pairs + 1
        return found

    def _score(self, stamp: int, joined: Mapping[str, Any]) -> FrameScores:
        predicted, true = self._labels[PREDICTION], self._labels[TRUTH]
        frame = counted(joined, predicted, true, self._min_voxels)
        went_back = stamp <= self._last_stamp_ns - JUMP_BACK_NS
        self._counted = frame if self._counted is None else self._counted.then(frame, went_back)
        self._last_stamp_ns = stamp
        return FrameScores(stamp, scores(frame, true), scores(self._counted, true))

    @property
    def running(self) -> Scores:
        """Scores of all pairs."""
        if self._counted is None:
            return Scores(math.nan, math.nan, math.nan)
        return scores(self._counted, self._labels[TRUTH])

    @property
    def class_iou(self) -> dict[str, float]:
        """IoU by class name, of all pairs."""
        return {} if self._counted is None else class_iou(self._counted.panoptic, self._labels[TRUTH])

    @property
    def visible_by_distance(self) -> dict[str, dict[str, float]]:
        """What is visible and what of the free space is occupied, by distance, of all pairs."""
        seen = None if self._counted is None else self._counted.seen
        return {} if seen is None else seen.by_distance()

    @property
    def absent_labels(self) -> tuple[str, ...]:
        """Kinds whose label set has not come."""
        return tuple(kind for kind in (PREDICTION, TRUTH) if kind not in self._labels)

    @property
    def held(self) -> int:
        """Sets of messages that are complete and wait for a label set."""
        return len(self._held)

    @property
    def expired(self) -> dict[str, int]:
        """Messages that found no partner, by kind."""
        return dict(self._join.expired)

    @property
    def jumps_back(self) -> int:
        """How often the stamps jumped back, and what waited was dropped."""
        return self._join.jumps_back

    @property
    def waiting(self) -> dict[str, int]:
        """Messages that have no partner yet, by kind."""
        return self._join.waiting

    def reset(self) -> None:
        """Begin anew; the label sets stay."""
        self._join.clear()
        self._held.clear()
        self._counted, self.problem = None, None
        self.received.clear()
        self.refused_labels.clear()
        self.pairs = self.refused = self.dropped = 0


def evaluation_healths(
    evaluator: Evaluator, topics: Mapping[str, str], label_topics: Mapping[str, str]
) -> list[Health]:
    """What an evaluator says about itself; topics of grids and of label sets by kind."""
    return [_pairs_health(evaluator, topics, label_topics), _scores_health(evaluator)]


def _pairs_health(evaluator: Evaluator, topics: Mapping[str, str], label_topics: Mapping[str, str]) -> Health:
    values = {"pairs": str(evaluator.pairs), "refused": str(evaluator.refused)}
    values |= {"waiting.label_sets": str(evaluator.held), "dropped.label_sets": str(evaluator.dropped)}
    values |= {f"refused_labels.{kind}": str(evaluator.refused_labels[kind]) for kind in (PREDICTION, TRUTH)}
    values["jumps_back"] = str(evaluator.jumps_back)
    values |= {f"received.{kind}": str(evaluator.received[kind]) for kind in topics}
    values |= {f"waiting.{kind}": str(count) for kind, count in evaluator.waiting.items()}
    values |= {f"expired.{kind}": str(evaluator.expired.get(kind, 0)) for kind in topics}
    silent = [f"{topic} ({kind})" for kind, topic in topics.items() if not evaluator.received[kind]]
    problems = [*evaluator.label_problems.values(), *([evaluator.problem] if evaluator.problem else [])]
    if problems:
        return Health("pairs", ERROR, "; ".join(problems), values)
    if silent:
        return Health("pairs", WARN, f"nothing has come on {', '.join(silent)}", values)
    if evaluator.held:
        absent = " and ".join(label_topics[kind] for kind in evaluator.absent_labels)
        return Health("pairs", WARN, f"{_waits(evaluator.held)} for the label set on {absent}", values)
    if not evaluator.pairs:
        return Health("pairs", WARN, "grids come, but no stamp of a prediction is one of the truth", values)
    return Health("pairs", OK, f"{evaluator.pairs} grids compared", values)


def _waits(grids: int) -> str:
    return "1 grid waits" if grids == 1 else f"{grids} grids wait"


def _scores_health(evaluator: Evaluator) -> Health:
    running = evaluator.running
    values = {name: _number(getattr(running, name)) for name in ("iou", "miou", "pq", "stq", "aq", *VISIBLE_SCORES)}
    values |= {name: _count(getattr(running, name)) for name in ("id_switches", "followed")}
    values |= {f"iou.{name}": _number(iou) for name, iou in evaluator.class_iou.items()}
    text = f"mIoU {_number(running.miou)}" if evaluator.pairs else "no scores yet"
    return Health("scores", OK, text, values)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _count(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"
