"""`panoocc sim`: the command line around `sim_bag`, light enough to be imported for every `panoocc --help`."""

import argparse
import sys
from pathlib import Path
from typing import Any

EXIT_OK, EXIT_BAD_INPUT, EXIT_NOT_WRITTEN = 0, 2, 4  # as in `panoocc run`

DESCRIPTION = """\
Writes a rosbag2 (MCAP) of a drive through a simulated street: six cameras as JPEG, each with its own shutter time and
its calibration, the vehicle's poses on /tf and the cameras' mounts on /tf_static.  The same arguments give the same
street.
"""
EPILOG = """\
examples:
  panoocc sim --out street.mcap
  panoocc sim --out drive --seed 7 --seconds 20 --rate 10 --scale 0.18

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
    parser.add_argument("--scale", type=float, default=0.25, help="image size, 1 is 1600x900 (default: %(default)s)")
    parser.add_argument(
        "--supersample", type=int, default=1, metavar="N", help="N x N rays per pixel: smoother, slower (default: 1)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per processor)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc sim`; returns the exit status, errors are said on stderr."""
    from tqdm import tqdm

    from panoocc_core.sim import nuscenes_rig

    from .bag import BagError
    from .sim_bag import Drive, write_street_bag

    bar = tqdm(unit="set", desc="rendering", disable=True if arguments.no_progress else None)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        drive = Drive(arguments.seed, arguments.seconds, arguments.rate, arguments.supersample)
        with bar:
            write_street_bag(
                arguments.out,
                drive.seed,
                drive.seconds,
                drive.rate_hz,
                nuscenes_rig(arguments.scale),
                supersample=drive.supersample,
                overwrite=arguments.overwrite,
                workers=arguments.workers,
                progress=show,
            )
    except ValueError as error:
        print(f"panoocc sim: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BagError as error:
        print(f"panoocc sim: {error}", file=sys.stderr)
        return EXIT_NOT_WRITTEN
    print(f"{arguments.out}: {drive.sets} sets of images")
    return EXIT_OK
