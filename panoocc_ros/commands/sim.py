"""`panoocc sim`: a drive through a simulated street as a bag."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from panoocc_core.base.devices import usable_device
from panoocc_core.cameras.image_set import CALIBRATION
from panoocc_core.sim.drive_renderer import Drive, RenderSetup, truth_grid, truth_labels
from panoocc_core.sim.example_set import write_example_set

from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, FAILED, NETWORK_FAILED, NOT_WRITTEN, explained
from ..sim.bag import write_street_bag
from ..sim.faults import Faults, fault_table, parse_fault
from ..sim.setup import rig_for_grid
from .shared import options
from .shared.failures import status_of

DESCRIPTION = """\
Writes a rosbag2 (MCAP) of a drive through a simulated street: every camera of a rig as JPEG, each with its own shutter
time and its calibration, the vehicle's motion on /tf, /odom and /imu, and the mounts on /tf_static.  The truth goes
along on /truth/occupancy (classes, instances, and what the cameras can see) and /truth/boxes, with the stamps that a
network's grids will have.  The same arguments give the same street.
"""
EPILOG = f"""\
examples:
  panoocc sim --out street.mcap
  panoocc sim --out drive --seed 7 --seconds 20 --rate 10 --scale 0.18
  panoocc sim --images street --seed 7         # one set of images for `panoocc image street`
  panoocc sim --out faulty.mcap --fault "dead camera=cam_back from=4" --fault "drop share=0.1"

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED, more="Whenever it is not 0, nothing is left at --out.")}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc sim`."""
    place = parser.add_mutually_exclusive_group(required=True)
    options.add(place, "--out", required=False)
    place.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="one set of images instead of a bag, with its calibration, for `panoocc image`; only --seed, --rig, "
        "--scale, --supersample and --device matter then",
    )
    options.add(parser, "--overwrite")
    drive = parser.add_argument_group("drive")
    drive.add_argument(
        "--seed", type=whole_number(0, options.MAX_SEED), default=0, help="which street (default: %(default)s)"
    )
    drive.add_argument("--seconds", type=float, default=8.0, help="length of the drive (default: %(default)s)")
    drive.add_argument(
        "--rate", type=float, default=2.0, metavar="HZ", help="sets of images per second (default: %(default)s)"
    )
    cameras = parser.add_argument_group("cameras")
    options.add(
        cameras,
        "--rig",
        help="where the cameras sit: a name in config/sim_rigs, or a YAML file (default: the rig with the cameras of "
        "the network of --grid)",
    )
    cameras.add_argument(
        "--scale",
        type=float,
        default=0.25,
        help="size of the images, as a share of the rig's own, e.g. 1600x900 (default: %(default)s)",
    )
    cameras.add_argument(
        "--supersample",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="N x N rays per pixel: smoother edges, but N x N times slower (default: %(default)s)",
    )
    cameras.add_argument(
        "--lidar-rate",
        type=number(0.0, 20.0),
        default=0.0,
        metavar="HZ",
        help="clouds of a LiDAR of 32 beams per second, on /lidar/points, e.g. for `panoocc label` (default: none)",
    )
    truth = parser.add_argument_group("truth").add_mutually_exclusive_group()
    truth.add_argument(
        "--grid",
        metavar="MODEL",
        default="nano",
        help="network on whose grid the truth lies, to compare voxel by voxel: a preset or YAML file "
        "(default: %(default)s)",
    )
    truth.add_argument("--no-truth", action="store_true", help="sensors only")
    faults = parser.add_argument_group("faults")
    faults.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="FAULT",
        help='damage messages on purpose, e.g. "dead camera=cam_back from=4"; may be given several times',
    )
    faults.add_argument("--list-faults", action=_ListFaults, help="list the faults and what they take, and exit")
    rendering = parser.add_argument_group("rendering")
    options.add(
        rendering,
        "--device",
        default="cpu",
        help="device for rendering the images: cpu, cuda, cuda:N or auto; only cpu gives the same images on every "
        "machine (default: %(default)s)",
    )
    options.add(rendering, "--workers", "--no-progress")


class _ListFaults(argparse.Action):
    """Prints the table of faults and ends, whatever other arguments are missing."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"{fault_table()}\n\nTimes are seconds since the first message; NAME is that of the camera's topics.")
        parser.exit()


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc sim`; returns the exit status, errors are said on stderr."""
    return status_of("sim", lambda: _simulate(arguments), "fewer --workers need less", "the renderer")


def _simulate(arguments: argparse.Namespace) -> None:
    if arguments.images is not None:
        rig = rig_for_grid(arguments.rig, arguments.grid, arguments.scale)
        device = str(usable_device(arguments.device))
        write_example_set(arguments.images, rig, arguments.seed, arguments.supersample, device, arguments.overwrite)
        print(f"{arguments.images}: {len(rig)} images and {CALIBRATION}")
        return
    bar = tqdm(unit="set", desc="rendering", disable=True if arguments.no_progress else None)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    drive = Drive(arguments.seed, arguments.seconds, arguments.rate, arguments.supersample)
    grid = None if arguments.no_truth else truth_grid(arguments.grid)
    rig = rig_for_grid(arguments.rig, arguments.grid, arguments.scale)
    setup = RenderSetup(rig, grid, str(usable_device(arguments.device)), truth_labels(arguments.grid))
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
            labels=setup.labels,
            faults=faults,
            overwrite=arguments.overwrite,
            workers=arguments.workers,
            device=setup.device,
            progress=show,
            lidar_hz=arguments.lidar_rate,
        )
    print(f"{arguments.out}: {drive.sets} sets of images")
    for label, count in faults.injected.most_common():
        print(f"  {label}: {count} messages")
