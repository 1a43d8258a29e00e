"""The worker: newest job wins, errors do not end it, nothing waits for it."""

import threading
import time

from panoocc_ros.load.worker import Worker

PATIENCE_S = 60  # for a busy machine


class Recorder:
    """Work that can be held up from outside."""

    def __init__(self):
        self.gate, self.begun, self.done = threading.Event(), threading.Semaphore(0), []
        self.errors = []

    def work(self, job):
        self.begun.release()
        assert self.gate.wait(PATIENCE_S)
        if job == "bad":
            raise ValueError("bad job")
        self.done.append(job)

    def wait_for(self, jobs):
        end = time.monotonic() + PATIENCE_S
        while self.done != jobs and time.monotonic() < end:
            time.sleep(0.005)
        assert self.done == jobs


def test_a_job_that_waits_is_replaced_and_handed_back():
    recorder = Recorder()
    worker = Worker(recorder.work, recorder.errors.append)
    assert worker.submit("first") is None
    assert recorder.begun.acquire(timeout=PATIENCE_S)
    assert worker.submit("second") is None
    assert worker.submit("third") == "second"
    assert worker.busy
    recorder.gate.set()
    recorder.wait_for(["first", "third"])
    assert worker.close(PATIENCE_S)
    assert not worker.busy


def test_merge_carries_over_what_a_replaced_job_held():
    recorder = Recorder()
    worker = Worker(recorder.work, recorder.errors.append, merge=lambda old, new: f"{new}+{old}")
    worker.submit("running")
    assert recorder.begun.acquire(timeout=PATIENCE_S)
    worker.submit("reset")
    worker.submit("plain")
    recorder.gate.set()
    recorder.wait_for(["running", "plain+reset"])
    assert worker.close(PATIENCE_S)


def test_an_error_is_reported_and_the_next_job_done():
    recorder = Recorder()
    recorder.gate.set()
    worker = Worker(recorder.work, recorder.errors.append)
    worker.submit("bad")
    assert recorder.begun.acquire(timeout=PATIENCE_S)
    while worker.busy:
        time.sleep(0.005)
    worker.submit("good")
    recorder.wait_for(["good"])
    assert [str(error) for error in recorder.errors] == ["bad job"]
    assert worker.close(PATIENCE_S)


def test_a_report_that_fails_does_not_end_the_thread(caplog):
    recorder = Recorder()
    recorder.gate.set()

    def fail(_):
        raise KeyError("the report")

    worker = Worker(recorder.work, fail)
    worker.submit("bad")
    assert recorder.begun.acquire(timeout=PATIENCE_S)
    worker.submit("good")
    recorder.wait_for(["good"])
    assert "could not be reported" in caplog.text
    assert worker.close(PATIENCE_S) and not worker.busy


def test_the_time_of_the_job_in_work_is_known():
    recorder, now_s = Recorder(), iter([3.0, 5.5])
    worker = Worker(recorder.work, recorder.errors.append, now_s=lambda: next(now_s))
    assert worker.busy_s is None
    worker.submit("first")
    assert recorder.begun.acquire(timeout=PATIENCE_S)
    assert worker.busy_s == 2.5
    recorder.gate.set()
    recorder.wait_for(["first"])
    assert worker.close(PATIENCE_S) and worker.busy_s is None


def test_close_does_not_wait_for_long_work():
    recorder = Recorder()
    worker = Worker(recorder.work, recorder.errors.append)
    worker.submit("slow")
    assert recorder.begun.acquire(timeout=PATIENCE_S)
    worker.submit("never begun")
    start = time.monotonic()
    assert not worker.close(0.1)
    assert time.monotonic() - start < 2
    assert worker.submit("late") == "late"
    recorder.gate.set()
    recorder.wait_for(["slow"])
    assert worker.close(PATIENCE_S)


def test_the_age_at_the_start_of_work_is_at_most_that_of_one_job():
    """The newest job wins: however many come, the one that is begun came during the one before it."""
    recorder, came_s, begun_s = Recorder(), {}, {}

    def work(job):
        begun_s[job] = time.monotonic()
        time.sleep(0.03)

    worker = Worker(work, recorder.errors.append)
    for job in range(60):
        came_s[job] = time.monotonic()
        worker.submit(job)
        time.sleep(0.005)
    while worker.busy:
        time.sleep(0.005)
    assert worker.close(PATIENCE_S)
    starts = sorted(begun_s.values())
    for before_s, job in zip(starts, sorted(begun_s)[1:]):
        newer = [other for other in came_s if job < other and came_s[other] < begun_s[job] - 0.005]
        assert came_s[job] >= before_s and not newer


def test_what_is_to_be_done_first_is_done_in_the_thread_of_the_worker():
    recorder, threads = Recorder(), []
    recorder.gate.set()
    worker = Worker(recorder.work, recorder.errors.append, on_begin=lambda: threads.append(threading.current_thread()))
    worker.submit("job")
    recorder.wait_for(["job"])
    assert len(threads) == 1 and threads[0] is not threading.current_thread()
    assert worker.close(PATIENCE_S)
