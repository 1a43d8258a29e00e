"""A bounded tree of coordinate frames over time, with tf2's rules and int64 nanoseconds (REP-105).

Every frame has one parent.  A moving edge keeps its newest samples; between two of them a pose is interpolated (linear
in translation, spherical in rotation), outside of them a lookup fails: nothing is extrapolated and nothing defaults
to the identity.  Looking up never waits, so that a single thread can serve images and transforms.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, check_rigid, interpolate, invert

LATE_SAMPLE_NS = NS_PER_S // 10  # samples may swap places within this; a larger step back is a restarted clock
MAX_DEPTH = 64


class TransformError(LookupError):
    """A transform that cannot be had; the text names frames and times."""


class UnknownFrame(TransformError):
    """No transform has named this frame yet."""


class NotConnected(TransformError):
    """Both frames are known, but no chain of transforms joins them."""


class TooEarly(TransformError):
    """The time lies before the oldest sample of an edge: waiting does not help."""


class TooLate(TransformError):
    """The time lies after the newest sample of an edge: the sample may still arrive."""


class ConflictingTransform(ValueError):
    """A frame was given a second parent, or a fixed edge was moved; the text names the frames."""


@dataclass(slots=True)
class _Edge:
    parent: str
    static: bool
    stamps_ns: list[int] = field(default_factory=list)  # ascending
    parent_from_child: list[Matrix] = field(default_factory=list)  # [4, 4] each

    def forget_before(self, stamp_ns: int, most: int) -> None:
        count = max(bisect_left(self.stamps_ns, stamp_ns), len(self.stamps_ns) - most)
        del self.stamps_ns[:count], self.parent_from_child[:count]

    def at(self, child: str, stamp_ns: int) -> Matrix:
        if self.static:
            return self.parent_from_child[-1]
        after = bisect_left(self.stamps_ns, stamp_ns)
        if after < len(self.stamps_ns) and self.stamps_ns[after] == stamp_ns:
            return self.parent_from_child[after]
        if after == len(self.stamps_ns):
            raise TooLate(_gap(self.parent, child, stamp_ns, self.stamps_ns[-1], "after the newest"))
        if after == 0:
            raise TooEarly(_gap(self.parent, child, stamp_ns, self.stamps_ns[0], "before the oldest"))
        start_ns, end_ns = self.stamps_ns[after - 1 : after + 1]
        ratio = (stamp_ns - start_ns) / (end_ns - start_ns)
        return interpolate(self.parent_from_child[after - 1], self.parent_from_child[after], ratio)


class TransformBuffer:
    """The newest `keep_ns` nanoseconds (and at most `max_samples` samples) of every edge of the frame tree."""

    def __init__(self, keep_ns: int = 10 * NS_PER_S, max_samples: int = 20_000, max_frames: int = 10_000) -> None:
        self.keep_ns, self.max_samples, self.max_frames = keep_ns, max_samples, max_frames
        self._edges: dict[str, _Edge] = {}  # by child

    def set(self, parent: str, child: str, stamp_ns: int, parent_from_child: Matrix, static: bool = False) -> bool:
        """Add one sample [4, 4]; returns whether the edge's clock went back, which restarts that edge.

        A second sample with the stamp of a first one is ignored, as in tf2.

        Raises:
            ValueError: an empty name, a frame that is its own parent, or a matrix that is not rigid.
            ConflictingTransform: the child has another parent already, or is fixed and is now said to move.
        """
        parent, child = clean_frame(parent), clean_frame(child)
        if not parent or not child or parent == child:
            raise ValueError(f"transform from {child!r} to {parent!r}: frames need two different names")
        matrix = check_rigid(parent_from_child, f"transform {parent} <- {child}")
        edge = self._edge(parent, child, stamp_ns, static)
        if static:
            edge.stamps_ns, edge.parent_from_child = [stamp_ns], [matrix]
            return False
        went_back = bool(edge.stamps_ns) and stamp_ns < edge.stamps_ns[-1] - LATE_SAMPLE_NS
        if went_back:
            edge.stamps_ns, edge.parent_from_child = [], []
        place = bisect_left(edge.stamps_ns, stamp_ns)
        if place == len(edge.stamps_ns) or edge.stamps_ns[place] != stamp_ns:
            edge.stamps_ns.insert(place, stamp_ns)
            edge.parent_from_child.insert(place, matrix)
            edge.forget_before(edge.stamps_ns[-1] - self.keep_ns, self.max_samples)
        return went_back

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """`target_from_source` [4, 4] at `stamp_ns`.

        Raises:
            UnknownFrame, NotConnected, TooEarly, TooLate: see these classes.
        """
        target, source = clean_frame(target), clean_frame(source)
        targets, sources = self.ancestors(target), self.ancestors(source)
        common = next((frame for frame in targets if frame in sources), None)
        if common is None:
            raise NotConnected(
                f"no transform joins {target!r} and {source!r}: their trees end at {targets[-1]!r} and {sources[-1]!r}"
            )
        common_from_source = self._climb(sources[: sources.index(common)], stamp_ns)
        if target == common:
            return common_from_source
        return invert(self._climb(targets[: targets.index(common)], stamp_ns)) @ common_from_source

    def ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, and so on up to the root.

        Raises:
            UnknownFrame: no transform has named the frame.
        """
        chain = [clean_frame(frame)]
        while (edge := self._edges.get(chain[-1])) is not None:
            if len(chain) > MAX_DEPTH or edge.parent in chain:
                raise NotConnected(f"the transforms above {frame!r} form a loop: {' -> '.join(chain[:8])}")
            chain.append(edge.parent)
        if len(chain) == 1 and not any(edge.parent == chain[0] for edge in self._edges.values()):
            raise UnknownFrame(f"no transform has named the frame {chain[0]!r}; known frames: {self._known()}")
        return chain

    def is_moving(self, child: str) -> bool:
        """Whether the edge above `child` is fed with samples over time."""
        edge = self._edges.get(clean_frame(child))
        return edge is not None and not edge.static

    def newest_ns(self, child: str) -> int | None:
        """Stamp of the newest sample of the moving edge above `child`."""
        edge = self._edges.get(clean_frame(child))
        return None if edge is None or edge.static or not edge.stamps_ns else edge.stamps_ns[-1]

    def clear(self) -> None:
        """Forget everything that moves; fixed edges are sent once only and stay."""
        self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def _edge(self, parent: str, child: str, stamp_ns: int, static: bool) -> _Edge:
        edge = self._edges.get(child)
        if edge is not None and edge.parent != parent and not self._is_stale(edge, stamp_ns):
            raise ConflictingTransform(
                f"frame {child!r} has two parents, {edge.parent!r} and {parent!r}: stop one sender"
            )
        if edge is not None and edge.parent == parent and edge.static != static:
            raise ConflictingTransform(
                f"transform {parent} <- {child} is sent both as fixed (/tf_static) and moving (/tf)"
            )
        if edge is None or edge.parent != parent:
            if edge is None and len(self._edges) >= self.max_frames:
                raise ValueError(f"more than {self.max_frames} frames: {child!r} is refused")
            edge = self._edges[child] = _Edge(parent, static)
        return edge

    def _is_stale(self, edge: _Edge, stamp_ns: int) -> bool:
        return not edge.static and stamp_ns - edge.stamps_ns[-1] > self.keep_ns

    def _climb(self, children: list[str], stamp_ns: int) -> Matrix:
        top_from_frame = np.eye(4)
        for child in children:
            top_from_frame = self._edges[child].at(child, stamp_ns) @ top_from_frame
        return top_from_frame

    def _known(self) -> str:
        names = sorted({*self._edges, *(edge.parent for edge in self._edges.values())})
        return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "") if names else "none"


def clean_frame(name: str) -> str:
    """A frame name without the leading slash of ROS 1 days."""
    return name.removeprefix("/")


def _gap(parent: str, child: str, stamp_ns: int, sample_ns: int, where: str) -> str:
    seconds = abs(stamp_ns - sample_ns) / NS_PER_S
    return f"transform {parent} <- {child}: {stamp_ns} ns is {seconds:.3f} s {where} sample ({sample_ns} ns)"
