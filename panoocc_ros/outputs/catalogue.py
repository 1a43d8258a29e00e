"""What is made of one occupancy and of the images that it was made of: a row in OUTPUTS for every topic.

An output is a topic, a type and a function that makes the message, whose docstring says in the documents what is in it.
To add one: a row in OUTPUTS, its `make`, and the parameter of its rate in `output_options.py`.  What is sent once
stands in ANNOUNCEMENTS.
"""

from functools import partial
from typing import Any

from panoocc_core.labels import LabelSet

from ..messages.autoware import DETECTED_OBJECTS, fill_detected_objects
from ..messages.foxglove import fill_foxglove_grid
from ..messages.markers import marker_array
from ..messages.planes import OCCUPANCY_GRID
from ..messages.points import fill_points
from ..messages.types import COMPRESSED_IMAGE, IMAGE, LABEL_SET, POINT_CLOUD, VOXEL_GRID
from ..messages.vision import DETECTIONS, LABEL_INFO, fill_detections
from ..messages.voxel_grid import fill_label_set, fill_voxel_grid
from .output import Announcement, Need, NewMessage, Output, Result
from .overlay_image import overlay_image
from .planner_outputs import bev_classes, bev_confidence, bev_points, grid_2d, label_info, obstacles

LABELS = "labels"  # topic of the classes
LABELLED_POINTS = "labelled_points"  # topic of what is made of other people's clouds (`node/cloud_output.py`)


def voxel_grid(result: Result, new_message: NewMessage) -> Any:
    """panoocc/VoxelGrid: class, instance and confidence of every voxel, what the cameras see, pose, stamps, history."""
    return fill_voxel_grid(
        new_message(VOXEL_GRID),
        result.occupancy,
        result.sequence,
        frame_id=result.frame_id,
        rig_cameras=result.rig_cameras,
        encoding=result.options.encoding,
        with_confidence=result.options.confidence,
        voxels=result.voxels if result.options.encoding == "sparse" else None,
    )


def points(result: Result, new_message: NewMessage) -> Any:
    """sensor_msgs/PointCloud2: occupied voxels as points, with class, probability, instance and colour."""
    message = new_message(POINT_CLOUD)
    return fill_points(
        message,
        result.voxels,
        result.occupancy.stamp_ns,
        result.frame_id,
        partial(new_message, "sensor_msgs/msg/PointField"),
    )


def markers(result: Result, _: NewMessage) -> bytes:
    """visualization_msgs/MarkerArray: voxels as cubes and outlines of things, for RViz."""
    occupancy, colour_by = result.occupancy, result.options.markers_colour
    boxes = occupancy.boxes
    return marker_array(result.voxels, occupancy.stamp_ns, result.frame_id, boxes=boxes, colour_by=colour_by)


def object_markers(result: Result, _: NewMessage) -> bytes:
    """visualization_msgs/MarkerArray: outlines, numbers and velocities of things, for RViz."""
    occupancy, colour_by = result.occupancy, result.options.markers_colour
    return marker_array(None, occupancy.stamp_ns, result.frame_id, boxes=occupancy.boxes, colour_by=colour_by)


def detections(result: Result, new_message: NewMessage) -> Any:
    """vision_msgs/Detection3DArray: things as boxes with class, score, pose, size, and a number that stays."""
    boxes, stamp_ns = result.boxes, result.occupancy.stamp_ns
    return fill_detections(new_message(DETECTIONS), boxes, stamp_ns, result.frame_id, new_message)


def detected_objects(result: Result, new_message: NewMessage) -> Any:
    """autoware_perception_msgs/DetectedObjects: the same for Autoware, with velocities."""
    boxes, occupancy = result.boxes, result.occupancy
    message, by_boxes = new_message(DETECTED_OBJECTS), occupancy.instances == "boxes"
    return fill_detected_objects(message, boxes, occupancy.stamp_ns, result.frame_id, new_message, detected=by_boxes)


def foxglove_grid(result: Result, new_message: NewMessage) -> Any:
    """foxglove_msgs/VoxelGrid: the grid as Foxglove shows it by itself."""
    message = new_message("foxglove_msgs/msg/VoxelGrid")
    new_field = partial(new_message, "foxglove_msgs/msg/PackedElementField")
    return fill_foxglove_grid(message, result.voxels, result.occupancy.stamp_ns, result.frame_id, new_field)


def label_set(labels: LabelSet, _: str, new_message: NewMessage) -> Any:
    """panoocc/LabelSet: names and colours of the classes, which are things."""
    return fill_label_set(new_message(LABEL_SET), labels)


MARKER_ARRAY = "visualization_msgs/msg/MarkerArray"

THINGS: frozenset[Need] = frozenset({"instances"})
BOXES: frozenset[Need] = frozenset({"instances", "boxes"})
SIGHT: frozenset[Need] = frozenset({"visible", "free"})

OCCUPANCY = Output("occupancy", VOXEL_GRID, voxel_grid, needs=THINGS | {"visible"})
POINTS = Output("points", POINT_CLOUD, points, needs=THINGS)
OBSTACLES = Output("obstacles", POINT_CLOUD, obstacles, by_default=False)
GRID_2D = Output(
    "grid_2d", OCCUPANCY_GRID, grid_2d, needs=SIGHT, latched=True, depth=1, frame="grid_frame, else base_frame"
)
BEV_CLASSES = Output("bev/classes", IMAGE, bev_classes, needs=SIGHT, by_default=False)
BEV_CONFIDENCE = Output("bev/confidence", IMAGE, bev_confidence, needs=SIGHT, by_default=False)
BEV_POINTS = Output("bev/points", POINT_CLOUD, bev_points, needs=SIGHT, by_default=False)
OBJECTS = Output("objects", DETECTIONS, detections, needs=BOXES, optional=True)
AUTOWARE = Output("detected_objects", DETECTED_OBJECTS, detected_objects, needs=BOXES, optional=True)
OBJECT_MARKERS = Output("object_markers", MARKER_ARRAY, object_markers, needs=BOXES)
MARKERS = Output("markers", MARKER_ARRAY, markers, needs=THINGS, in_bags=False, depth=1)
OVERLAY = Output(
    "overlay/compressed", COMPRESSED_IMAGE, overlay_image, needs=THINGS, by_default=False, depth=1, rate_of="overlay"
)
FOXGLOVE = Output(
    "occupancy_foxglove", "foxglove_msgs/msg/VoxelGrid", foxglove_grid, in_node=False, rate_of=OCCUPANCY.topic
)

OUTPUTS = (
    *(OCCUPANCY, POINTS, OBSTACLES, GRID_2D, BEV_CLASSES, BEV_CONFIDENCE, BEV_POINTS),
    *(OBJECTS, AUTOWARE, OBJECT_MARKERS, MARKERS, OVERLAY, FOXGLOVE),
)
INSTANCES, VISIBLE = "instances", "visible"  # stages of the network that only some outputs need
LEFT_OUT_FIRST = (  # topics and stages that a budget of time may leave out: first what is for people's eyes, ...
    *(OVERLAY.topic, MARKERS.topic, OBJECT_MARKERS.topic),
    *(LABELLED_POINTS, POINTS.topic, BEV_POINTS.topic, BEV_CONFIDENCE.topic, BEV_CLASSES.topic),
    *(OBSTACLES.topic, GRID_2D.topic, VISIBLE),  # ... late what a vehicle drives by, never OCCUPANCY
    *(AUTOWARE.topic, OBJECTS.topic, INSTANCES),
)
STAGES_OF = {  # of these the topics that cannot be made without them
    output.topic: output.needs & {INSTANCES, VISIBLE} for output in OUTPUTS if output is not OCCUPANCY
}
ANNOUNCEMENTS = (
    Announcement(LABELS, LABEL_SET, label_set),
    Announcement("label_info", LABEL_INFO, label_info, optional=True),
)
