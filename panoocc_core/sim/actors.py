"""What stands and moves in a street, each as a handful of solids in its own frame (x ahead, origin on the ground)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .shapes import Kind, Material, Shape

Colour = tuple[float, float, float]
Random = np.random.Generator

_CAR_COLOURS: tuple[Colour, ...] = (
    (0.85, 0.86, 0.87),
    (0.12, 0.13, 0.15),
    (0.55, 0.57, 0.60),
    (0.62, 0.10, 0.10),
    (0.12, 0.26, 0.52),
    (0.28, 0.34, 0.30),
    (0.80, 0.66, 0.40),
    (0.30, 0.31, 0.34),
)
_TRUCK_COLOURS: tuple[Colour, ...] = ((0.88, 0.88, 0.86), (0.80, 0.52, 0.14), (0.20, 0.36, 0.60), (0.30, 0.48, 0.34))
_CLOTHES: tuple[Colour, ...] = (
    (0.20, 0.24, 0.38),
    (0.70, 0.20, 0.18),
    (0.86, 0.82, 0.74),
    (0.22, 0.40, 0.32),
    (0.84, 0.64, 0.20),
    (0.16, 0.16, 0.18),
    (0.48, 0.34, 0.52),
)
_WALLS: tuple[Colour, ...] = (
    (0.72, 0.58, 0.46),
    (0.62, 0.40, 0.32),
    (0.80, 0.76, 0.68),
    (0.58, 0.60, 0.62),
    (0.76, 0.68, 0.54),
    (0.50, 0.38, 0.34),
    (0.68, 0.72, 0.74),
)
_ROOFS: tuple[Colour, ...] = ((0.52, 0.28, 0.22), (0.34, 0.32, 0.34), (0.44, 0.36, 0.30))
_SKIN: tuple[Colour, ...] = ((0.88, 0.70, 0.58), (0.55, 0.38, 0.28), (0.74, 0.56, 0.44))
_DARK: Colour = (0.09, 0.09, 0.10)
_STEEL: Colour = (0.42, 0.44, 0.46)
_BARK: Colour = (0.34, 0.27, 0.21)


@dataclass(frozen=True, slots=True)
class Model:
    """The look of one actor."""

    class_name: str
    shapes: tuple[Shape, ...]
    length_m: float


def _pick(random: Random, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(random.integers(len(colours)))]


def _box(centre: Colour, half: Colour, colour: Colour, material: Material = Material.PLAIN, **more: object) -> Shape:
    return Shape(Kind.HULL, centre, half, colour, material, **more)  # type: ignore[arg-type]


def _pole(x: float, y: float, low: float, high: float, radius: float, colour: Colour, swing: float = 0.0) -> Shape:
    centre, half = (x, y, (low + high) / 2), (radius, radius, (high - low) / 2)
    return Shape(Kind.CYLINDER, centre, half, colour, swing_m=swing)


def _ball(centre: Colour, half: Colour, colour: Colour, material: Material = Material.PLAIN) -> Shape:
    return Shape(Kind.ELLIPSOID, centre, half, colour, material)


def _wheels(axles: tuple[float, ...], track: float, radius: float) -> tuple[Shape, ...]:
    return tuple(_ball((x, y, radius), (radius, 0.14, radius), _DARK) for x in axles for y in (-track, track))


def car(random: Random) -> Model:
    """A saloon, an estate or a van-like car."""
    length, width, tall = random.uniform(4.1, 4.8), random.uniform(1.74, 1.88), random.uniform(0, 0.25)
    colour, tail = _pick(random, _CAR_COLOURS), random.uniform(0.1, 0.42)
    body = _box((0, 0, 0.60), (length / 2, width / 2, 0.34), colour, Material.PAINT, lean=(0.06, 0.04, 0.08))
    cabin_half = (length * 0.30, width / 2 * 0.93, 0.29 + tall / 2)
    cabin = _box((-0.25, 0, 0.94 + cabin_half[2]), cabin_half, colour, Material.CABIN, lean=(0.55, tail, 0.2))
    return Model("car", (body, cabin, *_wheels((-length * 0.31, length * 0.31), width / 2 - 0.1, 0.33)), length)


def truck(random: Random) -> Model:
    """A lorry with a box."""
    length, height, colour = random.uniform(6.5, 9.0), random.uniform(2.6, 3.2), _pick(random, _TRUCK_COLOURS)
    front = length / 2
    cab = _box((front - 0.95, 0, 1.45), (0.95, 1.15, 1.05), colour, Material.PAINT, lean=(0.1, 0.0, 0.03))
    screen = _box((front - 0.98, 0, 1.95), (0.96, 1.16, 0.38), colour, Material.CABIN, lean=(0.06, 0.0, 0.02))
    load_half = (front - 1.1, 1.24, (height - 0.5) / 2)
    load = _box((-1.05, 0, 0.85 + load_half[2]), load_half, _pick(random, _TRUCK_COLOURS))
    chassis = _box((-0.2, 0, 0.7), (front - 0.3, 0.5, 0.16), _DARK)
    return Model("truck", (cab, screen, load, chassis, *_wheels((-front + 1.2, front - 1.1), 1.05, 0.48)), length)


def bus(random: Random) -> Model:
    """A city bus."""
    length, colour = random.uniform(10.5, 12.0), _pick(random, _TRUCK_COLOURS)
    body = _box((0, 0, 1.72), (length / 2, 1.27, 1.38), colour, Material.PANES, lean=(0.04, 0.0, 0.02))
    return Model("bus", (body, *_wheels((-length * 0.28, length * 0.32), 1.18, 0.48)), length)


def trailer(random: Random) -> Model:
    """A parked trailer with a tarpaulin."""
    length = random.uniform(4.0, 5.5)
    load = _box((0.3, 0, 1.5), (length / 2 - 0.5, 1.1, 0.95), _pick(random, _TRUCK_COLOURS), lean=(0.0, 0.0, 0.12))
    bar = _box((0, 0, 0.55), (length / 2, 0.2, 0.08), _DARK)
    return Model("trailer", (load, bar, *_wheels((0.0,), 0.95, 0.36)), length)


def construction_vehicle(random: Random) -> Model:
    """A small excavator."""
    yellow = (0.86, 0.62, 0.10)
    tracks = tuple(_box((0, y, 0.4), (1.5, 0.28, 0.4), _DARK, lean=(0.2, 0.2, 0.0)) for y in (-0.85, 0.85))
    cab = _box((-0.1, 0.4, 1.75), (0.65, 0.5, 0.8), yellow, Material.CABIN, lean=(0.1, 0.0, 0.1))
    motor = _box((-0.8, 0, 1.35), (0.8, 1.0, 0.5), yellow)
    boom = _box((1.7, -0.3, 2.5), (0.9, 0.16, 0.22), yellow)
    stick = _box((2.6, -0.3, 1.5), (0.18, 0.14, 1.1), yellow)
    bucket = _box((2.75, -0.3, 0.45), (0.4, 0.45, 0.35), _STEEL, lean=(0.3, 0.0, 0.0))
    return Model("construction_vehicle", (*tracks, cab, motor, boom, stick, bucket), 5.0)


def _rider(random: Random, seat_m: float) -> tuple[Shape, ...]:
    shirt = _pick(random, _CLOTHES)
    torso = _ball((-0.05, 0, seat_m + 0.38), (0.19, 0.23, 0.42), shirt)
    legs = tuple(_pole(0.18, y, 0.25, seat_m + 0.1, 0.09, (0.2, 0.22, 0.28)) for y in (-0.12, 0.12))
    head = _ball((0.05, 0, seat_m + 0.92), (0.13, 0.12, 0.15), _pick(random, _CLOTHES))
    return (torso, *legs, head)


def _two_wheels(length: float, radius: float, width: float, frame: Shape) -> tuple[Shape, ...]:
    x = length / 2 - radius
    return (frame, *(_ball((s * x, 0, radius), (radius, width, radius), _DARK) for s in (-1, 1)))


def cyclist(random: Random) -> Model:
    """A bicycle with its rider."""
    frame = _box((0, 0, 0.62), (0.5, 0.05, 0.16), _pick(random, _CAR_COLOURS), lean=(0.3, 0.3, 0.0))
    bar, fork = _box((0.42, 0, 1.0), (0.05, 0.28, 0.04), _DARK), _pole(0.45, 0, 0.4, 1.0, 0.04, _DARK)
    return Model("bicycle", (*_two_wheels(1.75, 0.34, 0.05, frame), bar, fork, *_rider(random, 0.85)), 1.8)


def motorcycle(random: Random) -> Model:
    """A parked motorcycle."""
    frame = _box((0, 0, 0.65), (0.6, 0.16, 0.22), _pick(random, _CAR_COLOURS), lean=(0.2, 0.3, 0.2))
    bar, fork = _box((0.5, 0, 1.05), (0.06, 0.34, 0.06), _DARK), _pole(0.58, 0, 0.4, 1.05, 0.07, _STEEL)
    return Model("motorcycle", (*_two_wheels(2.05, 0.32, 0.09, frame), bar, fork), 2.1)


def motorcyclist(random: Random) -> Model:
    """A motorcycle with its rider."""
    machine = motorcycle(random)
    return Model("motorcycle", (*machine.shapes, *_rider(random, 0.85)), machine.length_m)


def walker(random: Random) -> Model:
    """A person whose legs and arms swing."""
    size, shirt, trousers = random.uniform(0.9, 1.06), _pick(random, _CLOTHES), _pick(random, _CLOTHES)
    legs = tuple(_pole(0, y, 0.0, 0.86 * size, 0.085, trousers, swing=0.2 * np.sign(y)) for y in (-0.1, 0.1))
    arms = tuple(_pole(0, y, 0.78 * size, 1.4 * size, 0.055, shirt, swing=-0.13 * np.sign(y)) for y in (-0.27, 0.27))
    torso = _ball((0, 0, 1.14 * size), (0.15, 0.22, 0.38 * size), shirt)
    head = _ball((0.02, 0, 1.62 * size), (0.11, 0.1, 0.14), _pick(random, _SKIN))
    hair = _ball((-0.02, 0, 1.67 * size), (0.11, 0.11, 0.12), _pick(random, (_DARK, _BARK, (0.6, 0.5, 0.3))))
    return Model("pedestrian", (*legs, *arms, torso, head, hair), 0.6)


def barrier(random: Random) -> Model:
    """A red and white road barrier, across x."""
    board = _box((0, 0, 0.62), (0.10, 0.95, 0.34), (0.9, 0.9, 0.9), Material.STRIPES)
    feet = tuple(_box((0, y, 0.14), (0.3, 0.08, 0.14), _DARK) for y in (-0.75, 0.75))
    return Model("barrier", (board, *feet), 0.6)


def cone(random: Random) -> Model:
    """A traffic cone."""
    body = _box((0, 0, 0.40), (0.16, 0.16, 0.36), (0.92, 0.36, 0.10), Material.STRIPES, lean=(0.8, 0.8, 0.8))
    return Model("traffic_cone", (_box((0, 0, 0.03), (0.22, 0.22, 0.03), _DARK), body), 0.4)


def tree(random: Random) -> Model:
    """A broad-leaved tree: a trunk and a crown of several balls."""
    height, spread = random.uniform(5.0, 8.5), random.uniform(1.3, 2.1)
    hue, crown_m = random.uniform(0, 1), height * random.uniform(0.32, 0.42)
    green = (0.20 + 0.16 * hue, 0.36 + 0.06 * hue, 0.13 + 0.02 * hue)
    shapes = [_pole(0, 0, 0, crown_m + 1.2, random.uniform(0.13, 0.22), _BARK)]
    for turn in np.linspace(0, 2 * np.pi, 5, endpoint=False) + random.uniform(0, 1):
        out, up = spread * random.uniform(0.35, 0.6), random.uniform(0.25, 0.6) * (height - crown_m)
        size = spread * random.uniform(0.6, 0.8)
        centre = (out * np.cos(turn), out * np.sin(turn), crown_m + up)
        shapes.append(_ball(centre, (size, size, size * 0.9), green, Material.FOLIAGE))
    top = (0.0, 0.0, height - spread * 0.7)
    shapes.append(_ball(top, (spread * 0.8,) * 3, green, Material.FOLIAGE))
    return Model("vegetation", tuple(shapes), 2 * spread)


def bush(random: Random) -> Model:
    """A piece of hedge."""
    length, height = random.uniform(1.2, 2.4), random.uniform(0.5, 0.8)
    green = (0.22, random.uniform(0.34, 0.42), 0.15)
    hedge = _ball((0, 0, height * 0.8), (length, 0.7, height), green, Material.FOLIAGE)
    return Model("vegetation", (hedge,), 2 * length)


def lamp(random: Random) -> Model:
    """A street lamp; its arm reaches along +y."""
    post = _pole(0, 0, 0, 6.2, 0.09, _STEEL)
    arm = _box((0, 0.8, 6.15), (0.05, 0.8, 0.05), _STEEL)
    head = _box((0, 1.6, 6.1), (0.14, 0.35, 0.07), (0.78, 0.78, 0.74))
    return Model("manmade", (post, arm, head), 0.2)


def traffic_light(random: Random) -> Model:
    """A post with a signal head that looks along -x."""
    lights = ((2.95, (0.75, 0.10, 0.08)), (2.68, (0.30, 0.24, 0.06)), (2.41, (0.05, 0.26, 0.12)))
    lamps = tuple(_ball((-0.16, 0, z), (0.05, 0.1, 0.1), colour) for z, colour in lights)
    post, head = _pole(0, 0, 0, 3.2, 0.08, _STEEL), _box((0, 0, 2.68), (0.16, 0.2, 0.48), _DARK)
    return Model("manmade", (post, head, *lamps), 0.3)


def sign(random: Random) -> Model:
    """A round traffic sign that looks along -x."""
    colour = _pick(random, ((0.15, 0.32, 0.70), (0.78, 0.14, 0.12), (0.92, 0.92, 0.90)))
    plate = _ball((-0.06, 0, 2.3), (0.05, 0.36, 0.36), colour)
    return Model("manmade", (_pole(0, 0, 0, 2.5, 0.045, _STEEL), plate), 0.2)


def bin_(random: Random) -> Model:
    """A litter bin: one of the things that belong to no other class."""
    return Model("others", (_pole(0, 0, 0, 0.95, 0.27, (0.22, 0.34, 0.28)), _pole(0, 0, 0.95, 1.05, 0.3, _DARK)), 0.6)


def house(random: Random, length: float, depth: float) -> Model:
    """A house with a gabled roof whose ridge runs along the street."""
    height, wall = float(random.choice([3.4, 6.3, 9.2])), _pick(random, _WALLS)
    body = _box((0, 0, height / 2), (length / 2, depth / 2, height / 2), wall, Material.FACADE)
    rise = depth * 0.16
    roof = (length / 2 + 0.3, depth / 2 + 0.4, rise)
    gable = _box((0, 0, height + rise), roof, _pick(random, _ROOFS), Material.TILES, lean=(0.0, 0.0, 1.0))
    return Model("manmade", (body, gable), length)


def block(random: Random, length: float, depth: float) -> Model:
    """A block of flats, perhaps above shops, with a flat roof."""
    floors, wall = int(random.integers(3, 8)), _pick(random, _WALLS)
    height = 3.1 * floors + 0.9
    material = Material.SHOPS if random.random() < 0.5 else Material.FACADE
    body = _box((0, 0, height / 2), (length / 2, depth / 2, height / 2), wall, material)
    cornice = _box((0, 0, height + 0.12), (length / 2 + 0.2, depth / 2 + 0.2, 0.16), (0.72, 0.70, 0.66))
    hut = _box((0, 0, height + 1.2), (length * 0.15, depth * 0.2, 1.2), (0.62, 0.62, 0.62))
    return Model("manmade", (body, cornice, hut), length)


MODELS: dict[str, Callable[[Random], Model]] = {
    "car": car,
    "truck": truck,
    "bus": bus,
    "trailer": trailer,
    "construction_vehicle": construction_vehicle,
    "bicycle": cyclist,
    "motorcycle": motorcycle,
    "motorcyclist": motorcyclist,
    "pedestrian": walker,
    "barrier": barrier,
    "traffic_cone": cone,
    "tree": tree,
    "bush": bush,
    "lamp": lamp,
    "traffic_light": traffic_light,
    "sign": sign,
    "bin": bin_,
}
