"""nuScenes folders: geometry from files to pixels and boxes, velocities, labels, order, choice of scenes.

Numbers called the devkit's were computed once by nuscenes-devkit 1.2.0 from the same folder.
"""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from panoocc_core.config import model_config
from panoocc_core.data import DataError, NuScenes, NuScenesDrive, check_files, open_dataset, open_splits, split_scenes
from panoocc_core.data import nuscenes as reader
from panoocc_core.data.nuscenes_labels import POINT_CLASS
from panoocc_core.geometry import check_rigid
from panoocc_core.labels import BOX_CLASSES, LIDARSEG
from panoocc_core.metrics.attributes import ATTRIBUTES
from panoocc_core.metrics.detection import Detection
from panoocc_core.models.network_frame import moved_points, network_from_ego
from panoocc_core.preprocess import cameras_in_order, pixels_from_ego
from panoocc_core.types import ScoredBoxes

from . import nuscenes_folder as by_hand


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nuscenes")
    by_hand.write_nuscenes(folder)
    return folder


@pytest.fixture(scope="module")
def nuscenes(root) -> NuScenes:
    return NuScenes(root, by_hand.VERSION)


@pytest.fixture(scope="module")
def drive(nuscenes) -> NuScenesDrive:
    return nuscenes.drives(["scene-0061"])[0]


def test_key_frames_come_in_order_of_time_whatever_the_tables_order(nuscenes):
    for drive in nuscenes.drives():
        begin_us = by_hand.BEGIN_US[drive.name]
        stamps = [drive.truth(i).stamp_ns for i in range(len(drive))]
        assert stamps == [(begin_us + t) * 1000 for t in by_hand.TIMES_US[drive.name]]
        assert [drive.sample_token(i) for i in range(3)] == [by_hand.token("sample", drive.name, i) for i in range(3)]


def test_the_reference_is_the_sweep_and_every_camera_has_its_own_time_and_pose(drive, nano):
    frame = drive.frame(1)
    time_us = by_hand.TIMES_US["scene-0061"][1]
    assert frame.stamp_ns == (by_hand.BEGIN_US["scene-0061"] + time_us) * 1000
    np.testing.assert_allclose(frame.world_from_ego, by_hand.ego_pose("scene-0061", time_us), atol=1e-9)
    assert np.array_equal(drive.world_from_ego(1), frame.world_from_ego)
    assert [camera.name for camera in cameras_in_order(frame, nano.cameras)] == list(nano.cameras)
    for camera in frame.cameras:
        lead_us = by_hand.LEAD_US[camera.name]
        assert frame.stamp_ns - camera.stamp_ns == lead_us * 1000
        expected = by_hand.ego_pose("scene-0061", time_us - lead_us)
        np.testing.assert_allclose(camera.world_from_ego, expected, atol=1e-9)
        np.testing.assert_allclose(camera.ego_from_camera, by_hand.camera_mount(camera.name), atol=1e-9)
        assert camera.size_hw == (by_hand.HEIGHT, by_hand.WIDTH)


@pytest.mark.parametrize("index", range(3))
def test_a_point_of_the_world_falls_on_its_pixel(drive, index):
    frame = drive.frame(index)
    ego = np.linalg.inv(frame.world_from_ego) @ (*by_hand.landmark("scene-0061", index), 1.0)
    assert ego[:3] == pytest.approx((14.1, 1.5, 1.3), abs=1e-6)
    camera = next(camera for camera in frame.cameras if camera.name == "CAM_FRONT")
    projected = pixels_from_ego(camera, frame) @ ego
    pixel = projected[:2] / projected[2]
    assert pixel == pytest.approx(by_hand.landmark_pixel("scene-0061", index), abs=1e-6)
    still = camera.intrinsics @ (np.linalg.inv(camera.ego_from_camera) @ ego)[:3]
    assert np.abs(still[:2] / still[2] - pixel).max() > 0.02, "the test must see the motion up to the shutter"
    red = camera.image[..., 0].numpy().astype(float)  # only the spot has any
    rows, columns = np.nonzero(red > 128)
    assert (columns.mean(), rows.mean()) == pytest.approx(pixel, abs=0.75)


def test_images_are_rgb(drive):
    back = next(camera.image for camera in drive.frame(0).cameras if camera.name == "CAM_BACK")
    assert back[..., 2].float().mean() > 100 and back[..., 0].float().mean() < 20


def test_the_sweep_is_in_the_ego_frame(drive):
    for index in range(3):
        points = drive.truth(index).points
        assert points.position_m.dtype == np.float32
        assert points.position_m[0] == pytest.approx((14.1, 1.5, 1.3), abs=1e-4)


def expected_box(scene: str, thing: by_hand.Thing, index: int) -> tuple[np.ndarray, float]:
    """Middle and heading in the ego frame."""
    time_us = by_hand.TIMES_US[scene][index]
    ego_from_world = np.linalg.inv(by_hand.ego_pose(scene, time_us))
    middle = np.array(thing.start) + (*(np.array(thing.velocity) * time_us * 1e-6), 0.0)
    ahead = ego_from_world[:3, :3] @ by_hand.turn(thing.yaw_deg)[:, 0]
    return (ego_from_world @ (*middle, 1.0))[:3], np.arctan2(ahead[1], ahead[0])


def test_boxes_land_where_they_are(drive):
    """What is no detection class, or has not one point in a frame, is left out."""
    present = {0: (0, 1, 2, 3), 1: (0,), 2: (0, 2, 3)}
    names = ("car", "pedestrian", "truck", "bus")
    for index, things in present.items():
        boxes = drive.truth(index).boxes
        assert [BOX_CLASSES[k] for k in boxes.class_id] == [names[k] for k in things]
        for row, k in enumerate(things):
            thing = by_hand.THINGS["scene-0061"][k]
            middle, yaw = expected_box("scene-0061", thing, index)
            width, length, height = thing.size
            assert boxes.centre_m[row] == pytest.approx(middle, abs=1e-4)
            assert boxes.size_m[row] == pytest.approx((length, width, height))
            assert boxes.yaw_rad[row] == pytest.approx(yaw, abs=1e-5)


def test_instances_keep_their_number(drive):
    ids = [set(drive.truth(i).boxes.instance_id.tolist()) for i in range(3)]
    assert ids[2] < ids[0] and ids[1] < ids[0] and len(ids[0]) == 4 and 0 not in ids[0]


DEVKIT = [  # scene, frame, row: middle, heading, velocity in the ego frame
    ("scene-0061", 0, 0, (14.892305, 1.824545, 0.836834), 0.174429, (2.464102, -3.729777)),
    ("scene-0061", 1, 0, (10.918480, -1.105756, 0.839101), 0.069771, (2.060497, -3.966757)),
    ("scene-0061", 2, 0, (6.540275, -3.171247, 0.811169), -0.034885, (1.634318, -4.160276)),
    ("scene-0061", 0, 1, (5.830127, 0.132916, 0.995968), -2.269228, (np.nan, np.nan)),
    ("scene-0061", 0, 2, (30.980762, -6.280045, 1.820279), 2.443761, (-2.098076, 2.364584)),
    ("scene-0061", 2, 1, (17.391390, -7.532002, 1.663877), 2.234317, (-1.560304, 2.748861)),
    ("scene-0061", 2, 2, (-19.697842, -2.401614, 1.384659), -0.732735, (4.458869, -4.012338)),
    ("scene-0916", 0, 0, (11.160254, -0.641545, 0.822891), 0.458780, (3.232051, 1.597103)),
    ("scene-0916", 1, 0, (1.740640, 1.377529, 0.472213), 0.165707, (3.556000, 0.595341)),
    ("scene-0916", 2, 0, (-5.251703, 9.310371, -0.114997), -0.158730, (np.nan, np.nan)),
]


@pytest.mark.parametrize(("scene", "frame", "row", "middle", "yaw", "velocity"), DEVKIT)
def test_boxes_equal_the_devkits(nuscenes, scene, frame, row, middle, yaw, velocity):
    """The bicycle of scene-0916: one-sided over 1.4 s, both sides over 2.95 s, and one-sided over 1.55 s (unknown)."""
    boxes = nuscenes.drives([scene])[0].truth(frame).boxes
    assert boxes.centre_m[row] == pytest.approx(middle, abs=1e-5)
    assert boxes.yaw_rad[row] == pytest.approx(yaw, abs=1e-5)
    assert boxes.velocity_mps[row] == pytest.approx(velocity, abs=1e-5, nan_ok=True)


def test_categories_become_the_benchmarks_classes():
    """The numbers are the devkit's."""
    assert set(POINT_CLASS) == set(by_hand.CATEGORIES)
    devkits = [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]
    assert [POINT_CLASS[name] for name in by_hand.CATEGORIES] == devkits


def test_points_have_classes_and_instances(drive):
    points = drive.truth(0).points
    categories, numbers = by_hand.categories_of_points(), by_hand.panoptic_of_points()
    assert points.class_id.tolist() == [POINT_CLASS[by_hand.CATEGORIES[c]] for c in categories]
    things = np.array(LIDARSEG.is_thing)[points.class_id] & (numbers % 1000 > 0)
    assert 0 < things.sum() < len(things) / 2
    assert points.instance_id.tolist() == np.where(things, numbers, 0).tolist()


def rewritten(root: Path, **changes) -> Path:
    """The folder with other tables; None: without the table."""
    content = by_hand.write_nuscenes(root)
    by_hand.write_tables(root, {name: rows for name, rows in changes.items() if rows is not None})
    for name in (name for name, rows in changes.items() if rows is None):
        (root / by_hand.VERSION / f"{name}.json").unlink()
    assert set(changes) <= set(content)
    return root


def test_labels_are_found_by_name_not_by_number(tmp_path):
    """Another numbering of the categories gives the same classes."""
    content = by_hand.tables()
    for row in content["category"]:
        row["index"] = (row["index"] + 5) % 32
    drive = NuScenes(rewritten(tmp_path, category=content["category"]), by_hand.VERSION).drives()[0]
    names = [by_hand.CATEGORIES[(int(c) - 5) % 32] for c in by_hand.categories_of_points()]
    assert drive.truth(0).points.class_id.tolist() == [POINT_CLASS[name] for name in names]


def test_panoptic_labels_alone_give_classes_too(tmp_path):
    points = NuScenes(rewritten(tmp_path, lidarseg=None), by_hand.VERSION).drives()[0].truth(0).points
    assert points.class_id.tolist() == [POINT_CLASS[by_hand.CATEGORIES[c]] for c in by_hand.categories_of_points()]
    assert points.instance_id.any()


def test_a_version_without_truth_has_frames(tmp_path):
    """As v1.0-test, whose tables of annotations are empty, and as a download without lidarseg."""
    categories = [{k: v for k, v in row.items() if k != "index"} for row in by_hand.tables()["category"]]
    changes = {"sample_annotation": [], "instance": [], "category": categories, "lidarseg": None, "panoptic": None}
    drive = NuScenes(rewritten(tmp_path, **changes), by_hand.VERSION).drives()[0]
    truth = drive.truth(0)
    assert truth.boxes is None and truth.points is None and len(drive.frame(0).cameras) == 6


def test_without_points_neither_labels_nor_sweeps_are_needed(tmp_path):
    by_hand.write_nuscenes(tmp_path)
    for file in (*tmp_path.rglob("*.pcd.bin"), *tmp_path.rglob("*_lidarseg.bin")):
        file.unlink()
    drive = NuScenes(tmp_path, by_hand.VERSION, with_points=False).drives()[0]
    assert drive.truth(0).points is None and len(drive.truth(0).boxes) == 1
    with pytest.raises(DataError, match=r"pcd\.bin: cannot be read .*unpack the archive"):
        NuScenes(tmp_path, by_hand.VERSION).drives()[0].truth(0)


def test_scenes_are_given_in_the_order_asked_for(nuscenes):
    assert nuscenes.scene_names == ("scene-0916", "scene-0061")
    assert [drive.name for drive in nuscenes.drives(["scene-0061", "scene-0916"])] == ["scene-0061", "scene-0916"]
    assert [drive.name for drive in nuscenes.drives()] == ["scene-0916", "scene-0061"]
    with pytest.raises(DataError, match="no scene scene-0103 .*scene-0916, scene-0061"):
        nuscenes.drives(["scene-0103"])


def test_frames_beyond_the_end_are_no_frames(drive):
    for index in (-1, 3):
        with pytest.raises(IndexError, match="scene-0061 has 3 key frames"):
            drive.frame(index)
        with pytest.raises(IndexError):
            drive.truth(index)


def test_a_drive_goes_to_a_worker_alone(nuscenes, drive):
    """Worker processes get what they need of the tables, not all of them."""
    data = pickle.dumps(drive)
    assert b"scene-0916" not in data
    other = pickle.loads(data)
    np.testing.assert_array_equal(other.truth(2).boxes.centre_m, drive.truth(2).boxes.centre_m)
    check_rigid(other.frame(0).world_from_ego, "pose")


def test_splits_are_names_or_lists(tmp_path, root):
    mini = (*split_scenes("mini_train"), *split_scenes("mini_val"))
    assert len(set(mini)) == 10 and "scene-0103" in split_scenes("mini_val")
    names = tmp_path / "mine.txt"
    names.write_text("# one\nscene-0061  # the first\n\n")
    assert [drive.name for drive in open_dataset(root, split=names)] == ["scene-0061"]
    names.write_text("scene-0061\nscene-0061\n")
    with pytest.raises(DataError, match=r"mine\.txt: names scene-0061 twice"):
        split_scenes(names)
    names.write_text("# nothing\n")
    with pytest.raises(DataError, match="names no scene"):
        split_scenes(names)
    with pytest.raises(DataError, match="split 'vall': is none of train, val, test, mini_train, mini_val, and no file"):
        split_scenes("vall")
    names.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"mine\.txt: cannot be read as a list"):
        split_scenes(names)


def test_the_official_splits_have_as_many_scenes_as_nuscenes_says():
    """700, 150 and 150 of the 1,000 scenes, each in one of them."""
    train, val, test = (set(split_scenes(name)) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (700, 150, 150) and len(train | val | test) == 1000
    assert {"scene-0103", "scene-0916", "scene-0003", "scene-1073"} <= val and set(split_scenes("mini_val")) <= val
    assert {"scene-0001", "scene-1110"} <= train
    assert {"scene-0077", "scene-1043"} <= test


def test_boxes_have_the_attribute_that_their_annotation_names(drive):
    """Car, pedestrian, truck and bus of the first frame; the last two have none."""
    found = [ATTRIBUTES[number] for number in drive.truth(0).boxes.attribute_id]
    assert found == ["vehicle.moving", "pedestrian.sitting_lying_down", "", ""]


def test_a_cycle_in_a_rack_counts_neither_as_truth_nor_as_found(nuscenes):
    drive = nuscenes.drives(["scene-0916"])[0]
    for index, in_the_rack in enumerate((True, False, False)):
        truth = drive.truth(index)
        assert len(truth.boxes) == len(truth.bicycle_racks) == 1
        fields = ("centre_m", "size_m", "yaw_rad", "class_id")
        velocity, score = np.zeros((1, 2), np.float32), np.ones(1, np.float32)
        found = ScoredBoxes(**{name: getattr(truth.boxes, name) for name in fields}, velocity_mps=velocity, score=score)
        scores = Detection().add(found, truth.boxes, racks=truth.bicycle_racks).scores()
        bicycle = BOX_CLASSES.index("bicycle")
        assert scores.true_count[bicycle] == (not in_the_rack)
        assert scores.class_ap[bicycle] == pytest.approx(0.0 if in_the_rack else 1.0)
        car = replace(found, class_id=np.zeros(1, np.int64))
        on_its_own = Detection().add(car, replace(truth.boxes, class_id=car.class_id), racks=truth.bicycle_racks)
        assert on_its_own.scores().true_count[0] == 1, "a car may stand in a rack"
    assert len(nuscenes.drives(["scene-0061"])[0].truth(0).bicycle_racks) == 0


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["a", "b"], "has 2 attributes, of which nuScenes gives a box at most one"),
        (["nowhere"], "names the attribute nowhere, which attribute.json does not have"),
        ("text", "attribute_tokens is 'text', not a list of texts"),
    ],
)
def test_wrong_attributes_are_refused_by_record(tmp_path, tokens, message):
    rows = by_hand.tables()["sample_annotation"]
    rows[0]["attribute_tokens"] = tokens
    with pytest.raises(DataError, match=rf"record {rows[0]['token']}: {message}"):
        NuScenes(rewritten(tmp_path, sample_annotation=rows), by_hand.VERSION)


def test_an_attribute_that_nuscenes_does_not_have_is_refused(tmp_path):
    rows = by_hand.tables()["attribute"]
    rows[0]["name"] = "vehicle.flying"
    with pytest.raises(DataError, match="attribute 'vehicle.flying' is none of nuScenes'"):
        NuScenes(rewritten(tmp_path, attribute=rows), by_hand.VERSION)


def test_the_sweep_is_known_by_its_token_and_has_the_order_of_its_file(drive):
    assert drive.sweep_token(1) == by_hand.token("sample_data", "scene-0061", "LIDAR_TOP", 1)
    np.testing.assert_array_equal(drive.points_m(1), drive.truth(1).points.position_m)
    rotation, place = by_hand.LIDAR_MOUNT[:3, :3], by_hand.LIDAR_MOUNT[:3, 3]
    expected = by_hand.sweep("scene-0061", 1)[:, :3] @ rotation.T + place
    np.testing.assert_allclose(drive.points_m(1), expected, atol=1e-4)


def test_points_in_several_boxes_are_known_by_their_panoptic_number(tmp_path):
    by_hand.write_nuscenes(tmp_path)
    drive = NuScenes(tmp_path, by_hand.VERSION).drives(["scene-0061"])[0]
    numbers = by_hand.panoptic_of_points()
    numbers[[17, 40]] = 0  # a car by lidarseg, and another thing
    path = tmp_path / f"panoptic/{by_hand.VERSION}/{drive.sweep_token(0)}_panoptic.npz"
    np.savez_compressed(path, data=numbers)
    points = drive.truth(0).points
    assert set(np.flatnonzero(points.is_ambiguous)) == {0, 17, 40} | set(np.flatnonzero(numbers == 0))
    assert LIDARSEG.names[points.class_id[17]] == "car" and points.instance_id[17] == 0


def test_files_that_are_not_there_are_found_before_any_is_read(tmp_path):
    by_hand.write_nuscenes(tmp_path)
    drives = NuScenes(tmp_path, by_hand.VERSION).drives()
    check_files(drives)
    (tmp_path / f"lidarseg/{by_hand.VERSION}/{drives[0].sweep_token(1)}_lidarseg.bin").unlink()
    for path in tmp_path.glob("samples/CAM_BACK/*"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        check_files(drives)
    text = str(caught.value)
    assert "CAM_BACK" in text and "and 5 more: no such file; unpack the archives of key frames" in text
    assert "_lidarseg.bin: no such file; unpack nuScenes-lidarseg" in text and "(of 54 files)" in text


def test_sweeps_without_labels_are_looked_for_only_where_they_are_needed(tmp_path):
    by_hand.write_nuscenes(tmp_path)
    for path in tmp_path.glob("samples/LIDAR_TOP/*"):
        path.unlink()
    drives = NuScenes(tmp_path, by_hand.VERSION, with_points=False).drives()
    check_files(drives)
    with pytest.raises(DataError, match=r"LIDAR_TOP.* and 5 more: no such file"):
        check_files(drives, with_sweeps=True)


def test_tables_are_read_once_for_several_splits(root, tmp_path, monkeypatch):
    lists = [tmp_path / f"{scene}.txt" for scene in ("scene-0916", "scene-0061")]
    for path in lists:
        path.write_text(path.stem)
    read, opened = reader.records, []

    def counted(path, show_progress=False):
        opened.append(path.name)
        return read(path, show_progress)

    monkeypatch.setattr(reader, "records", counted)
    for_training, for_validation, whole = open_splits(root, (*lists, None))
    assert [drive.name for drive in (*for_training, *for_validation)] == ["scene-0916", "scene-0061"]
    assert {drive.name for drive in whole} == {"scene-0061", "scene-0916"}
    assert opened.count("sample_data.json") == opened.count("ego_pose.json") == opened.count("scene.json") == 1


def test_the_lidar_s_mount_is_the_frame_of_a_network_that_predicts_there(root, drive):
    assert drive.frame(0).ego_from_network is None
    in_lidar = open_dataset(root, split=None, network_frame="lidar_top")[0]
    frame, truth = in_lidar.frame(1), in_lidar.truth(1)
    sweep = reader.read_sweep(root / in_lidar._samples[1].shots["LIDAR_TOP"].file)
    turned = sweep @ frame.ego_from_network[:3, :3].T + frame.ego_from_network[:3, 3]
    np.testing.assert_allclose(turned, truth.points.position_m, atol=1e-4)
    grid = model_config("pano_small_4f").placed(frame.ego_from_network).grid
    back = moved_points(truth.points.position_m, network_from_ego(grid))
    np.testing.assert_allclose(back, sweep, atol=1e-4)  # the LiDAR's own numbers, as the published networks saw them
    with pytest.raises(DataError, match="network_frame 'radar' is not known to nuScenes, only lidar_top"):
        open_dataset(root, network_frame="radar")
