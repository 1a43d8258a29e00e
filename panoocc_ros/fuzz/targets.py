"""What is fuzzed.  A new reader is a line here: its inputs, what reads them, and the errors that it documents."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from panoocc_core.base.image_files import ImageFileError
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.cameras.calibration_file import load_calibration
from panoocc_core.cameras.image_bytes import ImageError, check_pixels, picture_of
from panoocc_core.cameras.lens import CalibrationError, LensUse, calibration
from panoocc_core.config import model_config
from panoocc_core.data.errors import DataError
from panoocc_core.data.grid_file import load_grid
from panoocc_core.labels import OCC3D
from panoocc_core.panoptic import PointLabels
from panoocc_core.sim.rig_file import load_sim_rig
from panoocc_core.train.train_config import train_config
from panoocc_core.weights.tensor_files import CheckpointError, read_tensors

from ..bags.bag import BagError, BagReader, BrokenMessage, RawMessage
from ..frames.images import decode
from ..frames.rig import load_rig
from ..messages.clouds import CloudError, labelled, positions_m
from ..messages.types import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, LABEL_SET, POINT_CLOUD, VOXEL_GRID, new_message
from ..messages.voxel_grid import labels_from_message, voxels_from_message
from . import events, wholes
from .damage import Strategy, damaged, edited, message_edits, yaml_edits

MAX_PIXELS = 2**22  # of one image, so that many fit a run


@dataclass(frozen=True, slots=True)
class Target:
    """One reader under fuzz."""

    inputs: Strategy
    read: Callable[[Any], object]
    refuses: tuple[type[Exception], ...] = ()  # what it may raise; anything else is a fault
    share: float = 1.0  # of the inputs, against the others: dear readers get fewer


def targets(folder: Path) -> dict[str, Target]:
    """All readers by name; files are written to `folder`."""
    safetensors, pth = wholes.checkpoints()
    mcap, sqlite3 = wholes.bags(folder)
    return {
        "image": _of_message(IMAGE, partial(decode, max_pixels=MAX_PIXELS), ImageError),
        "compressed_image": _of_message(COMPRESSED_IMAGE, partial(decode, max_pixels=MAX_PIXELS), ImageError),
        "camera_info": _of_message(CAMERA_INFO, _calibrations, CalibrationError),
        "point_cloud": _of_message(POINT_CLOUD, _labelled, CloudError),
        "voxel_grid": _of_message(VOXEL_GRID, partial(voxels_from_message, labels=OCC3D), ValueError),
        "label_set": _of_message(LABEL_SET, labels_from_message, ValueError),
        "picture": Target(damaged(wholes.pictures()), _pixels, (ImageError, ImageFileError), 2),
        "cdr": Target(_damaged_cdr(), _deserialise(folder), (BrokenMessage,), 2),
        "transforms": Target(events.transform_events(), events.drive_buffer, share=1.5),
        "synchroniser": Target(events.image_events(), events.drive_synchroniser, share=1.5),
        "assembler": Target(events.assembler_events(), events.drive_assembler, share=0.4),
        "rig": _of_yaml("rigs", lambda path: load_rig(str(path)), folder),
        "preset": _of_yaml("models", model_config, folder),
        "recipe": _of_yaml("train", train_config, folder),
        "sim_rig": _of_yaml("sim_rigs", load_sim_rig, folder),
        "calibration": _of_yaml("calibration", load_calibration, folder),
        "safetensors": _of_file(safetensors, folder / "a.safetensors", read_tensors, CheckpointError),
        "pth": _of_file(pth, folder / "a.pth", read_tensors, CheckpointError, 0.3),
        "grid_file": _of_file(wholes.grid_file(folder), folder / "a.npz", load_grid, DataError, 0.2),
        "mcap": _of_file(mcap, folder / "a.mcap", _all_messages, BagError, 0.03),
        "sqlite3": _of_file(sqlite3, folder / "a.db3", _all_messages, BagError, 0.03),
    }


def _of_message(kind: str, read: Callable[[Any], object], error: type[Exception]) -> Target:
    """A decoder of messages: the input is which whole one, and what was changed in it."""
    whole = wholes.messages()[kind]
    choices = [st.tuples(st.just(i), message_edits(one, kind)) for i, one in enumerate(whole)]
    return Target(st.one_of(choices), lambda drawn: read(edited(whole[drawn[0]], drawn[1])), (error,), 2)


def _of_yaml(where: str, read: Callable[[Path], object], folder: Path) -> Target:
    """A reader of YAML files: damaged text, or values changed, as text again."""
    texts, path = wholes.yaml_files(where), folder / f"{where}.yaml"
    contents = [yaml.safe_load(text) for text in texts]
    changed = [yaml_edits(one).map(partial(_as_yaml, one)) for one in contents]
    inputs = st.one_of(damaged([text.encode() for text in texts]), *changed)
    return Target(inputs, _from_file(path, read), (ConfigError,), 0.06)


def _as_yaml(whole: Any, changes: Any) -> bytes:
    return yaml.safe_dump(edited(whole, changes), sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def _of_file(
    whole: bytes, path: Path, read: Callable[[Path], object], error: type[Exception], share: float = 1.0
) -> Target:
    return Target(damaged([whole]), _from_file(path, read), (error,), share)


def _from_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def written_and_read(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return written_and_read


def _pixels(data: bytes) -> object:
    return picture_of(data, partial(check_pixels, max_pixels=MAX_PIXELS))


def _calibrations(info: Any) -> None:
    """As a raw image's, undistorted and with its lens, and as a rectified one's."""
    cases: tuple[tuple[bool, LensUse], ...] = ((False, "undistort"), (False, "project"), (True, "undistort"))
    for is_rectified, use in cases:
        calibrated = calibration(info, is_rectified, use=use)
        if calibrated.size_hw is not None and calibrated.size_hw[0] * calibrated.size_hw[1] <= MAX_PIXELS:
            calibrated.rectify(np.zeros((*calibrated.size_hw, 3), np.uint8))


def _labelled(message: Any) -> None:
    count = len(positions_m(message))
    labels = PointLabels(np.zeros(count, np.uint8), np.zeros(count, np.uint16), np.zeros(count, np.uint8))
    labelled(message, labels, OCC3D, new_message)


def _damaged_cdr() -> Strategy:
    whole = wholes.cdr([*wholes.messages()])
    return st.one_of([st.tuples(st.just(kind), damaged([data])) for kind, data in whole])


def _deserialise(folder: Path) -> Callable[[tuple[str, bytes]], object]:
    """What bags and the offline node make of the bytes of a message."""
    reader = BagReader(folder / "whole.mcap")
    return lambda drawn: reader.deserialise(RawMessage("/topic", drawn[0], 0, drawn[1]))


def _all_messages(path: Path) -> None:
    with BagReader(path) as bag:
        _ = bag.start_ns, bag.end_ns, bag.message_count, bag.topics
        for message in bag.messages():
            try:
                bag.deserialise(message)
            except BrokenMessage:
                continue
