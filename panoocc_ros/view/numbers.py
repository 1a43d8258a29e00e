"""The things of recorded grids: their voxels by number, boxes around them, and which numbers last."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoocc_core.geometry import NS_PER_S
from panoocc_core.labels import BOX_CLASSES, LabelSet
from panoocc_core.panoptic.components import boxes_around
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.types import ScoredBoxes

from ..messages.fields import stamp_ns
from ..messages.voxel_grid import instances_from_message, voxels_from_message

MIN_FOLLOWED_S = 2.0  # what is known for less has no number in a picture


def numbered_voxels(grid: Any, labels: LabelSet) -> VoxelVolume:
    """The voxels of a VoxelGrid with the numbers of their things, if it has any.

    Raises:
        ValueError: a field of the grid does not fit; the message names it.
    """
    return replace(voxels_from_message(grid, labels), instance_id=instances_from_message(grid))


def followed_numbers(grids: Iterable[Any]) -> list[int]:
    """Numbers of the things that VoxelGrids know for at least MIN_FOLLOWED_S, the longest known first."""
    first_ns: dict[int, int] = {}
    last_ns: dict[int, int] = {}
    for grid in grids:
        stamp = stamp_ns(grid.header.stamp)
        for number in np.unique(np.asarray(grid.instance_id, np.int64)).tolist():
            first_ns.setdefault(number, stamp)
            last_ns[number] = stamp
    known_ns = {number: last_ns[number] - first_ns[number] for number in first_ns if number}
    longest_first = sorted(known_ns, key=lambda number: -known_ns[number])
    return [number for number in longest_first if known_ns[number] >= MIN_FOLLOWED_S * NS_PER_S]


def boxes_of(voxels: VoxelVolume, numbers: Sequence[int] | None = None) -> ScoredBoxes | None:
    """Boxes around the voxels of some numbers (None: of all); None where no voxel has one."""
    if voxels.instance_id is None:
        return None
    wanted = voxels.instance_id > 0
    if numbers is not None:
        wanted &= np.isin(voxels.instance_id, np.array(numbers, np.int32))
    indices = np.argwhere(wanted)
    found, owner = np.unique(voxels.instance_id[wanted], return_inverse=True)
    confidence = np.full(len(indices), 255, np.uint8)
    class_id = voxels.class_id[wanted]
    boxes = boxes_around(indices, owner.astype(np.int32) + 1, class_id, confidence, voxels.geometry, voxels.labels)
    return replace(boxes, instance_id=found.astype(np.int32))


def numbers_of(boxes: ScoredBoxes) -> NDArray[np.int32]:
    """The boxes' numbers [n], 0 where they have none."""
    return np.zeros(len(boxes), np.int32) if boxes.instance_id is None else boxes.instance_id


def names_of(boxes: ScoredBoxes) -> list[str]:
    """What stands beside each box: its class, and its number if it has one."""
    kinds = [BOX_CLASSES[kind].replace("_", " ") for kind in boxes.class_id]
    return [f"{kind} {number}" if number else kind for kind, number in zip(kinds, numbers_of(boxes))]
