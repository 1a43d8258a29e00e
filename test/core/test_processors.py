"""How many processors a process has."""

import os

import pytest

from panoocc_core.base.processors import processor_count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no sets of processors")
def test_only_those_count_that_the_process_may_use():
    before = os.sched_getaffinity(0)
    assert processor_count() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processor_count() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_where_the_system_does_not_tell_all_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert processor_count() == os.cpu_count()
