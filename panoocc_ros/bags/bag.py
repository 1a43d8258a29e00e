"""Reading rosbag2 (sqlite3 and MCAP) without ROS (package `rosbags`), and telling what a file is that is none."""

import contextlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader

from ..messages.types import typestore

LATCHED_TOPICS = ("/tf_static",)
PREFIX = "/panoocc"  # of our topics in bags, as below the node
METADATA = "metadata.yaml"
MCAP_MAGIC, SQLITE_MAGIC, ROS1_MAGIC = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"#ROSBAG V"
LFS_POINTER = b"version https://git-lfs"
FILES = (".mcap", ".db3")
PROFILE_AT = len(MCAP_MAGIC) + 9  # of the profile's length, behind the header record's code and size
MAX_REASON = 300  # characters of what a library says


class BagError(RuntimeError):
    """A bag that cannot be read or written; the text names the file or topic and says what to do."""


class BagWriteError(BagError):
    """A bag that cannot be written: no permission, no room, or the name is taken."""


class BrokenMessage(BagError):
    """The bytes of one message are not what their topic promises."""


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
        with _system_errors(self.path):
            if not self.path.exists():
                raise BagError(f"{self.path}: no such bag (give a rosbag2 folder, or an .mcap or .db3 file)")
            _check_kind(self.path)
        with self._errors("cannot be opened"):
            self._reader = AnyReader([self.path], default_typestore=typestore())
            self._reader.open()
        self._types = {c.topic: c.msgtype for c in self._reader.connections}
        self._check_encodings()

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
        """Time of the first message; 0 where there is none."""
        return int(self._reader.start_time) if self.message_count else 0

    @property
    def end_ns(self) -> int:
        """Time just after the last message; 0 where there is none."""
        return int(self._reader.end_time) if self.message_count else 0

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
            BrokenMessage: the bytes are not such a message.
        """
        try:
            return self._reader.deserialize(message.data, message.type)
        except Exception as error:  # torn bytes raise any kind, plain assertions among them
            raise BrokenMessage(
                f"{self.path}: {message.topic}: a {message.type} at {message.stamp_ns} ns cannot be read: "
                f"{_said(error)}"
            ) from error

    def _check_encodings(self) -> None:
        encodings = {c.topic: getattr(c.ext, "serialization_format", "") for c in self._reader.connections}
        for topic, encoding in encodings.items():
            if encoding != "cdr":
                raise BagError(f"{self.path}: {topic} holds {encoding or 'unnamed'} messages, not CDR as in ROS 2")

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except BagError:
            raise
        except Exception as error:
            raise BagError(f"{self.path}: {what}: {_said(error)}{_advice(self.path, error)}") from error


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")[:MAX_REASON]


def _advice(path: Path, error: Exception) -> str:
    """What helps against an error of rosbags, if anything does."""
    text = str(error)
    if isinstance(error, KeyError):
        return ": messages of this encoding are not ROS 2's (CDR)"
    if re.search("files are missing", text):
        return f". Put them beside {METADATA}, or give one file alone"
    if re.search("metadata|YAML", text, re.IGNORECASE):
        return f". `ros2 bag reindex` makes a new {METADATA}"
    if re.search("not supported|[Uu]nsupported|hash mismatch", text):
        return ""
    if any(path.glob("*.db3")) if path.is_dir() else path.suffix == ".db3":
        return ". If it is a recording that was cut off, `sqlite3 FILE.db3 .recover` may get its messages back"
    return ". If it is a recording that was cut off, try `mcap recover`"


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BagError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_kind(path: Path) -> None:
    """That a path looks like a rosbag2.

    Raises:
        BagError: it is something else; the text says what, and what to do.
        OSError: it cannot be read.
    """
    if not path.is_dir():
        _check_file(path)
        return
    bags = sorted(file for file in path.iterdir() if file.suffix in FILES and file.is_file())
    if not (path / METADATA).is_file():
        if bags:
            text = f"`ros2 bag reindex {path}` makes one; or give one file alone, e.g. {bags[0]}"
        elif any(path.glob("*.bag")):
            text = "it holds ROS 1 bags: convert them with `rosbags-convert --src FILE.bag --dst FOLDER`"
        else:
            text = "it holds no .mcap or .db3 file either: it is no bag"
        raise BagError(f"{path}: the folder has no {METADATA}: {text}")
    for file in bags:
        _check_file(file)


def _check_file(path: Path) -> None:
    if not path.is_file():  # opening a pipe would wait for ever
        raise BagError(f"{path}: neither a file nor a folder")
    with path.open("rb") as file:
        head = file.read(256)
    if not head:
        raise BagError(f"{path}: the file is empty")
    if head.startswith(LFS_POINTER):
        raise BagError(f"{path}: a Git LFS pointer, not the file itself: get it with `git lfs pull`")
    if head.startswith(ROS1_MAGIC):
        raise BagError(
            f"{path}: a ROS 1 bag: convert it with `rosbags-convert --src {path} --dst {path.with_suffix('')}`"
        )
    magic = {".mcap": MCAP_MAGIC, ".db3": SQLITE_MAGIC}.get(path.suffix)
    if magic is None:
        raise BagError(f"{path}: not a bag: give a rosbag2 folder, or an .mcap or .db3 file")
    if not head.startswith(magic[: len(head)]):
        kind = "MCAP file" if path.suffix == ".mcap" else "sqlite3 database"
        raise BagError(f"{path}: no {kind}, whatever its name says: it begins with {head[:16]!r}")
    if path.suffix == ".mcap" and len(head) >= PROFILE_AT + 4:
        length = int.from_bytes(head[PROFILE_AT : PROFILE_AT + 4], "little")
        profile = head[PROFILE_AT + 4 : PROFILE_AT + 4 + length].decode(errors="replace")
        if profile != "ros2" and length < len(head) - PROFILE_AT:
            raise BagError(
                f"{path}: an MCAP file, but not of ROS 2: its profile is {profile!r} (messages of ROS 1, protobuf or "
                "JSON have to be converted)"
            )
