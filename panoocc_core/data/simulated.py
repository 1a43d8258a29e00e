"""Drives through simulated streets, rendered once and kept in files: what own training and evaluation run on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..base.processors import processor_count
from ..geometry import Matrix
from ..sim.capture import capture
from ..sim.lidar import Lidar
from ..sim.pool import WorkerPool
from ..sim.renderer import Renderer
from ..sim.scene import Scene
from ..types import GridGeometry
from .simulated_drive import MAX_BYTES, SimulatedDrive, drive_bytes, frame_columns, remove_orphans, write_drive
from .street_plan import StreetPlan, drive_files


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedStreets(Sequence[SimulatedDrive]):
    """Drives of many seeds, read from their files one at a time."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> SimulatedDrive:  # type: ignore[override]
        return SimulatedDrive(self.paths[index])


def simulated_streets(
    folder: Path,
    seeds: Sequence[int],
    geometry: GridGeometry,
    plan: StreetPlan,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> SimulatedStreets:
    """The drives of the seeds; those whose files are not in the folder yet are rendered first.

    Args:
        workers: processes that render, at least 1; None uses all processors.
        progress: called with the number of drives that are ready and of all drives.

    Raises:
        ValueError: `workers` is less than 1; see `StreetPlan.cameras` and `render_drive`.
        OSError: the folder cannot be written.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    paths = drive_files(folder, seeds, plan, geometry)
    missing = [(path, seed) for path, seed in zip(paths, seeds) if not path.exists()]
    done = len(paths) - len(missing)
    if missing:
        remove_orphans(folder)
    for _ in _render_all(missing, plan, geometry, workers or processor_count()):
        done += 1
        if progress is not None:
            progress(done, len(paths))
    return SimulatedStreets(paths)


def _render_all(
    missing: list[tuple[Path, int]], plan: StreetPlan, geometry: GridGeometry, workers: int
) -> Iterator[Path]:
    work = partial(_render_one, plan, geometry.shape_xyz, geometry.voxel_size_m, geometry.ego_from_grid)
    if min(workers, len(missing)) <= 1:
        yield from map(work, missing)
        return
    with WorkerPool(min(workers, len(missing))) as pool:
        for future in [pool.submit(work, one) for one in missing]:
            yield future.result()


def _render_one(
    plan: StreetPlan,
    shape_xyz: tuple[int, int, int],
    voxel_size_m: tuple[float, float, float],
    ego_from_grid: Matrix,
    job: tuple[Path, int],
) -> Path:
    path, seed = job
    return render_drive(path, seed, plan, GridGeometry(shape_xyz, voxel_size_m, ego_from_grid))


def render_drive(path: Path, seed: int, plan: StreetPlan, geometry: GridGeometry) -> Path:
    """Render the drive of a seed into a file, unless it is there.

    Raises:
        ValueError: the drive would be larger than MAX_BYTES.
        OSError: the folder cannot be written.
    """
    if path.exists():
        return path
    lidar, grid = (Lidar(), None) if plan.lidar else (None, geometry)
    if drive_bytes(plan.frames, grid) > MAX_BYTES:
        raise ValueError(
            f"a drive of {plan.frames} frames on {geometry.shape_xyz} voxels has more than {MAX_BYTES} bytes; make it "
            "shorter, or the grid smaller"
        )
    rig, scene = plan.cameras(), Scene(seed, plan.time_s(plan.frames) + 1)
    renderer = Renderer(scene)
    frames = []
    for time_s in map(plan.time_s, range(plan.frames)):
        taken = capture(renderer, rig, time_s, grid, lidar=lidar, jpeg_quality=plan.jpeg_quality)
        frames.append(frame_columns(scene, rig, time_s, taken))
    write_drive(path, frames, rig, grid)
    return path
