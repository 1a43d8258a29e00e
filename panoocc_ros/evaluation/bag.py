"""Recorded grids against the truth in a bag, scored as the live evaluator scores them."""

from dataclasses import dataclass
from pathlib import Path

from panoocc_core.labels import LabelSet
from panoocc_core.metrics.panoptic import MIN_VOXELS

from ..bags.bag import BagError, BagReader
from ..bags.recording import recorded_labels
from ..messages import truth as truth_messages
from .evaluator import PREDICTION, TRUTH, EvaluationError, Evaluator, FrameScores, check_labels

GRID = truth_messages.TYPES[truth_messages.TRUE_OCCUPANCY]  # the type of the node's grids as well


@dataclass(frozen=True, slots=True)
class BagScores:
    """What the grids of a bag are worth."""

    frames: tuple[FrameScores, ...]  # in the order of the truth
    evaluator: Evaluator  # with the scores over all of them, and what found no partner


def truth_labels(path: Path) -> LabelSet | None:
    """The label set of the truth in a bag; None where it has no truth.

    Raises:
        BagError: the bag cannot be read, or has a truth whose label set is missing or cannot be used.
    """
    with BagReader(path) as bag:
        return _labels(bag, truth_messages.TRUE_OCCUPANCY, truth_messages.LABELS)


def evaluate_bag(grids: Path, truth: Path, node: str = "panoocc", min_voxels: int = MIN_VOXELS) -> BagScores:
    """Score the grids that the node called `node` has left in one bag by the truth in another one, or in the same.

    Raises:
        BagError: a bag cannot be read, or has grids whose label set is missing or cannot be used.
        EvaluationError: grids and truth have different label sets.
    """
    with BagReader(grids) as predicted, BagReader(truth) as true:
        topic, labels_topic = f"/{node}/occupancy", f"/{node}/labels"
        evaluator = Evaluator(max(1, predicted.count((topic,))), min_voxels)
        predicted_labels = _labels(predicted, topic, labels_topic)
        true_labels = _labels(true, truth_messages.TRUE_OCCUPANCY, truth_messages.LABELS)
        if predicted_labels is None or true_labels is None:
            return BagScores((), evaluator)
        try:
            check_labels(predicted_labels, true_labels)
        except EvaluationError as error:
            raise EvaluationError(f"{grids}: {labels_topic} and {truth}: {truth_messages.LABELS}: {error}") from error
        evaluator.set_labels(PREDICTION, predicted_labels)
        evaluator.set_labels(TRUTH, true_labels)
        # All predictions first: they are small, and the truth then finds each one whatever the two bags' clocks say.
        _feed(evaluator, predicted, {topic: PREDICTION})
        frames = _feed(evaluator, true, {truth_messages.TRUE_OCCUPANCY: TRUTH})
    return BagScores(tuple(frames), evaluator)


def _labels(bag: BagReader, grids: str, labels: str) -> LabelSet | None:
    """The newest label set on the topic `labels`; None where no grids need it.

    Raises:
        BagError: it is missing, or cannot be used.
    """
    if not bag.count((grids,)):
        return None
    newest = None
    for raw in bag.messages((labels,)):
        newest = recorded_labels(bag, raw)
    if newest is None:
        raise BagError(
            f"{bag.path}: {grids} has grids, but nothing on {labels} says what their classes mean: record both topics "
            f"({labels} is latched, so that a recorder may start late)"
        )
    return newest


def _feed(evaluator: Evaluator, bag: BagReader, kinds: dict[str, str]) -> list[FrameScores]:
    for topic in kinds:
        if bag.topics.get(topic, GRID) != GRID:
            raise BagError(f"{bag.path}: {topic} holds {bag.topics[topic]}, not {GRID}: record the grids' own topic")
    found = (evaluator.add(kinds[raw.topic], bag.deserialise(raw)) for raw in bag.messages(tuple(kinds)))
    return [scores for scores in found if scores is not None]
