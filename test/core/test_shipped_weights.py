"""The weights that come with the package see a street that nobody trained on."""

from pathlib import Path

import pytest

from panoocc_core import load_model, model_config
from panoocc_core.base.resources import folder, shipped_weights
from panoocc_core.data.simulated import simulated_streets
from panoocc_core.data.street_plan import StreetPlan
from panoocc_core.evaluation import DriveScores, Measures, evaluate
from panoocc_core.labels import OCC3D
from panoocc_core.metrics import PanopticQuality
from panoocc_core.stream import output_geometry

SEEDS = (100, 101)  # the first of `panoocc eval`
MAX_BYTES = 10_000_000
FAST = Measures(rays=False)
SHIPPED = [path.stem for path in sorted((folder("config") / "weights").glob("*.safetensors"))]


def pq(quality: PanopticQuality | None) -> float:
    assert quality is not None
    return quality.means_of_present(OCC3D).pq


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory):
    geometry = output_geometry(model_config("nano"))
    return simulated_streets(tmp_path_factory.mktemp("streets"), SEEDS, geometry, StreetPlan(seconds=5.0), workers=1)


def test_nano_is_shipped():
    assert "nano" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_are_small_and_have_a_model_card(name: str):
    path = shipped_weights(name)
    assert path is not None and path.stat().st_size <= MAX_BYTES
    card = path.with_suffix(".md").read_text()
    for word in ("seeds", "commit", "train nano", "Curve", "held-out", "not for a vehicle"):
        assert word in card, f"the model card of {name} does not say: {word}"


def test_a_network_without_a_checkpoint_takes_the_weights_of_the_package():
    named = load_model("nano", Path(str(shipped_weights("nano"))))
    for ours, theirs in zip(load_model("nano").parameters(), named.parameters()):
        assert (ours == theirs).all()


def test_nano_sees_a_street_that_it_has_never_been_trained_on(drives):
    scores: DriveScores = evaluate(load_model("nano"), drives, FAST)
    assert scores.voxels is not None and scores.voxels_without_history is not None
    total, alone = scores.voxels.total, scores.voxels_without_history
    assert total.geometric_iou(OCC3D) > 0.60
    miou = total.miou_of_present(OCC3D)
    assert miou > 0.36
    assert miou > alone.miou_of_present(OCC3D) + 0.01  # history helps; over 20 streets it gives more
    assert scores.boxes is not None and scores.boxes.scores().of_present().mean_ap > 0.12
    assert scores.seen is not None
    seen = scores.seen.scores()  # over 20 streets: 0.69, 0.03, 0.02 and 0.26
    assert seen["visible_iou"] > 0.62 and seen["falsely_visible"] < 0.06
    assert seen["free_but_occupied"] < 0.05 < 0.15 < seen["free_but_occupied_hidden"]
    assert pq(scores.panoptic) > pq(scores.components) + 0.01  # boxes tell things apart; over 20 streets better still
