"""True voxels: whatever a camera sees lies in an occupied voxel, on any grid; what moves moves."""

import numpy as np
import pytest

from panoocc_core.geometry import invert, rigid
from panoocc_core.labels import OCC3D
from panoocc_core.sim import Renderer, Scene, SimCamera, nuscenes_rig, truth
from panoocc_core.sim.shapes import yaw_rotations
from panoocc_core.types import GridGeometry

FREE = OCC3D.names.index("free")
RIG = nuscenes_rig(0.1)


def grid(shape: tuple[int, int, int], size: tuple[float, float, float], yaw_rad: float = 0.0) -> GridGeometry:
    """A grid from -1 m upwards whose middle is the ego vehicle's."""
    rotation = yaw_rotations(np.array([yaw_rad]))[0].astype(float)
    corner = rotation @ np.array([-shape[0] * size[0] / 2, -shape[1] * size[1] / 2, -1.0])
    return GridGeometry(shape, size, rigid(rotation, corner))


GRIDS = {
    "occ3d": grid((200, 200, 16), (0.4, 0.4, 0.4)),
    "turned": grid((100, 100, 12), (0.5, 0.5, 0.5), yaw_rad=0.7),
    "flat voxels": grid((128, 128, 40), (0.4, 0.4, 0.16)),
    "coarse": grid((50, 50, 8), (1.6, 1.6, 0.8), yaw_rad=-1.58),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(seed=5, seconds=6)


@pytest.fixture(scope="module")
def renderer(scene: Scene) -> Renderer:
    return Renderer(scene)


def voxels_seen(camera: SimCamera, depth_m: np.ndarray, geometry: GridGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels [h, w] see something in the grid, and the voxel index [n, 3] of each, just below the surface."""
    v, u = np.indices(depth_m.shape)
    seen = np.isfinite(depth_m)
    depth = np.where(seen, depth_m, 0).astype(float) + 2e-3
    k = camera.intrinsics
    points = np.stack(((u - k[0, 2]) / k[0, 0] * depth, (v - k[1, 2]) / k[1, 1] * depth, depth), axis=-1)
    grid_from_camera = invert(geometry.ego_from_grid) @ camera.ego_from_camera
    local = points @ grid_from_camera[:3, :3].T + grid_from_camera[:3, 3]
    index = np.floor(local / geometry.voxel_size_m).astype(int)
    seen &= ((index >= 0) & (index < geometry.shape_xyz)).all(axis=-1)
    return seen, index[seen]


@pytest.mark.parametrize("name", GRIDS)
def test_what_cameras_see_lies_in_occupied_voxels(name: str, scene: Scene, renderer: Renderer) -> None:
    geometry, time_s = GRIDS[name], 2.0
    true = truth(scene, geometry, time_s)
    same, total = 0, 0
    for camera in RIG:
        picture = renderer.picture(camera, time_s)
        seen, index = voxels_seen(camera, picture.depth_m, geometry)
        found = true.class_id[tuple(index.T)]
        assert seen.sum() > 1000
        assert (found != FREE).mean() > 0.9995, camera.name  # rays that graze an edge may leave it within 2 mm
        same += int((found == picture.class_id[seen]).sum())
        total += len(found)
    assert same / total > (0.8 if name == "coarse" else 0.94)


def test_pixels_of_an_instance_lie_in_its_voxels(scene: Scene, renderer: Renderer) -> None:
    geometry = GRIDS["occ3d"]
    true, picture = truth(scene, geometry, 2.0), renderer.picture(RIG[0], 2.0)
    seen, index = voxels_seen(RIG[0], picture.depth_m, geometry)
    thing = picture.instance_id[seen] > 0
    assert thing.sum() > 200
    assert (true.instance_id[tuple(index[thing].T)] == picture.instance_id[seen][thing]).mean() > 0.9


def test_a_shutter_at_another_time_breaks_the_agreement(scene: Scene, renderer: Renderer) -> None:
    """The check above is sharp: half a second of motion is seen."""
    geometry = GRIDS["occ3d"]
    true, picture = truth(scene, geometry, 2.0), renderer.picture(RIG[0], 2.5)
    seen, index = voxels_seen(RIG[0], picture.depth_m, geometry)
    assert (true.class_id[tuple(index.T)] != FREE).mean() < 0.99


def test_air_and_ground_are_where_they_should_be(scene: Scene) -> None:
    true = truth(scene, GRIDS["occ3d"], 0.0)
    assert (true.class_id[:, :, :2] == FREE).mean() > 0.99  # below the ground layer, but for what stands in it
    assert (true.class_id[:, :, 2] != FREE).all()  # the layer of z = 0
    assert (true.class_id[100:109, 98:103, 3:] == FREE).all()  # around the ego vehicle
    assert true.class_id[102, 100, 2] == OCC3D.names.index("driveable_surface")
    assert (true.class_id != FREE).mean() < 0.5


def test_instances_are_things_of_one_class(scene: Scene) -> None:
    true = truth(scene, GRIDS["occ3d"], 1.0)
    is_thing = np.array(OCC3D.is_thing)[true.class_id]
    assert np.array_equal(true.instance_id > 0, is_thing)
    instances = np.unique(true.instance_id)[1:]
    assert len(instances) > 10
    for instance in instances:
        assert len(np.unique(true.class_id[true.instance_id == instance])) == 1


def test_a_turned_grid_holds_the_same_world(scene: Scene) -> None:
    """Voxel centres of the turned grid, looked up in the straight one, have its class almost everywhere."""
    straight, turned = truth(scene, GRIDS["occ3d"], 1.0), truth(scene, GRIDS["turned"], 1.0)
    index = np.argwhere((turned.class_id != FREE) & (turned.instance_id > 0))
    points = GRIDS["turned"].centres_m(index)
    local = points - GRIDS["occ3d"].ego_from_grid[:3, 3]
    other = np.floor(local / 0.4).astype(int)
    known = ((other >= 0) & (other < (200, 200, 16))).all(axis=1)
    near = np.zeros(known.sum(), bool)
    for shift in np.ndindex(3, 3, 3):
        place = np.clip(other[known] + np.array(shift) - 1, 0, (199, 199, 15))
        near |= straight.instance_id[tuple(place.T)] == turned.instance_id[tuple(index[known].T)]
    assert near.mean() > 0.99


def test_movers_move_and_the_rest_does_not(scene: Scene) -> None:
    before, after = scene.shapes_at(0.0), scene.shapes_at(2.0)
    way = np.linalg.norm(after.centre_m - before.centre_m, axis=1)
    assert way[~before.moving].max() == 0
    vehicles = before.moving & np.isin(before.class_id, [OCC3D.names.index(n) for n in ("car", "truck", "bus")])
    assert vehicles.any() and way[vehicles].min() > 5
    people = before.moving & (before.class_id == OCC3D.names.index("pedestrian"))
    assert people.any() and way[people].max() < 5
    assert before.moving.mean() < 0.7


def test_the_ego_vehicle_drives_ahead_on_the_road(scene: Scene) -> None:
    poses = [scene.world_from_ego(t) for t in np.arange(0, 6, 0.5)]
    for now, later in zip(poses, poses[1:]):
        ahead = (invert(now) @ later)[:3, 3]
        assert -1e-6 <= ahead[0] < 7 and abs(ahead[1]) < 0.5 and ahead[2] == 0
    x, y = np.array([pose[:2, 3] for pose in poses]).T
    assert (scene.ground.classes(x, y) == OCC3D.names.index("driveable_surface")).all()


def test_nothing_is_driven_into() -> None:
    for seed in range(6):
        scene = Scene(seed, 8)
        for time_s in (0.0, 3.0, 7.9):
            local = scene.shapes_at(time_s).centre_m - scene.world_from_ego(time_s)[:3, 3]
            local = local @ scene.world_from_ego(time_s)[:3, :3]
            assert not ((local[:, 0] > -1) & (local[:, 0] < 3.7) & (np.abs(local[:, 1]) < 0.95)).any(), (seed, time_s)


def test_all_published_classes_occur_in_a_few_streets() -> None:
    present = set()
    for seed in range(8):
        shapes = Scene(seed, 8)
        present |= set(np.unique(shapes.shapes_at(0.0).class_id)) | set(np.unique(shapes.ground.class_id))
    assert present == set(range(len(OCC3D.names))) - {FREE}


@pytest.mark.parametrize("seconds", [0, -1, 301, float("nan")])
def test_a_drive_of_no_sensible_length_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Scene(0, seconds)


def test_a_grid_beyond_reason_is_refused(scene: Scene) -> None:
    with pytest.raises(ValueError, match="larger"):
        truth(scene, grid((4000, 4000, 4000), (0.1, 0.1, 0.1)), 0.0)
