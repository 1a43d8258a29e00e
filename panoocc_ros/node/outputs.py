"""What is made of one occupancy: one list for the node's topics and for the bags of `panoocc run`.

An output is a topic, a type and a function that makes the message.  To add one: a row in OUTPUTS, and its `make`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from panoocc_core import Occupancy
from panoocc_core.labels import LabelSet
from panoocc_core.types import ScoredBoxes

from ..messages.autoware import DETECTED_OBJECTS, fill_detected_objects
from ..messages.foxglove import fill_foxglove_grid
from ..messages.markers import marker_array
from ..messages.points import fill_points
from ..messages.types import LABEL_SET, VOXEL_GRID
from ..messages.vision import DETECTIONS, fill_detections
from ..messages.voxel_grid import ColourBy, Encoding, VoxelList, fill_label_set, fill_voxel_grid, occupied_voxels

NewMessage = Callable[..., Any]  # an empty message of a type such as "panoocc/msg/VoxelGrid"; fields as keywords

LABELS = "labels"  # topic of what is sent once, latched
LABELLED_POINTS = "labelled_points"  # topic of what is made of other people's clouds (`cloud_output.py`)


@dataclass(frozen=True)
class Result:
    """One occupancy, and what its outputs share."""

    occupancy: Occupancy
    sequence: int
    frame_id: str
    rig_cameras: Sequence[str]
    encoding: Encoding = "sparse"
    with_confidence: bool = True
    markers_colour: ColourBy = "class"

    @cached_property
    def voxels(self) -> VoxelList:
        """The voxels that are not free."""
        return occupied_voxels(self.occupancy)

    @property
    def boxes(self) -> ScoredBoxes:
        """The boxes of the things."""
        assert self.occupancy.boxes is not None  # else the output does not apply
        return self.occupancy.boxes


@dataclass(frozen=True, slots=True)
class Output:
    """One topic: below `~/` of the node, below `/panoocc/` in a bag."""

    topic: str
    type: str
    make: Callable[[Result, NewMessage], Any]  # the message, or its CDR bytes
    in_node: bool = True
    in_bags: bool = True
    needs: Literal["classes", "instances", "boxes"] = "instances"  # of an occupancy; no boxes, no message
    optional: bool = False  # not in the node where the type's package is not installed
    depth: int = 2  # of the publisher's queue

    def applies(self, occupancy: Occupancy) -> bool:
        """Whether there is anything to say: there are no boxes where nobody looked for things."""
        return self.needs != "boxes" or occupancy.boxes is not None


def voxel_grid(result: Result, new_message: NewMessage) -> Any:
    """panoocc/VoxelGrid."""
    return fill_voxel_grid(
        new_message(VOXEL_GRID),
        result.occupancy,
        result.sequence,
        frame_id=result.frame_id,
        rig_cameras=result.rig_cameras,
        encoding=result.encoding,
        with_confidence=result.with_confidence,
        voxels=result.voxels if result.encoding == "sparse" else None,
    )


def points(result: Result, new_message: NewMessage) -> Any:
    """sensor_msgs/PointCloud2."""
    message = new_message("sensor_msgs/msg/PointCloud2")
    return fill_points(
        message,
        result.voxels,
        result.occupancy.stamp_ns,
        result.frame_id,
        partial(new_message, "sensor_msgs/msg/PointField"),
    )


def markers(result: Result, _: NewMessage) -> bytes:
    """visualization_msgs/MarkerArray: voxels and things."""
    occupancy, colour_by = result.occupancy, result.markers_colour
    boxes = occupancy.boxes
    return marker_array(result.voxels, occupancy.stamp_ns, result.frame_id, boxes=boxes, colour_by=colour_by)


def object_markers(result: Result, _: NewMessage) -> bytes:
    """visualization_msgs/MarkerArray: things alone."""
    occupancy, colour_by = result.occupancy, result.markers_colour
    return marker_array(None, occupancy.stamp_ns, result.frame_id, boxes=occupancy.boxes, colour_by=colour_by)


def detections(result: Result, new_message: NewMessage) -> Any:
    """vision_msgs/Detection3DArray."""
    boxes, stamp_ns = result.boxes, result.occupancy.stamp_ns
    return fill_detections(new_message(DETECTIONS), boxes, stamp_ns, result.frame_id, new_message)


def detected_objects(result: Result, new_message: NewMessage) -> Any:
    """autoware_perception_msgs/DetectedObjects."""
    boxes, occupancy = result.boxes, result.occupancy
    message, by_boxes = new_message(DETECTED_OBJECTS), occupancy.instances == "boxes"
    return fill_detected_objects(message, boxes, occupancy.stamp_ns, result.frame_id, new_message, detected=by_boxes)


def foxglove_grid(result: Result, new_message: NewMessage) -> Any:
    """foxglove_msgs/VoxelGrid."""
    message = new_message("foxglove_msgs/msg/VoxelGrid")
    new_field = partial(new_message, "foxglove_msgs/msg/PackedElementField")
    return fill_foxglove_grid(message, result.voxels, result.occupancy.stamp_ns, result.frame_id, new_field)


def label_set(labels: LabelSet, new_message: NewMessage) -> Any:
    """panoocc/LabelSet."""
    return fill_label_set(new_message(LABEL_SET), labels)


MARKER_ARRAY = "visualization_msgs/msg/MarkerArray"

OCCUPANCY = Output("occupancy", VOXEL_GRID, voxel_grid)
POINTS = Output("points", "sensor_msgs/msg/PointCloud2", points)
OBJECTS = Output("objects", DETECTIONS, detections, needs="boxes", optional=True)
AUTOWARE = Output("detected_objects", DETECTED_OBJECTS, detected_objects, needs="boxes", optional=True)
OBJECT_MARKERS = Output("object_markers", MARKER_ARRAY, object_markers, needs="boxes")
MARKERS = Output("markers", MARKER_ARRAY, markers, in_bags=False, depth=1)
FOXGLOVE = Output("occupancy_foxglove", "foxglove_msgs/msg/VoxelGrid", foxglove_grid, in_node=False, needs="classes")

OUTPUTS = (OCCUPANCY, POINTS, OBJECTS, AUTOWARE, OBJECT_MARKERS, MARKERS, FOXGLOVE)
