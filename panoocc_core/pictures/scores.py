"""The picture of a report: bars of classes in their colours, lines over distance, cells of classes by distance."""

import math

import cv2
import numpy as np

from ..labels import Colour
from ..metrics.report import Report, Section, Table
from .canvas import BACKGROUND, FAINT, PANEL, TEXT, Image, blank, put_text, text_size

_MARGIN, _LINE = 16, 24
_SMALL, _TINY = 0.46, 0.4
_LINES: tuple[Colour, ...] = (
    (108, 182, 255),
    (255, 196, 70),
    (140, 214, 140),
    (232, 120, 160),
    (176, 148, 240),
    (90, 210, 210),
)
_DIM: Colour = (150, 156, 168)


def picture(report: Report, width_px: int = 1400) -> Image:
    """RGB uint8 [h, width_px, 3]: a heading with the scores, below it the tables in two columns.

    Raises:
        ValueError: the picture would be too narrow to be read.
    """
    if width_px < 640:
        raise ValueError(f"a report needs at least 640 pixels of width, not {width_px}")
    each = (width_px - 3 * _MARGIN) // 2
    columns: list[list[Image]] = [[], []]
    for section in report.sections:
        for table in section.tables:
            shortest = min(columns, key=lambda column: sum(len(panel) for panel in column))
            shortest += [_panel(section, table, each), blank(_MARGIN, each)]
    tall = max(sum(len(panel) for panel in column) for column in columns)
    body = blank(tall, width_px)
    for place, column in enumerate(columns):
        if column:
            stack, left = np.vstack(column), _MARGIN + place * (each + _MARGIN)
            body[: len(stack), left : left + each] = stack
    return np.vstack((_heading(report, width_px), body))


def _heading(report: Report, width_px: int) -> Image:
    rows = [_fitting(", ".join(f"{name} {value}" for name, value in report.facts.items()), width_px - 2 * _MARGIN)]
    for section in report.sections:
        scores = [f"{s.name} {_shown(s.value, s.unit)}{' %' if s.unit == '%' else ''}" for s in section.scores]
        rows += _wrapped(f"{section.name}:  ", scores, width_px - 2 * _MARGIN)
    rows = [row for row in rows if row]
    head = blank(54 + len(rows) * _LINE + 8, width_px)
    put_text(head, _ascii(report.title), (_MARGIN, 38), 0.9, (245, 246, 248), bold=True)
    for i, row in enumerate(rows):
        put_text(head, _ascii(row), (_MARGIN, 54 + i * _LINE + 14), _SMALL, TEXT)
    return head


def _panel(section: Section, table: Table, width_px: int) -> Image:
    draw = {"bars": _bars, "lines": _lines, "cells": _cells}[table.shown_as]
    inner = draw(table, width_px - 2 * _MARGIN)
    panel = blank(len(inner) + 44 + _MARGIN, width_px, PANEL)
    subject = f": {table.columns[0].heading}" if table.shown_as == "bars" else ""
    put_text(panel, _ascii(f"{section.name}, {table.name}{subject}"), (_MARGIN, 28), 0.56, TEXT, bold=True)
    panel[44 : 44 + len(inner), _MARGIN:-_MARGIN] = inner
    return panel


def _bars(table: Table, width_px: int) -> Image:
    """The first column, a bar a row; a share fills the width, else the largest value does."""
    panel, values = blank(len(table.rows) * _LINE, width_px, PANEL), table.values[:, 0]
    finite = values[np.isfinite(values)]
    whole = 1.0 if table.columns[0].unit == "%" else max(float(finite.max(initial=0)), 1e-9)
    left, right = _names_width(table), width_px - 56
    for i, (row, value) in enumerate(zip(table.rows, values)):
        y = i * _LINE
        put_text(panel, _ascii(row), (0, y + 16), _SMALL, TEXT)
        cv2.rectangle(panel, (left, y + 4), (right, y + 19), BACKGROUND, -1)
        if math.isfinite(value) and value > 0:
            end = left + round((right - left) * min(value / whole, 1.0))
            cv2.rectangle(panel, (left, y + 4), (end, y + 19), _colour(table, i), -1)
        put_text(panel, _shown(value, table.columns[0].unit), (right + 8, y + 16), _SMALL, TEXT)
    return panel


def _lines(table: Table, width_px: int) -> Image:
    """Shares from row to row, a line a column; the rows stand along the lower edge."""
    shares = [i for i, column in enumerate(table.columns) if column.unit == "%"]
    height, left, top = 190, 44, 10
    panel = blank(top + height + 26 + _LINE * len(shares), width_px, PANEL)
    for percent in (0, 25, 50, 75, 100):
        y = top + height - round(height * percent / 100)
        cv2.line(panel, (left, y), (width_px - 1, y), FAINT, 1)
        put_text(panel, str(percent), (4, y + 4), _TINY, _DIM)
    step = (width_px - left) / max(len(table.rows), 1)
    x_of = [left + round(step * (i + 0.5)) for i in range(len(table.rows))]
    for x, row in zip(x_of, table.rows):
        put_text(panel, _ascii(row), (x - text_size(row, _TINY)[0] / 2, top + height + 18), _TINY, _DIM)
    for place, i in enumerate(shares):
        colour = _LINES[place % len(_LINES)]
        points = [
            (x, top + height - round(height * min(v, 1.0)))
            for x, v in zip(x_of, table.values[:, i])
            if not math.isnan(v)
        ]
        for start, end in zip(points, points[1:]):
            cv2.line(panel, start, end, colour, 2, cv2.LINE_AA)
        for point in points:
            cv2.circle(panel, point, 4, colour, -1, cv2.LINE_AA)
        y = top + height + 26 + place * _LINE
        cv2.line(panel, (left, y + 10), (left + 26, y + 10), colour, 3, cv2.LINE_AA)
        shown = ", ".join(_shown(v, "%") for v in table.values[:, i])
        name = f"{table.columns[i].name}: {shown}"
        put_text(panel, _ascii(name), (left + 36, y + 15), _SMALL, TEXT)
    return panel


def _cells(table: Table, width_px: int) -> Image:
    """Every value in a cell of its row's colour, the fuller the larger the share."""
    panel, left = blank(_LINE * (len(table.rows) + 1), width_px, PANEL), _names_width(table)
    step = (width_px - left) / max(len(table.columns), 1)
    for k, column in enumerate(table.columns):
        place = left + step * (k + 0.5) - text_size(column.name, _TINY)[0] / 2
        put_text(panel, _ascii(column.name), (place, 16), _TINY, _DIM)
    for i, (row, values) in enumerate(zip(table.rows, table.values)):
        y = _LINE * (i + 1)
        put_text(panel, _ascii(row), (0, y + 16), _SMALL, TEXT)
        for k, value in enumerate(values):
            share = min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
            fill = np.array(BACKGROUND) * (1 - share) + np.array(_colour(table, i)) * share
            x, end = left + round(step * k), left + round(step * (k + 1))
            panel[y + 1 : y + _LINE - 1, x + 1 : end - 1] = fill.astype(np.uint8)
            shown = _shown(value, table.columns[k].unit)
            place = (x + end - text_size(shown, _TINY)[0]) / 2
            put_text(panel, shown, (place, y + 16), _TINY, (20, 22, 26) if fill.mean() > 140 else TEXT)
    return panel


def _colour(table: Table, row: int) -> Colour:
    return _LINES[0] if table.colours is None else table.colours[row]


def _names_width(table: Table) -> int:
    return max((text_size(row, _SMALL)[0] for row in table.rows), default=0) + 14


def _shown(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "-"
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if unit == "" else f"{value:.2f} {unit}"


def _ascii(text: str) -> str:
    """The font knows no more; underscores read better as spaces."""
    return text.replace("_", " ").encode("ascii", "replace").decode()


def _fitting(text: str, width_px: int) -> str:
    while text and text_size(_ascii(text), _SMALL)[0] > width_px:
        text = text[: len(text) * 9 // 10 - 3].rstrip() + "..." if len(text) > 12 else ""
    return text


def _wrapped(start: str, parts: list[str], width_px: int) -> list[str]:
    """Lines of as many parts as fit."""
    lines = [start]
    for part in parts:
        longer = f"{lines[-1]}{part}   "
        if text_size(_ascii(longer), _SMALL)[0] > width_px and lines[-1].strip() != start.strip():
            lines.append(" " * 4 + f"{part}   ")
        else:
            lines[-1] = longer
    return lines
