"""The worker: newest job wins, errors do not end it, nothing waits for it."""

import threading
import time

from panoocc_ros.node.worker import Worker


class Recorder:
    """Work that can be held up from outside."""

    def __init__(self):
        self.gate, self.begun, self.done = threading.Event(), threading.Semaphore(0), []
        self.errors = []

    def work(self, job):
        self.begun.release()
        assert self.gate.wait(5)
        if job == "bad":
            raise ValueError("bad job")
        self.done.append(job)

    def wait_for(self, jobs):
        end = time.monotonic() + 5
        while self.done != jobs and time.monotonic() < end:
            time.sleep(0.005)
        assert self.done == jobs


def test_a_job_that_waits_is_replaced_and_handed_back():
    recorder = Recorder()
    worker = Worker(recorder.work, recorder.errors.append)
    assert worker.submit("first") is None
    assert recorder.begun.acquire(timeout=5)
    assert worker.submit("second") is None
    assert worker.submit("third") == "second"
    assert worker.busy
    recorder.gate.set()
    recorder.wait_for(["first", "third"])
    assert worker.close(5)
    assert not worker.busy


def test_merge_carries_over_what_a_replaced_job_held():
    recorder = Recorder()
    worker = Worker(recorder.work, recorder.errors.append, merge=lambda old, new: f"{new}+{old}")
    worker.submit("running")
    assert recorder.begun.acquire(timeout=5)
    worker.submit("reset")
    worker.submit("plain")
    recorder.gate.set()
    recorder.wait_for(["running", "plain+reset"])
    assert worker.close(5)


def test_an_error_is_reported_and_the_next_job_done():
    recorder = Recorder()
    recorder.gate.set()
    worker = Worker(recorder.work, recorder.errors.append)
    worker.submit("bad")
    assert recorder.begun.acquire(timeout=5)
    while worker.busy:
        time.sleep(0.005)
    worker.submit("good")
    recorder.wait_for(["good"])
    assert [str(error) for error in recorder.errors] == ["bad job"]
    assert worker.close(5)


def test_close_does_not_wait_for_long_work():
    recorder = Recorder()
    worker = Worker(recorder.work, recorder.errors.append)
    worker.submit("slow")
    assert recorder.begun.acquire(timeout=5)
    worker.submit("never begun")
    start = time.monotonic()
    assert not worker.close(0.1)
    assert time.monotonic() - start < 2
    assert worker.submit("late") == "late"
    recorder.gate.set()
    recorder.wait_for(["slow"])
    assert worker.close(5)
