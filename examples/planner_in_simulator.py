"""How often is a place that a planner is told to be free truly occupied?  Asked along the way of a simulated vehicle.

    python examples/planner_in_simulator.py            # true grids, and those of nano, on held-out streets

At every frame the planner asks about boxes along its path and beside it, about the way ahead of each, and about points.
What it is told to be free is held against the solids of the street themselves, not against any grid.  True grids must
give no wrong answer; of predicted ones the share is printed.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoocc_core import OccupancyStream, Wanted, load_model, model_config
from panoocc_core.data.simulated import SimulatedStreets, simulated_streets
from panoocc_core.data.street_plan import StreetPlan
from panoocc_core.geometry import Matrix, invert, rotation_from_quaternion, yaw_rad
from panoocc_core.planning import KnownSpace, OrientedBox, State, ground_ids
from panoocc_core.sim.scene import Scene
from panoocc_core.sim.shapes import ShapeTable, inside
from panoocc_core.stream import output_geometry

SIZE_M, MIDDLE_M = (4.8, 1.9, 1.4), 1.1  # of the vehicle, and how high its middle is
BESIDE_M = (-6.4, -4.8, -3.2, -1.6, 0.0, 1.6, 3.2, 4.8, 6.4)
REACH_M, POINTS = 20.0, 200
STEP_M = 0.2  # solids are looked for at points this far apart


@dataclass
class Count:
    """Answers to one kind of question."""

    asked: int = 0
    free: int = 0
    wrong: int = 0  # free, says the grid, and something stands there

    def add(self, is_free: NDArray[np.bool_], is_wrong: NDArray[np.bool_]) -> None:
        self.asked += len(is_free)
        self.free += int(is_free.sum())
        self.wrong += int((is_free & is_wrong).sum())


def path_boxes(future_from_now: Sequence[Matrix], seed: int) -> list[OrientedBox]:
    """Where the vehicle will be, and beside that, turned a little as planners try it."""
    random, boxes = np.random.default_rng(seed), []
    for pose in future_from_now:
        for beside_m in BESIDE_M:
            x, y, z = pose[:3, :3] @ (1.4, beside_m, MIDDLE_M) + pose[:3, 3]
            yaw = yaw_rad(pose) + random.uniform(-0.4, 0.4)
            boxes.append(OrientedBox.turned((float(x), float(y), float(z)), SIZE_M, float(yaw)))
    return boxes


def points_of(box: OrientedBox) -> Matrix:
    """Points [n, 3] all over a box, its faces included."""
    lines = [np.linspace(-edge / 2, edge / 2, int(np.ceil(edge / STEP_M)) + 1) for edge in box.size_m]
    local = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    return local @ rotation_from_quaternion(np.array(box.orientation)).T + np.array(box.centre_m)


def in_a_solid(shapes: ShapeTable, points_m: Matrix) -> NDArray[np.bool_]:
    """Whether points [n, 3] of the world lie in something that stands there; the ground is no solid."""
    found = np.zeros(len(points_m), bool)
    reach_m = np.linalg.norm(shapes.half_m, axis=1)
    middle_m = points_m.mean(axis=0)
    radius_m = np.linalg.norm(points_m - middle_m, axis=1).max(initial=0.0)
    near = np.linalg.norm(shapes.centre_m - middle_m, axis=1) <= reach_m + radius_m
    for index in np.flatnonzero(near):
        local = shapes.local_from_world[index].astype(float) @ (points_m - shapes.centre_m[index]).T
        found |= inside(int(shapes.kind[index]), shapes.planes[index], local)
    return found


def swept(box: OrientedBox, way_m: float) -> OrientedBox:
    """The box that a box fills on its way ahead."""
    ahead = rotation_from_quaternion(np.array(box.orientation))[:, 0]
    x, y, z = np.array(box.centre_m) + ahead * way_m / 2
    return OrientedBox((float(x), float(y), float(z)), (box.size_m[0] + way_m, *box.size_m[1:]), box.orientation)


def ask(space: KnownSpace, boxes: Sequence[OrientedBox], seed: int) -> tuple[NDArray[np.bool_], list[float], Matrix]:
    """Which boxes are free, how far the way ahead of each is (0: not at all), and points [n, 3] that are free."""
    is_free = np.array([space.box(box) == State.FREE for box in boxes])
    ways_m = []
    for box in boxes:
        ahead = rotation_from_quaternion(np.array(box.orientation))[:, 0]
        ways_m.append(min(space.ahead(box, ahead.tolist(), REACH_M).free_m, REACH_M))
    random = np.random.default_rng(seed)
    points_m = np.stack([random.uniform(low, high, POINTS) for low, high in ((-20, 20), (-15, 15), (0.3, 3))], axis=1)
    return is_free, ways_m, points_m[space.at(points_m).state == State.FREE]


def check(
    space: KnownSpace,
    boxes: Sequence[OrientedBox],
    shapes: ShapeTable,
    world_from_ego: Matrix,
    seed: int,
    counts: dict[str, Count],
) -> None:
    """Hold the answers of one grid against what stands there."""

    def stands(points_m: Matrix) -> NDArray[np.bool_]:
        return in_a_solid(shapes, points_m @ world_from_ego[:3, :3].T + world_from_ego[:3, 3])

    is_free, ways_m, points_m = ask(space, boxes, seed)
    occupied = [free and bool(stands(points_of(box)).any()) for free, box in zip(is_free, boxes)]
    counts["box"].add(is_free, np.array(occupied))
    goes = np.array(ways_m) > 0
    hit = [go and bool(stands(points_of(swept(box, way))).any()) for go, way, box in zip(goes, ways_m, boxes)]
    counts["way ahead"].add(goes, np.array(hit))
    counts["point"].add(np.ones(len(points_m), bool), stands(points_m))
    counts["point"].asked += POINTS - len(points_m)


def frames(
    streets: SimulatedStreets, seeds: Sequence[int], plan: StreetPlan, model: str
) -> Iterator[tuple[KnownSpace, KnownSpace, list[OrientedBox], ShapeTable, Matrix]]:
    """Of every frame the true and the predicted grid, what to ask, the solids, and the vehicle's pose."""
    network = load_model(model)
    for drive, seed in zip(streets, seeds):
        scene, stream = Scene(seed, plan.time_s(plan.frames) + 1), OccupancyStream(network)
        for index in range(len(drive)):
            frame, truth = drive.frame(index), drive.truth(index)
            occupancy = stream.step(frame, Wanted(instances=False))
            assert truth.class_id is not None and truth.geometry is not None
            ground = ground_ids(truth.labels)
            true = KnownSpace(truth.class_id, truth.geometry, truth.labels, visible=truth.camera_mask, ignored=ground)
            predicted = KnownSpace.of(occupancy, ignored=ground_ids(occupancy.labels))
            now_from_world = invert(frame.world_from_ego)
            times_s = plan.time_s(index) + np.arange(1.0, 2.6, 0.5)
            boxes = path_boxes([now_from_world @ scene.world_from_ego(float(t)) for t in times_s], seed * 1000 + index)
            yield true, predicted, boxes, scene.shapes_at(plan.time_s(index)), frame.world_from_ego


def measure(folder: Path, seeds: Sequence[int], plan: StreetPlan, model: str) -> dict[str, dict[str, Count]]:
    """Whose grids -> kind of question -> answers."""
    streets = simulated_streets(folder, seeds, output_geometry(model_config(model)), plan)
    counts = {whose: {kind: Count() for kind in ("point", "box", "way ahead")} for whose in ("true", model)}
    for number, (true, predicted, boxes, shapes, pose) in enumerate(frames(streets, seeds, plan, model)):
        check(true, boxes, shapes, pose, number, counts["true"])
        check(predicted, boxes, shapes, pose, number, counts[model])
    return counts


def table(counts: dict[str, dict[str, Count]]) -> str:
    lines = [f"{'grids':8} {'question':10} {'asked':>7} {'free':>7} {'wrong':>6}  share"]
    for whose, kinds in counts.items():
        for kind, count in kinds.items():
            share = f"{100 * count.wrong / count.free:.2f} %" if count.free else "-"
            lines.append(f"{whose:8} {kind:10} {count.asked:7} {count.free:7} {count.wrong:6}  {share}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Free answers of grids against what stands in simulated streets.")
    parser.add_argument("--model", default="nano", help="preset whose shipped weights predict the grids")
    parser.add_argument("--streets", type=Path, default=Path("out/streets"), help="folder for the rendered streets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101], help="of the streets; from 100 on held out")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each drive")
    options = parser.parse_args(arguments)
    try:
        plan = StreetPlan(seconds=options.seconds)
        counts = measure(options.streets, options.seeds, plan, options.model)
    except (ValueError, OSError) as error:
        print(f"planner_in_simulator: {error}", file=sys.stderr)
        return 2
    print(table(counts))
    return 1 if any(count.wrong for count in counts["true"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
