"""What the demo leaves behind: report.json, the picture and the latency table, from the recording and its bag."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from panoocc_core.base.processors import processor_count
from panoocc_core.base.whole_files import whole_file
from panoocc_core.metrics.seen_space import VISIBLE_SCORES
from panoocc_core.pictures.map_view import map_view
from panoocc_core.pictures.render import contact_sheet, write_png

from ..bags.recording import Recording, images_of_grid, read_recording
from ..evaluation.bag import BagScores
from ..frames.rig import Rig
from ..health.latency import Summary
from ..health.verdicts import NO_NEW_GRID, OUTPUT, TIMING, summary_from_values
from ..messages.fields import stamp_ns
from ..view.numbers import numbered_voxels

NOTE_SEEDED = "weights seeded, not trained"


@dataclass(frozen=True, slots=True)
class DemoRun:
    """How the demo was run."""

    bag: Path
    bag_is_simulated: bool
    pace: str
    wall_s: float
    scenes: tuple[str, ...] = ()


def demo_report(recording: Recording, run: DemoRun) -> dict[str, Any]:
    """Sets, grids, drops, latencies and circumstances, ready for JSON.

    Raises:
        ValueError: the node never said anything on /diagnostics.
    """
    if not recording.diagnostics:
        raise ValueError("the recording has no /diagnostics of the node: it was never ready")
    output, model = _values(recording, OUTPUT), _values(recording, "model")
    return {
        "sets_in": int(output["sets_in"]),
        "grids_out": int(output["grids_out"]),
        "grids_recorded": recording.grids,
        "rate_hz": rate_hz(recording.received_ns),
        "drops": _counts(output, "drops."),
        "incomplete_sets": _counts(_values(recording, "sets"), "incomplete."),
        "resets": _counts(model, "resets."),
        "last_words": _last_words(recording),
        "stages": stages(recording),
        "model": model["model"],
        "weights": "seeded, not trained" if model["weights"] == "seeded" else model["weights"],
        "device": model["device"],
        "precision": model["precision"],
        "history_fused_last": int(model["history_fused"]),
        "bag": "simulated street" if run.bag_is_simulated else str(run.bag),
        "scenes": list(run.scenes),
        "pace": run.pace,
        "wall_s": round(run.wall_s, 1),
        "hardware": hardware(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "ros": os.environ.get("ROS_DISTRO", "unknown"),
        },
    }


def _last_words(recording: Recording) -> str | None:
    """What the node said last of its grids; None where they came, and it misses only images after the end."""
    message = str(recording.diagnostics[OUTPUT].message)
    return None if recording.grids and message.startswith(NO_NEW_GRID) else message


def score_report(scored: BagScores, live: Mapping[str, Any]) -> dict[str, Any]:
    """What the grids are worth, ready for JSON: null for a score that does not exist.

    Args:
        live: what the evaluator said last, subject -> DiagnosticStatus; it should have come to the same.
    """
    running = scored.evaluator.running
    return {
        "miou": _number(running.miou),
        "geometric_iou": _number(running.iou),
        "pq": _number(running.pq),
        "stq": _number(running.stq),
        "aq": _number(running.aq),
        "id_switches": _count(running.id_switches),
        "followed_objects": _count(running.followed),
        **{name: _number(getattr(running, name)) for name in VISIBLE_SCORES},
        "visible_by_distance": {
            row: {name: _number(value) for name, value in found.items()}
            for row, found in scored.evaluator.visible_by_distance.items()
        },
        "class_iou": {name: _number(iou) for name, iou in scored.evaluator.class_iou.items()},
        "running_miou": [[one.stamp_ns * 1e-9, _number(one.running.miou)] for one in scored.frames],
        "evaluated_grids": scored.evaluator.pairs,
        "not_evaluated": scored.evaluator.problem,
        "live_evaluator": {
            subject: {value.key: value.value for value in live[subject].values}
            for subject in ("pairs", "scores")
            if subject in live
        },
    }


def rate_hz(received_ns: Sequence[int]) -> float | None:
    """Grids per second from the first to the last one, by the recorder's clock; None for less than two."""
    if len(received_ns) < 2 or received_ns[-1] <= received_ns[0]:
        return None
    return round((len(received_ns) - 1) / ((received_ns[-1] - received_ns[0]) * 1e-9), 3)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def _count(value: float) -> int | None:
    return None if math.isnan(value) else round(value)


def stages(recording: Recording) -> Summary:
    """Latencies by stage, as the node reported them last."""
    return summary_from_values(_values(recording, TIMING))


def _values(recording: Recording, subject: str) -> dict[str, str]:
    return {value.key: value.value for value in recording.diagnostics[subject].values}


def _counts(values: Mapping[str, str], prefix: str) -> dict[str, int]:
    return {key.removeprefix(prefix): int(value) for key, value in values.items() if key.startswith(prefix)}


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and GPUs of this machine."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": processor_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def write_picture(path: Path, recording: Recording, run: DemoRun, rig: Rig, report: Mapping[str, Any]) -> None:
    """The newest grid beside the images that it was made from.

    Raises:
        BagError: the images are not in the bag.
        ValueError: there is no grid, or no label set to read it with.
    """
    if recording.last_grid is None or recording.labels is None:
        raise ValueError("the recording has no grid, or no label set: there is nothing to draw")
    voxels = numbered_voxels(recording.last_grid, recording.labels).faded()
    images = images_of_grid(run.bag, rig, recording.last_grid)
    seconds = stamp_ns(recording.last_grid.header.stamp) / 1e9
    title = f"PanoOcc {report['model']}, {seconds:.3f} s, earlier frames fused: {recording.last_grid.history_frames}"
    note = NOTE_SEEDED if report["weights"].startswith("seeded") else ""
    write_png(path, contact_sheet(images, voxels, title, note))


def write_overlay(path: Path, message: Any) -> None:
    """The newest ~/overlay/compressed, as it came."""
    with whole_file(path) as part:
        part.write_bytes(bytes(memoryview(message.data)))


def write_map(path: Path, message: Any) -> None:
    """The newest ~/grid_2d from above, the vehicle in its middle."""
    info = message.info
    percent = np.asarray(message.data, np.int8).reshape(info.height, info.width)
    corner_m = (float(info.origin.position.x), float(info.origin.position.y))
    write_png(path, map_view(percent, corner_m, float(info.resolution)))


__all__ = [
    "DemoRun",
    "demo_report",
    "read_recording",
    "score_report",
    "stages",
    "write_map",
    "write_overlay",
    "write_picture",
]
