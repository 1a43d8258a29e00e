"""What is said beside every speed: how far a network is from itself in float32, with reference operators."""

import math

import pytest
import torch

from panoocc_core import OccupancyStream, load_model
from panoocc_core.bench import Agreement, compare, reference_stream
from panoocc_core.bench.measured import full_history
from panoocc_core.ops import deform_attn as attention
from panoocc_core.ops.reference_mode import reference_operators, wants_reference

from .conftest import street_frame

FRAMES = [street_frame(0.5 * number, 2.0 * number) for number in range(3)]


@pytest.fixture(scope="module")
def reference(nano):
    return lambda: reference_stream(nano, None, seeded_weights=True)


def test_a_fast_network_agrees_with_its_reference_up_to_rounding(nano_model, reference):
    counted = []
    found = compare(OccupancyStream(nano_model), reference(), FRAMES, lambda: counted.append(1))
    assert found.frames == len(counted) == 3
    assert found.worst_logit is not None and 0 < found.worst_logit < 1e-2
    assert found.worst_feature is not None and found.feature_rms is not None
    assert found.worst_feature < 1e-2 * found.feature_rms
    assert found.same_class > 0.9999 and found.same_occupied > 0.999
    assert "same class" in str(found) and found.as_dict()["frames"] == 3
    assert found.of_plain is not None and found.of_plain > 0


def test_both_memories_are_filled_once_after_the_first_frame(nano, nano_model, reference):
    ours, theirs, given = OccupancyStream(nano_model), reference(), []

    def filled(memory):
        given.append(len(memory.states))
        return full_history(memory, nano)

    compare(ours, theirs, FRAMES[:2], filled=filled)
    assert given == [1, 1] and min(len(ours.memory.states), len(theirs.memory.states)) > 2


def test_what_is_wrong_shows(nano, reference):
    """One bias of the classifier, and one image that only one of them gets: the memory carries it on."""
    wrong = load_model(nano, seeded_weights=True)
    wrong.classifier.bias[4] += 3.0
    found = compare(OccupancyStream(wrong), reference(), FRAMES[:1])
    assert found.worst_logit == pytest.approx(3.0, abs=1e-2) and found.same_class < 0.99
    ahead = OccupancyStream(load_model(nano, seeded_weights=True))
    ahead.step(FRAMES[0])
    ahead.step(FRAMES[1])
    behind = reference()
    behind.step(FRAMES[0])
    behind.step(street_frame(0.5, 2.0, size_hw=(180, 320)))
    found = compare(ahead, behind, FRAMES[2:])
    assert found.worst_logit is not None and found.worst_logit > 0.05


def test_half_precision_is_further_away(nano, reference):
    half = load_model(nano, seeded_weights=True, precision="bf16")
    found = compare(OccupancyStream(half), reference(), FRAMES[:2])
    assert found.worst_logit is not None and 1e-2 < found.worst_logit < 10
    assert 0.8 < found.same_class < 1


def test_no_frames_and_no_numbers(nano_model, reference):
    with pytest.raises(ValueError, match="no frame"):
        compare(OccupancyStream(nano_model), reference(), [])
    from panoocc_core.bench.comparison import _worst

    assert _worst(torch.tensor([1.0, math.nan]), torch.ones(2)) == math.inf
    text = str(Agreement(1, None, None, None, 1.0, 1.0, None))
    assert "logits not compared" in text and "feature" not in text


def test_operators_are_their_references_inside_and_only_inside(monkeypatch):
    called = []
    monkeypatch.setattr(attention.reference, "deform_attn", lambda *_: called.append("reference"))
    monkeypatch.setattr(attention.native, "takes", lambda *_: True)
    monkeypatch.setattr(attention.native, "deform_attn", lambda *_: called.append("native"))
    arguments = [torch.empty(0)] * 5
    with reference_operators():
        attention.deform_attn(*arguments)
        assert wants_reference()
    with pytest.raises(ZeroDivisionError), reference_operators():
        _ = 1 / 0
    attention.deform_attn(*arguments)
    assert called == ["reference", "native"]


def test_a_plain_network_keeps_its_norms(nano):
    plain = load_model(nano, seeded_weights=True, plain=True)
    names = {type(module).__name__ for module in plain.modules()}
    assert "BatchNorm2d" in names and not plain.training
    assert not any(parameter.requires_grad for parameter in plain.parameters())
