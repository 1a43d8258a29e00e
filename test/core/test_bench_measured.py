"""Networks as they are measured: what is fed, what is counted, what is said."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, load_model, model_config
from panoocc_core.base.host_memory import give_back_freed_memory
from panoocc_core.bench import Effort, Setting, draw_networks, measured, network_table, steady, summary_table
from panoocc_core.bench.floor import Rates
from panoocc_core.bench.machine import forget_peak, memory_mb, most_mb
from panoocc_core.bench.measured import GRID_ALONE, facts_of, full_history, measure, stream_times
from panoocc_core.bench.needs import check_memory, least_mb
from panoocc_core.geometry import NS_PER_S
from panoocc_core.memory import states_kept

from .conftest import street_frame

CPU = torch.device("cpu")
FRAMES = [street_frame(0.5 * number, 2.0 * number) for number in range(3)]


def test_frames_go_forth_and_back_and_time_goes_on(nano):
    fed = list(itertools.islice(steady(FRAMES, nano), 6))
    assert [frame.world_from_ego[0, 3] for frame in fed] == [0, 2, 4, 2, 0, 2]
    assert [frame.stamp_ns for frame in fed] == [round(0.5 * NS_PER_S * number) for number in range(6)]
    assert all(camera.stamp_ns == frame.stamp_ns for frame in fed for camera in frame.cameras)
    alone = list(itertools.islice(steady(FRAMES[:1], nano), 2))
    assert alone[1].stamp_ns - alone[0].stamp_ns == NS_PER_S // 2


def test_a_vehicle_that_would_be_too_fast_keeps_its_time(nano):
    """Frames of 30 m/s, of a network that keeps states ten times a second: 15 m in 0.1 s would be a teleport."""
    quick = dataclasses.replace(nano, temporal=dataclasses.replace(nano.temporal, ages_s=(0.5,), spacing_s=0.1))
    frames = [street_frame(0.5 * number, 15.0 * number) for number in range(3)]
    first, second = itertools.islice(steady(frames, quick), 2)
    assert second.stamp_ns - first.stamp_ns == NS_PER_S // 2
    first, second = itertools.islice(steady(FRAMES, quick), 2)
    assert second.stamp_ns - first.stamp_ns == NS_PER_S // 10


def test_the_history_is_full_from_the_first_counted_frame_on(nano_model, nano):
    stream, feed = OccupancyStream(nano_model), steady(FRAMES, nano)
    stream.step(next(feed), GRID_ALONE)
    stream.memory = full_history(stream.memory, nano)
    assert len(stream.memory.states) == states_kept(nano.temporal) == 3
    places = {state.tokens.data_ptr() for state in stream.memory.states}
    assert len(places) == 3  # as much memory as real ones
    step = stream.step(next(feed), GRID_ALONE)
    assert step.history.ages_s == nano.temporal.ages_s and step.history.reset is None
    times, after = stream_times(nano_model, FRAMES, Effort(frames=1))
    assert times.frames == 1 and len(after.memory.states) == 3
    assert "visible" not in times.stages and times.stages["total"].p50 > times.stages["backbone"].p50
    assert times.stages["total"].p50 == times.stages["total"].p99 == times.stages["total"].most


def test_what_a_frame_decides(nano, nano_model):
    facts = facts_of(nano_model, FRAMES[0])
    assert 0 < facts.sightings < 6 * 32 * 32 * 8 and facts.image_pixels == 6 * 90 * 160
    shut = load_model(nano, seeded_weights=True)
    shut.decoder.gate.bias.data.fill_(-100.0)
    assert facts_of(shut, FRAMES[0]).open_share == 0
    opened = load_model(nano, seeded_weights=True)
    opened.decoder.gate.bias.data.fill_(100.0)
    assert facts_of(opened, FRAMES[0]).open_share > 0.95  # one that is free for sure looks shut


@pytest.fixture
def report(nano, monkeypatch):
    rates = iter([Rates(1, 80.0, 90.0, 60.0, 20.0, 30.0, 8.0), Rates(1, 70.0, 100.0, 60.0, 20.0, 30.0, 8.0)])
    monkeypatch.setattr(measured, "measure_rates", lambda *_: next(rates))
    threads = torch.get_num_threads()
    yield measure(Setting(nano, seeded_weights=True), FRAMES, Effort(frames=2, compared=1))
    torch.set_num_threads(threads)


def test_a_report_says_all_that_was_measured(report, tmp_path):
    assert report.rates["one thread"].product_gflops == 80 and report.rates["one thread"].conv3_gflops == 100
    stages = report.as_dict()["stages"]
    assert stages["total"]["ratio"]["wall"] == pytest.approx(
        stages["total"]["wall_ms"]["p50"] / stages["total"]["floor"]["wall_ms"]
    )
    assert report.agreement is not None and report.agreement.same_class > 0.999
    text = network_table(report)
    rows = [line.split()[0] for line in text.splitlines()[3:]]
    assert rows.index("decoder") < rows.index("total") < rows.index("boxes")
    assert "nano, fp32, 1 thread: " in text and "seeded weights" in text and "worst logit error" in text
    assert "the least time" in summary_table([report])
    draw_networks(tmp_path / "bench.svg", [report, report])
    assert (tmp_path / "bench.svg").read_text().count("nano, fp32, 1 thread: CPU time") >= 1
    on_cuda = dataclasses.replace(
        report,
        setting=dataclasses.replace(report.setting, device="cuda"),
        times={name: dataclasses.replace(times, cpu=None) for name, times in report.times.items()},
        floors={name: dataclasses.replace(floor, cpu_ms=None) for name, floor in report.floors.items()},
        agreement=None,
    )
    draw_networks(tmp_path / "cuda.png", [on_cuda])
    assert " nan" not in network_table(on_cuda) and "on cuda" in summary_table([on_cuda])
    assert on_cuda.as_dict()["stages"]["total"]["ratio"]["cpu"] is None


def test_the_peak_is_of_what_came_after_it_was_forgotten():
    held = torch.ones(50_000_000)  # 200 MB
    high = most_mb(CPU)
    del held
    give_back_freed_memory()  # another test of this process may have had it kept
    forget_peak(CPU)
    assert most_mb(CPU) < high - 150
    again = torch.ones(25_000_000)
    assert most_mb(CPU) >= memory_mb(CPU) - 5 and most_mb(CPU) > 100 and len(again)


def test_what_does_not_fit_is_refused_with_numbers(nano, monkeypatch):
    base = model_config("pano_base_occ3d")
    assert 2_800 < least_mb(base, CPU, 4) < 4_000  # weights 390, history 2,130, what it sees of the images 730
    assert least_mb(base, CPU, 2) < least_mb(base, CPU, 4) - 1_000
    monkeypatch.setattr("panoocc_core.bench.needs.free_memory", lambda device: 100e6)
    with pytest.raises(ValueError, match=r"nano takes at least \d+ MB, and 100 MB are free on cpu"):
        check_memory(nano, CPU, 4)
    monkeypatch.setattr("panoocc_core.bench.needs.free_memory", lambda device: None)
    check_memory(nano, CPU, 4)


def test_effort_is_frames_or_seconds():
    assert not measured._is_enough(2, 100.0, Effort()) and measured._is_enough(3, 100.0, Effort())
    assert not measured._is_enough(50, 1.0, Effort()) and measured._is_enough(measured.MOST_FRAMES, 0.0, Effort())
    assert not measured._is_enough(4, math.inf, Effort(frames=5)) and measured._is_enough(5, 0.0, Effort(frames=5))
    assert measured._times([1.0, 2.0, 3.0], []).cpu is None
    assert measured._times(list(np.arange(100.0)), [1.0]).p95 == 95
