"""Worker processes that render: one thread each, and none outlives a parent that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARENT = """
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import torch
from panoocc_core.sim.pool import begin_worker

pool = ProcessPoolExecutor(2, get_context("spawn"), begin_worker)
threads = [pool.submit(torch.get_num_threads) for _ in range(2)]
threads = [one.result() for one in threads]
for _ in range(2):
    pool.submit(time.sleep, 600)
print(*threads, *pool._processes, flush=True)
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
