"""What a frame costs at least: what is counted against what torch counts, and the floor that rates make of it."""

import dataclasses
from math import prod

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from panoocc_core import model_config
from panoocc_core.bench.floor import BOXES, TOTAL, FrameFacts, Rates, Work, floors, map_sizes, measure_rates, works
from panoocc_core.bench.floor.counting import COUNTED_STAGES
from panoocc_core.config import SparseConfig
from panoocc_core.models import build_network

NUSCENES_SIGHTINGS = 44_272  # of the coarse voxels of the small networks, a real calibration
FACTS = FrameFacts(NUSCENES_SIGHTINGS, 6 * 1600 * 900)


def gflop(counted: list[Work]) -> dict[str, float]:
    stages = dict.fromkeys(work.stage for work in counted)
    return {stage: sum(work.flops for work in counted if work.stage == stage) / 1e9 for stage in stages}


@pytest.mark.parametrize("name", ["nano", "pano_small_4f", "pano_large_4f"])
def test_backbone_and_pyramid_are_what_torch_counts(name):
    """Those without deformable convolutions: sampling is nothing that torch's counter knows."""
    config = model_config(name)
    with torch.device("meta"), torch.inference_mode():
        network = build_network(config).eval()
        with FlopCounterMode(display=False) as counter:
            images = network.encode_images(torch.empty(len(config.cameras), 3, *config.images.padded_hw))
    # Of the depthwise convolutions torch counts the same, of the gathers nothing.
    counted = [work for work in works(config, FACTS, 4) if work.stage == "backbone" and work.kind != "gather"]
    flops = sum(work.flops for work in counted)
    elementwise = sum(work.flops for work in counted if work.kind == "elementwise")
    assert counter.get_total_flops() == pytest.approx(flops, abs=elementwise)
    assert list(images.shapes) == map_sizes(config)


def test_the_published_networks_cost_what_the_analysis_of_the_design_found():
    """GFLOP of a frame, counted by hand from the published configurations with all savings but the constant first
    layer's: 1,536 and 5,422."""
    small = gflop(works(model_config("pano_small_occ3d"), FACTS, 4))
    assert small["backbone"] == pytest.approx(674 + 244, rel=0.01)
    assert small["temporal"] == pytest.approx(189, rel=0.01)
    assert small["decoder"] == pytest.approx(158, rel=0.01)
    assert sum(small.values()) == pytest.approx(1_536, rel=0.01)
    base = FrameFacts(4 * NUSCENES_SIGHTINGS, FACTS.image_pixels)
    assert sum(gflop(works(model_config("pano_base_occ3d"), base, 4)).values()) == pytest.approx(5_422, rel=0.01)
    gathered = [work for work in works(model_config("pano_small_occ3d"), FACTS, 2) if work.stage == "encoder"]
    assert sum(work.gathered_bytes for work in gathered) / 1e9 == pytest.approx(10.9 + 3.9, rel=0.01)


def test_the_decoder_is_what_torch_counts():
    config = model_config("nano")
    with torch.device("meta"), torch.inference_mode():
        network = build_network(config).eval()
        tokens = torch.empty(32 * 32 * 8, config.embed)
        with FlopCounterMode(display=False) as counter:
            network.decode(tokens)
    assert gflop(works(config, FACTS, 4))["decoder"] == pytest.approx(counter.get_total_flops() / 1e9, rel=0.02)


def test_what_frames_and_capacities_decide_is_counted():
    nano = model_config("nano")
    shut = dataclasses.replace(FACTS, open_share=0.1)
    mlp = [sum(work.flops for work in works(nano, facts, 4) if work.name.startswith("mlp")) for facts in (FACTS, shut)]
    assert mlp[1] == pytest.approx(0.1 * mlp[0])
    twice = dataclasses.replace(FACTS, sightings=2 * FACTS.sightings)
    cross = [
        sum(work.gathered_bytes for work in works(nano, facts, 4) if "cross" in work.name) for facts in (FACTS, twice)
    ]
    assert cross[1] == 2 * cross[0] > 0
    half = sum(work.moved_bytes + work.gathered_bytes for work in works(nano, FACTS, 2) if work.stage == "encoder")
    full = sum(work.moved_bytes + work.gathered_bytes for work in works(nano, FACTS, 4) if work.stage == "encoder")
    assert half == pytest.approx(full / 2)
    decoder = dataclasses.replace(nano.decoder, sparse=SparseConfig((0.5, 0.25)))
    sparse = dataclasses.replace(nano, decoder=decoder)
    assert gflop(works(sparse, FACTS, 4))["decoder"] < 0.9 * gflop(works(nano, FACTS, 4))["decoder"]
    boxless = dataclasses.replace(
        nano,
        boxes=dataclasses.replace(nano.boxes, classes=()),
        panoptic=dataclasses.replace(nano.panoptic, instances="none"),
    )
    assert BOXES not in gflop(works(boxless, FACTS, 4))


def test_history_and_every_preset_are_counted():
    recurrent, alone = (gflop(works(model_config(name), FACTS, 4)) for name in ("pano_small_4f", "pano_small_1f"))
    assert recurrent["temporal"] > alone["temporal"] and recurrent["backbone"] == alone["backbone"]
    for name in ("nano_sparse", "nano_waymo", "pano_xl_4f_cat", "pano_large_4f_hr"):
        counted = works(model_config(name), FACTS, 2)
        assert {work.stage for work in counted} >= set(COUNTED_STAGES)
        assert all(work.flops >= 0 and work.moved_bytes >= 0 and prod(work.shape) >= 0 for work in counted)


RATES = Rates(1, 100.0, 50.0, 25.0, 10.0, 20.0, 5.0)


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Work("a", "", "product", 1e9, 0), 0.01),
        (Work("a", "", "conv3", 1e9, 0), 0.02),
        (Work("a", "", "conv1", 1e9, 0), 0.04),
        (Work("a", "", "product", 1e9, 1e9), 0.1),  # its bytes take longer
        (Work("a", "", "gather", 1e15, 0, gathered_bytes=1e9, table_bytes=8 << 20), 0.05),
        (Work("a", "", "gather", 1e15, 0, gathered_bytes=1e9, table_bytes=64 << 20), 0.2),
    ],
)
def test_a_work_takes_what_its_flops_or_its_bytes_take(work, seconds):
    assert RATES.seconds(work) == pytest.approx(seconds)


def test_the_floor_of_a_total_leaves_out_the_boxes():
    counted = [Work("encoder", "", "product", 1e9, 1e6), Work("decoder", "", "conv3", 1e9, 0)]
    counted.append(Work(BOXES, "", "product", 5e9, 0))
    twice = dataclasses.replace(RATES, threads=2, product_gflops=200.0, conv3_gflops=100.0)
    found = floors(counted, RATES, twice)
    assert set(found) == {"encoder", "decoder", BOXES, TOTAL}
    assert found[TOTAL].cpu_ms == pytest.approx(30) and found[TOTAL].wall_ms == pytest.approx(15)
    assert found[TOTAL].gflop == pytest.approx(2) and found["encoder"].moved_gb == pytest.approx(1e-3)
    assert floors(counted, None, twice)[TOTAL].cpu_ms is None
    best = RATES.best(dataclasses.replace(RATES, copy_gbps=30.0, product_gflops=1.0))
    assert best == dataclasses.replace(RATES, copy_gbps=30.0)


def test_rates_are_measured_at_the_shapes_of_a_network(device, monkeypatch):
    from panoocc_core.bench.floor import rates as module

    for name, value in (("REPEATS", 1), ("GATHERED_ROWS", 3200), ("LARGE_TABLE", 4 << 20), ("COPIED_BYTES", 4 << 20)):
        monkeypatch.setattr(module, name, value)
    threads = torch.get_num_threads()
    nano = works(model_config("nano"), FACTS, 4)
    for dtype in (torch.float32, torch.bfloat16):
        found = measure_rates(nano, device, dtype)
        assert all(value > 0.01 for name, value in found.as_dict().items() if name != "threads")
    assert torch.get_num_threads() == threads and "GFLOP/s" in str(found)
    assert measure_rates([], device, torch.float32).product_gflops > 0  # of a network without such works
