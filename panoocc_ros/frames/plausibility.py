"""Whether mounts and intrinsics can be true: what each camera would see of the grid, judged before the first grid.

Nothing is refused here: a warning names cameras, the likely cause and the remedy.  Pure.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from panoocc_core.config import ModelConfig
from panoocc_core.geometry import Matrix, shift_and_turn
from panoocc_core.preprocess import crop_window, pixels_of_points
from panoocc_core.types import CameraImage, Frame

from .directions import degrees_apart, in_words, looks_deg, said_yaw_deg

_SAMPLES = (40, 40, 5)  # points of the grid along x, y, z
_MIN_SEEN = 0.002  # share of the grid
_MAX_UP_DEG, _MAX_DOWN_DEG = 50.0, 75.0  # of an optical axis; surround cameras for parking look down
_MAX_ROLL_DEG = 32.0  # of a picture that was turned upright, which may lack up to 30
_MAX_MOUNT_M = 20.0  # from the vehicle's origin
_MAX_OFF_MIDDLE_XY = (0.2, 0.45)  # principal point, in widths and heights of the image; windows of a sensor cut its sky
_MAX_CUT_OFF = 1 / 3  # a lens of 120 degrees
_MIN_OVERLAP, _SAME_AXIS_DEG = 0.9, 5.0  # two views that are one
_SAME_MOUNT_M, _SAME_MOUNT_DEG = 1e-3, 0.05
_MAX_ASTRAY_DEG = 75.0  # between where a camera looks and where its name says
_HORIZON_M = 1e6  # how far away
_MOVED_M, _MOVED_DEG, _MOVED_SIDES = 0.05, 1.0, 0.02  # from here on a calibration is another one

_OPTICAL = (
    "REP 103 wants mounts of the optical frame (z ahead, x right, y down). Name the camera's ..._optical_frame in the "
    "images' header.frame_id or as `frame` in the rig file, or send that transform on /tf_static"
)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """What one camera would see."""

    camera: CameraImage
    sees: NDArray[np.bool_]  # [n]: which of the grid's points lie in what is left of its picture after the crop
    horizon_row: float | None  # at the middle column; infinite below the picture, None above it
    rows: tuple[int, int]  # of the picture that the crop keeps, first and last

    @property
    def axis(self) -> Matrix:
        """Optical axis [3] in the vehicle frame."""
        return self.camera.ego_from_camera[:3, 2]

    @property
    def elevation_deg(self) -> float:
        """Of the optical axis above the horizon."""
        return math.degrees(math.asin(max(-1.0, min(1.0, float(self.axis[2])))))


@dataclass(frozen=True, slots=True)
class Oddity:
    """What cannot be true of some cameras; the text begins with their names."""

    cameras: tuple[str, ...]
    text: str


class GeometryWatch:
    """Judges a stream's geometry at its first frame, and again when it has become another one."""

    def __init__(self) -> None:
        self._judged: dict[str, CameraImage] = {}
        self.warnings: tuple[str, ...] | None = None  # of the newest judgement; None before the first

    def look(self, frame: Frame, config: ModelConfig, turns: Mapping[str, int]) -> bool:
        """Whether the frame's geometry was not judged yet, and is so now; `turns` as in `geometry_warnings`.

        Blank cameras have none.
        """
        seeing = {camera.name: camera for camera in frame.cameras if not camera.is_blank}
        if all(name in self._judged and not _differs(camera, self._judged[name]) for name, camera in seeing.items()):
            return False
        self._judged |= {name: _without_picture(camera) for name, camera in seeing.items()}
        judged = replace(frame, cameras=tuple(self._judged.values()))
        try:
            self.warnings = geometry_warnings(judged, config, turns)
        except Exception as error:  # a warning that cannot be made must not cost a grid
            names = ", ".join(self._judged)
            self.warnings = (f"{names}: mounts and intrinsics could not be judged: {type(error).__name__}: {error}",)
        return True


def _without_picture(camera: CameraImage) -> CameraImage:
    """The same camera with a picture of its size that takes one byte: those of a rig may be hundreds of megabytes."""
    return replace(camera, image=torch.zeros(1, 1, 1, dtype=torch.uint8).expand(*camera.size_hw, 3))


def geometry_warnings(frame: Frame, config: ModelConfig, turns: Mapping[str, int]) -> tuple[str, ...]:
    """The texts of `oddities`."""
    return tuple(oddity.text for oddity in oddities(frame, config, turns))


def oddities(frame: Frame, config: ModelConfig, turns: Mapping[str, int]) -> tuple[Oddity, ...]:
    """What cannot be true of the cameras of a frame.

    Args:
        turns: by how many quarter turns each camera's picture was turned upright.
    """
    points = _grid_points_m(config.placed(frame.ego_from_network))
    views = [_view(camera, points, config) for camera in frame.cameras]
    left, odd = list(views), [*_same_mounts(views), *_vehicle_frame(views, turns)]
    for finds, text in _RULES:  # a camera's first oddity explains those that follow
        found = [(view, detail) for view in left if (detail := finds(view)) is not None]
        if found:
            left = [view for view in left if view not in [one for one, _ in found]]
            details = dict.fromkeys(detail for _, detail in found)
            shown = f" ({', '.join(list(details)[:6])})" if any(details) else ""
            odd.append(_oddity([view for view, _ in found], text, shown))
    return (*odd, *_shared_views(left))


def _oddity(views: list[_View], text: str, shown: str = "") -> Oddity:
    names = tuple(view.camera.name for view in views)
    return Oddity(names, f"{', '.join(names)}{shown}: {text}")


def _grid_points_m(config: ModelConfig) -> Matrix:
    """Points [n, 3] spread over the grid, in the vehicle frame."""
    low, high = config.grid.range_m[:3], config.grid.range_m[3:]
    axes = [a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in zip(low, high, _SAMPLES)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    pose = config.grid.ego_from_network.matrix
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def _view(camera: CameraImage, points_m: Matrix, config: ModelConfig) -> _View:
    pixels, is_ahead = pixels_of_points(camera, points_m)
    x, y = pixels.T
    top, first, rows, columns = crop_window(camera.size_hw, config.images)
    sees = is_ahead & (x >= first) & (x < first + columns) & (y >= top) & (y < top + rows)
    return _View(camera, sees, _horizon_row(camera), (top, top + rows - 1))


def _horizon_row(camera: CameraImage) -> float | None:
    """The row at which the middle column meets the horizon."""
    height, width = camera.size_hw
    if camera.lens is not None:
        return _bent_horizon_row(camera)
    column = np.array([[width / 2, 0, 1], [width / 2, height - 1, 1]]).T
    top_z, bottom_z = (camera.ego_from_camera[:3, :3] @ np.linalg.inv(camera.intrinsics) @ column)[2]
    if top_z <= 0:
        return None  # it looks down
    return float(top_z / (top_z - bottom_z) * (height - 1)) if bottom_z < 0 else math.inf


def _bent_horizon_row(camera: CameraImage) -> float | None:
    azimuth = np.radians(np.arange(0, 360, 0.5))
    ways = np.stack((np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)), axis=1)
    pixels, seen = pixels_of_points(camera, camera.ego_from_camera[:3, 3] + _HORIZON_M * ways)
    seen = seen & (ways @ camera.ego_from_camera[:3, 2] > 0)  # not what is above or below, and behind
    if not seen.any():
        return None if camera.ego_from_camera[2, 2] < 0 else math.inf
    middle = np.abs(pixels[:, 0] - camera.size_hw[1] / 2)
    return float(pixels[np.where(seen, middle, np.inf).argmin(), 1])


def _mount_distance(view: _View) -> str | None:
    distance_m = float(np.linalg.norm(view.camera.ego_from_camera[:3, 3]))
    return f"{distance_m:.0f} m away" if distance_m > _MAX_MOUNT_M else None


def _looks_up(view: _View) -> str | None:
    if view.elevation_deg <= _MAX_UP_DEG:
        return None
    return f"optical axis {view.elevation_deg:.0f} degrees above the horizon"


def _looks_down(view: _View) -> str | None:
    if view.elevation_deg >= -_MAX_DOWN_DEG:
        return None
    return f"optical axis {-view.elevation_deg:.0f} degrees below the horizon"


def _off_middle(view: _View) -> str | None:
    (height, width), k = view.camera.size_hw, view.camera.intrinsics
    if abs(k[0, 2] / width - 0.5) <= _MAX_OFF_MIDDLE_XY[0] and abs(k[1, 2] / height - 0.5) <= _MAX_OFF_MIDDLE_XY[1]:
        return None
    return f"at {k[0, 2]:.0f}, {k[1, 2]:.0f} in {width}x{height} pixels"


def _horizon_cropped(view: _View) -> str | None:
    (first, last), row = view.rows, view.horizon_row
    if row is None or first <= row <= last:
        return None
    return f"horizon {f'at row {row:.0f}' if row < math.inf else 'below the picture'}, rows {first} to {last} are used"


def _sees_nothing(view: _View) -> str | None:
    share = float(view.sees.mean())
    return f"{100 * share:.1f} % of the grid" if share < _MIN_SEEN else None


def _cut_off(view: _View) -> str | None:
    share = view.camera.cut_off
    return f"{100 * share:.0f} % of the picture" if share > _MAX_CUT_OFF else None


def _astray(view: _View) -> str | None:
    """Where a camera's name says a direction that it does not look in."""
    said, looks = said_yaw_deg(view.camera.name), looks_deg(view.camera.ego_from_camera)
    if said is None or looks is None:
        return None
    return in_words(looks) if degrees_apart(said, looks) > _MAX_ASTRAY_DEG else None


def _rolled(view: _View) -> str | None:
    right, down, _ = view.camera.ego_from_camera[2, :3]
    roll_deg = math.degrees(math.atan2(right, -down))
    return f"by {abs(roll_deg):.0f} degrees" if abs(roll_deg) > _MAX_ROLL_DEG else None


_RULES: tuple[tuple[Callable[[_View], str | None], str], ...] = (
    (_mount_distance, "far from the vehicle's origin. Are the translations on /tf_static metres?"),
    (_looks_up, f"looking at the sky. Probably the mount is that of the camera's body (x ahead, z up): {_OPTICAL}"),
    (
        _looks_down,
        f"looking at the ground. Probably the mount is that of the camera's body (x ahead, z down): {_OPTICAL}",
    ),
    (
        _astray,
        "looking elsewhere than the name says. Are the cameras of the rig file mixed up, or is a mount inverted "
        f"(camera_from_vehicle)? {_OPTICAL}",
    ),
    (
        _rolled,
        "rolled about the optical axis, and not near a quarter turn (by which pictures are turned upright). Is the "
        f"mount's rotation right? {_OPTICAL}",
    ),
    (
        _off_middle,
        "with a principal point far off the middle of the picture. Probably the CameraInfo is for another size of the "
        "image, or does not tell its region of interest: send the one that belongs to the images",
    ),
    (
        _horizon_cropped,
        "without the horizon, and with it all that is further away than a few metres, after the network's crop. It "
        "keeps the lower part of the picture at the network's aspect ratio: send pictures in landscape format, or with "
        "the horizon lower",
    ),
    (
        _sees_nothing,
        f"seeing no voxels of the grid. Probably the mount on /tf_static is another one, or upside down: {_OPTICAL}",
    ),
    (
        _cut_off,
        "cut off when it is undistorted, since the lens sees more than a flat picture shows. To keep it, set "
        "lens: project (of a camera in the rig file, or of all as parameter or --lens): voxels then are projected "
        "through the lens",
    ),
)


def _groups(views: list[_View], belongs: Callable[[_View, _View], bool]) -> list[list[_View]]:
    groups: list[list[_View]] = []
    for view in views:
        group = next((group for group in groups if belongs(group[0], view)), None)
        if group is None:
            groups.append([view])
        else:
            group.append(view)
    return [group for group in groups if len(group) > 1]


def _same_mounts(views: list[_View]) -> list[Oddity]:
    return [
        _oddity(
            group,
            "with the same mount. Probably their images carry one header.frame_id: give every camera an optical frame "
            "of its own, in the images or as `frame` in the rig file",
        )
        for group in _groups(views, lambda a, b: _is_near(a.camera, b.camera, _SAME_MOUNT_M, _SAME_MOUNT_DEG))
    ]


def _vehicle_frame(views: list[_View], turns: Mapping[str, int]) -> list[Oddity]:
    """What is so of all cameras together, and thus of the frame in which their mounts are given."""
    if len(views) < 2:
        return []
    places_m = np.array([view.camera.ego_from_camera[:3, 3] for view in views])
    turned = {turns.get(view.camera.name, 0) for view in views}
    found = []
    if len(turned) == 1 and turned != {0}:
        how = "upside down" if turned == {2} else "sideways"
        found.append(
            f"all mounted {how}, and turned upright. If they are not, "
            f"the z axis of the vehicle's frame does not point up, or these are no mounts of optical frames: {_OPTICAL}"
        )
    if places_m[:, 2].max() < 0:
        found.append(
            "all below the origin of the vehicle's frame. The networks want it on the ground below the rear "
            "axle, with z up: set base_frame (a LiDAR's frame is none)"
        )
    if np.ptp(places_m, axis=0).max() <= _SAME_MOUNT_M:
        found.append("all at one place. Are the translations on /tf_static missing?")
    return [_oddity(views, text) for text in found]


def _shared_views(views: list[_View]) -> list[Oddity]:
    def is_shared(a: _View, b: _View) -> bool:
        overlap = (a.sees & b.sees).sum() / max(1, (a.sees | b.sees).sum())
        is_parallel = float(a.axis @ b.axis) > math.cos(math.radians(_SAME_AXIS_DEG))
        is_told = _is_near(a.camera, b.camera, _SAME_MOUNT_M, _SAME_MOUNT_DEG)
        return bool(is_parallel and overlap > _MIN_OVERLAP and not is_told)

    return [
        _oddity(
            group,
            "seeing the same part of the grid. Are two of them one camera, or are mounts inverted "
            f"(camera_from_vehicle)? {_OPTICAL}",
        )
        for group in _groups(views, is_shared)
    ]


def _is_near(one: CameraImage, other: CameraImage, distance_m: float, angle_deg: float) -> bool:
    """Whether two mounts are the same within limits."""
    shift_m, turn_deg = shift_and_turn(one.ego_from_camera, other.ego_from_camera)
    return shift_m <= distance_m and turn_deg <= angle_deg


def _differs(one: CameraImage, judged: CameraImage) -> bool:
    """Whether a camera's calibration is another one, and does not merely tremble."""
    if one.size_hw != judged.size_hw or not _is_near(one, judged, _MOVED_M, _MOVED_DEG):
        return True
    if one.lens is None or judged.lens is None:
        is_same_lens = one.lens is judged.lens
    else:
        is_same_lens = one.lens.differs_from(judged.lens) <= _MOVED_SIDES
    return not is_same_lens or bool(np.abs(one.intrinsics - judged.intrinsics).max() > _MOVED_SIDES * max(one.size_hw))
