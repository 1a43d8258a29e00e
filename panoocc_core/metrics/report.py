"""What was measured, as one tree: to read as text, to keep as JSON, to look at as a picture (`pictures.scores`).

Shares such as an IoU are kept as fractions of 1 and shown in percent.  NaN, a score that does not exist, is shown as
"-" and becomes null in JSON.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..labels import BOX_CLASSES, Colour, LabelSet, label_set
from .confusion import Confusion, DistanceConfusion, Scores
from .detection import ERRORS, DetectionScores
from .panoptic import PanopticQuality
from .ray_iou import RayIoU
from .ray_pq import RayPQ
from .seen_space import SeenSpace
from .tracking import TrackingQuality

VISIBLE_NAMES = {  # of seen_space.VISIBLE_SCORES
    "visible_iou": "visible IoU",
    "falsely_visible": "falsely visible",
    "falsely_hidden": "falsely hidden",
    "free_but_occupied": "free but occupied",
    "free_but_occupied_hidden": "free but occupied, hidden",
    "free_but_occupied_truly_visible": "free but occupied, truly visible",
}
ERROR_UNITS = ("m", "%", "rad", "m/s", "%")  # of detection.ERRORS


@dataclass(frozen=True, slots=True)
class Score:
    """One number with its name; the unit "%" says that it is a fraction of 1, "" that it is a count."""

    name: str
    value: float
    unit: str = "%"


@dataclass(frozen=True, slots=True)
class Column:
    """What a column of a table holds, see `Score`."""

    name: str
    unit: str = "%"

    @property
    def heading(self) -> str:
        return f"{self.name} {self.unit}".strip()


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows by columns of numbers.

    Raises:
        ValueError: the values are not rows by columns, or a name occurs twice.
    """

    name: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    values: Scores  # [rows, columns]
    shown_as: Literal["bars", "lines", "cells"] = "bars"  # in the picture
    colours: tuple[Colour, ...] | None = None  # of the rows

    def __post_init__(self) -> None:
        wanted = (len(self.rows), len(self.columns))
        if self.values.shape != wanted:
            raise ValueError(f"table {self.name}: values have the shape {self.values.shape}, not {wanted}")
        if len(set(self.rows)) < len(self.rows) or len({c.name for c in self.columns}) < len(self.columns):
            raise ValueError(f"table {self.name}: a row or a column occurs twice")


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One kind of truth: voxels, points or boxes."""

    name: str
    scores: tuple[Score, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All of one evaluation."""

    title: str
    sections: tuple[Section, ...]
    facts: Mapping[str, str | int | float] = field(default_factory=dict)  # what a reader must know to judge it
    notes: tuple[str, ...] = ()  # sentences, below the numbers


def voxel_section(
    labels: LabelSet,
    by_distance: DistanceConfusion,
    panoptic: PanopticQuality | None = None,
    rays: RayIoU | None = None,
    tracks: TrackingQuality | None = None,
    ray_instances: RayPQ | None = None,
    components: PanopticQuality | None = None,
    name: str = "voxels",
) -> Section:
    """Classes of voxels, also by distance; with instances, tracks and rays where they were measured.

    `components`: what connected voxels of the classes without boxes are worth, to compare with.

    Raises:
        ValueError: something was counted over other classes than those of the labels.
    """
    total, shown = by_distance.total, _shown(labels)
    scores = [
        Score("mIoU", total.miou(labels)),
        Score("mIoU of present classes", total.miou_of_present(labels)),
        *_geometric(labels, total),
    ]
    columns = {Column("IoU"): total.iou()}
    if panoptic is not None:
        scores += _panoptic_scores(labels, panoptic)
        columns |= _panoptic_columns(panoptic)
    if components is not None:
        scores.append(Score("PQ of present classes, connected voxels", components.means_of_present(labels).pq))
    if tracks is not None:
        scores += _tracking_scores(tracks)
    if rays is not None:
        scores.append(Score("RayIoU", rays.mean()))
        scores += [Score(f"RayIoU at {limit:g} m", mean) for limit, mean in zip(rays.thresholds_m, rays.means())]
        scores.append(Score("RayIoU of present classes", rays.mean_of_present()))
        columns[Column("RayIoU")] = rays.iou().mean(axis=0)
    if ray_instances is not None:
        means = zip(ray_instances.thresholds_m, ray_instances.means())
        scores.append(Score("RayPQ", ray_instances.mean()))
        scores += [Score(f"RayPQ at {limit:g} m", mean) for limit, mean in means]
        scores.append(Score("RayPQ of present classes", ray_instances.mean_of_present()))
        columns[Column("RayPQ")] = ray_instances.pq().mean(axis=0)
    columns[Column("true voxels", "")] = total.counts.sum(axis=1)
    distances = Table(
        name="by distance",
        rows=by_distance.names,
        columns=(
            Column("mIoU"),
            *(Column(s.name) for s in _geometric(labels, total)),
            Column("mIoU of present classes"),
            Column("voxels", ""),
        ),
        values=np.array([_distance_row(labels, confusion) for confusion in by_distance.bins]),
        shown_as="lines",
    )
    cells = Table(
        name="IoU by class and distance",
        rows=tuple(labels.names[i] for i in shown),
        columns=tuple(Column(bin_name) for bin_name in by_distance.names),
        values=np.stack([confusion.iou()[shown] for confusion in by_distance.bins], axis=1),
        shown_as="cells",
        colours=tuple(labels.colours[i] for i in shown),
    )
    return Section(name, tuple(scores), (_class_table(labels, shown, columns), distances, cells))


def point_section(
    labels: LabelSet,
    confusion: Confusion,
    ignored: Sequence[int],
    quality: PanopticQuality | None = None,
    tracks: TrackingQuality | None = None,
    name: str = "points",
) -> Section:
    """Classes of points; with instances and tracks where they were measured.

    Raises:
        ValueError: the points were counted over other classes than those of the labels.
    """
    scores = [
        Score("mIoU", confusion.miou(labels, ignored)),
        Score("mIoU of present classes", confusion.miou_of_present(labels, ignored)),
    ]
    columns = {Column("IoU"): confusion.iou(ignored)}
    if quality is not None:
        scores += _panoptic_scores(labels, quality)
        columns |= _panoptic_columns(quality)
    if tracks is not None:
        scores += _tracking_scores(tracks)
    columns[Column("true points", "")] = confusion.counts.sum(axis=1)
    shown = [i for i in _shown(labels) if i not in ignored]
    return Section(name, tuple(scores), (_class_table(labels, shown, columns),))


def box_section(scores: DetectionScores, name: str = "boxes") -> Section:
    """Detections; classes that are not in truth count as the devkit counts them, and are shown as such.

    Raises:
        ValueError: the scores are not those of all box classes.
    """
    if len(scores.true_count) != len(BOX_CLASSES):
        raise ValueError(f"a report shows all {len(BOX_CLASSES)} box classes, not {len(scores.true_count)}")
    summary = [Score("mAP", scores.mean_ap), Score("NDS", scores.nds)]
    summary += [Score(f"m{error}", v, unit) for error, v, unit in zip(ERRORS, scores.mean_errors, ERROR_UNITS)]
    summary.append(Score("NDS without attributes", scores.nds_without_attributes))
    if scores.true_count.any():
        summary.append(Score("mAP of present classes", scores.of_present().mean_ap))
        summary.append(Score("NDS of present classes", scores.of_present().nds))
    columns = {
        Column("AP"): scores.class_ap,
        **{Column(error, unit): v for error, unit, v in zip(ERRORS, ERROR_UNITS, scores.errors.T)},
        Column("true boxes", ""): scores.true_count,
    }
    table = _class_table(label_set("boxes", BOX_CLASSES), range(len(BOX_CLASSES)), columns)
    return Section(name, tuple(summary), (table,))


def visible_section(found: SeenSpace, name: str = "visible") -> Section:
    """What is called visible against what the cameras truly see, and what of the free space is occupied."""
    summary = [Score(VISIBLE_NAMES[key], value) for key, value in found.scores().items()]
    rows = {row: [*scores.values()] for row, scores in found.by_distance().items()}
    columns = [*(Column(score.name) for score in summary), Column("free and visible", "")]
    values = np.hstack((np.array([*rows.values()]), found.called_free()[:, 1:]))
    return Section(name, tuple(summary), (Table("by distance", tuple(rows), tuple(columns), values, "lines"),))


def as_text(report: Report) -> str:
    """The report as aligned lines."""
    lines = [report.title, *_aligned([[f"  {name}", str(value)] for name, value in report.facts.items()], left=2)]
    for section in report.sections:
        lines += ["", section.name]
        lines += _aligned([[f"  {s.name}", _number(s.value, s.unit), s.unit] for s in section.scores])
        for table in section.tables:
            heading = [f"  {table.name}", *(column.heading for column in table.columns)]
            body = [
                [f"  {row}", *(_number(v, column.unit) for v, column in zip(values, table.columns))]
                for row, values in zip(table.rows, table.values)
            ]
            lines += ["", *_aligned([heading, *body])]
    wrapped = [textwrap.fill(n, 118, initial_indent="  - ", subsequent_indent="    ") for n in report.notes]
    return "\n".join([*lines, *(["", "notes"] if wrapped else []), *wrapped]) + "\n"


def as_plain(report: Report) -> dict[str, Any]:
    """The report as plain numbers and texts: sections by name, in them `scores` and tables by name, row, column."""
    return {
        "title": report.title,
        "facts": {name: value if isinstance(value, str) else _plain(value) for name, value in report.facts.items()},
        "sections": {
            section.name: {
                "scores": {score.name: _plain(score.value) for score in section.scores},
                **{table.name: _plain_table(table) for table in section.tables},
            }
            for section in report.sections
        },
        "notes": list(report.notes),
    }


def _shown(labels: LabelSet) -> list[int]:
    return [i for i in range(len(labels.names)) if i != labels.free_id]


def _class_table(labels: LabelSet, shown: Sequence[int], columns: Mapping[Column, Any]) -> Table:
    return Table(
        name="classes",
        rows=tuple(labels.names[i] for i in shown),
        columns=tuple(columns),
        values=np.stack([np.asarray(values, float)[list(shown)] for values in columns.values()], axis=1),
        colours=tuple(labels.colours[i] for i in shown),
    )


def _geometric(labels: LabelSet, confusion: Confusion) -> list[Score]:
    return [] if labels.free_id is None else [Score("geometric IoU", confusion.geometric_iou(labels))]


def _distance_row(labels: LabelSet, confusion: Confusion) -> list[float]:
    geometric = [score.value for score in _geometric(labels, confusion)]
    return [confusion.miou(labels), *geometric, confusion.miou_of_present(labels), float(confusion.counts.sum())]


def _panoptic_scores(labels: LabelSet, quality: PanopticQuality) -> list[Score]:
    means, present = quality.means(labels), quality.means_of_present(labels)
    return [
        Score("PQ", means.pq),
        Score("SQ", means.sq),
        Score("RQ", means.rq),
        Score("PQ dagger", means.pq_dagger),
        Score("PQ of present classes", present.pq),
        Score("PQ dagger of present classes", present.pq_dagger),
    ]


def _tracking_scores(tracks: TrackingQuality) -> list[Score]:
    means = tracks.means()
    return [
        Score("STQ", means.stq),
        Score("AQ", means.aq),
        Score("STQ of present classes", tracks.means_of_present().stq),
        Score("true objects", means.objects, ""),
        Score("followed objects", means.followed, ""),
        Score("id switches", means.id_switches, ""),
    ]


def _panoptic_columns(quality: PanopticQuality) -> dict[Column, Scores]:
    return {Column("PQ"): quality.pq(), Column("SQ"): quality.sq(), Column("RQ"): quality.rq()}


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return "-"
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if unit == "" else f"{value:.3f}"


def _aligned(rows: list[list[str]], left: int = 1) -> list[str]:
    """Lines of cells: the first `left` columns to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    lines = [
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in rows
    ]
    return [line.rstrip() for line in lines]


def _plain(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if isinstance(value, (int, np.integer)) else float(value)


def _plain_table(table: Table) -> dict[str, dict[str, float | int | None]]:
    return {
        row: {
            column.name: _plain(int(v) if column.unit == "" and math.isfinite(v) else float(v))
            for column, v in zip(table.columns, values)
        }
        for row, values in zip(table.rows, table.values)
    }
