"""`panoocc rig check`: what is wrong with a rig, its cameras and its transforms."""

import argparse
import re
from pathlib import Path

from PIL import Image as Pillow

from panoocc_core import ModelConfig, read_frame
from panoocc_core.base.whole_files import write_json
from panoocc_core.cameras.image_set import CALIBRATION
from panoocc_core.pictures.figures import is_marked, save_marked
from panoocc_core.pictures.rig_view import rig_montage, rig_view
from panoocc_core.stream import output_geometry

from ...motion.motion_options import MotionOptions
from ...node.choices import chosen_calibration, chosen_config, chosen_rig, placed_by
from ...node.settings import NodeSettings
from ...ros.exit_codes import BAD_INPUT, FAILED, NOT_WRITTEN, RIG_AT_FAULT, explained
from ...survey.checked import checked, checked_frame, topics_of
from ...survey.findings import RigReport
from ..shared import options
from ..shared.failures import Ended, status_of
from ..shared.results import check_results
from .looking import add_source, looked_at

HELP = "measure and draw what the cameras of a rig send, and say what is wrong"
DESCRIPTION = """\
Looks at the cameras of a rig for some seconds: how often and how evenly their images come, how far from those of the
reference, encoding and size, CameraInfo, the chain of frames from the one that does not move to the camera's, and which
part of the network's grid each sees, alone and with others.  --pictures draws into the images what must fit them if
mounts and lenses are right: the ground (lines on z = 0, metres ahead and to the left), the grid's edges (blue), where
the vehicle drives (red) and the horizon (dashed).  What keeps the rig from working is a FAULT; then the end is 7.
"""
EPILOG = f"""\
examples:
  panoocc rig check --bag drive/ --rig my_rig.yaml --pictures look
  panoocc rig check --rig my_rig.yaml --seconds 5         # of the cameras that run now
  panoocc rig check --images street --pictures look       # one set of images and its calibration.yaml

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, RIG_AT_FAULT)}
"""
MONTAGE = "rig.png"
PICTURE_HW = (720, 1280)  # within which each camera's picture is drawn
_UNUSUAL = re.compile(r"[^\w.-]")  # in a file's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc rig check`."""
    options.add(parser, "--rig")
    options.add(
        parser, "--model", default="nano", help="preset or file whose cameras and grid count (default: %(default)s)"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="YAML file with mounts and intrinsics, in place of messages"
    )
    options.add_parameters(parser, NodeSettings, "lens")
    options.add_parameters(parser, MotionOptions, "pose_source", "odometry_topic")
    add_source(parser)
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help=f"one set of images in files, with --calibration or FOLDER/{CALIBRATION}: no times, no transforms",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help=f"ground and grid in every camera's image, and all in {MONTAGE}"
    )
    options.add(output, "--json")
    options.add(output, "--overwrite", help="replace what panoocc wrote under these names")


def run(arguments: argparse.Namespace) -> int:
    """Check a rig; returns the exit status."""
    return status_of("rig check", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    config = chosen_config(arguments.model)
    report, placed = _checked_images(arguments, config) if arguments.images else _checked_topics(arguments, config)
    written = _write_pictures(arguments, report, placed)
    if arguments.json:
        write_json(arguments.json, report.numbers)
        written.append(arguments.json)
    print(report.table())
    if written:
        print(f"written: {', '.join(str(path).encode(errors='backslashreplace').decode() for path in written)}")
    if report.faults:
        raise Ended(f"{len(report.faults)} of what was checked is not as it must be; see above", RIG_AT_FAULT)


def _checked_images(arguments: argparse.Namespace, config: ModelConfig) -> tuple[RigReport, ModelConfig]:
    if arguments.bag is not None:
        raise ValueError("give either --bag or --images")
    _check_results(arguments, config.cameras)
    file = arguments.calibration or arguments.images / CALIBRATION
    frame = read_frame(file, arguments.images, config.cameras, lens=arguments.lens or "undistort")
    return checked_frame(frame, config), config.placed(frame.ego_from_network)


def _checked_topics(arguments: argparse.Namespace, config: ModelConfig) -> tuple[RigReport, ModelConfig]:
    rig = chosen_rig(arguments.rig, config, lens=arguments.lens)
    _check_results(arguments, rig.names)
    calibration = chosen_calibration(arguments.calibration, rig)
    sources = MotionOptions(arguments.pose_source, arguments.odometry_topic)
    intake = looked_at(arguments, topics_of(rig, sources), lambda topic: topic == rig.tf_static_topic)
    return checked(intake, rig, config, calibration, sources), placed_by(calibration, config)


def _files(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Camera -> its picture's file."""
    return {name: folder / f"{_UNUSUAL.sub('_', name)}.png" for name in names}


def _check_results(arguments: argparse.Namespace, cameras: tuple[str, ...]) -> None:
    """Raises Ended or ValueError where a result has no place."""
    folder = arguments.pictures
    if folder is None:
        return
    if not folder.is_dir():
        why = "is a file, not a folder" if folder.exists() else f"there is no folder {folder.parent}"
        if folder.exists() or not folder.parent.is_dir():
            raise Ended(f"--pictures {folder}: {why}", NOT_WRITTEN)
        return
    files = {**_files(folder, cameras), MONTAGE: folder / MONTAGE}
    results = {f"--pictures ({name})": path for name, path in files.items()}
    check_results(results, dict.fromkeys(results, (".png",)), arguments.overwrite, _why_foreign)


def _why_foreign(path: Path) -> str | None:
    return None if is_marked(path) else "panoocc did not write it"


def _write_pictures(arguments: argparse.Namespace, report: RigReport, placed: ModelConfig) -> list[Path]:
    if not arguments.pictures:
        return []
    arguments.pictures.mkdir(exist_ok=True)
    geometry, names = output_geometry(placed), tuple(camera.name for camera in report.cameras)
    images = {camera.name: camera.image for camera in report.cameras if camera.image is not None}
    files = _files(arguments.pictures, names)
    notes = dict.fromkeys(report.faulty, "FAULT")
    for name, image in images.items():
        scale = min(1.0, *(most / side for most, side in zip(PICTURE_HW, image.size_hw)))
        size_hw = max(1, round(image.size_hw[0] * scale)), max(1, round(image.size_hw[1] * scale))
        save_marked(files[name], Pillow.fromarray(rig_view(image, geometry, size_hw, notes.get(name, ""))))
    montage = arguments.pictures / MONTAGE
    save_marked(montage, Pillow.fromarray(rig_montage(tuple(images.values()), geometry, names, notes)))
    return [montage, *(files[name] for name in images)]
