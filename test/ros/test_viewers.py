"""What Rerun's own reader finds in a file, and what a client of Foxglove's protocol receives."""

import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from panoocc_core.labels import OCC3D
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.commands.cli import main
from panoocc_ros.view.bag_scenes import BagScenes
from panoocc_ros.view.foxglove_sink import foxglove_server
from panoocc_ros.view.rerun_sink import rerun_file
from test.ros.drive import Drive
from test.ros.foxglove_client import Client
from test.ros.messages import jpeg
from test.ros.view_bags import GRID, ROAD, boxes, occupancy, write_grids

COUNT = 4
DRIVE = Drive()
CAMERAS = [name.lower() for name in DRIVE.rig.names]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Grids beside the drive that they were made from."""
    return write_grids(tmp_path_factory.mktemp("bags") / "both.mcap", DRIVE, COUNT, together=True)


@pytest.fixture(scope="module")
def rows(both, tmp_path_factory):
    """Entity -> the rows that were logged, each with its columns."""
    pytest.importorskip("rerun")
    path = tmp_path_factory.mktemp("rrd") / "drive.rrd"
    assert main(["view", str(both), "--save", str(path)]) == 0
    assert [one.name for one in path.parent.iterdir()] == ["drive.rrd"]
    return rows_of(path)


def rows_of(path):
    from rerun.chunk import RrdReader

    found: dict[str, list[dict]] = {}
    for chunk in RrdReader(path).stream():
        names = set(chunk.timeline_names)
        assert names <= {"stamp"}
        for row in chunk.to_record_batch().to_pylist():
            found.setdefault(chunk.entity_path, []).append({name: row[name] for name in row if row[name] is not None})
    return found


def column(row, name):
    return row[next(key for key in row if key.endswith(f":{name}"))]


def test_rerun_gets_the_voxels_of_every_grid(rows):
    voxels = rows["/world/ego/voxels"]
    assert len(voxels) == COUNT
    for k, row in enumerate(voxels):
        class_id = occupancy(0, k).class_id.numpy()
        expected = np.argwhere(class_id != OCC3D.free_id)
        assert np.array(column(row, "voxel_indices")).tolist() == expected.tolist()
        values = np.array(column(row, "values"), int)
        assert values.tolist() == class_id[tuple(expected.T)].tolist()
        colours = np.array(column(row, "colors"), np.uint32)
        seen = expected[:, 0] >= 4  # what no camera sees is darker
        own = np.array([int.from_bytes(bytes((*colour, 255)), "big") for colour in OCC3D.colours])
        assert (colours[seen] == own[values[seen]]).all() and (colours[~seen] != own[values[~seen]]).all()
        assert np.array(column(row, "voxel_size")).ravel().tolist() == list(GRID.voxel_size_m)
        assert np.array(column(row, "translation")).ravel().tolist() == [-4, -3, -1]


def test_rerun_gets_everything_on_one_timeline_of_stamps(rows):
    assert len(rows["/world/path"]) == COUNT - 1 and len(rows["/world/ego"]) == COUNT
    assert len(rows["/world/ego/boxes"]) == COUNT and len(rows["/world/ego/grid_2d"]) == COUNT
    assert column(rows["/world/ego/boxes"][0], "labels") == ["car 7"]
    assert np.array(column(rows["/world/ego/boxes"][1], "centers")) == pytest.approx(boxes(1).centre_m)
    assert [column(row, "scalars") for row in rows["/numbers/classes/car"] if "stamp" in row] == [[2.0]] * COUNT
    named = {
        info["class_id"]: info["class_description"]["info"]["label"] for info in column(rows["/world"][0], "context")[0]
    }
    assert named == dict(enumerate(OCC3D.names))


def test_rerun_gets_images_as_they_were_sent_with_their_lens_and_place(rows):
    for name, camera in zip(CAMERAS, DRIVE.rig.names):
        found = rows[f"/world/ego/cameras/{name}"]
        images = [row for row in found if any(key.endswith(":blob") for key in row)]
        sent = bytes(jpeg(0, "", DRIVE.pictures[camera][0]).data)
        assert len(images) == COUNT and bytes(np.ravel(column(images[0], "blob")[0]).tolist()) == sent
        assert column(images[0], "media_type") == ["image/jpeg"]
        lenses = [row for row in found if any(key.endswith(":image_from_camera") for key in row)]
        assert len(lenses) == 1  # the mount does not move
        assert np.array(column(lenses[0], "image_from_camera")).ravel()[0] == 50  # pixels


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error(both, tmp_path, capfd):
    pytest.importorskip("rerun")
    (tmp_path / "full.rrd.part").symlink_to("/dev/full")
    assert main(["view", str(both), "--save", str(tmp_path / "full.rrd")]) == 4
    assert "full.rrd: Rerun could not write it" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_a_place_that_is_not_there_is_an_error(both, tmp_path):
    pytest.importorskip("rerun")
    with (
        BagReader(both) as bag,
        pytest.raises(OSError),
        rerun_file(tmp_path / "no" / "x.rrd", BagScenes(bag).sources, ""),
    ):
        raise AssertionError("there is no such folder")


@pytest.fixture
def served(both):
    """A server, and the scenes that it can show."""
    pytest.importorskip("foxglove")
    with BagReader(both) as bag, foxglove_server("127.0.0.1", 0) as server:
        yield server, list(BagScenes(bag))


def test_foxglove_gets_every_kind_of_message(served):
    server, scenes = served
    server.show(scenes[0])
    client = Client(server.port)
    assert " 101 " in client.status and not server.watched.is_set()
    topics = {"/panoocc/occupancy", "/panoocc/objects", "/panoocc/path", "/panoocc/grid_2d", "/panoocc/numbers", "/tf"}
    topics |= {f"/cameras/{name}/{what}" for name in CAMERAS for what in ("image", "calibration")}
    client.wait_for(topics)
    kinds = {channel["topic"]: channel["schemaName"] for channel in client.channels.values()}
    assert kinds["/panoocc/occupancy"] == "foxglove.VoxelGrid" and kinds["/panoocc/grid_2d"] == "foxglove.Grid"
    assert kinds["/panoocc/objects"] == "foxglove.SceneUpdate" and kinds["/tf"] == "foxglove.FrameTransforms"
    client.subscribe()
    assert server.watched.wait(60)
    found, are_all_there = {}, threading.Event()

    def show_again_and_again():  # the server takes subscriptions one after the other
        while not are_all_there.wait(0.1):
            server.show(scenes[1])

    showing = threading.Thread(target=show_again_and_again, daemon=True)
    showing.start()
    for topic, stamp_ns, data in client.messages():
        found[topic] = (stamp_ns, data)
        if set(found) == topics:
            break
    are_all_there.set()
    showing.join()
    client.close()
    assert {stamp for stamp, _ in found.values()} == {DRIVE.stamp_ns(1)}
    cells, class_id = _rgba(found["/panoocc/occupancy"][1]), occupancy(0, 1).class_id.numpy()
    assert ((cells[..., 3] == 255) == (class_id != OCC3D.free_id)).all()
    assert (cells[4:, :, 0, :3] == OCC3D.colours[ROAD]).all() and (cells[:4, :, 0, :3] < 100).all()  # seen, and not
    image = bytes(jpeg(0, "", DRIVE.pictures[DRIVE.rig.names[0]][1]).data)
    assert image in found[f"/cameras/{CAMERAS[0]}/image"][1]
    assert b"car 7" in found["/panoocc/objects"][1] and b'"car": 2.0' in found["/panoocc/numbers"][1]
    assert all(name.encode() in found["/tf"][1] for name in ("odom", "base_link", *CAMERAS))


def _rgba(encoded):
    """The cells of an encoded foxglove.VoxelGrid, its last field, as [X, Y, Z, 4]."""
    nx, ny, nz = GRID.shape_xyz
    return np.frombuffer(encoded[-nx * ny * nz * 4 :], np.uint8).reshape(nz, ny, nx, 4).transpose(2, 1, 0, 3)


def test_an_address_that_is_taken_is_told(served, both, capsys):
    server, _ = served
    assert main(["view", str(both), "--foxglove", "--port", str(server.port)]) == 4
    assert f"127.0.0.1:{server.port}" in capsys.readouterr().err


def test_the_command_plays_from_when_somebody_watches_until_it_is_interrupted(both):
    pytest.importorskip("foxglove")
    command = [sys.executable, "-m", "panoocc_ros.commands.cli", "view", str(both), "--foxglove"]
    command += ["--port", "0", "--rate", "20", "--loop"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = int(re.search(r"to ws://127.0.0.1:(\d+)", process.stdout.readline())[1])
            client = Client(port)
            client.wait_for({"/panoocc/occupancy"})
            client.subscribe()
            counts: Counter = Counter()
            for topic, stamp_ns, _ in client.messages():
                counts[stamp_ns] += topic == "/panoocc/occupancy"
                if min(counts[DRIVE.stamp_ns(k)] for k in range(COUNT)) == 2:  # every grid, in two rounds
                    break
            client.close()
        finally:
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in told
