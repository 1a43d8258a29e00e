"""Everything that the node says about itself in one go, from the books of its parts."""

from collections import Counter
from dataclasses import dataclass

from ..frames.sets import AssemblerStatus
from ..node.settings import NodeSettings
from .latency import Summary
from .ledger import Accounts
from .verdicts import (
    ERROR,
    OK,
    WARN,
    CameraReport,
    Health,
    ModelReport,
    OutputReport,
    camera_health,
    model_health,
    output_health,
    timing_health,
)

SHIPPED = "shipped with the package"
MISSING_CAMERA = "missing_camera"  # sets that were never complete: counted beside the sets, not among them


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What does not change while the node runs."""

    name: str
    device: str
    load_s: float


@dataclass(frozen=True, slots=True)
class Books:
    """All counters at one moment."""

    status: AssemblerStatus
    cameras: list[CameraReport]
    accounts: Accounts
    summary: Summary
    busy: bool
    subscribers: int  # of the grids
    node_age_s: float
    clock_stands: bool  # simulated time has not begun


def healths(settings: NodeSettings, facts: ModelFacts, books: Books) -> list[Health]:
    """One status per subject: clock, every camera, transforms, sets, model, timing, output."""
    cameras = [camera_health(camera, books.node_age_s, settings.camera_timeout_s) for camera in books.cameras]
    transforms = transforms_health(books.status)
    inputs = [clock_health(books.clock_stands), *cameras, transforms]
    return [
        *inputs,
        sets_health(books.status),
        model_health(_model_report(settings, facts, books.accounts, books.status)),
        timing_health(books.summary, settings.latency_warn_ms, settings.latency_error_ms),
        output_health(_output_report(books), inputs),
    ]


def clock_health(stands: bool) -> Health:
    """ERROR while the node is told to take its time from /clock and nobody sends it: no deadline ever passes then."""
    if stands:
        return Health("clock", ERROR, "use_sim_time is set, but nothing has come on /clock: play with --clock")
    return Health("clock", OK, "time goes on")


def transforms_health(status: AssemblerStatus) -> Health:
    """ERROR while sets are lost for the lack of a transform; WARN about transforms that were refused."""
    lost = sum(count for (reason, _), count in status.set_drops.items() if reason.startswith("tf_"))
    values = {"fixed_frame": status.fixed_frame or "not known yet", "sets_lost": str(lost)}
    if status.tf_missing is not None:
        return Health("transforms", ERROR, status.tf_missing, values)
    refused = status.of_kind("refused")
    if refused:
        return Health("transforms", WARN, f"a transform was refused: {refused[0].text}", values)
    return Health("transforms", OK, f"history is fused through {values['fixed_frame']}", values)


def sets_health(status: AssemblerStatus) -> Health:
    """How many sets the synchroniser formed, and which cameras kept others from being complete."""
    incomplete = incomplete_sets(status)
    values = {"formed": str(status.sets), "with_transforms": str(status.ready), "waiting": str(status.waiting)}
    values |= {f"incomplete.{camera}": str(count) for camera, count in incomplete.items()}
    if incomplete:
        names = ", ".join(f"{camera} ({count})" for camera, count in incomplete.most_common())
        return Health("sets", WARN, f"sets without an image of {names}", values)
    return Health("sets", OK, f"{status.sets} sets", values)


def incomplete_sets(status: AssemblerStatus) -> Counter[str]:
    """Camera -> sets that it kept from being complete."""
    return Counter({camera: count for (reason, camera), count in status.set_drops.items() if reason == MISSING_CAMERA})


def _output_report(books: Books) -> OutputReport:
    drops = Counter(books.accounts.drops)
    for (reason, _), count in books.status.set_drops.items():
        if reason != MISSING_CAMERA:
            drops[reason] += count
    return OutputReport(
        sets_in=books.status.sets,
        grids_out=books.accounts.grids,
        drops=drops,
        waiting=books.status.waiting,
        collecting=books.status.collecting,
        working=books.busy,
        subscribers=books.subscribers,
        last_grid_age_s=books.accounts.last_grid_age_s,
        last_problem=books.accounts.problem,
        problem_level=ERROR if books.accounts.failure else WARN,
    )


def _model_report(
    settings: NodeSettings, facts: ModelFacts, accounts: Accounts, status: AssemblerStatus
) -> ModelReport:
    return ModelReport(
        name=facts.name,
        weights="seeded" if settings.seeded_weights else settings.checkpoint or SHIPPED,
        seeded=settings.seeded_weights,
        device=facts.device,
        precision=settings.precision,
        history_fused=accounts.history_fused,
        states_kept=accounts.states_kept,
        resets=accounts.resets,
        failures=accounts.failures,
        last_failure=accounts.failure,
        load_s=facts.load_s,
    )
