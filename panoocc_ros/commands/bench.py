"""`panoocc bench`: time and memory of a network on the frames of a bag, or on a simulated street."""

import argparse
import itertools
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from panoocc_core import Frame, ModelConfig, OccupancyStream
from panoocc_core.base.rig_files import rig_with
from panoocc_core.base.whole_files import write_json
from panoocc_core.bench import (
    BenchReport,
    ImageReport,
    RenderReport,
    bench,
    bench_images,
    bench_rendering,
    hardware,
    images_table,
    one_thread,
    rendering_table,
    table,
)
from panoocc_core.sim import load_sim_rig

from ..bags.bag import BagError, BagReader
from ..bags.source import ready_sets
from ..demo.processes import ProcessError
from ..frames.assembler import FrameAssembler
from ..frames.rig import Rig
from ..frames.waiting import AssemblerOptions
from ..live_bench.run import live_bench, live_table, shipped_profile
from ..node.choices import chosen_config, chosen_device, chosen_rig, loaded_network, rig_for
from ..outputs.catalogue import OUTPUTS
from ..outputs.costs import cost_at_rates, cost_together, costs_table, output_costs, published_grid_costs
from ..outputs.output import Result
from ..replay.replay import check_topics
from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, FAILED, NETWORK_FAILED, NOT_WRITTEN, explained
from ..ros.parameter_fields import SettingsError
from .shared import options
from .shared.failures import Ended, status_of
from .shared.streets import live_load, street_bag, street_rig

FRAMES = 3
NETWORKS = ("nano", "pano_small_occ3d")  # that are measured where none is named
HD_HW = (1080, 1920)  # beside the size of the street's images
DRAWN_WIDTH_PX = 256  # of the images whose rendering is measured: those of nano
GRIDS_HZ = 10.0  # at which the default rates of outputs are reckoned
TRAINED = "nano"  # its shipped weights make the grids and things whose messages are measured

DESCRIPTION = "Runs networks with seeded weights over a few frames and measures every stage."
EPILOG = f"""\
The table gives wall and CPU time of every stage.  Two numbers compare machines: how many GFLOP of plain matrix products
the same machine would have done in the time of a frame, and the time of the sampling operator against the usual torch
formulation, both measured in the same run.  Without --bag the rendering of simulated streets is measured too, in one
thread: images of the size that nano takes, of the first network's cameras.  So are the messages of every output, of
what nano's shipped weights see in a street: their size, and the CPU time of making and serialising them in one thread;
and the steps that an image takes to the network, decoded whole or no larger than needed, in one thread.

--live starts the node, a recorder and a process that sends the images of a bag (default: two sets of a simulated
street, in full size) as drivers do; once with the package's profile of Fast DDS and once without.  Without --model the
network is a real but tiny one with seeded weights: what is measured is everything around a network.

examples:
  panoocc bench                                     Pano-small (Occ3D) and nano on a simulated street
  panoocc bench --model pano_small_4f --bag drive/  one network on your own images
  panoocc bench --output-costs costs.json           what the messages of every output cost, and nothing else
  panoocc bench --live 20                           the node over DDS: images lost, and time from image to grid

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc bench`."""
    options.add(
        parser,
        "--model",
        nargs="+",
        help=f"presets, or YAML files that describe networks (default: {' '.join(NETWORKS)}; with --live a tiny one)",
    )
    parser.add_argument(
        "--bag", type=Path, metavar="BAG", help="bag with the cameras of --rig (default: a simulated street)"
    )
    options.add(parser, "--rig")
    parser.add_argument(
        "--frames",
        type=whole_number(1, 500),
        metavar="N",
        help=f"frames that every network sees; with two or more the first is not counted (default: {FRAMES})",
    )
    parser.add_argument(
        "--output-costs",
        type=Path,
        metavar="FILE",
        help=f"measure the messages of every output of {TRAINED} alone, and write what they cost as JSON",
    )
    parser.add_argument(
        "--live",
        type=number(1, 3600),
        metavar="SECONDS",
        help="measure the node over DDS for so long, and nothing else",
    )
    parser.add_argument(
        "--rate",
        type=number(0.1, 60),
        default=12.0,
        metavar="HZ",
        help="with --live: sets of images a second (default: %(default)g)",
    )
    parser.add_argument(
        "--at-once",
        action="store_true",
        help="with --live: all cameras of a set send at one instant, as triggered ones do (default: as in the bag)",
    )
    options.add(parser, "--instances", "--device", "--precision", "--threads", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc bench`; returns the exit status, errors are said on stderr."""
    return status_of("bench", lambda: _bench(arguments))


def _bench(arguments: argparse.Namespace) -> None:
    # All of it before a street is rendered for a minute.
    if arguments.live is not None:
        _live_alone(arguments)
        return
    arguments.frames = arguments.frames or FRAMES
    if arguments.output_costs is not None:
        _output_costs_alone(arguments)
        return
    configs = [chosen_config(name, instances=arguments.instances) for name in arguments.model or NETWORKS]
    rigs = [rig_for(config, chosen_rig(arguments.rig, config)) for config in configs]
    chosen_device(arguments.device)
    _check_output(arguments.json, "json")
    streets = [] if arguments.bag else [street_rig(config, own) for config, own in zip(configs, rigs)]
    with TemporaryDirectory() as folder:
        paths = {
            name: street_bag(Path(folder) / f"{index}.mcap", name, arguments.frames)
            for index, name in enumerate(dict.fromkeys([*streets, *([_trained_street()] if streets else [])]))
        }
        bags = [paths[name] for name in streets] or [arguments.bag] * len(configs)
        networks = [_measure(*one, arguments).as_dict() for one in zip(configs, bags, rigs)]
        numbers: dict[str, Any] = {"networks": networks}
        if streets:
            numbers |= _measure_outputs(paths[_trained_street()], arguments)
            numbers["images"] = [report.as_dict() for report in _measure_images(paths[_trained_street()])]
    if streets:
        numbers["rendering"] = _measure_rendering(streets[0]).as_dict()
    if arguments.json is not None:
        write_json(arguments.json, numbers)
        print(f"written: {arguments.json}")


def _check_output(path: Path | None, option: str) -> None:
    """Raises SettingsError or OSError for what would fail only after a minute."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise SettingsError(f"{path} is a folder: give the path of a file", option)


def _measure(config: ModelConfig, bag: Path, rig: Rig, arguments: argparse.Namespace) -> BenchReport:
    frames = _frames(bag, config, rig, arguments.frames)
    model = loaded_network(
        config,
        seeded_weights=True,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    with tqdm(total=len(frames), unit="frame", desc=config.name, disable=None) as bar:
        report = bench(model, frames, warmup=min(1, len(frames) - 1), on_frame=bar.update)
    print(table(report) + "\n", flush=True)
    return report


def _trained_street() -> str:
    return rig_with("sim_rigs", chosen_config(TRAINED).cameras)


def _output_costs_alone(arguments: argparse.Namespace) -> None:
    chosen_device(arguments.device)
    _check_output(arguments.output_costs, "output_costs")
    with TemporaryDirectory() as folder:
        street = arguments.bag or street_bag(Path(folder) / "street.mcap", _trained_street(), arguments.frames)
        numbers = _measure_outputs(street, arguments)
    write_json(arguments.output_costs, numbers)
    print(f"written: {arguments.output_costs}")


def _live_alone(arguments: argparse.Namespace) -> None:
    """The node over DDS, with the package's profile and without."""
    if len(arguments.model or ()) > 1:
        raise SettingsError(f"--live runs one network, not {len(arguments.model)}: give one", "model")
    if arguments.frames is not None:
        raise SettingsError("--live counts seconds: leave --frames out", "frames")
    if arguments.output_costs is not None:
        raise SettingsError("it is measured without --live: give either", "output_costs")
    chosen_device(arguments.device)
    _check_output(arguments.json, "json")
    reports = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model[0] if arguments.model else None
        config, load = live_load(arguments, model, arguments.instances, arguments.live, folder, arguments.at_once)
        for number, profile in enumerate((shipped_profile(), None)):
            out = folder / str(number)
            out.mkdir()
            try:
                report = live_bench(load, out, profile)
            except ProcessError as error:
                raise Ended(str(error), FAILED) from error
            print(f"{config.name}: {live_table(report)}\n", flush=True)
            reports.append(report.as_dict())
    if arguments.json is not None:
        write_json(arguments.json, {"live": reports})
        print(f"written: {arguments.json}")


def _measure_outputs(bag: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Size and CPU time of the messages of every output, and of what a step finds for them, in one thread."""
    config = chosen_config(TRAINED)
    rig = rig_for(config, chosen_rig("auto", config))
    frames = _frames(bag, config, rig, arguments.frames)
    with one_thread(), tqdm(total=len(frames), unit="frame", desc="outputs", disable=None) as bar:
        stream = OccupancyStream(loaded_network(config, device=arguments.device, threads=1), exact_times=True)
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


def _measure_images(bag: Path) -> list[ImageReport]:
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


def _measure_rendering(rig_name: str) -> RenderReport:
    rig = load_sim_rig(rig_name, DRAWN_WIDTH_PX / load_sim_rig(rig_name)[0].width)
    with tqdm(unit="set", desc="rendering", disable=None) as bar:
        report = bench_rendering(rig, on_set=bar.update)
    print(rendering_table(report) + "\n", flush=True)
    return report


def _frames(path: Path, config: ModelConfig, rig: Rig, count: int) -> list[Frame]:
    """The first frames of a bag, as the node makes them for a network.

    Raises:
        BagError: the bag cannot be read or gives no frame.
    """
    with (
        BagReader(path) as bag,
        closing(FrameAssembler(rig, AssemblerOptions().patient(), config=config)) as assembler,
    ):
        check_topics(bag, assembler.rig)
        frames = [assembler.frame(ready) for _, ready in itertools.islice(ready_sets(bag, assembler), count)]
        if not frames:
            raise BagError(f"{path}: no complete set of images ({assembler.status(bag.end_ns).last_drop})")
    return frames
