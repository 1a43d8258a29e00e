"""The list of voxels that are not free: what is in it, how much of it is fetched, and that nobody waits for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, load_model
from panoocc_core import stream as stream_module
from panoocc_core.cuda.compaction import LEAST_VOXELS, SPARE, Compaction, listed
from panoocc_core.memory import VoxelMemory
from panoocc_core.stream import classes, encode

from .conftest import street_frame

SHAPES = [(1, 1, 1), (5, 3, 7), (16, 12, 8), (33, 31, 6)]


def volumes(shape, share: float, device="cpu", seed: int = 3):
    """Classes [X, Y, Z] of which `share` are not free (17), confidences, and what is seen."""
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 17, shape, generator=draw, dtype=torch.uint8)
    class_id = torch.where(torch.rand(shape, generator=draw) < share, kinds, torch.full_like(kinds, 17))
    confidence = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    return class_id.to(device), confidence.to(device), (torch.rand(shape, generator=draw) < 0.4).to(device)


def check(found, class_id, confidence, visible=None, free_id=17):
    classes, sure = (values.cpu().numpy().transpose(2, 1, 0).ravel() for values in (class_id, confidence))
    index = np.flatnonzero(classes != free_id)
    assert np.array_equal(found.index, index) and found.index.dtype == np.uint32
    assert np.array_equal(found.class_id, classes[index]) and np.array_equal(found.confidence, sure[index])
    if visible is None:
        assert found.visible is None
    else:
        bits = np.packbits(visible.cpu().numpy().transpose(2, 1, 0).ravel(), bitorder="little")
        assert np.array_equal(found.visible, bits)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_list_has_what_is_not_free_in_order(device, shape, share):
    class_id, confidence, visible = volumes(shape, share, device)
    compaction = Compaction(device)
    check(compaction.begin(class_id, confidence, 17).wait()[0], class_id, confidence)
    found, is_finite = compaction.begin(class_id, confidence, 17, visible, torch.tensor(True, device=device)).wait()
    check(found, class_id, confidence, visible)
    assert is_finite


@pytest.mark.parametrize("shape", SHAPES)
def test_volumes_come_back_from_the_list(shape):
    class_id, confidence, _ = volumes(shape, 0.3)
    found, _ = Compaction(torch.device("cpu")).begin(class_id, confidence, 17).wait()
    classes, sure = found.volumes(shape, 17)
    assert torch.equal(classes, class_id) and torch.equal(sure, torch.where(class_id == 17, 0, confidence))
    assert np.array_equal(found.at(class_id), found.class_id) and np.array_equal(found.at(confidence), found.confidence)


def test_without_a_class_for_free_space_every_voxel_is_listed(device):
    class_id, confidence, _ = volumes((5, 4, 3), 0.5, device)
    check(Compaction(device).begin(class_id, confidence, None).wait()[0], class_id, confidence, free_id=255)


def test_views_of_other_layouts_are_listed_alike(device):
    class_id, confidence, visible = volumes((6, 5, 4), 0.5, device)
    turned = [values.permute(2, 0, 1).contiguous().permute(1, 2, 0) for values in (class_id, confidence, visible)]
    check(Compaction(device).begin(turned[0], turned[1], 17, turned[2]).wait()[0], class_id, confidence, visible)


def test_what_is_not_finite_is_told(device):
    class_id, confidence, _ = volumes((5, 4, 3), 0.5, device)
    is_finite = torch.tensor(False, device=device)
    assert not Compaction(device).begin(class_id, confidence, 17, is_finite=is_finite).wait()[1]


def test_a_list_that_grew_is_fetched_to_its_end(device):
    """First as much as is likely, then the rest; the next one knows better, and two may be on their way."""
    shape = (32, 32, 16)
    few, many = volumes(shape, 0.01, device), volumes(shape, 0.9, device)
    assert (many[0] != 17).sum() > SPARE * LEAST_VOXELS
    compaction = Compaction(device)
    for one in (few, many, many, few, many):
        check(compaction.begin(one[0], one[1], 17, one[2]).wait()[0], *one)
    first, second = (compaction.begin(one[0], one[1], 17, one[2]) for one in (many, few))
    check(second.wait()[0], *few)
    check(first.wait()[0], *many)


class NoMasks(np.ndarray):
    """An array that is not indexed by masks: how many values these choose, a device would have to be asked."""

    def __getitem__(self, place):
        assert getattr(place, "dtype", None) is not np.dtype(bool)
        return super().__getitem__(place)

    def __setitem__(self, place, values):
        assert getattr(place, "dtype", None) is not np.dtype(bool)
        super().__setitem__(place, values)


def test_no_shape_depends_on_values():
    class Module:
        """NumPy without functions whose results are as long as values say."""

        def __getattr__(self, name):
            assert name not in ("nonzero", "flatnonzero", "argwhere", "unique", "compress", "extract"), name
            made = getattr(np, name)
            return (lambda *given: made(*given).view(NoMasks)) if name in ("empty", "ones") else made

    class_id, confidence, visible = (values.numpy().view(NoMasks) for values in volumes((5, 4, 3), 0.5))
    with pytest.raises(AssertionError):
        class_id[class_id == 17]
    assert listed(Module(), class_id, confidence, 17, visible, None).shape == (16 + 8 + 8 * 60,)


@pytest.mark.parametrize("name", ["components", "boxes"])
def test_a_stream_with_lists_gives_what_it_gives_without(nano, monkeypatch, name):
    """The host's work after a step, by the list of a device (here NumPy's) and by whole volumes; with boxes that refine
    classes, too."""
    config = replace(nano, grid=replace(nano.grid, rows=8, columns=8), images=replace(nano.images, height=32, width=64))
    rules = replace(config.panoptic, instances=name, refine=True, refine_score=0.0, min_score=0.0, min_voxels=1)
    config = replace(config, boxes=replace(config.boxes, queries=30, layers=1), panoptic=rules)
    model = load_model(config, seeded_weights=True)
    plain, with_lists = OccupancyStream(model), OccupancyStream(model)
    for number in range(3):
        frame = street_frame(0.5 * number, x_m=2.0 * number)
        want = plain.step(frame)
        with monkeypatch.context() as patch:
            patch.setattr(stream_module, "compaction_on", Compaction)
            got = with_lists.step(frame)
        assert torch.equal(got.class_id, want.class_id) and torch.equal(got.instance_id, want.instance_id)
        assert torch.equal(got.visible, want.visible) and got.history == want.history
        check(got.listed, want.class_id, want.confidence, want.visible, config.labels.free_id)
        assert want.boxes is not None and len(want.boxes) == len(got.boxes)
        if number == 0:
            with torch.inference_mode():
                unrefined = classes(model, encode(model, frame, VoxelMemory()).fused)[0]
            assert torch.equal(unrefined, want.class_id) == (name == "components")
