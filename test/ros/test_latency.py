"""Latency windows and tables."""

from panoocc_ros.health.latency import StageTimes, latency_table, summarise


def test_percentiles_of_a_known_series():
    numbers = summarise(range(101))
    assert (numbers["p50_ms"], numbers["p95_ms"], numbers["p99_ms"], numbers["mean_ms"]) == (50, 95, 99, 50)
    assert numbers["count"] == 101


def test_only_the_newest_times_count():
    times = StageTimes(window=3)
    for value in (1000.0, 1.0, 2.0, 3.0):
        times.add({"decode": value, "publish": 1.0})
    summary = times.summary()
    assert list(summary) == ["decode", "publish"]
    assert summary["decode"]["mean_ms"] == 2.0 and summary["decode"]["count"] == 3


def test_the_table_names_every_stage():
    table = latency_table({"decode": summarise([1.5]), "a_long_stage_name": summarise([20.25, 20.25])})
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "a_long_stage_name" in lines[2] and "20.25" in lines[2] and lines[2].endswith("2")
    assert "no set" in latency_table({})
