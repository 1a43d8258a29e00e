"""What comes on the topics of cameras and transforms within some seconds: the same of a bag and of a live graph.

Of images the stamps are kept, and the newest one whole: whatever their size, the memory that is taken stays small.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from panoocc_core.cameras.image_bytes import MAX_NAME
from panoocc_core.cameras.lens import same_calibration
from panoocc_core.geometry import NS_PER_S

from ..bags.bag import BagReader, BrokenMessage, RawMessage
from ..messages.fields import stamp_ns
from ..messages.types import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, IMAGE_TYPES, ODOMETRY, TRANSFORMS, typestore
from ..streams.transforms import clean_frame

TYPES = (*IMAGE_TYPES, CAMERA_INFO, TRANSFORMS, ODOMETRY)
MAX_MESSAGES = 100_000  # of one topic that count
MAX_STATIC = 1000  # messages of fixed transforms that are read of a bag, wherever they lie
MAX_CALIBRATIONS = 4  # of one camera that are told apart
MAX_FRAME = 256  # characters of a frame's name


@dataclass(slots=True)
class Heard:
    """What came on one topic."""

    type: str
    stamps_ns: list[int] = field(default_factory=list)  # of the headers, in the order of arrival
    arrivals_ns: list[int] = field(default_factory=list)  # ... by the clock of the bag, or of this machine
    frames: Counter[str] = field(default_factory=Counter)  # header.frame_id -> messages
    encodings: Counter[str] = field(default_factory=Counter)  # of images; of compressed ones the format
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # height and width of images, where they say so
    newest: Any = None  # message
    calibrations: list[Any] = field(default_factory=list)  # CameraInfos that differ, the first one first
    broken: int = 0  # messages that could not be read ...
    why_broken: str = ""  # ... and why the last one could not
    left_out: int = 0  # messages beyond those that count

    @property
    def frame(self) -> str:
        """The frame that most messages name; empty where they name none."""
        return self.frames.most_common(1)[0][0] if self.frames else ""


@dataclass(slots=True)
class Intake:
    """Takes messages; `deserialise` makes objects of their bytes.

    Raises of `deserialise`: BrokenMessage.
    """

    deserialise: Callable[[RawMessage], Any]
    topics: Mapping[str, str]  # all that there are, and their types
    heard: dict[str, Heard] = field(default_factory=dict)
    transforms: list[tuple[str, Any]] = field(default_factory=list)  # topic, message
    odometry: list[tuple[str, Any]] = field(default_factory=list)  # topic, message
    first_image_ns: int | None = None  # when it came
    senders: dict[str, tuple[str, ...]] = field(default_factory=dict)  # topic -> nodes that publish it, where known

    def take(self, raw: RawMessage) -> None:
        """One message of one of `TYPES`; those of other types are left aside."""
        if raw.type not in TYPES:
            return
        heard = self.heard.setdefault(raw.topic, Heard(raw.type))
        if len(heard.arrivals_ns) >= MAX_MESSAGES:
            heard.left_out += 1
            return
        try:
            message = self.deserialise(raw)
        except BrokenMessage as error:
            heard.broken, heard.why_broken = heard.broken + 1, str(error)
            return
        heard.arrivals_ns.append(raw.stamp_ns)
        if raw.type == TRANSFORMS:
            heard.stamps_ns += [stamp_ns(one.header.stamp) for one in message.transforms[:1]]
            self.transforms.append((raw.topic, message))
            return
        heard.stamps_ns.append(stamp_ns(message.header.stamp))
        heard.frames[clean_frame(message.header.frame_id)[:MAX_FRAME]] += 1
        if raw.type == ODOMETRY:
            self.odometry.append((raw.topic, message))
            return
        heard.newest = message
        if raw.type == CAMERA_INFO:
            _note_calibration(heard.calibrations, message)
            return
        if self.first_image_ns is None:
            self.first_image_ns = raw.stamp_ns
        heard.encodings[str(message.encoding if raw.type == IMAGE else message.format)[:MAX_NAME]] += 1
        if raw.type == IMAGE:
            heard.sizes[int(message.height), int(message.width)] += 1

    @property
    def cuts(self) -> tuple[str, ...]:
        """Sentences about the topics of which not all counts."""
        return tuple(
            f"{topic}: {heard.left_out} messages were left out after the first {len(heard.arrivals_ns)}, and with them "
            "what they say of frames and times: look for a shorter time with --seconds"
            for topic, heard in self.heard.items()
            if heard.left_out
        )

    def of_types(self, *types: str) -> dict[str, Heard]:
        """Topic -> what came, of some types."""
        return {topic: heard for topic, heard in self.heard.items() if heard.type in types}

    def of_topic(self, topic: str, kinds: Collection[str]) -> Heard | None:
        """What came on a topic, if it is of one of some types."""
        heard = self.heard.get(topic)
        return heard if heard is not None and heard.type in kinds else None

    def stamps_ns(self, topic: str) -> list[int]:
        """The stamps that came on a topic."""
        return self.heard[topic].stamps_ns if topic in self.heard else []

    @property
    def images(self) -> dict[str, Heard]:
        """Topic -> what came, of images."""
        return self.of_types(IMAGE, COMPRESSED_IMAGE)


def read(raw: RawMessage) -> object:
    """The message in the bytes of a topic.

    Raises:
        BrokenMessage: they are none of its type.
    """
    try:
        return typestore().deserialize_cdr(raw.data, raw.type)
    except Exception as error:  # torn bytes raise any kind
        raise BrokenMessage(f"{raw.topic}: a {raw.type} cannot be read: {error or type(error).__name__}") from error


def _note_calibration(known: list[Any], message: Any) -> None:
    if len(known) < MAX_CALIBRATIONS and not any(same_calibration(one, message) for one in known):
        known.append(message)


def bag_intake(
    bag: BagReader,
    seconds: float,
    wanted: Collection[str] | None = None,
    is_static: Callable[[str], bool] = lambda topic: topic.endswith("static"),
    on_message: Callable[[RawMessage], None] = lambda raw: None,
) -> Intake:
    """What a bag has from its first image on, for so long, and all its fixed transforms.

    Args:
        wanted: topics; None: all of the types that matter.
        is_static: whether a topic of transforms has the fixed ones.

    Raises:
        BagError: the bag is damaged.
    """
    intake = Intake(bag.deserialise, bag.topics)
    chosen = {t: kind for t, kind in bag.topics.items() if kind in TYPES and (wanted is None or t in wanted)}
    static = [topic for topic, kind in chosen.items() if kind == TRANSFORMS and is_static(topic)]
    for number, raw in enumerate(bag.messages(static) if static else ()):
        if number < MAX_STATIC:
            intake.take(raw)
        else:
            intake.heard.setdefault(raw.topic, Heard(raw.type)).left_out += 1
    if not bag.count([topic for topic, kind in chosen.items() if kind in IMAGE_TYPES]):
        return intake
    for raw in bag.messages(chosen.keys() - set(static)):
        if intake.first_image_ns is not None and raw.stamp_ns > intake.first_image_ns + seconds * NS_PER_S:
            break
        intake.take(raw)
        on_message(raw)
    return intake
