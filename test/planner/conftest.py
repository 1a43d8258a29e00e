"""The C++ reader, compiled once."""

import pytest

from .readers import CppReader, compile_cpp


@pytest.fixture(scope="session")
def cpp(tmp_path_factory) -> CppReader:
    folder = tmp_path_factory.mktemp("reader")
    return CppReader(compile_cpp(folder / "answers"), folder)


@pytest.fixture(scope="session")
def watched(tmp_path_factory) -> CppReader:
    """With every check that the compiler offers, and for this very processor, which may fuse products and sums."""
    folder = tmp_path_factory.mktemp("watched")
    options = (
        "-O2",
        "-march=native",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-D_GLIBCXX_ASSERTIONS",
    )
    return CppReader(compile_cpp(folder / "answers", options), folder)
