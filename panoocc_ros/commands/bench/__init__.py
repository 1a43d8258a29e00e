"""`panoocc bench`: what networks take and what they could take, on the frames of a bag or of a simulated street."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from panoocc_core.base.whole_files import write_json
from panoocc_core.bench import COMPARED_FRAMES, EXECUTORS, Effort
from panoocc_core.export.spec import is_exported
from panoocc_core.pictures import charts

from ...node.choices import chosen_device
from ...ros.argument_types import number, whole_number
from ...ros.exit_codes import BAD_INPUT, FAILED, NETWORK_FAILED, NOT_WRITTEN, explained
from ...ros.parameter_fields import SettingsError
from ..shared import options
from ..shared.failures import Ended, status_of
from ..shared.streets import street_bag, street_rig
from .around import TRAINED, measure_images, measure_outputs, measure_rendering, trained_street
from .networks import DEFAULT_NETWORKS, EVERY, STREET_FRAMES, choices, draw, measure_networks, numbers_of
from .over_dds import live
from .rivals import against, serve_lines
from .sizes import sweep

DESCRIPTION = """\
Runs networks over a few frames, each in a process of its own, and puts every stage beside its floor: the least time in
which this device can do the products, copies and gathers that are counted from the configuration, at rates that are
measured in the same run.
"""
EPILOG = f"""\
Beside every speed stands how far the network is from itself in float32 with reference operators, on the same frames.
Without --bag the rendering of simulated streets is measured too, in one thread: images of the size that nano takes, of
the first network's cameras.  So are the messages of every output, of what nano's shipped weights see in a street: their
size, and the CPU time of making and serialising them in one thread; and the steps that an image takes to the network,
decoded whole or no larger than needed, in one thread.

--live starts the node, a recorder and a process that sends the images of a bag (default: two sets of a simulated
street, in full size) as drivers do; once with the package's profile of Fast DDS and once without.  Without --model the
network is a real but tiny one with seeded weights: what is measured is everything around a network.

examples:
  panoocc bench                                     Pano-small (Occ3D) and nano on a simulated street
  panoocc bench --model pano_small_4f --bag drive/  one network on your own images
  panoocc bench --model nano --precision fp32 bf16 --threads 1 2   every combination
  panoocc bench --sweep --picture sweep.png         how cost grows with voxels, cameras, image size and history
  panoocc bench --model nano --against "python examples/bench_against.py"   another program, frame by frame by turns
  panoocc bench --against "/other/checkout/.venv/bin/panoocc bench --serve --model nano"   another state of this one
  panoocc bench --output-costs costs.json           what the messages of every output cost, and nothing else
  panoocc bench --live 20                           the node over DDS: images lost, and time from image to grid

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED)}
"""
# What an option that measures something of its own cannot do with.
WITHOUT = {
    "live": ("frames", "compared", "executor", "checkpoint", "picture"),
    "sweep": ("frames", "compared", "executor", "checkpoint", "bag"),
    "against": ("compared", "picture"),
    "serve": ("frames", "compared", "bag", "json", "picture"),
    "output_costs": ("model", "compared", "executor", "checkpoint", "precision", "threads", "json", "picture"),
}
OF_LIVE = ("rate", "at_once")
# Not the parser's, which would not tell them from what was given.
DEFAULTS = {"compared": COMPARED_FRAMES, "rate": 12.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc bench`."""
    options.add(
        parser,
        "--model",
        nargs="+",
        help=f"presets, {EVERY}, or YAML files that describe networks (default: {' '.join(DEFAULT_NETWORKS)}; with "
        "--live a tiny one, with --sweep, --against and --serve nano)",
    )
    options.add(parser, "--checkpoint", "--seeded-weights")
    parser.add_argument(
        "--bag", type=Path, metavar="BAG", help="bag with the cameras of --rig (default: a simulated street)"
    )
    options.add(parser, "--rig")
    parser.add_argument(
        "--frames",
        type=whole_number(1, 10_000),
        metavar="N",
        help="frames that are counted for every network (default: as many as take 8 seconds, and at least 3)",
    )
    parser.add_argument(
        "--compared",
        type=whole_number(0, 100),
        metavar="N",
        help="frames on which a network is compared with its float32 reference; 0: none "
        f"(default: {DEFAULTS['compared']})",
    )
    parser.add_argument(
        "--sweep", action="store_true", help="measure variants of one network: voxels, cameras, image size, history"
    )
    parser.add_argument(
        "--against",
        metavar="COMMAND",
        help="time this program and one network of ours by turns; it is told by lines what to do (docs/bench.md)",
    )
    parser.add_argument("--serve", action="store_true", help="be such a program: for --against of another checkout")
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
        metavar="HZ",
        help=f"with --live: sets of images a second (default: {DEFAULTS['rate']:g})",
    )
    parser.add_argument(
        "--at-once",
        action="store_true",
        help="with --live: all cameras of a set send at one instant, as triggered ones do (default: as in the bag)",
    )
    options.add(parser, "--instances", "--device")
    options.add(
        parser,
        "--precision",
        nargs="+",
        default=None,
        help="number formats of the network, each measured (default: fp32; bf16 too on CUDA, and of "
        "small networks where a CPU has it)",
    )
    options.add(parser, "--threads", nargs="+", help="CPU threads, each number measured (default: torch's choice)")
    parser.add_argument(
        "--executor",
        nargs="+",
        choices=tuple(EXECUTORS),
        help="what takes the steps, each measured: the network operator by operator, or CUDA graphs (default: eager)",
    )
    options.add(parser, "--json")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw the stages beside their floors")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc bench`; returns the exit status, errors are said on stderr."""
    return status_of("bench", lambda: _bench(arguments))


def _bench(arguments: argparse.Namespace) -> None:
    # All of it before a street is rendered for a minute.
    _check_together(arguments)
    for name, value in DEFAULTS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    _check_output(arguments.json, "json")
    _check_output(arguments.picture, "picture")
    if arguments.picture is not None:
        charts.check_name(arguments.picture)
    if arguments.live is not None:
        live(arguments)
    elif arguments.output_costs is not None:
        _output_costs_alone(arguments)
    elif arguments.sweep:
        sweep(arguments)
    elif arguments.against is not None:
        against(arguments)
    elif arguments.serve:
        serve_lines(arguments)
    else:
        _bench_networks(arguments)


def _check_together(arguments: argparse.Namespace) -> None:
    chosen = [name for name in WITHOUT if _is_given(arguments, name)]
    if len(chosen) > 1:
        one, other = (name.replace("_", "-") for name in chosen[:2])
        raise SettingsError(f"it is measured without --{other}: give either", one)
    for name in chosen:
        given = [option for option in WITHOUT[name] if _is_given(arguments, option)]
        if given:
            raise SettingsError(f"it does nothing with --{name.replace('_', '-')}: leave it out", *given)
    given = [option for option in OF_LIVE if _is_given(arguments, option)]
    if given and arguments.live is None:
        raise SettingsError("it does nothing without --live: leave it out", *given)


def _is_given(arguments: argparse.Namespace, option: str) -> bool:
    return getattr(arguments, option) is not None and getattr(arguments, option) is not False  # 0 is given


def _bench_networks(arguments: argparse.Namespace) -> None:
    chosen = choices(arguments)
    if is_exported(arguments.checkpoint):
        served = f"panoocc bench --serve --model {chosen[0].config.name} --checkpoint {arguments.checkpoint}"
        raise SettingsError(f"an exported step has no stages: time it by --against '{served}'", "checkpoint")
    streets = [] if arguments.bag else [street_rig(one.config, one.rig) for one in chosen]
    effort = Effort(frames=arguments.frames, compared=arguments.compared)
    with TemporaryDirectory() as folder:
        paths = {
            name: street_bag(Path(folder) / f"{index}.mcap", name, STREET_FRAMES)
            for index, name in enumerate(dict.fromkeys([*streets, *([trained_street()] if streets else [])]))
        }
        bags = [paths[name] for name in streets] or [arguments.bag] * len(chosen)
        reports, failed = measure_networks(chosen, bags, effort)
        numbers: dict[str, Any] = numbers_of(reports, failed)
        if streets:
            numbers |= measure_outputs(paths[trained_street()], STREET_FRAMES, arguments.device)
            numbers["images"] = [report.as_dict() for report in measure_images(paths[trained_street()])]
    if streets:
        numbers["rendering"] = measure_rendering(streets[0]).as_dict()
    if arguments.json is not None:
        write_json(arguments.json, numbers)
        print(f"written: {arguments.json}")
    draw(arguments.picture, reports)
    if failed:
        raise Ended("; ".join(f"{label}: {text}" for label, text in failed.items()), NETWORK_FAILED)


def _check_output(path: Path | None, option: str) -> None:
    """Raises SettingsError or OSError for what would fail only after a minute."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise SettingsError(f"{path} is a folder: give the path of a file", option)


def _output_costs_alone(arguments: argparse.Namespace) -> None:
    chosen_device(arguments.device)
    _check_output(arguments.output_costs, "output_costs")
    with TemporaryDirectory() as folder:
        street = arguments.bag or street_bag(Path(folder) / "street.mcap", trained_street(), STREET_FRAMES)
        numbers = measure_outputs(street, arguments.frames or STREET_FRAMES, arguments.device)
    write_json(arguments.output_costs, numbers)
    print(f"written: {arguments.output_costs}")
