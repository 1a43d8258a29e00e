"""The last step of own training: how readily each class is chosen, set on drives that were not learned from.

Losses weigh rare classes up, so that they are learned at all; afterwards the best class is not always the likeliest
choice.  A constant added to the logits of each class puts that right, and becomes part of the classifier's bias.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ground_truth import Drive, naming_frame
from ..labels import LabelSet
from ..memory import VoxelMemory
from ..metrics.confusion import Confusion
from ..network import Network
from ..stream import encode
from .targets import dense_targets

STEPS = (-0.6, -0.3, -0.15, 0.15, 0.3, 0.6)
ROUNDS = 3
LARGEST = 1.2
MIN_GAIN = 2e-4  # of the mean IoU, below which a change is noise


@torch.no_grad()
def calibrate(model: Network, drives: Sequence[Drive], every: int = 2) -> dict[str, float]:
    """Change the classifier's bias so that the mean IoU of the voxels that a camera sees grows.

    Args:
        drives: with dense truth, not learned from; all frames fill the memory, every `every`-th one is looked at.

    Returns:
        The constants by class name, and the mean IoU "before" and "after".

    Raises:
        ValueError: no frame is looked at; or the truth of one is not dense, or does not fit the network: the message
            names drive and frame.
    """
    model.eval()
    logits, true, closed = _collected(model, drives, every)
    labels = model.config.labels
    offsets = torch.zeros(logits.shape[1])
    before = best = _miou(logits, true, closed, offsets, labels)
    for _ in range(ROUNDS):
        for k in range(len(offsets)):
            for step in STEPS:
                tried = offsets.clone()
                tried[k] = (tried[k] + step).clamp(-LARGEST, LARGEST)
                miou = _miou(logits, true, closed, tried, labels)
                if miou > best + MIN_GAIN:
                    best, offsets = miou, tried
    bias = model.classifier.bias
    bias.add_(offsets.to(bias))
    return {"before": before, "after": best, **{name: float(value) for name, value in zip(labels.names, offsets)}}


def _collected(model: Network, drives: Sequence[Drive], every: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of all counted voxels: logits [n, class], true classes [n], and where the gate says free, bool [n]."""
    config = model.config
    logits, true, closed = [], [], []
    for drive in drives:
        memory = VoxelMemory()
        for index in range(len(drive)):
            with naming_frame(drive, index):
                step = encode(model, drive.frame(index), memory)
                targets = dense_targets(drive.truth(index), config) if index % every == every - 1 else None
            memory = step.memory
            if targets is None:
                continue
            class_id, mask = targets
            seen = torch.ones(class_id.shape, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
            decoded = model.decode(step.fused)
            logits.append(decoded.classes.cpu()[seen].float())
            true.append(torch.from_numpy(class_id)[seen].long())
            gate, threshold = decoded.gate, config.decoder.gate_threshold
            is_closed = torch.zeros_like(seen)
            if gate is not None and threshold is not None:
                is_closed = gate.cpu().sigmoid() < threshold
            closed.append(is_closed[seen])
    if not logits:
        raise ValueError(f"calibration needs drives of at least {every} frames")
    return torch.cat(logits), torch.cat(true), torch.cat(closed)


def _miou(logits: Tensor, true: Tensor, closed: Tensor, offsets: Tensor, labels: LabelSet) -> float:
    """Mean IoU over the classes present but free space."""
    count = len(labels.names)
    chosen = (logits + offsets).argmax(1)
    if labels.free_id is not None:
        chosen = chosen.masked_fill(closed, labels.free_id)
    pairs = torch.bincount(true * count + chosen, minlength=count * count).view(count, count)
    return Confusion(pairs.numpy()).miou_of_present(labels)
