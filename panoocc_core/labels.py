"""Semantic classes: names, things and stuff, display colours.

The class lists are those of nuScenes lidarseg, Occ3D-nuScenes and Occ3D-Waymo; the colours are our own.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]  # RGB 0..255
InstanceSource = Literal["boxes", "components", "none"]  # what tells the things of a frame apart


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A named, versioned list of classes.  `free_id` is None where a network has no class for free space."""

    key: str
    version: int
    names: tuple[str, ...]
    is_thing: tuple[bool, ...]
    colours: tuple[Colour, ...]
    free_id: int | None

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.is_thing) == len(self.colours):
            raise ValueError(f"label set {self.key}: names, thing flags and colours differ in number")


BOX_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)

_COLOURS = {
    "others": (90, 90, 90),
    "noise": (90, 90, 90),
    "barrier": (214, 126, 44),
    "bicycle": (226, 82, 152),
    "bus": (236, 200, 60),
    "car": (48, 132, 232),
    "construction_vehicle": (120, 196, 196),
    "motorcycle": (196, 60, 196),
    "pedestrian": (226, 48, 48),
    "traffic_cone": (255, 164, 96),
    "trailer": (142, 106, 60),
    "truck": (116, 84, 206),
    "driveable_surface": (118, 118, 128),
    "other_flat": (146, 128, 116),
    "sidewalk": (182, 166, 190),
    "terrain": (156, 186, 110),
    "manmade": (206, 196, 178),
    "vegetation": (52, 142, 66),
    "general_object": (90, 90, 90),
    "vehicle": (48, 132, 232),
    "sign": (236, 200, 60),
    "cyclist": (226, 82, 152),
    "traffic_light": (120, 196, 196),
    "pole": (142, 106, 60),
    "construction_cone": (255, 164, 96),
    "building": (206, 196, 178),
    "tree_trunk": (116, 84, 60),
    "road": (118, 118, 128),
    "walkable": (182, 166, 190),
    "free": (255, 255, 255),
}
BOX_COLOURS: tuple[Colour, ...] = tuple(_COLOURS[name] for name in BOX_CLASSES)
GROUND = ("driveable_surface", "other_flat", "sidewalk", "terrain", "road", "walkable")  # of nuScenes, and Waymo's
_GOLDEN = 0.618034  # of a turn of hue: numbers that follow each other look most different

_SIXTEEN = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
)


def label_set(key: str, names: tuple[str, ...], version: int = 1, things: tuple[str, ...] = BOX_CLASSES) -> LabelSet:
    """A label set over any class names; a class called `free` is free space, unknown names get a grey of their own."""
    return LabelSet(
        key=key,
        version=version,
        names=names,
        is_thing=tuple(name in things for name in names),
        colours=tuple(_COLOURS.get(name, ((53 * i) % 200 + 40,) * 3) for i, name in enumerate(names)),
        free_id=names.index("free") if "free" in names else None,
    )


OCC3D = label_set("occ3d_nuscenes", ("others", *_SIXTEEN, "free"))
LIDARSEG = label_set("nuscenes_lidarseg", ("noise", *_SIXTEEN))
LIDARSEG_FREE = label_set("nuscenes_lidarseg_free", (*LIDARSEG.names, "free"))  # what the panoptic networks publish
# In the order of the data set's own description (github.com/Tsinghua-MARS-Lab/Occ3D: TYPE_GENERALOBJECT to
# TYPE_WALKABLE, 0 to 14); its files have 23 for free, see data/occ3d_waymo.py.
OCC3D_WAYMO = label_set(
    "occ3d_waymo",
    (
        "general_object",
        "vehicle",
        "pedestrian",
        "sign",
        "cyclist",
        "traffic_light",
        "pole",
        "construction_cone",
        "bicycle",
        "motorcycle",
        "building",
        "vegetation",
        "tree_trunk",
        "road",
        "walkable",
        "free",
    ),
    things=("vehicle", "pedestrian", "cyclist", "construction_cone", "bicycle", "motorcycle"),
)
BUILT_IN = {labels.key: labels for labels in (OCC3D, LIDARSEG, LIDARSEG_FREE, OCC3D_WAYMO)}

# What a class is called in another set, where that is not its own name.
_CALLED = {
    (OCC3D.key, OCC3D_WAYMO.key): {
        "others": "general_object",
        "barrier": "general_object",
        "bicycle": "cyclist",  # in nuScenes a rider is part of the bicycle
        "bus": "vehicle",
        "car": "vehicle",
        "construction_vehicle": "vehicle",
        "traffic_cone": "construction_cone",
        "trailer": "vehicle",
        "truck": "vehicle",
        "driveable_surface": "road",
        "other_flat": "walkable",
        "sidewalk": "walkable",
        "terrain": "walkable",  # "most horizontal surface that is not drivable": grass too
        "manmade": "building",
    }
}

_NEAREST_BOX_CLASS = {"vehicle": "car", "cyclist": "bicycle", "construction_cone": "traffic_cone"}


def box_class(name: str) -> int:
    """The index in BOX_CLASSES of a thing: that of its own name, else of the nearest kind.

    Raises:
        ValueError: nothing there is like it.
    """
    return BOX_CLASSES.index(_NEAREST_BOX_CLASS.get(name, name))


def things_of_boxes(labels: LabelSet) -> NDArray[np.bool_]:
    """Which classes of a label set are things that a box of each of BOX_CLASSES may be around, [box class, class].

    They are the thing of its name, or what it is called there, and those of which it is the nearest kind.
    """
    out = np.zeros((len(BOX_CLASSES), len(labels.names)), bool)
    called = _CALLED.get((OCC3D.key, labels.key), {})
    for thing in np.flatnonzero(labels.is_thing):
        name = labels.names[thing]
        for row, kind in enumerate(BOX_CLASSES):
            out[row, thing] = name in (kind, called.get(kind)) or _NEAREST_BOX_CLASS.get(name) == kind
    return out


def counterparts(source: LabelSet, target: LabelSet) -> tuple[int | None, ...]:
    """The id in `target` of every class of `source`: that of its name there; None where `target` has no such class."""
    called = _CALLED.get((source.key, target.key), {})
    names = [called.get(name, name) for name in source.names]
    return tuple(target.names.index(name) if name in target.names else None for name in names)


def instance_colours(number: NDArray[Any]) -> NDArray[np.uint8]:
    """A vivid RGB [n, 3] for each number [n] of an instance, the same wherever it is drawn."""
    hue = np.asarray(number, np.float64)[:, None] * _GOLDEN % 1.0 * 6.0
    pure = np.clip(np.abs((hue + (0.0, 4.0, 2.0)) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return np.asarray(np.round(255 * (0.2 + 0.8 * pure)), np.uint8)
