"""Numbers of scenes over time, as one picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from panoocc_core.labels import LabelSet
from panoocc_core.pictures.charts import new_figure, shade, styled, write_figure

from .scene import Scene

TITLES = {
    "latency_ms": ("after the stamp", "ms"),
    "stage_ms": ("stages of the node, median", "ms"),
    "share": ("share of the grid", "%"),
    "things": ("things", ""),
}
MAX_LEGEND = 12  # stages, the slowest first
LONG = 3.0  # times the median step between grids: what is longer is a gap


class Plotter:
    """Collects the numbers of scenes."""

    def __init__(self) -> None:
        self._stamps_ns: list[int] = []
        self._series: dict[str, list[float]] = {}  # as long as `_stamps_ns`; NaN where a scene does not have it
        self._labels: LabelSet | None = None

    def show(self, scene: Scene) -> None:
        """Take the numbers of a scene."""
        before = len(self._stamps_ns)
        self._stamps_ns.append(scene.stamp_ns)
        self._labels = scene.voxels.labels
        for name, value in scene.numbers.items():
            self._series.setdefault(name, [np.nan] * before).append(value)
        for values in self._series.values():
            values.extend([np.nan] * (before + 1 - len(values)))

    def write(self, path: Path, title: str) -> None:
        """Draw what was taken.

        Raises:
            ValueError: there was nothing, or the name ends in no kind of picture.
            OSError: the file cannot be written.
        """
        if not self._stamps_ns or self._labels is None:
            raise ValueError(f"{path}: there is nothing to plot")
        order = np.argsort(self._stamps_ns, kind="stable")
        times_s = (np.array(self._stamps_ns)[order] - min(self._stamps_ns)) * 1e-9
        kinds = {kind: found for kind in TITLES if (found := dict(self._of(kind, order)))}
        with styled():
            figure = new_figure(12, 3.4 + 2.2 * len(kinds))
            figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
            plots = figure.subplots(
                1 + len(kinds), 1, sharex=True, gridspec_kw={"height_ratios": [1.5] + [1.0] * len(kinds)}, squeeze=False
            )[:, 0]
            self._draw_classes(plots[0], times_s, order)
            for plot, (kind, found) in zip(plots[1:], kinds.items()):
                draw_lines(plot, times_s, found, *TITLES[kind])
            plots[-1].set_xlabel("s")
            write_figure(path, figure)

    def _of(self, kind: str, order: Any) -> Iterator[tuple[str, Any]]:
        for name, values in self._series.items():
            if name.startswith(f"{kind}/") and not np.isnan(values).all():
                yield name.partition("/")[2], np.array(values)[order]

    def _draw_classes(self, plot: Any, times_s: Any, order: Any) -> None:
        """Voxels of each class on top of each other, the commonest below; those that never occur are left out."""
        assert self._labels is not None
        colours = dict(zip(self._labels.names, self._labels.colours))
        found = sorted(self._of("classes", order), key=lambda item: -np.nansum(item[1]))
        found = [(name, np.nan_to_num(values)) for name, values in found if np.nansum(values) > 0]
        plot.set_title("voxels by class")
        if found:
            names, rows = zip(*found)
            shown = [name.replace("_", " ") for name in names]
            breaks = gaps(times_s)
            # Nothing from the last grid before a gap to the first one after it.
            edges_s = np.insert(
                times_s, np.repeat(breaks, 2), np.stack([times_s[breaks - 1], times_s[breaks]], 1).ravel()
            )
            broken = [np.insert(row, np.repeat(breaks, 2), 0.0) for row in rows]
            plot.stackplot(edges_s, *broken, labels=shown, colors=[shade(colours[name]) for name in names])
            plot.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True, fontsize=8)
        plot.margins(x=0)


def gaps(times_s: Any) -> Any:
    """Places in times [n], as of `np.insert`, before which grids are missing: far longer than usual after the last."""
    steps_s = np.diff(times_s)
    return np.flatnonzero(steps_s > LONG * np.median(steps_s)) + 1 if len(steps_s) else np.zeros(0, np.int64)


def draw_lines(plot: Any, times_s: Any, found: dict[str, Any], title: str, unit: str) -> None:
    """Draw numbers [n] by name over their times, with a break where grids are missing."""
    largest = sorted(found, key=lambda name: -np.nanmax(found[name]))[:MAX_LEGEND]
    breaks = gaps(times_s)  # where no line leads across
    broken_s = np.insert(times_s, breaks, np.nan)
    for name in largest:
        plot.plot(
            broken_s,
            np.insert(found[name], breaks, np.nan),
            label=name.replace("_", " "),
            linewidth=1.4,
            marker=".",
            markersize=4,
        )
    plot.set_title(title)
    plot.set_ylabel(unit)
    if plot.dataLim.y0 >= 0:
        plot.set_ylim(0.0, 1.1 * plot.dataLim.y1 or 1.0)
    plot.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
