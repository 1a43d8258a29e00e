"""The messages of a bag fed to the assembler in the order of their stamps, as the node feeds it those of its topics."""

from collections.abc import Callable, Iterator

from ..frames.assembler import FrameAssembler, ReadySet
from .bag import BagReader, RawMessage

TF_TOPICS = ("/tf", "/tf_static")

Handler = Callable[[RawMessage], None]


def ready_sets(
    bag: BagReader,
    assembler: FrameAssembler,
    on_message: Handler = lambda message: None,
    on_transforms: Handler = lambda message: None,
) -> Iterator[tuple[int, ReadySet]]:
    """Every complete set of a bag with the bag's time (ns) at which it was ready.

    Args:
        on_message: called for each message that was read, for progress.
        on_transforms: called for each message of /tf and /tf_static, to pass it on.

    Raises:
        BagError: the bag is damaged.
    """
    handlers = _handlers(bag, assembler, on_transforms)
    now_ns = bag.start_ns
    for message in bag.messages(handlers.keys()):
        now_ns = message.stamp_ns
        # First what the time that has passed decides, as the node's timer does; then the message.
        yield from _poll(assembler, now_ns)
        handlers[message.topic](message)
        yield from _poll(assembler, now_ns)
        on_message(message)
    for ready in assembler.finish():
        yield now_ns, ready


def message_count(bag: BagReader, assembler: FrameAssembler) -> int:
    """How many messages `ready_sets` will read."""
    return bag.count(_handlers(bag, assembler, lambda message: None).keys())


def _poll(assembler: FrameAssembler, now_ns: int) -> Iterator[tuple[int, ReadySet]]:
    while (ready := assembler.poll(now_ns)) is not None:
        yield now_ns, ready


def _handlers(bag: BagReader, assembler: FrameAssembler, pass_on: Handler) -> dict[str, Handler]:
    """What is done with the messages of each topic."""
    read = bag.deserialise

    def on_image(camera: str) -> Handler:
        return lambda message: assembler.on_image(camera, read(message), message.stamp_ns)

    def on_info(camera: str) -> Handler:
        return lambda message: assembler.on_camera_info(camera, read(message))

    def on_transforms(message: RawMessage) -> None:
        assembler.on_transforms(read(message), static=message.topic == "/tf_static")
        pass_on(message)

    handlers = {camera.topic: on_image(camera.name) for camera in assembler.rig.cameras}
    handlers |= {camera.info_topic: on_info(camera.name) for camera in assembler.rig.cameras}
    return handlers | dict.fromkeys(TF_TOPICS, on_transforms)
