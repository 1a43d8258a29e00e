"""The picture of a report: bars of classes in their colours, lines over distance, cells of classes by distance."""

import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics.report import Report, Section, Table
from .canvas import BACKGROUND, TEXT
from .charts import LINES, new_figure, shade, styled, write_figure

WIDTH_IN, ROW_IN, EXTRA_IN = 14.0, 0.24, 0.75  # of the picture; of a row of a table; of what is around one
LINES_IN = 3.0  # of curves
HEADING_LETTERS = 190  # in a line
TOGETHER = "\u00a0"  # a space at which no line ends


def write_scores(path: Path, report: Report) -> None:
    """Draw the scores of a report above its tables in two columns, as PNG, SVG or PDF by the name's ending.

    Raises:
        ValueError: the ending is none of these.
        OSError: the folder is missing or cannot be written.
    """
    with styled():
        write_figure(path, _figure(report))


def _figure(report: Report) -> Any:
    columns: list[list[tuple[Section, Table]]] = [[], []]
    for section in report.sections:
        for table in section.tables:
            min(columns, key=_height_in).append((section, table))
    lines, tall_in = [*_heading(report)], max(map(_height_in, columns))
    head_in = 0.5 + 0.2 * len(lines)
    figure = new_figure(WIDTH_IN, head_in + tall_in)
    head, body = figure.subfigures(2, 1, height_ratios=[head_in, max(tall_in, 0.01)])
    head.text(0.01, 1 - 0.28 / head_in, report.title, fontsize=16, fontweight="bold")
    head.text(0.01, 1 - 0.42 / head_in, "\n".join(lines), va="top")
    for part, column in zip(body.subfigures(1, 2), columns):
        heights = [_height_in([one]) for one in column]
        if column:
            spare = [max(tall_in - sum(heights), 0.01)]
            plots = part.subplots(len(column) + 1, 1, gridspec_kw={"height_ratios": heights + spare}, squeeze=False)[
                :, 0
            ]
            plots[-1].set_axis_off()
            for plot, (section, table) in zip(plots, column):
                {"bars": _bars, "lines": _lines, "cells": _cells}[table.shown_as](plot, table)
                subject = f": {table.columns[0].heading}" if table.shown_as == "bars" else ""
                plot.set_title(f"{section.name}, {table.name}{subject}")
    return figure


def _height_in(column: list[tuple[Section, Table]]) -> float:
    return sum(EXTRA_IN + (LINES_IN if table.shown_as == "lines" else ROW_IN * len(table.rows)) for _, table in column)


def _heading(report: Report) -> Iterator[str]:
    yield from textwrap.wrap(", ".join(f"{name} {value}" for name, value in report.facts.items()), HEADING_LETTERS)
    for section in report.sections:
        scores = [
            f"{s.name} {_shown(s.value, s.unit)}{TOGETHER + '%' if s.unit == '%' else ''}" for s in section.scores
        ]
        yield from textwrap.wrap(f"{section.name}: {', '.join(scores)}", HEADING_LETTERS, subsequent_indent="    ")


def _bars(plot: Any, table: Table) -> None:
    """The first column, a bar a row; a share fills the width, else the largest value does."""
    values, unit = table.values[:, 0], table.columns[0].unit
    bars = plot.barh(range(len(values)), np.nan_to_num(values), color=_colours(table), height=0.75)
    plot.bar_label(bars, [_shown(value, unit) for value in values], padding=4)
    plot.set_xlim(0, 1.12 if unit == "%" else 1.12 * max(np.nan_to_num(values).max(initial=0), 1e-9))
    plot.set_xticks([])
    _name_rows(plot, table)


def _lines(plot: Any, table: Table) -> None:
    """Shares from row to row, a line a column."""
    for column, values in zip(table.columns, table.values.T):
        if column.unit == "%":
            plot.plot(100 * values, marker="o", label=column.name, clip_on=False)
    plot.set_xticks(range(len(table.rows)), table.rows)
    plot.set_ylim(0, 100)
    plot.set_ylabel("%")
    plot.legend(loc="upper right")


def _cells(plot: Any, table: Table) -> None:
    """Every value in a cell of its row's colour, the fuller the larger the share."""
    shares = np.clip(np.nan_to_num(table.values, posinf=0, neginf=0), 0, 1)[..., None]
    own = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _colours(table)]).reshape(-1, 1, 3)
    fill = (np.array(BACKGROUND) * (1 - shares) + own * shares).astype(np.uint8)
    plot.imshow(fill, aspect="auto", interpolation="nearest")
    for (row, column), value in np.ndenumerate(table.values):
        ink = "#14161a" if fill[row, column].mean() > 140 else shade(TEXT)
        plot.text(column, row, _shown(value, table.columns[column].unit), ha="center", va="center", color=ink)
    plot.set_xticks(range(len(table.columns)), [column.name for column in table.columns])
    plot.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    _name_rows(plot, table)


def _name_rows(plot: Any, table: Table) -> None:
    plot.set_yticks(range(len(table.rows)), [row.replace("_", " ") for row in table.rows])
    plot.set_ylim(len(table.rows) - 0.5, -0.5)
    plot.tick_params(length=0)
    plot.grid(False)


def _colours(table: Table) -> list[str]:
    return [LINES[0]] * len(table.rows) if table.colours is None else [shade(colour) for colour in table.colours]


def _shown(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "-"
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if unit == "" else f"{value:.2f} {unit}"
