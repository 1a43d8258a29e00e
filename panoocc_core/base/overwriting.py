"""What a new file or folder may replace: what is of its own kind, and that only where it was asked for."""

from collections.abc import Callable
from pathlib import Path

from .image_files import PNG_HEAD

OTHER_NAME = "choose another name"
_HEADS = {  # ending -> what a file of this kind has, and where
    ".rrd": (0, b"RRF2"),
    ".mp4": (4, b"ftyp"),
    ".gif": (0, b"GIF8"),
    ".webp": (8, b"WEBP"),
    ".png": (0, PNG_HEAD),
    ".svg": (0, b"<?xml"),
    ".pdf": (0, b"%PDF"),
}


def why_taken(path: Path, overwrite: bool, why_foreign: Callable[[Path], str | None]) -> str | None:
    """Why nothing may be written at `path`, and what to do; None where it is free or may be replaced.

    A link that leads nowhere is free.

    Args:
        why_foreign: why what is there is of another kind than what would replace it; None where it is not.
    """
    if not path.exists():
        return None
    if not overwrite:
        return f"{path} exists already: {OTHER_NAME}, or replace it with --overwrite (in Python: overwrite=True)"
    other = why_foreign(path)
    return other and f"{path} is not overwritten: {other}; {OTHER_NAME}, or remove it yourself"


def why_other_kind(path: Path) -> str | None:
    """Why a file is not what its ending says, by what it begins with."""
    kind = path.suffix.lower()
    place, head = _HEADS[kind]
    if path.is_file():
        with path.open("rb") as file:
            if file.read(16)[place:].startswith(head):
                return None
    return f"it is no {kind} file"
