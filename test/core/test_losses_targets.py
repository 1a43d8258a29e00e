"""Targets: boxes, voxels and points of the ground truth in the network's grid, frame and classes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.config import GridConfig, PoseConfig
from panoocc_core.ground_truth import GroundTruth, TrueBoxes, TruePoints
from panoocc_core.labels import BOX_CLASSES, LIDARSEG, OCC3D
from panoocc_core.models.box_head import decode_boxes
from panoocc_core.step import BoxPrediction
from panoocc_core.train.targets import box_targets, majority, make_targets, output_geometry, point_targets
from panoocc_core.types import GridGeometry
from panoocc_core.voxels import centres_m

QUARTER_LEFT = PoseConfig(translation_m=(1.0, 0.0, 2.0), rotation_xyzw=(0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)))


def some_boxes(centre_m, yaw_rad=0.0, velocity_mps=(0.0, 0.0), kind="car", size_m=(4.0, 2.0, 1.5)) -> TrueBoxes:
    """One box for each centre."""
    n = len(centre_m)
    return TrueBoxes(
        centre_m=np.array(centre_m, np.float32).reshape(n, 3),
        size_m=np.tile(np.array(size_m, np.float32), (n, 1)),
        yaw_rad=np.full(n, yaw_rad, np.float32),
        velocity_mps=np.tile(np.array(velocity_mps, np.float32), (n, 1)),
        class_id=np.full(n, BOX_CLASSES.index(kind), np.int64),
        instance_id=np.arange(n, dtype=np.int32),
    )


def dense(config, **changes) -> GroundTruth:
    geometry = output_geometry(config)
    class_id = np.full(geometry.shape_xyz, 17, np.uint8)
    return GroundTruth(0, **{"geometry": geometry, "class_id": class_id, **changes})


@pytest.fixture(scope="module")
def voxel_network():
    """A small network that learns from dense voxels; range 40 x 40 x 4 m, output 10 x 8 x 4."""
    config = model_config("nano")
    stage = replace(config.decoder.upsample[-1], kernel=(2, 2, 2), stride=(2, 2, 2), padding=(0, 0, 0))
    return replace(
        config,
        grid=GridConfig(rows=4, columns=5, layers=2, range_m=(-20.0, -20.0, -1.0, 20.0, 20.0, 3.0)),
        decoder=replace(config.decoder, upsample=(stage,), logit_upsample=(1, 1, 1)),
        boxes=replace(config.boxes, classes=BOX_CLASSES),
    )


@pytest.fixture(scope="module")
def points_network():
    """A small network that learns from points; range 8 x 6 x 3 m, coarse 4 x 3 x 2, fine 8 x 6 x 4."""
    config = model_config("pano_small_4f")
    stage = replace(config.decoder.upsample[-1], kernel=(2, 2, 2), stride=(2, 2, 2), padding=(0, 0, 0))
    return replace(
        config,
        grid=GridConfig(rows=3, columns=4, layers=2, range_m=(-4.0, -3.0, -1.0, 4.0, 3.0, 2.0)),
        decoder=replace(config.decoder, upsample=(stage,), logit_upsample=(1, 1, 1)),
    )


def some_points(position_m, kinds) -> TruePoints:
    ids = np.array([LIDARSEG.names.index(kind) for kind in kinds], np.uint8)
    return TruePoints(np.array(position_m, np.float32).reshape(-1, 3), ids, np.zeros(len(ids), np.int32))


def test_codes_of_a_box_that_drives_left(voxel_network):
    truth = some_boxes([(10.0, 4.0, 0.5)], yaw_rad=math.pi / 2, velocity_mps=(0.0, 3.0))
    codes = box_targets(truth, voxel_network, "cpu").codes[0]
    yaw = -math.pi  # -pi/2 - pi/2
    wanted = [10, 4, math.log(2), math.log(4), 0.5, math.log(1.5), math.sin(yaw), math.cos(yaw), 0, 3]
    torch.testing.assert_close(codes, torch.tensor(wanted), atol=1e-6, rtol=1e-6)


def test_codes_decode_to_the_box(voxel_network):
    truth = some_boxes([(10.0, 4.0, 0.5)], yaw_rad=0.7, velocity_mps=(1.0, -2.0), kind="bus")
    targets = box_targets(truth, voxel_network, "cpu")
    logits = torch.full((1, 1, 10), -5.0)
    logits[0, 0, targets.labels[0]] = 5.0
    decoded = decode_boxes(BoxPrediction(logits, targets.codes[None]), voxel_network.boxes)
    assert voxel_network.boxes.classes[decoded.labels[0]] == "bus"
    yaw = -0.7 - math.pi / 2
    wanted = torch.tensor([10.0, 4.0, 0.5, 2.0, 4.0, 1.5, yaw, 1.0, -2.0])
    torch.testing.assert_close(decoded.boxes[0], wanted, atol=1e-5, rtol=1e-5)


def test_boxes_move_into_a_turned_network_frame(voxel_network):
    """The network's x axis points to the left of the vehicle, 1 m ahead of the ego frame's origin and 2 m above."""
    turned = replace(voxel_network, grid=replace(voxel_network.grid, ego_from_network=QUARTER_LEFT))
    truth = some_boxes([(11.0, 4.0, 2.5)], yaw_rad=0.3, velocity_mps=(5.0, 1.0))
    codes = box_targets(truth, turned, "cpu").codes[0]
    yaw = -(0.3 - math.pi / 2) - math.pi / 2
    wanted = [4, -10, math.log(2), math.log(4), 0.5, math.log(1.5), math.sin(yaw), math.cos(yaw), 1, -5]
    torch.testing.assert_close(codes, torch.tensor(wanted), atol=1e-5, rtol=1e-5)


def test_unknown_velocity_is_zero(voxel_network):
    truth = some_boxes([(1.0, 1.0, 0.0)], velocity_mps=(np.nan, np.nan))
    assert box_targets(truth, voxel_network, "cpu").codes[0, 8:].tolist() == [0, 0]


def test_boxes_outside_the_range_and_of_other_classes_do_not_count(voxel_network):
    truth = some_boxes([(19.9, 0, 0), (20.1, 0, 0), (0, -20.1, 0), (0, 0, 90)])
    assert box_targets(truth, voxel_network, "cpu").codes[:, 0].tolist() == pytest.approx([19.9, 0])
    people = replace(voxel_network, boxes=replace(voxel_network.boxes, classes=("pedestrian", "car")))
    assert box_targets(truth, people, "cpu").labels.tolist() == [1, 1]
    assert len(box_targets(some_boxes([(0, 0, 0)], kind="bus"), people, "cpu").labels) == 0


def test_a_frame_without_boxes_and_a_truth_without_boxes_differ(voxel_network):
    none = make_targets(dense(voxel_network, boxes=some_boxes([])), voxel_network, "cpu").boxes
    assert none.codes.shape == (0, 10) and none.labels.dtype == torch.int64
    assert make_targets(dense(voxel_network), voxel_network, "cpu").boxes is None


def test_a_box_without_extent_is_refused():
    with pytest.raises(ValueError, match="true boxes: size_m must be positive"):
        some_boxes([(0, 0, 0)], size_m=(4.0, 0.0, 1.0))


def test_dense_targets_keep_classes_and_mask(voxel_network, device):
    truth = dense(voxel_network, camera_mask=np.zeros(voxel_network.output_shape_xyz, bool))
    truth.class_id[3, 2, 1] = 4
    truth.camera_mask[3, 2, 1] = True
    targets = make_targets(truth, voxel_network, device)
    assert targets.voxel_classes.device.type == device.type and targets.voxel_classes.dtype == torch.uint8
    assert targets.voxel_classes[3, 2, 1] == 4 and targets.camera_mask.sum() == 1
    assert make_targets(dense(voxel_network), voxel_network, device).camera_mask is None


def test_another_grid_is_refused_with_what_differs(voxel_network):
    right = output_geometry(voxel_network)
    halved = GridGeometry((5, 4, 2), right.voxel_size_m, right.ego_from_grid)
    with pytest.raises(ValueError, match=r"nano: it has \(5, 4, 2\) voxels .*not \(10, 8, 4\)"):
        make_targets(
            dense(voxel_network, geometry=halved, class_id=np.zeros((5, 4, 2), np.uint8)), voxel_network, "cpu"
        )
    with pytest.raises(ValueError, match=r"voxel size is \(0.5, 0.5, 0.5\) m"):
        make_targets(dense(voxel_network, geometry=replace(right, voxel_size_m=(0.5, 0.5, 0.5))), voxel_network, "cpu")
    moved = right.ego_from_grid.copy()
    moved[0, 3] += 0.4
    with pytest.raises(ValueError, match="a corner 0.4 m away"):
        make_targets(dense(voxel_network, geometry=replace(right, ego_from_grid=moved)), voxel_network, "cpu")
    with pytest.raises(ValueError, match="nano learns from dense voxels"):
        make_targets(GroundTruth(0), voxel_network, "cpu")


def test_classes_are_matched_by_name(voxel_network):
    few = replace(voxel_network, label_key="few", class_names=("free", "car", "manmade"))
    truth = dense(few)
    truth.class_id[0, 0, 0] = OCC3D.names.index("manmade")
    classes = make_targets(truth, few, "cpu").voxel_classes
    assert classes[0, 0, 0] == 2 and classes.sum() == 2
    truth.class_id[0, 0, 1] = OCC3D.names.index("bus")
    with pytest.raises(ValueError, match=r"\(bus\) is not one of the classes of nano: free, car, manmade"):
        make_targets(truth, few, "cpu")
    strange = dense(voxel_network)
    strange.class_id[0, 0, 0] = 200
    with pytest.raises(ValueError, match=r"200 \(unknown\)"):
        make_targets(strange, voxel_network, "cpu")


def test_the_majority_wins_and_of_equals_the_lowest():
    cells, kinds = majority(np.array([9, 2, 9, 9, 2, 9]), np.array([5, 7, 3, 5, 6, 3], np.uint8))
    assert cells.tolist() == [2, 9] and kinds.tolist() == [6, 3]
    cells, kinds = majority(np.array([1, 1, 1]), np.array([0, 8, 8], np.uint8))
    assert cells.tolist() == [1] and kinds.tolist() == [8]
    assert len(majority(np.zeros(0, np.int64), np.zeros(0, np.uint8))[0]) == 0


def test_points_label_the_voxels_they_lie_in(points_network):
    truth = some_points([(-3.9, -2.9, -0.9), (3.9, 2.9, 1.9), (3.9, -2.9, 0.0)], ["car", "noise", "terrain"])
    fine, _ = point_targets(truth, points_network)
    assert fine.shape == (8, 6, 4) and (fine != 17).sum() == 3
    assert fine[0, 0, 0] == LIDARSEG.names.index("car") and fine[7, 5, 3] == 0
    assert fine[7, 0, 1] == LIDARSEG.names.index("terrain")


@pytest.mark.parametrize("kind, wanted", [("car", 1), ("noise", 0), ("sidewalk", 0)])
def test_coarse_labels_stand_in_token_order(points_network, kind, wanted):
    centre = centres_m(points_network.grid)
    for token in (0, 5, 13, 23):
        _, coarse = point_targets(some_points([centre[token]], [kind]), points_network)
        assert coarse[token] == wanted and (np.delete(coarse, token) == 2).all()


def test_points_outside_the_range_are_dropped(points_network):
    outside = [(4.1, 0, 0), (-4.1, 0, 0), (0, 3.1, 0), (0, 0, 2.1), (0, 0, -1.1)]
    fine, coarse = point_targets(some_points(outside, ["car"] * 5), points_network)
    assert (fine == 17).all() and (coarse == 2).all()


def test_points_move_into_the_network_frame(points_network):
    turned = replace(points_network, grid=replace(points_network.grid, ego_from_network=QUARTER_LEFT))
    fine, _ = point_targets(some_points([(2.5, 3.5, 1.5)], ["bus"]), turned)  # network: 3.5, -1.5, -0.5
    assert fine[7, 1, 0] == LIDARSEG.names.index("bus") and (fine != 17).sum() == 1


def test_a_frame_without_points_is_refused(points_network):
    with pytest.raises(ValueError, match="learns from labelled LiDAR points"):
        make_targets(GroundTruth(0), points_network, "cpu")
