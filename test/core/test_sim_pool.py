"""Worker processes that render: one thread each, and none outlives a parent that is killed."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from panoocc_core.sim.pool import WorkerPool

ROOT = Path(__file__).parents[2]
PARENT = """
import sys
import time
from concurrent.futures import BrokenExecutor
import torch
from panoocc_core.sim.pool import WorkerPool

pool = WorkerPool(2)
threads = [pool.submit(torch.get_num_threads) for _ in range(2)]
threads = [one.result() for one in threads]
for _ in range(2):
    pool.submit(time.sleep, 600)
print(*threads, *[process.pid for process in pool._context.processes], flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and waits to be collected does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_workers_compute_in_one_thread_and_end_when_their_parent_is_killed():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=environment, stdout=subprocess.PIPE, text=True)
    workers: list[int] = []
    try:
        first, second, *workers = map(int, parent.stdout.readline().split())
        assert first == second == 1 and len(workers) == 2 and all(map(is_running, workers))
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 60
        while any(map(is_running, workers)):
            assert time.monotonic() < deadline, "workers outlive their parent"
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        for worker in filter(is_running, workers):
            os.kill(worker, signal.SIGKILL)


def busy(pool: WorkerPool) -> None:
    """Wait until both workers are in the middle of something."""
    for future in [pool.submit(time.sleep, 0.2) for _ in range(4)]:
        future.result(120)
    given = [pool.submit(time.sleep, 600) for _ in range(6)]
    while sum(future.running() for future in given) < 2:
        time.sleep(0.02)


def results_on_their_way(pool: WorkerPool) -> None:
    """Answers larger than any pipe, some of them half sent."""
    first, *_ = [pool.submit(bytes, 30_000_000) for _ in range(12)]
    first.result(120)


@pytest.mark.timeout(240)  # what is given up would take ten minutes
@pytest.mark.parametrize("moment", [busy, results_on_their_way, lambda pool: pool.submit(os.getpid)])
@pytest.mark.parametrize("unwinds", [True, False])
def test_closing_gives_up_what_is_in_work(moment, unwinds):
    with WorkerPool(2, unwinds=unwinds) as pool:
        moment(pool)
        processes = list(pool._context.processes)
        assert processes
    assert not any(process.is_alive() for process in processes)


def test_a_process_that_was_never_started_is_no_obstacle():
    """As Ctrl-C leaves it that comes while a worker is started."""
    with WorkerPool(1) as pool:
        pool.submit(os.getpid).result(120)
        pool._context.Process(target=os.getpid)


def test_work_that_is_given_up_cleans_up(tmp_path):
    with WorkerPool(1) as pool:
        pool.submit(_until_ended, tmp_path / "half")
        while not (tmp_path / "half").exists():
            time.sleep(0.02)
    assert (tmp_path / "half").read_text() == "cleaned"


def _until_ended(path: Path) -> None:
    path.touch()
    try:
        time.sleep(600)
    finally:
        path.write_text("cleaned")


def test_a_worker_that_is_killed_is_told():
    with WorkerPool(1) as pool, pytest.raises(BrokenExecutor):
        pool.submit(os._exit, 9).result(120)
