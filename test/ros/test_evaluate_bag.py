"""Scores of recorded grids, and bags whose label sets say too little or the wrong thing."""

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from panoocc_core.base.resources import folder
from panoocc_core.labels import LIDARSEG_FREE, OCC3D
from panoocc_ros.bags.bag import BagError
from panoocc_ros.bags.recording import read_recording
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.demo import run as demo
from panoocc_ros.evaluation.bag import evaluate_bag, truth_labels
from panoocc_ros.evaluation.evaluator import EvaluationError
from panoocc_ros.messages import truth as truth_messages
from panoocc_ros.messages.types import LABEL_SET, new_message, typestore
from panoocc_ros.messages.voxel_grid import fill_label_set
from test.ros.drive import Drive
from test.ros.test_evaluation import prediction, street, true_message

GRID, STRING = "panoocc/msg/VoxelGrid", "std_msgs/msg/String"
GRIDS, LABELS = "/panoocc/occupancy", "/panoocc/labels"
DAMAGED = [  # field, value, words of the message
    ("rgb", np.zeros(2, np.uint8), "rgb has 2 values for 18 names"),
    ("is_thing", np.ones(1, np.bool_), "is_thing has 1 flags for"),
    ("free_id", 200, "free_id 200"),
]


def label_message(labels=OCC3D, **fields):
    message = fill_label_set(new_message(LABEL_SET), labels)
    for field, value in fields.items():
        setattr(message, field, value)
    return message


def write(path, messages):
    with BagWriter(path) as writer:
        for topic, kind, message in messages:
            writer.write(topic, kind, 0, message)
    return path


def predicted_bag(path, *labels, grids=True):
    """A bag with one grid of the node and these label sets."""
    found = [(GRIDS, GRID, prediction(street()))] if grids else [("/text", STRING, new_message(STRING))]
    return write(path / "grids.mcap", [(LABELS, LABEL_SET, one) for one in labels] + found)


def true_bag(path, *labels, kind=LABEL_SET):
    """A bag with the truth of one grid and these label sets."""
    grids = [(truth_messages.TRUE_OCCUPANCY, GRID, true_message(street()))]
    return write(path / "truth.mcap", [(truth_messages.LABELS, kind, one) for one in labels] + grids)


def refusal(grids, truth, kind=BagError):
    with pytest.raises(kind) as caught:
        evaluate_bag(grids, truth)
    return str(caught.value)


def test_grids_of_one_bag_are_scored_by_the_truth_of_another(tmp_path):
    grids, truth = predicted_bag(tmp_path, label_message()), true_bag(tmp_path, label_message())
    scored = evaluate_bag(grids, truth)
    assert [one.frame.miou for one in scored.frames] == [1.0] and scored.evaluator.pairs == 1
    assert truth_labels(truth) == OCC3D and truth_labels(grids) is None


def test_the_newest_label_set_counts(tmp_path):
    grids = predicted_bag(tmp_path, label_message(LIDARSEG_FREE), label_message())
    assert len(evaluate_bag(grids, true_bag(tmp_path, label_message())).frames) == 1


def test_a_missing_label_set_is_told_with_its_bag_and_topic(tmp_path):
    grids, truth = predicted_bag(tmp_path), true_bag(tmp_path, label_message())
    words = refusal(grids, truth)
    assert words.startswith(f"{grids}: {GRIDS} has grids") and LABELS in words and "record both topics" in words
    grids, truth = predicted_bag(tmp_path / "2", label_message()), true_bag(tmp_path / "2")
    words = refusal(grids, truth)
    assert words.startswith(f"{truth}: /truth/occupancy has grids") and "/truth/labels" in words
    with pytest.raises(BagError, match="nothing on /truth/labels"):
        truth_labels(truth)


def test_without_grids_no_label_set_is_missed(tmp_path):
    scored = evaluate_bag(predicted_bag(tmp_path, grids=False), true_bag(tmp_path, label_message()))
    assert scored.frames == () and scored.evaluator.pairs == 0


@pytest.mark.parametrize("field, value, words", DAMAGED)
def test_a_label_set_that_contradicts_itself_is_told_with_its_bag_and_topic(tmp_path, field, value, words):
    grids, truth = predicted_bag(tmp_path, label_message()), true_bag(tmp_path, label_message(**{field: value}))
    told = refusal(grids, truth)
    assert told.startswith(f"{truth}: the label set on /truth/labels cannot be used") and words in told
    with pytest.raises(BagError, match="/truth/labels cannot be used"):
        truth_labels(truth)
    grids = predicted_bag(tmp_path / "2", label_message(**{field: value}))
    assert refusal(grids, true_bag(tmp_path / "2", label_message())).startswith(f"{grids}: the label set on {LABELS}")
    with pytest.raises(BagError, match=f"{LABELS} cannot be used"):
        read_recording(grids, "panoocc")


def test_grids_of_an_earlier_version_are_told(tmp_path):
    """Their message says which voxels are occupied by a list of indices."""
    store = get_typestore(Stores.ROS2_JAZZY)
    text = (folder("msg") / "VoxelGrid.msg").read_text().replace("uint8[] occupied", "uint32[] indices")
    store.register(get_types_from_msg(text.replace("uint8[] visible", ""), GRID))
    old = {key: value for key, value in vars(prediction(street())).items() if key not in ("occupied", "visible")}
    message = store.types[GRID](**old, indices=np.arange(len(old["class_id"]), dtype=np.uint32))
    with Writer(tmp_path / "old", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(GRIDS, GRID, typestore=store)
        writer.write(connection, 0, store.serialize_cdr(message, GRID))
        connection = writer.add_connection(LABELS, LABEL_SET, typestore=typestore())
        writer.write(connection, 0, typestore().serialize_cdr(label_message(), LABEL_SET))
    scored = evaluate_bag(tmp_path / "old", true_bag(tmp_path, label_message()))
    assert (
        scored.evaluator.refused == 1 and "prediction: its VoxelGrid is that of an earlier" in scored.evaluator.problem
    )


def test_a_topic_of_another_type_is_told(tmp_path):
    truth = true_bag(tmp_path, new_message(STRING), kind=STRING)
    words = refusal(predicted_bag(tmp_path, label_message()), truth)
    assert words.startswith(f"{truth}: /truth/labels holds {STRING}, not {LABEL_SET}")
    grids = write(tmp_path / "text.mcap", [(LABELS, LABEL_SET, label_message()), (GRIDS, STRING, new_message(STRING))])
    words = refusal(grids, true_bag(tmp_path / "2", label_message()))
    assert words.startswith(f"{grids}: {GRIDS} holds {STRING}, not {GRID}")


def test_other_classes_are_told_with_both_bags_and_what_differs(tmp_path):
    grids = predicted_bag(tmp_path, label_message(LIDARSEG_FREE))
    truth = true_bag(tmp_path, label_message())
    words = refusal(grids, truth, EvaluationError)
    assert f"{grids}: {LABELS}" in words and f"{truth}: /truth/labels" in words and "class 0 is 'noise'" in words


@pytest.mark.parametrize("labels, words", [([], "nothing on"), ([label_message(free_id=200)], "cannot be used")])
def test_the_demo_ends_with_these_words_before_anything_runs(tmp_path, capsys, labels, words):
    drive = [(one.topic, one.type, one.data) for one in Drive().messages(1)]
    truth = [(truth_messages.TRUE_OCCUPANCY, GRID, true_message(street()))]
    bag = write(tmp_path / "drive.mcap", [*drive, *truth, *((truth_messages.LABELS, LABEL_SET, one) for one in labels)])
    assert demo.main(["--bag", str(bag), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"{bag}: " in told and words in told and "/truth/labels" in told
