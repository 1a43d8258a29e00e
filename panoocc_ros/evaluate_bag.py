"""Recorded grids against the truth in a bag, scored as the live evaluator scores them."""

from dataclasses import dataclass
from pathlib import Path

from panoocc_core.labels import LabelSet
from panoocc_core.metrics.panoptic import MIN_VOXELS

from . import truth_messages
from .bag import BagReader
from .evaluation import PREDICTION, TRUTH, VISIBLE, Evaluator, FrameScores
from .received import labels_from_message


@dataclass(frozen=True, slots=True)
class BagScores:
    """What the grids of a bag are worth."""

    frames: tuple[FrameScores, ...]  # in the order of the truth
    evaluator: Evaluator  # with the scores over all of them, and what found no partner


def truth_labels(path: Path) -> LabelSet | None:
    """The label set of the truth in a bag; None where it has no truth.

    Raises:
        BagError: the bag cannot be read.
    """
    with BagReader(path) as bag:
        if truth_messages.OCCUPANCY in bag.topics:
            for raw in bag.messages((truth_messages.LABELS,)):
                return labels_from_message(bag.deserialise(raw))
    return None


def evaluate_bag(grids: Path, truth: Path, node: str = "panoocc", min_voxels: int = MIN_VOXELS) -> BagScores:
    """Score the grids that the node called `node` has left in one bag by the truth in another one, or in the same.

    Raises:
        BagError: a bag cannot be read.
    """
    with BagReader(grids) as predicted, BagReader(truth) as true:
        topic = f"/{node}/occupancy"
        evaluator = Evaluator(truth_messages.VISIBLE in true.topics, max(1, predicted.count((topic,))), min_voxels)
        # All predictions first: they are small, and the truth then finds each one whatever the two bags' clocks say.
        _feed(evaluator, predicted, {topic: PREDICTION}, {f"/{node}/labels": PREDICTION})
        kinds = {truth_messages.OCCUPANCY: TRUTH, truth_messages.VISIBLE: VISIBLE}
        frames = _feed(evaluator, true, kinds, {truth_messages.LABELS: TRUTH})
    return BagScores(tuple(frames), evaluator)


def _feed(evaluator: Evaluator, bag: BagReader, grids: dict[str, str], labels: dict[str, str]) -> list[FrameScores]:
    for raw in bag.messages(tuple(labels)):
        evaluator.set_labels(labels[raw.topic], labels_from_message(bag.deserialise(raw)))
    found = (evaluator.add(grids[raw.topic], bag.deserialise(raw)) for raw in bag.messages(tuple(grids)))
    return [scores for scores in found if scores is not None]
