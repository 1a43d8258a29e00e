"""`panoocc image`: one set of images to a picture, and a grid."""

import argparse
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from panoocc_core import Frame, ModelConfig, Occupancy, OccupancyStream, overlay, picture, read_frame
from panoocc_core.cameras.image_set import CALIBRATION
from panoocc_core.cameras.lens import LensUse
from panoocc_core.data.grid_file import is_grid_file, save_grid
from panoocc_core.pictures.figures import is_marked, save_marked

from ..frames.plausibility import geometry_warnings
from ..node.choices import chosen_config
from ..ros.exit_codes import BAD_INPUT, NETWORK_FAILED, NOT_WRITTEN, explained
from .shared import options
from .shared.failures import status_of
from .shared.network import executor_of, tell_weights, weights_note
from .shared.results import check_results

DESCRIPTION = """\
Runs a network over one set of images: a file of each of its cameras, and their calibration.  The picture shows the
images and the voxels.  The set has no history, so that networks which use one see less than on a drive.
"""
EPILOG = f"""\
examples:
  panoocc sim --images street && panoocc image street --out picture.png
  panoocc image street --out picture.png --overlay overlay.png --grid grid.npz
  panoocc image CAM_FRONT=a.jpg CAM_FRONT_LEFT=b.jpg CAM_FRONT_RIGHT=c.jpg CAM_BACK=d.jpg CAM_BACK_LEFT=e.jpg \\
      CAM_BACK_RIGHT=f.jpg --calibration my_calibration.yaml --model pano_small_occ3d --checkpoint PanoOcc_small.pth \\
      --out picture.png

The calibration has mount and intrinsics of every camera (config/calibration_example.yaml); docs/image.md says more.

{explained(BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc image`."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="FOLDER | CAMERA=FILE",
        help="folder whose JPEG, PNG or TIFF files bear the cameras' names, or every camera's file by itself",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help=f"YAML file with mount and intrinsics of every camera (default: FOLDER/{CALIBRATION})",
    )
    parser.add_argument(
        "--lens",
        choices=get_args(LensUse),
        default="undistort",
        help="lens distortion: undistort images, which cuts off what lies beyond a flat picture (default), or leave "
        "them and project the voxels through the lens",
    )
    network = parser.add_argument_group("network")
    options.add(network, "--model", default="nano")
    options.add(network.add_mutually_exclusive_group(), "--checkpoint", "--seeded-weights")
    options.add(network, "--instances", "--device", "--precision", "--threads")
    output = parser.add_argument_group("output")
    options.add(output, "--out", metavar="FILE.png", help="images, and voxels from above and from behind")
    output.add_argument(
        "--overlay", type=Path, metavar="FILE.png", help="voxels on the images: is the calibration right?"
    )
    output.add_argument("--grid", type=Path, metavar="FILE.npz", help="the voxels as arrays for NumPy")
    options.add(output, "--overwrite", help="replace what panoocc wrote under these names")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc image`; returns the exit status."""
    return status_of("image", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    config = chosen_config(arguments.model, instances=arguments.instances)
    frame = _frame(arguments, config)
    _check_outputs(arguments)  # before the weights are loaded, which may take a minute
    for warning in geometry_warnings(frame, config, {}):
        print(f"panoocc image: WARNING, geometry: {warning}", file=sys.stderr)
    occupancy = OccupancyStream(executor_of(arguments, config)).step(frame)
    note = weights_note(arguments.checkpoint, arguments.seeded_weights)
    tell_weights("image", arguments.checkpoint, arguments.seeded_weights)
    save_marked(arguments.out, picture(frame, occupancy, f"PanoOcc {config.name}", note))
    if arguments.overlay is not None:
        save_marked(arguments.overlay, overlay(frame, occupancy))
    if arguments.grid is not None:
        save_grid(arguments.grid, occupancy)
    print(_summary(occupancy))
    written = [path for path in (arguments.out, arguments.overlay, arguments.grid) if path is not None]
    print(f"written: {', '.join(str(path).encode(errors='backslashreplace').decode() for path in written)}")


def _frame(arguments: argparse.Namespace, config: ModelConfig) -> Frame:
    given, calibration = arguments.images, arguments.calibration
    if len(given) == 1 and "=" not in given[0]:
        return read_frame(calibration or Path(given[0]) / CALIBRATION, given[0], config.cameras, lens=arguments.lens)
    files: dict[str, str] = {}
    for word in given:
        name, equals, file = word.partition("=")
        if not equals or not file:
            raise ValueError(f"{word!r}: give one folder, or CAMERA=FILE for each of {', '.join(config.cameras)}")
        if name not in config.cameras:
            raise ValueError(f"{word!r}: {config.name} takes the cameras {', '.join(config.cameras)}")
        if name in files:
            raise ValueError(f"camera {name} is given twice: {files[name]} and {file}")
        files[name] = file
    if calibration is None:
        raise ValueError("--calibration is missing: a YAML file with mount and intrinsics of every camera")
    return read_frame(calibration, files, config.cameras, lens=arguments.lens)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raises Ended or ValueError where a result has no place."""
    wanted = {"--out": arguments.out, "--overlay": arguments.overlay, "--grid": arguments.grid}
    given = {option: path for option, path in wanted.items() if path is not None}
    endings = {option: (".npz" if option == "--grid" else ".png",) for option in given}
    check_results(given, endings, arguments.overwrite, _why_foreign)


def _why_foreign(path: Path) -> str | None:
    is_ours = is_grid_file if path.suffix.lower() == ".npz" else is_marked
    return None if is_ours(path) else "panoocc did not write it"


def _summary(occupancy: Occupancy) -> str:
    """The classes that were found, the commonest first, and the things."""
    labels = occupancy.labels
    counts = np.bincount(occupancy.class_id.cpu().numpy().ravel(), minlength=len(labels.names))
    found = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i] and i != labels.free_id]
    voxels = ", ".join(f"{counts[i]} {labels.names[i]}" for i in found) or "none but free ones"
    things = "" if occupancy.boxes is None else f"\nthings: {len(occupancy.boxes)}"
    return f"voxels: {voxels}{things}"
