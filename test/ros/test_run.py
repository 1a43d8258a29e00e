"""`panoocc run` from end to end on small bags, and every way in which it refuses."""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, load_model, model_config
from panoocc_core.base.resources import folder
from panoocc_core.geometry import quaternion_from_rotation, rigid
from panoocc_core.labels import OCC3D
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.commands.cli import main
from panoocc_ros.commands.run import _motion_lines, add_arguments, chosen_outputs, kept_outputs, tell_left_out
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.images import decode
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.messages.types import typestore
from panoocc_ros.outputs.catalogue import POINTS as POINTS_OUTPUT
from panoocc_ros.replay.replay import ReplayReport
from test.ros.bags import PERIOD_NS, RIG, T0, TF, drive, mount, write_drive
from test.ros.messages import MS, listed, pose_of, tf

# One thread: with more, libraries may share out a sum differently from run to run, and the last bit with it.
NANO = ["--model", "nano", "--seeded-weights", "--device", "cpu", "--threads", "1", "--no-progress"]
NANO += ["--instances", "components"]  # seeded boxes are nowhere
REAL_BAG = os.environ.get("PANOOCC_REAL_BAG")
GRID, POINTS = "/panoocc/occupancy", "/panoocc/points"


@pytest.fixture(scope="module", autouse=True)
def threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def read(path, topic):
    with BagReader(path) as bag:
        return [(message.stamp_ns, bag.deserialise(message)) for message in bag.messages([topic])]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A drive of three sets and what a run makes of it."""
    folder = tmp_path_factory.mktemp("run")
    write_drive(folder / "drive.mcap", sets=3)
    assert main(["run", str(folder / "drive.mcap"), *NANO, "--out", str(folder / "grids.mcap")]) == 0
    return folder


def test_every_set_gives_a_grid_with_the_inputs_stamps(whole_run):
    grids = read(whole_run / "grids.mcap", GRID)
    assert [stamp_ns(grid.header.stamp) for _, grid in grids] == [T0 + k * PERIOD_NS - 10 * MS for k in range(3)]
    assert [grid.sequence for _, grid in grids] == [0, 1, 2]
    for recorded_ns, grid in grids:
        reference_ns = stamp_ns(grid.header.stamp)
        assert 0 <= recorded_ns - reference_ns <= 100 * MS
        assert stamp_ns(grid.oldest_image_stamp) == reference_ns
        assert stamp_ns(grid.newest_image_stamp) == reference_ns + 25 * MS
        assert grid.header.frame_id == "base_link" and grid.cameras_used == 0b111111
        assert (grid.size_x, grid.size_y, grid.size_z) == (64, 64, 16) and grid.label_set == OCC3D.key
        assert 0 < len(listed(grid)) == len(grid.class_id) == len(grid.confidence)
        assert grid.instance_source == 2 and len(grid.instance_id) == len(grid.class_id) and grid.class_id.max() < 17
        is_thing = np.array(OCC3D.is_thing)[grid.class_id]
        assert (grid.instance_id[~is_thing] == 0).all()


def test_points_foxglove_labels_and_transforms_go_along(whole_run):
    path = whole_run / "grids.mcap"
    grids, points, cells = (read(path, topic) for topic in (GRID, POINTS, "/panoocc/occupancy_foxglove"))
    for (_, grid), (_, cloud), (_, fox) in zip(grids, points, cells, strict=True):
        assert cloud.width == len(listed(grid)) and cloud.header.frame_id == fox.frame_id == grid.header.frame_id
        assert stamp_ns(cloud.header.stamp) == stamp_ns(fox.timestamp) == stamp_ns(grid.header.stamp)
        alpha = fox.data.reshape(-1, 4)[:, 3]
        np.testing.assert_array_equal(np.flatnonzero(alpha), listed(grid))
    ((_, labels),) = read(path, "/panoocc/labels")
    assert tuple(labels.names) == OCC3D.names and labels.free_id == 17
    with BagReader(path) as bag, BagReader(whole_run / "drive.mcap") as drive_bag:
        for topic in ("/tf", "/tf_static"):
            assert [m.data for m in bag.messages([topic])] == [m.data for m in drive_bag.messages([topic])]


PLANNERS = ("obstacles", "grid_2d", "bev/classes", "bev/confidence", "bev/points")


def with_map(topic, message):
    """/tf with where odom lies in the map."""
    if topic == "/tf":
        message.transforms += tf(("map", "odom", stamp_ns(message.transforms[0].header.stamp), MAP)).transforms
    return message


MAP = rigid(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([300.0, -40.0, 2.0]))


def test_a_bag_has_what_planners_take_where_it_is_asked_for(whole_run, capsys):
    with BagReader(whole_run / "grids.mcap") as bag:
        usual = {topic.removeprefix("/panoocc/") for topic in bag.topics}
    assert usual & {*PLANNERS, "overlay/compressed", "markers"} == {"grid_2d"} and {"label_info", "labels"} <= usual
    path, out = write_drive(whole_run / "mapped.mcap", sets=3, change=with_map), whole_run / "planners.mcap"
    options = ["--outputs", "all,-overlay/compressed,-points", "--grid-frame", "map", "--grid-2d-resolution-m", "0.5"]
    options += ["--obstacles-max-rate-hz", "5", "--obstacles-classes", "manmade, vegetation"]
    assert main(["run", str(path), *NANO, *options, "--out", str(out)]) == 0
    assert "grid_frame" not in capsys.readouterr().out
    grids = [grid for _, grid in read(out, GRID)]
    got = {topic: [message for _, message in read(out, f"/panoocc/{topic}")] for topic in PLANNERS}
    stamps = [stamp_ns(grid.header.stamp) for grid in grids]
    for topic in PLANNERS[1:]:
        assert [stamp_ns(message.header.stamp) for message in got[topic]] == stamps, topic
    assert 1 <= len(got["obstacles"]) < 3 and {stamp_ns(one.header.stamp) for one in got["obstacles"]} < set(stamps)
    by_stamp = dict(zip(stamps, grids))
    for cloud in got["obstacles"]:
        grid = by_stamp[stamp_ns(cloud.header.stamp)]
        height = (listed(grid) // (64 * 64) + 0.5) * 0.4 - 1.0
        wanted = np.isin(grid.class_id, (15, 16)) & (height >= 0.3) & (height < 2.2)
        assert cloud.width == wanted.sum() and cloud.header.frame_id == "base_link"
    for k, grid in enumerate(got["grid_2d"]):
        assert grid.header.frame_id == "map" and grid.info.resolution == 0.5
        middle = np.array([grid.info.origin.position.x, grid.info.origin.position.y]) + grid.info.width / 4
        np.testing.assert_allclose(middle, (300.0, -40.0 + k - 0.1), atol=0.51)
        assert set(np.unique(grid.data)) <= {-1, *range(101)} and (grid.data >= 0).any()
    with BagReader(out) as bag:
        assert POINTS not in bag.topics and "/panoocc/overlay/compressed" not in bag.topics


def test_a_map_whose_frame_the_bag_lacks_is_left_out_and_counted(whole_run, capsys):
    path, out = whole_run / "drive.mcap", whole_run / "no_map.mcap"
    assert main(["run", str(path), *NANO, "--grid-frame", "map", "--limit", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "WARNING: ~/grid_2d is not sent, grid_frame map: no transform has named the frame 'map'" in text
    assert "(noticed 2 times)" in text and "2 grids out" in text
    with BagReader(out) as bag:
        assert "/panoocc/grid_2d" not in bag.topics and bag.count([GRID]) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--obstacles-classes", "cars"],
            "--obstacles-classes: label set occ3d_nuscenes has no class 'cars'; is",
        ),
        (["--obstacles-min-z-m", "3"], "--obstacles-min-z-m and --obstacles-max-z-m: 3 m is not below 2.2 m"),
        (["--grid-2d-min-z-m", "8", "--grid-2d-max-z-m", "9"], "--grid-2d-max-z-m: no voxel has its middle between 8"),
    ],
)
def test_options_of_outputs_that_cannot_be_are_refused_by_name(capsys, tmp_path, good, options, text):
    status, error = refused(capsys, tmp_path, good, *NANO, *options)
    assert status == 2 and text in error


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--outputs", "grid2d"], "argument --outputs: 'grid2d' is no output of a bag; is grid_2d meant?"),
        (["--outputs", "default,"], "argument --outputs: '' is no output of a bag; there are occupancy, points, "),
        (["--outputs", "points,-points"], "argument --outputs: 'points,-points' leaves no output"),
        (["--outputs", "markers"], "argument --outputs: 'markers' is no output of a bag; "),
        (["--overlay-width-px", "1.5"], "argument --overlay-width-px: '1.5' is not a whole number"),
    ],
)
def test_options_of_outputs_that_are_none_end_before_anything_is_read(capsys, options, text):
    with pytest.raises(SystemExit) as ended:
        main(["run", "nowhere", "--out", "nowhere.mcap", *options])
    assert ended.value.code == 2 and text in capsys.readouterr().err


def test_who_only_leaves_outputs_out_leaves_them_out_of_the_default_ones():
    left = chosen_outputs("-points")
    assert left == chosen_outputs("default,-points") and set(chosen_outputs("default")) - {*left} == {POINTS_OUTPUT}


def test_outputs_that_a_network_without_free_space_cannot_have_are_named(capsys):
    config = model_config("pano_small_4f")
    tell_left_out(chosen_outputs("default"), config)
    assert capsys.readouterr().err == ""
    without = replace(config, label_key="nuscenes_lidarseg", decoder=replace(config.decoder, empty_below=None))
    tell_left_out(chosen_outputs("default"), without)
    told = "panoocc run: grid_2d is left out: the classes nuscenes_lidarseg have none for free space\n"
    assert capsys.readouterr().err == told


def test_equal_motions_are_told_once():
    last, older = [(1.0, 0.0), (2.0, 1.0)], [(3.0, 1.0)]
    (line,) = _motion_lines(ReplayReport(frame_motions=last, fused_motions=[*last]))
    assert line.startswith("ego motion since the last frame, the newest fused state, 2 times: mean 1.50 m")
    first, second = _motion_lines(ReplayReport(frame_motions=last, fused_motions=older))
    assert "since the last frame, 2 times" in first and "since the newest fused state: 3.00 m" in second
    assert _motion_lines(ReplayReport()) == []


def test_late_transforms_change_no_bit_of_the_grids(whole_run):
    path = write_drive(whole_run / "late.mcap", sets=3, tf_late_ns=37 * MS)
    out = whole_run / "late_grids.mcap"
    assert main(["run", str(path), *NANO, "--out", str(out), "--outputs", "occupancy"]) == 0
    with BagReader(whole_run / "grids.mcap") as first, BagReader(out) as second:
        grids = [[message.data for message in bag.messages([GRID])] for bag in (first, second)]
        assert POINTS not in second.topics
    assert grids[0] == grids[1] and len(grids[0]) == 3


def test_options_for_less_leave_topics_out():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    few = parser.parse_args(["a.mcap", "--out", "b.mcap", "--no-points", "--no-objects", "--no-foxglove"])
    assert {one.topic for one in kept_outputs(few)} == {"occupancy", "grid_2d"}
    usual = parser.parse_args(["a.mcap", "--out", "b.mcap"])
    assert kept_outputs(usual) == usual.outputs == chosen_outputs("default")


def test_the_summary_tells_sets_motion_and_latency(whole_run, capsys):
    arguments = ["run", str(whole_run / "drive.mcap"), *NANO, "--out", str(whole_run / "dense"), "--dense"]
    arguments += ["--limit", "2", "--no-confidence", "--instances", "none", "--outputs", "default,overlay/compressed"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "2 sets in, 2 grids out, 0 sets lost; fixed frame odom" in text
    assert "ego motion since the last frame: 1.00 m, yaw +0.00 deg" in text
    wanted = "no history fused: the network wants states 1 and 0.5 s old (+-0.3 s); the bag's frames reach back 0.1 s"
    assert wanted in text
    for stage in ("read", "decode", "backbone", "encoder", "write", "total"):
        assert stage in text
    (_, grid), _ = read(whole_run / "dense", GRID)
    assert grid.encoding == 0 and len(grid.class_id) == 64 * 64 * 16 and len(grid.confidence) == 0
    assert grid.instance_source == len(grid.instance_id) == 0 and "things are not told apart" in text
    with BagReader(whole_run / "dense") as bag:
        assert not {"/panoocc/objects", "/panoocc/detected_objects", "/panoocc/object_markers"} & set(bag.topics)
    pictures = [decode(message) for _, message in read(whole_run / "dense", "/panoocc/overlay/compressed")]
    assert [picture.shape[1] for picture in pictures] == [1200]  # the sets are 0.1 s apart, its rate is 1 Hz
    with BagReader(whole_run / "grids.mcap") as bag:
        assert "/panoocc/overlay/compressed" not in bag.topics  # nobody has asked for it


def test_things_of_a_run_have_the_numbers_of_its_grids(whole_run):
    path = whole_run / "grids.mcap"
    grids, arrays, autoware = (read(path, f"/panoocc/{t}") for t in ("occupancy", "objects", "detected_objects"))
    for (_, grid), (_, array), (_, objects) in zip(grids, arrays, autoware, strict=True):
        assert repr(array.header) == repr(objects.header) == repr(grid.header)
        numbers = {int(found.id) for found in array.detections}
        assert numbers == set(grid.instance_id.tolist()) - {0} and len(objects.objects) == len(numbers) > 0


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("good") / "drive.mcap", sets=2)


def refused(capsys, tmp_path, *arguments, out=None):
    """Exit status and the one line on stderr; asserts that nothing is left behind."""
    before = sorted(tmp_path.rglob("*"))
    status = main(["run", *(str(a) for a in arguments), "--out", str(out or tmp_path / "out.mcap")])
    lines = capsys.readouterr().err.splitlines(keepends=True)
    error = "".join(line for line in lines if not line.startswith("panoocc: WARNING, device auto"))  # told once
    assert sorted(tmp_path.rglob("*")) == before
    assert error.startswith("panoocc run: ") and error.count("\n") == 1
    return status, error


def test_a_missing_and_a_truncated_bag(capsys, tmp_path, good):
    status, error = refused(capsys, tmp_path, tmp_path / "nowhere", *NANO)
    assert status == 2 and "nowhere: no such bag" in error
    (tmp_path / "cut.mcap").write_bytes(good.read_bytes()[:-500])
    status, error = refused(capsys, tmp_path, tmp_path / "cut.mcap", *NANO)
    assert status == 2 and "cut.mcap: cannot be opened" in error and "mcap recover" in error


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        (
            "/cam_back/image_raw/compressed",
            "no topic /cam_back/image_raw/compressed (camera CAM_BACK); its topics of this",
        ),
        ("/cam_front_left/camera_info", "no topic /cam_front_left/camera_info (camera CAM_FRONT_LEFT)"),
    ],
)
def test_a_missing_topic_is_named_with_those_that_are_there(capsys, tmp_path, skip, message):
    path = write_drive(tmp_path / "drive.mcap", sets=1, skip=(skip,))
    status, error = refused(capsys, tmp_path, path, *NANO)
    assert status == 2 and message in error
    assert "/cam_front/" + skip.split("/", 2)[2] in error


def test_a_bag_without_transforms(capsys, tmp_path):
    path = write_drive(tmp_path / "drive.mcap", sets=1, tf_kinds=())
    status, error = refused(capsys, tmp_path, path, *NANO)
    assert status == 2 and "the bag has neither /tf nor /tf_static" in error


def elsewhere(path, **options):
    """A drive whose transforms are on the topics of a namespace."""
    with BagWriter(path) as writer:
        for stamp, topic, kind, message in drive(sets=1, **options):
            writer.write(f"/robot1{topic}" if kind == TF else topic, kind, stamp, message)
    return path


def test_transforms_on_other_topics_are_named_and_can_be_chosen(capsys, tmp_path):
    path = elsewhere(tmp_path / "drive.mcap")
    status, error = refused(capsys, tmp_path, path, *NANO)
    assert status == 2 and "transforms on /robot1/tf_static, /robot1/tf: choose with --tf-topic" in error
    topics = ["--tf-topic", "/robot1/tf", "--tf-static-topic", "/robot1/tf_static"]
    assert main(["run", str(path), *NANO, *topics, "--out", str(tmp_path / "out.mcap")]) == 0
    with BagReader(tmp_path / "out.mcap") as bag:
        assert bag.count(["/robot1/tf_static"]) == 1 and bag.count([GRID]) == 1
    status, error = refused(capsys, tmp_path, path, *NANO, "--tf-topic", "/a", "--tf-static-topic", "/a")
    assert status == 2 and error.startswith("panoocc run: --tf-topic and --tf-static-topic: ")


LIDAR = rigid(np.array([[0.5, 0.75**0.5, 0], [-(0.75**0.5), 0.5, 0], [0, 0, 1]]), np.array([0.9, 0.2, 1.8]))


def with_lidar(topic, message):
    """/tf_static with one mount more, which looks 60 degrees to the right."""
    if topic == "/tf_static":
        message.transforms += tf(("base_link", "lidar_top", 0, LIDAR)).transforms
    return message


def test_the_grids_lie_in_the_network_frame_that_is_named(capsys, tmp_path):
    path, out = write_drive(tmp_path / "drive.mcap", sets=2, change=with_lidar), tmp_path / "out.mcap"
    assert main(["run", str(path), *NANO, "--network-frame", "lidar_top", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "2 grids out" in text and "the frame of the voxels is lidar_top" in text
    assert "WARNING: the network's frame, lidar_top, lies 2.02 m and 60.0 degrees from where nano was trained" in text
    assert "memory reset" not in text
    corner = LIDAR @ rigid(np.eye(3), np.array([-25.6, -25.6, -1.0]))
    grids, points, cells = (read(out, topic) for topic in (GRID, POINTS, "/panoocc/occupancy_foxglove"))
    for (_, grid), (_, cloud), (_, fox) in zip(grids, points, cells, strict=True):
        for pose in (grid.origin, fox.pose):
            np.testing.assert_allclose(pose_of(pose), corner, atol=1e-6)
        cell = np.stack(np.unravel_index(listed(grid), (16, 64, 64))[::-1], axis=1)
        centres = (cell + 0.5) * (0.8, 0.8, 0.4) @ corner[:3, :3].T + corner[:3, 3]
        found = cloud.data.view(np.float32).reshape(len(cell), -1)[:, :3]
        np.testing.assert_allclose(found, centres, atol=1e-4)


def test_a_network_frame_that_the_bag_does_not_have_ends_the_run_with_those_that_are_there(capsys, tmp_path, good):
    status, error = refused(capsys, tmp_path, good, *NANO, "--network-frame", "lidar_top")
    assert status == 3 and "no grid from 2 sets (lost: 2 tf_timeout): network_frame lidar_top: no transform" in error
    assert "known frames: base_link, cam_back, cam_back_left, " in error and "--network-frame), or none" in error


def calibration_file(path, mounts=True, intrinsics=True):
    """What `drive` says about every camera, as a file."""
    lines = ["cameras:"]
    for k, name in enumerate(RIG.names):
        lines.append(f"- name: {name}")
        if mounts:
            turn, place = mount(k)[:3, :3], mount(k)[:3, 3]
            lines.append("  ego_from_camera:")
            lines.append(f"    translation_m: {place.tolist()}")
            lines.append(f"    rotation_xyzw: {quaternion_from_rotation(turn).tolist()}")
        if intrinsics:
            lines.append("  intrinsics: {width: 64, height: 48, K: [40.0, 0.0, 32.0, 0.0, 40.0, 24.0, 0.0, 0.0, 1.0]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_stands_in_for_mounts_and_intrinsics(capsys, tmp_path, whole_run):
    topics = ("/tf_static", *(camera.info_topic for camera in RIG.cameras))
    path = write_drive(tmp_path / "second_file.mcap", sets=3, skip=topics)
    status, error = refused(capsys, tmp_path, path, *NANO)
    assert status == 2 and "no topic /cam_front/camera_info" in error and "--calibration" in error
    path = write_drive(tmp_path / "no_static.mcap", sets=3, skip=topics[:1])
    status, error = refused(capsys, tmp_path, path, *NANO)
    assert status == 3 and "the bag has no /tf_static" in error and "--calibration FILE.yaml" in error
    given, out = calibration_file(tmp_path / "mounts.yaml"), tmp_path / "out.mcap"
    arguments = ["run", str(tmp_path / "second_file.mcap"), *NANO, "--calibration", str(given), "--out", str(out)]
    assert main(arguments) == 0
    ours, theirs = (read(path, GRID) for path in (out, whole_run / "grids.mcap"))
    for (_, grid), (_, other) in zip(ours, theirs, strict=True):
        share = np.intersect1d(listed(grid), listed(other)).size / len(listed(other))
        assert share > 0.99  # the quaternions are rounded differently


def test_the_input_of_a_run_may_have_no_messages(capsys, tmp_path):
    with BagWriter(tmp_path / "none.mcap"):
        pass
    status, error = refused(capsys, tmp_path, tmp_path / "none.mcap", *NANO)
    assert status == 2 and "the bag holds no messages" in error


def spoiled_jpegs(topic, message):
    if "image" in topic:
        message.data = message.data[: message.data.size // 2]
    return message


def no_calibration(topic, message):
    if topic == "/cam_back/camera_info":
        message.k = np.zeros(9)
    return message


def other_instants(topic, message):
    if topic.startswith("/cam_back_left/image"):
        message.header.stamp.sec += 100
    return message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"change": spoiled_jpegs},
            "no grid from 2 sets (lost: 2 image (CAM_FRONT)): camera CAM_FRONT: the JPEG is cut",
        ),
        ({"change": no_calibration}, "camera CAM_BACK: K is all zero: the camera is not calibrated"),
        ({"tf_kinds": ("/tf_static",)}, "pose of the vehicle: above 'base_link' there is none of odom, map, world"),
        ({"tf_kinds": ("/tf",)}, "camera CAM_FRONT: no transform has named the frame 'cam_front'"),
        ({"change": other_instants}, "no image of CAM_BACK_LEFT (the nearest is 99.9"),
    ],
)
def test_a_bag_that_gives_no_grid_says_why(capsys, tmp_path, options, message):
    path = write_drive(tmp_path / "drive.mcap", **options)
    status, error = refused(capsys, tmp_path, path, *NANO, "--missing-camera", "drop")
    assert status == 3 and message in error


def test_messages_that_cannot_be_read_are_told_with_their_topics(capsys, tmp_path):
    events, cut = drive(sets=3), {"/tf": 4, RIG.cameras[0].topic: 1}
    with BagWriter(tmp_path / "drive.mcap") as writer:
        for stamp, topic, kind, message in events:
            data = bytes(typestore().serialize_cdr(message, kind))
            cut[topic] = cut.get(topic, 0) - 1
            writer.write(topic, kind, stamp, data[:30] if cut[topic] == 0 else data)
    assert main(["run", str(tmp_path / "drive.mcap"), *NANO, "--out", str(tmp_path / "out.mcap")]) == 0
    text = capsys.readouterr().out
    for topic in ("/tf", RIG.cameras[0].topic):
        assert f"  left out: 1 message on {topic} cannot be read, the last one: " in text


@pytest.mark.parametrize(
    "policy, lost, words", [("drop", 1, "lost: 1 image (CAM_FRONT)"), ("blank", 0, "filled in: 1 blank (CAM_FRONT)")]
)
def test_one_spoiled_image_costs_what_missing_ones_cost(capsys, tmp_path, policy, lost, words):
    def spoil_one(topic, message):
        if topic == "/cam_front/image_raw/compressed" and stamp_ns(message.header.stamp) < T0 + 50 * MS:
            message.data = message.data[:100]
        return message

    path = write_drive(tmp_path / "drive.mcap", change=spoil_one)
    assert main(["run", str(path), *NANO, "--missing-camera", policy, "--out", str(tmp_path / "out.mcap")]) == 0
    text = capsys.readouterr().out
    assert f"2 sets in, {2 - lost} grids out, {lost} sets lost" in text and words in text
    assert "images dropped: 1 refused (CAM_FRONT), the last one: camera CAM_FRONT: the JPEG has no frame header" in text


def back_camera_stops(topic, message):
    is_image = topic == "/cam_back/image_raw/compressed"
    return None if is_image and stamp_ns(message.header.stamp) > T0 + 50 * MS else message


@pytest.mark.parametrize(("policy", "what", "used"), [("blank", "blank", 0b110111), ("reuse_last", "reused", 0b111111)])
def test_images_that_stand_in_for_missing_ones_are_told(capsys, tmp_path, policy, what, used):
    path = write_drive(tmp_path / "drive.mcap", sets=3, change=back_camera_stops)
    out = tmp_path / "out.mcap"
    assert main(["run", str(path), *NANO, "--missing-camera", policy, "--out", str(out)]) == 0
    assert f"  filled in: 2 {what} (CAM_BACK)\n" in capsys.readouterr().out
    grids = [grid for _, grid in read(out, GRID)]
    assert RIG.names.index("CAM_BACK") == 3
    assert [grid.cameras_used for grid in grids] == [0b111111, used, used]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "take the model nano, which comes with weights; untrained weights, for trials: seeded_weights (--seeded"),
        (["--model", "pano_tiny", "--seeded-weights"], "pano_tiny"),
        (["--model", "nano", "--checkpoint", "nothing.pth"], "nothing.pth: no such file"),
        (["--model", "nano", "--seeded-weights", "--rig", "waymo"], "the rig lacks"),
        (["--model", "nano", "--seeded-weights", "--rig", "my_rig"], "unknown rig 'my_rig'"),
        (["--model", "nano", "--seeded-weights", "--device", "tpu"], "tpu"),
    ],
)
def test_bad_arguments(capsys, tmp_path, good, arguments, message):
    status, error = refused(capsys, tmp_path, good, *arguments, "--no-progress")
    assert status == 2 and message in error


def test_cameras_of_the_rig_that_the_network_does_not_take_are_told_once(capsys, tmp_path, good):
    rig, network = tmp_path / "rig.yaml", tmp_path / "mine.yaml"
    extra = "  - {name: TOP, topic: /top/image, info_topic: /top/info}\n"
    rig.write_text((folder("config") / "rigs" / "nuscenes.yaml").read_text() + extra)
    network.write_text("extends: nano\ncameras: [CAM_FRONT, CAM_BACK]\n")
    words = ("--rig", rig, "--seeded-weights", "--limit", 1, "--no-progress", "--model")
    run = ["run", str(good), *(str(word) for word in words)]
    assert main([*run, "nano", "--out", str(tmp_path / "a.mcap")]) == 0
    told = capsys.readouterr().err
    assert told.count("of the rig's cameras TOP are not used: nano takes CAM_FRONT, CAM_FRONT_RIGHT") == 1
    assert main([*run, str(network), "--out", str(tmp_path / "b.mcap")]) == 0
    assert "CAM_FRONT_RIGHT, CAM_FRONT_LEFT, CAM_BACK_LEFT, CAM_BACK_RIGHT, TOP are not used" in capsys.readouterr().err


def test_a_checkpoint_of_something_else(capsys, tmp_path, good):
    torch.save({"state_dict": {"conv.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    status, error = refused(capsys, tmp_path, good, "--model", "nano", "--checkpoint", tmp_path / "other.pth")
    assert status == 2 and "other.pth" in error and "conv.weight" in error


def test_an_output_that_cannot_be_written(capsys, tmp_path, good):
    (tmp_path / "file").write_text("")
    status, error = refused(capsys, tmp_path, good, *NANO, out=tmp_path / "file" / "out.mcap")
    assert status == 4 and "file/out.mcap: cannot be written" in error
    (tmp_path / "old.mcap").write_text("precious")
    status, error = refused(capsys, tmp_path, good, *NANO, out=tmp_path / "old.mcap")
    assert status == 4 and "old.mcap exists already" in error and (tmp_path / "old.mcap").read_text() == "precious"
    shutil.copy(good, tmp_path / "drive.mcap")
    status, error = refused(capsys, tmp_path, tmp_path / "drive.mcap", *NANO, out=tmp_path / "drive.mcap")
    assert status == 2 and "is the input" in error


def test_a_disk_that_fills_up(tmp_path, good):
    # The limit on a file's size stands in for a full disk: the kernel refuses the write in the same way.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from panoocc_ros.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["run", str(good), *NANO, "--out", str(tmp_path / "out.mcap")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == 4, done.stderr
    assert "out.mcap: cannot be written: File too large; nothing was kept" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_over_its_own_input_is_refused_and_touches_nothing(capsys, tmp_path):
    folder = tmp_path / "drive"
    write_drive(folder, sets=1)
    (folder / "notes.txt").write_text("precious")
    (tmp_path / "link").symlink_to(folder)
    for given, out in ((folder / "drive.mcap", folder), (folder, folder), (folder, tmp_path / "link")):
        status, error = refused(capsys, tmp_path, given, *NANO, "--overwrite", out=out)
        assert status == 2 and "the input" in error
    other = write_drive(tmp_path / "other.mcap", sets=1)
    status, error = refused(capsys, tmp_path, other, *NANO, "--overwrite", out=folder)
    assert status == 4 and "it holds other files (notes.txt)" in error
    assert (folder / "notes.txt").read_text() == "precious"


def test_arguments_that_exclude_each_other(capsys, good):
    for arguments in (["--checkpoint", "x.pth"], ["--limit", "0"], ["--spread-ms", "-3"], ["--threads", "99999999999"]):
        with pytest.raises(SystemExit) as stopped:
            main(["run", str(good), "--out", "out.mcap", *NANO, *arguments])
        assert stopped.value.code == 2
        assert capsys.readouterr().err


def test_a_reader_that_stops_reading_causes_no_traceback():
    command = [sys.executable, "-m", "panoocc_ros.commands.cli", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(60) == 141


def test_help_explains_what_the_bag_needs(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "/tf_static" in text and "exit status" in text and "ros2 bag play" in text


def test_a_network_that_fails_is_counted_and_the_memory_cleared(good, tmp_path, monkeypatch):
    from panoocc_core import NonFiniteError
    from panoocc_ros.outputs.catalogue import OCCUPANCY
    from panoocc_ros.replay.replay import Replay, ReplayOptions

    stream = OccupancyStream(load_model("nano", seeded_weights=True))
    real, calls = stream.step, []

    def step(frame, wanted):
        calls.append(frame)
        if len(calls) <= 2:  # the same images are tried once more
            raise NonFiniteError("the class logits are not finite")
        return real(frame, wanted)

    monkeypatch.setattr(stream, "step", step)
    rig = RIG.select(stream.network.config.cameras)
    with BagReader(good) as bag, BagWriter(tmp_path / "out.mcap") as writer:
        report = Replay(bag, stream, RIG, FrameAssembler(rig)).run(writer, ReplayOptions(outputs=(OCCUPANCY,)))
    assert report.grids == 1 and report.failures == {"the class logits are not finite": 1} and len(calls) == 3


@pytest.mark.parametrize("topic", ["occupancy_foxglove", "occupancy"])
def test_things_are_looked_for_where_an_output_tells_them(good, tmp_path, monkeypatch, topic):
    from panoocc_ros.outputs.catalogue import OUTPUTS
    from panoocc_ros.replay.replay import Replay, ReplayOptions

    stream = OccupancyStream(load_model("nano", seeded_weights=True))
    real, asked = stream.step, []

    def step(frame, wanted):
        asked.append(wanted.instances)
        return real(frame, wanted)

    monkeypatch.setattr(stream, "step", step)
    rig = RIG.select(stream.network.config.cameras)
    (output,) = (one for one in OUTPUTS if one.topic == topic)
    with BagReader(good) as bag, BagWriter(tmp_path / "out.mcap") as writer:
        report = Replay(bag, stream, RIG, FrameAssembler(rig)).run(writer, ReplayOptions((output,), limit=1))
    assert report.grids == 1 and asked == [topic == "occupancy"]


def test_a_decoder_that_fails_is_counted_like_a_network(good, tmp_path, monkeypatch, capsys):
    from panoocc_ros.frames.decoder import FrameDecoder

    def fail(*_):
        raise MemoryError("4 GB for a picture")

    monkeypatch.setattr(FrameDecoder, "images", fail)
    status, error = refused(capsys, tmp_path, good, *NANO)
    assert status == 5 and "every set failed: MemoryError: 4 GB for a picture" in error


def test_a_network_that_cannot_take_the_frames_of_a_bag_says_why(good, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("panoocc_ros.frames.plausibility.geometry_warnings", lambda *_: ("CAM_BACK: odd",))
    model = tmp_path / "sensors.yaml"
    model.write_text("extends: nano\nego_motion: {rates: sensors}\n")
    status, error = refused(capsys, tmp_path, good, "--model", model, *NANO[2:])
    assert status == 5 and "every set failed: ego_motion.rates is 'sensors'" in error
    assert error.endswith("; geometry: CAM_BACK: odd\n")  # judged before the network failed


@pytest.mark.skipif(not REAL_BAG, reason="needs PANOOCC_REAL_BAG")
def test_two_real_key_frames(tmp_path, capsys):
    out = tmp_path / "out.mcap"
    assert main(["run", REAL_BAG, *NANO, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "2 sets in, 2 grids out, 0 sets lost; fixed frame map" in text
    assert "ego motion since the last frame" in text and ": 4.27 m, yaw -1.01 deg" in text
    assert "the frame of the voxels is that of the model preset" in text and "lidar_top" not in text  # nano has its own
    (_, first), _ = read(out, GRID)
    assert stamp_ns(first.newest_image_stamp) - stamp_ns(first.oldest_image_stamp) == 42_606_000


@pytest.mark.skipif(not REAL_BAG, reason="needs PANOOCC_REAL_BAG")
def test_history_is_fused_through_the_motion_between_two_real_key_frames(tmp_path, capsys):
    model, out = tmp_path / "recurrent.yaml", tmp_path / "out.mcap"
    model.write_text("extends: nano\ntemporal: {kind: recurrent, ages_s: [0.5], spacing_s: 0.1}\n")
    assert main(["run", REAL_BAG, "--model", str(model), *NANO[2:], "--out", str(out)]) == 0
    text = capsys.readouterr().out
    # A frame's pose is that of its reference camera's stamp, which the grid carries; between the LiDAR's stamps of the
    # same key frames the vehicle moves by 4.26 m and -1.04 deg.
    assert "the last frame, the newest fused state: 4.27 m, yaw -1.01 deg" in text and "no history" not in text
    assert [grid.history_frames for _, grid in read(out, GRID)] == [0, 1]


def test_a_drive_has_what_its_name_says():
    events = drive(sets=2)
    assert sum(kind == TF for _, _, kind, _ in events) == 16 and len({topic for _, topic, *_ in events}) == 14
