"""rosbag2 bags without ROS: reading sqlite3 and MCAP, writing compressed MCAP (package `rosbags`)."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from ..messages.types import typestore

LATCHED_TOPICS = ("/tf_static",)


class BagError(RuntimeError):
    """A bag that cannot be read or written; the text names the file or topic and says what to do."""


class BagWriteError(BagError):
    """A bag that cannot be written: no permission, no room, or the name is taken."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message as it lies in the bag."""

    topic: str
    type: str
    stamp_ns: int  # when it was recorded
    data: bytes  # CDR


class BagReader:
    """A bag that is open for reading: a rosbag2 folder, or one .mcap or .db3 file.

    Raises:
        BagError: it is not there, is not a bag, or was cut off.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(f"{self.path}: no such bag (give a rosbag2 folder, or an .mcap or .db3 file)")
        with self._errors("cannot be opened"):
            self._reader = AnyReader([self.path], default_typestore=typestore())
            self._reader.open()
        self._types = {c.topic: c.msgtype for c in self._reader.connections}

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(AssertionError):  # a reader that failed half-way
            self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """Topic -> type."""
        return dict(self._types)

    @property
    def message_count(self) -> int:
        """Messages in the bag."""
        return int(self._reader.message_count)

    def count(self, topics: Collection[str]) -> int:
        """Messages on some topics."""
        return sum(self._reader.topics[topic].msgcount for topic in topics if topic in self._types)

    @property
    def start_ns(self) -> int:
        """Time of the first message."""
        return int(self._reader.start_time)

    @property
    def end_ns(self) -> int:
        """Time just after the last message."""
        return int(self._reader.end_time)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """The messages of some topics (None: all) in the order of their recording.

        Raises:
            BagError: the bag is damaged.
        """
        chosen = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not chosen:
            return
        with self._errors("is damaged"):
            for connection, stamp_ns, data in self._reader.messages(connections=chosen):
                yield RawMessage(connection.topic, connection.msgtype, stamp_ns, bytes(data))

    def deserialise(self, message: RawMessage) -> Any:
        """The message as an object with the fields of its type.

        Raises:
            BagError: the bytes are not such a message.
        """
        with self._errors(f"{message.topic}: a {message.type} at {message.stamp_ns} ns cannot be read"):
            return self._reader.deserialize(message.data, message.type)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except BagError:
            raise
        except _DAMAGE as error:
            reason = (str(error) or type(error).__name__).rstrip(".")
            raise BagError(
                f"{self.path}: {what}: {reason}. If it is a recording that was cut off, try `mcap recover` or "
                "`ros2 bag reindex`"
            ) from error


class BagWriter:
    """A new rosbag2 (version 9, MCAP with zstd chunks), under a temporary name until it is whole.

    A path that ends with .mcap becomes one file, any other a rosbag2 folder.  Both open in Foxglove and play with
    `ros2 bag play`.  After an exception inside `with`, nothing is left behind.

    Raises:
        BagWriteError: the path exists (unless `overwrite`), or cannot be written.
    """

    def __init__(self, path: Path | str, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise BagWriteError(
                f"{self.path} exists already: choose another name, or replace it with --overwrite (in Python: "
                "overwrite=True)"
            )
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            raise BagWriteError(f"{self.path} is a folder but no bag: it is not overwritten")
        self._connections: dict[str, Connection] = {}
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._work = Path(tempfile.mkdtemp(prefix=f".{self.path.stem}-", suffix=".part", dir=self.path.parent))
            try:
                self._writer = Writer(self._work / self.path.stem, version=9, storage_plugin=StoragePlugin.MCAP)
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
                self._writer.open()
            except BaseException:
                shutil.rmtree(self._work, ignore_errors=True)
                raise

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with self._errors():
                    self._finish()
        finally:
            if error is not None:
                with contextlib.suppress(Exception):
                    self._writer.abort()
            shutil.rmtree(self._work, ignore_errors=True)

    def write(self, topic: str, kind: str, stamp_ns: int, message: Any, latched: bool | None = None) -> None:
        """Write a message object, or its CDR bytes; the first one declares the topic.

        Raises:
            BagWriteError: the disk is full, or the topic had another type before.
        """
        data = message if isinstance(message, bytes) else bytes(typestore().serialize_cdr(message, kind))
        connection = self._connections.get(topic)
        with self._errors():
            if connection is None:
                connection = self._declare(topic, kind, topic in LATCHED_TOPICS if latched is None else latched)
            if connection.msgtype != kind:
                raise BagWriteError(f"{topic} holds {connection.msgtype}, not {kind}")
            self._writer.write(connection, stamp_ns, data)

    def _declare(self, topic: str, kind: str, latched: bool) -> Connection:
        if kind not in typestore().fielddefs:
            raise BagWriteError(f"{topic}: the type {kind} is not known")
        connection = self._writer.add_connection(
            topic, kind, typestore=typestore(), offered_qos_profiles=[_qos(latched)]
        )
        self._connections[topic] = connection
        return connection

    def _finish(self) -> None:
        self._writer.close()
        made = self._work / self.path.stem
        if self.path.suffix == ".mcap":
            made = made / f"{self.path.stem}.mcap"
        if self.path.is_dir():  # only files are replaced by renaming
            os.replace(self.path, self._work / "replaced")
        os.replace(made, self.path)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BagWriteError(
                f"{self.path}: cannot be written: {error.strerror or error}; nothing was kept"
            ) from error


# What reading torn bytes raises: rosbags' own errors are Exceptions of many kinds, some plain assertions.
_DAMAGE = (Exception,)


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
