"""Bags of simulated streets: images of a rig, calibration, transforms and the truth, as a recorder would write them."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from panoocc_core.labels import OCC3D, LabelSet
from panoocc_core.sim import Rig
from panoocc_core.sim.drive_renderer import Drive, RenderSetup
from panoocc_core.types import GridGeometry

from ..bags.writer import BagWriter
from .faults import Faults, with_faults
from .messages import street_events


def write_street_bag(
    path: Path | str,
    seed: int,
    seconds: float,
    rate_hz: float,
    rig: Rig,
    *,
    supersample: int = 1,
    grid: GridGeometry | None = None,
    labels: LabelSet = OCC3D,
    faults: Faults | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    lidar_hz: float = 0.0,
) -> Path:
    """Write a drive through a simulated street as a rosbag2 (a folder, or one file where `path` ends with .mcap).

    Topics are those of `config/rigs`: `/<camera>/image_raw/compressed` and `/<camera>/camera_info` at each camera's own
    shutter time, `/tf` (odom to base_link at 100 Hz), `/odom` (50 Hz), `/imu` (100 Hz) and `/tf_static` (base_link to
    the optical frames and the IMU).  With `grid`, the truth on this grid: `/truth/occupancy` and `/truth/boxes` with
    the stamp of the first camera's image, and `/truth/labels` once.  The same arguments give the same messages.

    Args:
        labels: the classes of the truth.
        faults: spoils the messages, and counts what it has spoilt.
        workers: processes; None uses all processors.
        device: torch device of the renderer in every process.
        progress: called with the number of finished sets and of all sets.
        lidar_hz: clouds a second on `/lidar/points`; 0: none.

    Raises:
        ValueError: a number is out of range; the message names it.
        BagError: the path exists (unless `overwrite`) or cannot be written; nothing is left behind.
    """
    drive = Drive(seed, seconds, rate_hz, supersample)
    setup = RenderSetup(rig, grid, device, labels)
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    # Closed at once when writing fails: its workers must not render on.
    with (
        BagWriter(path, overwrite=overwrite) as writer,
        closing(street_events(drive, setup, workers, progress, lidar_hz)) as events,
    ):
        for event in events if faults is None else with_faults(events, faults):
            writer.write(event.topic, event.type, event.stamp_ns, event.message, event.latched)
    return Path(path)
