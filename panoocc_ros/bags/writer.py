"""Writing rosbag2 (version 9, MCAP with zstd chunks): whole or under another name, and never over what is not ours.

A bag grows in the folder NAME.part beside its place and gets its name when it is whole.  When the disk fills up, what
was written is finished as NAME.partial.mcap; what a killed process left is kept under such a name by the next one.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk

from ..messages.types import typestore
from .bag import LATCHED_TOPICS, MCAP_MAGIC, METADATA, BagError, BagWriteError

MARK = {"written_by": "panoocc"}  # in the custom data of our bags' metadata: only these are ever overwritten
RESERVE_BYTES = 4 << 20  # kept free while writing, so that a bag can be finished on a full disk
MAX_METADATA_BYTES = 16 << 20  # of other people's files
FOOTER_BYTES = 37
OTHER_NAME = "choose another name"
EMPTY_BYTES = 64  # of an MCAP file with no more than its header
RESERVE, REPLACED = "reserve", "replaced"  # names in the working folder

_log = logging.getLogger("panoocc")


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
    if not overwrite:
        raise BagWriteError(
            f"{path} exists already: {OTHER_NAME}, or replace it with --overwrite (in Python: overwrite=True)"
        )
    if other := _what_is_not_ours(path):
        raise BagWriteError(f"{path} is not overwritten: {other}; {OTHER_NAME}, or remove it yourself")
    taken = {_identity(file) for file in _files(path)}
    for given in inputs:
        if any(_identity(file) in taken for file in _files(given)):
            raise BagError(f"--out {path} has hard links to the input {given}: {OTHER_NAME}")


class BagWriter:
    """A new rosbag2.  A path that ends with .mcap becomes one file, any other a folder.

    Both open in Foxglove and play with `ros2 bag play`.  When writing fails, what was written is kept and named; after
    another exception inside `with`, nothing is left behind, unless `keep`.

    Args:
        inputs: what must not be overwritten, see `check_output`.
        keep: after any exception, keep what was written (a recording cannot be made again).

    Raises:
        BagError, BagWriteError: see `check_output`; or the folder cannot be written.
    """

    def __init__(
        self, path: Path | str, overwrite: bool = False, inputs: Collection[Path] = (), keep: bool = False
    ) -> None:
        self.path, self._overwrite, self._inputs, self._keep = Path(path), overwrite, inputs, keep
        self._connections: dict[str, Connection] = {}
        with self._errors():
            self._target = self.path.resolve()  # a link stays, and what it leads to is replaced
            check_output(self.path, overwrite, inputs)
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._work = self._target.with_name(f"{self._target.name}.part")
            self._lock = self._own_folder()
            try:
                check_output(self.path, overwrite, inputs)  # what a killed process had replaced may be back
                self._reserve()
                self._bag: _GrowingBag | None = _GrowingBag(self._work / self._target.stem)
            except BaseException:
                self._leave()
                raise

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._bag is None:  # writing has failed, and what could be kept is kept
                return
            if error is None:
                with self._errors():
                    self._finish()
            elif self._keep and (kept := self._rescue()):
                _log.warning("what was written until then is kept in %s", kept)
        finally:
            self._leave()

    def write(self, topic: str, kind: str, stamp_ns: int, message: Any, latched: bool | None = None) -> None:
        """Write a message object, or its CDR bytes; the first one declares the topic.

        Raises:
            BagWriteError: the disk is full, or the topic had another type before.
        """
        if self._bag is None:
            raise BagWriteError(f"{self.path}: nothing more can be written after an error")
        data = message if isinstance(message, bytes) else bytes(typestore().serialize_cdr(message, kind))
        connection = self._connections.get(topic)
        if connection is None:
            if kind not in typestore().fielddefs:
                raise BagWriteError(f"{topic}: the type {kind} is not known")
            connection = self._bag.declare(topic, kind, topic in LATCHED_TOPICS if latched is None else latched)
            self._connections[topic] = connection
        if connection.msgtype != kind:
            raise BagWriteError(f"{topic} holds {connection.msgtype}, not {kind}")
        with self._errors():
            self._bag.write(connection, stamp_ns, data)

    def flush(self) -> None:
        """Hand what was written so far to the system, so that it outlives a kill.

        Raises:
            BagWriteError: the disk is full.
        """
        if self._bag is not None:
            with self._errors():
                self._bag.flush()

    def _finish(self) -> None:
        assert self._bag is not None
        self._bag.close()
        try:
            check_output(self.path, self._overwrite, self._inputs)  # somebody may have come in between
        except BagError as error:
            raise BagWriteError(f"{error}; what was written is kept in {self._rescue()}") from error
        made = self._bag.folder if self._target.suffix != ".mcap" else self._bag.file
        replaced = self._work / REPLACED
        if self._target.exists():
            os.replace(self._target, replaced)
        try:
            os.replace(made, self._target)
        except OSError:
            if replaced.exists():
                os.replace(replaced, self._target)
            raise
        self._bag = None

    def _rescue(self) -> Path | None:
        """Finish what was written under another name; None where nothing was."""
        bag, self._bag = self._bag, None
        self._free_reserve()
        if bag is None or not bag.finish_what_is_there():
            return None
        kept = _free_name(self._target)
        try:
            os.replace(bag.file, kept)
        except OSError:
            kept = self._work = self._work.rename(_free_name(self._work))  # out of the way of `_leave`
            self._lock.discard()
        return kept

    def _own_folder(self) -> "_FolderLock":
        """The working folder, for this process alone; what a killed process left there is moved to a visible name."""
        if self._work.exists():
            lock = _FolderLock(self._work, self.path)
            try:
                self._keep_what_is_left()
            finally:
                lock.discard()
        try:
            self._work.mkdir()
        except FileExistsError:
            raise BagWriteError(f"{self.path}: {self._work} is in the way: remove it, or choose another name") from None
        return _FolderLock(self._work, self.path)

    def _keep_what_is_left(self) -> None:
        """Empty the folder of a killed process; what is not known to be its own stays, and the folder with it."""
        growing, replaced = self._work / self._target.stem, self._work / REPLACED
        if replaced.exists() and not self._target.exists():
            os.replace(replaced, self._target)
        left = growing / f"{growing.name}.mcap"
        if left.exists() and left.stat().st_size > EMPTY_BYTES:
            kept = _free_name(self._target)
            os.replace(left, kept)
            text = (
                "%s was being written when its process was killed; what it had is in %s (`mcap recover` makes it whole)"
            )
            _log.warning(text, self.path, kept)
        for own in (left, growing / METADATA, self._work / RESERVE):
            own.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            growing.rmdir()
        with contextlib.suppress(OSError):
            self._work.rmdir()

    def _reserve(self) -> None:
        with contextlib.suppress(OSError), (self._work / RESERVE).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)

    def _free_reserve(self) -> None:
        with contextlib.suppress(OSError):
            (self._work / RESERVE).unlink()

    def _leave(self) -> None:
        if self._lock.held:
            shutil.rmtree(self._work, ignore_errors=True)
            self._lock.discard()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeEncodeError) as error:
            is_name = isinstance(error, UnicodeEncodeError)
            reason = "its name is not UTF-8" if is_name else getattr(error, "strerror", None) or error
            kept = self._rescue() if getattr(self, "_bag", None) is not None else None
            what = f"what was written until then is kept in {kept}" if kept else "nothing was kept"
            raise BagWriteError(f"{self.path}: cannot be written: {reason}; {what}") from error


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in the file up to which it can be finished: behind the last whole chunk."""

    position: int
    chunks: int
    counts: dict[int, int]
    first_ns: int
    last_ns: int


class _GrowingBag:
    """rosbags' writer, with places to go back to when the disk refuses to take more."""

    def __init__(self, folder: Path) -> None:
        str(folder).encode()  # metadata.yaml is UTF-8
        self.folder, self.file = folder, folder / f"{folder.name}.mcap"
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in MARK.items():
            self._writer.set_custom_data(key, value)
        self._writer.open()
        assert isinstance(self._writer.storage, McapWriter)
        self._storage = self._writer.storage
        self._pending = self._storage.chunk
        self._marks: list[_Mark] = []
        self._set_mark()

    def declare(self, topic: str, kind: str, latched: bool) -> Connection:
        return self._writer.add_connection(topic, kind, typestore=typestore(), offered_qos_profiles=[_qos(latched)])

    def write(self, connection: Connection, stamp_ns: int, data: bytes) -> None:
        self._pending = self._storage.chunk
        self._writer.write(connection, stamp_ns, data)
        if self._storage.chunk is not self._pending:
            self._set_mark()

    def flush(self) -> None:
        self._pending = self._storage.chunk
        if self._pending.msgs:
            self._storage.close_chunk()
            self._set_mark()

    def close(self) -> None:
        self._pending = self._storage.chunk
        self._writer.close()

    def finish_what_is_there(self) -> bool:
        """Make a whole bag of as many messages as fit; False where there are none."""
        if self._is_whole():
            return True
        counts = dict(self._storage.channel_stats)
        first_ns, last_ns = self._storage.message_start_time, self._storage.message_end_time
        last = self._marks[-1]
        whole = _Mark(last.position, last.chunks, counts, first_ns, last_ns)
        states = [(whole, self._pending)] + [(mark, _no_messages()) for mark in reversed(self._marks)]
        for mark, chunk in states:
            if not any(mark.counts.values()):
                return False
            self._go_back(mark, chunk)
            with contextlib.suppress(OSError):
                self._writer.close()
            if self._is_whole():
                return True
        return False

    def _is_whole(self) -> bool:
        return self._writer.storage is None  # then only the folder's metadata.yaml may be missing

    def _set_mark(self) -> None:
        storage = self._storage
        storage.bio.flush()  # so that a full disk is met here, with the chunk still at hand
        first_ns, last_ns = storage.message_start_time, storage.message_end_time
        counts = dict(storage.channel_stats)
        self._marks.append(_Mark(storage.bio.tell(), len(storage.chunks), counts, first_ns, last_ns))

    def _go_back(self, mark: _Mark, chunk: PendingChunk) -> None:
        storage, writer = self._storage, self._writer
        with contextlib.suppress(OSError, ValueError):  # what its buffer holds must not reach the file any more
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), storage.bio.fileno())
            storage.bio.close()
        storage.bio = self.file.open("r+b")  # type: ignore[assignment]
        storage.bio.truncate(mark.position)
        storage.bio.seek(mark.position)
        storage.chunk = chunk
        del storage.chunks[mark.chunks :]
        storage.channel_stats, writer.counts = dict(mark.counts), dict(mark.counts)
        for connection in writer.connections:
            storage.channel_stats.setdefault(connection.id, 0)
            writer.counts.setdefault(connection.id, 0)
        storage.message_start_time = writer.min_timestamp = mark.first_ns
        storage.message_end_time = writer.max_timestamp = mark.last_ns


class _FolderLock:
    """Tells a folder that is being written from what a killed process has left.

    Raises:
        BagWriteError: another process has it.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.discard()
            raise BagWriteError(
                f"{path} is being written by another process (in {folder}): choose another name"
            ) from error

    @property
    def held(self) -> bool:
        return self._descriptor >= 0

    def discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _no_messages() -> PendingChunk:
    return PendingChunk(2**63 - 1, 0, BytesIO(), defaultdict(list))


def _free_name(path: Path) -> Path:
    """NAME.partial.mcap beside `path`, or NAME.partial-2.mcap and so on."""
    stem, number = path.stem if path.suffix == ".mcap" else path.name, 1
    while os.path.lexists(free := path.with_name(f"{stem}.partial{f'-{number}' if number > 1 else ''}.mcap")):
        number += 1
    return free


def _files(path: Path) -> list[Path]:
    """A file, or the files of a bag's folder."""
    return [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path] if path.exists() else []


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _what_is_not_ours(path: Path) -> str | None:
    """Why something is no bag that this writer made; None where it is one."""
    try:
        if not path.is_dir():
            ours = path.is_file() and _marked(_mcap_metadata(path))
            return None if ours else "it is no bag that panoocc wrote"
        names = {entry.name for entry in path.iterdir()}
        if METADATA not in names:
            return "it is a folder but no bag"
        with (path / METADATA).open("rb") as file:
            information = yaml.safe_load(file.read(MAX_METADATA_BYTES))["rosbag2_bagfile_information"]
        if not _marked(information):
            return "it is no bag that panoocc wrote"
        others = sorted(names - {METADATA, *information["relative_file_paths"]})
        return f"it holds other files ({', '.join(others[:3])}{', ...' if others[3:] else ''})" if others else None
    except (OSError, ValueError, TypeError, KeyError, struct.error, yaml.YAMLError, RecursionError):
        return "it is no bag that panoocc wrote"


def _marked(information: Any) -> bool:
    custom = information.get("custom_data") if isinstance(information, dict) else None
    return isinstance(custom, dict) and custom.items() >= MARK.items()


def _mcap_metadata(path: Path) -> Any:
    """What metadata.yaml would say, out of the record `rosbag2` of an MCAP file; None where there is none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end < FOOTER_BYTES + len(MCAP_MAGIC):
            return None
        file.seek(end - FOOTER_BYTES)
        footer = file.read(FOOTER_BYTES)
        if not footer.endswith(MCAP_MAGIC):
            return None
        position = struct.unpack_from("<Q", footer, 9)[0]
        while 0 < position < end - FOOTER_BYTES:
            file.seek(position)
            code, size = struct.unpack("<BQ", file.read(9))
            if code == 0x0D and size <= MAX_METADATA_BYTES:  # where a metadata record lies
                file.seek(struct.unpack("<QQ", file.read(16))[0])
                _, length = struct.unpack("<BQ", file.read(9))
                record = file.read(min(length, MAX_METADATA_BYTES))
                return _rosbag2_metadata(record)
            position += 9 + size
    return None


def _rosbag2_metadata(record: bytes) -> Any:
    """The record: its name, then a map with the key `serialized_metadata`; strings follow their length."""
    head = struct.pack("<I", 7) + b"rosbag2"
    key = struct.pack("<I", 19) + b"serialized_metadata"
    begin = len(head) + 4 + len(key) + 4  # behind the sizes of the map and of the text
    is_rosbag2 = record.startswith(head) and record[len(head) + 4 :].startswith(key)
    return yaml.safe_load(record[begin:]) if is_rosbag2 else None


def _qos(latched: bool) -> Qos:
    forever = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
