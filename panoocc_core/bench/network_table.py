"""Reports of networks as text and as bars."""

from collections.abc import Sequence
from pathlib import Path

from ..pictures.charts import LINES, new_figure, styled, write_figure
from .floor import TOTAL
from .measured import NetworkReport, Times

EXPLANATION = """\
floor: the least time in which this device can do a frame's products, copies and gathers, counted from the
configuration, at the rates measured in this run; x: how many times as long it takes.  CPU time is of all threads
together, its floor that of one thread; wall time has the floor of all threads.  total: whole steps with a full history,
all that a grid needs; boxes, instances and visible come on top where somebody wants them.  p95, p99: of few frames the
slowest one.  plain, worst logit, same class: CPU time, logits and classes against those of the same network as it is
written, in float32 with reference operators, on the same frames in this run."""
ABSENT = "-"


def network_table(report: NetworkReport) -> str:
    """One setting as text."""
    weights = "seeded" if report.setting.seeded_weights else "trained"
    lines = [
        f"{report.setting.label}: {report.hardware}, {report.frames} frames, {weights} weights",
        f"{'':10s} {'wall ms':>9s} {'':>8s} {'':>8s} {'floor':>8s} {'':>6s} {'CPU ms':>9s} {'floor':>8s} {'':>6s} "
        f"{'':>8s} {'moved':>7s} {'gathered':>8s}",
        f"{'stage':10s} {'p50':>9s} {'p95':>8s} {'p99':>8s} {'ms':>8s} {'x':>6s} {'':>9s} {'ms':>8s} {'x':>6s} "
        f"{'GFLOP':>8s} {'GB':>7s} {'GB':>8s}",
    ]
    lines += [_row(name, times, report) for name, times in _ordered(report)]
    memory = report.memory
    lines.append(
        f"memory: at most {memory.peak:.0f} MB while it streams, {memory.loading:.0f} while it is loaded, "
        f"{memory.before:.0f} before; kept of what is freed: {report.setting.kept}"
    )
    lines += [f"{name}: {rates}" for name, rates in report.rates.items()]
    if report.agreement is not None:
        lines.append(f"against float32 with reference operators, {report.agreement.frames} frames: {report.agreement}")
    return "\n".join(lines)


def _ordered(report: NetworkReport) -> list[tuple[str, Times]]:
    """Stages of a grid, their total, and what comes on top."""
    names = list(report.times)
    return [(name, report.times[name]) for name in sorted(names, key=lambda name: (_is_on_top(name), name == TOTAL))]


def _is_on_top(name: str) -> bool:
    return name in ("instances", "visible", "boxes")


def _row(name: str, times: Times, report: NetworkReport) -> str:
    floor = report.floors.get(name)
    cells = [f"{name:10s} {times.p50:9.1f} {times.p95:8.1f} {times.p99:8.1f}"]
    ratios: dict[str, float | None] = {"cpu": None, "wall": None} if floor is None else times.ratios(floor)
    cells += [_cell(None if floor is None else floor.wall_ms, 8, 1), _cell(ratios["wall"], 6, 2)]
    cells += [_cell(times.cpu, 9, 1), _cell(None if floor is None else floor.cpu_ms, 8, 1), _cell(ratios["cpu"], 6, 2)]
    counts = (None,) * 3 if floor is None else (floor.gflop, floor.moved_gb, floor.gathered_gb)
    cells += [_cell(counts[0], 8, 1), _cell(counts[1], 7, 2), _cell(counts[2], 8, 2)]
    return " ".join(cells)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{ABSENT:>{width}s}" if value is None else f"{value:{width}.{digits}f}"


def summary_table(reports: Sequence[NetworkReport]) -> str:
    """Every setting in a line, and what the words mean."""
    width = max(len(report.setting.label) for report in reports)
    lines = [
        f"{'':{width}s} {'wall ms':>9s} {'':>8s} {'CPU ms':>9s} {'x floor':>13s} {'x':>6s} {'memory':>7s}"
        f" {'worst':>8s} {'same':>9s}",
        f"{'':{width}s} {'p50':>9s} {'p99':>8s} {'':>9s} {'wall':>6s} {'CPU':>6s} {'plain':>6s} {'MB':>7s}"
        f" {'logit':>8s} {'class':>9s}",
    ]
    for report in reports:
        total = report.times[TOTAL]
        ratios, agreement = total.ratios(report.floors[TOTAL]), report.agreement
        worst = None if agreement is None else agreement.worst_logit
        same = ABSENT if agreement is None else f"{100 * agreement.same_class:.3f} %"
        of_plain = None if agreement is None else agreement.of_plain
        lines.append(
            f"{report.setting.label:{width}s} {total.p50:9.1f} {total.p99:8.1f} {_cell(total.cpu, 9, 1)} "
            f"{_cell(ratios['wall'], 6, 2)} {_cell(ratios['cpu'], 6, 2)} {_cell(of_plain, 6, 2)} "
            f"{report.memory.peak:7.0f} {ABSENT if worst is None else f'{worst:.2g}':>8s} {same:>9s}"
        )
    return "\n".join([*lines, EXPLANATION])


def draw_networks(path: Path, reports: Sequence[NetworkReport]) -> None:
    """Bars of the stages of every setting beside their floors, as PNG, SVG or PDF by the name's ending.

    CPU time, or wall time on CUDA.

    Raises:
        ValueError, OSError: as `write_figure`.
    """
    with styled():
        figure = new_figure(9, 1.2 + 2.1 * len(reports))
        axes = figure.subplots(len(reports), 1, squeeze=False)[:, 0]
        for axis, report in zip(axes, reports, strict=True):
            _draw(axis, report)
        axes[0].legend(loc="upper right")
        axes[-1].set_xlabel("ms a frame")
        write_figure(path, figure)


def _draw(axis, report: NetworkReport) -> None:  # type: ignore[no-untyped-def]
    rows = [(name, times) for name, times in _ordered(report) if name in report.floors]
    measured, least, texts = [], [], []
    for name, times in rows:
        floor, of_cpu = report.floors[name], times.cpu is not None and report.floors[name].cpu_ms is not None
        measured.append(times.cpu if of_cpu else times.p50)
        least.append(floor.cpu_ms if of_cpu else floor.wall_ms)
        ratio = times.ratios(floor)["cpu" if of_cpu else "wall"]
        texts.append("" if ratio is None else f"{ratio:.2f} x")
    places = list(range(len(rows)))
    kind = "wall time" if report.setting.device != "cpu" else "CPU time"
    axis.barh(places, measured, height=0.62, color=LINES[0], label="measured")
    axis.barh(places, least, height=0.34, color=LINES[1], label="floor")
    for place, value, text in zip(places, measured, texts):
        axis.annotate(text, (value, place), xytext=(4, 0), textcoords="offset points", va="center")
    axis.set_yticks(places, [name for name, _ in rows])
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_title(f"{report.setting.label}: {kind}")
