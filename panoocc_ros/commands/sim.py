"""`panoocc sim`: the command line around `sim_bag`, light enough to be imported for every `panoocc --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXIT_OK, EXIT_BAD_INPUT, EXIT_NOT_WRITTEN = 0, 2, 4  # as in `panoocc run`

WORKER_KILLED = "a worker process was killed, e.g. for lack of memory"
DESCRIPTION = """\
Writes a rosbag2 (MCAP) of a drive through a simulated street: every camera of a rig as JPEG, each with its own shutter
time and its calibration, the vehicle's poses on /tf and the cameras' mounts on /tf_static.  The truth goes along on
/truth/occupancy, /truth/visible (what the cameras can see) and /truth/boxes, with the stamps that a network's grids
will have.  The same arguments give the same street.
"""
EPILOG = """\
examples:
  panoocc sim --out street.mcap
  panoocc sim --out drive --seed 7 --seconds 20 --rate 10 --scale 0.18
  panoocc sim --out faulty.mcap --fault "dead camera=cam_back from=4" --fault "drop share=0.1"

exit status: 0 the bag was written; 2 bad arguments; 4 the bag could not be written.  Whenever it is not 0, nothing is
left at --out.
"""


def add_command(subparsers: Any) -> None:
    """Register `panoocc sim`."""
    parser = subparsers.add_parser(
        "sim",
        help="write a bag of a drive through a simulated street",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="new bag: a name ending in .mcap is one file, else a folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --out where it exists")
    parser.add_argument("--seed", type=int, default=0, help="which street (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the drive (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2.0, help="sets of images per second (default: %(default)s)")
    parser.add_argument(
        "--rig", default="nuscenes", help="cameras: a name in config/sim_rigs, or a YAML file (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", type=float, default=0.25, help="image size, 1 is the rig's own, e.g. 1600x900 (default: %(default)s)"
    )
    parser.add_argument(
        "--supersample", type=int, default=1, metavar="N", help="N x N rays per pixel: smoother, slower (default: 1)"
    )
    grids = parser.add_mutually_exclusive_group()
    grids.add_argument(
        "--grid", metavar="MODEL", default="nano", help="the truth lies on this preset's grid (default: %(default)s)"
    )
    grids.add_argument("--no-truth", action="store_true", help="sensors only")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="WORDS", help="spoil messages; may be given again and again"
    )
    parser.add_argument("--list-faults", action=_ListFaults, help="say which faults there are, and end")
    parser.add_argument("--device", default="cpu", help="that renders: cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per processor)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


class _ListFaults(argparse.Action):
    """Prints the table of faults and ends, whatever other arguments are missing."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from ..sim.faults import fault_table

        print(f"{fault_table()}\n\nTimes are seconds since the first message; NAME is that of the camera's topics.")
        parser.exit()


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc sim`; returns the exit status, errors are said on stderr."""
    from concurrent.futures import BrokenExecutor

    from tqdm import tqdm

    from panoocc_core.sim import load_sim_rig
    from panoocc_core.sim.drive_renderer import Drive, RenderSetup, truth_grid

    from ..bags.bag import BagError
    from ..sim.bag import write_street_bag
    from ..sim.faults import Faults, parse_fault

    bar = tqdm(unit="set", desc="rendering", disable=True if arguments.no_progress else None)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        drive = Drive(arguments.seed, arguments.seconds, arguments.rate, arguments.supersample)
        grid = None if arguments.no_truth else truth_grid(arguments.grid)
        setup = RenderSetup(load_sim_rig(arguments.rig, arguments.scale), grid, arguments.device)
        faults = Faults([parse_fault(text) for text in arguments.fault], setup.names, drive.seed)
        with bar:
            write_street_bag(
                arguments.out,
                drive.seed,
                drive.seconds,
                drive.rate_hz,
                setup.rig,
                supersample=drive.supersample,
                grid=setup.grid,
                faults=faults,
                overwrite=arguments.overwrite,
                workers=arguments.workers,
                device=setup.device,
                progress=show,
            )
    except ValueError as error:
        print(f"panoocc sim: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BagError as error:
        print(f"panoocc sim: {error}", file=sys.stderr)
        return EXIT_NOT_WRITTEN
    except BrokenExecutor:
        print(f"panoocc sim: {WORKER_KILLED}; fewer --workers take less", file=sys.stderr)
        return EXIT_NOT_WRITTEN
    print(f"{arguments.out}: {drive.sets} sets of images")
    for label, count in faults.injected.most_common():
        print(f"  {label}: {count} messages")
    return EXIT_OK
