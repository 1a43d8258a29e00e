"""Things of a frame: connected parts of a class, and boxes that claim voxels or points."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core.config import PanopticConfig, model_config
from panoocc_core.geometry import rigid
from panoocc_core.labels import BOX_CLASSES, LIDARSEG, OCC3D, OCC3D_WAYMO, label_set
from panoocc_core.network import NonFiniteError
from panoocc_core.panoptic import connected_instances
from panoocc_core.panoptic.fusion import claimed
from panoocc_core.panoptic.things import detected_boxes, from_boxes, from_components
from panoocc_core.types import GridGeometry, ScoredBoxes
from panoocc_core.voxels import token_count
from panoocc_ros.commands.cli import main

from .conftest import heading

CAR, PEDESTRIAN, ROAD, FREE = (OCC3D.names.index(n) for n in ("car", "pedestrian", "driveable_surface", "free"))


def volume(*voxels):
    """Free space with (class, x, y, z) in it."""
    class_id = np.full((6, 5, 4), FREE, np.uint8)
    for one, *place in voxels:
        class_id[tuple(place)] = one
    return class_id


def test_corners_join_and_a_gap_parts():
    ids = connected_instances(volume((CAR, 0, 0, 0), (CAR, 1, 1, 1), (CAR, 3, 1, 1)), OCC3D)
    assert ids.dtype == np.int32 and ids[0, 0, 0] == ids[1, 1, 1] != ids[3, 1, 1]
    assert ids[3, 1, 1] > 0 and np.count_nonzero(ids) == 3


def test_classes_do_not_join_nor_share_ids():
    ids = connected_instances(volume((CAR, 2, 2, 2), (PEDESTRIAN, 2, 2, 3), (PEDESTRIAN, 5, 0, 0)), OCC3D)
    assert sorted(ids[ids > 0].tolist()) == [1, 2, 3]


def test_stuff_and_free_space_are_no_things():
    class_id = volume((CAR, 0, 0, 0))
    class_id[:, :, 1] = ROAD
    assert np.argwhere(connected_instances(class_id, OCC3D)).tolist() == [[0, 0, 0]]


def test_ids_do_not_depend_on_the_byte_order_of_memory():
    rng = np.random.default_rng(3)
    class_id = rng.choice(np.array([CAR, PEDESTRIAN, FREE, FREE, FREE], np.uint8), size=(9, 7, 5))
    turned = np.asfortranarray(class_id)
    assert np.array_equal(connected_instances(class_id, OCC3D), connected_instances(turned, OCC3D))


def test_the_first_class_may_be_a_thing_and_the_last_one_too():
    labels = label_set("own", ("car", "free", *(f"class {i}" for i in range(252)), "bus"))
    class_id = np.ones((4, 3, 2), np.uint8)
    class_id[0, 0, 0], class_id[3, 2, 1] = 0, 254
    assert sorted(connected_instances(class_id, labels).ravel())[-3:] == [0, 1, 2]


def test_points_are_refused():
    with pytest.raises(ValueError, match="volume"):
        connected_instances(np.zeros(5, np.uint8), OCC3D)


def test_boxes_claim_the_points_of_their_class_best_first():
    position = np.array([[0, 0, 0], [0.5, 0, 0], [0.9, 0, 0], [5, 0, 0], [0, 0.2, 0]], np.float32)
    car, walker = LIDARSEG.names.index("car"), LIDARSEG.names.index("pedestrian")
    classes = np.array([car, car, car, car, walker], np.uint8)
    boxes = ScoredBoxes(
        centre_m=np.array([[0, 0, 0], [0.1, 0, 0], [5, 0, 0], [5, 0, 0]], np.float32),
        size_m=np.full((4, 3), 2.0, np.float32),
        yaw_rad=np.array([0, 0, np.pi / 4, 0], np.float32),
        velocity_mps=np.zeros((4, 2), np.float32),
        class_id=np.array([BOX_CLASSES.index("car")] * 4),
        score=np.array([0.9, 0.8, 0.5, 0.1], np.float32),
    )
    # The second box finds its points taken, the last one is too unsure.
    found = claimed(position, classes, boxes, LIDARSEG, PanopticConfig(min_voxels=1))
    assert found.box.tolist() == [1, 1, 1, 2, 0] and found.kept.tolist() == [0, 2]


def boxes_at(*rows, size=(2.0, 2.0, 2.0), yaw=0.0):
    """Boxes of (class name, x, y, score)."""
    n = len(rows)
    return ScoredBoxes(
        centre_m=np.array([(x, y, 0.0) for _, x, y, _ in rows], np.float32).reshape(-1, 3),
        size_m=np.tile(np.array(size, np.float32), (n, 1)),
        yaw_rad=np.full(n, yaw, np.float32),
        velocity_mps=np.zeros((n, 2), np.float32),
        class_id=np.array([BOX_CLASSES.index(name) for name, *_ in rows], np.int64),
        score=np.array([score for *_, score in rows], np.float32),
    )


def line(*x, name="car"):
    """Places on the x axis, and their class."""
    return np.array([(at, 0.0, 0.0) for at in x]), np.full(len(x), LIDARSEG.names.index(name), np.uint8)


def test_a_box_reaches_as_far_as_its_margin_and_turned_ones_do_along_their_own_sides():
    place, kinds = line(0.9, 1.3, 1.6)
    rules = PanopticConfig(min_voxels=1)
    assert claimed(place, kinds, boxes_at(("car", 0, 0, 0.9)), LIDARSEG, rules).box.tolist() == [1, 0, 0]
    wide = claimed(place, kinds, boxes_at(("car", 0, 0, 0.9)), LIDARSEG, rules, margin_m=(0.2, 0.4, 0.0))
    assert wide.box.tolist() == [1, 1, 0]
    turned = boxes_at(("car", 0, 0, 0.9), size=(1.0, 4.0, 1.0), yaw=np.pi / 2)
    assert claimed(place, kinds, turned, LIDARSEG, rules).box.tolist() == [1, 1, 1]


def test_a_box_that_finds_too_little_is_dropped_and_gives_no_number_away():
    place, kinds = line(0.0, 5.0, 5.5)
    found = claimed(place, kinds, boxes_at(("car", 0, 0, 0.9), ("car", 5, 0, 0.8)), LIDARSEG, PanopticConfig())
    assert found.box.tolist() == [0, 1, 1] and found.kept.tolist() == [1]  # two voxels at least


def test_what_is_near_a_box_of_its_class_joins_the_nearest_one():
    place, kinds = line(0.0, 1.5, 2.4, 4.0, 9.0)
    boxes = boxes_at(("car", 0, 0, 0.9), ("car", 4, 0, 0.8), ("truck", 9, 0, 0.7))
    rules = PanopticConfig(min_voxels=1, join_m=1.0)
    assert claimed(place, kinds, boxes, LIDARSEG, rules).box.tolist() == [1, 1, 2, 2, 0]
    assert claimed(place, kinds, boxes, LIDARSEG, PanopticConfig(min_voxels=1)).box.tolist() == [1, 0, 0, 2, 0]


def test_only_a_sure_box_sets_classes_and_only_those_of_things():
    place = np.zeros((3, 3))
    kinds = np.array([LIDARSEG.names.index(name) for name in ("car", "truck", "driveable_surface")], np.uint8)
    rules = PanopticConfig(min_voxels=1, refine=True, refine_score=0.6)
    sure = claimed(place, kinds, boxes_at(("truck", 0, 0, 0.7)), LIDARSEG, rules)
    truck = LIDARSEG.names.index("truck")
    assert sure.box.tolist() == [1, 1, 0] and sure.class_id.tolist() == [truck, truck, kinds[2]]
    unsure = claimed(place, kinds, boxes_at(("truck", 0, 0, 0.5)), LIDARSEG, rules)
    assert unsure.box.tolist() == [0, 1, 0] and unsure.class_id.tolist() == kinds.tolist()


def test_boxes_claim_what_their_class_is_called_in_another_label_set():
    """Of Waymo's classes: a vehicle is any car or truck, a cyclist a bicycle with its rider; a bicycle stays one."""
    place = np.array([(float(x), 0.0, 0.0) for x in (0, 5, 10, 15, 15)])
    names = ("vehicle", "vehicle", "cyclist", "bicycle", "vehicle")
    kinds = np.array([OCC3D_WAYMO.names.index(name) for name in names], np.uint8)
    boxes = boxes_at(("car", 0, 0, 0.9), ("bus", 5, 0, 0.8), ("bicycle", 10, 0, 0.7), ("bicycle", 15, 0, 0.6))
    rules = PanopticConfig(min_voxels=1)
    found = claimed(place, kinds, boxes, OCC3D_WAYMO, rules)
    assert found.box.tolist() == [1, 2, 3, 4, 0] and found.class_id.tolist() == kinds.tolist()
    refined = claimed(place, kinds, boxes, OCC3D_WAYMO, replace(rules, refine=True))
    assert refined.box.tolist() == [1, 2, 3, 4, 4] and refined.class_id[:4].tolist() == kinds[:4].tolist()
    assert refined.class_id[4] in kinds[2:4]


def test_instances_by_boxes_need_boxes_of_things():
    nano = model_config("nano")
    for change in ({"boxes": replace(nano.boxes, classes=())}, {"class_names": ("wall", "floor", "free")}):
        with pytest.raises(ValueError, match=r"panoptic.instances: boxes needs .* nano has none .*; choose components"):
            replace(nano, panoptic=PanopticConfig("boxes"), **change)
        assert replace(nano, panoptic=PanopticConfig("none"), **change).panoptic.instances == "none"


def test_a_command_that_asks_for_boxes_that_are_not_there_says_so(capsys):
    assert main(["eval", "--model", "nano_waymo", "--instances", "boxes"]) == 2
    assert "panoptic.instances: boxes needs box classes that are things of occ3d_waymo" in capsys.readouterr().err


GRID = GridGeometry((20, 20, 4), (0.5, 0.5, 1.0), rigid(heading(30.0), np.array([3.0, -2.0, 0.0])))


def test_boxes_around_voxels_are_those_of_the_turned_grid():
    """A car of 8 x 4 x 2 voxels along the grid's y, in a grid that is turned by 30 degrees."""
    class_id = np.full(GRID.shape_xyz, FREE, np.uint8)
    class_id[2:6, 4:12, 1:3] = CAR
    class_id[15, 15, 0] = PEDESTRIAN
    config = model_config("nano")
    config = replace(config, panoptic=PanopticConfig("components", min_voxels=2))
    confidence = torch.full(GRID.shape_xyz, 51, dtype=torch.uint8)
    found = from_components(torch.from_numpy(class_id), confidence, GRID, config)
    assert len(found.boxes) == 1 and found.source == "components"  # the walker is too small
    np.testing.assert_allclose(found.boxes.size_m, [[4.0, 2.0, 2.0]], atol=1e-4)
    middle = GRID.ego_from_grid @ (2.0, 4.0, 2.0, 1.0)
    np.testing.assert_allclose(found.boxes.centre_m, [middle[:3]], atol=1e-4)
    assert abs(np.sin(found.boxes.yaw_rad[0] - np.deg2rad(120))) < 1e-4 and np.cos(found.boxes.yaw_rad[0]) >= 0
    assert found.boxes.score.tolist() == pytest.approx([0.2])
    numbers = found.numbered(np.array([77], np.int32))
    assert np.array_equal(numbers.numpy() == 77, class_id == CAR) and numbers.count_nonzero() == 64


def test_no_things_are_no_boxes():
    empty = torch.full(GRID.shape_xyz, FREE, dtype=torch.uint8)
    config = model_config("nano")
    for found in (from_components(empty, empty, GRID, config), from_boxes(boxes_at(), empty, GRID, config)):
        assert len(found.boxes) == 0 and not found.numbered(np.zeros(0, np.int32)).any()


def test_boxes_join_voxels_of_a_turned_grid_and_leave_the_network_s_classes_alone():
    class_id = np.full(GRID.shape_xyz, FREE, np.uint8)
    class_id[2:6, 4:12, 1:3] = CAR
    before = torch.from_numpy(class_id)
    middle = GRID.ego_from_grid @ (2.0, 4.0, 2.0, 1.0)
    truck = replace(
        boxes_at(("truck", middle[0], middle[1], 0.9), size=(4.0, 2.0, 2.0), yaw=np.deg2rad(120)),
        centre_m=middle[None, :3].astype(np.float32),
    )
    rules = PanopticConfig(refine=True, margin_voxels=0.0)
    found = from_boxes(truck, before, GRID, replace(model_config("nano"), panoptic=rules))
    assert len(found.indices) == 64 and (before.numpy() == class_id).all()
    assert (found.class_id.numpy()[class_id == CAR] == OCC3D.names.index("truck")).all()


def test_of_noise_the_largest_parts_stay():
    class_id = np.full((80, 80, 2), FREE, np.uint8)
    class_id[::2, ::2, 0] = CAR  # 1600 parts
    class_id[60:62, 60:63, 0] = PEDESTRIAN
    grid = GridGeometry(class_id.shape, (0.5, 0.5, 1.0), np.eye(4))
    config = replace(model_config("nano"), panoptic=PanopticConfig("components", min_voxels=1))
    found = from_components(torch.from_numpy(class_id), torch.from_numpy(class_id), grid, config)
    assert len(found.boxes) == 1000 and (found.boxes.class_id == BOX_CLASSES.index("pedestrian")).sum() == 1


@pytest.mark.parametrize("part, value", [("codes", torch.nan), ("codes", torch.inf), ("class_logits", torch.nan)])
def test_boxes_that_are_not_finite_end_the_step(nano_model, part, value):
    prediction = nano_model.detect(torch.zeros(token_count(nano_model.config.grid), nano_model.config.embed))
    getattr(prediction, part)[-1, 0, 0] = value
    with pytest.raises(NonFiniteError, match="boxes are not finite"):
        detected_boxes(prediction, nano_model.config)


def test_a_size_beyond_all_numbers_is_a_box_still(nano_model):
    prediction = nano_model.detect(torch.zeros(token_count(nano_model.config.grid), nano_model.config.embed))
    prediction.codes[-1, :, 2], prediction.codes[-1, :, 3] = 500.0, -500.0
    found = detected_boxes(prediction, nano_model.config)
    assert len(found) and found.size_m.max() == 1e3 and found.size_m.min() == pytest.approx(1e-3)


def test_claims_do_not_depend_on_the_order_of_the_places():
    """Neither do they on where a box is cut off by the order along x: compared with a count place by place."""
    random = np.random.default_rng(5)
    place, kinds = random.uniform(-9, 9, (600, 3)), random.choice(np.array([4, 10, 11], np.uint8), 600)
    n = 25
    boxes = ScoredBoxes(
        centre_m=random.uniform(-8, 8, (n, 3)).astype(np.float32),
        size_m=random.uniform(1, 6, (n, 3)).astype(np.float32),
        yaw_rad=random.uniform(-3, 3, n).astype(np.float32),
        velocity_mps=np.zeros((n, 2), np.float32),
        class_id=random.integers(0, 2, n),
        score=random.uniform(0.2, 1, n).astype(np.float32),
    )
    rules = PanopticConfig(min_voxels=1, join_m=0.8, refine=True)
    found = claimed(place, kinds, boxes, LIDARSEG, rules, (0.3, 0.2, 0.1))
    order = random.permutation(600)
    turned = claimed(place[order], kinds[order], boxes, LIDARSEG, rules, (0.3, 0.2, 0.1))
    assert np.array_equal(found.box[order], turned.box) and np.array_equal(found.kept, turned.kept)

    owner, left_m, kept = np.zeros(600, int), np.full(600, 0.8), 0
    joins = np.zeros(600, int)
    for row in np.argsort(-boxes.score):
        turn = boxes.yaw_rad[row]
        local = (place - boxes.centre_m[row]) @ np.array(
            [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
        )
        beyond = np.abs(local) - boxes.size_m[row] / 2
        own = kinds == LIDARSEG.names.index(BOX_CLASSES[boxes.class_id[row]])
        mine = (beyond <= (0.3, 0.3, 0.1)).all(axis=1) & (kinds != 11)
        mine &= own | (boxes.score[row] >= rules.refine_score)
        if boxes.score[row] < rules.min_score or not mine.any() or 2 * (mine & (owner > 0)).sum() > mine.sum():
            continue
        kept += 1
        owner[mine & (owner == 0)] = kept
        far_m = np.linalg.norm(np.maximum(beyond, 0), axis=1)
        nearer = own & (far_m < left_m)
        left_m[nearer], joins[nearer] = far_m[nearer], kept
    owner[owner == 0] = joins[owner == 0]
    assert kept > 8 and np.array_equal(owner, found.box)
