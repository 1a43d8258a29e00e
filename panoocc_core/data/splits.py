"""Which scenes belong to a split: nuScenes' two small ones by name, any other as a list in a file."""

from pathlib import Path

from .errors import DataError

MAX_LIST_BYTES = 1 << 20
MINI = {
    "mini_train": tuple(f"scene-{n:04d}" for n in (61, 553, 655, 757, 796, 1077, 1094, 1100)),
    "mini_val": ("scene-0103", "scene-0916"),
}


def split_scenes(split: str | Path) -> tuple[str, ...]:
    """The scenes of "mini_train", "mini_val" or a text file: one name a line, `#` begins a comment.

    Raises:
        DataError: neither such a name nor a readable list, or a scene is there twice.
    """
    if str(split) in MINI:
        return MINI[str(split)]
    path = Path(split)
    if not path.is_file():
        raise DataError(
            f"split {str(split)!r}: neither {' nor '.join(MINI)} nor a file; give a text file with one scene name a "
            "line (docs/data.md says how to make those of train and val)"
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
