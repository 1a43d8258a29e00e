"""Categories of nuScenes -> our classes: the mappings of its detection and lidarseg benchmarks, by category name."""

from ..labels import BOX_CLASSES, LIDARSEG

_BOXES = {
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
_STUFF = {
    "flat.driveable_surface": "driveable_surface",
    "flat.other": "other_flat",
    "flat.sidewalk": "sidewalk",
    "flat.terrain": "terrain",
    "static.manmade": "manmade",
    "static.vegetation": "vegetation",
}
_NOISE = (
    "animal",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "noise",
    "static.other",
    "static_object.bicycle_rack",
    "vehicle.ego",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
)

RACK = "static_object.bicycle_rack"  # cycles in one count neither as truth nor as found
# Category -> index into labels.BOX_CLASSES; what is not here is no detection class.
BOX_CLASS = {category: BOX_CLASSES.index(name) for category, name in _BOXES.items()}
# Category -> id of labels.LIDARSEG, for all 32 categories.
POINT_CLASS = {
    **{category: LIDARSEG.names.index(name) for category, name in {**_BOXES, **_STUFF}.items()},
    **dict.fromkeys(_NOISE, LIDARSEG.names.index("noise")),
}
