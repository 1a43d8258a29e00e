"""Puts the files that are not code beside the packages, and compiles; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def shared(*folders: str) -> list[tuple[str, list[str]]]:
    """Every file below `folders`, to be installed below share/panoocc under the same path."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.setdefault(f"share/panoocc/{path.parent.as_posix()}", []).append(path.as_posix())
    return sorted(found.items())


class Plain(build_ext):
    """A library that Python calls, but does not import: named like that of every other build."""

    def get_ext_filename(self, name: str) -> str:
        return name.replace(".", "/") + ".so"


# The compiled operators for CPUs, without which torch's own run; the flags are also in CMakeLists.txt and Makefile.
native = Extension(
    "panoocc_core.ops._native",
    ["panoocc_core/ops/native.c"],
    extra_compile_args=["-O3", "-fno-trapping-math"],
    optional=True,
)
setup(data_files=shared("config", "launch", "msg"), ext_modules=[native], cmdclass={"build_ext": Plain})
