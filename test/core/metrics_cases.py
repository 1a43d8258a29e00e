"""Random labels and boxes for the tests of the metrics, the same bits on every machine and numpy version, and what our
metrics say about them: by name, the names under which `metrics_devkit.json` holds the numbers of the nuScenes devkit.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panoocc_core.ground_truth import TrueBoxes
from panoocc_core.labels import BOX_CLASSES, LIDARSEG
from panoocc_core.metrics import Confusion, Detection, PanopticQuality, ScoredBoxes

RECORDED = Path(__file__).with_name("metrics_devkit.json")
MIN_POINTS = (15, 30)
CLASS_COUNT = len(LIDARSEG.names)
ATTRIBUTES = ("", "vehicle.moving", "vehicle.parked", "vehicle.stopped")


class Draws:
    """Numbers from the raw stream of PCG64, which numpy keeps from version to version."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.PCG64(seed)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        raw = self.bits.random_raw(int(np.prod(shape)))
        return (low + (high - low) * (raw >> np.uint64(11)) * 2.0**-53).reshape(shape)

    def whole(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Whole numbers from low to below high."""
        return np.floor(self.uniform(low, high, *shape)).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PanopticFrame:
    """Points in a row; every stretch is a segment or a part of one."""

    predicted_class: np.ndarray
    predicted_instance: np.ndarray
    true_class: np.ndarray
    true_instance: np.ndarray


def panoptic_frames(seed: int = 7, frames: int = 4, stretches: int = 150) -> list[PanopticFrame]:
    """Segments of 1 to 60 points; predictions with shifted borders, other classes, split and merged instances, void."""
    draws = Draws(seed)
    things = np.array(LIDARSEG.is_thing)
    result = []
    for _ in range(frames):
        lengths = draws.whole(1, 61, stretches)
        class_of = draws.whole(0, CLASS_COUNT, stretches)
        instance_of = np.where(things[class_of], draws.whole(0, stretches, stretches), 0)
        true_class, true_instance = np.repeat(class_of, lengths), np.repeat(instance_of, lengths)
        swapped = draws.uniform(0, 1, stretches) < 0.2
        guess_of = np.where(swapped, draws.whole(0, CLASS_COUNT, stretches), class_of)
        number_of = np.where(draws.uniform(0, 1, stretches) < 0.1, 3, instance_of + 1)
        shift = draws.whole(-9, 10, stretches + 1)
        ends = np.cumsum(lengths)
        starts = np.clip(np.concatenate(([0], ends[:-1])) + shift[:-1], 0, ends[-1])
        predicted_class, predicted_number = true_class * 0, true_class * 0
        for start, end, guess, number in zip(starts, ends, guess_of, number_of):
            predicted_class[start:end], predicted_number[start:end] = guess, number
        predicted_instance = np.where(things[predicted_class], predicted_number, 0)
        result.append(PanopticFrame(predicted_class, predicted_instance, true_class, true_instance))
    return result


@dataclass(frozen=True, slots=True, eq=False)
class BoxFrame:
    """Detections around true boxes; attributes by number, 0 = none."""

    detections: ScoredBoxes
    truth: TrueBoxes
    true_attribute: np.ndarray  # [n]


def box_frames(
    seed: int = 11, frames: int = 12, count: int = 40, absent: tuple[str, ...] = ("trailer",)
) -> list[BoxFrame]:
    """Boxes within 60 m; two detections per true box, at distances from exact to far; scores with ties; some unknown
    velocities; no true box of the absent classes."""
    draws = Draws(seed)
    kept = [i for i, name in enumerate(BOX_CLASSES) if name not in absent]
    result = []
    for _ in range(frames):
        centre = draws.uniform(-1, 1, count, 3) * (60, 25, 2)
        size = draws.uniform(0.4, 5, count, 3)
        yaw = draws.uniform(-np.pi, np.pi, count)
        velocity = draws.uniform(-8, 8, count, 2)
        velocity[draws.uniform(0, 1, count) < 0.15] = np.nan
        class_id = np.array(kept)[draws.whole(0, len(kept), count)]
        truth = TrueBoxes(
            centre_m=centre.astype(np.float32),
            size_m=size.astype(np.float32),
            yaw_rad=yaw.astype(np.float32),
            velocity_mps=velocity.astype(np.float32),
            class_id=class_id,
            instance_id=np.arange(count, dtype=np.int32),
        )
        twice = np.concatenate((np.arange(count), np.arange(count)))
        reach = draws.uniform(0, 1, 2 * count, 1) ** 2 * 3.5
        swapped = draws.uniform(0, 1, 2 * count) < 0.15
        detections = ScoredBoxes(
            centre_m=(centre[twice] + draws.uniform(-1, 1, 2 * count, 3) * reach).astype(np.float32),
            size_m=(size[twice] * draws.uniform(0.7, 1.4, 2 * count, 3)).astype(np.float32),
            yaw_rad=(yaw[twice] + draws.uniform(-4, 4, 2 * count)).astype(np.float32),
            velocity_mps=(np.nan_to_num(velocity[twice]) + draws.uniform(-1, 1, 2 * count, 2)).astype(np.float32),
            class_id=np.where(swapped, draws.whole(0, len(BOX_CLASSES), 2 * count), class_id[twice]),
            score=np.round(draws.uniform(0.01, 1, 2 * count), 2).astype(np.float32),
            attribute_id=draws.whole(0, len(ATTRIBUTES), 2 * count),
        )
        result.append(BoxFrame(detections, truth, draws.whole(0, len(ATTRIBUTES), count)))
    return result


def lidarseg_points(seed: int = 5, points: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true classes; three classes occur nowhere, noise only in truth."""
    draws = Draws(seed)
    true = draws.whole(0, CLASS_COUNT - 3, points)
    guess = draws.whole(1, CLASS_COUNT - 3, points)
    return np.where((draws.uniform(0, 1, points) < 0.7) & (true > 0), true, guess), true


def our_numbers() -> dict[str, list[float]]:
    """What our metrics say; an absent class counts as in the devkit."""
    predicted, true = lidarseg_points()
    confusion = Confusion.empty(CLASS_COUNT).add(predicted, true)
    numbers = {"lidarseg iou": confusion.iou((0,)), "lidarseg miou": [confusion.miou(LIDARSEG, (0,))]}
    for smallest in MIN_POINTS:
        quality = PanopticQuality.empty(CLASS_COUNT, (0,), smallest)
        for frame in panoptic_frames():
            quality = quality.add(
                frame.predicted_class, frame.predicted_instance, frame.true_class, frame.true_instance
            )
        means, name = quality.means(LIDARSEG), f"panoptic {smallest}"
        numbers[f"{name} matches"] = quality.matches
        numbers[f"{name} false positives"] = quality.false_positives
        numbers[f"{name} false negatives"] = quality.false_negatives
        for score in ("pq", "sq", "rq", "iou"):
            numbers[f"{name} {score}"] = np.nan_to_num(getattr(quality, score)())
        numbers[f"{name} means"] = [means.pq, means.sq, means.rq, means.miou, means.pq_dagger]
    for with_attributes in (True, False):
        detection = Detection()
        for frame in box_frames():
            attribute = frame.true_attribute if with_attributes else None
            detection = detection.add(frame.detections, frame.truth, attribute)
        scores, name = detection.scores(), "detection" if with_attributes else "detection without attributes"
        numbers[f"{name} ap"] = scores.ap.ravel()
        numbers[f"{name} errors"] = scores.errors.ravel()
        numbers[f"{name} means"] = [scores.mean_ap, *scores.mean_errors, scores.nds]
    return {name: [float(value) for value in values] for name, values in numbers.items()}
