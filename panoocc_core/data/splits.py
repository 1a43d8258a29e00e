"""Which scenes belong to a split: nuScenes' own by name (config/nuscenes_splits.yaml), others as a list in a file."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ..base.resources import folder
from ..base.strict_yaml import load_yaml
from .errors import DataError

MAX_LIST_BYTES = 1 << 20
# Folder of tables -> the split on which networks are measured: v1.0-trainval holds what they were trained on, too.
MEASURED_SPLIT = {"v1.0-trainval": "val", "v1.0-mini": "mini_val", "v1.0-test": "test"}


@cache
def official_splits() -> dict[str, tuple[str, ...]]:
    """nuScenes' splits by name, each with its scenes."""
    table = load_yaml(folder("config") / "nuscenes_splits.yaml")
    return {name: tuple(f"scene-{n:04d}" for n in _numbers(text)) for name, text in table.items()}


def _numbers(text: str) -> Iterator[int]:
    for part in text.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def split_scenes(split: str | Path) -> tuple[str, ...]:
    """The scenes of one of nuScenes' splits, or of a text file: one name a line, `#` begins a comment.

    Raises:
        DataError: neither such a name nor a readable list, or a scene is there twice.
    """
    known = official_splits()
    if str(split) in known:
        return known[str(split)]
    path = Path(split)
    if not path.is_file():
        raise DataError(
            f"split {str(split)!r}: is none of {', '.join(known)}, and no file; give one of them, or a text file with "
            "one scene name a line"
        )
    if path.stat().st_size > MAX_LIST_BYTES:
        raise DataError(f"{path}: has {path.stat().st_size} bytes and is no list of scenes; give one name a line")
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of scenes ({error}); give one name a line") from error
    names = tuple(line for line in lines if line)
    if not names or len(set(names)) != len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        raise DataError(f"{path}: names {'no scene' if twice is None else twice + ' twice'}; give each name once")
    return names
