"""What is around a network: messages of every output, images on their way to it, the rendering of streets."""

import itertools
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from panoocc_core import OccupancyStream
from panoocc_core.base.rig_files import rig_with
from panoocc_core.bench import (
    ImageReport,
    RenderReport,
    bench_images,
    bench_rendering,
    computing_threads,
    hardware,
    images_table,
    rendering_table,
)
from panoocc_core.sim import load_sim_rig

from ...bags.bag import BagReader
from ...node.choices import chosen_config, chosen_rig, loaded_network, rig_for
from ...outputs.catalogue import OUTPUTS
from ...outputs.costs import cost_at_rates, cost_together, costs_table, output_costs, published_grid_costs
from ...outputs.output import Result
from .bag_frames import bag_frames

HD_HW = (1080, 1920)  # beside the size of the street's images
DRAWN_WIDTH_PX = 256  # of the images whose rendering is measured: those of nano
GRIDS_HZ = 10.0  # at which the default rates of outputs are reckoned
TRAINED = "nano"  # its shipped weights make the grids and things whose messages are measured


def trained_street() -> str:
    """The simulator's rig with the cameras of the network whose messages are measured."""
    return rig_with("sim_rigs", chosen_config(TRAINED).cameras)


def measure_outputs(bag: Path, frame_count: int, device: str) -> dict[str, Any]:
    """Size and CPU time of the messages of every output, and of what a step finds for them, in one thread."""
    config = chosen_config(TRAINED)
    rig = rig_for(config, chosen_rig("auto", config))
    frames = bag_frames(bag, config, rig, frame_count)
    with computing_threads(1), tqdm(total=len(frames), unit="frame", desc="outputs", disable=None) as bar:
        stream = OccupancyStream(loaded_network(config, device=device, threads=1), exact_times=True)
        results = []
        for number, frame in enumerate(frames):
            results.append(Result(stream.step(frame), frame, number, rig.base_frame, rig.names))
            bar.update()
        results = results[min(1, len(results) - 1) :]  # as for the networks
        outputs, published = output_costs(results, OUTPUTS), published_grid_costs()
        ours = [output for output in OUTPUTS if output.in_node]
        together, at_rates = cost_together(results, ours), cost_at_rates(results, ours, GRIDS_HZ)
        stages = {name: median(one.occupancy.cpu_ms[name] for one in results) for name in ("instances", "visible")}
        machine = hardware(stream.network.device)
    rows = {
        "all topics of the node, as often as grids come": together,
        f"at their default rates, a grid of {GRIDS_HZ:g} a second": at_rates,
    }
    rows |= {f"VoxelGrid of 200x200x16, 5 % occupied, {name}": cost for name, cost in published.items()}
    print(f"messages of {config.name}'s shipped weights on {machine}, median of {len(results)} frames")
    print(costs_table(outputs, rows))
    print(f"found for them: {', '.join(f'{name} {ms:.1f} CPU ms' for name, ms in stages.items())}\n", flush=True)
    return {
        "outputs": {topic: asdict(cost) for topic, cost in outputs.items()},
        "outputs_together": asdict(together),
        "outputs_at_default_rates": {"grids_hz": GRIDS_HZ, **asdict(at_rates)},
        "voxel_grid_200x200x16": {name: asdict(cost) for name, cost in published.items()},
        "found_cpu_ms": stages,
        "outputs_of": {"model": config.name, "frames": len(results), "hardware": machine},
    }


def measure_images(bag: Path) -> list[ImageReport]:
    """What the images of a street cost on their way to the network, in their own size and in another usual one."""
    config = chosen_config(TRAINED)
    topics = [camera.topic for camera in rig_for(config, chosen_rig("auto", config)).cameras]
    with BagReader(bag) as reader:
        first = itertools.islice(reader.messages(topics), len(topics))
        jpegs = [bytes(memoryview(reader.deserialise(raw).data)) for raw in first]
    with tqdm(unit="image", desc="images", disable=None) as bar:
        reports = [bench_images(jpegs, config.images, size_hw, bar.update) for size_hw in (None, HD_HW)]
    print(images_table(reports) + "\n", flush=True)
    return reports


def measure_rendering(rig_name: str) -> RenderReport:
    """What the images of a street cost that are of the size that nano takes."""
    rig = load_sim_rig(rig_name, DRAWN_WIDTH_PX / load_sim_rig(rig_name)[0].width)
    with tqdm(unit="set", desc="rendering", disable=None) as bar:
        report = bench_rendering(rig, on_set=bar.update)
    print(rendering_table(report) + "\n", flush=True)
    return report
