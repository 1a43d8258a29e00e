"""Bags: what is written can be read by others, and what is damaged is called so."""

import contextlib
import errno
import io
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from panoocc_core.labels import OCC3D
from panoocc_ros.bags.bag import BagError, BagReader, BagWriteError, BrokenMessage
from panoocc_ros.bags.overwriting import check_output
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.messages.types import new_message, typestore
from panoocc_ros.messages.voxel_grid import fill_label_set
from test.ros.bags import RIG, T0, TF, drive, write_drive
from test.ros.messages import tf

LABELS = "panoocc/msg/LabelSet"
ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
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


OTHER_FILES = [
    ("text.mcap", b"I am a text", "no MCAP file, whatever its name says"),
    ("text.db3", b"I am a text", "no sqlite3 database, whatever its name says"),
    ("empty.mcap", b"", "the file is empty"),
    ("pointer.mcap", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "`git lfs pull`"),
    ("pointer.db3", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "`git lfs pull`"),
    ("drive.bag", b"#ROSBAG V2.0\n", "a ROS 1 bag: convert it with `rosbags-convert --src .*drive.bag"),
    ("drive.mcap.zst", b"\x28\xb5\x2f\xfd", "give a rosbag2 folder, or an .mcap or .db3 file"),
    ("ros1.mcap", b"\x89MCAP0\r\n\x01" + bytes(8) + b"\x04\0\0\0ros1\0\0\0\0", "its profile is 'ros1'"),
    ("protobuf.mcap", b"\x89MCAP0\r\n\x01" + bytes(8) + b"\0\0\0\0\0\0\0\0", "its profile is ''"),
]


@pytest.mark.parametrize(("name", "data", "message"), OTHER_FILES)
def test_other_files_are_named_and_the_advice_fits(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BagError, match=f"{name}: .*{message}") as refused:
        BagReader(tmp_path / name)
    assert "recover" not in str(refused.value) and "reindex" not in str(refused.value)


def test_other_things_are_no_bags(tmp_path):
    (tmp_path / "empty").mkdir()
    with sqlite3.connect(tmp_path / "other.db3") as other:
        other.execute("create table unrelated (a int)")
    with pytest.raises(BagError, match=r"other.db3: cannot be opened: .*\.recover"):
        BagReader(tmp_path / "other.db3")
    with pytest.raises(BagError, match="empty: the folder has no metadata.yaml: it holds no .mcap or .db3 file"):
        BagReader(tmp_path / "empty")
    with pytest.raises(BagError, match=r"nowhere: no such bag \(give a rosbag2 folder"):
        BagReader(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(BagError, match="loop: (no such bag|cannot be read)"):
        BagReader(tmp_path / "loop")


def test_odd_names_and_kinds_of_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.mcap")
    with pytest.raises(BagError, match="pipe.mcap: neither a file nor a folder"):
        BagReader(tmp_path / "pipe.mcap")
    for taken in (Path("/dev/null"), tmp_path / "pipe.mcap", Path("/")):  # at once, however much lies below
        with pytest.raises(BagWriteError, match="is not overwritten"):
            BagWriter(taken, overwrite=True)
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mcap")
    with pytest.raises(BagWriteError, match="its name is not UTF-8"):
        BagWriter(name)
    os.rename(write_drive(tmp_path / "drive.mcap"), name)
    assert count(name) == len(drive())
    (tmp_path / "link").symlink_to(name)
    with pytest.raises(BagError, match="link: not a bag: give a rosbag2 folder, or an .mcap or .db3 file"):
        BagReader(tmp_path / "link")


def test_damage_of_any_kind_is_a_bag_error(tmp_path):
    whole, chance = write_drive(tmp_path / "one.mcap").read_bytes(), random.Random(0)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 3, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "damaged.mcap").write_bytes(data)
        with contextlib.suppress(BagError), BagReader(tmp_path / "damaged.mcap") as bag:
            for message in bag.messages():
                with contextlib.suppress(BrokenMessage):
                    bag.deserialise(message)
        with contextlib.suppress(BagError):
            check_output(tmp_path / "damaged.mcap", overwrite=True)


def test_a_folder_without_its_metadata_or_with_wrong_ones(tmp_path):
    path = write_drive(tmp_path / "drive")
    metadata = (path / "metadata.yaml").read_text()
    for spoiled, message in (
        (metadata.replace("serialization_format: cdr", "serialization_format: xml"), "'xml'"),
        ("rosbag2_bagfile_information: {version: 9}", "`ros2 bag reindex` makes a new metadata.yaml"),
        (metadata.replace("drive.mcap", "part_0.mcap"), "files are missing.*part_0.mcap.*give one file alone"),
    ):
        (path / "metadata.yaml").write_text(spoiled)
        with pytest.raises(BagError, match=message) as refused:
            BagReader(path)
        assert "mcap recover" not in str(refused.value)
    (path / "metadata.yaml").unlink()
    with pytest.raises(BagError, match="no metadata.yaml: `ros2 bag reindex .*drive` makes one; or give .*drive.mcap"):
        BagReader(path)
    (path / "drive.mcap").rename(path / "drive.bag")
    with pytest.raises(BagError, match="it holds ROS 1 bags: .*rosbags-convert"):
        BagReader(path)


def test_a_bag_without_messages_begins_and_ends_nowhere(tmp_path):
    with BagWriter(tmp_path / "one.mcap"):
        pass
    with BagReader(tmp_path / "one.mcap") as bag:
        assert (bag.message_count, bag.start_ns, bag.end_ns, list(bag.messages())) == (0, 0, 0, [])


def test_bytes_that_are_no_message_name_topic_type_and_time(tmp_path):
    with BagWriter(tmp_path / "one.mcap") as writer:
        writer.write("/tf", TF, T0, b"\x00\x01\x00\x00\xff\xff\xff\x7f")
    with BagReader(tmp_path / "one.mcap") as bag, pytest.raises(BrokenMessage, match=f"/tf: a {TF} at {T0} ns"):
        bag.deserialise(next(bag.messages()))


def test_nothing_is_left_after_an_exception(tmp_path):
    with pytest.raises(KeyError), BagWriter(tmp_path / "one.mcap") as writer:
        writer.write("/tf", TF, T0, tf())
        raise KeyError("something else broke")
    assert list(tmp_path.iterdir()) == []


def write_one(path, **options):
    with BagWriter(path, **options) as writer:
        writer.write("/tf", TF, T0, tf())


def count(path):
    with BagReader(path) as bag:
        return bag.message_count


@pytest.mark.parametrize("name", ["one.mcap", "folder"])
def test_a_bag_of_ours_is_replaced_when_the_new_one_is_whole(tmp_path, name):
    path = write_drive(tmp_path / name)
    with pytest.raises(BagWriteError, match=f"{name} exists already"):
        BagWriter(path)
    with pytest.raises(KeyError), BagWriter(path, overwrite=True):
        raise KeyError
    assert count(path) == len(drive())
    write_one(path, overwrite=True)
    assert count(path) == 1 and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    write_drive(tmp_path / "one.mcap")
    (tmp_path / "link.mcap").symlink_to("one.mcap")
    write_one(tmp_path / "link.mcap", overwrite=True)
    assert (tmp_path / "link.mcap").is_symlink() and count(tmp_path / "one.mcap") == 1


def others_bag(path):
    """As another recorder writes it."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/tf", TF, typestore=typestore())
        writer.write(connection, T0, typestore().serialize_cdr(tf(), TF))
    return path


def photos(path):
    path.mkdir()
    (path / "photo.jpg").write_bytes(b"precious")
    return path


def bag_and_photo(path):
    write_one(path)
    (path / "photo.jpg").write_bytes(b"precious")
    return path


def bag_in_bag(path):
    write_one(path)
    write_one(path / "inner")
    return path


def text(path):
    path.write_text("precious")
    return path


def others_file(path):
    (file,) = others_bag(path.with_suffix("")).glob("*.mcap")
    return file.rename(path)


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (others_bag, "drive", " is no bag that panoocc wrote"),
        (others_file, "drive.mcap", " is no bag that panoocc wrote"),
        (photos, "photos", " is a folder but no bag"),
        (bag_and_photo, "drive", " holds other files \\(photo.jpg\\)"),
        (bag_in_bag, "drive", " holds other files \\(inner\\)"),
        (text, "notes.mcap", " is no bag that panoocc wrote"),
        (text, "notes", " is no bag that panoocc wrote"),
    ],
)
def test_nothing_else_is_ever_overwritten(tmp_path, make, name, message):
    path = make(tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(BagWriteError, match=f"{name} is not overwritten: it{message}"):
        BagWriter(path, overwrite=True)
    assert contents(tmp_path) == before


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("how", ["itself", "inside", "link", "hard link", "linked folder"])
def test_an_input_is_never_overwritten(tmp_path, how):
    folder = tmp_path / "drive"
    write_drive(folder)
    given = out = folder
    if how == "inside":
        given = folder / "drive.mcap"
    elif how == "link":
        out = tmp_path / "out"
        out.symlink_to(folder)
    elif how == "hard link":
        given = tmp_path / "same.mcap"
        given.hardlink_to(folder / "drive.mcap")
    elif how == "linked folder":
        (tmp_path / "elsewhere").symlink_to(tmp_path)
        given = tmp_path / "elsewhere" / "drive" / "metadata.yaml"
    before = contents(tmp_path)
    with pytest.raises(BagError, match=r"--out \S+ (is|holds|has hard links to) the input .*choose another name"):
        BagWriter(out, overwrite=True, inputs=[given])
    assert contents(tmp_path) == before


def test_two_writers_of_one_bag_do_not_meet(tmp_path):
    with BagWriter(tmp_path / "one.mcap") as first:
        with pytest.raises(BagWriteError, match="is being written by another process"):
            BagWriter(tmp_path / "one.mcap")
        first.write("/tf", TF, T0, tf())
    assert count(tmp_path / "one.mcap") == 1


def test_what_came_meanwhile_is_not_replaced(tmp_path):
    text = "exists already.* what was written is kept in .*one.partial.mcap"
    with pytest.raises(BagWriteError, match=text), BagWriter(tmp_path / "one.mcap") as writer:
        writer.write("/tf", TF, T0, tf())
        (tmp_path / "one.mcap").write_text("precious")
    assert (tmp_path / "one.mcap").read_text() == "precious" and count(tmp_path / "one.partial.mcap") == 1


def test_what_a_killed_process_had_is_kept_and_named(tmp_path, caplog):
    code = (
        "import os, sys; from panoocc_ros.bags.writer import BagWriter; from test.ros.bags import T0, TF;"
        "writer = BagWriter(sys.argv[1]);"
        "[writer.write('/tf', TF, T0 + k, os.urandom(3000)) for k in range(1000)];"
        "writer.flush(); writer.write('/tf', TF, T0 + 2000, b''); os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "one.mcap"
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False)
    assert done.returncode == -9 and [entry.name for entry in tmp_path.iterdir()] == ["one.mcap.part"]
    write_one(path)
    assert count(path) == 1 and f"what it had is in {tmp_path / 'one.partial.mcap'}" in caplog.text
    kept = (tmp_path / "one.partial.mcap").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one.mcap", "one.partial.mcap"]
    stream = pytest.importorskip("mcap.stream_reader", reason="needs the package mcap")
    records = stream.StreamReader(io.BytesIO(kept)).records
    messages = sum(type(record).__name__ == "Message" for record in take_whole(records))
    assert messages == 1000


def take_whole(records):
    """The records before the place where the file ends early."""
    with contextlib.suppress(Exception):
        yield from records


def test_a_folder_in_the_way_is_not_cleared(tmp_path):
    photos(tmp_path / "one.mcap.part")
    with pytest.raises(BagWriteError, match="one.mcap.part is in the way"):
        BagWriter(tmp_path / "one.mcap")
    assert (tmp_path / "one.mcap.part" / "photo.jpg").read_bytes() == b"precious"


def test_a_recorder_keeps_what_it_has_whatever_happens(tmp_path, caplog):
    with pytest.raises(KeyError), BagWriter(tmp_path / "one.mcap", keep=True) as writer:
        writer.write("/tf", TF, T0, tf())
        raise KeyError("something else broke")
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.partial.mcap"]
    assert count(tmp_path / "one.partial.mcap") == 1 and "one.partial.mcap" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BagWriteError, match="cannot be written"):
        BagWriter(tmp_path / "file" / "one.mcap")


def test_a_full_disk_keeps_every_message_up_to_the_last(tmp_path, monkeypatch):
    def take(descriptor, begin, size, whole=os.posix_fallocate):
        if begin + size > 3_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(descriptor, begin, size)

    def write_text(*_):  # of metadata.yaml, which the file does not need
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", take)
    monkeypatch.setattr(Path, "write_text", write_text)
    text = "No space left on device; .* is kept in .*one.partial.mcap$"
    with pytest.raises(BagWriteError, match=text), BagWriter(tmp_path / "one.mcap") as writer:
        for k in range(20_000):
            writer.write("/tf", TF, T0 + k, os.urandom(2000))
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.partial.mcap"]
    assert (tmp_path / "one.partial.mcap").stat().st_size < 3_000_000
    with BagReader(tmp_path / "one.partial.mcap") as bag:
        assert bag.message_count == k > 900
        assert [message.stamp_ns - T0 for message in bag.messages()] == list(range(k))


def test_a_disk_that_breaks_leaves_the_whole_chunks(tmp_path, monkeypatch):
    """Also where a file system promises no room."""

    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    text = r"No space left on device; .* is kept in .*one.partial.mcap \(`mcap recover` makes it whole\)"
    with pytest.raises(BagWriteError, match=text), BagWriter(tmp_path / "one.mcap") as writer:
        for k in range(20_000):
            if k == 3000:
                writer._bag._storage.bio.flush()
                monkeypatch.setattr(writer._bag._storage, "bio", FullDisk(writer._bag._storage.bio))
            writer.write("/tf", TF, T0 + k, os.urandom(2000))
    data = (tmp_path / "one.partial.mcap").read_bytes()
    assert 5 << 20 < len(data) < 6 << 20


class FullDisk:
    """A file on a disk that takes nothing any more."""

    def __init__(self, file):
        self.fileno, self.tell = file.fileno, file.tell

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("limit", [20_000, 1_500_000, 5_000_000])
def test_a_limit_on_the_size_of_files_costs_the_last_chunk_at_most(tmp_path, limit):
    code = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "from panoocc_ros.bags.writer import BagWriter; from test.ros.bags import T0, TF\n"
        "with BagWriter(sys.argv[1]) as writer:\n"
        "    for k in range(5000): writer.write('/tf', TF, T0 + k, os.urandom(2000))"
    )
    command = [sys.executable, "-c", code, tmp_path / "one.mcap"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "one.mcap: cannot be written: File too large" in done.stderr
    if limit < 1 << 20:
        assert "nothing was kept" in done.stderr and list(tmp_path.iterdir()) == []
        return
    with BagReader(tmp_path / "one.partial.mcap") as bag:
        stamps = [message.stamp_ns - T0 for message in bag.messages()]
    assert stamps == list(range(len(stamps))) and len(stamps) * 2000 > limit - (2 << 20)


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
