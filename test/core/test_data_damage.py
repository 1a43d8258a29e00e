"""Tables and files that are not what they should be: each is refused with its name and with what to do."""

import json
import os

import cv2
import numpy as np
import pytest

from panoocc_core.data import DataError, NuScenes, tables
from panoocc_core.data.tables import records

from . import nuscenes_folder as by_hand

TOKEN = "[0-9a-f]{32}"


def read(root):
    """All that there is to read."""
    for drive in NuScenes(root, by_hand.VERSION).drives():
        for index in range(len(drive)):
            drive.frame(index)
            drive.truth(index)


@pytest.fixture
def root(tmp_path):
    by_hand.write_nuscenes(tmp_path)
    return tmp_path


def test_the_untouched_folder_reads(root):
    read(root)


TABLES = (
    "scene",
    "sample",
    "sample_data",
    "calibrated_sensor",
    "ego_pose",
    "sensor",
    "sample_annotation",
    "instance",
    "attribute",
    "category",
)


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table(root, table):
    (root / by_hand.VERSION / f"{table}.json").unlink()
    with pytest.raises(DataError, match=rf"{table}\.json: no such table; unpack the metadata"):
        read(root)


@pytest.mark.parametrize("table", [*TABLES, "lidarseg", "panoptic"])
def test_a_table_that_is_cut_off(root, table):
    path = root / by_hand.VERSION / f"{table}.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"{table}\.json: is cut off or damaged after \d+ records"):
        read(root)


def change(table, field, value, row=0):
    """An edit of one field of one record."""

    def edit(content):
        content[table][row][field] = value

    return edit


def without(table, field=None, row=0):
    """An edit that drops a record, or one field of it."""

    def edit(content):
        if field is None:
            del content[table][row]
        else:
            del content[table][row][field]

    return edit


def twice(table):
    def edit(content):
        content[table].append(content[table][0])

    return edit


def no_samples(content):
    content["sample"] = [row for row in content["sample"] if row["scene_token"] != content["scene"][0]["token"]]
    known = {row["token"] for row in content["sample"]}
    for table in ("sample_data", "sample_annotation"):
        content[table] = [row for row in content[table] if row["sample_token"] in known]


def others_neighbour(content):
    """`next` of the walker is an annotation of the car."""
    of_instance = {row["instance_token"]: row for row in content["sample_annotation"]}
    walker = of_instance[by_hand.token("instance", "scene-0061", "walker")]
    walker["next"] = of_instance[by_hand.token("instance", "scene-0061", "car")]["token"]


NAN = float("nan")
BROKEN = {
    "pose with nan": (change("ego_pose", "translation", [NAN, 0, 0]), "ego_pose.json: record .* translation has .*nan"),
    "pose of two numbers": (change("ego_pose", "translation", [1, 2]), r"translation has the shape \(2,\), not \(3,\)"),
    "pose of texts": (change("ego_pose", "translation", ["a", "b", "c"]), "translation does not hold numbers"),
    "long quaternion": (change("ego_pose", "rotation", [1, 1, 0, 0]), "ego_pose.json: record .*length 1.41421, not 1"),
    "zero quaternion": (change("calibrated_sensor", "rotation", [0, 0, 0, 0]), "calibrated_sensor.*length 0, not 1"),
    "no pose": (without("ego_pose"), f"ego_pose.json: lacks 1 poses that sample_data.json names, the first {TOKEN}"),
    "dangling sensor": (change("calibrated_sensor", "sensor_token", "x"), "names the sensor x, which sensor.json"),
    "dangling calibration": (
        change("sample_data", "calibrated_sensor_token", "x"),
        "sample_data.json: record .*names the calibrated_sensor x, which calibrated_sensor.json does not have",
    ),
    "dangling sample": (change("sample_data", "sample_token", "x"), "names the sample x, which sample.json"),
    "dangling scene": (change("sample", "scene_token", "x"), "sample.json: record .*names the scene x"),
    "dangling category": (change("instance", "category_token", "x"), "instance.json: record .*names the category x"),
    "dangling instance": (change("sample_annotation", "instance_token", "x"), "names the instance x"),
    "dangling annotated sample": (change("sample_annotation", "sample_token", "x"), "annotation.*names the sample x"),
    "dangling neighbour": (change("sample_annotation", "next", "x"), "annotation.json: a record names x as its neighb"),
    "neighbour of another": (others_neighbour, f"names {TOKEN} as its neighbour .*another instance"),
    "flat box": (change("sample_annotation", "size", [1, 0, 1]), r"size \(width, length, height\) .*not positive"),
    "box at nan": (
        change("sample_annotation", "translation", [0, NAN, 0], 1),
        "annotation.json: record .* translation has",
    ),
    "box of infinity": (
        change("sample_annotation", "size", [1, float("inf"), 1]),
        "annotation.json: .* size has entries",
    ),
    "box without turn": (change("sample_annotation", "rotation", [0, 0, 0, 0]), "annotation.json: .* length 0, not 1"),
    "box too far": (change("sample_annotation", "translation", [10**400, 0, 0]), "translation does not hold numbers"),
    "box of two numbers": (change("sample_annotation", "size", [1, 2]), r"size is \[1, 2\], not 3 numbers"),
    "box of a text": (change("sample_annotation", "size", [1, "2", 3]), "annotation.json: .* size does not hold"),
    "annotation twice": (twice("sample_annotation"), "sample_annotation.json: has tokens that are there twice"),
    "sample twice": (twice("sample"), f"sample.json: record {TOKEN}: is there twice"),
    "scene twice": (twice("scene"), "scene.json: record .*scene-0916 is there twice"),
    "image twice": (twice("sample_data"), "is a second key frame of CAM_BACK for the sample"),
    "scene without key frames": (no_samples, "scene-0916 has no key frames in sample.json"),
    "no scenes": (lambda content: content["scene"].clear(), "scene.json: has no scenes"),
    "missing image record": (without("sample_data"), "no key frame of CAM_BACK for the sample .*scene-0916"),
    "missing field": (without("sample_data", "filename"), "sample_data.json: record .*has no field 'filename'"),
    "number for a text": (change("scene", "name", 61), "scene.json: record .*name is 61, not a text"),
    "text for a number": (change("sample", "timestamp", "now"), "timestamp is 'now', not a whole number"),
    "text for a flag": (change("sample_data", "is_key_frame", "no"), "is_key_frame is 'no', neither true nor false"),
    "negative focal length": (
        change("calibrated_sensor", "camera_intrinsic", [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        "camera_intrinsic has a focal length that is not positive",
    ),
    "camera without intrinsics": (
        change("calibrated_sensor", "camera_intrinsic", []),
        "camera_intrinsic has the shape",
    ),
    "path out of the folder": (change("sample_data", "filename", "../../a.jpg"), "leads out of the data set's folder"),
    "absolute path": (change("lidarseg", "filename", "/etc/hosts"), "lidarseg.json: .*leads out of the data set"),
    "unknown category": (change("category", "name", "vehicle.boat"), "category 'vehicle.boat' is none of nuScenes"),
    "no index": (without("category", "index", 3), "category.json: its categories have no index, as lidarseg"),
    "large index": (change("category", "index", 255), "category.json: record .*index is 255, above 254"),
    "category left out": (change("category", "index", 40, 24), "holds the category 24, which category.json does not"),
}


@pytest.mark.parametrize(("edit", "message"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_record(root, edit, message):
    content = by_hand.tables()
    edit(content)
    by_hand.write_tables(root, content)
    with pytest.raises(DataError, match=message):
        read(root)


def test_a_missing_version(root):
    with pytest.raises(DataError, match="v1.0-trainval: no such folder; .* has v1.0-mini"):
        NuScenes(root)


# Files


def first(root, pattern):
    return sorted(root.glob(pattern))[0]


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def oversized_jpeg(path):
    """A header that promises four gigabytes."""
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xff\x00\xff\x00"
    path.write_bytes(data)


def huge(path):
    os.truncate(path, 65 << 20)  # sparse


IMAGES = {
    "missing": (lambda path: path.unlink(), "jpg: cannot be read .*unpack the archive"),
    "empty": (lambda path: path.write_bytes(b""), "jpg: has 0 bytes"),
    "half": (lambda path: cut(path, path.stat().st_size * 2 // 3), r"jpg: the JPEG is cut off after \d+ bytes"),
    "head": (lambda path: cut(path, 30), "jpg: the JPEG has no frame header"),
    "text": (lambda path: path.write_text("<html>not found</html>"), "jpg: begins with 3c 68 74 6d and is no JPEG"),
    "resized": (lambda path: cv2.imwrite(str(path), np.zeros((18, 32, 3), np.uint8)), "is 32x18, its table says 64x36"),
    "bomb": (oversized_jpeg, "jpg: image size 65280x65280 is outside 1..16384"),
    "huge": (huge, r"jpg: has \d+ bytes, outside"),
    "noise": (lambda path: path.write_bytes(b"\xff\xd8" + bytes(500) + b"\xff\xd9"), "has no frame header"),
}


@pytest.mark.parametrize(("damage", "message"), IMAGES.values(), ids=IMAGES)
def test_a_wrong_image(root, damage, message):
    damage(first(root, "samples/CAM_BACK_LEFT/*.jpg"))
    with pytest.raises(DataError, match=message):
        read(root)


def flat_points(path):
    points = np.fromfile(path, np.float32)
    points[5] = np.inf
    points.tofile(path)


def labels_of(value, count=by_hand.POINTS, dtype=np.uint8):
    return lambda path: np.full(count, value, dtype).tofile(path)


def arrays_of(**arrays):
    return lambda path: np.savez(path, **arrays)


POINT_FILES = {
    "sweep cut": ("samples/LIDAR_TOP/*", lambda path: cut(path, 100 * 20 // 2 - 3), "no whole number of points"),
    "sweep not finite": ("samples/LIDAR_TOP/*", flat_points, "pcd.bin: has points that are not finite"),
    "labels missing": ("lidarseg/*/*", lambda path: path.unlink(), "lidarseg.bin: cannot be read"),
    "labels for others": ("lidarseg/*/*", labels_of(1, 63), "lidarseg.bin: has 63 labels for 64 points"),
    "label unknown": ("lidarseg/*/*", labels_of(32), "lidarseg.bin: holds the category 32, which"),
    "panoptic missing": ("panoptic/*/*", lambda path: path.unlink(), "panoptic.npz: no such file"),
    "panoptic short": ("panoptic/*/*", arrays_of(data=np.zeros(5, np.uint16)), r"data is uint16 \(5,\), not .*64"),
    "panoptic signed": ("panoptic/*/*", arrays_of(data=np.zeros(64, np.int32)), r"data is int32 \(64,\), not uint16"),
    "panoptic unknown": (
        "panoptic/*/*",
        arrays_of(data=np.full(64, 60_001, np.uint16)),
        "panoptic.npz: holds the category 60",
    ),
    "panoptic nameless": ("panoptic/*/*", arrays_of(other=np.zeros(3)), "no array 'data' .it has other.npy"),
    "panoptic pickled": (
        "panoptic/*/*",
        lambda path: np.savez(path, data=np.array([print] * 64, dtype=object), allow_pickle=True),
        "data is object",
    ),
    "panoptic cut": ("panoptic/*/*", lambda path: cut(path, 200), "panoptic.npz: cannot be read"),
}


@pytest.mark.parametrize(("pattern", "damage", "message"), POINT_FILES.values(), ids=POINT_FILES)
def test_a_wrong_file_of_points(root, pattern, damage, message):
    damage(first(root, pattern))
    with pytest.raises(DataError, match=message):
        read(root)


# Reading tables

ROWS = [{"token": f"t{i}", "text": 'a ] } , "b" \\ ü', "numbers": [1.5, -2e-3, [i]]} for i in range(9)]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_records_do_not_depend_on_where_a_chunk_ends(tmp_path, monkeypatch, indent, chunk):
    monkeypatch.setattr(tables, "CHUNK_CHARS", chunk)
    path = tmp_path / "t.json"
    for rows in (ROWS, ROWS[:1], []):
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
        assert list(records(path)) == rows


@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_a_table_cut_anywhere_is_refused(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(tables, "CHUNK_CHARS", chunk)
    path, whole = tmp_path / "t.json", json.dumps(ROWS[:2], indent=0).encode()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"t\.json: "):
            list(records(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', "is not a JSON list"),
        ("[1, 2]", "entry 0 is not a record"),
        ('[{"a": 1} {"b": 2}]', "damaged after 1 records"),
        ('[{"a": 1},]', "damaged after 1 records"),
        ('[{"a": 1}] x', "goes on after the end"),
        ("[" + '{"a":' * 100_000, "after 0 records"),
        ('[{"a": "' + "x" * (3 << 20) + '"', "after 0 records"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, message):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        list(records(path))


def test_a_table_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(b'[{"a": "\xff\xfe"}]')
    with pytest.raises(DataError, match=r"t\.json: cannot be read"):
        list(records(path))


def test_damage_early_in_a_large_table_does_not_read_it_all(tmp_path):
    path = tmp_path / "t.json"
    with path.open("w") as file:
        file.write('[{"a": 1} ; ')
        file.write(" " * (40 << 20))
    with path.open() as file:
        text = tables._Text(file, tables.tqdm(disable=True))
        with pytest.raises(DataError, match="damaged after 1 records"):
            list(tables._objects(text, path))
        assert file.tell() < 16 << 20
