"""What a soak says of measurements: growth with its uncertainty, stalls, lost sets."""

import json
from pathlib import Path

import numpy as np
import pytest

from panoocc_ros.commands.cli import main
from panoocc_ros.live_bench.endurance import draw_soak, growth_of, report_of, soak_table
from panoocc_ros.live_bench.run import Load
from panoocc_ros.live_bench.states import rows_of, states_table
from panoocc_ros.ros.exit_codes import BAD_INPUT


def measured(mb_per_hour=0.0, minutes=10, missing=(), noise_mb=0.5, warm_mb=200.0):
    """Ten minutes at two sets a second: memory rises while the node gets warm, then by a slope."""
    random = np.random.default_rng(0)
    at = np.arange(0, 60 * minutes, 1.0)
    memory = 300 + warm_mb * np.minimum(1, at / 60) + mb_per_hour * at / 3600 + random.normal(0, noise_mb, len(at))
    samples = [(1000 + t, m, 0.4 * t) for t, m in zip(at, memory)]
    grids = [(t, 80.0 + 10 * (k % 3)) for k, t in enumerate(np.arange(0.1, 60 * minutes, 0.5)) if k not in missing]
    load = Load(Path("bag"), "nuscenes", (), {}, 60 * minutes, 2.0)
    return report_of(load, samples, grids, {"busy": 3}, 1000.0, 1000.0 + 60 * minutes, 120.0, 20.0)


def test_a_warm_node_that_keeps_its_memory_is_without_faults(tmp_path):
    report = measured()
    assert report.faults == () and report.drops == 0
    assert abs(report.growth.mb_per_hour) < 3 * report.growth.uncertainty_mb_per_hour < 20
    assert "the node says why: 3 busy" in soak_table(report)
    assert "memory from second 120 on, after warm-up" in soak_table(report) and "FAULT" not in soak_table(report)
    json.dumps(report.as_dict(), allow_nan=False)
    draw_soak(report, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000


def test_memory_that_grows_after_the_warm_up_is_a_fault_with_its_slope():
    report = measured(mb_per_hour=100.0)
    assert report.growth.mb_per_hour == pytest.approx(100, abs=report.growth.uncertainty_mb_per_hour * 2)
    assert len(report.faults) == 1 and "memory grows: +" in report.faults[0] and "FAULT: memory" in soak_table(report)


def test_what_is_not_sure_is_no_fault():
    report = measured(mb_per_hour=30.0, noise_mb=40.0)
    assert report.growth.uncertainty_mb_per_hour > 30 and report.faults == ()


def test_a_stall_is_a_fault_and_its_sets_are_lost():
    report = measured(missing=range(400, 420))
    assert report.longest_gap_s == pytest.approx(10.5) and report.drops == 20
    assert report.faults == ("it stalled: no grid for 10.5 s",)
    assert measured(missing=range(2000)).faults == ("no grid came",)


def test_few_samples_say_nothing():
    with pytest.raises(ValueError, match="run longer"):
        growth_of(np.array([0.0, 1.0]), np.array([1.0, 1.0]))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--minutes", "1", "--warm-up", "60"), "leave nothing of 60 s"),
        (("--picture", "soak.txt"), "soak.txt"),
        (("--json", "/nowhere/soak.json"), "the folder is not there"),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(words, told, capsys):
    assert main(["soak", *words]) == BAD_INPUT
    assert told in capsys.readouterr().err


def test_states_are_measured_once_they_have_settled():
    times = [("unconfigured", 0.0, 10.0), ("active", 20.0, 30.0)]
    samples = [
        (t, 100.0 if t < 15 else 900.0 - 50 * (t < 24), 0.1 * t if t < 20 else 2.0 + 0.5 * (t - 20)) for t in range(31)
    ]
    rows = rows_of(times, samples)
    assert [row.state for row in rows] == ["unconfigured", "active"]
    assert [row.memory_mb for row in rows] == [100.0, 900.0]
    assert [row.cpu_cores for row in rows] == [pytest.approx(0.1), pytest.approx(0.5)]
    assert "unconfigured" in states_table(rows)
