"""Pictures of occupancies: things appear where they are, in their colours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core.geometry import rigid
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_core.pictures.render import (
    birds_eye_view,
    camera_rows,
    contact_sheet,
    hint,
    legend,
    perspective,
    write_png,
)
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.sim import Scene, truth
from panoocc_core.sim.shapes import yaw_rotations
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy

FREE, RED, GREY = OCC3D.names.index("free"), OCC3D.names.index("pedestrian"), OCC3D.names.index("driveable_surface")


def geometry(shape: tuple[int, int, int] = (40, 40, 8), size: float = 1.0, yaw_rad: float = 0.0) -> GridGeometry:
    rotation = yaw_rotations(np.array([yaw_rad]))[0].astype(float)
    corner = rotation @ np.array([-shape[0] * size / 2, -shape[1] * size / 2, -1.0])
    return GridGeometry(shape, (size, size, size), rigid(rotation, corner))


def scene_with(points_m: list[tuple[float, float, float]], grid: GridGeometry) -> VoxelVolume:
    """Grey ground, and red voxels around points of the ego frame."""
    class_id = np.full(grid.shape_xyz, FREE, np.uint8)
    class_id[:, :, 0] = GREY
    for point in points_m:
        local = (np.array(point) - grid.ego_from_grid[:3, 3]) @ grid.ego_from_grid[:3, :3] / grid.voxel_size_m
        ix, iy, iz = np.floor(local).astype(int)
        class_id[ix - 1 : ix + 2, iy - 1 : iy + 2, iz : iz + 2] = RED
    return VoxelVolume(class_id, grid, OCC3D)


def red(picture: np.ndarray) -> np.ndarray:
    """Rows and columns [n, 2] of strongly red pixels, but not of the ego vehicle's arrow in the middle."""
    r, g, b = (picture[..., i].astype(int) for i in range(3))
    found = np.argwhere((r > 110) & (g < r * 0.45) & (b < r * 0.45))
    middle = np.array(picture.shape[:2]) / 2
    return found[np.abs(found - middle).max(axis=1) > 0.12 * max(picture.shape)]


@pytest.mark.parametrize("yaw_rad", [0.0, 0.6, -1.5708, 3.0])
@pytest.mark.parametrize(
    ("point", "row_sign", "column_sign"),
    [((14.5, 0.5, 0.5), -1, 0), ((-14.5, 0.5, 0.5), 1, 0), ((0.5, 12.5, 0.5), 0, -1), ((0.5, -12.5, 0.5), 0, 1)],
)
def test_birds_eye_view_has_ahead_above_and_left_on_the_left(
    point: tuple[float, float, float], row_sign: int, column_sign: int, yaw_rad: float
) -> None:
    picture = birds_eye_view(scene_with([point], geometry(yaw_rad=yaw_rad)), 400)
    extent = 40 if yaw_rad in (0.0, -1.5708) else 40 * (abs(np.cos(yaw_rad)) + abs(np.sin(yaw_rad)))
    found = red(picture)
    assert len(found) > 100
    scale = 400 / extent
    expected = (400 / 2 - point[0] * scale, 400 / 2 - point[1] * scale)
    np.testing.assert_allclose(found.mean(axis=0), expected, atol=1.3 * scale)
    offset = found.mean(axis=0) - 200
    assert row_sign * offset[0] >= 0 if row_sign else abs(offset[0]) < 25
    assert column_sign * offset[1] >= 0 if column_sign else abs(offset[1]) < 25


def test_birds_eye_view_shows_the_topmost_class() -> None:
    grid = geometry()
    class_id = np.full(grid.shape_xyz, FREE, np.uint8)
    class_id[30:34, 18:22, 0] = RED
    class_id[30:34, 18:22, 5] = OCC3D.names.index("vegetation")
    assert len(red(birds_eye_view(VoxelVolume(class_id, grid, OCC3D), 400))) == 0
    class_id[30:34, 18:22, 6] = RED
    assert len(red(birds_eye_view(VoxelVolume(class_id, grid, OCC3D), 400))) > 500


def test_higher_voxels_are_lighter() -> None:
    grid, brightness = geometry(), []
    for layer in (1, 6):
        class_id = np.full(grid.shape_xyz, FREE, np.uint8)
        class_id[:, :, layer] = GREY
        brightness.append(float(birds_eye_view(VoxelVolume(class_id, grid, OCC3D), 200)[60:80, 20:40].mean()))
    assert brightness[1] > brightness[0] * 1.1


def test_3d_view_puts_far_above_near_and_left_on_the_left() -> None:
    def middle(point: tuple[float, float, float]) -> np.ndarray:
        found = red(perspective(scene_with([point], geometry()), 600, 420))
        assert len(found) > 60
        return found.mean(axis=0)

    assert middle((15.5, 0.5, 0.5))[0] < middle((-12.5, 0.5, 0.5))[0] - 80
    assert middle((8.5, 12.5, 0.5))[1] < middle((8.5, -12.5, 0.5))[1] - 80
    assert middle((8.5, 8.5, 4.5))[0] < middle((8.5, 8.5, 0.5))[0] - 15


def test_3d_view_hides_what_stands_behind() -> None:
    grid = geometry()
    voxels = scene_with([(12.5, 0.5, 0.5)], grid)
    walled = voxels.class_id.copy()
    walled[28:30, 10:30, :] = OCC3D.names.index("manmade")
    hidden = len(red(perspective(VoxelVolume(walled, grid, OCC3D), 600, 420)))
    assert hidden < 0.5 * len(red(perspective(voxels, 600, 420)))


def test_a_turned_grid_draws_the_same_street() -> None:
    scene = Scene(3, 4)
    flat = geometry((160, 160, 16), 0.4)
    turned = geometry((160, 160, 16), 0.4, yaw_rad=np.pi / 2)
    first, second = (VoxelVolume(truth(scene, g, 1.0).class_id, g, OCC3D) for g in (flat, turned))
    assert not np.array_equal(first.class_id, second.class_id)
    for draw in (birds_eye_view, perspective):
        a, b = draw(first).astype(int), draw(second).astype(int)
        other = draw(VoxelVolume(first.class_id, turned, OCC3D)).astype(int)
        assert np.abs(a - b).mean() < 2.5 < 20 < np.abs(a - other).mean()


def test_without_a_free_class_one_voxel_per_column_is_drawn() -> None:
    grid = geometry()
    random = np.random.default_rng(0)
    class_id = random.integers(1, 17, grid.shape_xyz).astype(np.uint8)
    confidence = np.full(grid.shape_xyz, 10, np.uint8)
    walker = LIDARSEG.names.index("pedestrian")
    class_id[30:34, 18:22, 2], confidence[30:34, 18:22, 2] = walker, 250
    class_id[5:9], confidence[5:9] = 0, 255  # noise, however sure, is never drawn
    voxels = VoxelVolume(class_id, grid, LIDARSEG, confidence)
    drawn = voxels.drawn()
    assert (drawn.sum(axis=2)[9:] == 1).all() and not drawn[5:9].any()
    layer, height_m = voxels.top()
    assert (layer[30:34, 18:22] == 2).all() and (layer[5:9] == -1).all()
    assert (height_m[30:34, 18:22] == 2.0).all()  # the grid begins 1 m below, its voxels are 1 m high
    common = np.full(grid.shape_xyz, LIDARSEG.names.index("terrain"), np.uint8)
    common[..., :3] = walker
    assert (VoxelVolume(common, grid, LIDARSEG).top()[0] >= 3).all()


def test_legend_names_only_what_is_there() -> None:
    voxels = scene_with([(5.5, 5.5, 0.5)], geometry())
    picture = legend(voxels, 900)
    for name, there in (("pedestrian", True), ("driveable_surface", True), ("bus", False)):
        colour = OCC3D.colours[OCC3D.names.index(name)]
        assert (picture == colour).all(axis=2).any() == there, name
    empty = VoxelVolume(np.full((4, 4, 4), FREE, np.uint8), geometry((4, 4, 4)), OCC3D)
    assert legend(empty, 300).shape[1] == 300


def test_pictures_of_an_empty_and_of_a_tiny_volume() -> None:
    empty = VoxelVolume(np.full((40, 40, 8), FREE, np.uint8), geometry(), OCC3D)
    assert birds_eye_view(empty).shape == (700, 700, 3)
    assert perspective(empty, 320, 200).shape == (200, 320, 3)
    tiny = VoxelVolume(np.full((1, 2, 1), RED, np.uint8), geometry((1, 2, 1)), OCC3D)
    assert birds_eye_view(tiny, 64).shape == (32, 64, 3)


def test_what_colours_beside_the_legend_mean_is_said() -> None:
    voxels = scene_with([(5.5, 5.5, 0.5)], geometry())
    assert hint(voxels, None) == ""
    dark = replace(voxels, visible=np.zeros(voxels.class_id.shape, bool)).faded()
    assert hint(dark, None) == "   (dark: no camera sees it)"
    assert hint(voxels, [0]) == "   (things with a number have a colour of their own)"


def test_contact_sheet_holds_every_camera_and_says_the_note(tmp_path: Path) -> None:
    voxels = scene_with([(14.5, 0.5, 0.5)], geometry())
    colours = {"CAM_FRONT": (200, 10, 10), "CAM_FRONT_LEFT": (10, 200, 10), "CAM_FRONT_RIGHT": (10, 10, 200)}
    colours |= {"CAM_BACK": (200, 200, 10), "CAM_BACK_LEFT": (10, 200, 200), "CAM_BACK_RIGHT": (200, 10, 200)}
    images = {name: np.full((90, 160, 3), colour, np.uint8) for name, colour in colours.items()}
    sheet = contact_sheet(images, voxels, "title", "weights: seeded, not trained")
    assert sheet.shape[1] == 1800 and sheet.dtype == np.uint8
    middles = {}
    for name, colour in colours.items():
        found = np.argwhere((np.abs(sheet.astype(int) - colour) < 4).all(axis=2))
        assert len(found) > 50_000, name
        middles[name] = found.mean(axis=0)
    assert middles["CAM_FRONT_LEFT"][1] < middles["CAM_FRONT"][1] < middles["CAM_FRONT_RIGHT"][1]
    assert middles["CAM_FRONT"][0] < middles["CAM_BACK"][0]
    amber = (sheet == (255, 196, 70)).all(axis=2).sum()
    assert amber > 5000 > (contact_sheet(images, voxels, "title") == (255, 196, 70)).all(axis=2).sum()
    write_png(tmp_path / "sheet.png", sheet)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("names", [("only",), ("rear",), ("front", "left", "right", "rear", "top")])
def test_contact_sheet_takes_any_rig(names: tuple[str, ...]) -> None:
    images = {name: torch.zeros(60, 80, 3, dtype=torch.uint8) for name in names}
    assert contact_sheet(images, scene_with([], geometry()), "t", width_px=900).shape[1] == 900  # type: ignore[arg-type]


def test_camera_rows_go_from_left_to_right() -> None:
    rows = camera_rows(("CAM_BACK_RIGHT", "CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT", "CAM_BACK_LEFT"))
    assert rows == (["CAM_FRONT_LEFT", "CAM_FRONT"], ["CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"])


def test_bad_input_is_refused_with_its_name() -> None:
    voxels = scene_with([], geometry())
    with pytest.raises(ValueError, match="camera a"):
        contact_sheet({"a": np.zeros((4, 4), np.uint8)}, voxels, "t")
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet({}, voxels, "t")
    with pytest.raises(ValueError, match="class_id"):
        VoxelVolume(np.zeros((2, 2, 2), np.uint8), geometry(), OCC3D)
    for name, kind in (("instance_id", np.int32), ("faint", bool)):
        with pytest.raises(ValueError, match=name):
            replace(voxels, **{name: np.zeros((2, 2, 2), kind)})
    with pytest.raises(ValueError, match="class 99"):
        VoxelVolume(np.full((40, 40, 8), 99, np.uint8), geometry(), OCC3D)
    with pytest.raises(OSError):
        write_png(Path("/nowhere/at/all.png"), np.zeros((2, 2, 3), np.uint8))


def test_an_occupancy_is_drawn_like_its_voxels() -> None:
    voxels = scene_with([(14.5, 0.5, 0.5)], geometry())
    occupancy = Occupancy(
        stamp_ns=0,
        oldest_image_stamp_ns=0,
        newest_image_stamp_ns=0,
        class_id=torch.as_tensor(voxels.class_id),
        confidence=None,
        instance_id=None,
        geometry=voxels.geometry,
        labels=OCC3D,
        cameras=(),
        history=HistoryReport(),
    )
    assert np.array_equal(birds_eye_view(occupancy), birds_eye_view(voxels))
