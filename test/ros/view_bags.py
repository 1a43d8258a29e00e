"""Bags to look at: the test drive's images, and grids as a node would have made them, with all that lies beside."""

import numpy as np
import torch

from panoocc_core.geometry import rigid
from panoocc_core.labels import BOX_CLASSES, OCC3D
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy, ScoredBoxes
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.messages.fields import fill_header
from panoocc_ros.messages.types import new_message
from panoocc_ros.messages.vision import DETECTIONS, fill_detections
from panoocc_ros.messages.voxel_grid import fill_label_set, fill_voxel_grid
from test.ros.messages import MS

GRID = GridGeometry((8, 6, 4), (1.0, 1.0, 0.5), rigid(np.eye(3), np.array([-4.0, -3.0, -1.0])))
ROAD, CAR, FREE = (OCC3D.names.index(name) for name in ("driveable_surface", "car", "free"))
LATE_NS = 80 * MS  # from the stamp of a grid to its recording
TOTAL_MS = 61.5


def occupancy(stamp_ns, step=0):
    """A road, and a car that moves with `step`; cameras see what lies ahead."""
    class_id = torch.full(GRID.shape_xyz, FREE, dtype=torch.uint8)
    instance_id = torch.zeros(GRID.shape_xyz, dtype=torch.int32)
    class_id[:, :, 0] = ROAD
    class_id[step : step + 2, 2, 1], instance_id[step : step + 2, 2, 1] = CAR, 7
    visible = torch.zeros(GRID.shape_xyz, dtype=torch.bool)
    visible[4:] = True
    return Occupancy(
        stamp_ns=stamp_ns,
        oldest_image_stamp_ns=stamp_ns - 20 * MS,
        newest_image_stamp_ns=stamp_ns + 20 * MS,
        class_id=class_id,
        confidence=None,
        instance_id=instance_id,
        geometry=GRID,
        labels=OCC3D,
        cameras=(),
        history=HistoryReport(),
        instances="boxes",
        visible=visible,
    )


def boxes(step=0):
    return ScoredBoxes(
        centre_m=np.array([[step - 3.0, -0.5, -0.25]], np.float32),
        size_m=np.array([[2, 1, 0.5]], np.float32),
        yaw_rad=np.array([0.25], np.float32),
        velocity_mps=np.zeros((1, 2), np.float32),
        class_id=np.array([BOX_CLASSES.index("car")]),
        score=np.array([0.75], np.float32),
        instance_id=np.array([7], np.int32),
    )


def grid_messages(drive, count, change=lambda topic, message: message):
    """(record time, topic, type, message) of what a node says about the drive; None leaves a message out."""
    made = [
        (
            drive.stamp_ns(0),
            "/panoocc/labels",
            "panoocc/msg/LabelSet",
            fill_label_set(new_message("panoocc/msg/LabelSet"), OCC3D),
        )
    ]
    for k in range(count):
        stamp, came = drive.stamp_ns(k), drive.stamp_ns(k) + LATE_NS
        grid = fill_voxel_grid(new_message("panoocc/msg/VoxelGrid"), occupancy(stamp, k % 4), k)
        found = fill_detections(new_message(DETECTIONS), boxes(k % 4), stamp, "base_link", new_message)
        made += [
            (came, "/panoocc/occupancy", "panoocc/msg/VoxelGrid", grid),
            (came, "/panoocc/objects", DETECTIONS, found),
        ]
        made += [(came, "/panoocc/grid_2d", "nav_msgs/msg/OccupancyGrid", _map(stamp))]
        made += [(came, "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", _timing(stamp))]
    return [(*where, message) for *where, one in made if (message := change(where[1], one)) is not None]


def _map(stamp_ns):
    message = new_message("nav_msgs/msg/OccupancyGrid")
    fill_header(message.header, stamp_ns, "base_link")
    message.info.height, message.info.width, message.info.resolution = 6, 8, 1.0
    message.info.origin.position.x, message.info.origin.position.y = -4.0, -3.0
    message.info.origin.orientation.w = 1.0
    message.data = np.array([-1] * 24 + [0] * 20 + [100] * 4, np.int8)
    return message


def _timing(stamp_ns):
    value = new_message("diagnostic_msgs/msg/KeyValue", key="total.p50", value=str(TOTAL_MS))
    status = new_message("diagnostic_msgs/msg/DiagnosticStatus", name="panoocc: timing", values=[value])
    message = new_message("diagnostic_msgs/msg/DiagnosticArray", status=[status])
    fill_header(message.header, stamp_ns, "")
    return message


def write_grids(path, drive, count=4, together=False, change=lambda topic, message: message):
    """A bag with grids; `together` with the drive that they were made from."""
    messages = grid_messages(drive, count, change)
    if together:
        messages += [(one.stamp_ns, one.topic, one.type, one.data) for one in drive.messages(count)]
    with BagWriter(path) as writer:
        for stamp, topic, kind, message in sorted(messages, key=lambda one: one[0]):
            writer.write(topic, kind, stamp, message, latched=topic == "/panoocc/labels" or None)
    return path
