"""A drafted rig as the text of a file: every value, with what it follows from, and what a reader has to check."""

from collections.abc import Iterable
from dataclasses import fields

import yaml

from panoocc_core.base.strict_yaml import build, parse_yaml

from ..frames.rig import Rig, RigCamera
from .draft import Draft, DraftCamera

MARK = "# Written by `panoocc rig make`"
CHECK = "CHECK"


def rig_text(draft: Draft, source: str, model: str) -> str:
    """The file's text; it loads as the draft's rig.

    Args:
        source: what it was made of, for the first line.
    """
    rig = draft.rig
    count = sum(len(camera.checks) for camera in draft.cameras) + len(draft.checks) + len(draft.missing)
    fixed = f"auto takes {draft.fixed_frame}" if rig.fixed_frame == "auto" and draft.fixed_frame else ""
    guessed = f"what follows {CHECK} was guessed" if count else "nothing was guessed"
    rows = [
        f"{MARK} from {_line(source)}, with the camera names of {_line(model)}:",
        f"# {guessed}.  `panoocc rig check` measures and draws it all.",
        *_checks(draft.checks),
        *_checks([f"{name}: no camera was left for it, and {model} needs it" for name in draft.missing]),
        _row("reference", rig.reference),
        _row("base_frame", rig.base_frame),
        _row("fixed_frame", rig.fixed_frame, fixed),
        _row("spread_ms", rig.spread_ms),
        *([_row("period_ms", rig.period_ms)] if rig.period_ms is not None else []),
        *([_row("tf_topic", rig.tf_topic)] if rig.tf_topic != "/tf" else []),
        *([_row("tf_static_topic", rig.tf_static_topic)] if rig.tf_static_topic != "/tf_static" else []),
        "cameras:",
        *(row for camera in draft.cameras for row in _camera_rows(camera)),
    ]
    for camera in draft.unused:
        rows.append(
            f"  # not used, as no name of {_line(model)} is left: {_line(camera.topic)}, {_line(camera.info_topic)}"
        )
    text = "\n".join(rows) + "\n"
    assert build(Rig, parse_yaml(text, "the rig"), "the rig") == rig
    return text


def _camera_rows(camera: DraftCamera) -> list[str]:
    usual = {field.name: field.default for field in fields(RigCamera)}
    values = {name: getattr(camera.entry, name) for name in usual}
    told = [f"{name}: {_value(value)}" for name, value in values.items() if value != usual[name]]
    return [f"  # {_line(camera.told)}", *_checks(camera.checks, "  "), f"  - {{{', '.join(told)}}}"]


def _checks(texts: Iterable[str], indent: str = "") -> list[str]:
    return [f"{indent}# {CHECK}: {_line(text)}" for text in texts]


def _row(key: str, value: object, comment: str = "") -> str:
    return f"{key}: {_value(value)}" + (f" # {_line(comment)}" if comment else "")


def _value(value: object) -> str:
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]


def _line(text: object) -> str:
    """One line of a comment, whatever a topic or frame is called."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
