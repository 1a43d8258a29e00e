"""A nuScenes folder written by hand: genuine layout, tables and fields, two scenes of three key frames, tiny images.

Everything is placed with plain matrices here; only what is written is turned into quaternions.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

VERSION = "v1.0-mini"
HEIGHT, WIDTH = 36, 64
INTRINSICS = [[50.0, 0.0, 31.7], [0.0, 50.0, 18.2], [0.0, 0.0, 1.0]]
CAMERA_YAWS_DEG = {
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
    "CAM_FRONT": 0,
    "CAM_FRONT_LEFT": 55,
    "CAM_FRONT_RIGHT": -55,
}
LEAD_US = {channel: 1_000 + 8_500 * i for i, channel in enumerate(CAMERA_YAWS_DEG)}  # shutters before the sweep
# Scene -> times of its key frames after the first, in microseconds.
TIMES_US = {"scene-0916": (0, 1_400_000, 2_950_000), "scene-0061": (0, 500_000, 1_000_000)}
BEGIN_US = {"scene-0916": 1_538_984_233_547_259, "scene-0061": 1_532_402_927_647_951}
POINTS = 64
CATEGORIES = (  # in the order of lidarseg's indices
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)

ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)


@dataclass(frozen=True)
class Thing:
    """An annotated thing that goes straight on, in the world frame."""

    name: str
    category: str
    start: tuple[float, float, float]
    velocity: tuple[float, float]
    yaw_deg: float
    size: tuple[float, float, float]  # width, length, height
    frames: tuple[int, ...] = (0, 1, 2)
    unmeasured: tuple[int, ...] = ()  # frames without points
    attribute: str | None = None


THINGS = {
    "scene-0061": (
        Thing(
            "car", "vehicle.car", (612.0, 1609.0, 0.9), (4.0, -2.0), 40.0, (1.9, 4.6, 1.7), attribute="vehicle.moving"
        ),
        Thing(
            "walker",
            "human.pedestrian.adult",
            (605.0, 1603.0, 1.0),
            (0.0, 0.0),
            -100.0,
            (0.7, 0.8, 1.8),
            (0,),
            attribute="pedestrian.sitting_lying_down",
        ),
        Thing("truck", "vehicle.truck", (630.0, 1610.0, 1.6), (-3.0, 1.0), 170.0, (2.5, 8.0, 3.2), (0, 2)),
        Thing("hidden", "vehicle.bus.bendy", (590.0, 1590.0, 1.5), (6.0, 0.0), 0.0, (2.9, 11.0, 3.4), (0, 1, 2), (1,)),
        Thing("dog", "animal", (608.0, 1602.0, 0.3), (1.0, 0.0), 0.0, (0.3, 0.8, 0.6)),
    ),
    "scene-0916": (
        Thing("bicycle", "vehicle.bicycle", (610.0, 1605.0, 0.8), (2.0, 3.0), 56.3, (0.6, 1.8, 1.3)),
        Thing(  # the bicycle stands in it in the first frame
            "rack",
            "static_object.bicycle_rack",
            (610.9, 1605.3, 0.7),
            (0.0, 0.0),
            20.0,
            (1.5, 4.0, 1.4),
            unmeasured=(0, 1, 2),
        ),
    ),
}


def token(*parts: object) -> str:
    """A token of nuScenes' form."""
    return hashlib.md5(repr(parts).encode()).hexdigest()


def turn(yaw_deg: float, roll_deg: float = 0.0) -> np.ndarray:
    """Rotation [3, 3]: first a roll about x, then a yaw about z."""
    a, b = math.radians(yaw_deg), math.radians(roll_deg)
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    return about_z @ np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])


def quaternion(rotation: np.ndarray) -> list[float]:
    """(w, x, y, z) of a rotation: the eigenvector of Davenport's matrix."""
    m = rotation
    skew = [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]
    k = np.zeros((4, 4))
    k[0, 0], k[0, 1:], k[1:, 0] = np.trace(m), skew, skew
    k[1:, 1:] = m + m.T - np.trace(m) * np.eye(3)
    return [float(value) for value in np.linalg.eigh(k)[1][:, -1]]


def pose(rotation: np.ndarray, translation) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out


def ego_pose(scene: str, time_us: int) -> np.ndarray:
    """Where the vehicle is, a smooth curve up a hill; time since the scene's first key frame."""
    s = time_us * 1e-6
    return pose(turn(30 + 12 * s, 2.0), (600 + 9 * s, 1600 + 5 * s, 0.2 * s))


LIDAR_MOUNT = pose(turn(-90, 1.5), (0.94, 0.0, 1.84))


def camera_mount(channel: str) -> np.ndarray:
    optical = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    return pose(turn(CAMERA_YAWS_DEG[channel], 1.0) @ optical, (1.5, 0.1, 1.5))


def landmark(scene: str, frame: int) -> np.ndarray:
    """A point of the world ahead of the vehicle at a key frame: a white spot in the image of CAM_FRONT."""
    return (ego_pose(scene, TIMES_US[scene][frame]) @ (14.1, 1.5, 1.3, 1.0))[:3]


def landmark_pixel(scene: str, frame: int) -> np.ndarray:
    """Where CAM_FRONT sees it, at its own shutter time."""
    world_from_camera = ego_pose(scene, TIMES_US[scene][frame] - LEAD_US["CAM_FRONT"]) @ camera_mount("CAM_FRONT")
    local = np.linalg.inv(world_from_camera) @ (*landmark(scene, frame), 1.0)
    projected = np.array(INTRINSICS) @ local[:3]
    return projected[:2] / projected[2]


def sweep(scene: str, frame: int) -> np.ndarray:
    """float32 [POINTS, 5]; the first point is the landmark."""
    points = np.random.default_rng(frame).uniform(-30, 30, (POINTS, 5)).astype(np.float32)
    world_from_lidar = ego_pose(scene, TIMES_US[scene][frame]) @ LIDAR_MOUNT
    points[0, :3] = (np.linalg.inv(world_from_lidar) @ (*landmark(scene, frame), 1.0))[:3]
    return points


def categories_of_points() -> np.ndarray:
    return (np.arange(POINTS) % len(CATEGORIES)).astype(np.uint8)


def panoptic_of_points() -> np.ndarray:
    """The second half has instance 7, whatever the category."""
    instance = np.where(np.arange(POINTS) < POINTS // 2, 0, 7)
    return (categories_of_points().astype(np.uint16) * 1000 + instance).astype(np.uint16)


def tables() -> dict[str, list[dict]]:
    """All tables of the version; samples and annotations are not in order of time, as in the genuine ones."""
    out: dict[str, list[dict]] = {
        "attribute": [
            {"token": token("attribute", name), "name": name, "description": ""} for name in reversed(ATTRIBUTES)
        ],
        "visibility": [],
        "log": [{"token": token("log"), "logfile": "n015", "vehicle": "n015", "date_captured": "2018-07-24"}],
        "map": [{"token": token("map"), "log_tokens": [token("log")], "category": "semantic_prior"}],
        "category": [
            {"token": token("category", name), "name": name, "description": "", "index": i}
            for i, name in enumerate(CATEGORIES)
        ],
        "scene": [],
        "sample": [],
        "sample_data": [],
        "ego_pose": [],
        "calibrated_sensor": [],
        "sensor": [],
        "instance": [],
        "sample_annotation": [],
        "lidarseg": [],
        "panoptic": [],
    }
    out["log"][0]["location"] = "singapore-onenorth"
    out["map"][0]["filename"] = "maps/mask.png"
    for channel in (*CAMERA_YAWS_DEG, "LIDAR_TOP", "RADAR_FRONT"):
        modality = {"C": "camera", "L": "lidar", "R": "radar"}[channel[0]]
        out["sensor"].append({"token": token("sensor", channel), "channel": channel, "modality": modality})
    for scene in TIMES_US:
        _add_scene(out, scene)
    out["sample"].reverse()
    return out


def _add_scene(out: dict[str, list[dict]], scene: str) -> None:
    count = len(TIMES_US[scene])
    samples = [token("sample", scene, i) for i in range(count)]
    out["scene"].append(
        {
            "token": token("scene", scene),
            "log_token": token("log"),
            "nbr_samples": count,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": scene,
            "description": "Hand-made",
        }
    )
    for channel in (*CAMERA_YAWS_DEG, "LIDAR_TOP", "RADAR_FRONT"):
        is_camera = channel in CAMERA_YAWS_DEG
        mount = camera_mount(channel) if is_camera else LIDAR_MOUNT
        out["calibrated_sensor"].append(
            {
                "token": token("calibrated_sensor", scene, channel),
                "sensor_token": token("sensor", channel),
                "translation": mount[:3, 3].tolist(),
                "rotation": quaternion(mount[:3, :3]),
                "camera_intrinsic": INTRINSICS if is_camera else [],
            }
        )
        for i in range(count):
            _add_sample_data(out, scene, channel, i)
    for i in range(count):
        out["sample"].append(
            {
                "token": samples[i],
                "timestamp": BEGIN_US[scene] + TIMES_US[scene][i],
                "prev": samples[i - 1] if i else "",
                "next": samples[i + 1] if i + 1 < count else "",
                "scene_token": token("scene", scene),
            }
        )
    for thing in THINGS[scene]:
        _add_thing(out, scene, thing)


def _add_sample_data(out: dict[str, list[dict]], scene: str, channel: str, i: int) -> None:
    """The key frame and one other record behind it, whose pose and file are not there."""
    is_camera = channel in CAMERA_YAWS_DEG
    time_us = TIMES_US[scene][i] - LEAD_US.get(channel, 0)
    stamp_us, suffix = BEGIN_US[scene] + time_us, "jpg" if is_camera else "pcd.bin"
    place = ego_pose(scene, time_us)
    key = token("sample_data", scene, channel, i)
    record = {
        "token": key,
        "sample_token": token("sample", scene, i),
        "ego_pose_token": token("ego_pose", scene, channel, i),
        "calibrated_sensor_token": token("calibrated_sensor", scene, channel),
        "timestamp": stamp_us,
        "fileformat": suffix.split(".")[0],
        "is_key_frame": True,
        "height": HEIGHT if is_camera else 0,
        "width": WIDTH if is_camera else 0,
        "filename": f"samples/{channel}/{scene}__{channel}__{stamp_us}.{suffix}",
        "prev": "",
        "next": "",
    }
    between = {
        **record,
        "token": token("sweep", scene, channel, i),
        "is_key_frame": False,
        "timestamp": stamp_us + 50_000,
        "filename": record["filename"].replace("samples/", "sweeps/"),
    }
    out["sample_data"] += [record, between]
    out["ego_pose"].append(
        {
            "token": record["ego_pose_token"],
            "timestamp": stamp_us,
            "rotation": quaternion(place[:3, :3]),
            "translation": place[:3, 3].tolist(),
        }
    )
    if channel == "LIDAR_TOP":
        for kind, ending in (("lidarseg", "bin"), ("panoptic", "npz")):
            filename = f"{kind}/{VERSION}/{key}_{kind}.{ending}"
            out[kind].append({"token": key, "sample_data_token": key, "filename": filename})


def _add_thing(out: dict[str, list[dict]], scene: str, thing: Thing) -> None:
    names = [token("annotation", scene, thing.name, i) for i in thing.frames]
    instance = token("instance", scene, thing.name)
    out["instance"].append(
        {
            "token": instance,
            "category_token": token("category", thing.category),
            "nbr_annotations": len(names),
            "first_annotation_token": names[0],
            "last_annotation_token": names[-1],
        }
    )
    for place, i in enumerate(thing.frames):
        s = TIMES_US[scene][i] * 1e-6
        out["sample_annotation"].append(
            {
                "token": names[place],
                "sample_token": token("sample", scene, i),
                "instance_token": instance,
                "visibility_token": "",
                "attribute_tokens": [] if thing.attribute is None else [token("attribute", thing.attribute)],
                "translation": [
                    thing.start[0] + s * thing.velocity[0],
                    thing.start[1] + s * thing.velocity[1],
                    thing.start[2],
                ],
                "size": list(thing.size),
                "rotation": quaternion(turn(thing.yaw_deg)),
                "prev": names[place - 1] if place else "",
                "next": names[place + 1] if place + 1 < len(names) else "",
                "num_lidar_pts": 0 if i in thing.unmeasured else 12,
                "num_radar_pts": 0,
            }
        )


def write_tables(root: Path, content: dict[str, list[dict]]) -> None:
    """The tables with the genuine ones' line breaks."""
    folder = root / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in content.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))


def write_nuscenes(root: Path) -> dict[str, list[dict]]:
    """The whole folder; returns the tables."""
    content = tables()
    write_tables(root, content)
    (root / "maps").mkdir()
    cv2.imwrite(str(root / "maps" / "mask.png"), np.zeros((2, 2), np.uint8))
    for folder in (*(f"samples/{row['channel']}" for row in content["sensor"]), f"lidarseg/{VERSION}"):
        (root / folder).mkdir(parents=True)
    (root / "panoptic" / VERSION).mkdir(parents=True)
    for scene, times in TIMES_US.items():
        for i in range(len(times)):
            _write_frame(root, content, scene, i)
    return content


def _write_frame(root: Path, content: dict[str, list[dict]], scene: str, i: int) -> None:
    files = {row["token"]: row["filename"] for row in content["sample_data"]}
    for channel in CAMERA_YAWS_DEG:
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[:, :, 0] = 120  # blue: OpenCV writes BGR
        if channel == "CAM_FRONT":
            column, row = np.round(landmark_pixel(scene, i)).astype(int)
            image[row - 1 : row + 2, column - 1 : column + 2] = 255
        path = root / files[token("sample_data", scene, channel, i)]
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    key = token("sample_data", scene, "LIDAR_TOP", i)
    sweep(scene, i).tofile(root / files[key])
    categories_of_points().tofile(root / "lidarseg" / VERSION / f"{key}_lidarseg.bin")
    np.savez_compressed(root / "panoptic" / VERSION / f"{key}_panoptic.npz", data=panoptic_of_points())
