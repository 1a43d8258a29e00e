"""`panoocc soak`: the command line around `live_bench.endurance`."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from panoocc_core.base.whole_files import write_json
from panoocc_core.pictures import charts

from ...demo.processes import ProcessError
from ...health.latency import WINDOW
from ...live_bench.endurance import MAX_GROWTH_MB_H, draw_soak, soak, soak_table
from ...live_bench.run import Load, shipped_profile
from ...live_bench.states import STATES, measure_states, states_table
from ...node.choices import chosen_device
from ...ros.argument_types import number
from ...ros.exit_codes import BAD_INPUT, FAILED, NOT_WRITTEN, explained
from ...ros.parameter_fields import SettingsError
from ..shared import options
from ..shared.failures import Ended, status_of
from ..shared.streets import live_load

DESCRIPTION = """\
Runs the node as a process of its own for many minutes under cameras that a second process plays, and says whether its
memory grows once it is warm (the slope, and how sure it is), whether grids keep coming, and how late they are.
"""
EPILOG = f"""\
Without --bag two sets of a simulated street in full size are sent by turns, without --model to a tiny network.  Exit
status {FAILED} where memory certainly grows faster than --max-growth, or grids stop coming.

examples:
  panoocc soak --minutes 10 --picture soak.png
  panoocc soak --minutes 600 --model nano --rate 4 --json soak.json
  panoocc soak --states --minutes 2 --model nano
  panoocc soak --bag drive.mcap --rig my_rig.yaml --model my_network.yaml

{explained(FAILED, BAD_INPUT, NOT_WRITTEN)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc soak`."""
    parser.add_argument(
        "--minutes", type=number(0.2, 1e5), default=10.0, metavar="N", help="how long (default: %(default)g)"
    )
    parser.add_argument(
        "--states",
        action="store_true",
        help="memory and CPU in every state of the node's lifecycle instead; the minutes are shared by the states",
    )
    parser.add_argument(
        "--warm-up",
        type=number(0, 1e6),
        metavar="SECONDS",
        help="after the first grid, whose memory does not count (default: for 1,100 sets, whose times the node keeps; "
        "at most half the time)",
    )
    parser.add_argument(
        "--max-growth",
        type=number(0, 1e6),
        default=MAX_GROWTH_MB_H,
        metavar="MB",
        help="an hour, which a sure slope must not exceed (default: %(default)g)",
    )
    parser.add_argument(
        "--rate",
        type=number(0.1, 100),
        default=2.0,
        metavar="HZ",
        help="sets of images a second (default: %(default)g)",
    )
    parser.add_argument("--bag", type=Path, help="bag whose images are sent (default: a simulated street)")
    options.add(parser, "--model", default=None, help="preset or YAML file (default: a tiny network)")
    options.add(parser, "--rig", "--instances", "--device", "--precision", "--threads", "--json", "--no-progress")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw memory, latency and lost sets")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc soak`; returns the exit status, errors are said on stderr."""
    return status_of("soak", lambda: _soak(arguments))


def _soak(arguments: argparse.Namespace) -> None:
    chosen_device(arguments.device)
    for path in (arguments.json, arguments.picture):
        if path is not None and not path.resolve().parent.is_dir():
            raise SettingsError(f"{path}: the folder is not there", "json" if path is arguments.json else "picture")
    if arguments.picture is not None:
        charts.check_name(arguments.picture)
    if arguments.states and (arguments.picture is not None or arguments.warm_up is not None):
        raise SettingsError("is of a soak and does not go with --states: leave it out", "picture or warm_up")
    seconds = 60 * arguments.minutes
    warm_up_s = min(seconds / 2, 1.1 * WINDOW / arguments.rate) if arguments.warm_up is None else arguments.warm_up
    if warm_up_s > seconds - 5:
        raise SettingsError(f"{warm_up_s:g} s leave nothing of {seconds:g} s: take less, or run longer", "warm_up")
    with TemporaryDirectory(prefix="panoocc_soak_") as name:
        out = Path(name)
        config, load = live_load(arguments, arguments.model, arguments.instances, seconds, out)
        quiet = True if arguments.no_progress else None
        if arguments.states:
            _states(arguments, config.name, load, out)
            return
        try:
            with tqdm(total=round(seconds), unit="s", desc=f"soaking {config.name}", disable=quiet) as bar:
                report = soak(load, out, shipped_profile(), warm_up_s, arguments.max_growth, bar.update)
        except ProcessError as error:
            raise Ended(str(error), FAILED) from error
    print(f"{config.name}: {arguments.minutes:g} minutes at {load.rate_hz:g} Hz\n{soak_table(report)}", flush=True)
    if arguments.json is not None:
        write_json(arguments.json, {"model": config.name, **report.as_dict()})
    if arguments.picture is not None:
        draw_soak(report, arguments.picture)
    if report.faults:
        raise Ended("; ".join(report.faults), FAILED)


def _states(arguments: argparse.Namespace, name: str, load: Load, out: Path) -> None:
    try:
        rows = measure_states(load, out, shipped_profile(), load.seconds / STATES)
    except ProcessError as error:
        raise Ended(str(error), FAILED) from error
    print(f"{name}, {load.rate_hz:g} sets of images a second\n{states_table(rows)}", flush=True)
    if arguments.json is not None:
        write_json(arguments.json, {"model": name, "rate_hz": load.rate_hz, "states": [row.as_dict() for row in rows]})
