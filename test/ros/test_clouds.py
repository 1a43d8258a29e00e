"""Positions out of clouds of every layout, labels into them, and clouds that lie about themselves."""

import numpy as np
import pytest

from panoocc_core.labels import OCC3D
from panoocc_core.panoptic.labelling import UNKNOWN, PointLabels
from panoocc_ros.messages.clouds import CloudError, labelled, positions_m
from panoocc_ros.messages.types import new_message, typestore
from test.ros.clouds import XYZ, cloud, points

MIXED = {"intensity": "f4", "z": "f8", "ring": "u2", "x": "f4", "y": "f8", "t": "u4"}


def values(count, seed=0):
    random = np.random.default_rng(seed)
    return {name: random.integers(0, 200, count) / 4 for name in MIXED}


def labels(count):
    number = np.arange(count)
    return PointLabels(
        (number % 18).astype(np.uint8), (number * 259 % 65_536).astype(np.uint16), (255 - number % 256).astype(np.uint8)
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("height", [1, 6])
@pytest.mark.parametrize("paddings", [{}, {"gap": 3, "padding": 5}, {"row_padding": 7, "padding": 1}])
def test_every_layout_keeps_its_points_and_gets_labels(order, height, paddings):
    before = values(60)
    message = cloud(before, MIXED, height, order, **paddings)
    np.testing.assert_array_equal(positions_m(message), np.stack([before[axis] for axis in "xyz"], axis=1))
    found = labels(60)
    out = labelled(message, found, OCC3D, new_message)
    typestore().serialize_cdr(out, "sensor_msgs/msg/PointCloud2")
    assert (out.height, out.width, out.header) == (message.height, message.width, message.header)
    old, new = points(message).ravel(), points(out).ravel()
    for name in MIXED:
        np.testing.assert_array_equal(new[name], old[name])
    np.testing.assert_array_equal(new["label"], found.class_id)
    np.testing.assert_array_equal(new["instance"], found.instance_id)
    np.testing.assert_array_equal(new["confidence"], found.confidence)
    bits = new["rgb"].astype("<f4").view("<u4")
    np.testing.assert_array_equal(
        np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1), np.array(OCC3D.colours)[found.class_id]
    )


def test_unknown_points_are_grey_and_a_cloud_with_colours_keeps_its_own():
    fields = {**XYZ, "rgb": "f4"}
    before = {name: np.arange(3.0) for name in fields}
    found = PointLabels(np.full(3, UNKNOWN, np.uint8), np.zeros(3, np.uint16), np.zeros(3, np.uint8))
    kept = labelled(cloud(before, fields), found, OCC3D, new_message)
    np.testing.assert_array_equal(points(kept)["rgb"][0], [0, 1, 2])
    assert [field.name for field in kept.fields].count("rgb") == 1
    grey = points(labelled(cloud(before), found, OCC3D, new_message))["rgb"].view("<u4")
    assert set(grey.ravel().tolist()) == {0x3C3C3C}


def test_an_empty_cloud_stays_empty():
    for message in (cloud({axis: [] for axis in "xyz"}), new_message("sensor_msgs/msg/PointCloud2")):
        assert positions_m(message).shape == (0, 3)
        out = labelled(message, labels(0), OCC3D, new_message)
        assert out.width == len(out.data) == out.row_step == 0
        assert [field.name for field in out.fields][-4:] == ["label", "confidence", "instance", "rgb"]


def spoilt(**changes):
    message = cloud({axis: np.arange(4.0) for axis in "xyz"}, height=2)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def with_field(index, **changes):
    message = spoilt()
    for name, value in changes.items():
        setattr(message.fields[index], name, value)
    return message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (with_field(2, name="height"), "no field z; its fields are: x, y, height"),
        (with_field(0, datatype=5), "field x holds 1 of datatype 5, not one FLOAT32"),
        (with_field(1, datatype=77), "field y holds 1 of datatype 77"),
        (with_field(1, count=3), "field y holds 3 of datatype 7"),
        (with_field(2, offset=9), "field z at offset 9 does not fit the point_step 12"),
        (with_field(2, offset=4_000_000_000), "does not fit the point_step"),
        (spoilt(width=3), "row_step 24 is less than width 3 times point_step 12"),
        (spoilt(height=3), "data has 48 bytes: 2 x 3 points of 12 need 72"),
        (spoilt(width=4_000_000_000, row_step=4_294_967_295), "row_step 4294967295 is less than"),
        (spoilt(height=4_000_000_000), "need 96000000000"),
        (spoilt(point_step=0), "point_step is 0"),
        (spoilt(point_step=1 << 20), "more than 256, or 65536"),
        (spoilt(data=np.zeros(0, np.uint8)), "data has 0 bytes"),
        (spoilt(fields=[]), "its fields are: none"),
        (spoilt(fields=spoilt().fields * 100), "300 fields"),
    ],
)
def test_a_cloud_that_cannot_be_is_refused_by_the_name_of_its_field(message, text):
    with pytest.raises(CloudError, match=text):
        positions_m(message)


def test_a_labelled_cloud_is_not_labelled_again():
    message = cloud({**{axis: np.arange(4.0) for axis in "xyz"}, "label": np.arange(4)}, {**XYZ, "label": "u1"})
    with pytest.raises(CloudError, match="has a field label already"):
        labelled(message, labels(4), OCC3D, new_message)
