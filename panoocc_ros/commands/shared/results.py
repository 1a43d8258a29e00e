"""Whether the files that a command is to leave have a place: seen before the work begins, which may take long."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from panoocc_core.base.overwriting import OTHER_NAME, why_taken

from ...ros.exit_codes import NOT_WRITTEN
from .failures import Ended


def check_results(
    results: Mapping[str, Path],
    endings: Mapping[str, Collection[str]],
    overwrite: bool,
    why_foreign: Callable[[Path], str | None],
    inputs: Collection[Path] = (),
) -> None:
    """That every file can be written, and replaces only what it may.

    Args:
        results: option -> file.
        endings: option -> those that its name may have.
        why_foreign: see `why_taken`.
        inputs: what is read meanwhile.

    Raises:
        Ended: a folder is missing, or something else has the name.
        ValueError: a name has another ending, is given twice or that of an input.
    """
    read = {path.resolve() for path in inputs}
    for option, path in results.items():
        if path.suffix.lower() not in endings[option]:
            raise ValueError(f"{option} {path}: give a name that ends in {' or '.join(endings[option])}")
        if not path.parent.is_dir():
            raise Ended(f"{option} {path}: there is no folder {path.parent}", NOT_WRITTEN)
        if path.resolve() in read:
            raise ValueError(f"{option} {path} is what is read: {OTHER_NAME}")
        if why := why_taken(path, overwrite, why_foreign):
            raise Ended(f"{option} {why}", NOT_WRITTEN)
    if len({path.resolve() for path in results.values()}) < len(results):
        raise ValueError(f"{' and '.join(results)} name the same file: each result needs its own")
