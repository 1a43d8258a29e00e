"""A bounded tree of coordinate frames over time, with tf2's rules and int64 nanoseconds (REP-105).

Every frame has one parent.  A moving edge keeps its newest samples; between two of them a pose is interpolated (linear
in translation, spherical in rotation), outside of them a lookup fails: nothing is extrapolated and nothing defaults
to the identity.  Looking up never waits, so that a single thread can serve images and transforms.

Late samples are filed into the time that is kept, and a stamp that is there already is ignored.  Of several senders
that give a frame different parents the last one wins, as in tf2; but one stray message neither takes a fixed frame
away nor closes a loop: for that a transform must be sent again and again.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, check_rigid, invert

from .edge import CONTRADICTION, Edge, TransformError, doubted, shown

MAX_DEPTH = 64
MAX_NAME = 256  # characters of a frame's name
MAX_SENDERS = 4  # of one frame that are told apart
SUSTAINED = 3  # so often is sent what is no mistake


class UnknownFrame(TransformError):
    """No transform has named this frame yet."""


class NotConnected(TransformError):
    """Both frames are known, but no chain of transforms joins them."""


class ConflictingTransform(ValueError):
    """A frame would be its own ancestor, or a fixed one was moved by a stray message; the text names the frames."""


@dataclass(slots=True)
class _Frame:
    """What is said about the parent of one frame."""

    edges: dict[tuple[str, bool], Edge] = field(default_factory=dict)  # by parent and whether it is fixed
    chosen: Edge | None = None
    doubt: int = 0  # that there is one parent


class TransformBuffer:
    """The newest `keep_ns` nanoseconds (and at most `max_samples` samples) of every edge of the frame tree.

    `counts` tells how many samples were "late" (and filed), "repeated", "too_old" or of before a restart
    ("clock_back").
    """

    def __init__(self, keep_ns: int = 10 * NS_PER_S, max_samples: int = 20_000, max_frames: int = 5_000) -> None:
        self.keep_ns, self.max_samples, self.max_frames = keep_ns, max_samples, max_frames
        self.counts: Counter[str] = Counter()
        self._frames: dict[str, _Frame] = {}  # by child
        self._parents: Counter[str] = Counter()  # edges below each frame
        self._refused: dict[str, str] = {}  # child -> why its newest transform was refused

    def set(
        self, parent: str, child: str, stamp_ns: int, parent_from_child: Matrix, static: bool = False
    ) -> str | None:
        """Add one sample [4, 4]; returns how it contradicts what other senders say, if they keep on doing so.

        Raises:
            ValueError: an empty or endless name, a frame that is its own parent, or a matrix that is not rigid.
            ConflictingTransform: the frame would be its own ancestor, or it is fixed and this may be a stray message.
        """
        parent, child = clean_frame(parent), clean_frame(child)
        _check_names(parent, child)
        matrix = check_rigid(parent_from_child, f"transform {parent} <- {child}")
        edge = self._edge(parent, child, static)
        outcome = edge.file(stamp_ns, matrix, self.keep_ns, self.max_samples)
        if outcome:
            self.counts[outcome] += 1
        frame = self._frames[child]
        rival = frame.chosen
        if rival is not edge:
            self._choose(frame, edge, stamp_ns)
        self._refused.pop(child, None)
        frame.doubt = doubted(frame.doubt, rival is not None and rival is not edge)
        return self._contradiction(frame, edge)

    def refuse(self, child: str, text: str) -> None:
        """Remember why the newest transform of a frame is not there, for the texts of lookups."""
        child = clean_frame(child)
        self._refused.pop(child, None)
        self._refused[child] = text
        if len(self._refused) > MAX_DEPTH:
            del self._refused[next(iter(self._refused))]

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """`target_from_source` [4, 4] at `stamp_ns`.

        Raises:
            UnknownFrame, NotConnected, TooEarly, TooLate: see these classes.
        """
        target, source = clean_frame(target), clean_frame(source)
        targets, sources = list(self._chain(target, stamp_ns)), list(self._chain(source, stamp_ns))
        above = {target, *(edge.parent for edge in targets)}
        common = next((name for name in (source, *(edge.parent for edge in sources)) if name in above), None)
        if common is None:
            roots = [edges[-1].parent if edges else name for edges, name in ((targets, target), (sources, source))]
            raise NotConnected(
                f"no transform joins {shown(target)!r} and {shown(source)!r}: their trees end at {shown(roots[0])!r} "
                f"and {shown(roots[1])!r}{self.why_refused(*roots)}"
            )
        common_from_source = _climb(sources, common, stamp_ns)
        if target == common:
            return common_from_source
        return invert(_climb(targets, common, stamp_ns)) @ common_from_source

    def ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, and so on up to the root.

        Raises:
            UnknownFrame: no transform has named the frame.
        """
        frame = clean_frame(frame)
        return [frame, *(edge.parent for edge in self._chain(frame))]

    def is_moving(self, child: str) -> bool:
        """Whether the edge above `child` is fed with samples over time."""
        edge = self._above(clean_frame(child))
        return edge is not None and not edge.static

    def newest_ns(self, child: str) -> int | None:
        """Stamp of the newest sample of the moving edge above `child`."""
        edge = self._above(clean_frame(child))
        return None if edge is None or edge.static else edge.stamps_ns[-1]

    def why_refused(self, *frames: str) -> str:
        """The end of a sentence: why a transform is missing below one of the frames; empty if none was refused."""
        return next((f"; {self._refused[name]}" for name in frames if name in self._refused), "")

    def restart(self) -> None:
        """The clock went back: of everything that moves keep what has come since; fixed edges stay."""
        for frame in self._frames.values():
            for edge in frame.edges.values():
                if not edge.static:
                    edge.restart()

    def _edge(self, parent: str, child: str, static: bool) -> Edge:
        frame = self._frames.get(child)
        if frame is None:
            if len(self._frames) >= self.max_frames:
                raise ValueError(f"more than {self.max_frames} frames: {shown(child)!r} is refused")
            frame = self._frames[child] = _Frame()
        edge = frame.edges.get((parent, static))
        if edge is None:
            if len(frame.edges) >= MAX_SENDERS:
                spare = next(key for key, other in frame.edges.items() if other is not frame.chosen)
                self._parents[frame.edges.pop(spare).parent] -= 1
            edge = frame.edges[parent, static] = Edge(parent, child, static)
            self._parents[parent] += 1
        return edge

    def _choose(self, frame: _Frame, edge: Edge, stamp_ns: int) -> None:
        """Let `edge` be the one above its child, unless it looks like a mistake."""
        rival = frame.chosen
        stray = not edge.static and edge.count < SUSTAINED
        if rival is not None and rival.static and stray:
            raise ConflictingTransform(f"frame {shown(edge.child)!r} is fixed ({rival}), now sent as moving ({edge})")
        loop = self._loop(edge)
        if loop:
            has_parent = rival is not None and not rival.is_stale(stamp_ns)
            weak = [one for one in loop if one.static or one.count < SUSTAINED or one.is_stale(stamp_ns)]
            if edge.static or stray or has_parent or not weak:
                raise ConflictingTransform(f"transform {edge} closes a loop: {', '.join(map(str, loop[:8]))}")
            self._frames[weak[0].child].chosen = None
        frame.chosen = edge

    def _loop(self, edge: Edge) -> list[Edge]:
        """The edges from the parent of `edge` up to its child; empty where they do not lead there."""
        found: list[Edge] = []
        above = self._chosen(edge.parent)
        while above is not None and len(found) < MAX_DEPTH:
            found.append(above)
            if above.parent == edge.child:
                return found
            above = self._chosen(above.parent)
        return found if above is not None else []

    def _chosen(self, child: str) -> Edge | None:
        frame = self._frames.get(child)
        return None if frame is None else frame.chosen

    def _above(self, child: str, stamp_ns: int | None = None) -> Edge | None:
        """The edge above a frame, if it has samples; one that grew stale gives way to another sender's."""
        frame = self._frames.get(child)
        if frame is None:
            return None
        edge = frame.chosen
        is_gone = edge is None or not edge.stamps_ns
        if is_gone or (stamp_ns is not None and len(frame.edges) > 1 and edge is not None and edge.is_stale(stamp_ns)):
            edge = frame.chosen = self._fallback(frame) or edge
        return edge if edge is not None and edge.stamps_ns else None

    def _fallback(self, frame: _Frame) -> Edge | None:
        """Another edge that can take the place of one that was refused, set aside, or has grown stale."""
        edge = frame.chosen
        newest_ns = edge.stamps_ns[-1] if edge is not None and edge.stamps_ns else None
        for other in frame.edges.values():
            is_newer = (
                edge is not None and bool(other.stamps_ns) and (newest_ns is None or other.stamps_ns[-1] > newest_ns)
            )
            if other is not edge and (other.static or is_newer) and not self._loop(other):
                return other
        return None

    def _chain(self, frame: str, stamp_ns: int | None = None) -> Iterator[Edge]:
        """The edges from a frame up to the root."""
        edge = self._above(frame, stamp_ns)
        if edge is None and not self._parents[frame]:
            raise UnknownFrame(
                f"no transform has named the frame {shown(frame)!r}{self.why_refused(frame)}; "
                f"known frames: {self._known()}"
            )
        depth = 0
        while edge is not None:
            yield edge
            depth += 1
            if depth > MAX_DEPTH:
                raise NotConnected(f"more than {MAX_DEPTH} transforms lie above {shown(frame)!r}")
            edge = self._above(edge.parent, stamp_ns)

    def _contradiction(self, frame: _Frame, edge: Edge) -> str | None:
        if frame.doubt >= CONTRADICTION:
            senders = ", ".join(f"{one} ({'fixed' if one.static else 'moving'})" for one in frame.edges.values())
            return f"frame {shown(edge.child)!r} has several parents in turn: {senders}: stop all senders but one"
        if edge.doubt >= CONTRADICTION:
            return f"transform {edge} jumps to and fro: two senders contradict each other; stop one"
        return None

    def _known(self) -> str:
        names = {*islice((name for name, count in self._parents.items() if count), 12), *islice(self._frames, 12)}
        shown_names = [shown(name) for name in sorted(names)]
        return ", ".join(shown_names[:12]) + (" ..." if len(names) > 12 else "") if names else "none"


def clean_frame(name: str) -> str:
    """A frame name without the leading slash of ROS 1 days."""
    return name.removeprefix("/")


def _check_names(parent: str, child: str) -> None:
    if not parent or not child or parent == child:
        raise ValueError(f"transform from {shown(child)!r} to {shown(parent)!r}: frames need two different names")
    for name in (parent, child):
        if len(name) > MAX_NAME:
            raise ValueError(f"the name of the frame {shown(name)!r} has {len(name)} characters, more than {MAX_NAME}")


def _climb(edges: list[Edge], top: str, stamp_ns: int) -> Matrix:
    """top_from_frame [4, 4] along the edges above a frame."""
    top_from_frame = np.eye(4)
    reached = edges[0].child if edges else top
    for edge in edges:
        if reached == top:
            break
        top_from_frame = edge.at(stamp_ns) @ top_from_frame
        reached = edge.parent
    return top_from_frame
