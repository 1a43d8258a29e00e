"""What outputs cost: sizes that are promised, what is counted, and that every call begins afresh."""

from dataclasses import replace

import numpy as np
import pytest

from panoocc_ros.messages.types import VOXEL_GRID, new_message, typestore
from panoocc_ros.messages.voxel_grid import fill_voxel_grid, occupancy_from_message
from panoocc_ros.outputs.catalogue import OCCUPANCY, OUTPUTS
from panoocc_ros.outputs.costs import (
    OCCUPIED_SHARE,
    PUBLISHED_XYZ,
    REPEATS,
    cost_at_rates,
    cost_together,
    grid_of_share,
    output_costs,
    published_grid_costs,
    serialised,
)
from panoocc_ros.outputs.output import Output, Result
from panoocc_ros.outputs.output_options import OutputOptions

SMALL = grid_of_share((20, 20, 4), 0.1)


def result(occupancy=SMALL, **options):
    return Result(occupancy, None, 0, "base_link", (), OutputOptions(**options))


def test_a_grid_of_the_published_networks_is_as_small_as_promised():
    """200x200x16 at exactly 5 % occupancy, with instances and confidence: 245 kB, with what is visible 320 kB."""
    occupancy = grid_of_share(PUBLISHED_XYZ, OCCUPIED_SHARE)
    assert (PUBLISHED_XYZ, OCCUPIED_SHARE) == ((200, 200, 16), 0.05)
    message = fill_voxel_grid(new_message(VOXEL_GRID), occupancy, 0)
    listed = len(message.class_id), len(message.instance_id), len(message.confidence)
    assert listed == (32_000, 32_000, 32_000) and np.unpackbits(message.occupied).sum() == 32_000
    costs = published_grid_costs()
    assert costs["with visible"].bytes == len(serialised(message, VOXEL_GRID)) < 320_000
    assert costs["without visible"].bytes == costs["with visible"].bytes - 80_000 < 245_000
    again = typestore().deserialize_cdr(serialised(message, VOXEL_GRID), VOXEL_GRID)
    read = occupancy_from_message(again, occupancy.labels)
    assert read.visible.equal(occupancy.visible) and read.class_id.equal(occupancy.class_id)


def test_every_call_begins_afresh_and_what_does_not_apply_is_left_out():
    seen = []

    def make(one, _):
        seen.append("voxels" in one.__dict__)  # found for a call before
        return bytes(10 * len(one.voxels.indices))

    own = Output("own", "panoocc/msg/VoxelGrid", make)
    boxes = replace(own, topic="boxes", needs=frozenset({"boxes"}))
    costs = output_costs([result(), result()], (own, boxes))
    assert list(costs) == ["own"] and costs["own"].bytes == 10 * 160
    assert len(seen) == 2 * (1 + REPEATS) and not any(seen)
    assert cost_together([result()], (own, own, boxes)).bytes == 2 * 10 * 160
    assert seen[-2:] == [False, True]  # outputs of one frame share


def test_an_output_counts_as_often_as_its_rate_allows():
    grids, points = (output for output in OUTPUTS if output.topic in ("occupancy", "points"))
    rates = result(occupancy_max_rate_hz=2.5, points_max_rate_hz=0.0)
    costs = output_costs([rates], (grids, points))
    mixed = cost_at_rates([rates], (grids, points), 10.0)
    assert mixed.bytes == round(costs["occupancy"].bytes / 4 + costs["points"].bytes)
    assert cost_at_rates([rates], (grids, points), 1.0).bytes == costs["occupancy"].bytes + costs["points"].bytes


def test_without_a_frame_there_is_nothing_to_measure():
    for measure in (output_costs, cost_together):
        with pytest.raises(ValueError, match="no frame"):
            measure([], (OCCUPANCY,))
