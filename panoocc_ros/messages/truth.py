"""The simulator's truth as messages: voxels, with what the cameras can see of them, and the outlines of things."""

from collections.abc import Sequence
from typing import Any

import torch

from panoocc_core.geometry import NS_PER_S
from panoocc_core.ground_truth import GroundTruth, TrueBoxes
from panoocc_core.labels import BOX_COLOURS, OCC3D, LabelSet
from panoocc_core.types import HistoryReport, Occupancy

from .fields import fill_header
from .markers import ADD, DELETE_ALL, LINE_LIST, outlines_m
from .types import LABEL_SET, VOXEL_GRID, new_message, typestore
from .voxel_grid import INSTANCES_NONE, INSTANCES_TRUTH, fill_label_set, fill_voxel_grid

TRUE_OCCUPANCY, LABELS = "/truth/occupancy", "/truth/labels"
BOXES = "/truth/boxes"
TYPES = {
    TRUE_OCCUPANCY: VOXEL_GRID,
    LABELS: LABEL_SET,
    BOXES: "visualization_msgs/msg/MarkerArray",
}

_LINE_M = 0.06


def label_messages(classes: LabelSet = OCC3D) -> dict[str, Any]:
    """The latched messages, by topic; `classes` are those of the truth."""
    return {LABELS: fill_label_set(new_message(LABEL_SET), classes)}


def truth_messages(
    truth: GroundTruth, sequence: int, cameras: Sequence[str], *, frame_id: str = "base_link", lifetime_s: float = 2.0
) -> dict[str, Any]:
    """Messages by topic of what `truth` has, all with its stamp.

    Args:
        cameras: the rig's cameras, whose view the camera mask is.
        lifetime_s: how long RViz shows the boxes; at least three periods, so that they do not blink.
    """
    messages: dict[str, Any] = {}
    if truth.class_id is not None:
        grid = _occupancy(truth, tuple(cameras))
        message = fill_voxel_grid(new_message(VOXEL_GRID), grid, sequence, frame_id=frame_id)
        message.instance_source = INSTANCES_TRUTH if truth.instance_id is not None else INSTANCES_NONE
        messages[TRUE_OCCUPANCY] = message
    if truth.boxes is not None:
        messages[BOXES] = box_markers(truth.boxes, truth.stamp_ns, frame_id, lifetime_s)
    return messages


def _occupancy(truth: GroundTruth, cameras: tuple[str, ...]) -> Occupancy:
    assert truth.class_id is not None and truth.geometry is not None
    return Occupancy(
        stamp_ns=truth.stamp_ns,
        oldest_image_stamp_ns=truth.stamp_ns,
        newest_image_stamp_ns=truth.stamp_ns,
        class_id=torch.from_numpy(truth.class_id),
        confidence=None,  # the truth is certain
        instance_id=None if truth.instance_id is None else torch.from_numpy(truth.instance_id),
        visible=None if truth.camera_mask is None else torch.from_numpy(truth.camera_mask),
        geometry=truth.geometry,
        labels=truth.labels,
        cameras=cameras,
        history=HistoryReport(),
    )


def box_markers(boxes: TrueBoxes, stamp_ns: int, frame_id: str, lifetime_s: float) -> Any:
    """A visualization_msgs/MarkerArray with one LINE_LIST: twelve edges per box in the colour of its class."""
    types = typestore().types
    point_class, colour_class = types["geometry_msgs/msg/Point"], types["std_msgs/msg/ColorRGBA"]
    marker = new_message("visualization_msgs/msg/Marker")
    fill_header(marker.header, stamp_ns, frame_id)
    marker.ns, marker.type = "boxes", LINE_LIST
    marker.action = ADD if len(boxes) else DELETE_ALL  # RViz takes an empty list for an error
    marker.pose.orientation.w = 1.0
    marker.scale.x = _LINE_M
    marker.color.a = 1.0
    marker.lifetime.sec, marker.lifetime.nanosec = divmod(round(lifetime_s * NS_PER_S), NS_PER_S)
    ends_m = outlines_m(boxes)
    marker.points = [point_class(x=x, y=y, z=z) for x, y, z in ends_m.reshape(-1, 3).tolist()]
    for class_id in boxes.class_id:
        r, g, b = (part / 255 for part in BOX_COLOURS[class_id])
        marker.colors += [colour_class(r=r, g=g, b=b, a=1.0)] * ends_m.shape[1]
    message = new_message(TYPES[BOXES])
    message.markers = [marker]
    return message
