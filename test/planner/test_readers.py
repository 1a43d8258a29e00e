"""Both readers say the same, bit for bit, and refuse the same; what can be worked out by hand is as it must be."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.labels import BUILT_IN, LIDARSEG, OCC3D
from panoocc_core.planning import OrientedBox, ground_ids
from panoocc_ros.messages.types import LABEL_SET, VOXEL_GRID, new_message, typestore
from panoocc_ros.messages.voxel_grid import fill_label_set, labels_from_message

from .cases import (
    STRAIGHT,
    TURNED,
    UNANSWERABLE,
    UNANSWERABLE_BOXES,
    Case,
    Question,
    by_hand,
    grid_bytes,
    grid_message,
    hostile,
    labels_bytes,
    street,
)
from .readers import answer_of_python, ask_python, line_of, open_python

HOSTILE = hostile()


def streets() -> list[Case]:
    cases = [street(seed, sparse=seed % 2 == 0, sees=seed % 4 < 3) for seed in range(8)]
    cases += [street(seed, sparse=True, sees=True, orientation=STRAIGHT) for seed in range(8, 12)]
    return cases + [street(12, sparse=True, sees=False, trust_unseen=True)]


def small() -> list[Case]:
    """Grids of one voxel, of nine (bits in two bytes), and of a network without free space."""
    questions = (
        Question("at", ((0.1, 0.1, 0.1),)),
        Question("box", (OrientedBox((0.3, 0.25, 0.25), (0.1, 0.1, 0.1), TURNED),)),
        Question("along", ((-1.0, 0.25, 0.25), (1.0, 0.0, 0.0), 9.0)),
    )
    free, cars = np.full((1, 1, 1), 17, np.uint8), np.full((3, 3, 1), 4, np.uint8)
    seen = [np.ones(grid.shape, bool) for grid in (free, cars)]
    noise = grid_message(np.zeros((3, 3, 1), np.uint8), LIDARSEG, visible=seen[1])
    return [
        Case(grid_bytes(grid_message(free, visible=seen[0])), questions),
        Case(grid_bytes(grid_message(cars, visible=seen[1])), questions),
        Case(grid_bytes(noise), questions, labels=LIDARSEG, ignored=()),
        Case(grid_bytes(noise), questions, labels=LIDARSEG, ignored=("noise",)),
    ]


@pytest.mark.parametrize("program", ["cpp", "watched"])
def test_both_readers_give_the_same_answers_bit_for_bit(program, request):
    cases = [by_hand(), *small(), *streets()]
    expected, found = [ask_python(case) for case in cases], request.getfixturevalue(program).ask(cases)
    for case, mine, theirs in zip(cases, expected, found):
        different = [(q, a, b) for q, a, b in zip(case.questions, mine, theirs) if a != b]
        assert not different, different[:3]
    states = {answer for answers in expected for answer in answers if isinstance(answer, int)}
    assert states == {0, 1, 2}, "questions that cannot tell readers apart"


def test_what_is_worked_out_by_hand_comes_out():
    case = by_hand()
    assert len(case.answers) == len(case.questions)
    for question, answer, wanted in zip(case.questions, ask_python(case), case.answers.values()):
        if question.method in ("ahead", "along"):
            assert answer[:2] == pytest.approx(wanted[:2], abs=1e-6) and answer[2] == wanted[2], question
        else:
            assert answer == wanted, question


def test_the_grid_says_when_and_where_it_holds(cpp):
    (line,) = cpp.answers([cpp.open(0, by_hand())])
    assert line == "12345678901 base_link 20 9 5"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_refused_by_both_with_the_field(name, cpp, monkeypatch):
    data, word = HOSTILE[name]
    (line,) = cpp.answers([cpp.open(0, Case(data, ()))])
    assert line.startswith("refused ") and word in line and len(line) < 400
    if "size_x" in word:
        monkeypatch.setattr(np, "full", lambda *_, **__: pytest.fail("memory was reserved"))
    with pytest.raises(ValueError, match=word):
        open_python(data, OCC3D)


def test_a_sparse_grid_needs_a_class_for_what_it_does_not_list(cpp):
    class_id = np.full((3, 3, 1), 17, np.uint8)
    class_id[0, 0, 0] = 4
    message = grid_message(class_id)
    message.label_set, message.label_set_version = LIDARSEG.key, LIDARSEG.version
    (line,) = cpp.answers([cpp.open(0, Case(grid_bytes(message), (), labels=LIDARSEG, ignored=()))])
    assert line.startswith("refused occupied")
    with pytest.raises(ValueError, match="occupied"):
        open_python(grid_bytes(message), LIDARSEG)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"names": []}, "names has 0"),
        ({"names": ["a"] * 256}, "names has 256"),
        ({"names": ["x" * 1000] + ["a"] * 17}, "at most 200"),
        ({"key": "x" * 1000}, "at most 200"),
        ({"key": "ä" * 101}, "at most 200"),  # 202 bytes
        ({"names": ["ä" * 101] + ["a"] * 17}, "at most 200"),
        ({"is_thing": np.ones(1, bool)}, "is_thing has 1"),
        ({"rgb": np.zeros(3, np.uint8)}, "rgb has 3"),
        ({"free_id": 18}, "free_id 18"),
    ],
)
def test_hostile_label_sets_are_refused_with_the_field(change, word, cpp):
    message = fill_label_set(new_message(LABEL_SET), OCC3D)
    for name, value in change.items():
        setattr(message, name, value)
    labels = cpp.write("hostile.cdr", bytes(typestore().serialize_cdr(message, LABEL_SET)))
    grid = cpp.write("grid.cdr", by_hand().grid)
    (line,) = cpp.answers([f"grid {labels} {grid} 0 -"])
    assert line.startswith("refused ") and word in line
    with pytest.raises(ValueError, match=word):
        labels_from_message(message)


def test_names_of_two_bytes_a_letter_are_taken_by_both(cpp):
    labels = replace(OCC3D, key="ä" * 100, names=("ü" * 100, *OCC3D.names[1:]))
    message = grid_message(np.full((1, 1, 1), 17, np.uint8), labels)
    (line,) = cpp.answers([cpp.open(0, Case(grid_bytes(message), (), labels=labels, ignored=()))])
    assert line.endswith(" 1 1 1")
    assert labels_from_message(fill_label_set(new_message(LABEL_SET), labels)) == labels


@pytest.mark.parametrize("key", BUILT_IN)
def test_both_readers_call_the_same_classes_ground(key, cpp):
    labels = BUILT_IN[key]
    class_id = np.arange(len(labels.names), dtype=np.uint8).reshape(-1, 1, 1)
    grid = grid_bytes(grid_message(class_id, labels, sparse=False, visible=np.ones(class_id.shape, bool)))
    questions = tuple(Question("at", ((0.5 * number + 0.25, 0.25, 0.25),)) for number in range(len(class_id)))
    names = tuple(labels.names[number] for number in ground_ids(labels))
    assert names
    expected = ask_python(Case(grid, questions, labels=labels, ignored=names))
    assert cpp.ask([Case(grid, questions, labels=labels, ignored=("@ground",))]) == [expected]


@pytest.mark.parametrize(
    "field",
    ["class_id", "class_id has 200", "confidence", "instance_id", "visible", "shape", "voxel_size_m", "corner_m"]
    + ["rotation", "label_set"],
)
def test_a_grid_that_is_no_message_and_contradicts_itself_is_refused(field, watched):
    labels, grid = watched.write("labels.cdr", labels_bytes(OCC3D)), watched.write("grid.cdr", by_hand().grid)
    whole, wrong = watched.answers([f"unfit {labels} {grid} nothing", f"unfit {labels} {grid} {field}"])
    assert whole == "taken" and wrong.startswith("invalid ") and field in wrong


def test_foreign_messages_are_refused(cpp):
    labels, grid = labels_bytes(OCC3D), by_hand().grid
    big_endian = b"\x00\x00\x00\x00" + grid[4:]
    wrong = {"labels": labels, "big endian": big_endian, "nothing": b"", "longer": grid + b"\0" * 8}
    for name, data in wrong.items():
        (line,) = cpp.answers([cpp.open(0, Case(data, ()))])
        assert line.startswith("refused "), (name, line)
    path = cpp.write("grid.cdr", grid)
    (line,) = cpp.answers([f"grid {path} {path} 0 -"])
    assert line.startswith("refused ")


def test_questions_without_an_answer_are_refused_with_the_argument(cpp):
    case = by_hand()
    space = open_python(case.grid, case.labels)
    lines, words = [cpp.open(0, case)], []
    for question, word in UNANSWERABLE:
        with pytest.raises(ValueError, match=word):
            answer_of_python(space, question)
        lines.append(line_of(question))
        words.append(word)
    for centre, size, turn, word in UNANSWERABLE_BOXES:
        with pytest.raises(ValueError, match=word):
            OrientedBox(centre, size, turn)
        lines.append(" ".join(["box", *(float(number).hex() for number in (*centre, *size, *turn))]))
        words.append(word)
    lines.append(cpp.open(0, replace(case, ignored=("lawn",))))
    _, *answers = cpp.answers(lines)
    for line, word in zip(answers, [*words, "'lawn'"], strict=True):
        assert line.startswith("invalid ") and word in line


def damaged(seed: int, count: int) -> list[bytes]:
    """Grids with some bytes changed, cut off or added."""
    random = np.random.default_rng(seed)
    whole = [street(number, sparse=number % 2 == 0, sees=True).grid for number in range(4)]
    whole = [small()[1].grid, by_hand().grid, *whole]
    out = []
    for _ in range(count):
        data = bytearray(whole[random.integers(len(whole))])
        for _ in range(random.integers(1, 4)):
            # The sizes and lengths are in front.
            place = int(random.integers(4, len(data) if random.random() < 0.3 else min(len(data), 240)))
            data[place] = int(random.choice([0, 1, 2, 3, 127, 128, 255, random.integers(256)]))
        if random.random() < 0.1:
            data = data[: random.integers(len(data))]
        out.append(bytes(data))
    return out


def test_damaged_messages_do_no_harm_and_both_readers_make_the_same_of_them(watched):
    blobs = damaged(0, 1000)
    labels = watched.write("labels.cdr", labels_bytes(OCC3D))
    path = watched.write("damaged", b"".join(struct.pack("<I", len(blob)) + blob for blob in blobs))
    found = watched.answers([f"damaged {labels} {path}"])
    assert len(found) == len(blobs)
    questions = (
        Question("at", ((0.3, 0.2, 0.1),)),
        Question("box", (OrientedBox((0.5, -0.5, 0.75), (1.0, 0.5, 0.5), (0.1, 0.2, 0.3, 0.9)),)),
        Question("along", ((0.0, 0.0, 0.0), (1.0, 0.5, 0.25), 20.0)),
    )
    taken = refused = 0
    for blob, line in zip(blobs, found):
        try:
            message = typestore().deserialize_cdr(blob, VOXEL_GRID)
            grid_bytes(message)  # what it cannot write again, it has not read as it is
        except Exception:
            continue  # the reader of bags has refused it, or taken what is none
        try:
            space = open_python(blob, OCC3D)
        except ValueError:
            assert line == "refused"
            refused += 1
            continue
        at, box, along = (answer_of_python(space, question) for question in questions)
        words = line.split()
        assert line != "refused" and (at[0], box) == (int(words[0]), int(words[1]))
        assert along[:2] == (float.fromhex(words[2]), float.fromhex(words[3]))
        taken += 1
    assert taken > 100 and refused > 100
