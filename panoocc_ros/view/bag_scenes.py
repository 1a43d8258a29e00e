"""The scenes of a bag with grids, and of another one with the images that they were made from."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from panoocc_core.geometry import NS_PER_S

from ..bags.bag import BagError, BagReader, BrokenMessage, RawMessage
from ..bags.source import MAX_STATIC, header_stamp_ns
from ..messages.fields import stamp_ns
from ..messages.types import VOXEL_GRID
from .scene import Scene, Scenes, sources_in

GRIDS = "/panoocc/occupancy"
AHEAD_NS = NS_PER_S // 2  # of stamps, by which the bag of images is read further than a grid's newest image


class BagScenes:
    """Scenes in the order of their recording; they can be gone through again and again.

    What lies in both bags is taken from that of the grids.  `problems` and `broken` tell what is not shown, and why.

    Args:
        grids: bag with grids: of `panoocc run`, or of the node.
        images: bag with the camera images, where these lie in another one.
        topic: of the grids.
        begin_s, end_s: grids from `begin_s` on and before `end_s`, counted from the first one.
        every: one grid in so many.

    Raises:
        BagError: there are no such grids; the text says what there is.
    """

    def __init__(
        self,
        grids: BagReader,
        images: BagReader | None = None,
        topic: str = GRIDS,
        begin_s: float = 0.0,
        end_s: float = math.inf,
        every: int = 1,
    ) -> None:
        _check_has_grids(grids, topic)
        self.problems: dict[str, str] = {}  # topic or frame -> what is wrong with it
        self.broken: Counter[str] = Counter()  # grids that cannot be used, by why
        self._bags = [(grids, grids.topics)]
        if images is not None:
            others = {name: kind for name, kind in images.topics.items() if not grids.count([name])}
            self._bags.append((images, others))
        self.sources = sources_in({name: kind for _, topics in self._bags for name, kind in topics.items()}, topic)
        stamps = _stamps(grids, topic)
        if not stamps:
            raise BagError(f"{grids.path}: no message on {topic} can be read as a {VOXEL_GRID}")
        self.first_ns = min(stamp for stamp, _, _ in stamps.values())
        times_s = {number: (stamp - self.first_ns) / NS_PER_S for number, (stamp, _, _) in stamps.items()}
        chosen = [number for number, time_s in times_s.items() if begin_s <= time_s < end_s][::every]
        if not chosen:
            raise BagError(
                f"{grids.path}: none of the {len(stamps)} grids on {topic} lies between --from {begin_s:g} and --to "
                f"{end_s:g} s; the last one is at {max(times_s.values()):.2f} s"
            )
        self.times_s = tuple(times_s[number] for number in chosen)
        self._chosen = frozenset(chosen)
        self._windows_ns = sorted((newest, oldest) for _, oldest, newest in (stamps[number] for number in chosen))

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Scene]:
        scenes = Scenes(self.sources, self._is_wanted)
        self.problems, self.broken = scenes.problems, Counter()
        for bag, topics in self._bags:
            self._add_what_always_holds(scenes, bag, topics)
        (grids, own), *others = self._bags
        always = {self.sources.labels, *(name for name, static in self.sources.transforms.items() if static)}
        companions = set(self.sources.companions) - always
        later = [(bag, bag.messages(companions & set(topics))) for bag, topics in others]
        waiting: RawMessage | None = None  # a grid whose companions were written after it
        number = -1
        for raw in grids.messages({self.sources.grids, *(companions & set(own))}):
            if raw.topic != self.sources.grids:
                self._add(scenes, grids, raw)
                continue
            number += 1
            if waiting is not None:
                yield from self._made(scenes, grids, waiting, later)
            waiting = raw if number in self._chosen else None
        if waiting is not None:
            yield from self._made(scenes, grids, waiting, later)

    def _made(
        self,
        scenes: Scenes,
        grids: BagReader,
        raw: RawMessage,
        later: Iterable[tuple[BagReader, Iterator[RawMessage]]],
    ) -> Iterator[Scene]:
        grid = grids.deserialise(raw)
        end_ns = stamp_ns(grid.newest_image_stamp) + AHEAD_NS
        for bag, messages in later:
            for message in messages:
                self._add(scenes, bag, message)
                if (header_stamp_ns(message) or 0) > end_ns:
                    break
        try:
            yield scenes.scene(grid, raw.stamp_ns)
        except ValueError as error:
            self.broken[str(error)] += 1

    def _add_what_always_holds(self, scenes: Scenes, bag: BagReader, topics: Iterable[str]) -> None:
        sources, names = self.sources, set(topics)
        static = [name for name, is_static in sources.transforms.items() if is_static and name in names]
        for raw in bag.messages({sources.labels} & names):
            self._add(scenes, bag, raw)
        for raw in reversed(list(islice(bag.messages(static), MAX_STATIC))):  # the first word is heard last, and counts
            self._add(scenes, bag, raw)
        for topic in set(sources.infos) & names:
            for raw in islice(bag.messages([topic]), 1):
                self._add(scenes, bag, raw)

    def _add(self, scenes: Scenes, bag: BagReader, raw: RawMessage) -> None:
        if raw.topic in self.sources.cameras and not self._is_wanted(header_stamp_ns(raw) or 0):
            return
        try:
            scenes.add(raw.topic, bag.deserialise(raw))
        except BrokenMessage as error:
            scenes.problems[raw.topic] = str(error)

    def _is_wanted(self, stamp: int) -> bool:
        """Whether an image was taken for one of the grids."""
        place = bisect_left(self._windows_ns, (stamp, 0))
        return place < len(self._windows_ns) and self._windows_ns[place][1] <= stamp


def _stamps(grids: BagReader, topic: str) -> dict[int, tuple[int, int, int]]:
    """Stamp, and those of the oldest and newest image, of each grid that can be read, by its number in the bag."""
    found = {}
    for number, raw in enumerate(grids.messages([topic])):
        try:
            grid = grids.deserialise(raw)
        except BrokenMessage:
            continue
        found[number] = (
            stamp_ns(grid.header.stamp),
            stamp_ns(grid.oldest_image_stamp),
            stamp_ns(grid.newest_image_stamp),
        )
    return found


def _check_has_grids(bag: BagReader, topic: str) -> None:
    if bag.topics.get(topic) == VOXEL_GRID and bag.count([topic]):
        return
    there = [name for name, kind in bag.topics.items() if kind == VOXEL_GRID and bag.count([name])]
    if there:
        raise BagError(
            f"{bag.path}: no grids ({VOXEL_GRID}) on {topic}: choose with --topic: {', '.join(sorted(there))}"
        )
    listed = ", ".join(f"{name} ({kind})" for name, kind in sorted(bag.topics.items())) or "no topics"
    raise BagError(
        f"{bag.path}: the bag has no grids ({VOXEL_GRID}): make some with `panoocc run {bag.path} --out grids.mcap` "
        f"and view these; the bag has only {listed}"
    )
