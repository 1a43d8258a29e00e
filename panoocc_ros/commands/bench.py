"""`panoocc bench`: time and memory of a network on the frames of a bag, or on a simulated street."""

import argparse
import itertools
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from panoocc_core import ConfigError, Frame, ModelConfig
from panoocc_core.base.rig_files import rig_with
from panoocc_core.base.whole_files import write_json
from panoocc_core.bench import BenchReport, RenderReport, bench, bench_rendering, rendering_table, table
from panoocc_core.sim import load_sim_rig

from ..bags.bag import BagError, BagReader
from ..bags.replay import check_topics
from ..bags.source import ready_sets
from ..frames.assembler import FrameAssembler
from ..frames.rig import Rig
from ..frames.waiting import AssemblerOptions
from ..node.load import chosen_config, chosen_device, chosen_rig, loaded_network, rig_for
from ..ros.argument_types import whole_number
from ..ros.exit_codes import BAD_INPUT, FAILED, NETWORK_FAILED, NOT_WRITTEN, explained
from ..ros.parameter_fields import SettingsError
from ..sim.bag import write_street_bag
from ..sim.messages import image_topic
from . import options
from .failures import status_of

DRAWN_WIDTH_PX = 256  # of the images whose rendering is measured: those of nano

DESCRIPTION = "Runs networks with seeded weights over a few frames and measures every stage."
EPILOG = f"""\
The table gives wall and CPU time of every stage.  Two numbers compare machines: how many GFLOP of plain matrix products
the same machine would have done in the time of a frame, and the time of the sampling operator against the usual torch
formulation, both measured in the same run.  Without --bag the rendering of simulated streets is measured too, in one
thread: images of the size that nano takes, of the first network's cameras.

examples:
  panoocc bench                                     Pano-small (Occ3D) and nano on a simulated street
  panoocc bench --model pano_small_4f --bag drive/  one network on your own images

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc bench`."""
    options.add(
        parser,
        "--model",
        nargs="+",
        default=["nano", "pano_small_occ3d"],
        help="presets, or YAML files that describe networks (default: nano pano_small_occ3d)",
    )
    parser.add_argument(
        "--bag", type=Path, metavar="BAG", help="bag with the cameras of --rig (default: a simulated street)"
    )
    options.add(parser, "--rig")
    parser.add_argument(
        "--frames",
        type=whole_number(1, 500),
        default=3,
        metavar="N",
        help="frames that every network sees; with two or more the first is not counted (default: %(default)s)",
    )
    options.add(parser, "--instances", "--device", "--precision", "--threads", "--json")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc bench`; returns the exit status, errors are said on stderr."""
    return status_of("bench", lambda: _bench(arguments))


def _bench(arguments: argparse.Namespace) -> None:
    # All of it before a street is rendered for a minute.
    configs = [chosen_config(name, instances=arguments.instances) for name in arguments.model]
    rigs = [rig_for(config, chosen_rig(arguments.rig, config)) for config in configs]
    chosen_device(arguments.device)
    _check_output(arguments)
    streets = [] if arguments.bag else [_street_rig(config, own) for config, own in zip(configs, rigs)]
    with TemporaryDirectory() as folder:
        paths = {
            name: _street(Path(folder) / f"{index}.mcap", name, arguments.frames)
            for index, name in enumerate(dict.fromkeys(streets))
        }
        bags = [paths[name] for name in streets] or [arguments.bag] * len(configs)
        networks = [_measure(*one, arguments).as_dict() for one in zip(configs, bags, rigs)]
    numbers: dict[str, object] = {"networks": networks}
    if streets:
        numbers["rendering"] = _measure_rendering(streets[0]).as_dict()
    if arguments.json is not None:
        write_json(arguments.json, numbers)
        print(f"written: {arguments.json}")


def _street_rig(config: ModelConfig, rig: Rig) -> str:
    """The simulator's rig with the network's cameras.

    Raises:
        SettingsError: there is none, or its topics are not those that the network listens to.
    """
    try:
        name = rig_with("sim_rigs", config.cameras)
    except ConfigError as error:
        raise SettingsError(f"{error}, or give a bag with --bag", "model") from error
    if not {camera.topic for camera in rig.cameras} <= {image_topic(camera) for camera in load_sim_rig(name)}:
        raise SettingsError("its topics are not those of the simulated street: give a bag with --bag", "rig")
    return name


def _check_output(arguments: argparse.Namespace) -> None:
    """Raises SettingsError or OSError for what would fail only after a minute."""
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        if arguments.json.is_dir():
            raise SettingsError(f"{arguments.json} is a folder: give the path of a file", "json")


def _street(path: Path, rig_name: str, frames: int) -> Path:
    """A simulated street with full-size images, one set every half second."""
    rig = load_sim_rig(rig_name)
    size = f"{rig[0].width}x{rig[0].height}"
    print(f"rendering a simulated street with {len(rig)} images of {size} a frame ...", file=sys.stderr)
    return write_street_bag(path, 0, frames * 0.5, 2.0, rig)


def _measure(config: ModelConfig, bag: Path, rig: Rig, arguments: argparse.Namespace) -> BenchReport:
    frames = _frames(bag, rig, arguments.frames)
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


def _measure_rendering(rig_name: str) -> RenderReport:
    rig = load_sim_rig(rig_name, DRAWN_WIDTH_PX / load_sim_rig(rig_name)[0].width)
    with tqdm(unit="set", desc="rendering", disable=None) as bar:
        report = bench_rendering(rig, on_set=bar.update)
    print(rendering_table(report) + "\n", flush=True)
    return report


def _frames(path: Path, rig: Rig, count: int) -> list[Frame]:
    """The first frames of a bag.

    Raises:
        BagError: the bag cannot be read or gives no frame.
    """
    with BagReader(path) as bag, closing(FrameAssembler(rig, AssemblerOptions().patient())) as assembler:
        check_topics(bag, assembler.rig)
        frames = [assembler.frame(ready) for _, ready in itertools.islice(ready_sets(bag, assembler), count)]
        if not frames:
            raise BagError(f"{path}: no complete set of images ({assembler.status(bag.end_ns).last_drop})")
    return frames
