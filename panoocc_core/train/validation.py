"""How well a network does on drives that it does not learn from, while it is trained."""

from collections.abc import Sequence

import torch

from ..ground_truth import Drive
from ..memory import VoxelMemory
from ..metrics.confusion import Confusion
from ..models.panoocc import PanoOcc
from ..stream import Stopwatch, classes, forward


@torch.no_grad()
def validate(model: PanoOcc, drives: Sequence[Drive], every: int = 2) -> dict[str, float]:
    """mIoU over the classes present and geometric IoU of the voxels that a camera sees, with the stream's history.

    All frames fill the memory; every `every`-th one is counted.
    """
    config = model.config
    confusion = Confusion.empty(len(config.labels.names))
    model.eval()
    for drive in drives:
        memory = VoxelMemory()
        for index in range(len(drive)):
            step = forward(model, drive.frame(index), memory, Stopwatch(model.device))
            memory = step.memory
            if index % every == every - 1:
                truth = drive.truth(index)
                assert truth.class_id is not None
                predicted = classes(step.logits, config)[0].cpu().numpy()
                confusion = confusion.add(predicted, truth.class_id, truth.camera_mask)
    return {"miou": confusion.miou_of_present(config.labels), "geometric_iou": confusion.geometric_iou(config.labels)}
