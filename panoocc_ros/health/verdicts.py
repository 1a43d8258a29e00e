"""What the node says about itself: one status per subject, in words that name the cause.  Pure; no ROS here."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .latency import Summary

OK, WARN, ERROR = 0, 1, 2  # the levels of diagnostic_msgs/DiagnosticStatus

OUTPUT = "output"  # the status that says whether grids come out, and why not
TIMING = "timing"  # the status with the latencies of every stage
NO_NEW_GRID = "no new grid"  # its message begins so where the inputs fell silent
SUBSCRIBERS = "subscribers"  # its key for the number of subscriptions to the grids
IDLE, WORKING, WAITING = "idle", "working", "waiting"  # values of its key `state`

READY_TO_OUTPUT = "ready_to_output"  # stage: from a set complete with its transforms to its grid published


@dataclass(frozen=True, slots=True)
class Health:
    """One diagnostic status: a level, a sentence, and numbers."""

    subject: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CameraReport:
    """What is known of one camera; ages are against the node's clock, None where nothing came yet."""

    name: str
    topic: str
    images: int
    image_age_s: float | None
    rate_hz: float
    has_calibration: bool
    info_topic: str
    drops: Mapping[str, int]  # reason -> images or sets lost through this camera
    mismatch: str | None = None  # why a publisher cannot be heard


def camera_health(camera: CameraReport, node_age_s: float, timeout_s: float) -> Health:
    """ERROR when no image came for `timeout_s`, or the calibration or the publisher make images useless."""
    level, message = _camera_verdict(camera, node_age_s, timeout_s)
    age = "never" if camera.image_age_s is None else f"{camera.image_age_s:.2f}"
    values = {"topic": camera.topic, "images": str(camera.images), "rate_hz": f"{camera.rate_hz:.2f}"}
    values["last_image_age_s"] = age
    values |= {f"drops.{reason}": str(count) for reason, count in sorted(camera.drops.items())}
    return Health(f"camera {camera.name}", level, message, values)


def _camera_verdict(camera: CameraReport, node_age_s: float, timeout_s: float) -> tuple[int, str]:
    is_silent = camera.image_age_s is None or camera.image_age_s > timeout_s
    if camera.mismatch and (is_silent or not camera.has_calibration):
        return ERROR, camera.mismatch
    if camera.image_age_s is None:
        level = ERROR if node_age_s > timeout_s else WARN
        return level, f"no image yet on {camera.topic}; is the camera running, is the topic of the rig right?"
    if camera.image_age_s > timeout_s:
        return ERROR, f"dead: the last image on {camera.topic} came {camera.image_age_s:.1f} s ago"
    if not camera.has_calibration:
        return ERROR, f"no CameraInfo yet on {camera.info_topic}; images cannot be used without it"
    if camera.mismatch:
        return WARN, f"{camera.rate_hz:.1f} Hz, but another publisher is not heard: {camera.mismatch}"
    if camera.drops:
        return OK, f"{camera.rate_hz:.1f} Hz; lost so far: {_counts(camera.drops)}"
    return OK, f"{camera.rate_hz:.1f} Hz"


@dataclass(frozen=True, slots=True)
class OutputReport:
    """Sets in, grids out, and what lies between."""

    sets_in: int
    grids_out: int
    drops: Mapping[str, int]  # reason -> sets
    waiting: int  # sets that wait for transforms or for the worker
    collecting: int  # sets whose images are still coming
    working: bool
    subscribers: int
    last_grid_age_s: float | None
    last_problem: str | None  # text of the newest drop or failure since the last grid
    problem_level: int = WARN


def output_health(report: OutputReport, inputs: list[Health]) -> Health:
    """OK while grids come; else the reason why not: what the set was dropped for, or what is missing at the input."""
    state = WORKING if report.working else WAITING if report.waiting or report.collecting else IDLE
    age = "never" if report.last_grid_age_s is None else f"{report.last_grid_age_s:.2f}"
    values = {
        "state": state,
        SUBSCRIBERS: str(report.subscribers),
        "sets_in": str(report.sets_in),
        "grids_out": str(report.grids_out),
        "sets_dropped": str(sum(report.drops.values())),
        "last_grid_age_s": age,
    }
    values |= {f"drops.{reason}": str(count) for reason, count in sorted(report.drops.items())}
    level, message = _output_verdict(report, inputs)
    return Health(OUTPUT, level, message, values)


def _output_verdict(report: OutputReport, inputs: list[Health]) -> tuple[int, str]:
    if report.last_problem:
        return report.problem_level, f"no grid from the last set: {report.last_problem}"
    bad = [health for health in inputs if health.level == ERROR] or [health for health in inputs if health.level]
    has_sets = report.working or report.waiting > 0
    if bad and not has_sets:
        others = f" (and {', '.join(health.subject for health in bad[1:])})" if len(bad) > 1 else ""
        return bad[0].level, f"{NO_NEW_GRID}: {bad[0].subject}: {bad[0].message}{others}"
    if report.grids_out:
        return OK, f"{report.grids_out} grids from {report.sets_in} sets"
    return (OK, "first set in work") if has_sets else (WARN, "no grid yet: no complete set of images has come")


def timing_health(summary: Summary, warn_ms: float, error_ms: float) -> Health:
    """Percentiles per stage; limits apply to the p95 from complete set to grid (0: no limit)."""
    values = {f"{stage}.{key}": f"{number:g}" for stage, numbers in summary.items() for key, number in numbers.items()}
    if READY_TO_OUTPUT not in summary:
        return Health(TIMING, OK, "no grid yet", values)
    p95_ms = summary[READY_TO_OUTPUT]["p95_ms"]
    message = f"{p95_ms:.0f} ms from complete set to grid (p95)"
    for level, limit_ms in ((ERROR, error_ms), (WARN, warn_ms)):
        if limit_ms and p95_ms > limit_ms:
            return Health(TIMING, level, f"{message}, more than the limit of {limit_ms:g} ms", values)
    return Health(TIMING, OK, message, values)


def summary_from_values(values: Mapping[str, str]) -> Summary:
    """The summary back from the values of a timing status."""
    summary: Summary = {}
    for name, number in values.items():
        stage, _, key = name.rpartition(".")
        summary.setdefault(stage, {})[key] = int(number) if key == "count" else float(number)
    return summary


@dataclass(frozen=True, slots=True)
class ModelReport:
    """The network and what its memory did last."""

    name: str
    weights: str
    seeded: bool
    device: str
    precision: str
    history_fused: int
    states_kept: int
    resets: Mapping[str, int]
    failures: int
    last_failure: str | None  # text of the newest failure since the last grid
    load_s: float


def model_health(report: ModelReport) -> Health:
    """WARN while the weights are seeded (the voxels mean nothing), ERROR while the last step failed."""
    values = {
        "model": report.name,
        "weights": report.weights,
        "device": report.device,
        "precision": report.precision,
        "history_fused": str(report.history_fused),
        "states_kept": str(report.states_kept),
        "failures": str(report.failures),
        "load_s": f"{report.load_s:.2f}",
    }
    values |= {f"resets.{reason}": str(count) for reason, count in sorted(report.resets.items())}
    if report.last_failure:
        return Health("model", ERROR, f"the last step failed: {report.last_failure}", values)
    if report.seeded:
        return Health("model", WARN, "weights are seeded, not trained: the voxels mean nothing", values)
    return Health("model", OK, f"{report.name} on {report.device}", values)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(counts).most_common())
