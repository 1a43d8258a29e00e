"""The demo's bad input, which ends it before any process is started."""

import errno
from concurrent.futures import BrokenExecutor

import pytest
import yaml

from panoocc_core import model_config
from panoocc_core.labels import OCC3D
from panoocc_core.stream import output_geometry
from panoocc_ros.bags.bag import BagWriteError
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.demo import run as demo
from test.ros.drive import Drive
from test.ros.truth import write_truth

DRIVE = Drive()


@pytest.fixture
def bag(tmp_path):
    return DRIVE.write_bag(tmp_path / "drive.mcap", 1)


def without_a_camera(path):
    with BagWriter(path) as writer:
        for message in DRIVE.messages(1):
            if "cam_back/" not in message.topic:
                writer.write(message.topic, message.type, message.stamp_ns, message.data)
    return path


def ended(tmp_path, capsys, *options):
    """Exit code and words of the demo."""
    code = demo.main(["--out", str(tmp_path / "out"), *map(str, options)])
    return code, capsys.readouterr().err


def test_bad_input_is_named(tmp_path, bag, capsys):
    code, words = ended(tmp_path, capsys, "--bag", bag, "--model", "pano_tiny")
    assert code == 2 and "unknown model preset 'pano_tiny'" in words and "nano" in words
    code, words = ended(tmp_path, capsys, "--bag", bag, "--rig", "tricycle")
    assert code == 2 and "unknown rig 'tricycle'" in words
    code, words = ended(tmp_path, capsys, "--bag", tmp_path / "none")
    assert code == 2 and "no such bag" in words
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[:4000])
    code, words = ended(tmp_path, capsys, "--bag", cut)
    assert code == 2 and "cut.mcap" in words
    code, words = ended(tmp_path, capsys, "--bag", without_a_camera(tmp_path / "five.mcap"))
    assert code == 2 and "no topic /cam_back/image_raw/compressed" in words


def test_a_package_that_is_not_built_is_told(tmp_path, bag, capsys, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    code, words = ended(tmp_path, capsys, "--bag", bag)
    assert code == 1 and "build the package" in words


def test_a_network_of_ones_own_gets_its_street(tmp_path, monkeypatch):
    """Its grid is that of the file, not of a preset of the file's name."""
    model = tmp_path / "my.yaml"
    model.write_text("extends: nano\ngrid: {rows: 16, columns: 16, layers: 4}\n")
    written = []
    monkeypatch.setattr(demo, "write_street_bag", lambda *_, grid, **__: written.append(grid))
    config = model_config(model)
    demo._simulated_street(tmp_path / "street.mcap", config, "step")
    assert [grid.voxel_size_m for grid in written] == [output_geometry(config).voxel_size_m] == [(1.6, 1.6, 0.8)]


@pytest.mark.parametrize("path", ["1.0", "yes", "it's mine: weights.pth", "~", "größe.pth"])
def test_names_of_files_reach_the_node_as_texts(path):
    words = demo._ros_arguments({"checkpoint": path, "threads": 2, "seeded_weights": True})
    assert words[0] == "--ros-args" and words[1::2] == ["-p"] * 3
    read = {name: yaml.safe_load(text) for name, _, text in (word.partition(":=") for word in words[2::2])}
    assert read == {"checkpoint": path, "threads": 2, "seeded_weights": True}


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "out/a.gif"),
            "cannot write out/a.gif: No space left on device",
        ),
        (OSError("out/a.gif: only 3 of 4 frames"), "out/a.gif: only 3 of 4 frames"),
        (BagWriteError("street.mcap: cannot be written"), "street.mcap: cannot be written"),
        (BrokenExecutor("A process in the process pool was terminated"), "a worker process was killed, e.g. for want"),
    ],
)
def test_a_full_disk_and_lost_workers_are_told_in_one_line(tmp_path, bag, capsys, monkeypatch, error, words):
    monkeypatch.setattr(demo, "_run_processes", failing(error))
    code, told = ended(tmp_path, capsys, "--bag", bag)
    assert code == 1 and told.startswith(f"demo: {words}") and told.count("\n") == 1


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path, bag, capsys):
    (tmp_path / "out").write_text("mine")
    code, told = ended(tmp_path, capsys, "--bag", bag)
    assert code == 1 and told == f"demo: cannot write {tmp_path / 'out'}: File exists\n"


@pytest.mark.parametrize("name", ["report.json", "occupancy.mcap", "street.mcap", "node.log"])
def test_files_of_others_in_the_folder_stay_as_they_are(tmp_path, bag, capsys, name, monkeypatch):
    (tmp_path / "out").mkdir()
    mine = tmp_path / "out" / name
    mine.write_text("mine")
    code, told = ended(tmp_path, capsys, "--bag", bag)
    assert code == 2 and name in told and "give another --out" in told
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]
    mine.rename(tmp_path / "out" / "notes.txt")
    monkeypatch.setattr(demo, "_run_processes", failing(OSError("stop")))
    assert ended(tmp_path, capsys, "--bag", bag)[0] == 1  # other names do not matter
    (tmp_path / "out" / "report.json").write_text("of the demo before")
    assert ended(tmp_path, capsys, "--bag", bag)[0] == 1 and not (tmp_path / "out" / "report.json").exists()


def test_slow_networks_on_a_cpu_are_fed_one_set_at_a_time(monkeypatch):
    monkeypatch.setattr(demo, "chosen_device", str)  # no GPU is needed here

    def pace(model, device="cpu", asked="auto"):
        options = demo.parser().parse_args(["--model", model, "--device", device, "--pace", asked])
        return demo._pace(options, model_config(model))

    assert (
        pace("nano") == pace("nano_waymo") == "real" and pace("pano_small_occ3d") == pace("pano_waymo_small") == "step"
    )
    assert pace("pano_small_occ3d", device="cuda") == "real"
    assert pace("nano", asked="step") == "step" and pace("pano_small_occ3d", asked="real") == "real"


@pytest.mark.parametrize(("model", "cameras"), [("nano", 6), ("nano_waymo", 5)])
def test_the_street_of_the_demo_has_the_networks_cameras_and_classes(tmp_path, monkeypatch, model, cameras):
    config = model_config(model)
    monkeypatch.setitem(demo.DRIVES, "step", (1.0, 2.0))
    monkeypatch.setattr(demo, "MAX_SCALE", 0.04)
    street = demo._simulated_street(tmp_path / "street.mcap", config, "step")
    with demo.BagReader(street) as reader:
        images = [topic for topic in reader.topics if topic.endswith("/image_raw/compressed")]
        assert len(images) == cameras
        demo.check_topics(reader, demo.rig_for(config, demo.chosen_rig("auto", config)))
    assert demo._usable_truth(street, config) == config.labels


def test_weights_are_the_ones_asked_for_else_those_of_the_preset(monkeypatch, tmp_path):
    def weights(*words):
        return demo._weights(demo.parser().parse_args(list(words)), model_config("nano"))

    monkeypatch.setattr(demo, "shipped_weights", lambda model: None)
    assert weights() == weights("--seeded-weights") == {"seeded_weights": True}
    monkeypatch.setattr(demo, "shipped_weights", lambda model: tmp_path / f"{model}.safetensors")
    assert weights() == {} and weights("--seeded-weights") == {"seeded_weights": True}
    assert weights("--checkpoint", "mine.pth") == {"checkpoint": "mine.pth"}


def test_truth_is_used_where_the_bag_has_it_in_the_models_classes(tmp_path, bag, capsys):
    nano, lidarseg = model_config("nano"), model_config("pano_small_4f")
    assert demo._usable_truth(bag, nano) is None and not capsys.readouterr().out
    true = write_truth(tmp_path / "true.mcap", DRIVE, 1)
    assert demo._usable_truth(true, nano) == OCC3D
    assert demo._usable_truth(true, lidarseg) is None and "label sets differ" in capsys.readouterr().out


@pytest.mark.parametrize("grids, is_few", [(19, True), (20, False)])
def test_scores_of_few_grids_are_told_to_mean_little(grids, is_few):
    report = {"miou": 0.4, "geometric_iou": 0.6, "pq": 0.3, "stq": None, "evaluated_grids": grids}
    assert ("fewer than 20, so these numbers mean little" in demo.line_of_scores(report)) == is_few
