"""Where the box branch alone learns, what is frozen is computed once, and the numbers are the same."""

from dataclasses import replace

import pytest
import torch

from panoocc_core.data.simulated import SimulatedStreets
from panoocc_core.models import build_network
from panoocc_core.train import loop
from panoocc_core.train.box_samples import kept_samples
from panoocc_core.train.loop import start_from_scratch
from panoocc_core.train.loss_config import LossConfig
from panoocc_core.train.optimiser import build_optimiser
from panoocc_core.train.train_config import AugmentConfig, GroupConfig, OptimiserConfig, ScheduleConfig, TrainConfig

from .test_train_loop import losses_of
from .toy_training import assert_same_weights, curve_without_seconds, rendered_streets, trained

FROZEN = tuple(GroupConfig(part, 0.0) for part in ("backbone", "neck", "queries", "encoder", "fusion", "decoder"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def drives() -> SimulatedStreets:
    return SimulatedStreets(tuple(sorted(rendered_streets()[1].glob("street-*.npz"))[:2]))


def recipe(**changes) -> TrainConfig:
    return replace(
        TrainConfig(
            "toy",
            str(rendered_streets()[1] / "toy.yaml"),
            LossConfig(box_class=2.0, box_l1=0.25),
            optimiser=OptimiserConfig(lr=2e-3, groups=FROZEN),
            schedule=ScheduleConfig(warmup_steps=2),
            epochs=3,
            batch=2,
        ),
        **changes,
    )


def test_frames_are_read_once_and_the_numbers_are_those_of_reading_them_every_time(drives, tmp_path, monkeypatch):
    read = []
    frame = type(drives[0]).frame
    monkeypatch.setattr(type(drives[0]), "frame", lambda self, index: read.append(index) or frame(self, index))
    kept = trained(recipe(), tmp_path / "kept", drives)
    assert len(read) == 8
    before = start_from_scratch(build_network(kept.config), recipe()).state_dict()
    moved = {name.split(".")[0] for name, value in kept.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"boxes"}

    monkeypatch.setattr(loop, "kept_samples", lambda *_: None)
    read.clear()
    anew = trained(recipe(), tmp_path / "anew", drives)
    assert len(read) == 24
    # Maps are kept in half precision.
    assert losses_of(tmp_path / "kept") == pytest.approx(losses_of(tmp_path / "anew"), rel=5e-3)
    # A bias of all keys changes no softmax: its gradient is rounding, which AdamW makes steps of.
    assert_same_weights(kept, anew, rtol=0.05, atol=4e-3)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(drives, tmp_path):
    whole = trained(recipe(), tmp_path / "whole", drives)
    for stop in (4, 8):
        trained(recipe(), tmp_path / "parts", drives, resume=True, stop_after_steps=stop)
    assert_same_weights(trained(recipe(), tmp_path / "parts", drives, resume=True), whole)
    assert curve_without_seconds(tmp_path / "parts") == curve_without_seconds(tmp_path / "whole")


@pytest.mark.parametrize(
    "change",
    [
        {"augment": AugmentConfig(mirror=0.5)},
        {"optimiser": OptimiserConfig(groups=FROZEN[:-1])},
        {"losses": LossConfig(box_class=2.0, occupancy_ce=1.0)},
        {"clip_frames": 3},
        {"supervise": "last"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_would_change_from_epoch_to_epoch_is_not_kept(change):
    config = recipe(**change)
    model = build_network(config.model_config)
    build_optimiser(model, config.optimiser)
    assert kept_samples(config, model, [4, 4]) is None
    build_optimiser(model, recipe().optimiser)
    assert kept_samples(recipe(), model, [4, 4]) == {} and kept_samples(recipe(), model, [4, 4_000_000]) is None
