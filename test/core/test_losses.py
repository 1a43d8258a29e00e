"""Losses against plain float64 versions, and what a training must survive: empty masks, no boxes, half precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from panoocc_core.base.strict_yaml import ConfigError, build
from panoocc_core.network import VoxelLogits
from panoocc_core.step import BoxPrediction
from panoocc_core.train import losses
from panoocc_core.train.loss_config import TERMS, LossConfig
from panoocc_core.train.losses import cross_entropy_sum, focal_sum
from panoocc_core.train.lovasz import lovasz_softmax
from panoocc_core.train.matching import match_boxes
from panoocc_core.train.objective import loss_terms
from panoocc_core.train.targets import BoxTargets, Targets
from panoocc_core.train.train_config import train_config

X, Y, Z, CLASSES, FREE = 5, 3, 2, 18, 17


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_focal_sum(logits, labels):
    """The definition, with a one-hot target."""
    target = functional.one_hot(labels.long(), logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
    p = logits.sigmoid()
    hit = torch.where(target > 0, p, 1 - p)
    alpha = torch.where(target > 0, 0.25, 0.75)
    return -(alpha * (1 - hit) ** 2 * hit.log()).sum()


def plain_lovasz(probabilities, labels):
    """The Lovász extension by its definition: the loss 1 - IoU of growing sets of the worst errors."""
    total, present = 0, labels.unique().tolist()
    for k in present:
        inside = labels == k
        errors = torch.where(inside, 1 - probabilities[:, k], probabilities[:, k])
        before = 0.0
        wrong = torch.zeros_like(inside)
        for i in errors.argsort(descending=True).tolist():
            wrong[i] = True
            loss = 1 - (inside & ~wrong).sum().item() / (inside | wrong).sum().item()
            total, before = total + errors[i] * (loss - before), loss
    return total / len(present)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("part", [1, 7, 50, 1 << 18])
def test_focal_loss_and_gradient_in_parts_of_any_size_and_layout(monkeypatch, dtype, part):
    monkeypatch.setattr(losses, "PART_ON_CPU", part)
    layout = torch.randn(Z, Y, X, 3, generator=draw(1), dtype=torch.float64) * 3
    labels = torch.randint(0, 4, (X, Y, Z), generator=draw(2))
    for order in ((2, 1, 0, 3), (0, 1, 2, 3)):
        exact = layout.permute(order).detach().requires_grad_()
        rows = labels if order[0] == 2 else labels.transpose(0, 2)
        given = layout.to(dtype).permute(order).detach().requires_grad_()
        (3 * plain_focal_sum(exact, rows)).backward()
        value = focal_sum(given, rows.to(torch.uint8))
        (3 * value).backward()
        torch.testing.assert_close(value.double(), plain_focal_sum(exact, rows).detach(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(given.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)


def test_focal_gradient_by_finite_differences():
    logits = torch.randn(6, 3, generator=draw(3), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 3, 1])
    assert torch.autograd.gradcheck(lambda x: focal_sum(x, labels), logits)


def test_focal_loss_of_extreme_logits_is_finite():
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], requires_grad=True)
    focal_sum(logits, torch.tensor([0, 2])).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("classes", [2, 6])
def test_lovasz_loss_and_gradient(classes):
    exact = torch.randn(60, classes, generator=draw(4), dtype=torch.float64).softmax(-1).requires_grad_()
    labels = torch.randint(0, classes, (60,), generator=draw(5))
    given = exact.detach().float().requires_grad_()
    plain_lovasz(exact, labels).backward()
    value = lovasz_softmax(given, labels.to(torch.uint8))
    value.backward()
    torch.testing.assert_close(value.double(), plain_lovasz(exact, labels).detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(given.grad.double(), exact.grad, rtol=1e-5, atol=1e-8)
    double = exact.detach().requires_grad_()  # sorted another way than float32
    lovasz_softmax(double, labels).backward()
    torch.testing.assert_close(double.grad, exact.grad)


def test_lovasz_loss_of_hard_decisions_is_the_mean_of_one_minus_iou(device):
    truth = torch.randint(0, 5, (400,), generator=draw(6)).to(device)
    said = torch.where(torch.rand(400, generator=draw(7)).to(device) < 0.6, truth, (truth + 1) % 6)
    loss = lovasz_softmax(functional.one_hot(said, 6).float(), truth)
    pairs = [((said == k), (truth == k)) for k in range(5)]
    iou = [(a & b).sum() / (a | b).sum() for a, b in pairs]
    torch.testing.assert_close(loss, 1 - torch.stack(iou).mean())


def test_lovasz_loss_counts_only_classes_that_occur():
    probabilities = torch.tensor([[0.2, 0.8], [0.4, 0.6]])
    only_second = lovasz_softmax(probabilities, torch.tensor([1, 1]))
    # One class over all samples: every error weighs 1 / n.
    torch.testing.assert_close(only_second, torch.tensor((0.2 + 0.4) / 2))
    assert lovasz_softmax(functional.one_hot(torch.tensor([0, 1]), 2).float(), torch.tensor([0, 1])) == 0


def test_lovasz_loss_of_nothing_is_zero_and_differentiable():
    probabilities = torch.zeros(0, 4, requires_grad=True)
    loss = lovasz_softmax(probabilities, torch.zeros(0, dtype=torch.uint8))
    loss.backward()
    assert loss == 0


def test_cross_entropy_counts_only_the_mask_and_weighs_classes():
    logits = torch.randn(4, 3, generator=draw(8))
    labels, mask = torch.tensor([0, 1, 2, 2], dtype=torch.uint8), torch.tensor([True, True, False, True])
    weights = torch.tensor([1.0, 5.0, 0.5])
    each = [-logits.log_softmax(-1)[i, k] * weights[k] for i, k in ((0, 0), (1, 1), (3, 2))]
    torch.testing.assert_close(cross_entropy_sum(logits, labels, mask, weights), sum(each))


def occupancy_case(seed: int = 11, device="cpu", dtype=torch.float32):
    """Leaves, logits and targets of a small dense grid."""
    leaves = {
        "classes": torch.randn(X, Y, Z, CLASSES, generator=draw(seed)).to(device, dtype).requires_grad_(),
        "gate": torch.randn(X, Y, Z, generator=draw(seed + 1)).to(device, dtype).requires_grad_(),
    }
    classes = torch.randint(0, CLASSES, (X, Y, Z), generator=draw(seed + 2)).to(device, torch.uint8)
    classes[::2] = FREE
    mask = (torch.rand(X, Y, Z, generator=draw(seed + 3)) < 0.6).to(device)
    return leaves, VoxelLogits(leaves["classes"], leaves["gate"], None), Targets(classes, mask)


DENSE = LossConfig(occupancy_ce=10.0, occupancy_lovasz=1.0, gate_focal=2.0)


def test_dense_terms_are_what_the_specification_says(nano, device):
    leaves, logits, targets = occupancy_case(device=device)
    terms = loss_terms(logits, None, targets, DENSE, nano)
    classes, seen = targets.voxel_classes, targets.camera_mask
    scores, kinds = leaves["classes"].double(), classes.long()
    occupied = classes != FREE
    entropy = functional.cross_entropy(scores[seen], kinds[seen])
    lovasz = plain_lovasz(scores.softmax(-1)[occupied], kinds[occupied])
    positive = occupied & seen
    gate = plain_focal_sum(leaves["gate"].double().unsqueeze(-1), (~positive).long()) / positive.sum()
    wanted = {"occupancy_ce": 10 * entropy, "occupancy_lovasz": lovasz, "gate_focal": 2 * gate}
    assert set(terms) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name].double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["occupied", "camera_occupied", "camera"])
def test_lovasz_counts_the_voxels_that_its_rule_names(nano, rule):
    leaves, logits, targets = occupancy_case()
    occupied, seen = targets.voxel_classes != FREE, targets.camera_mask
    counted = {"occupied": occupied, "camera_occupied": occupied & seen, "camera": seen}[rule]
    config = LossConfig(occupancy_lovasz=1.0, lovasz_voxels=rule)
    loss = loss_terms(logits, None, targets, config, nano)["occupancy_lovasz"]
    wanted = plain_lovasz(leaves["classes"].softmax(-1)[counted], targets.voxel_classes.long()[counted])
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert (leaves["classes"].grad[~counted] == 0).all() and (leaves["classes"].grad[counted] != 0).any()


def test_a_truth_without_mask_counts_every_voxel(nano):
    _, logits, targets = occupancy_case()
    everywhere = torch.ones_like(targets.camera_mask)
    masked = loss_terms(logits, None, replace(targets, camera_mask=everywhere), DENSE, nano)
    unmasked = loss_terms(logits, None, replace(targets, camera_mask=None), DENSE, nano)
    assert masked == unmasked


@pytest.mark.parametrize("rule", ["occupied", "camera_occupied", "camera"])
def test_a_mask_that_selects_nothing_gives_finite_terms_and_gradients(nano, rule):
    leaves, logits, targets = occupancy_case()
    targets = Targets(torch.full_like(targets.voxel_classes, FREE), torch.zeros_like(targets.camera_mask))
    terms = loss_terms(logits, None, targets, replace(DENSE, lovasz_voxels=rule), nano)
    assert terms["occupancy_ce"] == 0 and terms["occupancy_lovasz"] == 0 and terms["gate_focal"] > 0
    sum(terms.values()).backward()
    assert (leaves["classes"].grad == 0).all() and leaves["gate"].grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(nano, device, dtype):
    leaves, logits, targets = occupancy_case(device=device, dtype=dtype)
    terms = loss_terms(logits, None, targets, DENSE, nano)
    exact = VoxelLogits(logits.classes.detach().float(), logits.gate.detach().float(), None)
    for name, value in loss_terms(exact, None, targets, DENSE, nano).items():
        assert terms[name].dtype == torch.float32
        torch.testing.assert_close(terms[name], value)
    sum(terms.values()).backward()
    for leaf in leaves.values():
        assert leaf.grad.dtype == dtype and leaf.grad.isfinite().all() and (leaf.grad != 0).any()


def test_half_precision_of_the_largest_values_is_finite(nano):
    _, logits, targets = occupancy_case()
    huge = [(value.detach().half() * 20000).requires_grad_() for value in (logits.classes, logits.gate)]
    sum(loss_terms(VoxelLogits(*huge, None), None, targets, DENSE, nano).values()).backward()
    assert all(leaf.grad.isfinite().all() for leaf in huge)


def test_class_weights_reach_the_cross_entropy(nano):
    _, logits, targets = occupancy_case()
    plain = LossConfig(occupancy_ce=1.0)
    doubled = replace(plain, class_weights=dict.fromkeys(nano.labels.names, 2))
    once, twice = (loss_terms(logits, None, targets, c, nano)["occupancy_ce"] for c in (plain, doubled))
    torch.testing.assert_close(twice, 2 * once)
    without_free = replace(plain, class_weights={"free": 0.0})
    assert loss_terms(logits, None, targets, without_free, nano)["occupancy_ce"] < once
    with pytest.raises(ValueError, match="'tram' is not one of others"):
        loss_terms(logits, None, targets, replace(plain, class_weights={"tram": 2.0}), nano)


@pytest.mark.parametrize("term", ["occupancy_ce", "occupancy_lovasz", "gate_focal"])
def test_another_shape_is_refused_with_both_shapes(nano, term):
    _, logits, targets = occupancy_case()
    wrong = replace(targets, voxel_classes=targets.voxel_classes[:-1], camera_mask=targets.camera_mask[:-1])
    with pytest.raises(ValueError, match=rf"{term}.*\(5, 3, 2.*\(4, 3, 2\)"):
        loss_terms(logits, None, wrong, LossConfig(**{term: 1.0}), nano)


@pytest.mark.parametrize("term", TERMS)
def test_a_term_without_its_targets_is_refused_by_name(nano, term):
    _, logits, _ = occupancy_case()
    with pytest.raises(ValueError, match=f"{term}.* needs .*weight to 0"):
        loss_terms(logits, None, Targets(), LossConfig(**{term: 1.0}), nano)


def test_terms_of_weight_zero_are_not_computed(nano, monkeypatch):
    def never(*_):
        raise AssertionError("computed")

    _, logits, targets = occupancy_case()
    monkeypatch.setattr("panoocc_core.train.objective.lovasz_softmax", never)
    monkeypatch.setattr("panoocc_core.train.objective.match_boxes", never)
    terms = loss_terms(replace(logits, gate=None), None, targets, LossConfig(occupancy_ce=1.0), nano)
    assert set(terms) == {"occupancy_ce"}


def box_case(queries: int = 12, boxes: int = 3, layers: int = 2, seed: int = 21):
    prediction = BoxPrediction(
        torch.randn(layers, queries, 10, generator=draw(seed)).requires_grad_(),
        (3 * torch.randn(layers, queries, 10, generator=draw(seed + 1))).requires_grad_(),
    )
    codes = 3 * torch.randn(boxes, 10, generator=draw(seed + 2))
    return prediction, BoxTargets(codes, torch.randint(0, 10, (boxes,), generator=draw(seed + 3)))


BOXES = LossConfig(box_class=2.0, box_l1=0.25, supervised_layers="all")


def terms_of_boxes(prediction, targets, nano, config=BOXES, reduce=None):
    return loss_terms(occupancy_case()[1], prediction, Targets(boxes=targets), config, nano, reduce)


def test_queries_that_equal_the_boxes_are_matched_and_cost_nothing(nano):
    prediction, targets = box_case()
    logits, codes = torch.full((1, 12, 10), -9.0), prediction.codes.detach()[:1].clone()
    for row, query in enumerate((7, 2, 11)):
        codes[0, query], logits[0, query, targets.labels[row]] = targets.codes[row], 9.0
    (match,) = match_boxes(BoxPrediction(logits, codes), targets, [0], 2.0, 0.25)
    assert dict(zip(match.queries.tolist(), match.boxes.tolist())) == {7: 0, 2: 1, 11: 2}
    terms = terms_of_boxes(BoxPrediction(logits, codes), targets, nano)
    assert terms["box_l1.0"] == 0 and terms["box_class.0"] < 1e-6


def test_velocity_weighs_in_the_loss_but_not_in_the_matching(nano):
    prediction, targets = box_case(boxes=1)
    shifted = BoxTargets(targets.codes + torch.tensor([0.0] * 8 + [100.0, 100.0]), targets.labels)
    layers = [0, 1]
    for one, other in zip(*(match_boxes(prediction, t, layers, 2.0, 0.25) for t in (targets, shifted))):
        assert torch.equal(one.queries, other.queries)
    near, far = (terms_of_boxes(prediction, t, nano)["box_l1.1"] for t in (targets, shifted))
    assert far > near + 0.25 * 0.2 * 150


def test_the_order_of_the_boxes_does_not_matter(nano):
    prediction, targets = box_case()
    turned = BoxTargets(targets.codes.flip(0), targets.labels.flip(0))
    one, other = (terms_of_boxes(prediction, t, nano) for t in (targets, turned))
    assert set(one) == {"box_class.0", "box_l1.0", "box_class.1", "box_l1.1"}
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_only_the_last_layer_is_supervised_where_the_configuration_says_so(nano):
    prediction, targets = box_case()
    terms = terms_of_boxes(prediction, targets, nano, replace(BOXES, supervised_layers="last"))
    assert set(terms) == {"box_class.1", "box_l1.1"}
    sum(terms.values()).backward()
    assert (prediction.class_logits.grad[0] == 0).all() and (prediction.codes.grad[1] != 0).any()


def test_a_frame_without_boxes_says_that_no_query_is_one(nano):
    prediction, targets = box_case(boxes=0)
    terms = terms_of_boxes(prediction, targets, nano)
    assert terms["box_l1.0"] == 0
    none = torch.full((12,), 10)
    wanted = 2 * plain_focal_sum(prediction.class_logits[0].detach(), none)
    torch.testing.assert_close(terms["box_class.0"], wanted)
    sum(terms.values()).backward()
    assert (prediction.codes.grad == 0).all() and (prediction.class_logits.grad > 0).all()


def test_more_boxes_than_queries(nano):
    prediction, targets = box_case(queries=2, boxes=5)
    assert all(len(match.queries) == 2 for match in match_boxes(prediction, targets, [0, 1], 2.0, 0.25))
    assert all(value.isfinite() for value in terms_of_boxes(prediction, targets, nano).values())


def test_the_number_of_boxes_is_reduced_across_processes(nano):
    prediction, targets = box_case()
    seen = []

    def mean_over_processes(count):
        seen.append(float(count))
        return count * 2

    alone = terms_of_boxes(prediction, targets, nano)
    together = terms_of_boxes(prediction, targets, nano, reduce=mean_over_processes)
    assert seen == [3.0]  # once, whatever the layers: processes must call it equally often
    for name in alone:
        torch.testing.assert_close(together[name], alone[name] / 2)


def test_predictions_that_are_not_finite_are_named(nano):
    prediction, targets = box_case()
    broken = BoxPrediction(prediction.class_logits, prediction.codes.detach() * float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        terms_of_boxes(broken, targets, nano)


def test_the_loss_falls_when_it_is_followed(nano):
    leaves, logits, targets = occupancy_case()
    step = torch.optim.Adam(leaves.values(), lr=0.5)
    first = sum(loss_terms(logits, None, targets, DENSE, nano).values())
    for _ in range(25):
        step.zero_grad()
        loss = sum(loss_terms(logits, None, targets, DENSE, nano).values())
        loss.backward()
        step.step()
    assert loss < 0.1 * first


def test_published_losses_and_changes_of_them():
    occ, pan = (train_config(f"pano_small_{kind}").losses for kind in ("occ3d", "1f"))
    assert (occ.occupancy_ce, occ.gate_focal, occ.supervised_layers) == (10.0, 2.0, "last")
    assert (pan.semantic_lovasz, pan.thing_focal, pan.supervised_layers) == (10.0, 5.0, "all")
    without = train_config("pano_small_occ3d", {"losses": {"box_class": 0, "box_l1": 0}}).losses
    assert occ.uses_boxes and not without.uses_boxes and without.gate_focal == 2.0
    weighed = train_config("nano", {"losses": {"class_weights": {"pedestrian": 7}}}).losses.class_weights
    assert weighed["pedestrian"] == 7 and weighed["bicycle"] == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"occupancy_ce": -1.0}, "occupancy_ce must be 0 to 1000000"),
        ({"occupancy_ce": float("nan")}, "occupancy_ce must be 0 to 1000000"),
        ({}, "all weights are 0"),
        ({"occupancy": 1.0}, "unknown key 'occupancy'"),
        ({"box_l1": 1.0, "code_weights": [1, 1]}, "code_weights must have 10 entries, not 2"),
        ({"box_l1": 1.0, "code_weights": [1] * 9 + [-1]}, r"code_weights\[9\] must be 0 to 1000000"),
        ({"box_l1": 1.0, "code_weights": [1] * 9 + [float("nan")]}, r"code_weights\[9\] must be 0 to 1000000, not nan"),
        ({"occupancy_ce": 1.0, "class_weights": {"car": "much"}}, "class_weights.'car': 'much' is not of type float"),
        ({"occupancy_ce": 1.0, "class_weights": [1.0]}, "class_weights: must be a mapping"),
        ({"occupancy_ce": 1.0, "lovasz_voxels": "all"}, "lovasz_voxels: 'all' is not one of"),
    ],
)
def test_unusable_losses_are_refused_by_name(data, message):
    with pytest.raises(ConfigError, match=f"losses.*{message}"):
        build(LossConfig, data, "losses")


def test_thousands_of_equal_errors():
    """Ties, zeros and ones in the sort: being wrong everywhere costs 1."""
    probabilities = torch.tensor(np.repeat([[0.0, 1.0], [1.0, 0.0]], 3000, axis=0), dtype=torch.float32)
    labels = torch.cat((torch.zeros(3000, dtype=torch.long), torch.ones(3000, dtype=torch.long)))
    torch.testing.assert_close(lovasz_softmax(probabilities, labels), torch.tensor(1.0))
