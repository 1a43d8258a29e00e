"""What the node publishes of one occupancy.  What nobody subscribes to is not computed."""

import time
from collections.abc import Callable, Sequence

from panoocc.msg import LabelSet, VoxelGrid
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import PointCloud2, PointField
from visualization_msgs.msg import MarkerArray

from panoocc_core import Occupancy
from panoocc_core import labels as core_labels

from ..messages.markers import marker_array
from ..messages.points import fill_points
from ..messages.voxel_grid import fill_label_set, fill_voxel_grid, occupied_voxels
from ..ros.graph import qos
from .settings import NodeSettings


class Outputs:
    """The publishers below `~/`.  Publishing is safe from the worker's thread."""

    def __init__(self, node: Node, settings: NodeSettings, rig_cameras: Sequence[str], frame_id: str) -> None:
        self._settings, self._rig_cameras, self._frame_id = settings, rig_cameras, frame_id
        self._grid = node.create_publisher(VoxelGrid, "~/occupancy", qos(depth=2))
        self._labels = node.create_publisher(LabelSet, "~/labels", qos(latched=True, depth=1))
        self._points = node.create_publisher(PointCloud2, "~/points", qos(depth=2))
        self._markers = node.create_publisher(MarkerArray, "~/markers", qos(depth=1))
        self._marker_gate = RateLimit(settings.markers_max_rate_hz)

    @property
    def subscribers(self) -> int:
        """How many subscriptions the publisher of the grids has met so far."""
        return int(self._grid.get_subscription_count())

    def publish_labels(self, labels: core_labels.LabelSet) -> None:
        """Send the meaning of the class ids, once; it is latched."""
        self._labels.publish(fill_label_set(LabelSet(), labels))

    def publish(self, occupancy: Occupancy, sequence: int) -> None:
        """Send one occupancy on every topic that is wanted."""
        voxels = occupied_voxels(occupancy)
        grid = fill_voxel_grid(
            VoxelGrid(),
            occupancy,
            sequence,
            frame_id=self._frame_id,
            rig_cameras=self._rig_cameras,
            encoding=self._settings.encoding,
            with_confidence=self._settings.confidence,
            voxels=voxels,
        )
        self._grid.publish(grid)
        if _is_wanted(self._points):
            self._points.publish(fill_points(PointCloud2(), voxels, occupancy.stamp_ns, self._frame_id, PointField))
        if _is_wanted(self._markers) and self._marker_gate.open():
            self._markers.publish(marker_array(voxels, occupancy.stamp_ns, self._frame_id))


class RateLimit:
    """Opens at most `rate_hz` times a second; 0 never opens."""

    def __init__(self, rate_hz: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._period_s = 1 / rate_hz if rate_hz > 0 else float("inf")
        self._now_s = now_s
        self._next_s = float("inf") if rate_hz <= 0 else float("-inf")

    def open(self) -> bool:
        """Whether something may be sent now; if so, it counts as sent."""
        now_s = self._now_s()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._period_s
        return True


def _is_wanted(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0
