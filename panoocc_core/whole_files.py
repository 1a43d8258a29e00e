"""Files that are whole or not there: whoever reads one never meets the half that was written before a kill."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path, part: Path | None = None) -> Iterator[Path]:
    """The name to write under: after the block what was written takes the place of `path`, after an exception nothing.

    A process that is killed leaves what it has under that name, and `path` as it was.  Nothing is forced to the disk:
    when the machine itself loses power, the newest file may be lost.

    Args:
        part: the name, in the same folder; default: NAME.part.  Those who write the same file at the same time need
            names of their own.

    Raises:
        OSError: `path` cannot be replaced.
    """
    part = path.with_name(path.name + ".part") if part is None else part
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to hear of
            part.unlink()
        raise
