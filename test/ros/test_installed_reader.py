"""The C++ reader as a package finds it, `find_package(panoocc)`, on the structures that rosidl makes of messages."""

import subprocess
import sys

import pytest

from test.planner.cases import Case, by_hand, hostile, street
from test.planner.readers import ROOT, CppReader, ask_python
from test.ros.needs_ros import require_ros

require_ros()

CMAKE = """
cmake_minimum_required(VERSION 3.12)
project(planner CXX)
find_package(panoocc REQUIRED)
add_executable(answers {answers})
target_compile_options(answers PRIVATE -Wall -Wextra -Werror)
target_compile_definitions(answers PRIVATE WITH_ROSIDL)
target_link_libraries(answers panoocc::reader panoocc::panoocc__rosidl_generator_cpp)
"""


@pytest.fixture(scope="module")
def cpp(tmp_path_factory) -> CppReader:
    folder = tmp_path_factory.mktemp("planner")
    (folder / "CMakeLists.txt").write_text(CMAKE.format(answers=ROOT / "test/planner/answers.cpp"))
    python = (f"-DPython3_EXECUTABLE={sys.executable}", "-DPython3_FIND_VIRTUALENV=ONLY")
    for command in (["cmake", "-S", ".", "-B", "build", *python], ["cmake", "--build", "build"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return CppReader(folder / "build" / "answers", folder)


def test_rosidls_messages_give_the_answers_of_python(cpp):
    cases = [by_hand(), *(street(seed, sparse=seed % 2 == 0, sees=seed < 3) for seed in range(4))]
    for case, found in zip(cases, cpp.ask(cases)):
        assert found == ask_python(case)


def test_rosidls_messages_are_refused_by_field(cpp):
    refused = hostile()
    lines = cpp.answers([cpp.open(number, Case(data, ())) for number, (data, _) in enumerate(refused.values())])
    for line, (_, word) in zip(lines, refused.values(), strict=True):
        assert line.startswith("refused ") and word in line
