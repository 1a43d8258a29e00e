"""A step is a function of tensors alone: no wait for a device in it, and portable operators are what the others are."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from panoocc_core import NonFiniteError, OccupancyStream, load_model
from panoocc_core.memory import VoxelMemory
from panoocc_core.ops.deform_aggregate import deform_aggregate
from panoocc_core.ops.deform_attn import deform_attn
from panoocc_core.ops.reference_mode import portable_operators, reference_operators
from panoocc_core.ops.voxel_classes import ClassRule, voxel_classes
from panoocc_core.ops.voxel_warp import voxel_warp
from panoocc_core.step import Wanted
from panoocc_core.stream import collect, prepare

from .conftest import street_frame


def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    """Numbers between two, the same at every call of one shape."""
    random = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, generator=random) * (high - low) + low


def portable_and_reference(operator, *arguments, slots=None):
    with portable_operators(slots):
        found = operator(*arguments)
    with reference_operators():
        return found, operator(*arguments)


def ringed(sources: int, shapes, heads: int, channels: int) -> torch.Tensor:
    """Value maps with rings of zeros: [source, cell, head, channel]."""
    maps = [draw(sources, rows, columns, heads, channels) for rows, columns in shapes]
    return torch.cat([torch.nn.functional.pad(one, (0, 0, 0, 0, 1, 1, 1, 1)).flatten(1, 2) for one in maps], dim=1)


@pytest.mark.parametrize("slots", [None, 5, 2])
def test_portable_attention_is_the_reference(slots):
    """Odd maps, points far outside, queries that no source sees; of six slots at most two exist."""
    shapes, heads, points, queries = ((7, 5), (3, 2)), 2, 3, 41
    source = torch.full((queries, 6), -1, dtype=torch.int32)
    for query in range(1, queries):
        for slot in {query % 6, (query * 2 + 1) % 6}:
            source[query, slot] = slot
    arguments = (
        ringed(6, shapes, heads, 4),
        shapes,
        draw(queries, 6, 2, low=-0.2, high=1.2),
        draw(queries, heads, 2, points, 2, low=-9, high=9),
        draw(queries, heads, 2, points, low=0),
        source,
    )
    found, wanted = portable_and_reference(deform_attn, *arguments, slots=slots)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert wanted[0].abs().max() == 0 and wanted[1:].abs().max() > 0.1


def test_portable_attention_of_one_source_is_the_reference():
    shapes = ((4, 9),)
    arguments = (ringed(1, shapes, 2, 3), shapes, draw(11, 1, 2, low=0), draw(11, 2, 1, 4, 2, low=-5, high=5))
    found, wanted = portable_and_reference(deform_attn, *arguments, draw(11, 2, 1, 4, low=0))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_portable_warp_is_the_reference():
    """Turned, moved, and as it was; one of four slots is missing."""
    states = [draw(7 * 5 * 3, 4), draw(7 * 5 * 3, 4) * 2]
    motions = torch.stack((torch.eye(3, 4), torch.tensor([[0.9, -0.4, 0, 1.3], [0.4, 0.9, 0, -2.1], [0, 0, 1, 0.5]])))
    found, wanted = portable_and_reference(voxel_warp, states, motions, (7, 5, 3), draw(7 * 5 * 3, 4), 4)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert tuple(found.shape) == (7 * 5 * 3, 16) and torch.equal(found[:, :4], states[0])


def test_portable_aggregation_is_the_reference():
    offsets, weights = draw(2, 5, 7, 3, 9, 2, low=-3, high=3), draw(2, 5, 7, 3, 9, low=0)
    found, wanted = portable_and_reference(deform_aggregate, draw(2, 5, 7, 3, 4), offsets, weights)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("rule", "gated", "factors"),
    [
        (ClassRule(False, 0.4, 5), True, (1, 1, 1)),
        (ClassRule(True, 0.6, 6), False, (2, 1, 3)),
        (ClassRule(), False, (1, 1, 1)),
    ],
)
def test_portable_classes_are_the_reference(rule, gated, factors):
    mlp = [(draw(8, 4), draw(8)), (draw(6, 8), draw(6))]
    gate = draw(3, 4, 5, low=-3, high=3) if gated else None
    (classes, probability), wanted = portable_and_reference(
        voxel_classes, draw(3, 4, 5, 4, low=-4, high=4), mlp, gate, rule, factors
    )
    assert torch.equal(classes.to(torch.uint8), wanted[0]) and len(classes.unique()) > 2
    torch.testing.assert_close(probability, wanted[1], atol=1e-5, rtol=1e-4)


class Waits(TorchDispatchMode):
    """Counts the operators that look at values: on a device each is a wait."""

    names = ("nonzero", "_local_scalar_dense", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += [name for name in self.names if str(func).startswith(f"aten.{name}.")]
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def test_no_value_decides_a_shape_in_a_portable_step(nano_model):
    stream = OccupancyStream(nano_model)
    for i in range(3):
        stream.step(street_frame(i * 0.5, x_m=i))
    prepared = prepare(nano_model.config, nano_model.device, street_frame(1.5, x_m=3.0), stream.memory)
    assert len(prepared.inputs.states) == 2 and prepared.inputs.motions.shape == (2, 3, 4)
    plain = load_model("nano", seeded_weights=True, plain=True)
    with portable_operators(2), Waits() as waits:
        found = plain.step(prepared.inputs, Wanted())
    assert waits.found == []
    wanted = nano_model.step(prepared.inputs, Wanted())
    assert (found.class_id != wanted.class_id).float().mean() < 1e-3
    torch.testing.assert_close(found.state, wanted.state, atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_a_step_is_pure_and_its_parts_make_what_the_stream_makes(nano_model):
    frame, memory = street_frame(0.0), VoxelMemory()
    prepared = prepare(nano_model.config, nano_model.device, frame, memory)
    outputs = [nano_model.step(prepared.inputs, Wanted()) for _ in range(2)]
    assert torch.equal(outputs[0].class_id, outputs[1].class_id) and bool(outputs[0].is_finite)
    assert outputs[0].boxes is not None and outputs[0].logits is None
    occupancy, after = collect(prepared, outputs[0], Wanted())
    whole = OccupancyStream(nano_model).step(frame)
    assert torch.equal(occupancy.class_id, whole.class_id) and memory.states == () and len(after.states) == 1
    np.testing.assert_array_equal(occupancy.boxes.centre_m, whole.boxes.centre_m)
    alone = nano_model.step(prepared.inputs, Wanted(instances=False, logits=True))
    assert alone.boxes is None and tuple(alone.logits.shape[:3]) == nano_model.config.output_shape_xyz


@torch.inference_mode()
def test_what_is_not_finite_is_told_after_the_step(nano_model):
    prepared = prepare(nano_model.config, nano_model.device, street_frame(0.0), VoxelMemory())
    prepared.inputs.ego_motion[3] = torch.nan
    output = nano_model.step(prepared.inputs, Wanted())
    assert not bool(output.is_finite)
    with pytest.raises(NonFiniteError, match="class logits are not finite"):
        collect(prepared, output, Wanted())
