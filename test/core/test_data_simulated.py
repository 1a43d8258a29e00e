"""Rendered drives in files: whole or refused, the same for the same seed, true to the scene."""

import io
import os
import platform
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from panoocc_core import model_config
from panoocc_core.data import simulated, street_plan
from panoocc_core.data.simulated import SimulatedStreets, render_drive, simulated_streets
from panoocc_core.data.simulated_drive import DriveFileError, SimulatedDrive
from panoocc_core.data.street_plan import StreetPlan, drive_files
from panoocc_core.geometry import NS_PER_S
from panoocc_core.sim.boxes import true_boxes
from panoocc_core.sim.lidar import true_points
from panoocc_core.sim.rig import nuscenes_rig, waymo_rig
from panoocc_core.sim.scene import Scene
from panoocc_core.sim.truth import truth
from panoocc_core.sim.visibility import camera_mask
from panoocc_core.stream import output_geometry
from panoocc_core.train.loss_config import LossConfig
from panoocc_core.types import GridGeometry

from .toy_training import (
    NETWORK,
    STREET_SCALE,
    STREET_SECONDS,
    STREET_SEEDS,
    curve_without_seconds,
    recipe,
    rendered_streets,
    trained,
    write_network,
)

PLAN = StreetPlan(STREET_SECONDS, 2.0, STREET_SCALE)
ROOT = Path(__file__).parents[2]


def drive_file(folder: Path, seed: int, plan: StreetPlan, geometry: GridGeometry) -> Path:
    """Where one drive is kept."""
    return drive_files(folder, [seed], plan, geometry)[0]


@pytest.fixture(scope="module")
def folder() -> Path:
    return rendered_streets()[1]


@pytest.fixture(scope="module")
def geometry(folder):
    return output_geometry(model_config(folder / "toy.yaml"))


@pytest.fixture(scope="module")
def path(folder, geometry) -> Path:
    return drive_file(folder, STREET_SEEDS[0], PLAN, geometry)


@pytest.fixture(scope="module")
def drive(path) -> SimulatedDrive:
    return SimulatedDrive(path)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(STREET_SEEDS[0], PLAN.time_s(PLAN.frames) + 1)


def test_a_drive_is_what_its_plan_says(drive):
    assert len(drive) == 4
    stamps = [drive.frame(i).stamp_ns / NS_PER_S for i in range(4)]
    assert stamps == [0.5, 1.0, 1.5, 2.0]
    frame, rig = drive.frame(2), nuscenes_rig(STREET_SCALE)
    assert [camera.name for camera in frame.cameras] == [camera.name for camera in rig]
    for camera, made in zip(frame.cameras, rig):
        assert camera.size_hw == (made.height, made.width)
        assert np.array_equal(camera.intrinsics, made.intrinsics)
        assert camera.stamp_ns == round((1.5 + made.shutter_offset_s) * NS_PER_S)
        assert camera.image.float().std() > 10  # a picture, not a blank


def test_truth_agrees_with_the_scene(drive, scene, geometry):
    for index in (0, 3):
        time_s, found = PLAN.time_s(index), drive.truth(index)
        true = truth(scene, geometry, time_s)
        assert np.array_equal(found.class_id, true.class_id) and np.array_equal(found.instance_id, true.instance_id)
        assert np.array_equal(found.camera_mask, camera_mask(scene, nuscenes_rig(STREET_SCALE), true, time_s))
        assert np.allclose(drive.frame(index).world_from_ego, scene.world_from_ego(time_s), atol=1e-9)
        boxes = true_boxes(scene, time_s)
        boxes = boxes.select(np.isin(boxes.instance_id, true.instance_id[found.camera_mask]))  # what a camera sees
        assert len(boxes) == len(found.boxes) and np.array_equal(boxes.centre_m, found.boxes.centre_m)
        assert np.array_equal(boxes.class_id, found.boxes.class_id)
        assert found.stamp_ns == drive.frame(index).stamp_ns


def test_the_same_seed_gives_the_same_content(path, geometry, tmp_path):
    again = np.load(render_drive(tmp_path / "again.npz", STREET_SEEDS[0], PLAN, geometry))
    first = np.load(path)
    assert set(first.files) == set(again.files)
    for name in first.files:
        assert np.array_equal(first[name], again[name]), name


def test_names_tell_apart_all_that_content_depends_on(folder, geometry):
    plans = (PLAN, StreetPlan(3.0, 2.0, STREET_SCALE), StreetPlan(2.0, 4.0, STREET_SCALE), StreetPlan(2.0, 2.0, 0.05))
    other = output_geometry(model_config("nano"))
    names = {path for plan in plans for grid in (geometry, other) for path in drive_files(folder, (1, 2), plan, grid)}
    assert len(names) == 16


def test_kept_drives_keep_their_names(geometry):
    """Many hours of rendering go by these names: they are new only when the content is."""
    path = drive_file(Path("streets"), 10_000, StreetPlan(), output_geometry(model_config("nano")))
    assert path == Path("streets/street-06f86bbe43-010000.npz")


def test_rigs_and_lidar_are_told_apart_by_what_they_are(folder, geometry, tmp_path):
    mine = tmp_path / "mine.yaml"

    def name(**changes) -> str:
        return drive_file(folder, 1, replace(PLAN, **changes), geometry).name

    names = [name(), name(lidar=True), name(rig="waymo"), name(rig="waymo", lidar=True)]
    assert len(set(names)) == 4
    for rig, change in (("waymo", ("yaw_deg: 45", "yaw_deg: 46")), ("nuscenes", ("yaw_deg: -55", "yaw_deg: -54"))):
        mine.write_text((ROOT / f"config/sim_rigs/{rig}.yaml").read_text())
        assert name(rig=str(mine)) == name(rig=rig)  # where it lies does not matter
        mine.write_text(mine.read_text().replace(*change, 1))
        assert name(rig=str(mine)) not in names


def test_a_change_of_a_rig_of_the_package_gives_new_drives(folder, geometry, monkeypatch):
    before = drive_file(folder, 1, PLAN, geometry)
    front, *others = nuscenes_rig(STREET_SCALE)
    later = replace(front, shutter_offset_s=front.shutter_offset_s + 0.01)
    monkeypatch.setattr(street_plan, "load_sim_rig", lambda name, scale: (later, *others))
    assert drive_file(folder, 1, PLAN, geometry) != before


def test_names_do_not_depend_on_the_sign_of_a_zero(folder, geometry, monkeypatch):
    """Several machines must find the same names, and their last bits differ."""
    rig, before = nuscenes_rig(STREET_SCALE), drive_file(folder, 1, PLAN, geometry)
    other = tuple(replace(c, intrinsics=np.where(c.intrinsics == 0, -1e-17, c.intrinsics)) for c in rig)
    monkeypatch.setattr(street_plan, "load_sim_rig", lambda name, scale: other)
    assert drive_file(folder, 1, PLAN, geometry) == before


def test_a_network_has_the_plan_with_what_it_learns_from():
    assert PLAN.for_network(model_config("nano")) == PLAN
    assert PLAN.for_network(model_config("pano_small_1f")) == replace(PLAN, lidar=True)
    with pytest.raises(ValueError, match="rig waymo has the cameras FRONT, .*; nano takes CAM_FRONT, .*: give a rig"):
        replace(PLAN, rig="waymo").for_network(model_config("nano"))
    assert replace(PLAN, rig="auto").for_network(model_config("nano")).rig == "nuscenes"
    assert replace(PLAN, rig="auto").for_network(model_config("nano_waymo")).rig == "waymo"
    with pytest.raises(ValueError, match="unknown simulated rig 'tricycle'"):
        replace(PLAN, rig="tricycle").for_network(model_config("nano"))


def test_grids_do_not_matter_to_points(folder, geometry):
    other = output_geometry(model_config("nano"))
    with_points = replace(PLAN, lidar=True)
    assert drive_file(folder, 1, with_points, geometry) == drive_file(folder, 1, with_points, other)


@pytest.fixture(scope="module")
def with_points(tmp_path_factory, geometry) -> Path:
    """Two frames of the drive of `path` with LiDAR points."""
    plan = StreetPlan(1.0, 2.0, STREET_SCALE, lidar=True)
    return render_drive(tmp_path_factory.mktemp("lidar") / "street.npz", STREET_SEEDS[0], plan, geometry)


def test_a_drive_with_another_rig_has_its_cameras(drive, geometry, tmp_path):
    plan, rig = StreetPlan(1.0, 2.0, STREET_SCALE, rig="waymo"), waymo_rig(STREET_SCALE)
    other = SimulatedDrive(render_drive(tmp_path / "street.npz", STREET_SEEDS[0], plan, geometry))
    assert len(other) == 2
    for index in range(2):
        assert [camera.name for camera in other.frame(index).cameras] == [camera.name for camera in rig]
        assert [camera.size_hw for camera in other.frame(index).cameras] == [(c.height, c.width) for c in rig]
        assert not np.array_equal(other.truth(index).camera_mask, drive.truth(index).camera_mask)


def test_lidar_points_are_those_of_the_scene_where_the_plan_asks_for_them(drive, with_points):
    scene = Scene(STREET_SEEDS[0], 0.5 + 2 / 2.0 + 1)
    for index in range(2):
        voxels, there = drive.truth(index), SimulatedDrive(with_points).truth(index)
        assert voxels.points is None and there.class_id is None and there.geometry is None
        assert there.stamp_ns == voxels.stamp_ns and len(there.boxes) > 0
        found, true = there.points, true_points(scene, 0.5 + index / 2)
        for name in ("position_m", "class_id", "instance_id"):
            one, other = getattr(found, name), getattr(true, name)
            assert np.array_equal(one, other) and one.dtype == other.dtype and len(one) > 5000


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("points.count", lambda a: a + 1, "points.count has"),
        ("points.count", lambda a: a[:1], "points.count is int64"),
        ("points.class_id", lambda a: a[:-1], "points.position_m is float32"),
        ("points.position_m", lambda a: a.astype(np.float64), "points.position_m is float64"),
        ("points.instance_id", None, "has no array 'points.instance_id'"),
    ],
)
def test_points_that_contradict_each_other_are_refused(with_points, tmp_path, name, change, words):
    arrays = dict(np.load(with_points))
    values = arrays.pop(name)
    np.savez(tmp_path / "hostile.npz", **arrays, **({name: change(values)} if change else {}))
    with pytest.raises(DriveFileError, match=rf"hostile.npz: {words}.*delete it"):
        SimulatedDrive(tmp_path / "hostile.npz")


def test_a_network_that_learns_from_points_learns_from_a_simulated_drive(tmp_path):
    network = write_network(
        tmp_path,
        truth="points",
        label_key="nuscenes_lidarseg_free",
        decoder={**NETWORK["decoder"], "empty_below": 0.3, "thing_head": True},
    )
    config = recipe(network, losses=LossConfig(semantic_focal=10, thing_focal=10), clip_frames=2, epochs=4)
    plan = StreetPlan(1.0, 2.0, STREET_SCALE).for_network(config.model_config)
    streets = simulated_streets(tmp_path, [STREET_SEEDS[0]], output_geometry(config.model_config), plan, workers=1)
    trained(config, tmp_path / "out", streets)
    _, *rows = curve_without_seconds(tmp_path / "out")
    losses = [float(row[1]) for row in rows]
    assert len(losses) == 8 and losses[-1] < 0.8 * losses[0]


def test_what_is_there_is_not_rendered_again(folder, geometry):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    seen = []
    streets = simulated_streets(folder, STREET_SEEDS, geometry, PLAN, workers=1, progress=lambda *n: seen.append(n))
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == before
    assert len(streets) == 3 and seen == [] and isinstance(streets, SimulatedStreets)
    assert [drive.name for drive in streets] == [path.stem for path in streets.paths]


def test_damaged_files_are_refused(path, tmp_path):
    whole, random = path.read_bytes(), np.random.default_rng(0)
    target = tmp_path / "damaged.npz"
    damaged = [whole[: int(len(whole) * share)] for share in (0.0, 0.1, 0.5, 0.999)]
    for place in random.integers(0, len(whole), 12):  # a byte here, a page there
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        damaged.append(whole[:place] + bytes(400) + whole[place + 400 :])
    refused = 0
    for content in damaged:
        target.write_bytes(content)
        try:
            SimulatedDrive(target)
        except DriveFileError as error:
            assert "damaged.npz" in str(error) and "delete it" in str(error)
            refused += 1
    assert refused >= len(damaged) - 4  # a few bytes of an archive mean nothing


def test_other_arrays_are_refused(path, tmp_path):
    arrays = dict(np.load(path))
    target = tmp_path / "other.npz"
    for change in (
        {"class_id": None},
        {"jpeg.size": None},
        {"camera_mask": arrays["camera_mask"][:2]},
        {"camera.name": arrays["camera.name"][:3]},
        {"boxes.yaw_rad": arrays["boxes.yaw_rad"][:-1]},
    ):
        np.savez(target, **{k: v for k, v in {**arrays, **change}.items() if v is not None})
        with pytest.raises(DriveFileError, match="not a whole simulated drive"):
            SimulatedDrive(target)
    target.write_text("text")
    with pytest.raises(DriveFileError):
        SimulatedDrive(target)


@pytest.fixture(scope="module")
def arrays(path) -> dict[str, np.ndarray]:
    return dict(np.load(path))


def moved_by_one(values):
    """The same sum, one part negative."""
    values = values.copy()
    values[0], values[1] = -1, values[0] + values[1] + 1
    return values


HOSTILE = {
    "class ids of eight bytes": ("class_id", lambda a: a.astype(np.int64), "class_id is int64"),
    "floating stamps": ("stamp_ns", lambda a: a.astype(float), "stamp_ns is float64"),
    "byte names": ("camera.name", lambda a: a.astype("S"), "camera.name"),
    "pickled names": ("camera.name", lambda a: a.astype(object), "camera.name"),
    "images that end early": ("jpeg", lambda a: a[:-1], "jpeg.size has"),
    "images that end late": ("jpeg", lambda a: np.append(a, a[:1]), "jpeg.size has"),
    "a negative image": ("jpeg.size", moved_by_one, "jpeg.size has -1"),
    "a negative count of boxes": ("boxes.count", moved_by_one, "boxes.count has -1"),
    "too many boxes": ("boxes.count", lambda a: a + 1, "boxes.count has"),
    "counts that overflow": ("boxes.count", lambda a: a + 2**62, "boxes.count has"),
    "a short mask": ("camera_mask", lambda a: a[:, :-1], "camera_mask is uint8"),
    "a grid without voxels": ("grid.shape_xyz", lambda a: a * 0, "a grid of .* empty or larger"),
    "a negative grid": ("grid.shape_xyz", lambda a: a * (1, -1, -1), "a grid of .* empty or larger"),
    "a giant grid": ("grid.shape_xyz", lambda a: a * 2**20, "a grid of .* empty or larger"),
    "voxels without size": ("grid.voxel_size_m", lambda a: a * 0, "grid.voxel_size_m"),
    "a grid that is no pose": ("grid.ego_from_grid", lambda a: a * 2, "grid.ego_from_grid"),
}


@pytest.mark.parametrize("name, change, words", HOSTILE.values(), ids=HOSTILE)
def test_arrays_that_contradict_each_other_are_refused(arrays, tmp_path, name, change, words):
    np.savez(tmp_path / "hostile.npz", **{**arrays, name: change(arrays[name])})
    with pytest.raises(DriveFileError, match=rf"hostile.npz: {words}.*delete it"):
        SimulatedDrive(tmp_path / "hostile.npz")


def with_header(source, target, name, shape):
    """The file with another shape in one array's header."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            content = old.read(member)
            if member == f"{name}.npy":
                head = io.BytesIO()
                np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
                content = head.getvalue() + bytes(1000)
            new.writestr(member, content)


@pytest.mark.parametrize(
    "name, shape, words",
    [
        ("jpeg", (1 << 45,), "more than 4294967296"),
        ("jpeg", (1 << 70,), "more than 4294967296"),
        ("jpeg", (1 << 30,), "jpeg has not the length that it says"),
        ("jpeg", (-5,), "jpeg has the shape"),
        ("class_id", (1 << 45, 1), "class_id is uint8"),
        ("stamp_ns", (1 << 45,), "more than 4294967296"),
    ],
)
def test_headers_that_promise_giants_are_refused_before_memory_is_taken(path, tmp_path, name, shape, words):
    with_header(path, tmp_path / "giant.npz", name, shape)
    tracemalloc.start()
    try:
        with pytest.raises(DriveFileError, match=words):
            SimulatedDrive(tmp_path / "giant.npz")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_array_of_a_drive_is_not_read(path, tmp_path):
    target = tmp_path / "bomb.npz"
    target.write_bytes(path.read_bytes())
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npy", bytes(128 << 20))
    tracemalloc.start()
    try:
        assert len(SimulatedDrive(target)) == 4
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_jpeg_that_promises_a_giant_is_refused_before_it_is_decoded(arrays, tmp_path):
    data = arrays["jpeg"].copy()
    first = data[: arrays["jpeg.size"][0]].tobytes()
    place = first.index(b"\xff\xc0")
    data[place + 5 : place + 9] = 0xFF
    np.savez(tmp_path / "giant.npz", **{**arrays, "jpeg": data})
    with pytest.raises(DriveFileError, match="image 0 .*65535x65535 is outside"):
        SimulatedDrive(tmp_path / "giant.npz").frame(0)


def test_a_drive_that_could_not_be_read_again_is_not_rendered(tmp_path, geometry):
    giant = replace(geometry, shape_xyz=(400, 400, 400))
    with pytest.raises(ValueError, match="make it shorter"):
        render_drive(tmp_path / "giant.npz", 1, StreetPlan(60.0, 2.0), giant)
    assert not list(tmp_path.iterdir())


def test_what_no_vehicle_can_report_is_refused_on_the_way_out(path, tmp_path):
    arrays = dict(np.load(path))
    target = tmp_path / "broken.npz"
    poses = arrays["world_from_ego"].copy()
    poses[1, 0, 3] = np.nan
    np.savez(target, **{**arrays, "world_from_ego": poses})
    drive = SimulatedDrive(target)
    assert drive.frame(0).stamp_ns > 0
    with pytest.raises(ValueError, match="world_from_ego"):
        drive.frame(1)
    np.savez(target, **{**arrays, "jpeg": np.zeros_like(arrays["jpeg"])})
    with pytest.raises(DriveFileError, match="image 0 cannot be decoded"):
        SimulatedDrive(target).frame(0)


def test_a_scene_without_things_has_empty_boxes(path, tmp_path):
    arrays = dict(np.load(path))
    empty = {name: values[:0] for name, values in arrays.items() if name.startswith("boxes.") and name != "boxes.count"}
    np.savez(tmp_path / "empty.npz", **{**arrays, **empty, "boxes.count": np.zeros(4, int)})
    found = SimulatedDrive(tmp_path / "empty.npz").truth(3).boxes
    assert len(found) == 0 and found.centre_m.shape == (0, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"rate_hz": 0},
        {"rate_hz": 31},
        {"seconds": 0.1},
        {"seconds": 251},
        {"seconds": float("nan")},
        {"jpeg_quality": 0},
    ],
)
def test_plans_that_make_no_drive_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        StreetPlan(**bad)


KILLED = """
import sys
from pathlib import Path
import numpy as np
from panoocc_core.data import simulated_drive
arrays = {f"a{i}": np.frombuffer(np.random.default_rng(i).bytes(1 << 22), np.uint8) for i in range(40)}
simulated_drive._write_whole(Path(sys.argv[1]), arrays)
"""


def test_a_process_that_is_killed_while_writing_leaves_no_file_that_looks_whole(tmp_path):
    target = tmp_path / "street.npz"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(target)], env=environment)
    try:
        deadline = time.monotonic() + 200
        while not any(part.stat().st_size for part in tmp_path.glob("*.part")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(tmp_path.glob("*.npz")) and not target.exists()


def test_what_killed_renderers_left_is_removed_when_streets_are_rendered(tmp_path, geometry, monkeypatch):
    """Parts of living processes and of other machines stay: somebody may be writing them."""
    monkeypatch.setattr(simulated, "_render_all", lambda missing, *_: iter(()))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name, here = "street-0123456789-000001.npz", platform.node()
    parts = {
        "dead": tmp_path / f"{name}.{here}.{process.pid}.part",
        "own": tmp_path / f"{name}.{here}.{os.getpid()}.part",
        "elsewhere": tmp_path / f"{name}.not-{here}.{process.pid}.part",
        "no number": tmp_path / f"{name}.{here}.0.part",
        "other": tmp_path / f"notes.{here}.{process.pid}.part",
    }
    try:
        for part in parts.values():
            part.write_bytes(b"half")
        simulated_streets(tmp_path, [1], geometry, PLAN)
        assert all(part.exists() for part in parts.values())
    finally:
        process.kill()
        process.communicate()
    simulated_streets(tmp_path, [1], geometry, PLAN)
    assert {kind for kind, part in parts.items() if not part.exists()} == {"dead"}


def test_a_part_is_named_after_who_writes_it(tmp_path, monkeypatch, geometry):
    seen = []
    monkeypatch.setattr(np, "savez_compressed", lambda file, **columns: seen.append(Path(file.name).name))
    render_drive(tmp_path / "street-1.npz", 3, StreetPlan(0.5, 2.0, 0.03), geometry)
    assert seen == [f"street-1.npz.{platform.node()}.{os.getpid()}.part"]


@pytest.mark.parametrize("workers", [0, -3])
def test_less_than_one_process_is_refused(folder, geometry, workers):
    with pytest.raises(ValueError, match=f"workers must be at least 1, not {workers}"):
        simulated_streets(folder, STREET_SEEDS, geometry, PLAN, workers=workers)


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch, geometry):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        render_drive(tmp_path / "street.npz", 3, StreetPlan(0.5, 2.0, 0.03), geometry)
    assert not list(tmp_path.iterdir())
