"""Bags: what is written can be read by others, and what is damaged is called so."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from panoocc_core.labels import OCC3D
from panoocc_ros.bags.bag import BagError, BagReader, BagWriteError, BagWriter
from panoocc_ros.messages.types import new_message, typestore
from panoocc_ros.messages.voxel_grid import fill_label_set
from test.ros.bags import RIG, T0, TF, drive, write_drive
from test.ros.messages import tf

LABELS = "panoocc/msg/LabelSet"


def labels():
    return fill_label_set(new_message(LABELS), OCC3D)


@pytest.mark.parametrize("name", ["one.mcap", "folder"])
def test_what_was_written_is_read_back(tmp_path, name):
    path = write_drive(tmp_path / name)
    assert path.is_dir() == (name == "folder")
    with BagReader(path) as bag:
        events = drive()
        assert bag.message_count == len(events)
        assert bag.topics["/tf"] == TF and bag.topics[RIG.cameras[0].topic] == "sensor_msgs/msg/CompressedImage"
        assert bag.start_ns == events[0][0] and bag.end_ns == events[-1][0] + 1
        assert bag.count(["/tf", "/nothing"]) == sum(topic == "/tf" for _, topic, *_ in events)
        for message, (stamp, topic, kind, original) in zip(bag.messages(), events, strict=True):
            assert (message.stamp_ns, message.topic, message.type) == (stamp, topic, kind)
            assert message.data == bytes(typestore().serialize_cdr(original, kind))
        assert {message.topic for message in bag.messages(["/tf"])} == {"/tf"}
    assert list(tmp_path.iterdir()) == [path]  # no temporary file is left


def test_a_folder_has_metadata_of_version_9_with_latched_labels_and_compressed_chunks(tmp_path):
    with BagWriter(tmp_path / "out") as writer:
        writer.write("/panoocc/labels", LABELS, T0, labels(), latched=True)
        writer.write("/tf_static", TF, T0, tf(("a", "b", 0, np.eye(4))))
        writer.write("/tf", TF, T0, tf(("odom", "a", 0, np.eye(4))))
    metadata = (tmp_path / "out" / "metadata.yaml").read_text()
    assert "version: 9" in metadata and "storage_identifier: mcap" in metadata
    assert "compression_mode: ''" in metadata  # the chunks are compressed, which every reader of MCAP undoes by itself
    with AnyReader([tmp_path / "out"]) as reader:  # no types of ours: the definitions are in the file
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        assert durability == {"/panoocc/labels": "TRANSIENT_LOCAL", "/tf_static": "TRANSIENT_LOCAL", "/tf": "VOLATILE"}
        connection = next(c for c in reader.connections if c.topic == "/panoocc/labels")
        ((_, _, raw),) = reader.messages([connection])
        assert tuple(reader.deserialize(raw, LABELS).names) == OCC3D.names
    data = next((tmp_path / "out").glob("*.mcap")).read_bytes()
    assert b"zstd" in data and b"driveable_surface" not in data


def test_another_library_reads_the_file(tmp_path):
    reader = pytest.importorskip("mcap.reader", reason="needs the package mcap")
    path = write_drive(tmp_path / "one.mcap")
    with path.open("rb") as file:
        messages = list(reader.make_reader(file).iter_messages())
    assert len(messages) == len(drive())
    assert {schema.name for schema, *_ in messages} >= {TF, "sensor_msgs/msg/CameraInfo"}


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_bag_that_was_cut_off_is_called_so(tmp_path, share):
    path = write_drive(tmp_path / "one.mcap")
    cut(path, share)
    with pytest.raises(BagError, match=rf"{path}: cannot be opened: .*`mcap recover`"):
        BagReader(path)


def test_a_broken_chunk_is_damage_not_the_end(tmp_path):
    path = write_drive(tmp_path / "one.mcap")
    data = bytearray(path.read_bytes())
    chunk = data.index(b"\x28\xb5\x2f\xfd")  # where zstd begins
    data[chunk : chunk + 4] = bytes(4)
    path.write_bytes(data)
    with BagReader(path) as bag, pytest.raises(BagError, match="is damaged"):
        for _ in bag.messages():
            pass


def test_other_things_are_no_bags(tmp_path):
    (tmp_path / "text.mcap").write_text("I am a text")
    (tmp_path / "empty").mkdir()
    with sqlite3.connect(tmp_path / "other.db3") as other:
        other.execute("create table unrelated (a int)")
    for name in ("text.mcap", "empty", "other.db3"):
        with pytest.raises(BagError, match=f"{name}: cannot be opened"):
            BagReader(tmp_path / name)
    with pytest.raises(BagError, match=r"nowhere: no such bag \(give a rosbag2 folder"):
        BagReader(tmp_path / "nowhere")


def test_bytes_that_are_no_message_name_topic_type_and_time(tmp_path):
    with BagWriter(tmp_path / "one.mcap") as writer:
        writer.write("/tf", TF, T0, b"\x00\x01\x00\x00\xff\xff\xff\x7f")
    with BagReader(tmp_path / "one.mcap") as bag, pytest.raises(BagError, match=f"/tf: a {TF} at {T0} ns"):
        bag.deserialise(next(bag.messages()))


def test_nothing_is_left_after_an_exception(tmp_path):
    with pytest.raises(KeyError), BagWriter(tmp_path / "one.mcap") as writer:
        writer.write("/tf", TF, T0, tf())
        raise KeyError("something else broke")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_stays_untouched_until_the_new_bag_is_whole(tmp_path):
    path = tmp_path / "one.mcap"
    path.write_text("precious")
    with pytest.raises(BagWriteError, match="one.mcap exists already"):
        BagWriter(path)
    with pytest.raises(KeyError), BagWriter(path, overwrite=True):
        raise KeyError
    assert path.read_text() == "precious"
    write_drive(tmp_path / "folder")
    for name in ("one.mcap", "folder"):
        with BagWriter(tmp_path / name, overwrite=True) as writer:
            writer.write("/tf", TF, T0, tf())
        with BagReader(tmp_path / name) as bag:
            assert bag.message_count == 1
    (tmp_path / "photos").mkdir()
    with pytest.raises(BagWriteError, match="folder but no bag"):
        BagWriter(tmp_path / "photos", overwrite=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BagWriteError, match="cannot be written"):
        BagWriter(tmp_path / "file" / "one.mcap")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    writer = BagWriter(tmp_path / "one.mcap")
    full = os.open("/dev/full", os.O_WRONLY)
    storage = writer._writer.storage
    os.dup2(full, storage.bio.fileno())
    os.close(full)
    with pytest.raises(BagWriteError, match="No space left on device; nothing was kept"), writer:
        for k in range(20_000):
            writer.write("/tf", TF, T0 + k, os.urandom(2000))
    assert list(tmp_path.iterdir()) == []


def test_a_topic_keeps_its_type(tmp_path):
    with pytest.raises(BagWriteError, match="/tf holds tf2_msgs"), BagWriter(tmp_path / "one.mcap") as writer:
        writer.write("/tf", TF, T0, tf())
        writer.write("/tf", LABELS, T0, labels())
    with pytest.raises(BagWriteError, match="/x: the type a/msg/B is not known"), BagWriter(tmp_path / "b") as writer:
        writer.write("/x", "a/msg/B", T0, b"")


def test_empty_messages_of_every_type_can_be_written():
    for name in ("panoocc/msg/VoxelGrid", "sensor_msgs/msg/CameraInfo", "visualization_msgs/msg/Marker", TF):
        message = new_message(name)
        back = typestore().deserialize_cdr(typestore().serialize_cdr(message, name), name)
        assert type(back) is type(message)
    assert new_message("sensor_msgs/msg/CameraInfo").k.shape == (9,)
