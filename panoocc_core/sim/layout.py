"""What goes where in a street: paint on the ground, things along it, traffic."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .actors import MODELS, Model, block, house
from .drive import EgoDrive, Stop
from .street import Centreline, Ground, Profile

MARGIN_M = 90.0  # street before the start and after the end of the drive
_SIDE_M = 75.0  # ground beyond the centre line
_STOP_LINE_M = 4.6  # from the side street to the stop line
_FRONT_M = 4.2  # from base_link to the front bumper, and a little space

_PARKED = {"car": 0.5, "gap": 0.22, "truck": 0.08, "motorcycle": 0.09, "trailer": 0.07, "bus": 0.04}  # shares
_ASPHALT, _ASPHALT_WORN = (92, 92, 96), (84, 84, 88)
_PAVING, _JOINT, _KERB = (168, 160, 150), (140, 133, 125), (196, 192, 184)
_PAINT, _YELLOW, _PLAZA = (226, 226, 222), (214, 176, 84), (150, 138, 124)


@dataclass(frozen=True, slots=True)
class Placed:
    """An actor in street coordinates, with its way of moving."""

    model: Model
    s_m: float
    left_m: float
    turn_rad: float = 0.0  # against the street's heading
    speed_mps: tuple[float, float] = (0.0, 0.0)  # along the street and to the left
    convoy: bool = False  # keeps its distance to the ego vehicle instead


@dataclass(frozen=True, slots=True)
class Crossing:
    """A side street at right angles."""

    s_m: float
    half_m: float = 5.0
    reach_m: float = 60.0

    def blocks(self, s_m: float, clearance_m: float) -> bool:
        """Whether something at `s_m` would stand in the side street."""
        return abs(s_m - self.s_m) < self.half_m + clearance_m


def _steps(start: float, stop: float, step: float) -> list[float]:
    """Plain numbers from `start` in steps, `stop` not included."""
    return np.arange(start, stop, step).tolist()


def street_profile(random: np.random.Generator) -> Profile:
    """Widths of a residential street or an avenue."""
    return Profile(
        lanes=int(random.integers(1, 3)),
        pavement_m=random.uniform(2.4, 3.8),
        verge_m=random.uniform(1.8, 3.5),
    )


def side_streets(random: np.random.Generator, reach_m: float) -> list[Crossing]:
    """Where side streets meet the street, up to `reach_m` along it."""
    first, spacing = MARGIN_M + random.uniform(20, 45), random.uniform(75, 110)
    return [Crossing(s) for s in _steps(first, reach_m + MARGIN_M, spacing)]


def stops_at(random: np.random.Generator, crossings: list[Crossing]) -> list[Stop]:
    """Stops before about half of the side streets, with the bumper at the stop line."""
    return [
        Stop(crossing.s_m - crossing.half_m - _STOP_LINE_M - _FRONT_M, random.uniform(1.5, 4.0))
        for crossing in crossings
        if random.random() < 0.5
    ]


def paint_ground(
    random: np.random.Generator, street: Centreline, profile: Profile, crossings: list[Crossing]
) -> Ground:
    """The painted map."""
    x, y, _ = street.pose(np.arange(-MARGIN_M, street.length_m + MARGIN_M, 5.0))
    outline = np.stack((x, y), axis=1)
    ground = Ground(outline.min(axis=0) - _SIDE_M, outline.max(axis=0) + _SIDE_M, (108, 122, 72))
    low, high = -MARGIN_M, street.length_m + MARGIN_M
    _paint_lots(random, ground, street, profile)
    for across in (_PAVING, _KERB, _ASPHALT):
        inset = {_PAVING: profile.pavement_m, _KERB: 0.18, _ASPHALT: 0.0}[across]
        name = "driveable_surface" if across is _ASPHALT else "sidewalk"
        for crossing in crossings:
            area = street.across(crossing.s_m, crossing.half_m + inset, crossing.reach_m)
            ground.paint(area, across, name)
        edge = profile.kerb_m + inset
        ground.paint(street.band(low, high, -edge, edge), across, name)
        if across is _PAVING:
            _paint_joints(ground, street, profile)
    _paint_markings(ground, street, profile, crossings)
    ground.finish()
    return ground


def _paint_lots(random: np.random.Generator, ground: Ground, street: Centreline, profile: Profile) -> None:
    """Paved yards here and there between the buildings."""
    for side in (-1, 1):
        for start in _steps(0.0, street.length_m, 24.0):
            if random.random() < 0.4:
                near, far = side * profile.pavement_end_m, side * (profile.lot_m + 22)
                ground.paint(street.band(start, start + 24, min(near, far), max(near, far)), _PLAZA, "other_flat")


def _paint_joints(ground: Ground, street: Centreline, profile: Profile) -> None:
    for side in (-1, 1):
        near, far = side * profile.kerb_m, side * profile.pavement_end_m
        for s in _steps(0.0, street.length_m, 1.5):
            ground.paint(street.band(s, s + 0.04, min(near, far), max(near, far)), _JOINT)
        for share in (1 / 3, 2 / 3):
            line = near + share * (far - near)
            ground.paint(street.band(0, street.length_m, line, line + 0.04), _JOINT)


def _paint_markings(ground: Ground, street: Centreline, profile: Profile, crossings: list[Crossing]) -> None:
    lanes = [side * (lane + 0.5) * profile.lane_m for side in (-1, 1) for lane in range(profile.lanes)]
    for middle in lanes:  # where wheels run
        for track in (-0.8, 0.8):
            ground.paint(street.band(0, street.length_m, middle + track - 0.3, middle + track + 0.3), _ASPHALT_WORN)
    for start, end in _between(crossings, street.length_m, 7.5):
        if profile.lanes > 1:
            for offset in (-0.16, 0.16):
                ground.paint(street.band(start, end, offset - 0.07, offset + 0.07), _YELLOW)
        dashes = [0.0] if profile.lanes == 1 else [-profile.lane_m, profile.lane_m]
        for offset in dashes:
            for s in _steps(start, end - 3, 9.0):
                ground.paint(street.band(s, s + 3, offset - 0.08, offset + 0.08), _PAINT)
        for side in (-1, 1):
            edge = side * profile.lanes * profile.lane_m
            ground.paint(street.band(start, end, edge - 0.07, edge + 0.07), _PAINT)
            for s in _steps(start, end, 6.2):
                strip = sorted((edge, edge + side * profile.parking_m))
                ground.paint(street.band(s, s + 0.1, strip[0], strip[1]), _PAINT)
    for crossing in crossings:
        for end in (-1, 1):
            zebra = crossing.s_m + end * (crossing.half_m + 2.2)
            for left in _steps(-profile.kerb_m + 0.5, profile.kerb_m - 0.5, 1.0):
                ground.paint(street.band(zebra - 1.4, zebra + 1.4, left, left + 0.5), _PAINT)
            stop, lane_edge = zebra + end * 2.2, profile.lanes * profile.lane_m
            low, high = (0.3, lane_edge) if end > 0 else (-lane_edge, -0.3)
            ground.paint(street.band(stop - 0.2, stop + 0.2, low, high), _PAINT)


def _between(crossings: list[Crossing], length_m: float, clearance_m: float) -> Iterator[tuple[float, float]]:
    """Parts of the street outside the side streets."""
    start = 0.0
    for crossing in crossings:
        yield start, crossing.s_m - crossing.half_m - clearance_m
        start = crossing.s_m + crossing.half_m + clearance_m
    yield start, length_m


def place_all(
    random: np.random.Generator, street: Centreline, profile: Profile, drive: EgoDrive, crossings: list[Crossing]
) -> list[Placed]:
    """Everything that stands or moves in the street."""
    length = street.length_m
    placed: list[Placed] = []
    for side in (-1, 1):
        placed += _buildings(random, length, profile, crossings, side)
        placed += _furniture(random, length, profile, crossings, side)
        placed += _parked(random, length, profile, crossings, side)
        placed += _walkers(random, length, profile, side)
    placed += _traffic(random, length, profile, drive)
    placed += _crossing_walkers(random, profile, drive, crossings)
    return placed


def _free(crossings: list[Crossing], s_m: float, clearance_m: float) -> bool:
    return not any(crossing.blocks(s_m, clearance_m) for crossing in crossings)


def _buildings(
    random: np.random.Generator, length_m: float, profile: Profile, crossings: list[Crossing], side: int
) -> Iterator[Placed]:
    s, urban = -30.0, random.random() < 0.55
    while s < length_m + 30:
        long, deep = random.uniform(9, 18), random.uniform(9, 13)
        middle, setback = s + long / 2, random.uniform(0.3, 2.0) if urban else random.uniform(1.5, 6)
        if _free(crossings, middle, long / 2 + profile.pavement_m + 0.5):
            if random.random() < 0.88:
                build = block if random.random() < (0.8 if urban else 0.25) else house
                yield Placed(build(random, long, deep), middle, side * (profile.lot_m + setback + deep / 2))
            else:
                for _ in range(4):  # a little park
                    left = profile.lot_m + random.uniform(2, 14)
                    yield Placed(MODELS["tree"](random), random.uniform(s, s + long), side * left)
        s += long + (random.uniform(0.2, 2.5) if urban else random.uniform(2, 9))


def _furniture(
    random: np.random.Generator, length_m: float, profile: Profile, crossings: list[Crossing], side: int
) -> Iterator[Placed]:
    verge = side * (profile.pavement_end_m + profile.verge_m * 0.5)
    kerb = side * (profile.kerb_m + 0.45)
    toward_road = 0.0 if side < 0 else np.pi
    shift_m = random.uniform(0, 5)
    for s in _steps(shift_m, length_m + shift_m, 9.0):
        if _free(crossings, s, 7) and random.random() < 0.7:
            name = "tree" if random.random() < 0.7 else "bush"
            yield Placed(MODELS[name](random), s + random.uniform(-2, 2), verge)
    for s in _steps(random.uniform(0, 20), length_m, 26.0):
        if _free(crossings, s, 3):
            yield Placed(MODELS["lamp"](random), s, kerb, toward_road)
            if random.random() < 0.8:
                yield Placed(MODELS["bin"](random), s + 1.5, kerb)
    for s in _steps(random.uniform(5, 40), length_m, 47.0):
        if _free(crossings, s, 5):
            yield Placed(MODELS["sign"](random), s, kerb, 0.0 if side < 0 else np.pi)
    for crossing in crossings:
        near = crossing.s_m + side * (crossing.half_m + 4.4)
        yield Placed(MODELS["traffic_light"](random), near, kerb, 0.0 if side < 0 else np.pi)


def _parked(
    random: np.random.Generator, length_m: float, profile: Profile, crossings: list[Crossing], side: int
) -> Iterator[Placed]:
    lane = side * (profile.lanes * profile.lane_m + profile.parking_m / 2)
    heading = 0.0 if side < 0 else np.pi
    site = MARGIN_M + random.uniform(-20, 60)
    s = 0.0
    while s < length_m:
        if not _free(crossings, s, 12):
            s += 4
            continue
        if s > site:
            yield from _road_works(random, s, lane)
            s += 24
            site = s + random.uniform(50, 120)
            continue
        kind = random.choice(list(_PARKED), p=list(_PARKED.values()))
        if kind == "gap":
            s += 6
            continue
        model = MODELS[str(kind)](random)
        turn = heading + random.normal(0, 0.02) + (0.9 if kind == "motorcycle" else 0.0)
        yield Placed(model, s + model.length_m / 2, lane + random.normal(0, 0.06), turn)
        s += model.length_m + random.uniform(0.9, 1.8)


def _road_works(random: np.random.Generator, s: float, lane: float) -> Iterator[Placed]:
    for offset in _steps(0.0, 20.0, 2.1):
        turn = np.pi / 2 + random.normal(0, 0.04)
        yield Placed(MODELS["barrier"](random), s + offset, lane - math.copysign(1.0, lane) * 1.05, turn)
    for offset in (-4.5, -3.0, -1.5, 20.5, 22.0):
        yield Placed(
            MODELS["traffic_cone"](random), s + offset, lane - math.copysign(1.0, lane) * random.uniform(0.6, 1.1)
        )
    yield Placed(
        MODELS["construction_vehicle"](random),
        s + 9,
        lane + math.copysign(1.0, lane) * 0.1,
        random.choice([0.0, np.pi]),
    )


def _walkers(random: np.random.Generator, length_m: float, profile: Profile, side: int) -> Iterator[Placed]:
    for s in _steps(0.0, length_m, 11.0):
        if random.random() < 0.75:
            speed = float(random.choice([-1, 1])) * random.uniform(0.9, 1.6)
            left = side * (profile.kerb_m + random.uniform(1.0, profile.pavement_m - 0.4))
            turn = 0.0 if speed > 0 else np.pi
            yield Placed(MODELS["pedestrian"](random), s + random.uniform(-4, 4), left, turn, (speed, 0.0))


def _crossing_walkers(
    random: np.random.Generator, profile: Profile, drive: EgoDrive, crossings: list[Crossing]
) -> Iterator[Placed]:
    """People on the zebras, who are over before the ego vehicle and those ahead of it come."""
    for crossing in crossings:
        arrival_s = drive.arrival_s(crossing.s_m)
        for end in (-1, 1):
            for _ in range(int(random.integers(0, 3))):
                speed = random.uniform(1.1, 1.5)
                s = crossing.s_m + end * (crossing.half_m + 2.2) + random.uniform(-1, 1)
                start = profile.kerb_m - speed * (arrival_s - random.uniform(9, 12))
                yield Placed(MODELS["pedestrian"](random), s, start, np.pi / 2, (0.0, speed))


def _traffic(random: np.random.Generator, length_m: float, profile: Profile, drive: EgoDrive) -> Iterator[Placed]:
    inner, kinds = profile.lane_m / 2, ["car", "car", "car", "truck", "bus", "motorcyclist"]
    for gap in (random.uniform(16, 26), random.uniform(40, 60), -random.uniform(14, 22), -random.uniform(35, 50)):
        yield Placed(MODELS[str(random.choice(kinds))](random), drive.start_m + gap, -inner, convoy=True)
    for lane in range(profile.lanes):
        left, speed = inner + lane * profile.lane_m, random.uniform(6, 9)
        reach = length_m + speed * (length_m / drive.speed_mps)
        for s in _steps(drive.start_m - 60, reach, random.uniform(22, 34)):
            model = MODELS[str(random.choice(kinds))](random)
            yield Placed(model, s + random.uniform(-4, 4), left, np.pi, (-speed, 0.0))
    if profile.lanes > 1:
        speed = drive.speed_mps * random.uniform(0.85, 1.15)
        for s in _steps(drive.start_m - 110, drive.start_m + 150, random.uniform(20, 30)):
            model = MODELS[str(random.choice(kinds))](random)
            yield Placed(model, s + random.uniform(-3, 3), -inner - profile.lane_m, 0.0, (speed, 0.0))
    rim = profile.lanes * profile.lane_m - 0.5
    for side in (-1, 1):
        for s in _steps(random.uniform(0, 30), length_m, random.uniform(35, 60)):
            turn, speed = (0.0, 4.5) if side < 0 else (np.pi, -4.5)
            yield Placed(MODELS["bicycle"](random), s, side * rim, turn, (speed, 0.0))
