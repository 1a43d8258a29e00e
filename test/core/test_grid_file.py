"""Files of grids: what was written is read again, and what is no such file is told apart without harm."""

import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import panoocc_core as panoocc
from panoocc_core.geometry import rigid
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_core.planning import KnownSpace, ground_ids
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy, ScoredBoxes

SHAPE = (5, 4, 3)


@pytest.fixture
def occupancy() -> Occupancy:
    random = np.random.default_rng(0)
    turn = np.array([(0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])

    def some(count: int, *shape: int) -> np.ndarray:
        return random.uniform(0.5, 2.0, (count, *shape)).astype(np.float32)

    return Occupancy(
        stamp_ns=2**60 + 1,
        oldest_image_stamp_ns=2**60 - 5,
        newest_image_stamp_ns=2**60 + 7,
        class_id=torch.from_numpy(random.integers(0, 18, SHAPE, np.uint8)),
        confidence=torch.from_numpy(random.integers(0, 256, SHAPE, np.uint8)),
        instance_id=torch.from_numpy(random.integers(0, 3, SHAPE, np.int32)),
        visible=torch.from_numpy(random.random(SHAPE) < 0.5),
        geometry=GridGeometry(SHAPE, (0.4, 0.5, 0.6), rigid(turn, np.array([-1.0, 2.0, 0.5]))),
        labels=OCC3D,
        cameras=(),
        history=HistoryReport(),
        boxes=ScoredBoxes(
            some(2, 3), some(2, 3), some(2), some(2, 2), np.array([0, 8]), some(2), np.array([1, 2], np.int32)
        ),
        instances="boxes",
    )


def same(mine, theirs) -> bool:
    if hasattr(mine, "__dataclass_fields__"):
        return all(same(getattr(mine, one.name), getattr(theirs, one.name)) for one in fields(mine))
    return np.array_equal(mine, theirs) if isinstance(mine, (np.ndarray, torch.Tensor)) else mine == theirs


def test_what_was_saved_is_loaded_and_answers_a_planner(occupancy, tmp_path):
    panoocc.save_grid(tmp_path / "grid.npz", occupancy)
    loaded = panoocc.load_grid(tmp_path / "grid.npz")
    assert same(loaded, occupancy) and same(loaded.boxes, occupancy.boxes)
    spaces = [KnownSpace.of(one, ignored=ground_ids(one.labels)) for one in (loaded, occupancy)]
    np.testing.assert_array_equal(spaces[0].state, spaces[1].state)
    assert len(np.unique(spaces[0].state)) == 3


def test_what_was_not_known_is_not_known_again(occupancy, tmp_path):
    bare = replace(
        occupancy,
        class_id=torch.zeros(SHAPE, dtype=torch.uint8).permute(2, 1, 0),
        geometry=replace(occupancy.geometry, shape_xyz=SHAPE[::-1]),
        labels=LIDARSEG,
        boxes=None,
        instances="none",
        **dict.fromkeys(("confidence", "instance_id", "visible")),
    )
    panoocc.save_grid(tmp_path / "grid.npz", bare)
    assert same(panoocc.load_grid(tmp_path / "grid.npz"), bare)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"class_id": None}, "no array 'class_id'"),
        ({"label_set": None}, "no array 'label_set'.* of this version"),
        ({"class_id": np.zeros((5, 4), np.uint8)}, "class_id has the shape"),
        ({"class_id": np.zeros(SHAPE, np.int64)}, "class_id is int64"),
        ({"class_id": np.full(SHAPE, 18, np.uint8)}, "class_id has 18"),
        ({"visible": np.ones((5, 4, 4), bool)}, "visible is bool"),
        ({"class_names": np.array(["x" * 300] * 18)}, "class_names is <U300"),
        ({"class_names": np.array(["x", None], object)}, "class_names is object"),
        ({"class_names": np.array([], np.str_)}, "free_id"),
        ({"free_id": np.int64(18)}, "free_id 18"),
        ({"ego_from_grid": np.zeros((4, 4))}, "ego_from_grid is not a rigid"),
        ({"voxel_size_m": np.array([0.4, np.nan, 0.4])}, "voxel_size_m"),
        ({"instances": np.array("guesses")}, "instances is 'guesses'"),
        ({"box_class": np.array(["car", "cow"])}, "box_class has 'cow'"),
        ({"box_size_m": np.zeros((2, 3), np.float32)}, "size"),
        ({"box_score": np.zeros(3, np.float32)}, "box_score"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(change, word, occupancy, tmp_path):
    path = tmp_path / "grid.npz"
    panoocc.save_grid(path, occupancy)
    with np.load(path) as grid:
        arrays = {name: grid[name] for name in grid} | change
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    with pytest.raises(panoocc.DataError, match=word) as caught:
        panoocc.load_grid(path)
    assert str(path) in str(caught.value)


def test_files_that_are_none_are_refused(occupancy, tmp_path):
    path = tmp_path / "grid.npz"
    with pytest.raises(panoocc.DataError, match="no such file"):
        panoocc.load_grid(path)
    panoocc.save_grid(path, occupancy)
    whole = path.read_bytes()
    for cut in (0, 100, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(panoocc.DataError, match="cannot be read"):
            panoocc.load_grid(path)
    for place in range(60, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            panoocc.load_grid(path)
        except panoocc.DataError as error:
            assert str(path) in str(error)


def test_a_giant_is_refused_before_memory_is_taken(occupancy, tmp_path):
    path = tmp_path / "grid.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("class_id.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**20, 2**20)}
        )
    with pytest.raises(panoocc.DataError, match="no volume of up to 64000000"):
        panoocc.load_grid(path)
