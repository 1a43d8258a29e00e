"""Asking both readers: Python's in this process, C++'s by compiling `answers.cpp` and talking to it in lines."""

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panoocc_core.labels import LabelSet
from panoocc_core.planning import Clearance, KnownSpace, OrientedBox, class_ids
from panoocc_ros.messages.types import VOXEL_GRID, typestore
from panoocc_ros.planner.reader import known_space

from .cases import Case, Question, labels_bytes

ROOT = Path(__file__).parents[2]
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")


def compile_cpp(
    program: Path, options: Sequence[str] = ("-O2",), source: Path = ROOT / "test/planner/answers.cpp"
) -> Path:
    """Compile with the system's compiler, which is part of what the project needs."""
    command = [
        os.environ.get("CXX", "g++"),
        *STRICT,
        *options,
        f"-I{ROOT / 'include'}",
        str(source),
        "-o",
        str(program),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return program


class CppReader:
    """The compiled program, and the files that it reads."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def answers(self, lines: Iterable[str]) -> list[str]:
        """Answers to the lines of questions, a line each; a line of `damaged` has many."""
        text = "\n".join(lines)
        environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
        done = subprocess.run(
            [str(self.program)], input=text, capture_output=True, text=True, timeout=280, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.splitlines()

    def open(self, number: int, case: Case) -> str:
        """The line that opens the grid of a case."""
        labels = self.write(f"labels{number}.cdr", labels_bytes(case.labels))
        grid = self.write(f"grid{number}.cdr", case.grid)
        return f"grid {labels} {grid} {int(case.trust_unseen)} {','.join(case.ignored) or '-'}"

    def ask(self, cases: Sequence[Case]) -> list[list[Any]]:
        """Answers to the questions of cases, as `ask_python` gives them."""
        lines: list[str] = []
        for number, case in enumerate(cases):
            lines += [self.open(number, case), *map(line_of, case.questions)]
        found = iter(self.answers(lines))
        out = []
        for case in cases:
            opened = next(found)
            assert not opened.startswith("refused"), opened
            out.append([answer_of(question, next(found)) for question in case.questions])
        assert next(found, None) is None
        return out


def open_python(grid: bytes, labels: LabelSet, ignored: Iterable[str] = (), trust_unseen: bool = False) -> KnownSpace:
    message = typestore().deserialize_cdr(grid, VOXEL_GRID)
    return known_space(message, labels, ignored=class_ids(labels, ignored), trust_unseen=trust_unseen)


def ask_python(case: Case) -> list[Any]:
    space = open_python(case.grid, case.labels, case.ignored, case.trust_unseen)
    return [answer_of_python(space, question) for question in case.questions]


def answer_of_python(space: KnownSpace, question: Question) -> Any:
    if question.method == "at":
        found = space.at(np.array(question.arguments, np.float64))
        columns = (found.state, found.sight, found.class_id, found.confidence, found.instance_id)
        return tuple(int(values[0]) for values in columns)
    answer = getattr(space, question.method)(*question.arguments)
    return tuple(answer) if isinstance(answer, Clearance) else int(answer)


def line_of(question: Question) -> str:
    """A question as the program reads it, no bit of a number lost."""
    numbers: list[float] = []
    for argument in question.arguments:
        if isinstance(argument, OrientedBox):
            numbers += [*argument.centre_m, *argument.size_m, *argument.orientation]
        else:
            numbers += [*argument] if isinstance(argument, tuple) else [argument]
    return " ".join([question.method, *(float(number).hex() for number in numbers)])


def answer_of(question: Question, line: str) -> Any:
    """What the program says, in the form of `answer_of_python`; bit for bit."""
    assert not line.startswith(("invalid", "no grid")), line
    words = line.split()
    if question.method == "box":
        return int(line)
    if question.method == "at":
        return tuple(map(int, words))
    place = tuple(map(int, words[2:])) or None
    return float.fromhex(words[0]), float.fromhex(words[1]), place
