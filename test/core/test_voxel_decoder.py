"""From logits to classes: the occupancy gate, and networks without a class for free space."""

import dataclasses
import math

import pytest
import torch

from panoocc_core.config import ModelConfig, model_config
from panoocc_core.models.voxel_decoder import OccupancyGate, TransposedConv, VoxelDecoder, classify
from panoocc_core.network import VoxelLogits
from panoocc_core.voxels import layers_to_volume, points_to_layers, token_count, volume_to_layers

OCC, PAN = (model_config(name).decoder for name in ("pano_small_occ3d", "pano_small_4f"))
LOGITS = torch.tensor([[[[4.0, 1.0, -3.0]]], [[[-2.0, -1.0, -3.0]]]])  # [2, 1, 1, 3]


def small(config: ModelConfig) -> ModelConfig:
    """The same decoder on a grid of a few voxels."""
    return dataclasses.replace(config, grid=dataclasses.replace(config.grid, rows=4, columns=5, layers=3))


def test_the_gate_cuts_what_it_calls_free():
    gate = torch.tensor([[[-2.9]], [[-3.0]]])  # probabilities 0.052 and 0.047, around the threshold of 0.05
    classes, probability = classify(VoxelLogits(LOGITS, gate, None), OCC, free_id=17)
    assert classes.flatten().tolist() == [0, 17]
    softmax = LOGITS.softmax(-1).amax(-1).flatten()
    assert probability.flatten().tolist() == pytest.approx([softmax[0].item(), 1 - 0.0474], abs=1e-4)
    assert classify(VoxelLogits(LOGITS, gate, None), OCC, free_id=None)[0].flatten().tolist() == [0, 1]


def test_without_a_free_class_the_best_probability_decides():
    logits = VoxelLogits(LOGITS, None, None)
    classes, probability = classify(logits, PAN, free_id=17)
    assert classes.flatten().tolist() == [0, 17]  # sigmoid(4) is 0.982, sigmoid(-1) is 0.269
    assert probability.flatten().tolist() == pytest.approx([0.982, 0.731], abs=1e-3)
    loose = dataclasses.replace(PAN, empty_below=0.2)
    assert classify(logits, loose, free_id=17)[0].flatten().tolist() == [0, 1]


@pytest.mark.parametrize("stage", [*OCC.upsample, *PAN.upsample])
def test_layers_as_images_equal_the_3d_convolution(stage):
    small = dataclasses.replace(stage, channels=3)
    conv = TransposedConv(4, small)
    layers = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    whole = volume_to_layers(torch.nn.ConvTranspose3d.forward(conv, layers_to_volume(layers)))
    assert conv.by_layer
    torch.testing.assert_close(conv(layers), whole, atol=1e-5, rtol=1e-5)


def test_layers_that_meet_take_the_3d_convolution():
    stage = dataclasses.replace(OCC.upsample[0], kernel=(3, 4, 4), padding=(1, 1, 1), channels=3)
    conv = TransposedConv(4, stage)
    assert not conv.by_layer and conv(torch.randn(3, 4, 5, 6)).shape == (3, 3, 10, 12)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_gate_is_a_convolution(kernel):
    gate = OccupancyGate(4, kernel)
    points = torch.randn(3, 5, 6, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)  # [Z, Y, X, C]
    logits = gate(points)
    by_torch = torch.nn.Conv3d.forward(gate, layers_to_volume(points_to_layers(points)))[0, 0]
    torch.testing.assert_close(logits, by_torch, atol=1e-5, rtol=1e-5)
    ours, theirs = (torch.autograd.grad(out.square().sum(), points)[0] for out in (logits, by_torch))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["nano", "pano_small_4f"])
def test_classes_of_open_voxels_alone_are_those_of_all_logits(name):
    config = small(model_config(name))
    torch.manual_seed(2)
    decoder = VoxelDecoder(config).eval()
    if decoder.gate is not None:
        torch.nn.init.constant_(decoder.gate.bias, math.log(0.05 / 0.95))  # the threshold
        torch.nn.init.normal_(decoder.gate.weight)
    tokens = torch.randn(token_count(config.grid), config.embed)
    with torch.inference_mode():
        expected_class, expected = classify(decoder(tokens), config.decoder, config.labels.free_id)
        class_id, probability = decoder.occupancy(tokens, config.labels.free_id)
    share_free = (class_id == config.labels.free_id).float().mean().item()
    assert 0.05 < share_free < 0.95 or decoder.gate is None
    assert torch.equal(class_id, expected_class)
    torch.testing.assert_close(probability, expected)


def test_a_broken_gate_shows_in_the_probability():
    config = small(model_config("nano"))
    decoder = VoxelDecoder(config).eval()
    tokens = torch.zeros(token_count(config.grid), config.embed)
    tokens[7, 3] = float("nan")
    with torch.inference_mode():
        assert not decoder.occupancy(tokens, config.labels.free_id)[1].isfinite().all()
