"""The cases of both readers: grids as the bytes of their messages, and questions about them.

Messages are put together here and not by the node's own writer, so that both readers are held against the definition.
"""

import math
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from panoocc_core.labels import OCC3D, LabelSet
from panoocc_core.planning import OrientedBox
from panoocc_ros.messages.types import LABEL_SET, VOXEL_GRID, new_message, typestore
from panoocc_ros.messages.voxel_grid import fill_label_set

FREE, CAR, ROAD, GREEN = (OCC3D.names.index(name) for name in ("free", "car", "driveable_surface", "vegetation"))
GROUND = ("driveable_surface", "sidewalk", "terrain", "other_flat")
STRAIGHT, TURNED = (0.0, 0.0, 0.0, 1.0), (0.02, -0.03, 0.9, 1.7)  # quaternions need not be of unit length


class Question(NamedTuple):
    """One method of `KnownSpace` and its arguments."""

    method: str  # at, box, ahead, along
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """A grid and what is asked about it."""

    grid: bytes  # CDR
    questions: tuple[Question, ...]
    labels: LabelSet = OCC3D
    ignored: tuple[str, ...] = GROUND
    trust_unseen: bool = False
    answers: dict[int, Any] = field(default_factory=dict)  # number of a question -> what must come out


def labels_bytes(labels: LabelSet) -> bytes:
    return bytes(typestore().serialize_cdr(fill_label_set(new_message(LABEL_SET), labels), LABEL_SET))


def grid_bytes(message: Any) -> bytes:
    return bytes(typestore().serialize_cdr(message, VOXEL_GRID))


def grid_message(
    class_id: np.ndarray,
    labels: LabelSet = OCC3D,
    *,
    sparse: bool = True,
    visible: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    instance_id: np.ndarray | None = None,
    corner_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
    orientation: tuple[float, float, float, float] = STRAIGHT,
    voxel_size_m: tuple[float, float, float] = (0.5, 0.5, 0.5),
) -> Any:
    """A panoocc/VoxelGrid of arrays [X, Y, Z]."""
    message = new_message(VOXEL_GRID)
    flat = class_id.transpose(2, 1, 0).ravel()
    listed = flat != labels.free_id if sparse and labels.free_id is not None else np.ones(flat.shape, bool)

    def values(array: np.ndarray | None, kind: type) -> np.ndarray:
        return np.zeros(0, kind) if array is None else array.transpose(2, 1, 0).ravel()[listed].astype(kind)

    def packed(flags: np.ndarray) -> np.ndarray:
        return np.packbits(flags, bitorder="little")

    message.header.frame_id, message.header.stamp.sec, message.header.stamp.nanosec = "base_link", 12, 345_678_901
    message.size_x, message.size_y, message.size_z = class_id.shape
    message.encoding = int(sparse)
    message.occupied = packed(listed) if sparse else np.zeros(0, np.uint8)
    message.visible = np.zeros(0, np.uint8) if visible is None else packed(visible.transpose(2, 1, 0).ravel())
    message.class_id, message.confidence = values(class_id, np.uint8), values(confidence, np.uint8)
    message.instance_id, message.instance_source = values(instance_id, np.uint16), int(instance_id is not None)
    position, turn, size = message.origin.position, message.origin.orientation, message.voxel_size
    position.x, position.y, position.z = corner_m
    turn.x, turn.y, turn.z, turn.w = orientation
    size.x, size.y, size.z = voxel_size_m
    message.label_set, message.label_set_version = labels.key, labels.version
    return message


def street(seed: int, *, sparse: bool, sees: bool, orientation: Any = TURNED, trust_unseen: bool = False) -> Case:
    """A random grid with random questions, some of them at the very faces of voxels."""
    random = np.random.default_rng(seed)
    shape, size, corner = (13, 11, 7), (0.4, 0.5, 0.3), (-2.0, 1.25, -0.6)
    kinds = random.choice([CAR, ROAD, GREEN], shape)
    class_id = np.where(random.random(shape) < 0.06, kinds, FREE).astype(np.uint8)
    message = grid_message(
        class_id,
        sparse=sparse,
        visible=random.random(shape) < 0.95 if sees else None,
        confidence=random.integers(0, 256, shape) if seed % 2 else None,
        instance_id=np.where(class_id == CAR, random.integers(0, 65536, shape), 0) if seed % 3 else None,
        corner_m=corner,
        orientation=orientation,
        voxel_size_m=size,
    )
    return Case(grid_bytes(message), tuple(_questions(random, corner)), trust_unseen=trust_unseen)


def _questions(random: np.random.Generator, corner: tuple[float, float, float]) -> list[Question]:
    def place() -> tuple[float, ...]:
        point = np.array(corner) + random.uniform(-1.0, 6.0, 3)
        # Half of them on the faces of voxels, where rounding decides.
        return tuple(point if random.random() < 0.5 else np.round(point / 0.1) * 0.1)

    def box() -> OrientedBox:
        straight = random.random() < 0.4
        size = np.round(random.uniform(0.1, 1.2, 3) / 0.1) * 0.1 if straight else random.uniform(0.05, 1.2, 3)
        turn = STRAIGHT if straight else TURNED if random.random() < 0.3 else tuple(random.normal(size=4))
        return OrientedBox(place(), tuple(size), turn)

    def direction() -> tuple[float, ...]:
        way = random.normal(size=3)
        if random.random() < 0.5:  # along one axis or two
            way[random.integers(3)] = 0.0
            way = np.sign(way) * (random.random(3) < 0.7)
        return tuple(way) if np.any(way) else (1.0, 0.0, 0.0)

    asked = [Question("at", (place(),)) for _ in range(60)]
    asked += [Question("box", (box(),)) for _ in range(60)]
    asked += [Question("ahead", (box(), direction(), float(random.uniform(0.1, 8)))) for _ in range(60)]
    return asked + [Question("along", (place(), direction(), float(random.uniform(0.1, 12)))) for _ in range(60)]


def by_hand() -> Case:
    """Questions whose answers can be worked out: a car from 4.0 to 4.5 m ahead, ground below, a hidden part beside."""
    class_id = np.full((20, 9, 5), FREE, np.uint8)
    class_id[:, :, 0], class_id[8, 4, 2] = ROAD, CAR
    visible = np.ones(class_id.shape, bool)
    visible[:, 7, :] = False
    message = grid_message(
        class_id,
        visible=visible,
        confidence=np.where(class_id == CAR, 200, 100),
        instance_id=np.where(class_id == CAR, 65535, 0),
        corner_m=(0.0, -2.25, -0.5),
    )
    footprint = OrientedBox((1.0, 0.0, 0.75), (1.0, 0.4, 0.8))
    asked = (
        (Question("at", ((4.25, 0.0, 0.75),)), (2, 1, CAR, 200, 65535)),
        (Question("at", ((4.25, 0.0, -0.25),)), (0, 1, ROAD, 100, 0)),  # the ground is no obstacle
        (Question("at", ((4.25, 1.5, 0.75),)), (1, 0, FREE, 0, 0)),  # free, says the network, and nobody sees it
        (Question("at", ((10.25, 0.0, 0.75),)), (1, 2, 255, 0, 0)),
        (Question("box", (footprint,)), 0),
        (Question("box", (OrientedBox((1.0, 1.1, 0.75), (1.0, 0.4, 0.8)),)), 1),
        (Question("box", (OrientedBox((4.0, 1.0, 0.75), (1.0, 2.0, 0.8)),)), 2),
        (Question("box", (OrientedBox((0.4, 0.0, 0.75), (1.0, 0.4, 0.8)),)), 1),  # reaches behind the grid
        (Question("ahead", (footprint, (3.0, 0.0, 0.0), 30.0)), (2.5, 8.5, (8, 4, 2))),
        (Question("ahead", (footprint, (3.0, 0.0, 0.0), 2.0)), (math.inf, math.inf, None)),
        (Question("ahead", (footprint, (0.0, 1.0, 0.0), 30.0)), (math.inf, 1.05, None)),
        (Question("along", ((0.5, 0.0, 0.75), (1.0, 0.0, 0.0), 30.0)), (3.5, 9.5, (8, 4, 2))),
        (Question("along", ((4.25, 0.1, 5.0), (0.0, 0.0, -1.0), 30.0)), (4.0, 0.0, (8, 4, 2))),
    )
    return Case(grid_bytes(message), tuple(q for q, _ in asked), answers=dict(enumerate(a for _, a in asked)))


NAN, INF = math.nan, math.inf
UNANSWERABLE = (  # with the argument that is named
    (Question("at", ((0.0, NAN, 0.0),)), "point"),
    (Question("at", ((0.0, 2e8, 0.0),)), "point"),
    (Question("along", ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0)), "direction"),
    (Question("along", ((NAN, 0.0, 0.0), (1.0, 0.0, 0.0), 1.0)), "origin_m"),
    (Question("along", ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), INF)), "reach_m"),
    (Question("ahead", (OrientedBox((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), (1.0, INF, 0.0), 1.0)), "direction"),
    (Question("ahead", (OrientedBox((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), (1.0, 0.0, 0.0), 0.0)), "reach_m"),
)
UNANSWERABLE_BOXES = (  # centre, size, orientation
    ((0.0, NAN, 0.0), (1.0, 1.0, 1.0), STRAIGHT, "centre_m"),
    ((0.0, 0.0, 0.0), (1.0, 0.0, 1.0), STRAIGHT, "size_m"),
    ((0.0, 0.0, 0.0), (1.0, INF, 1.0), STRAIGHT, "size_m"),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0), "quaternion"),
)


def hostile() -> dict[str, tuple[bytes, str]]:
    """Messages that both readers refuse: their bytes, and the field that is named."""
    class_id = np.full((5, 4, 3), FREE, np.uint8)  # 60 voxels: the last byte of bits is half empty
    class_id[1, 2, 0], class_id[4, 3, 2] = CAR, GREEN
    occupied = np.packbits((class_id != FREE).transpose(2, 1, 0).ravel(), bitorder="little")
    trailing = occupied.copy()
    trailing[-1] |= 0x80
    one_more = occupied.copy()
    one_more[0] |= 1
    u8 = np.uint8

    def of(sparse: bool = True, **changes: Any) -> bytes:
        message = grid_message(class_id, sparse=sparse)
        for path, value in changes.items():
            *holders, name = path.split("__")
            setattr(reduce(getattr, holders, message), name, value)
        return grid_bytes(message)

    giant = 2**32 - 1
    return {
        "giant": (of(size_x=giant, size_y=giant, size_z=giant), "size_x, size_y, size_z"),
        "sizes that overflow to little": (of(size_x=2**31, size_y=2**31, size_z=4), "size_x, size_y, size_z"),
        "just too large": (of(False, size_x=400, size_y=400, size_z=401), "size_x, size_y, size_z"),
        "giant of nothing": (of(size_x=4000, size_y=400, size_z=20), "occupied"),
        "empty": (of(size_z=0), "size_x, size_y, size_z"),
        "encoding": (of(encoding=7), "encoding 7"),
        "dense with bits": (of(False, occupied=occupied), "occupied"),
        "bits missing": (of(occupied=occupied[:-1]), "occupied"),
        "bits behind the last": (of(occupied=trailing), "occupied"),
        "more bits than classes": (of(occupied=one_more), "class_id"),
        "fewer bits than classes": (of(occupied=np.zeros_like(occupied)), "class_id"),
        "dense with one class": (of(False, class_id=np.array([3], u8)), "class_id"),
        "class unknown": (of(class_id=np.array([4, 18], u8)), "class_id has 18"),
        "confidence short": (of(confidence=np.array([4], u8)), "confidence"),
        "instances short": (of(instance_source=1, instance_id=np.ones(1, np.uint16)), "instance_id"),
        "instances of nobody": (of(instance_source=0, instance_id=np.ones(2, np.uint16)), "instance_id"),
        "instances of somebody else": (of(instance_source=4), "instance_source 4"),
        "visible short": (of(visible=np.zeros(7, u8)), "visible"),
        "visible behind the last": (of(visible=np.full(8, 255, u8)), "visible"),
        "voxels of no size": (of(voxel_size__y=0.0), "voxel_size"),
        "voxels of NaN": (of(voxel_size__y=NAN), "voxel_size"),
        "voxels too large": (of(voxel_size__z=1e308), "voxel_size"),
        "no place": (of(origin__position__y=1e300), "origin"),
        "place of NaN": (of(origin__position__y=NAN), "origin"),
        "no direction": (of(origin__orientation__w=0.0), "origin"),
        "direction of NaN": (of(origin__orientation__z=NAN), "origin"),
        "direction too long": (of(origin__orientation__z=1e200), "origin"),
        "another label set": (of(label_set="lawn"), "label"),
        "another version": (of(label_set_version=9), "label"),
        "a long name": (of(label_set="x" * 100_000), "label"),
    }
