"""What a new bag may replace: a bag of ours and nothing else, and never what is read meanwhile."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from panoocc_core.base.overwriting import OTHER_NAME, why_taken

from .bag import METADATA, BagError, BagWriteError

MARK = {"written_by": "panoocc"}  # in the custom data of our bags' metadata
MAX_METADATA_BYTES = 16 << 20  # of other people's files
NOT_OURS = "it is no bag that panoocc wrote"
# An MCAP file holds its metadata.yaml in the record `rosbag2`, under this key; texts follow their lengths.
_METADATA_KEY = b"\x13\0\0\0serialized_metadata"


def check_output(path: Path, overwrite: bool, inputs: Collection[Path] = ()) -> None:
    """That a bag may be written at `path`: it is free, or holds a bag of ours that may be replaced.

    Args:
        inputs: files and folders that are read meanwhile; links and hard links to them count as themselves.

    Raises:
        BagWriteError: the path is taken, by something else than a bag of ours or without `overwrite`.
        BagError: an input lies at or inside `path`.
    """
    if not path.exists():  # also a link that leads nowhere yet
        return
    place = path.resolve()
    for given in inputs:
        if given.resolve().is_relative_to(place):
            raise BagError(
                f"--out {path} {'is' if given.resolve() == place else 'holds'} the input {given}: {OTHER_NAME}"
            )
    if why := why_taken(path, overwrite, _what_is_not_ours):
        raise BagWriteError(why)
    for given in inputs:
        if _identities(given) & _identities(path):
            raise BagError(f"--out {path} has hard links to the input {given}: {OTHER_NAME}")


def _identities(path: Path) -> set[tuple[int, int]]:
    """Of a file, or of the files in a bag's folder."""
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path] if path.exists() else []
    return {(status.st_dev, status.st_ino) for status in (file.stat() for file in files)}


def _what_is_not_ours(path: Path) -> str | None:
    """Why something is no bag that panoocc wrote; None where it is one."""
    try:
        if not path.is_dir():
            return None if path.is_file() and _is_marked(_mcap_metadata(path)) else NOT_OURS
        names = {entry.name for entry in path.iterdir()}
        if METADATA not in names:
            return "it is a folder but no bag"
        with (path / METADATA).open("rb") as file:
            information = yaml.safe_load(file.read(MAX_METADATA_BYTES))["rosbag2_bagfile_information"]
        if not _is_marked(information):
            return NOT_OURS
        others = sorted(names - {METADATA, *information["relative_file_paths"]})
        return f"it holds other files ({', '.join(others[:3])}{', ...' if others[3:] else ''})" if others else None
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError, RecursionError):
        return NOT_OURS


def _is_marked(information: Any) -> bool:
    custom = information.get("custom_data") if isinstance(information, dict) else None
    return isinstance(custom, dict) and custom.items() >= MARK.items()


def _mcap_metadata(path: Path) -> Any:
    """What metadata.yaml would say, from the end of an MCAP file; None where it is not there."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_METADATA_BYTES))
        before, key, record = file.read().rpartition(_METADATA_KEY)
    return yaml.safe_load(record[4 : 4 + int.from_bytes(record[:4], "little")]) if key else None
