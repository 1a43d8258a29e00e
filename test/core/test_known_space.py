"""What a planner is told, against oracles that know nothing of parting lines: sampled points and projections."""

import math
from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.geometry import rigid, rotation_from_quaternion
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_core.planning.known_space import NO_CLASS, KnownSpace, Sight, State, class_ids
from panoocc_core.planning.moving_box import OrientedBox
from panoocc_core.types import GridGeometry

FREE, CAR, ROAD = OCC3D.free_id, OCC3D.names.index("car"), OCC3D.names.index("driveable_surface")
ROADS = class_ids(OCC3D, ["driveable_surface"])
TURNED = rigid(rotation_from_quaternion(np.array([0.05, -0.1, 0.4, 0.9])), np.array([-3.0, 1.0, -0.5]))


def space(cells=None, shape=(10, 8, 6), size=(0.5, 0.4, 0.3), pose=None, **options):
    class_id = np.full(shape, FREE, np.uint8)
    for place, kind in (cells or {}).items():
        class_id[place] = kind
    options.setdefault("visible", np.ones(shape, bool))
    return KnownSpace(class_id, GridGeometry(shape, size, np.eye(4) if pose is None else pose), OCC3D, **options)


def random_space(seed, occupied=0.03, **options):
    random = np.random.default_rng(seed)
    shape = (9, 7, 5)
    class_id = np.where(random.random(shape) < occupied, random.choice([CAR, ROAD], shape), FREE).astype(np.uint8)
    options = {"visible": random.random(shape) < 0.9, "ignored": ROADS} | options
    return KnownSpace(class_id, GridGeometry(shape, (0.5, 0.4, 0.3), TURNED), OCC3D, **options)


def random_box(random, geometry, edge_m=0.6):
    """A box somewhere in the grid or near it, turned anyhow."""
    local = random.uniform(-0.2, 1.2, 3) * geometry.shape_xyz * geometry.voxel_size_m
    centre = geometry.ego_from_grid[:3, :3] @ local + geometry.ego_from_grid[:3, 3]
    return OrientedBox(tuple(centre), tuple(random.uniform(0.05, edge_m, 3)), tuple(random.normal(size=4)))


def distances_m(box, geometry):
    """Between a box and every voxel [X, Y, Z], by projecting a point from one onto the other in turn."""
    shape, size = np.array(geometry.shape_xyz), np.array(geometry.voxel_size_m)
    inverse = np.linalg.inv(geometry.ego_from_grid)
    turn = inverse[:3, :3] @ rotation_from_quaternion(np.array(box.orientation))
    centre = inverse[:3, :3] @ np.array(box.centre_m) + inverse[:3, 3]
    low = np.indices(tuple(shape)).reshape(3, -1).T * size
    point = low + size / 2
    for _ in range(400):
        in_box = np.clip((point - centre) @ turn, -np.array(box.size_m) / 2, np.array(box.size_m) / 2) @ turn.T + centre
        point = np.clip(in_box, low, low + size)
    return np.linalg.norm(point - in_box, axis=1).reshape(tuple(shape))


def corners_m(box):
    ends = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * box.size_m
    return ends @ rotation_from_quaternion(np.array(box.orientation)).T + np.array(box.centre_m)


@pytest.mark.parametrize("seed", range(2))
def test_a_box_is_what_the_worst_voxel_is_that_it_touches(seed):
    asked, random, seen = random_space(seed), np.random.default_rng(seed), set()
    geometry = asked.geometry
    inverse, end = np.linalg.inv(geometry.ego_from_grid), np.array(geometry.shape_xyz) * geometry.voxel_size_m
    for _ in range(60):
        box = random_box(random, geometry)
        apart = distances_m(box, geometry)
        if ((apart > 1e-7) & (apart < 1e-3)).any():  # projections have not come to an end
            continue
        corners = corners_m(box) @ inverse[:3, :3].T + inverse[:3, 3]
        outside = (corners < 0).any() or (corners > end).any()
        touched = asked.state[apart <= 1e-7]
        worst = max(int(touched.max(initial=State.FREE)), State.UNKNOWN if outside else State.FREE)
        assert asked.box(box) == worst
        seen.add(asked.box(box))
    assert len(seen) == 3, "the boxes that were asked about are all alike"


@pytest.mark.parametrize("seed", range(2))
def test_the_way_ahead_ends_where_the_box_first_touches(seed):
    asked, random, ends = random_space(seed), np.random.default_rng(100 + seed), 0
    for _ in range(60):
        box, direction = random_box(random, asked.geometry, 0.4), random.normal(size=3)
        step = direction / np.linalg.norm(direction)
        found = asked.ahead(box, tuple(direction), 3.0)

        def at(way_m, box=box, step=step):
            return asked.box(replace(box, centre_m=tuple(np.array(box.centre_m) + way_m * step)))

        for way_m in np.arange(0.0, 3.0, 0.05):
            state = at(way_m)
            assert state != State.OCCUPIED or way_m >= found.occupied_m - 1e-6
            assert state == State.FREE or way_m >= found.free_m - 1e-6
        if 0 < found.occupied_m < math.inf:
            assert at(found.occupied_m + 1e-6) == State.OCCUPIED != at(found.occupied_m - 1e-6)
            assert asked.state[found.obstacle] == State.OCCUPIED
            ends += 1
        if 0 < found.unknown_m < found.occupied_m:
            assert at(found.unknown_m + 1e-6) == State.UNKNOWN != at(found.unknown_m - 1e-6)
            ends += 1
    assert ends > 5


@pytest.mark.parametrize("seed", range(2))
def test_a_ray_goes_through_the_voxels_of_its_points(seed):
    asked, random, hits = random_space(seed, 0.3), np.random.default_rng(200 + seed), 0
    for _ in range(60):
        origin = np.array(random_box(random, asked.geometry).centre_m)
        step = random.normal(size=3)
        step /= np.linalg.norm(step)
        found = asked.along(origin, step, 4.0)
        way_m = np.arange(0.0005, 4.0, 0.001)
        state = asked.at(origin + way_m[:, None] * step).state
        first = {s: way_m[state == s].min(initial=math.inf) for s in (State.OCCUPIED, State.UNKNOWN)}
        # The samples may step over a corner, never find what the ray did not.
        assert found.occupied_m <= first[State.OCCUPIED] and found.free_m <= min(first.values())
        if found.occupied_m < math.inf:
            hits += 1
            assert asked.at((origin + (found.occupied_m + 1e-7) * step)[None]).state[0] == State.OCCUPIED
    assert hits >= 5


def test_points_have_what_the_grid_says():
    shape = (10, 8, 6)
    confidence, instance_id = np.full(shape, 7, np.uint8), np.zeros(shape, np.int32)
    visible = np.ones(shape, bool)
    confidence[3, 2, 1], instance_id[3, 2, 1], visible[4, 2, 1], visible[5, 2, 1] = 200, 65535, False, False
    asked = space(
        {(3, 2, 1): CAR, (5, 2, 1): CAR, (6, 2, 1): ROAD},
        confidence=confidence,
        instance_id=instance_id,
        visible=visible,
        ignored=ROADS,
    )
    found = asked.at(np.array([[x, 0.9, 0.4] for x in (1.6, 2.1, 2.6, 3.1, 5.0, -0.01)]))
    occupied, free, unknown = State.OCCUPIED, State.FREE, State.UNKNOWN
    assert found.state.tolist() == [occupied, unknown, occupied, free, unknown, unknown]
    assert found.sight.tolist() == [Sight.SEEN, Sight.UNSEEN, Sight.UNSEEN, Sight.SEEN, Sight.UNKNOWN, Sight.UNKNOWN]
    assert found.class_id.tolist() == [CAR, FREE, CAR, ROAD, NO_CLASS, NO_CLASS]
    assert found.confidence.tolist() == [200, 7, 7, 7, 0, 0]
    assert found.instance_id.tolist() == [65535, 0, 0, 0, 0, 0]


def test_without_a_mask_nothing_is_free_unless_the_network_is_trusted():
    point, box = np.array([[1.0, 1.0, 1.0]]), OrientedBox((1.0, 1.0, 1.0), (0.2, 0.2, 0.2))
    for visible, trust, state, sight in (
        (None, False, State.UNKNOWN, Sight.UNKNOWN),
        (None, True, State.FREE, Sight.UNKNOWN),
        (np.zeros((10, 8, 6), bool), False, State.UNKNOWN, Sight.UNSEEN),
        (np.zeros((10, 8, 6), bool), True, State.FREE, Sight.UNSEEN),
    ):
        asked = space(visible=visible, trust_unseen=trust)
        found = asked.at(point)
        assert (found.state[0], found.sight[0], asked.box(box)) == (state, sight, state)


def test_a_class_that_is_no_obstacle_is_one_where_nobody_says_so():
    cells = {(4, 4, 0): ROAD}
    box = OrientedBox((2.25, 1.8, 0.15), (0.1, 0.1, 0.1))
    assert space(cells).box(box) == State.OCCUPIED
    assert space(cells, ignored=ROADS).box(box) == State.FREE


def test_a_footprint_stops_before_a_car_and_before_the_end_of_the_grid():
    asked = space({(8, 4, 2): CAR})
    footprint = OrientedBox((1.0, 1.8, 0.75), (1.0, 0.2, 0.2))
    found = asked.ahead(footprint, (2.0, 0.0, 0.0), 10.0)
    assert found.occupied_m == pytest.approx(2.5, abs=1e-6) and found.obstacle == (8, 4, 2)
    assert found.unknown_m == pytest.approx(3.5, abs=1e-6) and found.free_m == found.occupied_m
    assert asked.ahead(footprint, (1.0, 0.0, 0.0), 2.0) == (math.inf, math.inf, None)
    backwards = asked.ahead(footprint, (-1.0, 0.0, 0.0), 10.0)
    assert backwards == (math.inf, pytest.approx(0.5, abs=1e-6), None)
    # Turned by 45 degrees it is 0.85 m long and wide.
    askew = OrientedBox.turned(footprint.centre_m, footprint.size_m, math.pi / 4)
    long_m = (1.0 + 0.2) * math.sqrt(0.5)
    assert asked.ahead(askew, (1, 0, 0), 10).unknown_m == pytest.approx(5.0 - 1.0 - long_m / 2, abs=1e-6)


def test_what_touches_a_face_counts_and_a_flush_box_reaches_outside():
    asked = space({(2, 2, 2): CAR})
    assert asked.box(OrientedBox((1.75, 1.0, 0.75), (0.5, 0.1, 0.1))) == State.OCCUPIED  # begins where the car ends
    assert asked.box(OrientedBox((1.75 + 1e-6, 1.0, 0.75), (0.5, 0.1, 0.1))) == State.FREE
    assert asked.box(OrientedBox((0.25, 2.0, 0.45), (0.5, 0.2, 0.1))) == State.UNKNOWN


def test_every_voxel_of_a_network_without_free_space_is_occupied():
    shape = (3, 3, 3)
    asked = KnownSpace(
        np.zeros(shape, np.uint8),
        GridGeometry(shape, (1.0, 1.0, 1.0), np.eye(4)),
        LIDARSEG,
        visible=np.ones(shape, bool),
    )
    assert (asked.state == State.OCCUPIED).all()


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "ask, words",
    [
        (lambda s: s.at(np.zeros(3)), r"points_m has the shape \(3,\)"),
        (lambda s: s.at(np.array([[0, NAN, 0]])), "points_m has numbers that are not finite"),
        (lambda s: s.at(np.array([[0, 2e8, 0]])), "points_m has numbers"),
        (lambda s: s.box(OrientedBox((0, INF, 0), (1, 1, 1))), "centre_m is"),
        (lambda s: s.box(OrientedBox((0, 0), (1, 1, 1))), "centre_m is"),
        (lambda s: s.box(OrientedBox((0, 0, 0), (1, 0, 1))), "edges of a box are positive"),
        (lambda s: s.box(OrientedBox((0, 0, 0), (1, 1, 1), (0, 0, 0, 0))), "no direction"),
        (lambda s: s.along((0, 0, 0), (0, 0, 0), 1.0), "direction .* has no length"),
        (lambda s: s.along((0, 0, NAN), (1, 0, 0), 1.0), "origin_m is"),
        (lambda s: s.along((0, 0, 0), (1, 0, 0), INF), "reach_m is inf"),
        (lambda s: s.ahead(OrientedBox((0, 0, 0), (1, 1, 1)), (1, 0, 0), 0.0), "reach_m is 0"),
        (lambda s: space(ignored=[18]), "ignored has class 18: occ3d_nuscenes has 0..17"),
        (lambda s: space(visible=np.ones((1, 1, 1), bool)), "visible has the shape"),
        (lambda s: class_ids(OCC3D, ["lawn"]), "no class 'lawn'"),
    ],
)
def test_questions_without_an_answer_are_refused(ask, words):
    with pytest.raises(ValueError, match=words):
        ask(space())


def test_distant_questions_are_unknown():
    asked = space()
    assert asked.box(OrientedBox((9e7, 0, 0), (1, 1, 1))) == State.UNKNOWN
    assert asked.box(OrientedBox((0, 0, 0), (9e7, 9e7, 9e7))) == State.UNKNOWN
    assert asked.along((-5e7, 1.0, 1.0), (1, 0, 0), 9e7).unknown_m == 0
