"""Files that are whole or not there: whoever reads one never meets the half that was written before a kill."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path, part: Path | None = None) -> Iterator[Path]:
    """The name to write under: after the block what was written takes the place of `path`, after an exception nothing.

    A process that is killed leaves what it has under that name, and `path` as it was.  Nothing is forced to the disk:
    when the machine itself loses power, the newest file may be lost.  A link stays, and what it leads to is replaced; a
    device or pipe cannot be replaced and is written directly.

    Args:
        part: the name, in the same folder; default: NAME.part.  Those who write the same file at the same time need
            names of their own.

    Raises:
        OSError: `path` cannot be replaced; one from within the block that names no file gets the name of `path`.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        with _named(path):
            yield path
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    part = target.with_name(f"{target.name}.part" if part is None else part.name)
    try:
        with _named(path):
            yield part
            part.replace(target)
    except BaseException:
        with suppress(OSError):  # the first error is the one to hear of
            part.unlink()
        raise


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON.

    Raises:
        OSError: as that of `whole_file`.
        ValueError: a number is NaN or infinite.
    """
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the system without a file's name, such as that of a full disk, gets this one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
