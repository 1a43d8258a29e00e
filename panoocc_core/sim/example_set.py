"""One instant of a simulated street as a set of images: a JPEG of every camera, and the calibration of all."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ..base.overwriting import why_taken
from ..base.whole_files import whole_file
from ..cameras.image_set import CALIBRATION, ENDINGS
from ..cameras.lens import distortion_of
from ..geometry import quaternion_from_rotation
from .camera import Rig, SimCamera
from .capture import capture
from .renderer import Renderer
from .scene import Scene

_MARK = "# Written by panoocc sim --images: a simulated street, all cameras at one instant.\n"
_TIME_S = 4.0  # since the street begins: there street 0 has something in every picture, and nothing fills one


class ExampleSetError(OSError):
    """A folder that is not overwritten; the message says why."""


def write_example_set(
    folder: Path, rig: Rig, seed: int, supersample: int = 1, device: str = "cpu", overwrite: bool = False
) -> None:
    """Write CAMERA.jpg of every camera and `calibration.yaml` into a folder, which is made.

    Args:
        supersample: rays per pixel along each side.
        overwrite: replace an earlier set in the folder, and nothing else.

    Raises:
        ExampleSetError: the folder has other files, or an earlier set and not `overwrite`.
        OSError: it cannot be written.
        ValueError: seed or supersample cannot be used.
    """
    names = {f"{camera.name}{ENDINGS[0]}" for camera in rig}
    is_empty = folder.exists() and not any(folder.iterdir())
    if not is_empty and (why := why_taken(folder, overwrite, lambda place: _why_foreign(place, names))):
        raise ExampleSetError(why)
    rig = tuple(replace(camera, shutter_offset_s=0.0) for camera in rig)
    renderer = Renderer(Scene(seed, _TIME_S + 1), supersample, device=device)
    jpegs = capture(renderer, rig, _TIME_S, None).jpegs
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"cameras": [_entry(camera) for camera in rig]}, sort_keys=False, default_flow_style=None)
    with whole_file(folder / CALIBRATION) as part:  # first: it says whose a set is that was not finished
        part.write_text(_MARK + text, encoding="utf-8")
    for camera, jpeg in zip(rig, jpegs):
        with whole_file(folder / f"{camera.name}{ENDINGS[0]}") as part:
            part.write_bytes(jpeg.tobytes())


def _why_foreign(folder: Path, names: set[str]) -> str | None:
    """Why what is in a folder is no earlier set."""
    mark = (folder / CALIBRATION).open("rb") if (folder / CALIBRATION).is_file() else io.BytesIO()
    with mark as file:
        is_ours = file.read(len(_MARK)) == _MARK.encode()
    foreign = sorted({path.name for path in folder.iterdir()} - names - {CALIBRATION})
    if is_ours and not foreign:
        return None
    return f"panoocc sim --images did not write what is there ({', '.join(foreign[:3]) or CALIBRATION})"


def _entry(camera: SimCamera) -> dict[str, Any]:
    """A camera in a calibration file."""
    pose, (model, distortion) = camera.ego_from_camera, distortion_of(camera.lens)
    return {
        "name": camera.name,
        "ego_from_camera": {
            "translation_m": [float(value) for value in pose[:3, 3]],
            "rotation_xyzw": [float(value) for value in quaternion_from_rotation(pose[:3, :3])],
        },
        "intrinsics": {
            "width": camera.width,
            "height": camera.height,
            "K": [float(value) for value in camera.intrinsics.ravel()],
            **({} if camera.lens is None else {"distortion_model": model, "D": [float(value) for value in distortion]}),
        },
    }
