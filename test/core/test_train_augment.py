"""Random changes of images: each within its range, geometry stays consistent, resuming repeats them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.optics import Projections
from panoocc_core.preprocess import NetworkInput, input_from_pixels, network_input
from panoocc_core.train.augment import (
    InputChange,
    changed_input,
    distorted,
    distorted_frame,
    generator_of,
    grid_mask,
    input_change,
    mirrored_images,
)
from panoocc_core.train.train_config import AugmentConfig, ScheduleConfig, recipes, train_config

from .conftest import street_frame
from .toy_training import assert_same_weights, curve_without_seconds, recipe, trained, write_network

COLOUR = AugmentConfig(colour=0.5)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("toy"))


def grey(value: int) -> torch.Tensor:
    return torch.full((4, 4, 3), value, dtype=torch.uint8)


def many(image: torch.Tensor, config: AugmentConfig, count: int = 400) -> torch.Tensor:
    """float [count, 3]: the first pixel of the changed images."""
    return torch.stack([distorted(image, config, generator_of(0, i))[0, 0] for i in range(count)]).float()


def test_without_probabilities_nothing_changes():
    frame, config = street_frame(1.0), AugmentConfig()
    assert distorted_frame(frame, config, generator_of(0)) is frame
    assert torch.equal(distorted(frame.cameras[0].image, config, generator_of(0)), frame.cameras[0].image)
    change = input_change(config, True, (32, 64), generator_of(0))
    assert not change.mirrored and change.mask is None


def test_a_grey_stays_grey_and_within_brightness_and_contrast():
    values = many(grey(100), COLOUR)
    assert (values.max(1).values - values.min(1).values).max() <= 1
    assert values.min() >= 34 - 1 and values.max() <= 132 * 1.5 + 1  # (100 -+ 32) times 0.5 to 1.5
    assert values.min() < 50 and values.max() > 170
    untouched = (values[:, 0] == 100).float().mean()
    assert untouched == pytest.approx(0.25, abs=0.08)  # neither brightness nor contrast; the rest leaves a grey alone


def test_each_kind_of_colour_change_comes_with_its_range():
    colour = torch.tensor([200, 100, 100], dtype=torch.uint8).expand(4, 4, 3).contiguous()
    values = many(colour, AugmentConfig(colour=1.0, overflow="clip"), 300)
    values = values[values.max(1).values < 250]  # not clipped
    high, low = values.max(1).values, values.min(1).values
    share = (high - low) / high  # 100 / (200 +- 32), times 0.5 to 1.5
    assert 100 / 232 * 0.5 - 0.05 < share.min() < 0.3 and 0.7 < share.max() < 100 / 168 * 1.5 + 0.05
    assert set(values.argmax(1).tolist()) == {0, 1, 2}  # channels change places
    vivid = high - low > 60
    turned_deg = ((values.sum(1) - high - 2 * low) / (high - low) * 60)[vivid]  # hue from that of pure red
    assert 14 < turned_deg.max() < 18 + 2


def test_colours_beyond_the_range_wrap_as_published_or_are_clipped():
    clipped, wrapped = (many(grey(240), replace(COLOUR, overflow=overflow)) for overflow in ("clip", "wrap"))
    assert (clipped == 255).any() and clipped.min() >= 104 - 1
    assert (wrapped < 100).any()
    same = clipped < 255
    assert torch.equal(clipped[same], wrapped[same])
    dark = many(grey(5), replace(COLOUR, overflow="wrap"))
    assert (dark > 200).any()  # -1 is 255


def test_every_image_changes_on_its_own_and_calibrations_stay():
    frame = street_frame(1.0)
    alike = replace(frame, cameras=tuple(replace(c, image=grey(100)) for c in frame.cameras))
    changed = distorted_frame(alike, AugmentConfig(colour=1.0), generator_of(3))
    assert len({int(c.image[0, 0, 0]) for c in changed.cameras}) > 2
    for before, after in zip(alike.cameras, changed.cameras):
        assert after.intrinsics is before.intrinsics and after.stamp_ns == before.stamp_ns
        assert torch.equal(before.image, grey(100))  # the given image is not written to


def test_the_same_place_in_the_training_draws_the_same_numbers():
    image = street_frame(1.0).cameras[0].image
    one, again, other = (distorted(image, COLOUR, generator_of(7, *place)) for place in ((3, 1), (3, 1), (1, 3)))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("size_hw", [(32, 64), (37, 53), (3, 3), (320, 800)])
def test_grid_mask_keeps_stripes_and_removes_squares(size_hw):
    kept = [grid_mask(size_hw, 0.5, generator_of(i)) for i in range(60)]
    for mask in kept:
        assert mask.shape == size_hw and mask.dtype == torch.bool
        rows, columns = mask.all(1), mask.all(0)
        removed = ~rows[:, None] & ~columns[None, :]
        assert torch.equal(mask, ~removed)
    share = torch.stack([mask.float().mean() for mask in kept]).mean()
    assert share == pytest.approx(0.75, abs=0.12)  # half of the rows, and half of the other half's columns


def test_grid_mask_of_a_known_spacing(monkeypatch):
    """Height 3 allows only a spacing of 2 pixels: every other row and column stays."""
    mask = grid_mask((3, 6), 0.5, generator_of(1))
    rows, columns = mask.all(1), mask.all(0)
    assert (rows[1:] != rows[:-1]).all() and (columns[1:] != columns[:-1]).all()


def test_only_frames_that_are_learned_from_are_masked():
    config = AugmentConfig(grid_mask=0.7, mirror=0.5)
    learned, history = (
        [input_change(config, learns, (32, 64), generator_of(5, i)) for i in range(500)] for learns in (True, False)
    )
    assert all(change.mask is None for change in history)
    assert np.mean([change.mask is not None for change in learned]) == pytest.approx(0.7, abs=0.07)
    assert np.mean([change.mirrored for change in learned]) == pytest.approx(0.5, abs=0.07)
    assert [change.mirrored for change in learned] == [change.mirrored for change in history]


def test_mirroring_twice_changes_nothing():
    images, projections = torch.randn(2, 3, 8, 16), Projections(torch.randn(2, 3, 4))
    torch.testing.assert_close(mirrored_images(mirrored_images(images, 13), 13), images)
    twice = projections.mirrored(13).mirrored(13)
    torch.testing.assert_close(twice.image_from_network, projections.image_from_network)
    assert torch.equal(mirrored_images(images, 13)[..., 13:], images[..., 13:])  # padding


def test_a_voxel_finds_the_same_pixel_in_a_mirrored_image(network):
    """Pixel i covers i to i + 1 of the network's input: the point's pixel holds the same colour in both images."""
    config = model_config(network)
    inputs = network_input(street_frame(1.0, size_hw=(32, 64)), config, torch.device("cpu"))
    assert np.array_equal(input_from_pixels((32, 64), config.images), np.eye(3))
    mirrored = mirrored_images(inputs.images, 64), inputs.projections.mirrored(64)
    found = 0
    for point in torch.tensor(np.random.default_rng(0).uniform((-12, -12, 0, 1), (12, 12, 4, 1), (400, 4))).float():
        places = []
        for images, projections in ((inputs.images, inputs.projections), mirrored):
            u, v, depth = (projections.image_from_network @ point).unbind(-1)
            column, row = (u / depth).floor().long(), (v / depth).floor().long()
            seen = (depth > 0.5) & (column >= 0) & (column < 64) & (row >= 0) & (row < 32)
            places.append([(i, *images[i, :, row[i], column[i]].tolist()) for i in seen.nonzero().flatten().tolist()])
        assert places[0] == places[1]
        found += len(places[0])
    assert found > 200


def test_the_change_of_an_input_is_what_it_says():
    images = model_config("nano").images
    inputs = NetworkInput(torch.randn(6, 3, images.height, images.width), Projections(torch.randn(6, 3, 4)))
    same = changed_input(inputs, InputChange(), images)
    assert same.images is inputs.images and same.projections is inputs.projections
    masked = changed_input(inputs, InputChange(mask=torch.zeros(images.height, images.width, dtype=torch.bool)), images)
    assert not masked.images.any() and masked.projections is inputs.projections
    mirrored = changed_input(inputs, InputChange(mirrored=True), images)
    assert torch.equal(mirrored.images, mirrored_images(inputs.images, images.width))
    expected = inputs.projections.mirrored(images.width).image_from_network
    assert torch.equal(mirrored.projections.image_from_network, expected)


def test_published_recipes_change_images_as_published_and_nano_does_not():
    published = AugmentConfig(colour=0.5, overflow="wrap", mirror=0.5, grid_mask=0.7, grid_mask_ratio=0.5)
    for name in recipes():
        expected = AugmentConfig() if name.startswith("nano") else published
        assert train_config(name).augment == expected, name


def test_impossible_probabilities_are_refused():
    with pytest.raises(ConfigError, match=r"augment: mirror must be 0 to 1, not 1\.5"):
        train_config("nano", {"augment": {"mirror": 1.5}})
    with pytest.raises(ConfigError, match=r"augment\.overflow: 'saturate' is not one of"):
        train_config("nano", {"augment": {"overflow": "saturate"}})


def test_training_with_changed_images_is_resumed_exactly_and_differs_from_one_without(network, tmp_path):
    augment = AugmentConfig(colour=0.5, mirror=0.5, grid_mask=0.7)
    config = recipe(network, augment=augment, epochs=1, batch=2, schedule=ScheduleConfig(warmup_steps=0))
    whole = trained(config, tmp_path / "whole")
    trained(config, tmp_path / "parts", stop_after_steps=4)
    assert_same_weights(whole, trained(config, tmp_path / "parts", resume=True))
    assert curve_without_seconds(tmp_path / "whole") == curve_without_seconds(tmp_path / "parts")
    trained(replace(config, augment=AugmentConfig()), tmp_path / "plain")
    assert curve_without_seconds(tmp_path / "whole") != curve_without_seconds(tmp_path / "plain")
