"""Measurements: what is counted, and that measuring leaves the process as it was."""

import time

import cv2
import pytest
import torch

from panoocc_core.bench import bench_rendering, rendering_table
from panoocc_core.sim import nuscenes_rig
from panoocc_core.sim.renderer import Renderer


def test_rendering_is_counted_in_cpu_time_of_one_thread_without_what_comes_first(monkeypatch):
    """A first set that takes ten times as long and a wait between sets do not show in the CPU time of a set."""
    calls = []

    def pictures(self, rig, time_s):
        calls.append((self.scene.seed, time_s, torch.get_num_threads(), cv2.getNumThreads()))
        first = sum(call[0] == self.scene.seed for call in calls) == 1
        time.sleep(0.03)
        end = time.process_time() + (0.2 if first else 0.02)
        while time.process_time() < end:
            pass

    monkeypatch.setattr(Renderer, "pictures", pictures)
    before, counted = (torch.get_num_threads(), cv2.getNumThreads()), []
    report = bench_rendering(nuscenes_rig(0.03), seeds=(4, 5), sets=2, on_set=lambda: counted.append(1))
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
    assert [call[0] for call in calls] == [4] * 3 + [5] * 3 and len({call[1] for call in calls}) == 3
    assert {call[2:] for call in calls} == {(1, 1)}
    assert report.sets == len(counted) == 4 and report.cameras == 6 and report.size_hw == (27, 48)
    assert 0.02 <= report.cpu_s < 0.04 and report.wall_s >= 0.05
    assert report.sets_per_cpu_s == pytest.approx(1 / report.cpu_s)


def test_the_table_says_how_many_sets_a_second_of_one_core_gives():
    report = bench_rendering(nuscenes_rig(0.03), seeds=(0,), sets=1)
    text = rendering_table(report)
    assert "1 sets of 6 of 48x27" in text and f"{report.sets_per_cpu_s:.1f} sets per CPU second" in text
    assert report.as_dict()["cpu_s"] == report.cpu_s > 0
