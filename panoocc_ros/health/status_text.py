"""The statuses as a few lines that a person reads: `~/status`."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import wrap

from .stages import READY_TO_OUTPUT, SUMS
from .verdicts import BUDGET, ERROR, LOOK_AT_TRANSFORMS, OK, OUTPUT, TIMING, WARN, Health, summary_from_values

MODEL = "model"
LEVEL_NAMES = {OK: "OK", WARN: "WARN", ERROR: "ERROR"}
CAMERA = "camera "  # statuses of cameras begin so
CAMERAS_A_LINE, MAX_CAMERA_LINES = 3, 4
MAX_LINE, MAX_PROBLEM_LINES = 200, 2  # characters of a line of a problem, and how many
LARGEST_STAGES = 3
WHAT_NOW = {  # by the subject, where a status brings no remedy of its own; no path, since a vehicle has no docs/
    "transforms": LOOK_AT_TRANSFORMS,
    "sets": "look at the cameras above; their statuses have the reasons",
    "geometry": "panoocc rig check",
    "model": "give a checkpoint; `panoocc models` lists presets and their weights",
    "timing": "a smaller preset, a lower camera rate, or precision fp16 on CUDA",
    "clock": "ros2 bag play --clock, or set use_sim_time to false",
    "callbacks": "report it with the log",
    "labels": "ros2 topic hz on the clouds' topic",
}
ALL_STATUSES = "ros2 topic echo --once /diagnostics"


class StatusText:
    """Makes the text; remembers the last problem after it has ended."""

    def __init__(self, name: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._name, self._now_s = name, now_s
        self._problem: tuple[float, Health] | None = None  # when it was seen last

    def text(self, healths: Sequence[Health]) -> str:
        """At most a dozen lines."""
        found = {health.subject: health for health in healths}
        worst = _worst(healths)
        if worst is not None:
            self._problem = self._now_s(), worst
        lines = [self._head(found[OUTPUT])]
        lines += _rows("cameras", _cameras(healths))
        if TIMING in found:
            lines += _rows("latency", [_latency(found[TIMING])])
        if BUDGET in found:
            lines += _rows("budget", [_budget(found[BUDGET].values)])
        if MODEL in found:
            lines += _rows("model", [_model(found[MODEL].values)])
            lines += _rows("history", [_history(found[MODEL].values)])
        return "\n".join([*lines, *self._problem_lines(worst)])

    def _head(self, output: Health) -> str:
        values = output.values
        if "grids_out" not in values:  # it is not active
            return f"{self._name}: {LEVEL_NAMES[output.level]}, {values.get('state', 'starting')}"
        drops = _counts(values, "drops.")
        dropped = f", {values['sets_dropped']} dropped ({drops})" if drops else ""
        return (
            f"{self._name}: {LEVEL_NAMES[output.level]}, {values['rate_hz']} grids a second, the last one "
            f"{values['last_grid_age_s']} s ago; {values['grids_out']} grids from {values['sets_in']} sets{dropped}"
        )

    def _problem_lines(self, worst: Health | None) -> list[str]:
        if self._problem is None:
            return _rows("problem", ["none so far"])
        seen_s, health = self._problem
        when = "now" if worst is not None else f"{self._now_s() - seen_s:.0f} s ago"
        told = f"{when}, {LEVEL_NAMES[health.level]}: {health.subject}: {health.message}"
        lines = wrap(told, MAX_LINE, max_lines=MAX_PROBLEM_LINES, placeholder=" [...]")
        return _rows("problem", lines) + _rows("do", [health.remedy or WHAT_NOW.get(health.subject, ALL_STATUSES)])


def _worst(healths: Iterable[Health]) -> Health | None:
    """What is the matter: causes before the output, which repeats them; last what the parameters alone say."""
    bad = [health for health in healths if health.level != OK]
    is_standing = lambda health: (health.level, health.subject) == (WARN, MODEL)  # noqa: E731
    return max(bad, key=lambda health: (health.level, not is_standing(health), health.subject != OUTPUT), default=None)


def _rows(title: str, texts: Sequence[str]) -> list[str]:
    return [f"{title if number == 0 else '':8} {text}" for number, text in enumerate(texts)]


def _cameras(healths: Iterable[Health]) -> list[str]:
    """All cameras, a few in a line; of many those alone that are not well."""
    cameras = [health for health in healths if health.subject.startswith(CAMERA)]
    if not cameras:
        return []
    well = sum(health.level == OK for health in cameras)
    most = CAMERAS_A_LINE * MAX_CAMERA_LINES
    shown = cameras if len(cameras) <= most else [health for health in cameras if health.level != OK][: most - 1]
    texts = [_camera(health) for health in shown]
    if len(cameras) > most:
        texts.insert(0, f"{well} of {len(cameras)} well")
    return [" | ".join(texts[k : k + CAMERAS_A_LINE]) for k in range(0, len(texts), CAMERAS_A_LINE)]


def _camera(health: Health) -> str:
    values, age = health.values, health.values["last_image_age_s"]
    level = "" if health.level == OK else f" {LEVEL_NAMES[health.level]}"
    dropped = sum(int(count) for key, count in values.items() if key.startswith("drops."))
    drops = f", {dropped} dropped" if dropped else ""
    seen = "no image yet" if age == "never" else f"{float(values['rate_hz']):.1f} Hz, {age} s ago{drops}"
    return f"{health.subject.removeprefix(CAMERA)}{level}: {seen}"


def _latency(timing: Health) -> str:
    summary = summary_from_values(timing.values)
    if READY_TO_OUTPUT not in summary:
        return "no grid yet"
    whole = summary[READY_TO_OUTPUT]
    stages = {name: one["p50_ms"] for name, one in summary.items() if name not in SUMS}
    largest = sorted(stages, key=lambda name: -stages[name])[:LARGEST_STAGES]
    parts = ", ".join(f"{name} {stages[name]:.0f}" for name in largest)
    return f"{whole['p50_ms']:.0f} ms (p95 {whole['p95_ms']:.0f}) from complete set to grid; most of it: {parts}"


def _budget(values: Mapping[str, str]) -> str:
    taken = f"{values['set_ms']} of {values['budget_ms']} ms" if "set_ms" in values else f"{values['budget_ms']} ms"
    left_out = values.get("left_out_now", "")
    return f"{taken} a set; " + (f"left out: {left_out}" if left_out else "nothing is left out")


def _model(values: Mapping[str, str]) -> str:
    memory = _counts(values, "memory_mb.", " MB")
    return f"{values['model']} on {values['device']} ({values['precision']}), weights {values['weights']}; {memory}"


def _history(values: Mapping[str, str]) -> str:
    resets = _counts(values, "resets.") or "none"
    return f"{values['history_fused']} states fused, back to {values['history_s']} s; resets: {resets}"


def _counts(values: Mapping[str, str], prefix: str, unit: str = "") -> str:
    """`busy 3, failed 1` from values `drops.busy`, `drops.failed`."""
    return ", ".join(
        f"{key.removeprefix(prefix)} {value}{unit}" for key, value in values.items() if key.startswith(prefix)
    )
