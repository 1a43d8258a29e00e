"""Scores that others published (`config/published.yaml`), to stand beside those that are measured here."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from ..base.ranges import Ranged
from ..base.resources import folder
from ..base.strict_yaml import build, load_yaml
from .report import Column, Report, Section, Table

ScoreName = Literal["mIoU", "PQ", "SQ", "RQ", "PQ dagger", "mAP", "NDS"]  # as in a report's sections
Subject = Literal["all", "voxels", "points", "panoptic", "boxes"]
COLUMNS = (Column("here"), Column("published"), Column("difference"))


@dataclass(frozen=True, slots=True)
class Published(Ranged):
    """What is known of one network."""

    split: str  # of nuScenes
    source: str
    scores: dict[ScoreName, float]  # fractions of 1; one that was not published is left out


@dataclass(frozen=True, slots=True)
class _Table(Ranged):
    networks: dict[str, Published]
    protocol: dict[Subject, tuple[str, ...]]


@cache
def _table() -> _Table:
    path = folder("config") / "published.yaml"
    return build(_Table, load_yaml(path), path.name)


def published_scores(preset: str) -> Published | None:
    """What was published for a preset, or None.

    Raises:
        ConfigError: the table is damaged.
    """
    return _table().networks.get(preset)


def beside(report: Report, published: Published, split: str) -> Report:
    """A report with the published numbers beside its own, and what was done otherwise where they were measured.

    Args:
        split: what was measured here.

    Raises:
        ConfigError: the table is damaged.
    """
    here = {score.name: score.value for section in report.sections for score in section.scores}
    there = {str(name): value for name, value in published.scores.items()}
    names = [name for name in _names() if name in here or name in there]
    values = np.array([(here.get(name, math.nan), there.get(name, math.nan)) for name in names]).reshape(-1, 2)
    table = Table(
        name="score",
        rows=tuple(names),
        columns=COLUMNS,
        values=np.column_stack((values, values[:, 0] - values[:, 1])),
        shown_as="cells",
    )
    kinds = {section.name for section in report.sections}
    kinds |= {"panoptic"} if "points" in kinds and "PQ" in here else set()
    notes = [note for kind, of_kind in _table().protocol.items() if kind in {"all", *kinds} for note in of_kind]
    if split != published.split:
        notes.insert(0, f"NOT COMPARABLE: published for the split {published.split}, measured here on {split}")
    section = Section(f"published for {published.split}", (), (table,))
    return replace(
        report,
        sections=(section, *report.sections),
        facts={**report.facts, "published": published.source},
        notes=(*report.notes, *notes),
    )


def _names() -> tuple[str, ...]:
    return ScoreName.__args__  # type: ignore[attr-defined]
