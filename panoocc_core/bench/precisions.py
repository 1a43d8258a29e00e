"""What half precision changes: logits and classes against float32 as the network is written, and the scores."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..base.devices import BF16_CAPABILITY, TENSOR_CORES_CAPABILITY
from ..base.processors import multiplies_natively
from ..config import ModelConfig
from ..evaluation import Measures, evaluate
from ..ground_truth import Drive, naming_frame
from ..network import NonFiniteError
from ..stream import OccupancyStream
from ..weights.checkpoint import load_model
from .comparison import Agreement, compare, reference_stream

AGREEMENT_FRAMES = 10  # of the first drive
SCORED = Measures(without_history=False, rays=False, points=False, boxes=False, visible=False)


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """A network at one precision; scores are fractions of 1, None where the truth does not give them."""

    precision: str
    agreement: Agreement | None  # None: it overflowed
    miou: float | None
    geometric_iou: float | None
    pq: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def multiplied_natively(device: torch.device) -> tuple[str, ...]:
    """The precisions that a device has instructions for; others are converted, and save no time."""
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        since = {"fp32": 0, "fp16": TENSOR_CORES_CAPABILITY, "bf16": BF16_CAPABILITY}
        return tuple(name for name, capability in since.items() if major >= capability)
    halves = ("fp16", "bf16")
    return ("fp32", *(name for name in halves if multiplies_natively(name)))


def precision_sweep(
    config: ModelConfig,
    checkpoint: Path | None,
    drives: Sequence[Drive],
    precisions: Sequence[str],
    device: str | torch.device = "cpu",
    on_frame: Callable[[], object] = lambda: None,
) -> list[PrecisionRow]:
    """The same weights at every precision on the same drives.

    Args:
        on_frame: called for every frame that is compared or scored.

    Raises:
        CheckpointError, ValueError: as `load_model` and `evaluate`.
    """
    drive = drives[0]
    frames = []
    for index in range(min(AGREEMENT_FRAMES, len(drive))):
        with naming_frame(drive, index):
            frames.append(drive.frame(index))
    rows = []
    for precision in precisions:
        network = load_model(config, checkpoint, device=device, precision=precision)
        try:
            reference = reference_stream(config, checkpoint, seeded_weights=False, device=device)
            agreement = compare(OccupancyStream(network), reference, frames, on_frame)
            scores = evaluate(network, drives, SCORED, on_frame)
        except NonFiniteError:
            rows.append(PrecisionRow(precision, None, None, None, None))
            continue
        voxels = None if scores.voxels is None else scores.voxels.total
        rows.append(
            PrecisionRow(
                precision,
                agreement,
                None if voxels is None else voxels.miou_of_present(config.labels),
                None if voxels is None else voxels.geometric_iou(config.labels),
                None if scores.panoptic is None else scores.panoptic.means_of_present(config.labels).pq,
            )
        )
    return rows


def frames_of_sweep(drives: Sequence[Drive], precisions: Sequence[str]) -> int:
    """How often `precision_sweep` calls `on_frame` where nothing overflows."""
    return len(precisions) * (min(AGREEMENT_FRAMES, len(drives[0])) + sum(map(len, drives)))


def precision_table(rows: Sequence[PrecisionRow], device: torch.device, title: str) -> str:
    """The rows as text, and what the device multiplies natively."""

    def percent(value: float | None, digits: int = 2) -> str:
        return "-" if value is None or value != value else f"{100 * value:.{digits}f} %"

    native = multiplied_natively(device)
    head = (
        f"{'precision':>9s} {'native':>6s} {'worst logit':>11s} {'same class':>11s} {'occupied':>9s} "
        f"{'mIoU':>8s} {'IoU':>8s} {'PQ':>8s}"
    )
    lines = [title, head]
    for row in rows:
        first = f"{row.precision:>9s} {'yes' if row.precision in native else 'no':>6s}"
        if row.agreement is None:
            lines.append(f"{first} overflows: logits are not finite")
            continue
        found = row.agreement
        worst = "-" if found.worst_logit is None else f"{found.worst_logit:.2g}"
        lines.append(
            f"{first} {worst:>11s} {percent(found.same_class, 4):>11s} {percent(found.same_occupied):>9s} "
            f"{percent(row.miou):>8s} {percent(row.geometric_iou):>8s} {percent(row.pq):>8s}"
        )
    compared = next((row.agreement.frames for row in rows if row.agreement is not None), 0)
    lines += [
        f"worst logit and same class: against float32 as the network is written, on {compared} frames of the first "
        "drive; occupied: same class of the voxels that either calls occupied.",
        "native: the device multiplies the format itself; others are converted and save no time.",
    ]
    return "\n".join(lines)
