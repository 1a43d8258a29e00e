"""How well a network does on drives that it does not learn from, while it is trained."""

from collections.abc import Sequence

import torch

from ..ground_truth import Drive, GroundTruth, naming_frame
from ..labels import LIDARSEG
from ..memory import VoxelMemory
from ..metrics.confusion import Confusion
from ..network import Network
from ..panoptic import classes_at
from ..stream import Encoded, classes, encode, output_geometry
from .processes import ALONE, Processes
from .targets import dense_targets, renamed

NOISE = LIDARSEG.names[0]  # the class of points that counts for nobody
SCORES = {"voxels": ("miou", "geometric_iou"), "points": ("point_miou",)}  # by the network's kind of truth


def validate(model: Network, drives: Sequence[Drive], every: int = 2, processes: Processes = ALONE) -> dict[str, float]:
    """mIoU over the classes present, with the stream's history: of the voxels that a camera sees, together with the
    geometric IoU ("occ3d"), or of LiDAR points ("lidar_segmentation").

    Args:
        every: all frames fill the memory; every so many-th one is counted.
        processes: take a drive each in turn; all of them get the scores of all drives.

    Raises:
        ValueError: see `confusion_on`.
    """
    config = model.config
    own = [drives[index] for index in range(processes.rank, len(drives), processes.count)]
    confusion = Confusion(processes.total(confusion_on(model, own, every).counts, model.device))
    if config.truth == "voxels":
        return {
            "miou": confusion.miou_of_present(config.labels),
            "geometric_iou": confusion.geometric_iou(config.labels),
        }
    ignored = [k for k, name in enumerate(config.labels.names) if name == NOISE]
    return {"point_miou": confusion.miou_of_present(config.labels, ignored)}


@torch.no_grad()
def confusion_on(model: Network, drives: Sequence[Drive], every: int = 2) -> Confusion:
    """Which classes the network takes for which, over drives; voxels or points as in `validate`.

    Raises:
        ValueError: the truth lacks what is counted, or does not fit the network; the message names drive and frame.
    """
    model.eval()
    confusion = Confusion.empty(len(model.config.labels.names))
    for drive in drives:
        memory = VoxelMemory()
        for index in range(len(drive)):
            with naming_frame(drive, index):
                step = encode(model, drive.frame(index), memory)
                if index % every == every - 1:
                    confusion = _counted(confusion, model, step, drive.truth(index))
            memory = step.memory
    return confusion


def _counted(confusion: Confusion, model: Network, step: Encoded, truth: GroundTruth) -> Confusion:
    config = step.config
    if config.truth == "voxels":
        true, mask = dense_targets(truth, config)
        return confusion.add(classes(model, step.fused)[0].cpu().numpy(), true, mask)
    if truth.points is None:
        raise ValueError(f"truth: {config.name} is validated at labelled LiDAR points, and this frame has none")
    true = renamed(truth.points.class_id, LIDARSEG, config)
    logits = model.decode(step.fused).classes
    found, _ = classes_at(logits, output_geometry(config), truth.points.position_m, config.points)
    return confusion.add(found, true)
