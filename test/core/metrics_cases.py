"""Random labels and boxes for the tests of the metrics, the same bits on every machine and numpy version, and what our
metrics say about them: by name, the names under which `metrics_devkit.json` holds the numbers of the nuScenes devkit.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panoocc_core.ground_truth import TrueBoxes
from panoocc_core.labels import BOX_CLASSES, LIDARSEG, OCC3D
from panoocc_core.metrics import (
    Confusion,
    Detection,
    PanopticQuality,
    RayHits,
    RayPQ,
    TrackingQuality,
)
from panoocc_core.types import ScoredBoxes

RECORDED = Path(__file__).with_name("metrics_devkit.json")
RECORDED_OF_AUTHORS = Path(__file__).with_name("metrics_authors.json")
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


def tracked_drives(seed: int = 17, drives: int = 3, frames: int = 9, stretches: int = 40) -> list[list[PanopticFrame]]:
    """Drives whose segments come and go, keep their true ids, and have predicted ids that change, split and merge, with
    other classes and shifted borders; some true things have the id 0.  Equal ids in other drives mean nothing."""
    draws = Draws(seed)
    things = np.array(LIDARSEG.is_thing)
    result = []
    for _ in range(drives):
        class_of = draws.whole(0, CLASS_COUNT, stretches)
        true_id = np.where(things[class_of] & (draws.uniform(0, 1, stretches) > 0.1), 1 + np.arange(stretches), 0)
        guess_of, number_of, of_drive = class_of.copy(), 60_000 + np.arange(stretches), []
        for _ in range(frames):
            lengths = draws.whole(0, 31, stretches)
            class_changes = draws.uniform(0, 1, stretches) < 0.05
            guess_of = np.where(class_changes, draws.whole(0, CLASS_COUNT, stretches), guess_of)
            id_changes = draws.uniform(0, 1, stretches) < 0.15
            number_of = np.where(id_changes, draws.whole(0, stretches, stretches), number_of)
            true_class, true_instance = np.repeat(class_of, lengths), np.repeat(true_id, lengths)
            ends = np.cumsum(lengths)
            starts = np.clip(ends - lengths + draws.whole(-7, 8, stretches), 0, ends[-1])
            predicted_class, predicted_instance = true_class * 0, true_class * 0
            for start, end, guess, number in zip(starts, ends, guess_of, number_of):
                predicted_class[start:end], predicted_instance[start:end] = guess, number if things[guess] else 0
            of_drive.append(PanopticFrame(predicted_class, predicted_instance, true_class, true_instance))
        result.append(of_drive)
    return result


def ray_frames(seed: int = 23, frames: int = 4, stretches: int = 150) -> list[tuple[RayHits, RayHits]]:
    """Predicted and true rays: those of `panoptic_frames` with depths that are off by up to 4 m; some meet nothing.

    An instance of the truth has one class, and barriers, cones and stuff have no instances in the prediction.
    """
    draws, result = Draws(seed), []
    merged = np.isin(LIDARSEG.names, ("barrier", "traffic_cone")) | ~np.array(LIDARSEG.is_thing)
    for frame in panoptic_frames(seed, frames, stretches):
        n = len(frame.true_class)
        nothing = draws.uniform(0, 1, 2, n) < 0.1
        depth = draws.uniform(2, 40, n)
        error = draws.uniform(-1, 1, n) * 4 * draws.uniform(0, 1, n) ** 2
        guessed = np.where(merged[frame.predicted_class], 0, frame.predicted_instance)
        hits = [
            RayHits(
                class_id=np.where(free, OCC3D.free_id, class_id).astype(np.uint8),
                depth_m=np.where(free, np.inf, depth_m),
                instance_id=np.where(free, 0, number).astype(np.int32),
            )
            for free, depth_m, class_id, number in (
                (nothing[0], depth + error, frame.predicted_class, guessed),
                (nothing[1], depth, frame.true_class, frame.true_instance * CLASS_COUNT + frame.true_class),
            )
        ]
        result.append((hits[0], hits[1]))
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


def our_numbers_of_authors() -> dict[str, list[float]]:
    """What our metrics say about tracks and rays, under the names of `metrics_authors.json`."""
    total, each = TrackingQuality.empty(LIDARSEG), []
    for drive in tracked_drives():
        quality = TrackingQuality.empty(LIDARSEG)
        for frame in drive:
            quality = quality.add(
                frame.predicted_class, frame.predicted_instance, frame.true_class, frame.true_instance
            )
        total, each = total + quality, [*each, quality]
    rays = RayPQ.empty(len(OCC3D.names))
    for predicted, true in ray_frames():
        rays = rays.add(predicted, true, OCC3D)
    solid = slice(0, OCC3D.free_id)
    numbers = {
        "tracks": [total.means().stq, total.means().aq, total.means().sq],
        "tracks stq by drive": [quality.means().stq for quality in each],
        "tracks aq by drive": [quality.means().aq for quality in each],
        "rays means": [rays.mean(), *rays.means()],
        "rays pq": np.nan_to_num(rays.pq()[:, solid]).ravel(),
        "rays matches": rays.segments.matches[:, solid].ravel(),
        "rays false positives": rays.segments.false_positives[:, solid].ravel(),
        "rays false negatives": rays.segments.false_negatives[:, solid].ravel(),
    }
    return {name: [float(value) for value in values] for name, values in numbers.items()}
