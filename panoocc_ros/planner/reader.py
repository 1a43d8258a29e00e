"""A planner's view of a panoocc/VoxelGrid; `include/panoocc/voxel_grid.hpp` is the same in C++."""

from collections.abc import Collection
from typing import Any

from panoocc_core.labels import LabelSet
from panoocc_core.planning import KnownSpace

from ..messages.voxel_grid import instances_from_message, voxels_from_message


def known_space(
    message: Any, labels: LabelSet, *, ignored: Collection[int] = (), trust_unseen: bool = False
) -> KnownSpace:
    """The grid of a panoocc/VoxelGrid, ready to be asked in the frame of its header.

    Args:
        labels: what its class ids mean (`messages.voxel_grid.labels_from_message`).
        ignored: ids of classes that are no obstacles, such as the ground (`planning.class_ids`).
        trust_unseen: as for `KnownSpace`.

    Raises:
        ValueError: it is no grid, names another label set, is larger than its message can mean, or a field does not fit
            it; the text names the field.
    """
    voxels = voxels_from_message(message, labels)
    return KnownSpace(
        voxels.class_id,
        voxels.geometry,
        labels,
        visible=voxels.visible,
        confidence=voxels.confidence,
        instance_id=instances_from_message(message),
        ignored=ignored,
        trust_unseen=trust_unseen,
    )
