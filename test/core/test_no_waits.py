"""A step gives a device its work without asking for a value of it, proven where there is none.

Everything lies on torch's device `meta`, whose tensors have shapes and no values: whatever needs a value (`item`, `if`
on a tensor, `nonzero`, masks) raises there.  Each operation is looked at too: one with a tensor of the host
is a number that would be copied to the device in the middle of a step.  The two operators whose shapes follow from
values on a CPU stand aside: on CUDA they are kernels.
"""

import traceback
from collections import Counter
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from panoocc_core import load_model, model_config
from panoocc_core.base.tensor_trees import mapped
from panoocc_core.memory import VoxelMemory
from panoocc_core.ops import deform_attn as attention
from panoocc_core.ops import voxel_classes as classes
from panoocc_core.step import Wanted
from panoocc_core.stream import prepare

from .conftest import street_frame

META = torch.device("meta")
NONE = Wanted(instances=False, visible=False)


class OnlyOnDevice(TorchDispatchMode):
    """Counts operations, and remembers those in which tensors of another device take part."""

    def __init__(self):
        super().__init__()
        self.operations, self.elsewhere = Counter(), []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.operations[str(function)] += 1
        tensors = (leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor))
        if any(tensor.device != META for tensor in tensors):
            ours = [line for line in traceback.extract_stack() if "panoocc_core" in line.filename][-1:]
            self.elsewhere.append((str(function), [f"{line.filename}:{line.lineno}" for line in ours]))
        return result


class Kernels:
    """Results of the right shape, and what the kernels were given."""

    def __init__(self):
        self.given: list[dict[str, torch.Tensor]] = []

    def deform_attn(self, values, shapes, reference_points, offsets, weights, source=None):
        self.given.append({"values": values, "reference_points": reference_points, "offsets": offsets})
        return values.new_empty(offsets.shape[0], values.shape[2] * values.shape[3])

    def voxel_classes(self, points, mlp, gate, rule, factors=(1, 1, 1)):
        shape = tuple(size * factor for size, factor in zip(points.shape, factors))
        return points.new_empty(shape, dtype=torch.uint8), points.new_empty(shape, dtype=torch.float32)


def small(name: str):
    """A preset with few voxels and pixels: shapes do not matter here, the order of operations does."""
    config = model_config(name)
    grid, images = replace(config.grid, rows=8, columns=8), replace(config.images, height=64, width=128)
    return replace(config, grid=grid, images=images)


def looked_at(config, wanted: Wanted, precision: str = "fp32") -> tuple[OnlyOnDevice, Kernels]:
    """The operations of a step with a full history, the second of its kind: the first fills caches."""
    inputs = prepare(config, torch.device("cpu"), street_frame(1.0), VoxelMemory()).inputs
    network = load_model(config, seeded_weights=True, precision=precision).to(META)
    count, voxels = len(config.temporal.ages_s), config.grid.rows * config.grid.columns * config.grid.layers
    states = (torch.zeros(voxels, config.embed, dtype=network.dtype),) * count
    inputs = replace(inputs, states=states, motions=torch.zeros(count, 3, 4))
    inputs = mapped(inputs, lambda tensor: tensor.to(META))
    kernels = Kernels()
    with (
        torch.inference_mode(),
        mock.patch.object(attention.tuned, "deform_attn", kernels.deform_attn),
        mock.patch.object(classes.tuned, "voxel_classes", kernels.voxel_classes),
    ):
        network.step(inputs, wanted)
        with OnlyOnDevice() as operations:
            output = network.step(inputs, wanted)
    assert output.state.dtype == network.dtype and output.is_finite.device == META
    return operations, kernels


@pytest.mark.parametrize(
    "name, wanted",
    [("nano", NONE), ("nano", Wanted()), ("nano", Wanted(logits=True))]
    + [("pano_small_occ3d", Wanted()), ("pano_small_4f", Wanted(logits=True))],
)
def test_no_step_waits_for_the_device_or_copies_to_it(name, wanted):
    operations, kernels = looked_at(small(name), wanted)
    assert operations.elsewhere == []
    assert sum(operations.operations.values()) > 300 and kernels.given
    assert not {"aten.nonzero.default", "aten._local_scalar_dense.default", "aten.item.default"} & set(
        operations.operations
    )


def test_features_and_history_are_in_half_and_places_in_float32():
    _, kernels = looked_at(small("nano"), NONE, "fp16")
    for given in kernels.given:
        assert given["values"].dtype == torch.float16
        assert given["reference_points"].dtype == torch.float32  # offsets come in half and are added in float32


def test_a_network_that_asks_for_a_value_is_found_out():
    class Asks(Kernels):
        def deform_attn(self, values, *others):
            torch.zeros(2).to(values.device)
            return super().deform_attn(values, *others)

    with mock.patch(f"{__name__}.Kernels", Asks):
        operations, _ = looked_at(small("nano"), NONE)
    assert {name for name, _ in operations.elsewhere} >= {"aten.zeros.default"}
    with pytest.raises(NotImplementedError), torch.inference_mode():
        torch.empty(3, device=META).nonzero()
    with pytest.raises(RuntimeError):
        bool(torch.empty((), device=META))
