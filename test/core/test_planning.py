"""Obstacles, columns and flat maps: by hand, and against loops that say the same in another way."""

import math

import numpy as np
import pytest

from panoocc_core.geometry import rigid, rotation_from_quaternion
from panoocc_core.labels import LIDARSEG, OCC3D, OCC3D_WAYMO
from panoocc_core.planning import Band, columns, flat_map, ground_classes, ground_ids, obstacle_classes
from panoocc_core.planning.columns import NO_CLASS, UNKNOWN
from panoocc_core.planning.flat_map import MAX_CELLS
from panoocc_core.types import GridGeometry

FREE, CAR, ROAD, GRASS, TREE = (
    OCC3D.names.index(name) for name in ("free", "car", "driveable_surface", "terrain", "vegetation")
)
BAND = Band(0.0, 3.0)  # the layers 1, 2 and 3 of the grids below


def turn(axis, angle_rad):
    half = np.zeros(4)
    half["xyz".index(axis)], half[3] = math.sin(angle_rad / 2), math.cos(angle_rad / 2)
    return rotation_from_quaternion(half)


def geometry(shape=(4, 3, 5), size_m=(1.0, 1.0, 1.0), pose=None):
    return GridGeometry(shape, size_m, rigid(np.eye(3), np.array([-2.0, -1.0, -1.0])) if pose is None else pose)


def of_grid(class_id, confidence, visible, where, band=BAND, names=()):
    return columns(
        class_id,
        confidence,
        visible,
        where,
        band,
        is_obstacle=obstacle_classes(OCC3D, names),
        is_ground=ground_classes(OCC3D),
        free_id=FREE,
    )


def one_column(classes, visible, confidence=255):
    """Percent, layer, class and confidence of a column, whose voxels are given from the lowest one."""
    shape = (1, 1, len(classes))
    found = of_grid(
        np.reshape(classes, shape).astype(np.uint8),
        np.broadcast_to(np.asarray(confidence, np.uint8), shape),
        np.reshape(visible, shape).astype(bool),
        geometry(shape),
    )
    return tuple(int(values[0, 0]) for values in (found.percent, found.layer, found.class_id, found.confidence))


def test_obstacles_are_all_but_ground_and_free_or_what_is_named():
    assert set(np.flatnonzero(ground_classes(OCC3D))) == ground_ids(OCC3D) == {11, 12, 13, 14}
    assert set(np.flatnonzero(obstacle_classes(OCC3D))) == set(range(17)) - {11, 12, 13, 14}
    assert set(np.flatnonzero(obstacle_classes(LIDARSEG))) == set(range(1, 17)) - {11, 12, 13, 14}  # 0: noise
    assert set(np.flatnonzero(obstacle_classes(OCC3D, ["car", "terrain"]))) == {CAR, GRASS}
    waymo = OCC3D_WAYMO.names
    assert {waymo[i] for i in np.flatnonzero(ground_classes(OCC3D_WAYMO))} == {"road", "walkable"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("pedestrain", "no class 'pedestrain'; is 'pedestrian' meant"), ("free", "free space"), ("x", "it has others, b")],
)
def test_a_class_that_cannot_be_an_obstacle_is_named_with_the_nearest(name, text):
    with pytest.raises(ValueError, match=text):
        obstacle_classes(OCC3D, [name])


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_band_without_heights_is_refused(low, high):
    with pytest.raises(ValueError, match="is empty"):
        Band(low, high)


def test_a_band_beyond_the_grid_is_refused_with_the_heights_that_there_are():
    with pytest.raises(ValueError, match=r"between 5 and 6 m: the grid's lie from -0.50 to 3.50 m"):
        of_grid(*np.zeros((3, 4, 3, 5), np.uint8), geometry(), Band(5.0, 6.0))


SEEN = [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("classes", "visible", "percent", "layer", "class_id"),
    [
        ([ROAD, FREE, FREE, FREE, FREE], SEEN, 0, 0, ROAD),
        ([FREE, FREE, FREE, FREE, FREE], SEEN, 0, -1, NO_CLASS),
        ([ROAD, FREE, CAR, FREE, FREE], SEEN, 100, 2, CAR),
        ([ROAD, FREE, FREE, FREE, TREE], SEEN, 0, 0, ROAD),  # above the band
        ([CAR, FREE, FREE, FREE, FREE], SEEN, 0, -1, NO_CLASS),  # below it
        ([ROAD, FREE, FREE, FREE, FREE], [1, 1, 0, 1, 1], UNKNOWN, -1, NO_CLASS),  # one is enough to hide something
        ([ROAD, FREE, FREE, FREE, FREE], [0, 1, 1, 1, 0], 0, 0, ROAD),  # beside the band nothing needs to be seen
        ([ROAD, FREE, CAR, FREE, FREE], [0, 0, 0, 0, 0], 100, 2, CAR),  # what is predicted counts in any case
        ([FREE, FREE, GRASS, FREE, FREE], [0, 0, 0, 1, 1], 0, 2, GRASS),  # a slope: nobody sees below the ground
        ([FREE, FREE, GRASS, FREE, FREE], [0, 0, 1, 0, 1], UNKNOWN, -1, NO_CLASS),
    ],
)
def test_a_column_is_what_its_voxels_in_the_band_are(classes, visible, percent, layer, class_id):
    confidence = 255 if layer >= 0 else 0
    assert one_column(classes, visible) == (percent, layer, class_id, confidence)


def test_the_percentage_keeps_the_decision_of_the_network():
    road, weak = [ROAD, FREE, FREE, FREE, FREE], [ROAD, CAR, TREE, FREE, FREE]
    assert one_column(road, SEEN, [200, 255, 230, 255, 0])[0] == 10  # 25 of 255 speak against the most doubtful one
    assert one_column(road, SEEN, [200, 255, 100, 255, 0])[0] == 49  # it is free all the same
    assert one_column(weak, SEEN, [9, 60, 90, 90, 90]) == (50, 2, TREE, 90)
    assert one_column(weak, SEEN, [9, 204, 90, 90, 90]) == (80, 1, CAR, 204)
    assert one_column(weak, SEEN, 90) == (50, 2, TREE, 90)  # of equal ones the highest
    assert one_column(weak, SEEN, 0) == (50, 2, TREE, 0)


def test_without_confidence_or_sight_nothing_is_doubted_and_nothing_is_free():
    grid, shape = np.full((2, 1, 5), FREE, np.uint8), (2, 1, 5)
    grid[1, 0, 2] = CAR
    found = of_grid(grid, None, np.ones(shape, bool), geometry(shape))
    assert found.percent.tolist() == [[0], [100]] and found.confidence.tolist() == [[0], [255]]
    blind = of_grid(grid, None, None, geometry(shape))
    assert blind.percent.tolist() == [[UNKNOWN], [100]]


def by_loops(class_id, confidence, visible, where, band, obstacles):
    """Percent, layer and class of every column."""
    nx, ny, nz = where.shape_xyz
    out = np.zeros((3, nx, ny), int)
    for x in range(nx):
        for y in range(ny):
            heights = [where.centres_m(np.array([[x, y, z]]))[0, 2] for z in range(nz)]
            inside = [z for z in range(nz) if band.min_m <= heights[z] < band.max_m]
            hits = [(confidence[x, y, z], z) for z in inside if class_id[x, y, z] in obstacles]
            ground = [z for z in range(max(inside, default=-1) + 1) if class_id[x, y, z] in (11, 12, 13, 14)]
            if hits:
                sure, layer = max(hits)
                out[:, x, y] = max(50, math.floor(sure / 2.55 + 0.5)), layer, class_id[x, y, layer]
                continue
            hidden = [z for z in inside if class_id[x, y, z] == FREE and not visible[x, y, z]]
            if not inside or (hidden and not any(z > max(hidden) for z in ground if z in inside)):
                out[:, x, y] = UNKNOWN, -1, NO_CLASS
                continue
            doubt = max((255 - confidence[x, y, z] for z in inside if class_id[x, y, z] == FREE), default=0)
            layer = max(ground, default=-1)
            out[:, x, y] = min(49, math.floor(doubt / 2.55 + 0.5)), layer, class_id[x, y, layer] if ground else NO_CLASS
    return out


@pytest.mark.parametrize("pose", ["level", "tilted", "turned"])
def test_columns_are_those_of_loops_over_all_voxels(pose):
    random, shape = np.random.default_rng(7), (9, 7, 8)
    rotation = {"level": np.eye(3), "tilted": turn("y", 0.2) @ turn("x", -0.1), "turned": turn("z", -1.57)}[pose]
    where = geometry(shape, (0.8, 0.7, 0.4), rigid(rotation, np.array([-3.0, 2.0, -1.3])))
    class_id = random.choice([FREE] * 9 + [CAR, TREE, ROAD, GRASS], shape).astype(np.uint8)
    confidence, visible = random.integers(0, 256, shape).astype(np.uint8), random.uniform(size=shape) < 0.9
    band = Band(-0.6, 0.5)
    found = of_grid(class_id, confidence, visible, where, band, ["car", "vegetation"])
    percent, layer, classes = by_loops(class_id, confidence.astype(int), visible, where, band, (CAR, TREE))
    assert len(set(np.sign(percent + 0.5 - 50).ravel())) == 2 and (percent == UNKNOWN).any()
    np.testing.assert_array_equal(found.percent, percent)
    np.testing.assert_array_equal(found.layer, layer)
    np.testing.assert_array_equal(found.class_id, classes)
    own = np.take_along_axis(confidence, np.maximum(layer, 0)[..., None], 2)[..., 0]
    np.testing.assert_array_equal(found.confidence, np.where(layer >= 0, own, 0))


def test_a_map_in_the_vehicles_frame_has_the_grids_own_cells():
    percent = np.random.default_rng(0).integers(-1, 101, (4, 3)).astype(np.int8)
    found = flat_map(percent, geometry(), BAND)
    np.testing.assert_array_equal(found.percent, percent.T)  # rows along y
    assert found.corner_m == (-2.0, -1.0) and found.resolution_m == 1.0


def test_occupied_wins_over_unknown_and_unknown_over_free_in_larger_cells():
    percent = np.array([[10, -1, 20, 30], [20, 49, 49, 40], [90, -1, -1, -1], [30, 60, -1, -1]], np.int8)
    found = flat_map(percent, geometry((4, 4, 5)), BAND, resolution_m=2.0)
    assert found.percent.tolist() == [[-1, 90], [49, -1]]
    ragged = flat_map(np.zeros((3, 4), np.int8), geometry((3, 4, 5)), BAND, resolution_m=2.0)
    assert ragged.percent.tolist() == [[0, -1], [0, -1]]  # beyond the grid is unknown


def places_of(found):
    """x and y [n, 2] of the middles of the cells that are occupied."""
    rows, lines = np.nonzero(found.percent >= 50)
    return (np.stack((lines, rows), axis=1) + 0.5) * found.resolution_m + found.corner_m


@pytest.mark.parametrize("cell", [0.0, 0.5, 1.3])
@pytest.mark.parametrize("degrees", [0, 33, 90, 171])
def test_a_map_in_the_world_has_every_obstacle_where_it_is_and_no_other(degrees, cell):
    where = geometry((20, 15, 5), (0.8, 0.8, 1.0), rigid(turn("z", 0.3), np.array([-7.0, -6.0, -1.0])))
    world_from_ego = rigid(turn("z", math.radians(degrees)) @ turn("y", 0.06), np.array([500_123.4, -77.3, 12.0]))
    percent = np.zeros((20, 15), np.int8)
    for x, y in np.random.default_rng(1).integers(0, (20, 15), (12, 2)):
        percent[x, y] = 90
    found = flat_map(percent, where, BAND, world_from_ego, cell)
    size = found.resolution_m
    assert size == (cell or 0.8)
    corner = np.array(found.corner_m) / size
    np.testing.assert_allclose(corner, np.round(corner), atol=1e-6)  # cells stay where they are in the world
    layer = np.argmin(np.abs(where.centres_m(np.array([[10, 7, z] for z in range(5)]))[:, 2] - 1.5))
    ego = where.centres_m(np.array([(x, y, layer) for x, y in np.argwhere(percent)]))
    world = (ego @ world_from_ego[:3, :3].T + world_from_ego[:3, 3])[:, :2]
    apart = np.abs(world[:, None] - places_of(found)[None])
    reach = 0.8 * math.sqrt(0.5) + size * math.sqrt(0.5) + 0.1  # half a diagonal of each
    assert (np.linalg.norm(apart, axis=2).min(axis=1) <= reach).all(), "an obstacle was lost"
    assert (np.linalg.norm(apart, axis=2).min(axis=0) <= reach).all(), "a cell has no obstacle"
    known = (found.percent != UNKNOWN).sum() * size**2
    assert 0.8 * 20 * 15 * 0.64 < known < 1.05 * 20 * 15 * 0.64  # cells at the border touch what is unknown


def test_the_map_of_a_moving_vehicle_keeps_its_size():
    where, sizes = geometry((20, 15, 5)), set()
    for step in range(40):
        pose = rigid(turn("z", step * 0.17), np.array([step * 0.31, -step * 0.07, 0.0]))
        found = flat_map(np.zeros((20, 15), np.int8), where, BAND, pose)
        sizes.add(found.percent.shape)
        assert (found.percent[[0, -1]] == UNKNOWN).all() and (found.percent == 0).any()
    assert sizes == {(26, 26)}


def test_a_frame_without_an_upright_axis_and_a_map_beyond_all_measure_are_refused():
    where = geometry((200, 200, 5))
    with pytest.raises(ValueError, match="does not point up"):
        flat_map(np.zeros((200, 200), np.int8), where, BAND, rigid(turn("x", 1.57), np.zeros(3)))
    with pytest.raises(ValueError, match=rf"cells of 0.05 m make a map of 5658 x 5658: at most {MAX_CELLS}"):
        flat_map(np.zeros((200, 200), np.int8), where, BAND, resolution_m=0.05)
