"""RayPQ: cases worked by hand, and a slow count from the definition; the numbers of the code that it comes from stand
in `test_metrics_recorded.py`."""

import math
import time

import numpy as np
import pytest

from panoocc_core.geometry import rigid
from panoocc_core.labels import LIDARSEG, OCC3D, OCC3D_WAYMO, label_set
from panoocc_core.metrics import RayHits, RayPQ, cast_rays, ray_directions
from panoocc_core.types import GridGeometry

from .metrics_cases import ray_frames

CAR, BARRIER, TERRAIN, FREE = 0, 1, 2, 3
LABELS = label_set("street", ("car", "barrier", "terrain", "free"))


def rays(*stretches: tuple[int, int, int, float]) -> RayHits:
    """Stretches of (rays, class, instance, depth)."""
    lengths = [stretch[0] for stretch in stretches]
    kind, instance, depth = (np.repeat([stretch[i] for stretch in stretches], lengths) for i in (1, 2, 3))
    return RayHits(kind.astype(np.uint8), depth.astype(float), instance.astype(np.int32))


def quality(predicted: RayHits, true: RayHits) -> RayPQ:
    return RayPQ.empty(4).add(predicted, true, LABELS)


def counts(value: RayPQ, kind: int) -> list[list[int]]:
    """[TP, FP, FN] at each threshold."""
    segments = value.segments
    return np.stack((segments.matches, segments.false_positives, segments.false_negatives), -1)[:, kind].tolist()


def test_a_case_worked_by_hand():
    # Two cars of 20 rays.  The first is found with the right depth by 14 rays, 1.5 m too far by 4, and missed by 2; the
    # second is found 3 m too near; 10 rays that meet nothing do not count whatever is said of them.
    true = rays((20, CAR, 1, 10), (20, CAR, 2, 10), (20, TERRAIN, 0, 5), (10, FREE, 0, math.inf))
    predicted = rays(
        (14, CAR, 5, 10.5),
        (4, CAR, 5, 11.5),
        (2, TERRAIN, 0, 10),
        (20, CAR, 6, 7),
        (20, TERRAIN, 0, 5),
        (10, CAR, 5, 9),
    )
    found = quality(predicted, true)
    assert counts(found, CAR) == [[1, 1, 1], [1, 1, 1], [2, 0, 0]]
    assert found.pq()[:, CAR] == pytest.approx([0.5 * 14 / 24, 0.5 * 18 / 20, (18 / 20 + 1) / 2])
    assert found.pq()[:, TERRAIN] == pytest.approx([20 / 22] * 3)
    assert np.isnan(found.pq()[:, [BARRIER, FREE]]).all()
    assert found.means() == pytest.approx(np.nanmean(found.pq(), axis=1))
    assert found.mean() == pytest.approx(np.nanmean(found.pq()))


def test_a_threshold_is_no_hit_itself():
    true = rays((20, CAR, 1, 10))
    assert counts(quality(rays((20, CAR, 1, 11)), true), CAR) == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]


def test_barriers_and_stuff_are_one_segment_each_and_cars_are_not():
    true = rays((20, BARRIER, 1, 5), (20, BARRIER, 2, 5), (20, CAR, 1, 5), (20, CAR, 2, 5), (20, TERRAIN, 9, 5))
    merged = rays((40, BARRIER, 7, 5), (40, CAR, 7, 5), (10, TERRAIN, 1, 5), (10, TERRAIN, 2, 5))
    found = quality(merged, true)
    assert counts(found, BARRIER) == counts(found, TERRAIN) == [[1, 0, 0]] * 3
    assert counts(found, CAR) == [[0, 1, 2]] * 3


def test_the_things_of_another_set_of_classes_are_told_apart_but_for_its_cones():
    vehicle, cone = (OCC3D_WAYMO.names.index(name) for name in ("vehicle", "construction_cone"))
    true = rays((20, vehicle, 1, 5), (20, vehicle, 2, 5), (20, cone, 3, 5), (20, cone, 4, 5))
    merged = rays((40, vehicle, 1, 5), (40, cone, 1, 5))
    found = RayPQ.empty(len(OCC3D_WAYMO.names)).add(merged, true, OCC3D_WAYMO)
    assert counts(found, vehicle) == [[0, 1, 2]] * 3 and counts(found, cone) == [[1, 0, 0]] * 3


def test_few_rays_match_but_are_neither_missed_nor_invented():
    true = rays((9, CAR, 1, 5), (10, CAR, 2, 5), (20, TERRAIN, 0, 5))
    assert counts(quality(rays((39, TERRAIN, 0, 5)), true), CAR) == [[0, 0, 1]] * 3
    assert counts(quality(true, rays((39, TERRAIN, 0, 5))), CAR) == [[0, 1, 0]] * 3
    assert counts(quality(true, true), CAR) == [[2, 0, 0]] * 3


def test_nothing_met_is_missing_but_not_invented():
    found = quality(rays((20, FREE, 0, math.inf)), rays((20, CAR, 1, 5)))
    assert counts(found, CAR) == [[0, 0, 1]] * 3 and counts(found, FREE) == [[0, 0, 0]] * 3
    assert found.mean() == 0


def test_an_invented_class_costs_unless_only_present_ones_are_asked_for():
    found = quality(rays((20, CAR, 1, 5), (10, BARRIER, 0, 5)), rays((20, CAR, 1, 5), (10, CAR, 2, 5)))
    assert found.pq()[0, [CAR, BARRIER]] == pytest.approx([1 / 1.5, 0])
    assert found.mean_of_present() == pytest.approx(2 / 3) and found.mean() == pytest.approx(1 / 3)


def slow_pq(frames) -> np.ndarray:
    """[T, K] from the definition, segment by segment."""
    pq = np.full((3, len(LIDARSEG.names)), math.nan)
    for t, limit in enumerate((1.0, 2.0, 4.0)):
        for kind, name in enumerate(LIDARSEG.names):
            overlap, wrong = [], 0
            apart = LIDARSEG.is_thing[kind] and name not in ("barrier", "traffic_cone")
            for predicted, true in frames:
                near = np.abs(predicted.depth_m - true.depth_m) < limit
                solid = true.class_id != OCC3D.free_id
                found, there = (
                    [solid & (h.class_id == kind) & ((h.instance_id == i) | (not apart)) for i in numbers]
                    for h in (predicted, true)
                    for numbers in [np.unique(h.instance_id[solid & (h.class_id == kind)]) if apart else [0]]
                )
                iou = np.array([[(p & g & near).sum() / max(p.sum() + g.sum() - (p & g & near).sum(), 1) for g in there]
                                for p in found]).reshape(len(found), len(there))  # fmt: skip
                overlap += iou[iou > 0.5].tolist()
                wrong += sum(p.sum() >= 10 and not (row > 0.5).any() for p, row in zip(found, iou))
                wrong += sum(g.sum() >= 10 and not (column > 0.5).any() for g, column in zip(there, iou.T))
            if overlap or wrong:
                pq[t, kind] = sum(overlap) / (len(overlap) + 0.5 * wrong)
    return pq


@pytest.mark.filterwarnings("ignore:invalid value")  # inf - inf, where neither meets anything
def test_a_slow_count_of_random_rays_says_the_same():
    frames = ray_frames(seed=2, frames=2, stretches=60)
    total = RayPQ.empty(len(OCC3D.names))
    for predicted, true in frames:
        total = total + RayPQ.empty(len(OCC3D.names)).add(predicted, true, OCC3D)
    assert total.pq()[:, : OCC3D.free_id] == pytest.approx(slow_pq(frames), nan_ok=True)
    assert 0.1 < total.mean() < 0.9 and (np.diff(total.means()) > 0).all()


def test_rays_bring_the_instance_that_they_meet():
    geometry = GridGeometry((40, 40, 8), (0.8, 0.8, 0.8), rigid(np.eye(3), np.array([-16, -16, -1.0])))
    class_id = np.full(geometry.shape_xyz, FREE, np.uint8)
    class_id[:, :, 0] = TERRAIN
    instance_id = np.zeros(geometry.shape_xyz, np.int32)
    for number, at in ((70_000, 28), (2, 8)):
        class_id[at : at + 4, 18:22, 1:4], instance_id[at : at + 4, 18:22, 1:4] = CAR, number
    origins = np.array([[0.1, 0.2, 1.0], [0.1, 3.2, 1.0]])
    hits = cast_rays(class_id, FREE, geometry, origins, ray_directions(), instance_id)
    plain = cast_rays(class_id, FREE, geometry, origins, ray_directions())
    assert np.array_equal(hits.class_id, plain.class_id) and plain.instance_id is None
    assert sorted(set(hits.instance_id[hits.class_id == CAR].tolist())) == [2, 70_000]
    assert not hits.instance_id[hits.class_id != CAR].any()
    ahead = np.tile(ray_directions()[:, 0] > 0, 2)
    assert (hits.instance_id[ahead & (hits.class_id == CAR)] == 70_000).all()
    swapped = RayHits(hits.class_id, hits.depth_m, np.where(hits.instance_id == 2, 70_000, hits.instance_id))
    assert quality(hits, hits).mean() == 1 > quality(swapped, hits).mean()


def test_bad_input_is_refused():
    hits = rays((20, CAR, 1, 5))
    with pytest.raises(ValueError, match="cast without instances"):
        quality(RayHits(hits.class_id, hits.depth_m), hits)
    with pytest.raises(ValueError, match="20 predicted rays, 3 true ones"):
        quality(hits, rays((3, CAR, 1, 5)))
    with pytest.raises(ValueError, match="outside 0..3"):
        quality(rays((20, 4, 1, 5)), hits)
    with pytest.raises(ValueError, match="no class for free space"):
        RayPQ.empty(len(LIDARSEG.names)).add(hits, hits, LIDARSEG)
    with pytest.raises(ValueError, match="street has 4 classes, not 18"):
        RayPQ.empty(18).add(hits, hits, LABELS)
    with pytest.raises(ValueError, match="other thresholds"):
        RayPQ.empty(4) + RayPQ.empty(4, (1.0,))
    with pytest.raises(ValueError, match="instance_id has the shape"):
        geometry = GridGeometry((2, 2, 2), (1.0, 1.0, 1.0), np.eye(4))
        cast_rays(np.full((2, 2, 2), FREE), FREE, geometry, np.zeros((1, 3)), np.eye(3), np.zeros((2, 2, 1), int))


def test_all_rays_of_a_frame_take_little_beside_their_casting():
    draw = np.random.default_rng(0)
    n = 8 * 14_040
    hits = RayHits(
        draw.integers(0, 18, n, dtype=np.uint8), draw.uniform(1, 40, n), draw.integers(0, 65_536, n, np.int32)
    )
    start = time.thread_time()
    RayPQ.empty(len(OCC3D.names)).add(hits, hits, OCC3D)
    assert time.thread_time() - start < 0.5  # 60 ms on a free core
