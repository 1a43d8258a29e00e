"""The compiled operators themselves: how `native.c` compiles, and which memory it touches. Values: test_ops.py."""

import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from panoocc_core.ops import native_library
from panoocc_core.ops.deform_attn import native

from .test_ops import SHAPES, attn_call

SOURCE = Path(native_library.__file__).with_name("native.c")
COMPILER = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(COMPILER is None, reason="no gcc")

# Without torch, whose own libraries cannot stand the checks; every array is a piece of memory of its own size.
CALLS = """
import ctypes, sys
import numpy as np
attend = ctypes.CDLL(sys.argv[1]).panoocc_deform_attn
draw = np.random.default_rng(0)
at = lambda array: None if array is None else ctypes.c_void_p(array.ctypes.data)
whole = ctypes.c_int64
for trial in range(60):
    levels, heads, points, slots = (int(draw.integers(1, 5)) for _ in range(4))
    channels, queries, sources = 8 * int(draw.integers(1, 10)), int(draw.integers(1, 30)), int(draw.integers(1, 4))
    shapes = draw.integers(1, 9, (levels, 2)).astype(np.int32)
    cells = int((shapes + 2).prod(1).sum())
    bfloat16 = bool(trial % 2)
    values = draw.integers(0, 1 << 14, (sources, cells, heads, channels)).astype(np.uint16 if bfloat16 else np.float32)
    positions = draw.normal(0.5, 1, (queries, slots, 2)).astype(np.float32)
    positions[0] = (np.nan, np.inf, -np.inf, 3e38, -3e38)[trial % 5]
    source = None if trial % 3 == 0 and sources == 1 else draw.integers(-1, sources, (queries, slots)).astype(np.int32)
    samples, begin = heads * levels * points, int(draw.integers(0, queries))
    planes = draw.normal(0, 5, (queries, 2, samples)).astype(np.float32)  # x and y of a query beside each other
    planes[-1, 0, -1] = (np.nan, np.inf, 1.0)[trial % 3]
    x, y = planes[:, 0], planes[:, 1]
    weights, out = np.ones((queries, samples), np.float32), np.full((queries, heads * channels), np.nan, np.float32)
    attend(at(values), bfloat16, ctypes.c_int32(cells * heads), levels, at(shapes), heads, points, whole(channels),
           slots, at(positions), at(source), at(x), at(y), whole(2 * samples), at(weights), at(out),
           whole(begin), whole(queries))
    assert np.isnan(out[:begin]).all() and np.isfinite(out[max(begin, 1) : -1]).all(), trial
print("done")
"""


def parts_of(queries: int) -> list[tuple[int, int]]:
    parts: list[tuple[int, int]] = []
    native_library.in_parts(queries, lambda begin, end: parts.append((begin, end)))
    return sorted(parts)


def test_threads_share_the_queries(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    few = native_library.FEWEST_QUERIES
    assert parts_of(0) == [(0, 0)] and parts_of(2 * few - 1) == [(0, 2 * few - 1)]
    assert parts_of(2 * few) == [(0, few), (few, 2 * few)]
    assert parts_of(10 * few + 1) == [(0, 213), (213, 427), (427, 641)]


def test_threads_have_the_priority_of_their_caller(monkeypatch):
    """Also one that was changed after an earlier call, as the node's worker does after its warm-up."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    seen: list[int] = []

    def work(begin: int, end: int) -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))

    def caller() -> None:
        native_library.in_parts(1000, work)
        os.setpriority(os.PRIO_PROCESS, 0, seen[0] + 3)  # of this thread
        native_library.in_parts(1000, work)

    worker = threading.Thread(target=caller)
    worker.start()
    worker.join(30)
    assert [priority - seen[0] for priority in seen] == [0, 0, 3, 3]


def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    both = threading.Barrier(2)
    native_library.in_parts(1000, lambda begin, end: both.wait(10))  # no thread does the work of two
    child = multiprocessing.get_context("fork").Process(target=parts_of, args=(1000,), daemon=True)
    child.start()
    child.join(30)
    assert child.exitcode == 0


def compiled(folder: Path, *flags: str) -> Path:
    library = folder / "operators.so"
    command = [COMPILER, *flags, "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", str(SOURCE), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@needs_gcc
@pytest.mark.parametrize("flags", ["-O3 -fno-trapping-math", "-O3 -std=c11 -D ONE_PROCESSOR"])
def test_the_operators_compile_without_a_warning(tmp_path, flags):
    compiled(tmp_path, *flags.split())


@needs_gcc
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3"])
def test_every_generation_of_processors_gets_the_same_values(tmp_path, monkeypatch, processor):
    if platform.machine() != "x86_64" or (
        processor != "x86-64" and torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    ):
        pytest.skip(f"this processor is no {processor}")
    call = attn_call(150, 3, SHAPES, heads=2, channels=56, points=5, sources=4)
    arguments = call.ordered(*call.tensors, *call.others)
    half = (arguments[0].bfloat16(), *arguments[1:])
    expected = [native.deform_attn(*given) for given in (arguments, half)]
    operators = compiled(tmp_path, "-O3", "-fno-trapping-math", "-D", "ONE_PROCESSOR", f"-march={processor}")
    with monkeypatch.context() as patched:
        patched.setattr(native_library, "__file__", str(tmp_path / "native_library.py"))
        operators.rename(tmp_path / native_library.NAME)
        other = native_library.library.__wrapped__()
    monkeypatch.setattr(native, "library", lambda: other)
    for given, values in zip((arguments, half), expected):
        torch.testing.assert_close(native.deform_attn(*given), values)


@needs_gcc
def test_operators_touch_no_memory_but_that_of_their_arguments(tmp_path):
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g", "-D", "ONE_PROCESSOR")
    runtime = subprocess.run([COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    if not Path(runtime.stdout.strip()).is_absolute():
        pytest.skip("gcc has no libasan")
    library = compiled(tmp_path, *checks)
    environment = {**os.environ, "LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-c", CALLS, str(library)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr[-3000:]
