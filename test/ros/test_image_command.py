"""`panoocc image` from a simulated set to files, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from panoocc_core.labels import OCC3D
from panoocc_core.pictures.figures import heading
from panoocc_ros.commands.cli import main


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image") / "street"
    assert main(["sim", "--images", str(folder), "--seed", "3", "--scale", "0.06"]) == 0
    return folder


def named(street):
    return [f"{path.stem}={path}" for path in sorted(street.glob("*.jpg"))]


def refused(capsys, *words):
    status = main(["image", *map(str, words)])
    return status, capsys.readouterr().err


def test_a_folder_becomes_a_picture_an_overlay_and_a_grid(street, tmp_path, capsys):
    out, overlay, grid = (tmp_path / name for name in ("picture.png", "overlay.png", "grid.npz"))
    outputs = ["--out", str(out), "--overlay", str(overlay), "--grid", str(grid)]
    assert main(["image", str(street), *outputs]) == 0
    said, told = capsys.readouterr()
    assert "NOTE, weights trained on simulated streets alone" in told
    assert f"written: {out}, {overlay}, {grid}" in said and "driveable_surface" in said
    with Image.open(out) as picture, Image.open(overlay) as covered:
        assert picture.size[0] == 1800 and covered.size[0] == 1600
    first = np.load(grid)
    assert first["class_id"].shape == (64, 64, 16) and first["visible"].any()
    status, error = refused(capsys, street, *outputs)
    assert status == 4 and "exists already" in error
    words = [*named(street), "--calibration", str(street / "calibration.yaml"), *outputs, "--overwrite"]
    assert main(["image", *words]) == 0
    again = np.load(grid)
    for name in first.files:
        np.testing.assert_array_equal(first[name], again[name])


def test_the_title_names_what_was_drawn():
    frame = SimpleNamespace(stamp_ns=12_500_000_000, cameras=(None,) * 6)
    occupancy = SimpleNamespace(labels=OCC3D)
    assert heading("PanoOcc nano", frame, occupancy) == "PanoOcc nano, occ3d_nuscenes, 6 cameras, 12.500 s"
    frame.stamp_ns = 0
    assert heading("PanoOcc nano", frame, occupancy) == "PanoOcc nano, occ3d_nuscenes, 6 cameras"


def test_what_panoocc_did_not_write_stays(street, tmp_path, capsys):
    foreign = tmp_path / "holiday.png"
    Image.new("RGB", (4, 4)).save(foreign)
    before = foreign.read_bytes()
    status, error = refused(capsys, street, "--out", foreign, "--overwrite")
    assert status == 4 and "panoocc did not write it" in error and foreign.read_bytes() == before
    text = tmp_path / "notes.npz"
    text.write_text("notes")
    status, error = refused(capsys, street, "--out", tmp_path / "a.png", "--grid", text, "--overwrite")
    assert status == 4 and "panoocc did not write it" in error and not (tmp_path / "a.png").exists()


def test_bad_input_is_named(street, tmp_path, capsys):
    out = ["--out", tmp_path / "a.png"]
    images, calibration = named(street), ["--calibration", street / "calibration.yaml"]
    for words, told, expected in (
        ([tmp_path / "nowhere", *out], "nowhere/calibration.yaml", 2),
        ([tmp_path, *calibration, *out], "there is no image of CAM_FRONT", 2),
        ([images[0], *calibration, *out], "there is no image of", 2),
        ([*images, *out], "--calibration is missing", 2),
        ([*images, "CAM_TOP=a.jpg", *calibration, *out], "nano takes the cameras CAM_FRONT", 2),
        ([*images, images[0], *calibration, *out], "is given twice", 2),
        ([*images, "photo.jpg", *calibration, *out], "'photo.jpg': give one folder, or CAMERA=FILE", 2),
        ([street, "--out", tmp_path / "a.bmp"], "a name that ends in .png", 2),
        ([street, *out, "--overlay", tmp_path / "a.png"], "name the same file", 2),
        ([street, "--out", tmp_path / "none" / "a.png"], "there is no folder", 4),
        ([street, *out, "--model", "nona"], "nona", 2),
        ([street, *out, "--model", "pano_small_occ3d"], "no weights come with the package", 2),
        ([street, *out, "--instances", "boxes", "--model", "nano", "--device", "tpu"], "tpu", 2),
    ):
        status, error = refused(capsys, *words)
        assert (status, told in error) == (expected, True), (words, error)
    assert not list(tmp_path.iterdir())


def test_mounts_that_cannot_be_true_are_told(street, tmp_path, capsys):
    text = (street / "calibration.yaml").read_text()
    front = "translation_m: [1.72, 0.0, 1.49]"
    assert front in text
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace(front, "translation_m: [172.0, 0.0, 1.49]"))
    status, error = refused(capsys, street, "--calibration", wrong, "--out", tmp_path / "a.png")
    assert status == 0 and "WARNING, geometry: CAM_FRONT" in error


def test_the_simulator_gives_a_bag_or_images(tmp_path, capsys):
    for words in ([], ["--out", "a.mcap", "--images", "b"]):
        with pytest.raises(SystemExit) as stopped:
            main(["sim", *words])
        assert stopped.value.code == 2
    assert "--images" in capsys.readouterr().err
    (tmp_path / "mine.txt").touch()
    assert main(["sim", "--images", str(tmp_path), "--overwrite"]) == 4
    assert "mine.txt" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
