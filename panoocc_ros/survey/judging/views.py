"""Which part of a network's grid cameras see, each alone and together, and whether that can be true."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from panoocc_core.config import ModelConfig
from panoocc_core.stream import output_geometry
from panoocc_core.types import Frame
from panoocc_core.visibility.eyes import columns_in_view, eyes_of

from ...frames.directions import fitting_names, in_words, looks_deg, misfit_deg
from ...frames.plausibility import Oddity, oddities
from ..findings import RigReport

LEAST_OVERLAP = 0.001  # of the grid, that is told
MIXED_DEG = 60.0  # that all cameras together look nearer to where their names say when they are exchanged


def judge_views(report: RigReport, frame: Frame, config: ModelConfig) -> tuple[str, ...]:
    """Add what the cameras of a frame see of the grid, and what cannot be true of mounts and intrinsics.

    Returns:
        the cameras that seem to be exchanged with each other.
    """
    placed = config.placed(frame.ego_from_network)
    sees = _seen(frame, placed)
    cameras = {camera.name: camera for camera in report.cameras}
    for image, mask in zip(frame.cameras, sees):
        cameras[image.name].seen = float(mask.mean())
    count = sees.sum(axis=0)
    report.seen, report.seen_twice = float((count > 0).mean()), float((count > 1).mean())
    names = [camera.name for camera in frame.cameras]
    shares = {(a, b): float((sees[i] & sees[j]).mean()) for (i, a), (j, b) in combinations(enumerate(names), 2)}
    report.overlaps = {pair: share for pair, share in shares.items() if share >= LEAST_OVERLAP}
    odd = oddities(frame, config, {name: camera.turns for name, camera in cameras.items()})
    mixed_up = _mixed_up(frame)
    for one in odd or mixed_up:
        report.fault(one.text, *one.cameras)
    turned = [name for name, camera in cameras.items() if camera.turns]
    if turned and len(turned) < len(names):
        told = ", ".join(f"{name} {'upside down' if cameras[name].turns == 2 else 'on its side'}" for name in turned)
        report.note(
            f"mounted by TF: {told}. The network gets pictures that are turned upright: if up is not up in what "
            "--pictures draws, the rotation in TF is wrong"
        )
    return tuple(name for one in mixed_up for name in one.cameras)


def _seen(frame: Frame, config: ModelConfig) -> NDArray[np.bool_]:
    """Which voxels' middles lie in what the network is given of each image: [camera, X, Y, Z]."""
    geometry = output_geometry(config)
    columns = columns_in_view(eyes_of(frame, geometry, config.images), geometry.shape_xyz)
    sees = np.zeros((len(frame.cameras), *geometry.shape_xyz), np.bool_)
    layer = np.arange(geometry.shape_xyz[2])
    first, end = columns.layers.T[..., None]
    shown = (layer >= first) & (layer < end)
    for eye, through_lens in columns.shown.items():
        shown[columns.eye == eye] &= through_lens
    sees[columns.eye, columns.place[:, 0], columns.place[:, 1]] = shown
    return sees


def _mixed_up(frame: Frame) -> tuple[Oddity, ...]:
    """Whether names that are exchanged would fit the mounts much better."""
    looks = {camera.name: looks_deg(camera.ego_from_camera) for camera in frame.cameras}
    better = fitting_names(looks, list(looks))
    gained = sum(misfit_deg(name, looks[name]) - misfit_deg(name, looks[key]) for name, key in better.items())
    others = {name: key for name, key in better.items() if name != key}
    if gained <= MIXED_DEG:
        return ()
    told = ", ".join(f"{name} looks {in_words(looks[name] or 0.0)}" for name in others)
    text = (
        f"{', '.join(others)}: mixed up? By the mounts {told}. Exchange their topics in the rig file, or their "
        "transforms in TF"
    )
    return (Oddity(tuple(others), text),)
