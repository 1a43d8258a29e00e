"""nuScenes as it is published: tables in `<root>/v1.0-*`, files in `<root>/samples`, lidarseg and panoptic optional.

A frame is a key frame: six images, each with the pose at its own shutter; the reference time, and with it the ego frame
of the truth, is that of the roof LiDAR's sweep, to which boxes, point labels and Occ3D's voxels belong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix
from ..ground_truth import GroundTruth, TruePoints
from ..labels import LIDARSEG
from ..types import CameraImage, Frame
from .errors import DataError
from .files import ArrayFile, read_image, read_labels, read_sweep
from .nuscenes_boxes import RACK_CLASS, BoxTable, WorldBoxes, read_boxes
from .nuscenes_labels import POINT_CLASS
from .tables import Record, records

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
LIDAR = "LIDAR_TOP"
NS_PER_US = 1000
_UNKNOWN = 255
_PER_CATEGORY = 1000  # panoptic numbers are category * 1000 + instance
_IN_SEVERAL_BOXES = 0  # the panoptic number of points of which nuScenes does not know whose they are


@dataclass(frozen=True, slots=True, eq=False)
class _Mount:
    """One calibration of one sensor."""

    channel: str
    ego_from_sensor: Matrix  # [4, 4]
    intrinsics: Matrix  # [3, 3], pixels; zeros for the LiDAR


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    """One file of one sensor at a key frame."""

    token: str
    file: str  # below the root
    stamp_ns: int
    size_hw: tuple[int, int]
    mount: _Mount
    world_from_ego: Matrix  # [4, 4], at stamp_ns


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """One key frame."""

    token: str
    scene_token: str
    time_us: int
    place: int  # in the table
    shots: dict[str, _Shot]  # by channel


@dataclass(frozen=True, slots=True, eq=False)
class _PointLabels:
    """Where the point labels lie, and what their numbers mean."""

    classes: NDArray[np.uint8]  # [256], category index -> id of labels.LIDARSEG, 255: unknown
    semantic: Mapping[str, str]  # token of a sweep -> file of lidarseg
    panoptic: Mapping[str, str]


class NuScenes:
    """The tables of one version, read whole.

    Args:
        root: the folder that holds `samples` and the folder of tables.
        version: the folder of tables, such as "v1.0-mini" or "v1.0-trainval".
        network_frame: the sensor in whose frame a network predicts (GridConfig.network_frame): frames say where it is
            on their vehicle; None: the network's own configuration counts.
        with_points: whether truth has labelled LiDAR points, where the version has lidarseg or panoptic labels.
        show_progress: bars for the large tables.

    Raises:
        DataError: a table is missing, damaged or not consistent; the message names it.
    """

    def __init__(
        self,
        root: Path | str,
        version: str = "v1.0-trainval",
        *,
        network_frame: str | None = None,
        with_points: bool = True,
        show_progress: bool = False,
    ):
        if network_frame is not None and network_frame.upper() != LIDAR:
            raise DataError(f"network_frame {network_frame!r} is not known to nuScenes, only {LIDAR.lower()}")
        self.root, self.version, self._in_lidar_frame = Path(root), version, network_frame is not None
        folder = self.root / version
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; {_versions_text(self.root)}")
        self._scenes = _read_scenes(folder)
        self._samples = _read_samples(folder, set(self._scenes.values()))
        _read_shots(folder, self._samples, show_progress)
        times = {sample.token: (sample.place, sample.time_us) for sample in self._samples.values()}
        self._boxes: BoxTable | None = read_boxes(folder, times, show_progress)
        self._labels = _read_point_labels(folder) if with_points else None

    @property
    def scene_names(self) -> tuple[str, ...]:
        """All scenes, in the order of the table."""
        return tuple(self._scenes)

    def drives(self, scenes: Iterable[str] | None = None) -> list["NuScenesDrive"]:
        """One drive a scene, in the order in which they are named; all of them for None.

        Raises:
            DataError: no such scene, or one without key frames or with sensors missing.
        """
        names = self.scene_names if scenes is None else tuple(scenes)
        unknown = [name for name in names if name not in self._scenes]
        if unknown:
            raise DataError(
                f"{self.root / self.version}: has no scene {unknown[0]} ({len(unknown)} of {len(names)} scenes are not "
                f"in it); it has {len(self._scenes)}: {', '.join(self.scene_names[:10])} ..."
            )
        of_scene: dict[str, list[_Sample]] = {self._scenes[name]: [] for name in names}
        for sample in self._samples.values():
            if sample.scene_token in of_scene:
                of_scene[sample.scene_token].append(sample)
        return [self._drive(name, of_scene[self._scenes[name]]) for name in names]

    def _drive(self, name: str, samples: list[_Sample]) -> "NuScenesDrive":
        if not samples:
            raise DataError(f"{self.root / self.version}: {name} has no key frames in sample.json; download it again")
        for sample in samples:
            missing = [channel for channel in (*CAMERAS, LIDAR) if channel not in sample.shots]
            if missing:
                raise DataError(
                    f"{self.root / self.version / 'sample_data.json'}: no key frame of {', '.join(missing)} for the "
                    f"sample {sample.token} ({name}); download it again"
                )
        frames = sorted(samples, key=lambda sample: sample.shots[LIDAR].stamp_ns)
        boxes = None if self._boxes is None else [self._boxes.of(sample.place) for sample in frames]
        return NuScenesDrive(name, self.root, frames, boxes, self._labels, self._in_lidar_frame)


class NuScenesDrive:
    """One scene; files are read when a frame or its truth is asked for."""

    def __init__(
        self,
        name: str,
        root: Path,
        samples: list[_Sample],
        boxes: list[WorldBoxes] | None,
        labels: _PointLabels | None,
        in_lidar_frame: bool = False,
    ):
        self._name, self._root, self._samples, self._boxes = name, root, samples, boxes
        self._in_lidar_frame = in_lidar_frame  # the network predicts there
        sweeps = {sample.shots[LIDAR].token for sample in samples}
        if labels is not None:  # a drive goes to worker processes: without those of all other scenes
            semantic, panoptic = (
                {token: file for token, file in files.items() if token in sweeps}
                for files in (labels.semantic, labels.panoptic)
            )
            labels = _PointLabels(labels.classes, semantic, panoptic)
        self._labels = labels

    @property
    def name(self) -> str:
        """The scene's name, such as "scene-0061"."""
        return self._name

    def __len__(self) -> int:
        return len(self._samples)

    def sample_token(self, index: int) -> str:
        """The token under which nuScenes and data sets made from it know a frame."""
        return self._sample(index).token

    def frame(self, index: int) -> Frame:
        """The images of a key frame.

        Raises:
            DataError: an image is missing, cut off or of the wrong size.
            IndexError: there are fewer key frames.
        """
        sample = self._sample(index)
        lidar = sample.shots[LIDAR]
        cameras = tuple(self._camera(sample.shots[channel]) for channel in CAMERAS)
        ego_from_network = lidar.mount.ego_from_sensor if self._in_lidar_frame else None
        return Frame(lidar.stamp_ns, lidar.world_from_ego, cameras, ego_from_network=ego_from_network)

    def world_from_ego(self, index: int) -> Matrix:
        """The pose of a key frame [4, 4], without its images.

        Raises:
            IndexError: there are fewer key frames.
        """
        return self._sample(index).shots[LIDAR].world_from_ego

    def truth(self, index: int) -> GroundTruth:
        """Boxes and labelled points, as far as the version has them.

        Raises:
            DataError: a file is missing or not what it should be.
            IndexError: there are fewer key frames.
        """
        lidar = self._sample(index).shots[LIDAR]
        boxes = racks = None
        if self._boxes is not None:
            there = self._boxes[index]
            boxes = there.rows(there.class_id != RACK_CLASS).in_ego(lidar.world_from_ego)
            racks = there.rows(there.class_id == RACK_CLASS).in_ego(lidar.world_from_ego)
        return GroundTruth(lidar.stamp_ns, boxes=boxes, bicycle_racks=racks, points=self._points(lidar))

    def sweep_token(self, index: int) -> str:
        """The token under which nuScenes knows the LiDAR's sweep of a key frame.

        Raises:
            IndexError: there are fewer key frames.
        """
        return self._sample(index).shots[LIDAR].token

    def points_m(self, index: int) -> NDArray[np.float32]:
        """The sweep of a key frame: points [p, 3] in the ego frame, in the order of its file.

        Raises:
            DataError: its file is missing or not what it should be.
            IndexError: there are fewer key frames.
        """
        return self._sweep(self._sample(index).shots[LIDAR])

    def files(self, index: int, with_sweep: bool = False) -> list[tuple[str, Path]]:
        """What a key frame and its truth are read from: the first folder below the root, and the path.

        Args:
            with_sweep: the LiDAR's points, too, where they have no labels.

        Raises:
            IndexError: there are fewer key frames.
        """
        shots = self._sample(index).shots
        token, names = shots[LIDAR].token, [shots[channel].file for channel in CAMERAS]
        tables = () if self._labels is None else (self._labels.semantic, self._labels.panoptic)
        of_points = [files[token] for files in tables if token in files]
        names += [shots[LIDAR].file, *of_points] if with_sweep or of_points else []
        return [(PurePosixPath(name).parts[0], self._root / name) for name in names]

    def _sample(self, index: int) -> _Sample:
        if not 0 <= index < len(self._samples):
            raise IndexError(f"{self._name} has {len(self._samples)} key frames, no {index}")
        return self._samples[index]

    def _camera(self, shot: _Shot) -> CameraImage:
        return CameraImage(
            name=shot.mount.channel,
            stamp_ns=shot.stamp_ns,
            image=read_image(self._root / shot.file, shot.size_hw),
            intrinsics=shot.mount.intrinsics,
            ego_from_camera=shot.mount.ego_from_sensor,
            world_from_ego=shot.world_from_ego,
        )

    def _points(self, lidar: _Shot) -> TruePoints | None:
        """The labelled sweep; classes are lidarseg's where it is there, instances those of the panoptic labels."""
        labels = self._labels
        if labels is None or not (lidar.token in labels.semantic or lidar.token in labels.panoptic):
            return None
        position_m = self._sweep(lidar)
        count, things, in_several = len(position_m), None, None
        if lidar.token in labels.panoptic:
            path = self._root / labels.panoptic[lidar.token]
            with ArrayFile(path) as file:
                numbers = file.read("data", (count,), np.uint16).astype(np.int32)
            class_id = _classes(numbers // _PER_CATEGORY, labels.classes, path)
            # The number as it is tells instances of all categories apart.
            things = np.where(_IS_THING[class_id] & (numbers % _PER_CATEGORY > 0), numbers, 0).astype(np.int32)
            in_several = numbers == _IN_SEVERAL_BOXES
        if lidar.token in labels.semantic:
            path = self._root / labels.semantic[lidar.token]
            class_id = _classes(read_labels(path, count), labels.classes, path)
        return TruePoints(position_m, class_id, things, in_several)

    def _sweep(self, lidar: _Shot) -> NDArray[np.float32]:
        sweep, ego_from_lidar = read_sweep(self._root / lidar.file), lidar.mount.ego_from_sensor
        return (sweep @ ego_from_lidar[:3, :3].T + ego_from_lidar[:3, 3]).astype(np.float32)


_IS_THING = np.array(LIDARSEG.is_thing)


def _classes(categories: NDArray, classes: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Ids of labels.LIDARSEG of category indices [p]."""
    found = classes[categories]
    if (found == _UNKNOWN).any():
        unknown = int(categories[found == _UNKNOWN][0])
        raise DataError(f"{path}: holds the category {unknown}, which category.json does not have; download both again")
    return found


def _versions_text(root: Path) -> str:
    found = ", ".join(sorted(path.parent.name for path in root.glob("*/scene.json")))
    return f"{root} has {found or 'no folder of tables'}; unpack the metadata there, or give the root or version of one"


def _read_scenes(folder: Path) -> dict[str, str]:
    """Name -> token of every scene."""
    path, scenes = folder / "scene.json", {}
    for record in (Record(path, fields) for fields in records(path)):
        if record.text("name") in scenes:
            raise record.error(f"{record.text('name')} is there twice")
        scenes[record.text("name")] = record.text("token")
    if not scenes:
        raise DataError(f"{path}: has no scenes; download it again")
    return scenes


def _read_samples(folder: Path, scene_tokens: set[str]) -> dict[str, _Sample]:
    path, samples = folder / "sample.json", {}
    for place, record in enumerate(Record(path, fields) for fields in records(path)):
        token, scene = record.text("token"), record.text("scene_token")
        if scene not in scene_tokens:
            raise record.error(f"names the scene {scene}, which scene.json does not have")
        if token in samples:
            raise record.error("is there twice")
        samples[token] = _Sample(token, scene, record.integer("timestamp"), place, {})
    return samples


def _read_mounts(folder: Path) -> dict[str, _Mount]:
    """Token -> calibration."""
    path = folder / "sensor.json"
    channels = {r.text("token"): r.text("channel") for r in (Record(path, fields) for fields in records(path))}
    path, mounts = folder / "calibrated_sensor.json", {}
    for record in (Record(path, fields) for fields in records(path)):
        sensor = record.text("sensor_token")
        if sensor not in channels:
            raise record.error(f"names the sensor {sensor}, which sensor.json does not have")
        channel = channels[sensor]
        intrinsics: Matrix = np.zeros((3, 3))
        if channel in CAMERAS:
            intrinsics = record.array("camera_intrinsic", (3, 3))
            if min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
                raise record.error("camera_intrinsic has a focal length that is not positive")
        mounts[record.text("token")] = _Mount(channel, record.pose(), intrinsics)
    return mounts


def _read_shots(folder: Path, samples: Mapping[str, _Sample], show_progress: bool) -> None:
    """Fill in the shots of all samples."""
    mounts = _read_mounts(folder)
    path, poses = folder / "sample_data.json", _Poses()
    for fields in records(path, show_progress):
        record = Record(path, fields)
        if not record.flag("is_key_frame"):
            continue
        mount = mounts.get(record.text("calibrated_sensor_token"))
        sample = samples.get(record.text("sample_token"))
        if mount is None or sample is None:
            table = "calibrated_sensor" if mount is None else "sample"
            raise record.error(f"names the {table} {record.text(table + '_token')}, which {table}.json does not have")
        if mount.channel not in (*CAMERAS, LIDAR):
            continue
        if mount.channel in sample.shots:
            raise record.error(f"is a second key frame of {mount.channel} for the sample {sample.token}")
        pose = poses.wanted(record.text("ego_pose_token"))
        sample.shots[mount.channel] = _shot(record, mount, pose)
    poses.read(folder / "ego_pose.json", show_progress)


def _shot(record: Record, mount: _Mount, world_from_ego: Matrix) -> _Shot:
    is_camera = mount.channel in CAMERAS
    return _Shot(
        token=record.text("token"),
        file=_inside(record),
        stamp_ns=record.integer("timestamp") * NS_PER_US,
        size_hw=(record.integer("height"), record.integer("width")) if is_camera else (0, 0),
        mount=mount,
        world_from_ego=world_from_ego,
    )


class _Poses:
    """Poses that are handed out by token and get their values when the table is read: it holds ten times as many."""

    def __init__(self) -> None:
        self._wanted: dict[str, Matrix] = {}

    def wanted(self, token: str) -> Matrix:
        """The pose [4, 4] of a token, not a number yet."""
        return self._wanted.setdefault(token, np.full((4, 4), np.nan))

    def read(self, path: Path, show_progress: bool) -> None:
        """Fill in what was handed out."""
        missing = set(self._wanted)
        for fields in records(path, show_progress):
            token = fields.get("token")
            if token in missing:
                self._wanted[token][:] = Record(path, fields).pose()
                missing.remove(token)
        if missing:
            raise DataError(
                f"{path}: lacks {len(missing)} poses that sample_data.json names, the first {min(missing)}; "
                "download both tables again"
            )


def _inside(record: Record) -> str:
    """The field `filename`, a path below the root."""
    file = PurePosixPath(record.text("filename"))
    if file.is_absolute() or ".." in file.parts:
        raise record.error(f"filename {file} leads out of the data set's folder")
    return str(file)


def _read_point_labels(folder: Path) -> _PointLabels | None:
    """None where the version has neither lidarseg nor panoptic labels."""
    files = {name: _label_files(folder / f"{name}.json") for name in ("lidarseg", "panoptic")}
    if not any(files.values()):
        return None
    path, classes = folder / "category.json", np.full(256, _UNKNOWN, np.uint8)
    for record in (Record(path, fields) for fields in records(path)):
        if "index" not in record.fields:
            raise DataError(
                f"{path}: its categories have no index, as lidarseg labels need: unpack the metadata of lidarseg or "
                f"panoptic over {folder}, or read without points"
            )
        index, name = record.integer("index"), record.text("name")
        if index > len(classes) - 2:
            raise record.error(f"index is {index}, above {len(classes) - 2}")
        if name not in POINT_CLASS:
            raise record.error(f"category {name!r} is none of nuScenes lidarseg")
        classes[index] = POINT_CLASS[name]
    return _PointLabels(classes, files["lidarseg"], files["panoptic"])


def _label_files(path: Path) -> dict[str, str]:
    """Token of a sweep -> file of its labels; empty where there is no such table."""
    if not path.is_file():
        return {}
    return {r.text("sample_data_token"): _inside(r) for r in (Record(path, fields) for fields in records(path))}
