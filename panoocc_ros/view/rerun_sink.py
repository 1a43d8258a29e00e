"""Scenes for Rerun: into a file, or to its viewer.  All data lie on one timeline, the stamps of the grids."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from panoocc_core.base.whole_files import whole_file
from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.geometry import Matrix, quaternion_from_rotation
from panoocc_core.labels import BOX_CLASSES, LabelSet, instance_colours
from panoocc_core.types import ScoredBoxes

from ..bags.bag import BagReader
from .bag_scenes import GRIDS, BagScenes
from .numbers import names_of, numbers_of
from .packages import viewer
from .scene import Map, Scene, SentImage, Sources

TIMELINE = "stamp"
WORLD, EGO, PATH = "world", "world/ego", "world/path"
KINDS = {
    "latency_ms": "latency, ms",
    "stage_ms": "stages, ms",
    "share": "share of the grid, %",
    "classes": "voxels by class",
    "things": "things",
}
PLANE_M = 2.0  # where in front of a camera its image is drawn
EYE_M, LOOK_AT_M = (-26.0, 8.0, 20.0), (2.0, 0.0, 0.0)  # in the vehicle frame


def check_display() -> None:
    """That a window can be opened.

    Raises:
        ValueError: there is no display; the text says what to do.
    """
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise ValueError(
            "there is no display for Rerun's window: write a file for it with --save FILE.rrd (open that anywhere with "
            "`rerun FILE.rrd`), film with --video FILE.mp4, or serve a browser with --foxglove"
        )


@contextmanager
def rerun_window(sources: Sources, name: str) -> Iterator["RerunSink"]:
    """Rerun's viewer in a window of its own, which stays when this process ends.

    Raises:
        ImportError: Rerun is not installed.
        ValueError: there is no display.
    """
    rr = viewer("rerun")
    check_display()
    stream = _stream(rr, name)
    stream.spawn(default_blueprint=_blueprint(rr, sources))
    yield RerunSink(rr, stream)
    stream.flush()
    stream.disconnect()


@contextmanager
def rerun_file(path: Path, sources: Sources, name: str) -> Iterator["RerunSink"]:
    """A file for Rerun, which appears once it is whole.

    Raises:
        ImportError: Rerun is not installed.
        OSError: it cannot be written.
    """
    rr = viewer("rerun")
    with whole_file(path) as part:
        part.touch()  # else nobody hears that the folder cannot be written
        stream = _stream(rr, name)
        with _errors_of(path):
            stream.save(part, default_blueprint=_blueprint(rr, sources))
        yield RerunSink(rr, stream)
        with _errors_of(path):
            stream.flush()
        stream.disconnect()


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """What Rerun could not write is an OSError."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(f"{path}: Rerun could not write it ({error}): is the disk full?") from error


def write_rerun(path: Path, grids: Path, images: Path, topic: str = GRIDS) -> int:
    """All grids of a bag with the images of another one as a file for Rerun; returns how many grids these are.

    Raises:
        BagError: a bag cannot be read, or has no grids.
        ImportError, OSError: as `rerun_file`.
    """
    with BagReader(grids) as own, BagReader(images) as others:
        scenes = BagScenes(own, others, topic)
        with rerun_file(path, scenes.sources, path.stem) as sink:
            for scene in scenes:
                sink.show(scene)
    return len(scenes)


def _stream(rr: Any, name: str) -> Any:
    rr.set_strict_mode(True)  # else what cannot be logged is a warning
    stream = rr.RecordingStream("panoocc")
    for clock in (stream.set_log_tick_enabled, stream.set_log_time_enabled):
        clock(False)
    stream.send_recording_name(name)
    return stream


def _blueprint(rr: Any, sources: Sources) -> Any:
    """The voxels with the vehicle's path, the cameras beside them, numbers over time below."""
    rrb = rr.blueprint
    whole = rrb.VisibleTimeRange(
        TIMELINE, start=rrb.TimeRangeBoundary.infinite(), end=rrb.TimeRangeBoundary.cursor_relative()
    )
    deep = rrb.Spatial3DView(
        origin=EGO,  # moves with the vehicle
        contents=f"/{WORLD}/**",
        name="occupancy",
        overrides={PATH: rrb.VisibleTimeRanges(whole)},
        eye_controls=rrb.EyeControls3D(position=EYE_M, look_target=LOOK_AT_M, eye_up=(0.0, 0.0, 1.0)),
    )
    plots = [rrb.TimeSeriesView(origin=f"numbers/{kind}", name=title) for kind, title in KINDS.items()]
    cameras = [rrb.Spatial2DView(origin=_camera_path(name), name=name) for name in sources.cameras.values()]
    beside = rrb.Vertical(rrb.Grid(*cameras), rrb.Tabs(*plots), row_shares=[3, 2]) if cameras else rrb.Tabs(*plots)
    return rrb.Blueprint(rrb.Horizontal(deep, beside, column_shares=[3, 2]), collapse_panels=True)


def _camera_path(name: str) -> str:
    return f"{EGO}/cameras/{name.replace('/', '_')}"


class RerunSink:
    """Logs scenes."""

    def __init__(self, rr: Any, stream: Any) -> None:
        self._rr, self._stream = rr, stream
        self.problems: dict[str, str] = {}  # camera -> why an image is not shown
        self._labels: LabelSet | None = None
        self._lenses: dict[str, bytes] = {}  # as they were logged last
        self._place_m: Matrix | None = None  # of the scene before

    def show(self, scene: Scene) -> None:
        """Log one scene at its stamp."""
        log, rr = self._stream.log, self._rr
        self._stream.set_time(TIMELINE, timestamp=np.datetime64(scene.stamp_ns, "ns"))
        self._log_labels(scene.voxels.labels)
        if scene.world_from_ego is not None:
            log(EGO, self._pose(scene.world_from_ego))
            self._log_path(scene.world_from_ego[:3, 3])
        log(f"{EGO}/voxels", self._voxels(scene))
        log(f"{EGO}/boxes", self._boxes(scene.boxes, scene.voxels.labels))
        for name, image in scene.images.items():
            self._log_image(name, image)
        if scene.map is not None:
            log(f"{WORLD if scene.map.in_world else EGO}/grid_2d", self._map(scene.map))
        for name, value in scene.numbers.items():
            log(rr.new_entity_path(["numbers", *name.split("/", 1)]), rr.Scalars(value))

    def _log_labels(self, labels: LabelSet) -> None:
        if labels == self._labels:
            return
        rr, self._labels = self._rr, labels
        infos = [rr.AnnotationInfo(i, name, labels.colours[i]) for i, name in enumerate(labels.names)]
        self._stream.log(WORLD, rr.AnnotationContext(infos), rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        for name, colour in zip(labels.names, labels.colours):
            path = rr.new_entity_path(["numbers", "classes", name])
            self._stream.log(path, rr.SeriesLines(colors=[colour], names=[name.replace("_", " ")]), static=True)

    def _pose(self, parent_from_child: Matrix) -> Any:
        return self._rr.Transform3D(translation=parent_from_child[:3, 3], quaternion=self._turn(parent_from_child))

    def _turn(self, matrix: Matrix) -> Any:
        return self._rr.Quaternion(xyzw=quaternion_from_rotation(matrix[:3, :3]))

    def _log_path(self, place_m: Matrix) -> None:
        if self._place_m is not None:
            lines = self._rr.LineStrips3D([[self._place_m, place_m]], colors=[(255, 255, 255)], radii=0.15)
            self._stream.log(PATH, lines)
        self._place_m = place_m

    def _voxels(self, scene: Scene) -> Any:
        voxels, grid = scene.classes, scene.voxels.geometry
        index = np.argwhere(voxels.drawn())
        place = tuple(index.T)
        return self._rr.VoxelGridMap(
            index.astype(np.int32),
            voxel_size=grid.voxel_size_m,
            values=voxels.class_id[place].astype(np.float32),
            colors=voxels.colours(place).astype(np.uint8),
            translation=grid.ego_from_grid[:3, 3],
            quaternion=self._turn(grid.ego_from_grid),
        )

    def _boxes(self, boxes: ScoredBoxes | None, labels: LabelSet) -> Any:
        if boxes is None or not len(boxes):
            return self._rr.Boxes3D.cleared()
        half = boxes.yaw_rad / 2
        kinds = [BOX_CLASSES[kind] for kind in boxes.class_id]
        return self._rr.Boxes3D(
            centers=boxes.centre_m,
            half_sizes=boxes.size_m / 2,
            quaternions=np.stack((0 * half, 0 * half, np.sin(half), np.cos(half)), axis=1),
            colors=instance_colours(numbers_of(boxes)),
            labels=names_of(boxes),
            class_ids=[labels.names.index(kind) if kind in labels.names else 0 for kind in kinds],
            radii=0.04,
        )

    def _log_image(self, name: str, image: SentImage) -> None:
        rr, path = self._rr, _camera_path(name)
        try:
            data, media_type = image.as_file()
        except ImageError as error:
            self.problems[name] = f"an image is not shown: {error}"
            return
        calibration, mount = image.calibration, image.ego_from_camera
        if calibration is not None and mount is not None and calibration.size_hw is not None:
            placed = calibration.intrinsics.tobytes() + mount.tobytes()
            if placed != self._lenses.get(name):
                self._lenses[name] = placed
                pinhole = rr.Pinhole(
                    image_from_camera=calibration.intrinsics,
                    resolution=calibration.size_hw[::-1],
                    camera_xyz=rr.ViewCoordinates.RDF,
                    image_plane_distance=PLANE_M,
                )
                self._stream.log(path, self._pose(mount), pinhole)
        self._stream.log(path, rr.EncodedImage(contents=data, media_type=media_type))

    def _map(self, plane: Map) -> Any:
        height, width = plane.cells.shape
        layout = self._rr.components.ImageFormat(width=width, height=height, color_model="L", channel_datatype="U8")
        # Rerun's first row lies farthest along y.
        return self._rr.GridMap(
            data=plane.cells[::-1].tobytes(),
            format=layout,
            cell_size=plane.cell_m,
            translation=plane.frame_from_map[:3, 3],
            quaternion=self._turn(plane.frame_from_map),
            opacity=0.6,
            colormap=self._rr.components.Colormap.RvizMap,
        )
