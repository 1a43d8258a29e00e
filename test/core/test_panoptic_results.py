"""The folder for nuScenes' panoptic challenge, read as its documentation says; numbers of instances within a scene."""

import json
from pathlib import Path

import numpy as np
import pytest

from panoocc_core.data import DataError
from panoocc_core.data.panoptic_results import PanopticResults, SceneNumbers
from panoocc_core.labels import LIDARSEG

CAR, PEDESTRIAN, ROAD = (LIDARSEG.names.index(name) for name in ("car", "pedestrian", "driveable_surface"))


def numbers_of(scene: SceneNumbers, *pairs: tuple[int, int]) -> list[int]:
    class_id, instance_id = np.array(pairs).T
    return scene.of_frame(class_id, instance_id).tolist()


def test_instances_of_each_class_count_from_one_and_keep_their_number_through_the_scene():
    scene = SceneNumbers()
    first = numbers_of(scene, (CAR, 4711), (CAR, 4711), (PEDESTRIAN, 9), (CAR, 60_000), (ROAD, 0), (CAR, 0))
    assert first == [1, 1, 1, 2, 0, 0]
    assert numbers_of(scene, (CAR, 60_000), (CAR, 12), (PEDESTRIAN, 12)) == [2, 3, 2]
    assert numbers_of(scene, (CAR, 4711)) == [1], "out of sight for one frame"
    assert numbers_of(SceneNumbers(), (CAR, 60_000)) == [1], "another scene counts anew"


def test_stuff_has_no_number_whatever_it_is_given():
    assert numbers_of(SceneNumbers(), (ROAD, 7), (0, 7)) == [0, 0]


def test_the_number_of_the_one_unseen_longest_is_given_again():
    scene = SceneNumbers()
    for instance in range(1, 1000):
        assert numbers_of(scene, (CAR, instance)) == [instance]
    assert numbers_of(scene, (CAR, 1)) == [1]
    assert numbers_of(scene, (CAR, 2000), (CAR, 3)) == [2, 3], "2 is the one unseen longest"
    assert numbers_of(scene, (CAR, 2)) == [4], "it comes back as another"
    with pytest.raises(ValueError, match="1000 instances of one class in a frame"):
        scene.of_frame(np.full(1000, CAR), np.arange(1, 1001))


def test_a_sweep_is_stored_as_the_devkit_reads_it(tmp_path):
    results = PanopticResults(tmp_path / "out", "val")
    class_id = np.array([CAR, CAR, ROAD, 0, PEDESTRIAN], np.uint8)
    results.write("0123abcd" * 4, class_id, np.array([1, 999, 0, 0, 17]))
    results.finish("tracking")
    (path,) = (tmp_path / "out").rglob("*.npz")
    assert path.relative_to(tmp_path) == Path("out/panoptic/val/0123abcd0123abcd0123abcd0123abcd_panoptic.npz")
    with np.load(path) as arrays:
        assert arrays.files == ["data"]
        data = arrays["data"]
    assert data.dtype == np.uint16 and data.tolist() == [4001, 4999, 11000, 0, 7017]
    meta = json.loads((tmp_path / "out/val/submission.json").read_text())["meta"]
    inputs = {"use_lidar": False, "use_radar": False, "use_map": False, "use_external": False}
    assert meta == {"task": "tracking", "use_camera": True, **inputs}
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize("there", ["panoptic/val/x_panoptic.npz", "val/submission.json"])
def test_results_that_are_there_are_left_alone(tmp_path, there):
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).write_text("mine")
    with pytest.raises(DataError, match="val: is there already; give a new folder"):
        PanopticResults(tmp_path, "val")
    assert (tmp_path / there).read_text() == "mine" and len(list(tmp_path.rglob("*.*"))) == 1
    PanopticResults(tmp_path, "mini_val")


@pytest.mark.parametrize("split", ["../val", "a/b", ""])
def test_a_split_names_one_folder(tmp_path, split):
    with pytest.raises(DataError, match="names a folder of the results"):
        PanopticResults(tmp_path, split)


def test_numbers_that_do_not_fit_leave_no_file(tmp_path):
    results = PanopticResults(tmp_path, "val")
    with pytest.raises(ValueError, match=r"instances 0\.\.999"):
        results.write("a" * 32, np.array([CAR]), np.array([1000]))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
