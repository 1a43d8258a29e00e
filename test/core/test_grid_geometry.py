"""When two grids count as the same: where their corners lie decides."""

from dataclasses import replace

import numpy as np

from panoocc_core.geometry import rigid
from panoocc_core.sim.camera import mounted, pinhole
from panoocc_core.sim.rig import SimCamera
from panoocc_core.sim.visibility import View, _sees, mask_from_views
from panoocc_core.types import GridGeometry

GRID = GridGeometry((200, 100, 16), (0.4, 0.4, 0.4), rigid(np.eye(3), np.array([-40.0, -20.0, -1.0])))


def turned(angle_rad):
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return rigid(np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]), GRID.ego_from_grid[:3, 3])


def moved(metres):
    pose = GRID.ego_from_grid.copy()
    pose[2, 3] += metres
    return replace(GRID, ego_from_grid=pose)


def test_equal_and_nearly_equal_grids_do_not_differ():
    assert GRID.differs_from(GRID) is None
    for near in (
        moved(9e-4),
        replace(GRID, voxel_size_m=(0.4 + 4e-6, 0.4, 0.4)),
        replace(GRID, ego_from_grid=turned(1e-6)),
    ):
        assert GRID.differs_from(near) is None and near.differs_from(GRID) is None


def test_what_differs_is_told():
    assert "it has (200, 100, 16) voxels" in GRID.differs_from(replace(GRID, shape_xyz=(200, 100, 8)))
    assert "not (200, 100, 8)" in GRID.differs_from(replace(GRID, shape_xyz=(200, 100, 8)))
    assert "voxel size" in GRID.differs_from(replace(GRID, voxel_size_m=(0.4, 0.4, 0.41)))
    assert "corner 0.002 m away" in GRID.differs_from(moved(2e-3))
    assert GRID.differs_from(moved(2e-3), tolerance_m=0.01) is None


def test_small_errors_that_add_up_over_the_grid_are_found():
    assert "voxel size" in GRID.differs_from(replace(GRID, voxel_size_m=(0.4 + 2e-5, 0.4, 0.4)))  # 4 mm at the end
    assert "corner" in GRID.differs_from(replace(GRID, ego_from_grid=turned(1e-4)))  # 9 mm at the far corner


def test_what_is_not_finite_differs():
    assert GRID.differs_from(moved(np.nan)) and moved(np.nan).differs_from(GRID)
    assert GRID.differs_from(replace(GRID, voxel_size_m=(0.4, np.nan, 0.4)))


def test_visibility_in_blocks_is_that_of_all_voxels_at_once():
    """GRID has more voxels than a block, and no whole number of blocks."""
    camera = SimCamera("ahead", 64, 48, pinhole(64, 48, 90.0), mounted((0.0, 0.0, 1.0), 0.0))
    depth = np.random.default_rng(0).uniform(2, 60, (48, 64)).astype(np.float32)
    poses = (mounted((0.3, 0.1, 1.2), 20.0), mounted((0.0, 0.0, 1.5), 190.0))
    views = [View(camera, pose, depth) for pose in poses]
    centres = (np.indices(GRID.shape_xyz).reshape(3, -1).T + 0.5) * np.asarray(GRID.voxel_size_m)
    at_once = [_sees(view, centres, GRID.ego_from_grid, np.asarray(GRID.voxel_size_m)) for view in views]
    seen = mask_from_views(views, GRID, np.eye(4))
    assert np.array_equal(seen, (at_once[0] | at_once[1]).reshape(GRID.shape_xyz)) and 0.01 < seen.mean() < 0.9
