"""Scenes for Foxglove, live over WebSocket: the app, or its web version, connects and shows what comes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.geometry import NS_PER_S, Matrix, quaternion_from_rotation
from panoocc_core.labels import instance_colours
from panoocc_core.types import ScoredBoxes

from .numbers import names_of, numbers_of
from .packages import viewer
from .scene import Map, Scene, SentImage

PORT, HOST = 8765, "127.0.0.1"
PATH_POINTS = 2000
MAP_FRAME = "panoocc_world"  # where TF has no frame that does not move


@contextmanager
def foxglove_server(host: str, port: int) -> Iterator["FoxgloveSink"]:
    """A server that Foxglove connects to, as long as the block lasts.

    Raises:
        ImportError: the SDK is not installed.
        OSError: the address cannot be listened on.
    """
    foxglove = viewer("foxglove")
    context, watched = foxglove.Context(), threading.Event()

    told = {"on_subscribe": lambda self, client, channel: watched.set()}
    try:
        server = foxglove.start_server(
            name="panoocc",
            host=host,
            port=port,
            capabilities=[foxglove.Capability.Time],
            server_listener=type("Listener", (foxglove.ServerListener,), told)(),
            context=context,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise OSError(
            f"{host}:{port}: Foxglove's server cannot listen there ({error}): choose another --port"
        ) from error
    try:
        yield FoxgloveSink(context, server, watched)
    finally:
        server.stop()


class FoxgloveSink:
    """Sends scenes to whoever is connected."""

    def __init__(self, context: Any, server: Any, watched: threading.Event) -> None:
        self._context, self._server = context, server
        self.watched = watched  # set once somebody has subscribed
        self._messages, self._channel_types = viewer("foxglove.messages"), viewer("foxglove.channels")
        self._channels: dict[str, Any] = {}
        self._path_m: list[list[float]] = []
        self.problems: dict[str, str] = {}  # camera -> why an image is not shown

    @property
    def url(self) -> str:
        """What a browser opens to connect."""
        return str(self._server.app_url())

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.port)

    def restart(self) -> None:
        """The stamps begin anew: what clients have of before is forgotten."""
        self._path_m.clear()
        self._server.clear_session()

    def show(self, scene: Scene) -> None:
        """Send one scene."""
        self._server.broadcast_time(scene.stamp_ns)
        self._send_transforms(scene)
        self._log("VoxelGrid", "/panoocc/occupancy", scene.stamp_ns, self._voxels(scene))
        if scene.boxes is not None:
            self._log("SceneUpdate", "/panoocc/objects", scene.stamp_ns, self._boxes(scene, scene.boxes))
        for name, image in scene.images.items():
            self._send_image(name, image, scene)
        if scene.map is not None:
            self._log("Grid", "/panoocc/grid_2d", scene.stamp_ns, self._map(scene, scene.map))
        if "numbers" not in self._channels:
            foxglove = viewer("foxglove")
            self._channels["numbers"] = foxglove.Channel("/panoocc/numbers", context=self._context)
        nested: dict[str, dict[str, float]] = {}
        for name, value in scene.numbers.items():
            kind, _, which = name.partition("/")
            nested.setdefault(kind, {})[which.replace(" ", "_")] = value
        self._channels["numbers"].log(nested, log_time=scene.stamp_ns)

    def _log(self, kind: str, topic: str, stamp_ns: int, message: Any) -> None:
        if topic not in self._channels:
            self._channels[topic] = getattr(self._channel_types, f"{kind}Channel")(topic, context=self._context)
        self._channels[topic].log(message, log_time=stamp_ns)

    def _time(self, stamp_ns: int) -> Any:
        return self._messages.Timestamp(sec=stamp_ns // NS_PER_S, nsec=stamp_ns % NS_PER_S)

    def _vector(self, values: Any) -> Any:
        x, y, z = (float(value) for value in values)
        return self._messages.Vector3(x=x, y=y, z=z)

    def _turn(self, matrix: Matrix) -> Any:
        x, y, z, w = quaternion_from_rotation(matrix[:3, :3]).tolist()
        return self._messages.Quaternion(x=x, y=y, z=z, w=w)

    def _pose(self, matrix: Matrix) -> Any:
        return self._messages.Pose(position=self._vector(matrix[:3, 3]), orientation=self._turn(matrix))

    def _rgba(self) -> list[Any]:
        """Layout of a cell with a colour."""
        kind = self._messages.PackedElementFieldNumericType.Uint8
        names = enumerate(("red", "green", "blue", "alpha"))
        return [self._messages.PackedElementField(name=name, offset=k, type=kind) for k, name in names]

    def _transform(self, parent: str, child: str, matrix: Matrix, stamp_ns: int) -> Any:
        return self._messages.FrameTransform(
            timestamp=self._time(stamp_ns),
            parent_frame_id=parent,
            child_frame_id=child,
            translation=self._vector(matrix[:3, 3]),
            rotation=self._turn(matrix),
        )

    def _send_transforms(self, scene: Scene) -> None:
        world = scene.world_frame or MAP_FRAME
        pose = np.eye(4) if scene.world_from_ego is None else scene.world_from_ego
        found = [self._transform(world, scene.frame_id, pose, scene.stamp_ns)]
        for name, image in scene.images.items():
            if image.ego_from_camera is not None:
                found.append(self._transform(scene.frame_id, name, image.ego_from_camera, image.stamp_ns))
        self._log("FrameTransforms", "/tf", scene.stamp_ns, self._messages.FrameTransforms(transforms=found))
        if scene.world_from_ego is not None:
            self._send_path(scene, world)

    def _send_path(self, scene: Scene, world: str) -> None:
        assert scene.world_from_ego is not None
        self._path_m = [*self._path_m[1 - PATH_POINTS :], scene.world_from_ego[:3, 3].tolist()]
        messages = self._messages
        line = messages.LinePrimitive(
            thickness=0.2,
            color=messages.Color(r=1.0, g=1.0, b=1.0, a=1.0),
            points=[messages.Point3(x=x, y=y, z=z) for x, y, z in self._path_m],
        )
        entity = messages.SceneEntity(timestamp=self._time(scene.stamp_ns), frame_id=world, id="path", lines=[line])
        self._log("SceneUpdate", "/panoocc/path", scene.stamp_ns, messages.SceneUpdate(entities=[entity]))

    def _voxels(self, scene: Scene) -> Any:
        """One RGBA colour per voxel, transparent where nothing is drawn."""
        messages, grid = self._messages, scene.voxels.geometry
        (nx, ny, nz), drawn = grid.shape_xyz, scene.voxels.drawn()
        cells = np.zeros((nz, ny, nx, 4), np.uint8)
        x, y, z = np.nonzero(drawn)
        cells[z, y, x, :3] = scene.classes.colours((x, y, z))
        cells[z, y, x, 3] = 255
        return messages.VoxelGrid(
            timestamp=self._time(scene.stamp_ns),
            frame_id=scene.frame_id,
            pose=self._pose(grid.ego_from_grid),
            row_count=ny,
            column_count=nx,
            cell_size=self._vector(grid.voxel_size_m),
            cell_stride=4,
            row_stride=4 * nx,
            slice_stride=4 * nx * ny,
            fields=self._rgba(),
            data=cells.tobytes(),
        )

    def _boxes(self, scene: Scene, boxes: ScoredBoxes) -> Any:
        """Translucent cubes with class and number; those of before are gone."""
        messages, time = self._messages, self._time(scene.stamp_ns)
        numbers, names = numbers_of(boxes), names_of(boxes)
        cubes, texts = [], []
        for row, colour in enumerate(instance_colours(numbers)):
            red, green, blue = (float(value) / 255 for value in colour)
            half = float(boxes.yaw_rad[row]) / 2
            turn = messages.Quaternion(z=float(np.sin(half)), w=float(np.cos(half)))
            pose = messages.Pose(position=self._vector(boxes.centre_m[row]), orientation=turn)
            tint = messages.Color(r=red, g=green, b=blue, a=0.35)
            cubes.append(messages.CubePrimitive(pose=pose, size=self._vector(boxes.size_m[row]), color=tint))
            above = boxes.centre_m[row] + (0, 0, boxes.size_m[row, 2] / 2 + 0.5)
            white, place = messages.Color(r=1.0, g=1.0, b=1.0, a=1.0), messages.Pose(position=self._vector(above))
            texts.append(
                messages.TextPrimitive(
                    pose=place, billboard=True, font_size=12.0, scale_invariant=True, color=white, text=names[row]
                )
            )
        entity = messages.SceneEntity(timestamp=time, frame_id=scene.frame_id, id="things", cubes=cubes, texts=texts)
        return messages.SceneUpdate(entities=[entity])

    def _send_image(self, name: str, image: SentImage, scene: Scene) -> None:
        messages, stamp = self._messages, image.stamp_ns
        try:
            data, media_type = image.as_file()
        except ImageError as error:
            self.problems[name] = f"an image is not shown: {error}"
            return
        picture = messages.CompressedImage(
            timestamp=self._time(stamp), frame_id=name, data=data, format=media_type.partition("/")[2]
        )
        self._log("CompressedImage", f"/cameras/{name}/image", scene.stamp_ns, picture)
        calibration = image.calibration
        if calibration is not None and calibration.size_hw is not None and image.ego_from_camera is not None:
            k = calibration.intrinsics
            sent = messages.CameraCalibration(
                timestamp=self._time(stamp),
                frame_id=name,
                width=calibration.size_hw[1],
                height=calibration.size_hw[0],
                K=k.ravel().tolist(),
                R=np.eye(3).ravel().tolist(),
                P=np.hstack((k, np.zeros((3, 1)))).ravel().tolist(),
            )
            self._log("CameraCalibration", f"/cameras/{name}/calibration", scene.stamp_ns, sent)

    def _map(self, scene: Scene, plane: Map) -> Any:
        """Light where free, dark where occupied, transparent where unknown."""
        messages, width = self._messages, plane.cells.shape[1]
        shade = (255 - np.clip(plane.cells, 0, 100).astype(np.float32) * 2.2).astype(np.uint8)
        cells = np.stack((shade, shade, shade, np.where(plane.cells < 0, 0, 200).astype(np.uint8)), axis=2)
        frame = (scene.world_frame or MAP_FRAME) if plane.in_world else scene.frame_id
        return messages.Grid(
            timestamp=self._time(scene.stamp_ns),
            frame_id=frame,
            pose=self._pose(plane.frame_from_map),
            column_count=width,
            cell_size=messages.Vector2(x=plane.cell_m, y=plane.cell_m),
            row_stride=4 * width,
            cell_stride=4,
            fields=self._rgba(),
            data=cells.tobytes(),
        )
