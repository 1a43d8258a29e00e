"""Scenes of bags, and the command that shows them: as they come back out of films, plots and refusals."""

import gc
import re
import subprocess
import sys
import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from panoocc_core.base.resources import folder
from panoocc_core.labels import OCC3D
from panoocc_core.pictures.charts import new_figure
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.commands.cli import main
from panoocc_ros.messages.types import typestore
from panoocc_ros.view import scene as scene_module
from panoocc_ros.view.bag_scenes import BagScenes
from panoocc_ros.view.film import usual_rate_hz
from panoocc_ros.view.numbers import names_of
from panoocc_ros.view.plots import draw_lines, gaps
from panoocc_ros.view.scene import Scenes, sources_in
from test.ros.drive import Drive
from test.ros.view_bags import CAR, LATE_NS, ROAD, TOTAL_MS, boxes, grid_messages, occupancy, write_grids

COUNT = 4
DRIVE = Drive()
CAMERAS = {name.lower() for name in DRIVE.rig.names}


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """Grids, and the drive that they were made from."""
    folder = tmp_path_factory.mktemp("bags")
    return write_grids(folder / "grids.mcap", DRIVE, COUNT), DRIVE.write_bag(folder / "drive.mcap", COUNT)


def scenes_of(grids, images=None, **options):
    with BagReader(grids) as one:
        if images is None:
            return list(BagScenes(one, **options))
        with BagReader(images) as other:
            return list(BagScenes(one, other, **options))


def test_a_scene_has_all_that_belongs_to_a_grid(bags):
    scenes = scenes_of(*bags)
    assert [scene.stamp_ns for scene in scenes] == [DRIVE.stamp_ns(k) for k in range(COUNT)]
    for k, scene in enumerate(scenes):
        assert (scene.voxels.class_id == occupancy(0, k).class_id.numpy()).all()
        assert (scene.voxels.faint[:4]).all() and not scene.voxels.faint[4:].any()
        assert scene.world_frame == "odom" and scene.frame_id == "base_link"
        assert scene.world_from_ego == pytest.approx(DRIVE.pose(scene.stamp_ns), abs=1e-6)
        assert set(scene.images) == CAMERAS
        for name, image in scene.images.items():
            assert abs(image.stamp_ns - scene.stamp_ns) <= 20_000_000
            assert image.calibration is not None and image.calibration.intrinsics[0, 0] == 50
            assert image.ego_from_camera[2, 3] == pytest.approx(1.5)
            shown, true = image.pixels().astype(int), DRIVE.pictures[name.upper()][k % 2].astype(int)
            assert np.abs(shown - true).mean() < 4
        assert scene.boxes.centre_m == pytest.approx(boxes(k).centre_m)
        assert scene.boxes.yaw_rad == pytest.approx(boxes(k).yaw_rad) and scene.boxes.instance_id.tolist() == [7]
        assert scene.map.cells.shape == (6, 8) and not scene.map.in_world
        assert (scene.map.cells == -1).sum() == 24 and scene.map.frame_from_map[:2, 3].tolist() == [-4, -3]
        numbers = scene.numbers
        assert numbers["classes/car"] == 2 and numbers["classes/driveable_surface"] == 48
        assert numbers["share/visible"] == 50 and numbers["share/occupied"] == pytest.approx(100 * 50 / 192)
        assert numbers["latency_ms/until recorded"] == pytest.approx(LATE_NS * 1e-6)
        assert numbers["things/boxes"] == 1 and (
            "stage_ms/total" not in numbers or numbers["stage_ms/total"] == TOTAL_MS
        )
    assert "stage_ms/total" in scenes[-1].numbers


def test_one_bag_or_two_show_the_same(bags, tmp_path):
    both = write_grids(tmp_path / "both.mcap", DRIVE, COUNT, together=True)
    for one, other in zip(scenes_of(both), scenes_of(*bags), strict=True):
        assert one.numbers == other.numbers and set(one.images) == set(other.images)
        assert all(one.images[name].as_file() == other.images[name].as_file() for name in one.images)


def test_boxes_are_called_after_their_class_and_the_number_that_they_have():
    assert names_of(boxes()) == ["car 7"]
    assert names_of(replace(boxes(), instance_id=None)) == ["car"]
    assert names_of(replace(boxes(), instance_id=np.zeros(1, np.int32))) == ["car"]


def test_without_images_and_boxes_the_voxels_tell(tmp_path):
    grids = write_grids(tmp_path / "bare.mcap", DRIVE, 1, change=lambda topic, one: None if "objects" in topic else one)
    (scene,) = scenes_of(grids)
    assert scene.images == {} and scene.world_from_ego is None
    assert scene.boxes.instance_id.tolist() == [7] and scene.boxes.size_m[0] == pytest.approx([2, 1, 0.5], abs=1e-3)


@pytest.mark.parametrize(
    "options, chosen",
    [
        ({"begin_s": 0.5}, [1, 2, 3]),
        ({"end_s": 1.0}, [0, 1]),
        ({"every": 3}, [0, 3]),
        ({"begin_s": 0.4, "every": 2}, [1, 3]),
    ],
)
def test_a_part_of_the_drive(bags, options, chosen):
    scenes = scenes_of(*bags, **options)
    assert [scene.stamp_ns for scene in scenes] == [DRIVE.stamp_ns(k) for k in chosen]
    assert all(set(scene.images) == CAMERAS and scene.boxes is not None for scene in scenes)


def test_scenes_can_be_gone_through_again(bags):
    with BagReader(bags[0]) as grids, BagReader(bags[1]) as images:
        scenes = BagScenes(grids, images)
        first, second = list(scenes), list(scenes)
    assert len(first) == len(second) == len(scenes) and first[-1].numbers == second[-1].numbers


def test_what_belongs_to_a_camera_is_found_by_its_topics():
    kinds = {
        "/a/cam/image_raw": "sensor_msgs/msg/Image",
        "/a/cam/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
        "/a/cam/camera_info": "sensor_msgs/msg/CameraInfo",
        "/b/cam/image_rect": "sensor_msgs/msg/Image",
        "/a/cam/depth/compressedDepth": "sensor_msgs/msg/CompressedImage",
        "/left/image_raw": "sensor_msgs/msg/Image",
        "/r1/panoocc/overlay/compressed": "sensor_msgs/msg/CompressedImage",
        "/r1/panoocc/bev/classes": "sensor_msgs/msg/Image",
        "/r1/tf": "tf2_msgs/msg/TFMessage",
        "/r1/tf_static": "tf2_msgs/msg/TFMessage",
    }
    found = sources_in(kinds, "/r1/panoocc/occupancy")
    assert found.cameras == {
        "/a/cam/image_raw/compressed": "a/cam/image_raw",
        "/b/cam/image_rect": "b/cam/image_rect",
        "/left/image_raw": "left",
        "/r1/panoocc/overlay/compressed": "overlay",
    }
    assert found.infos == {"/a/cam/camera_info": "a/cam/image_raw"} and found.labels == "/r1/panoocc/labels"
    assert found.transforms == {"/r1/tf": False, "/r1/tf_static": True}


@pytest.mark.parametrize("ending, with_images", [(".mp4", True), (".MP4", False), (".webp", True), (".gif", False)])
def test_a_film_has_a_frame_for_every_grid(bags, tmp_path, ending, with_images):
    path, images = tmp_path / f"film{ending}", ["--images", str(bags[1])] if with_images else []
    assert main(["view", str(bags[0]), *images, "--video", str(path)]) == 0
    if ending.lower() == ".mp4":
        video = cv2.VideoCapture(str(path))
        assert sum(1 for _ in iter(video.grab, False)) == COUNT and video.get(cv2.CAP_PROP_FPS) == pytest.approx(2)
    else:
        with Image.open(path) as film:
            film.seek(1)
            film.load()
            assert film.n_frames == COUNT and film.info["duration"] == 500


@pytest.mark.parametrize(
    "times_s, rate_hz", [((0.0, 4.0, 4.5, 10.0), 2.0), ((0.0, 0.001, 1.0), 30.0), ((3.0,), 1.0), ((0.0, 9.0), 1.0)]
)
def test_a_film_is_as_fast_as_grids_came_at_their_fastest(times_s, rate_hz):
    assert usual_rate_hz(times_s) == pytest.approx(rate_hz)


def test_no_line_of_a_plot_leads_across_a_gap():
    assert gaps(np.array([0.0, 0.5, 1.1, 4.0, 4.5, 9.0])).tolist() == [3, 5]
    assert gaps(np.array([0.0])).tolist() == gaps(np.array([0.0, 3.0])).tolist() == []
    figure = new_figure(4, 3)
    plot = figure.subplots()
    draw_lines(plot, np.array([0.0, 0.5, 1.1, 4.0]), {"free": np.arange(4.0)}, "share", "%")
    (line,) = plot.lines
    np.testing.assert_equal(line.get_xdata(), [0.0, 0.5, 1.1, np.nan, 4.0])
    np.testing.assert_equal(line.get_ydata(), [0.0, 1.0, 2.0, np.nan, 3.0])


def test_a_camera_that_fails_leaves_its_place_empty(tmp_path, capsys):
    drive = DRIVE.messages(0)
    for k in range(COUNT):
        drive += DRIVE.whole_set(k, without=("CAM_BACK",) if k else (), broken=("CAM_FRONT",) if k == 2 else ())
    both = write_grids(tmp_path / "both.mcap", drive_of(drive), COUNT, together=True)
    path = tmp_path / "film.mp4"
    assert main(["view", str(both), "--video", str(path), "--fps", "5"]) == 0
    assert "WARNING: cam_front: an image is not shown: " in capsys.readouterr().err
    video = cv2.VideoCapture(str(path))
    assert sum(1 for _ in iter(video.grab, False)) == COUNT and video.get(cv2.CAP_PROP_FPS) == pytest.approx(5)


def drive_of(messages):
    """The test drive with other messages."""
    drive = Drive()
    drive.messages = lambda count: messages
    return drive


def test_the_plot_has_the_colours_of_the_classes(bags, tmp_path):
    path = tmp_path / "numbers.png"
    assert main(["view", str(bags[0]), "--plot", str(path)]) == 0
    picture = cv2.imread(str(path))[..., ::-1].reshape(-1, 3)
    areas = [int((picture == OCC3D.colours[kind]).all(axis=1).sum()) for kind in (ROAD, CAR)]
    assert areas[0] > 10 * areas[1] > 1000  # as the voxels are
    for ending, head in ((".svg", b"<?xml"), (".pdf", b"%PDF")):
        assert main(["view", str(bags[0]), "--plot", str(path.with_suffix(ending))]) == 0
        assert path.with_suffix(ending).read_bytes().startswith(head)


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "either a bag with grids or --live"),
        (["GRIDS", "--live"], "either a bag with grids or --live"),
        (["DRIVE", "--plot", "x.png"], "no grids (panoocc/msg/VoxelGrid): make some with `panoocc run "),
        (["GRIDS", "--topic", "/other", "--plot", "x.png"], "choose with --topic: /panoocc/occupancy"),
        (
            ["GRIDS", "--from", "9", "--plot", "x.png"],
            "none of the 4 grids on /panoocc/occupancy lies between --from 9",
        ),
        (["GRIDS", "--from", "2", "--to", "1", "--plot", "x.png"], "--to 1 must be after --from 2"),
        (["GRIDS", "--save", "x.mp4"], "--save x.mp4: give a name that ends in .rrd"),
        (["GRIDS", "--video", "x.avi"], "--video x.avi: give a name that ends in .gif or .mp4 or .webp"),
        (["GRIDS", "--plot", "x.jpg"], "--plot x.jpg: give a name that ends in .png or .svg or .pdf"),
        (["GRIDS", "--loop", "--plot", "x.png"], "--loop is for a bag and --foxglove"),
        (["GRIDS", "--rate", "2", "--plot", "x.png"], "--rate is for a bag and --foxglove"),
        (["GRIDS", "--fps", "5", "--plot", "x.png"], "--fps is for --video"),
        (["--live", "--video", "x.mp4"], "--video of --live needs --fps"),
        (["--live", "--images", "DRIVE", "--plot", "x.png"], "--images is for bags"),
        (["nowhere.mcap", "--plot", "x.png"], "no such bag"),
        (["GRIDS"], "--save FILE.rrd"),  # there is no display
    ],
)
def test_what_cannot_be_shown_is_told_and_leaves_nothing(bags, tmp_path, monkeypatch, capsys, words, text):
    pytest.importorskip("rerun")
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    places = {"GRIDS": str(bags[0]), "DRIVE": str(bags[1])}
    assert main(["view", *(places.get(word, word) for word in words)]) == 2
    told = capsys.readouterr().err
    assert text in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_bag_without_grids_names_the_command_that_makes_some(bags, capsys):
    assert main(["view", str(bags[1]), "--plot", "x.png"]) == 2
    assert f"make some with `panoocc run {bags[1]} --out grids.mcap`" in capsys.readouterr().err


@pytest.mark.parametrize("module, words", [("rerun", ["--save", "x.rrd"]), ("foxglove", ["--foxglove"])])
def test_a_viewer_that_is_not_installed_is_named_with_what_to_do(bags, tmp_path, monkeypatch, capsys, module, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["view", str(bags[0]), *words]) == 2
    (wanted,) = re.findall(rf'"({module}-sdk[^"]+)"', (folder("config").parent / "pyproject.toml").read_text())
    assert f"pip install '{wanted}'" in capsys.readouterr().err and not list(tmp_path.iterdir())


def spoiled(number):
    """Of the grids the one of this number (None: all) has a class that there is not."""
    count = iter(range(100))

    def change(topic, message):
        if topic.endswith("occupancy") and number in (None, next(count)):
            message.class_id[0] = 200
        return message

    return change


def test_a_grid_that_cannot_be_used_is_left_out_and_told(tmp_path, capsys):
    grids, path = write_grids(tmp_path / "grids.mcap", DRIVE, COUNT, change=spoiled(1)), tmp_path / "film.mp4"
    assert main(["view", str(grids), "--video", str(path)]) == 0
    assert sum(1 for _ in iter(cv2.VideoCapture(str(path)).grab, False)) == COUNT  # the one before it lasts longer
    assert "WARNING: 1 grid left out: class_id has 200" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, text",
    [
        (spoiled(None), "there is no grid to show: class_id has 200"),
        (
            lambda topic, one: None if "labels" in topic else one,
            "nothing on /panoocc/labels says what its classes mean",
        ),
    ],
)
def test_no_grid_that_can_be_used_is_an_end_without_a_file(tmp_path, capsys, change, text):
    grids = write_grids(tmp_path / "grids.mcap", DRIVE, COUNT, change=change)
    for name in ("film.mp4", "numbers.png"):
        assert main(["view", str(grids), "--plot" if name.endswith("png") else "--video", str(tmp_path / name)]) == 3
        assert text in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["grids.mcap"]


def test_what_foxglove_cannot_be_shown_is_told_at_once(tmp_path):
    pytest.importorskip("foxglove")
    grids = write_grids(tmp_path / "grids.mcap", DRIVE, COUNT, change=spoiled(None))
    command = [sys.executable, "-m", "panoocc_ros.commands.cli", "view", str(grids), "--foxglove", "--loop"]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 3 and "there is no grid to show: class_id has 200" in done.stderr


def image_messages(count):
    sent = [one for one in DRIVE.messages(count) if one.topic.endswith("image_raw/compressed")]
    return [(one.topic, typestore().deserialize_cdr(one.data, one.type)) for one in sent]


def test_images_that_no_grid_needs_are_not_kept():
    sent = image_messages(40)
    topics = {topic: "sensor_msgs/msg/CompressedImage" for topic, _ in sent}
    scenes = Scenes(sources_in(topics, "/panoocc/occupancy"))
    references = [weakref.ref(message) for _, message in sent]
    for topic, message in sent:
        scenes.add(topic, message)
    grid = next(one for _, topic, _, one in grid_messages(DRIVE, 40)[::-1] if topic == "/panoocc/occupancy")
    del sent, message
    with pytest.raises(ValueError, match="labels"):  # a grid that cannot be used needs none either
        scenes.scene(grid, 0)
    gc.collect()
    assert sum(one() is not None for one in references) == len(topics)  # of the last set


def test_images_are_kept_up_to_so_many_bytes(monkeypatch):
    sent = image_messages(40)
    topics = {topic: "sensor_msgs/msg/CompressedImage" for topic, _ in sent}
    largest = max(len(message.data) for _, message in sent)
    monkeypatch.setattr(scene_module, "MAX_KEPT_BYTES", 10 * largest)
    scenes, references = Scenes(sources_in(topics, "/panoocc/occupancy")), [weakref.ref(message) for _, message in sent]
    for topic, message in sent:
        scenes.add(topic, message)
    del sent, message
    gc.collect()
    kept = sum(one() is not None for one in references)
    assert 10 * len(topics) <= kept < 20 * len(topics)


def damaged(topic, message):
    """Boxes of no known class, a map whose size is a lie, diagnostics that are no numbers."""
    if topic.endswith("objects"):
        message.detections[0].results[0].hypothesis.class_id = "spaceship" * 50
    elif topic.endswith("grid_2d"):
        message.info.width = 4_000_000_000
    elif topic == "/diagnostics":
        message.status[0].values[0].value = "soon"
    return message


def test_what_else_cannot_be_used_is_left_out_and_told(tmp_path, capsys):
    grids, path = write_grids(tmp_path / "grids.mcap", DRIVE, COUNT, change=damaged), tmp_path / "numbers.png"
    assert main(["view", str(grids), "--plot", str(path)]) == 0
    told = capsys.readouterr().err
    assert "WARNING: /panoocc/objects: boxes are not shown: class 'spaceship" in told
    assert "WARNING: /panoocc/grid_2d: the 2-D grid is not shown: 6 x 4000000000 cells, 48 values" in told
    assert "WARNING: /diagnostics: panoocc: timing cannot be read" in told and all(
        len(one) < 400 for one in told.split("\n")
    )


def test_nothing_is_overwritten_but_what_is_of_the_kind(bags, tmp_path, capsys):
    film, foreign, link = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.png"
    foreign.write_text("a novel")
    link.symlink_to(bags[0])
    view = ["view", str(bags[0])]
    assert main([*view, "--video", str(film)]) == 0
    assert main([*view, "--video", str(film)]) == 4 and "replace it with --overwrite" in capsys.readouterr().err
    assert main([*view, "--video", str(film), "--overwrite"]) == 0
    assert main([*view, "--video", str(foreign), "--overwrite"]) == 4 and foreign.read_text() == "a novel"
    assert "it is no .mp4 file" in capsys.readouterr().err
    assert main([*view, "--plot", str(link), "--overwrite"]) == 2 and "is what is read" in capsys.readouterr().err
    assert main([*view, "--plot", str(tmp_path / "none" / "x.png")]) == 4
    assert "there is no folder" in capsys.readouterr().err
