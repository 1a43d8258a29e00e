"""Orders of voxels: what one function takes apart the other ones find again."""

from dataclasses import replace

import torch

from panoocc_core import model_config
from panoocc_core.voxels import centres_m, grid_to_rows, points_to_grid, token_count, token_index, voxel_from_network


def test_a_cell_has_the_token_of_its_centre():
    grid = replace(model_config("nano").grid, rows=5, columns=7, layers=3)
    matrix = torch.from_numpy(voxel_from_network(grid))
    cells = torch.from_numpy(centres_m(grid)) @ matrix[:3, :3].T + matrix[:3, 3]
    torch.testing.assert_close(cells, cells.round(), atol=1e-9, rtol=0)
    cells = cells.round().long()
    assert cells.amax(0).tolist() == [6, 4, 2]
    assert torch.equal(token_index(cells, grid), torch.arange(token_count(grid)))


def test_rows_of_a_grid_are_the_points_that_it_was_made_from():
    points = torch.randn(3, 4, 5, 2)  # [Z, Y, X, C]
    rows = grid_to_rows(points_to_grid(points))
    assert torch.equal(rows, points.flatten(0, 2)) and rows.data_ptr() == points.data_ptr()
    assert torch.equal(grid_to_rows(points_to_grid(points)[..., 0]), rows[:, 0])
    x, y, z = 4, 1, 2
    assert torch.equal(rows[(z * 4 + y) * 5 + x], points_to_grid(points)[x, y, z])
