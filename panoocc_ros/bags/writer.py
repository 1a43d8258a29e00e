"""Writing rosbag2 (version 9, MCAP with zstd chunks): whole or under another name, and never over what is not ours.

A bag grows in the folder NAME.part beside its place and gets its name when it is whole.  When the disk fills up, what
was written is finished as NAME.partial.mcap; what a killed process left is kept under such a name by the next one.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

from panoocc_core.base.overwriting import OTHER_NAME

from ..messages.types import typestore
from .bag import LATCHED_TOPICS, MCAP_MAGIC, METADATA, BagError, BagWriteError
from .overwriting import MARK, check_output

EMPTY_BYTES = 64  # of an MCAP file with no more than its header
ROOM_BYTES = 8 << 20  # of the disk that are taken at a time
END_BYTES, CHUNK_BYTES, TOPIC_BYTES = 64 << 10, 1 << 10, 2 << 10  # more than the end of a file takes for each
REPLACED = "replaced"  # name in the working folder
RECOVER = "(`mcap recover` makes it whole)"

_log = logging.getLogger("panoocc")


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
        self._bag: _GrowingBag | None = None
        try:
            str(self.path).encode()  # as metadata.yaml will hold it
        except UnicodeEncodeError as error:
            raise BagWriteError(f"{self.path}: cannot be written: its name is not UTF-8") from error
        with self._errors():
            self._target = self.path.resolve()  # a link stays, and what it leads to is replaced
            check_output(self.path, overwrite, inputs)
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._work = self._target.with_name(f"{self._target.name}.part")
            self._lock: int | None = self._own_folder()
            try:
                check_output(self.path, overwrite, inputs)  # what a killed process had replaced may be back
                self._bag = _GrowingBag(self._work / self._target.stem)
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
        data = message if isinstance(message, bytes) else bytes(typestore().serialize_cdr(message, kind))
        connection = self.declare(topic, kind, latched)
        assert self._bag is not None
        with self._errors():
            self._bag.write(connection, stamp_ns, data)

    def declare(self, topic: str, kind: str, latched: bool | None = None) -> Connection:
        """Have a topic in the bag, whether a message comes or not.

        Raises:
            BagWriteError: as in `write`.
        """
        if self._bag is None:
            raise BagWriteError(f"{self.path}: nothing more can be written after an error")
        connection = self._connections.get(topic)
        if connection is None:
            if kind not in typestore().fielddefs:
                raise BagWriteError(f"{topic}: the type {kind} is not known")
            connection = self._bag.declare(topic, kind, topic in LATCHED_TOPICS if latched is None else latched)
            self._connections[topic] = connection
        if connection.msgtype != kind:
            raise BagWriteError(f"{topic} holds {connection.msgtype}, not {kind}")
        return connection

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

    def _rescue(self) -> str | None:
        """Finish what was written under another name; returns it, or None where nothing was written."""
        bag, self._bag = self._bag, None
        if bag is None or not bag.has_messages:
            return None
        with contextlib.suppress(OSError):
            bag.close()
        kept = _free_name(self._target)
        try:
            os.replace(bag.file, kept)
        except OSError:
            kept = bag.file
            self._unlock()  # so that `_leave` leaves it there
        return f"{kept}" if bag.is_whole else f"{kept} {RECOVER}"

    def _own_folder(self) -> int:
        """The working folder, for this process alone; what a killed process left there is moved to a visible name."""
        if self._work.exists():
            lock = _locked(self._work, self.path)
            try:
                self._keep_what_is_left()
            finally:
                os.close(lock)
        try:
            self._work.mkdir()
        except FileExistsError:
            raise BagWriteError(f"{self.path}: {self._work} is in the way: remove it, or {OTHER_NAME}") from None
        return _locked(self._work, self.path)

    def _keep_what_is_left(self) -> None:
        """Empty the folder of a killed process; what is not known to be its own stays, and the folder with it."""
        growing, replaced = self._work / self._target.stem, self._work / REPLACED
        if replaced.exists() and not self._target.exists():
            os.replace(replaced, self._target)
        left = growing / f"{growing.name}.mcap"
        if left.exists():
            os.truncate(left, _end_of_records(left))
            if left.stat().st_size > EMPTY_BYTES:
                kept = _free_name(self._target)
                os.replace(left, kept)
                text = "%s was being written when its process was killed; what it had is in %s %s"
                _log.warning(text, self.path, kept, RECOVER)
        for own in (left, growing / METADATA):
            own.unlink(missing_ok=True)
        for folder in (growing, self._work):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _leave(self) -> None:
        if self._lock is not None:
            shutil.rmtree(self._work, ignore_errors=True)
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = self._rescue()
            what = f"what was written until then is kept in {kept}" if kept else "nothing was kept"
            raise BagWriteError(f"{self.path}: cannot be written: {error.strerror or error}; {what}") from error


class _GrowingBag:
    """rosbags' writer in a file that always has room for its end, so that a full disk tears nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / f"{folder.name}.mcap"
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in MARK.items():
            self._writer.set_custom_data(key, value)
        self._writer.open()
        assert isinstance(self._writer.storage, McapWriter)
        self._storage = self._writer.storage
        self._room = 0  # bytes of the disk that the file has

    @property
    def has_messages(self) -> bool:
        return any(self._writer.counts.values())

    @property
    def is_whole(self) -> bool:
        return self._writer.storage is None  # then only the folder's metadata.yaml may be missing

    def declare(self, topic: str, kind: str, latched: bool) -> Connection:
        return self._writer.add_connection(topic, kind, typestore=typestore(), offered_qos_profiles=[_qos(latched)])

    def write(self, connection: Connection, stamp_ns: int, data: bytes) -> None:
        self._make_room(len(data))
        self._writer.write(connection, stamp_ns, data)

    def flush(self) -> None:
        if self._storage.chunk.msgs:
            self._storage.close_chunk()
            self._storage.bio.flush()

    def close(self) -> None:
        if self.is_whole:
            return
        descriptor = os.dup(self._storage.bio.fileno())
        try:
            self._writer.close()
        finally:
            os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))  # the room that was not needed
            os.close(descriptor)

    def _make_room(self, size: int) -> None:
        """Take room for a message, for what waits in memory, and for the end of the file.

        Raises:
            OSError: there is none; without the message the file can still be finished.
        """
        waiting = self._storage.chunk.bio.tell() + size
        topics = sum(TOPIC_BYTES + len(connection.msgdef.data) for connection in self._writer.connections)
        end = END_BYTES + 2 * topics + CHUNK_BYTES * len(self._storage.chunks)
        needed = self._storage.bio.tell() + 2 * waiting + end  # two, as every message has an index behind its chunk
        if needed > self._room:
            try:
                self._take(needed + ROOM_BYTES)
            except OSError:
                self._take(needed)

    def _take(self, room: int) -> None:
        try:
            os.posix_fallocate(self._storage.bio.fileno(), self._room, room - self._room)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that promises nothing
                raise
        self._room = room


def _locked(folder: Path, path: Path) -> int:
    """A descriptor with a lock, which tells a folder that is being written from what a killed process has left.

    Raises:
        BagWriteError: another process has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BagWriteError(f"{path} is being written by another process (in {folder}): {OTHER_NAME}") from error
    return descriptor


def _end_of_records(path: Path) -> int:
    """Where the last whole record of an MCAP file ends; behind it lies half of one, or room that was taken."""
    with path.open("rb") as file:
        end, position = file.seek(0, os.SEEK_END), len(MCAP_MAGIC)
        while position < end:
            file.seek(position)
            code, size = file.read(1), int.from_bytes(file.read(8), "little")
            if code == b"\0" or position + 9 + size > end:
                break
            position += 9 + size
        return min(position, end)


def _free_name(path: Path) -> Path:
    """NAME.partial.mcap beside `path`, or NAME.partial-2.mcap and so on."""
    stem, number = path.stem if path.suffix == ".mcap" else path.name, 1
    while os.path.lexists(free := path.with_name(f"{stem}.partial{f'-{number}' if number > 1 else ''}.mcap")):
        number += 1
    return free


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
