"""Memory and CPU of the node in every state of its lifecycle, under cameras that go on sending."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..demo.processes import Children
from .run import START_S, Load, cores, environment_with, ours, ros_arguments, sampled, sender_command

SAMPLE_S = 0.25
STATES = 6  # that the node is led through, see `transitions`
SETTLED = 0.5  # share of the time in a state after which it is measured


@dataclass(frozen=True, slots=True)
class StateRow:
    """The node in one state, once it has settled."""

    state: str
    memory_mb: float  # resident
    cpu_cores: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_states(
    load: Load, out: Path, profile: Path | None, stay_s: float, on_sample: Callable[[], object] = lambda: None
) -> list[StateRow]:
    """Lead the node through its lifecycle, `load.seconds` in all, and look at its process meanwhile.

    Raises:
        ProcessError: one of the processes failed, or the node refused a transition.
    """
    times, samples = out / "times.json", list[tuple[float, float, float]]()
    load = replace(load, parameters={**load.parameters, "autostart": False})
    command = [
        sys.executable,
        "-m",
        "panoocc_ros.live_bench.transitions",
        "--stay",
        str(stay_s),
        "--report",
        str(times),
    ]
    with Children(environment_with(profile), out) as children:
        node = children.start("node", [*ours("occupancy_node"), *ros_arguments(load)])
        children.start("sender", sender_command(load, out / "sent.json"))
        on_tick = sampled(node, samples, on_sample)
        children.wait(children.start("transitions", command), START_S + 2 * STATES * stay_s, SAMPLE_S, on_tick=on_tick)
    return rows_of(json.loads(times.read_text()), samples)


def rows_of(times: Sequence[tuple[str, float, float]], samples: Sequence[tuple[float, float, float]]) -> list[StateRow]:
    """A row for each state.

    Args:
        times: state, and the instants between which the node was in it.
        samples: (instant, resident memory, CPU time so far).
    """
    rows = []
    for state, begin_s, end_s in times:
        settled_s = begin_s + SETTLED * (end_s - begin_s)
        memory = [one[1] for one in samples if settled_s <= one[0] <= end_s]
        cpu = cores([(one[0], one[2]) for one in samples], settled_s, end_s)
        rows.append(StateRow(state, float(np.mean(memory)) if memory else float("nan"), cpu))
    return rows


def states_table(rows: Sequence[StateRow]) -> str:
    """The rows as text."""
    head = f"{'state':<46s} {'memory MB':>10s} {'CPU cores':>10s}"
    return "\n".join([head, *(f"{row.state:<46s} {row.memory_mb:10.0f} {row.cpu_cores:10.2f}" for row in rows)])
