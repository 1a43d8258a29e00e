"""`panoocc label` from end to end: by the true grids of a street, by a network, and every way in which it refuses."""

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.geometry import rigid
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_core.sim import Scene, truth
from panoocc_core.sim.lidar import true_points
from panoocc_core.stream import output_geometry
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.commands.cli import main
from panoocc_ros.messages import truth as truth_messages
from panoocc_ros.messages.fields import stamp_ns
from test.ros.bags import PERIOD_NS, T0, TF, drive
from test.ros.clouds import cloud, points
from test.ros.messages import MS, tf

NANO = ["--model", "nano", "--seeded-weights", "--device", "cpu", "--threads", "1", "--no-progress"]
CLOUD = "sensor_msgs/msg/PointCloud2"
TOPIC, OUT = "/lidar/points", "/panoocc/labelled_points"
START_NS = 1_700_000_000_000_000_000
LIDAR = rigid(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.9, 0.0, 1.84]))  # base from lidar
BY_TRUTH = ["--grids-topic", "/truth/occupancy", "--labels-topic", "/truth/labels", "--no-progress"]
# By name, as the simulator's LiDAR has it: what the benchmark does not name is noise.
FROM_OCC3D = np.array([LIDARSEG.names.index(name) if name in LIDARSEG.names else 0 for name in OCC3D.names])


@pytest.fixture(scope="module", autouse=True)
def threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def read(path, topic):
    with BagReader(path) as bag:
        return [bag.deserialise(message) for message in bag.messages([topic])]


def time_ns(time_s):
    return START_NS + round(time_s * 1e9)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """The true grids of a street twice a second, a LiDAR at other times, and where the vehicle was."""
    path = tmp_path_factory.mktemp("street") / "street.mcap"
    scene, geometry = Scene(4, 6.0), output_geometry(model_config("nano"))
    with BagWriter(path) as writer:
        static = tf(("base_link", "lidar", time_ns(0), LIDAR))
        writer.write("/tf_static", TF, time_ns(0), static)
        for topic, message in truth_messages.label_messages().items():
            writer.write(topic, truth_messages.TYPES[topic], time_ns(0), message, True)
        for k in range(31):
            stamp = time_ns(k * 0.1)
            writer.write("/tf", TF, stamp, tf(("odom", "base_link", stamp, scene.world_from_ego(k * 0.1))))
        for number in range(6):
            time_s = number * 0.5
            true = truth(scene, geometry, time_s)
            found = GroundTruth(time_ns(time_s), geometry, true.class_id, true.instance_id)
            for topic, message in truth_messages.truth_messages(found, number, ()).items():
                writer.write(topic, truth_messages.TYPES[topic], time_ns(time_s) + 100 * MS, message)
        for time_s in (0.7, 1.2, 1.74, 2.3):
            here = true_points(scene, time_s).position_m.astype(np.float64)
            there = (here - LIDAR[:3, 3]) @ LIDAR[:3, :3]
            message = cloud(dict(zip("xyz", there.T)), stamp_ns=time_ns(time_s))
            writer.write(TOPIC, CLOUD, time_ns(time_s) + 50 * MS, message)
    return path, scene


def test_points_of_a_street_have_the_class_of_what_they_lie_on(street, tmp_path, capsys):
    """A LiDAR between two grids sees the same standing world: with the vehicle's motion left out, it would not."""
    path, scene = street
    out = tmp_path / "labelled.mcap"
    command = ["label", str(path), "--points", TOPIC, "--grids", str(path), *BY_TRUTH, "--out", str(out)]
    assert main(command) == 0
    assert "things told apart by truth in 6 grids" in capsys.readouterr().out
    clouds = read(out, OUT)
    assert [stamp_ns(one.header.stamp) for one in clouds] == [time_ns(t) for t in (0.7, 1.2, 1.74, 2.3)]
    for message, time_s in zip(clouds, (0.7, 1.2, 1.74, 2.3)):
        true, got = true_points(scene, time_s), points(message)[0]
        in_ego_m = np.stack([got["x"], got["y"], got["z"]], axis=1) @ LIDAR[:3, :3].T + LIDAR[:3, 3]
        np.testing.assert_allclose(in_ego_m, true.position_m, atol=1e-4)
        known = got["label"] != 255
        assert 0.3 < known.mean() < 1.0  # the LiDAR reaches further than the grid
        is_ground = known & np.isin(true.class_id, [LIDARSEG.names.index("driveable_surface")])
        assert (FROM_OCC3D[got["label"][is_ground]] == true.class_id[is_ground]).mean() > 0.9
        standing = known & (true.instance_id == 0) & (got["label"] != OCC3D.free_id)
        assert (FROM_OCC3D[got["label"][standing]] == true.class_id[standing]).mean() > 0.9
        is_thing = known & (true.instance_id > 0) & (got["label"] != OCC3D.free_id) & (got["instance"] > 0)
        assert (got["instance"][is_thing] == true.instance_id[is_thing]).mean() > 0.9
    labels = read(out, "/panoocc/labels")
    assert len(labels) == 1 and tuple(labels[0].names) == OCC3D.names
    assert len(read(out, "/tf")) == 31 and len(read(out, "/tf_static")) == 1


def cloudy_drive(path, sets=3, change=None, clouds=None):
    """A drive of small pictures, with a cloud 30 ms after each set; `change(message)` may spoil clouds."""
    random = np.random.default_rng(0)
    with BagWriter(path) as writer:
        events = list(drive(sets))
        for number in range(sets if clouds is None else clouds):
            stamp = T0 + number * PERIOD_NS + 30 * MS
            message = cloud({axis: random.uniform(-30, 30, 500) for axis in "xyz"}, stamp_ns=stamp, frame_id="lidar")
            events.append((stamp + 5 * MS, TOPIC, CLOUD, message if change is None else change(message)))
        events.append((T0 - 100 * MS, "/tf_static", TF, tf(("base_link", "lidar", 0, LIDAR))))
        for stamp, topic, kind, message in sorted(events, key=lambda event: event[0]):
            writer.write(topic, kind, stamp, message)
    return path


@pytest.fixture(scope="module")
def by_network(tmp_path_factory):
    """A drive with clouds, and what a network makes of it: the folder, with grids.mcap."""
    folder = tmp_path_factory.mktemp("network")
    path = cloudy_drive(folder / "drive.mcap")
    assert (
        main(["label", str(path), "--points", TOPIC, *NANO, "--with-grids", "--out", str(folder / "grids.mcap")]) == 0
    )
    return folder


def by_grids(folder, path, out, *options):
    """Exit status of a run with the grids of the network."""
    grids = ["--grids", str(folder / "grids.mcap"), "--no-progress"]
    return main(["label", str(path), "--points", TOPIC, *grids, *options, "--out", str(out)])


def test_a_network_over_the_bag_and_its_grids_of_before_label_the_same(by_network, tmp_path, capsys):
    out = tmp_path / "out.mcap"
    assert by_grids(by_network, by_network / "drive.mcap", out) == 0
    words = capsys.readouterr().out
    assert "3 clouds in, 3 labelled: 1500 points" in words and "points outside of the grid" in words
    originals, first, second = (
        read(*place) for place in ((by_network / "drive.mcap", TOPIC), (by_network / "grids.mcap", OUT), (out, OUT))
    )
    for before, ours, theirs in zip(originals, first, second, strict=True):
        assert stamp_ns(before.header.stamp) == stamp_ns(ours.header.stamp) == stamp_ns(theirs.header.stamp)
        assert before.header.frame_id == ours.header.frame_id == theirs.header.frame_id
        a, b = points(ours), points(theirs)
        for name in ("x", "y", "z", "label", "rgb"):
            np.testing.assert_array_equal(a[name], b[name])
        listed = a["label"] != OCC3D.free_id  # a sparse grid has no confidence of free voxels
        np.testing.assert_array_equal(a["confidence"][listed], b["confidence"][listed])
        assert (a["instance"] == b["instance"]).mean() > 0.95  # boxes part points within a voxel, grids do not
        np.testing.assert_array_equal(points(before)[["x", "y", "z"]], a[["x", "y", "z"]])
        assert {255} < set(np.unique(a["label"]).tolist())


def test_clamping_leaves_no_point_unknown(by_network, tmp_path):
    out = tmp_path / "out.mcap"
    assert by_grids(by_network, by_network / "drive.mcap", out, "--label-outside", "clamp") == 0
    assert all((points(message)["label"] != 255).all() for message in read(out, OUT))


def without_frame(message):
    message.header.frame_id = ""
    return message


def of_unknown_frame(message):
    message.header.frame_id = "roof"
    return message


def cut(message):
    message.data = message.data[:-1]
    return message


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (without_frame, "frame_id is empty"),
        (of_unknown_frame, "no transform has named the frame 'roof'; known frames: base_link, cam_"),
        (cut, "data has 5999 bytes: 500 x 1 points of 12 need 6000"),
    ],
)
def test_clouds_that_cannot_be_labelled_end_the_command_with_the_reason(by_network, tmp_path, capsys, change, text):
    path, out = cloudy_drive(tmp_path / "drive.mcap", sets=2, change=change), tmp_path / "out.mcap"
    assert by_grids(by_network, path, out) == 3
    words = capsys.readouterr().err
    assert "no cloud of 2 was labelled" in words and text in words and not out.exists()


def test_a_cloud_far_from_every_grid_is_lost_and_the_others_are_not(by_network, tmp_path, capsys):
    path, out = cloudy_drive(tmp_path / "drive.mcap", sets=4, clouds=4), tmp_path / "out.mcap"
    assert by_grids(by_network, path, out, "--label-max-age-s", "0.05") == 0
    words = capsys.readouterr().out
    assert "4 clouds in, 3 labelled" in words and "lost: 1 no_grid" in words and "0.140 s earlier" in words


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--points", "/lidar"], 2, "no topic /lidar (points); its topics of this kind are /lidar/points"),
        (["--points", "/tf"], 2, "/tf holds tf2_msgs/msg/TFMessage, not sensor_msgs/msg/PointCloud2"),
        (
            ["--points", TOPIC, "--grids", "nowhere.mcap", "--instances", "none"],
            2,
            "--seeded-weights and --instances and --device and --threads: no network runs with --grids",
        ),
        (["--points", TOPIC, "--label-outside", "drop"], 2, "invalid choice: 'drop'"),
        (["--points", TOPIC, "--label-max-age-s", "-1"], 2, "--label-max-age-s"),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_network_is_loaded(tmp_path, capsys, options, status, text):
    path, out = cloudy_drive(tmp_path / "drive.mcap", sets=1), tmp_path / "out.mcap"
    try:
        found = main(["label", str(path), *options, *NANO, "--out", str(out)])
    except SystemExit as ended:
        found = ended.code
    assert (found, out.exists()) == (status, False) and text in capsys.readouterr().err


def test_grids_and_clouds_that_are_not_there(by_network, tmp_path, capsys):
    out = tmp_path / "out.mcap"
    command = ["label", str(by_network / "drive.mcap"), "--points", TOPIC, "--out", str(out)]
    assert main([*command, "--grids", "nowhere.mcap"]) == 2
    assert "nowhere.mcap: no such bag" in capsys.readouterr().err
    path = cloudy_drive(tmp_path / "blind.mcap", sets=1, clouds=0)
    assert main(["label", str(path), "--points", "/LIDAR_TOP", "--out", str(out)]) == 2
    assert "the bag has no point clouds (sensor_msgs/msg/PointCloud2), neither on /LIDAR_TOP" in capsys.readouterr().err


def test_grids_without_their_classes_or_of_another_frame_are_refused(street, tmp_path, capsys):
    path, _ = street
    out = ["--out", str(tmp_path / "out.mcap")]
    command = ["label", str(path), "--points", TOPIC, "--grids", str(path), *BY_TRUTH, *out]
    assert main([*command, "--labels-topic", "/labels"]) == 2
    words = capsys.readouterr().err
    assert "nothing on /labels says what the classes of /truth/occupancy mean: choose what does with" in words
    assert "--labels-topic: /truth/labels" in words
    assert main([*command, "--base-frame", "chassis"]) == 2
    assert "grids are given in 'base_link', the vehicle's frame is 'chassis'" in capsys.readouterr().err
    assert main([*command, "--grids-topic", "/truth/boxes"]) == 2
    assert "no topic /truth/boxes (grids); its topics of this kind are /truth/occupancy" in capsys.readouterr().err
