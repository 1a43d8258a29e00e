"""Truth beside the test drive: what the simulator would write for it."""

import numpy as np

from panoocc_core.config import model_config
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.labels import OCC3D
from panoocc_core.stream import output_geometry
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.messages.truth import TYPES, label_messages, truth_messages

ROAD, FREE, CAR = (OCC3D.names.index(name) for name in ("driveable_surface", "free", "car"))


def truth(stamp_ns, model="nano", has_mask=True):
    """A road with one car on the model's grid; the cameras see the half ahead."""
    grid = output_geometry(model_config(model))
    class_id, instance_id = np.full(grid.shape_xyz, FREE, np.uint8), np.zeros(grid.shape_xyz, np.int32)
    class_id[:, :, 2] = ROAD
    middle = grid.shape_xyz[0] // 2
    class_id[middle : middle + 5, 4:8, 3:6], instance_id[middle : middle + 5, 4:8, 3:6] = CAR, 1
    mask = np.zeros(grid.shape_xyz, bool)
    mask[middle:] = True
    return GroundTruth(stamp_ns, grid, class_id, instance_id, mask if has_mask else None)


def write_truth(path, drive, count, has_mask=True):
    """The bag of `drive`, with the truth of every set."""
    messages = [(one.topic, one.type, one.stamp_ns, one.data) for one in drive.messages(count)]
    start = messages[0][2]
    messages += [(topic, TYPES[topic], start, message) for topic, message in label_messages().items()]
    for k in range(count):
        stamp = drive.stamp_ns(k) + drive.rig.camera(drive.rig.reference).shutter_offset_ns
        made = truth_messages(truth(stamp, has_mask=has_mask), k, ("cam_front",))
        messages += [(topic, TYPES[topic], stamp, message) for topic, message in made.items()]
    with BagWriter(path) as writer:
        for topic, kind, stamp, message in sorted(messages, key=lambda one: one[2]):
            writer.write(topic, kind, stamp, message)
    return path
