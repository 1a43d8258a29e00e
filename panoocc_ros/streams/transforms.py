"""A bounded graph of coordinate frames over time, with tf2's rules and int64 nanoseconds (REP-105).

A moving edge keeps its newest samples; between two of them a pose is interpolated (linear in translation, spherical in
rotation), outside of them a lookup fails: nothing is extrapolated and nothing defaults to the identity.  Looking up
never waits, so that a single thread can serve images and transforms.

Late samples are filed into the time that is kept, and a stamp that is there already is ignored.  Of several senders
that give a frame different parents the last one comes first, as in tf2.  Nothing is refused for contradicting another
sender: a lookup climbs the edges that can be counted on at its time and that lead where it wants, so that neither a
stray message nor an inverse one takes a frame away.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, check_rigid, invert

from .edge import CONTRADICTION, Edge, TransformError, doubted, shown
from .track import Track

MAX_NAME = 256  # characters of a frame's name
MAX_SENDERS = 4  # of one frame that are told apart
MAX_ABOVE = 256  # frames above one that a lookup sees
MAX_REFUSED = 64  # reasons that are remembered
MAX_KNOWN = 12  # frames that a text names


class UnknownFrame(TransformError):
    """No transform has named this frame yet."""

    def __init__(self, text: str, frame: str) -> None:
        super().__init__(text)
        self.frame = frame


class NotConnected(TransformError):
    """Both frames are known, but no chain of transforms joins them."""


@dataclass(slots=True)
class _Frame:
    """What is said about the parent of one frame."""

    edges: dict[tuple[str, bool], Edge] = field(
        default_factory=dict
    )  # by parent and whether fixed; newest message last
    is_used: bool = False  # by lookups
    doubt: int = 0  # that there is one parent


class TransformBuffer:
    """The newest `keep_ns` nanoseconds (and at most `max_samples` samples) of every edge between frames.

    When more than `max_frames` are sent, those go first that lookups have not used, that are not fixed, and that have
    been silent longest.  `counts` tells how many samples were "late" (and filed), "repeated", "too_old",
    "too_far_ahead", or of before a restart ("clock_back"), and how many frames were "forgotten".
    """

    def __init__(self, keep_ns: int = 10 * NS_PER_S, max_samples: int = 20_000, max_frames: int = 5_000) -> None:
        self.keep_ns, self.max_samples, self.max_frames = keep_ns, max_samples, max_frames
        self.counts: Counter[str] = Counter()
        self._frames: dict[str, _Frame] = {}  # by child
        self._spare: dict[str, None] = {}  # frames that are neither fixed nor used, the longest silent one first
        self._parents: Counter[str] = Counter()  # edges below each frame
        self._refused: dict[str, str] = {}  # child -> why its newest transform was refused

    def set(
        self, parent: str, child: str, stamp_ns: int, parent_from_child: Matrix, static: bool = False
    ) -> str | None:
        """Add one sample [4, 4]; returns how it contradicts what other senders say, if they keep on doing so.

        Raises:
            ValueError: an empty or endless name, a frame that is its own parent, or a matrix that is not rigid.
        """
        parent, child = clean_frame(parent), clean_frame(child)
        _check_names(parent, child)
        matrix = check_rigid(parent_from_child, f"transform {parent} <- {child}")
        frame = self._frame(child, static)
        edge = frame.edges.get((parent, static)) or self._new_edge(frame, parent, child, static)
        begins_anew = not static and edge.track.is_outside(stamp_ns)
        outcome = edge.file(stamp_ns, matrix)
        if outcome:
            self.counts[outcome] += 1
        if outcome in ("", "late"):
            rival = next(reversed(frame.edges.values()))
            frame.edges[parent, static] = frame.edges.pop((parent, static))
            frame.doubt = doubted(frame.doubt, rival is not edge)
            self._on_taken(edge, stamp_ns, matrix, begins_anew)
        self._refused.pop(child, None)
        return self._contradiction(frame, edge, stamp_ns)

    def refuse(self, child: str, text: str) -> None:
        """Remember why the newest transform of a frame is not there, for the texts of lookups."""
        child = clean_frame(child)
        self._refused.pop(child, None)
        self._refused[child] = text
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """`target_from_source` [4, 4] at `stamp_ns`.

        Raises:
            UnknownFrame, NotConnected, TooEarly, TooLate: see these classes.
        """
        up, down = self._used(clean_frame(target), clean_frame(source), stamp_ns)
        common_from_source = _climb(up, stamp_ns)
        return invert(_climb(down, stamp_ns)) @ common_from_source if down else common_from_source

    def fixed(self, target: str, source: str) -> Matrix:
        """`target_from_source` [4, 4] of two frames that do not move against each other, at any time.

        Raises:
            UnknownFrame, NotConnected: see these classes.
        """
        target, source = clean_frame(target), clean_frame(source)
        if target == source:
            return np.eye(4)
        self._check_known(target)
        self._check_known(source)
        sources, targets = self._fixed_paths(source), self._fixed_paths(target)
        common = next((name for name in sources if name in targets), None)
        if common is None:
            raise NotConnected(f"no fixed transform joins {shown(target)!r} and {shown(source)!r}")
        return invert(_climb(targets[common], 0)) @ _climb(sources[common], 0)

    def _fixed_paths(self, frame: str) -> dict[str, tuple[Edge, ...]]:
        """The frames above one, itself first, as far as nothing moves, and the edges that lead up to each."""
        paths: dict[str, tuple[Edge, ...]] = {frame: ()}
        edges: tuple[Edge, ...] = ()
        while frame in self._frames:
            fixed = [one for (_, static), one in self._frames[frame].edges.items() if static and one.track.stamps_ns]
            if not fixed or fixed[-1].parent in paths:
                break
            self._frames[frame].is_used, edges = True, (*edges, fixed[-1])
            frame = fixed[-1].parent
            paths[frame] = edges
        return paths

    def ancestors(self, frame: str, stamp_ns: int) -> dict[str, bool]:
        """The frames above one at a time, the nearest first, and whether each moves against the one below it.

        Raises:
            UnknownFrame: no transform has named the frame.
        """
        frame = clean_frame(frame)
        self._check_known(frame)
        return {name: not edges[-1].static for name, edges in self._paths(frame, stamp_ns).items() if edges}

    def chain(self, target: str, source: str, stamp_ns: int) -> tuple[str, ...]:
        """The frames that a lookup goes through, both ends included, the source last.

        Raises:
            UnknownFrame, NotConnected: as `lookup`.
        """
        target, source = clean_frame(target), clean_frame(source)
        sources, targets, common = self._joined(target, source, stamp_ns)
        up = [edge.child for edge in sources[common]]  # from the source to below the common frame
        down = [edge.child for edge in targets[common]]
        return (*down, common, *reversed(up))

    @property
    def frames(self) -> tuple[str, ...]:
        """The names of all frames, those that are only parents among them, in the order of the alphabet."""
        sent = (
            name for name, frame in self._frames.items() if any(edge.track.stamps_ns for edge in frame.edges.values())
        )
        return tuple(sorted({*self._parents, *sent}))

    def why_refused(self, *frames: str) -> str:
        """The end of a sentence: why a transform is missing below one of the frames; empty if none was refused."""
        return next((f"; {self._refused[name]}" for name in frames if name in self._refused), "")

    def restart(self) -> None:
        """The clock went back: of everything that moves keep what has come since; fixed edges stay."""
        for frame in self._frames.values():
            for edge in frame.edges.values():
                if not edge.static:
                    edge.track.restart()

    def _on_taken(self, edge: Edge, stamp_ns: int, matrix: Matrix, begins_anew: bool) -> None:
        """For those who keep samples elsewhere, too: one was taken; `begins_anew`: its edge left the time before."""

    def _on_forgotten(self, edge: Edge) -> None:
        """... one edge was forgotten."""

    def _used(self, target: str, source: str, stamp_ns: int) -> tuple[tuple[Edge, ...], tuple[Edge, ...]]:
        """The edges up from the source, and down to the target, marked as used.

        Raises:
            UnknownFrame, NotConnected: see these classes.
        """
        sources, targets, common = self._joined(target, source, stamp_ns)
        for edge in (*sources[common], *targets[common]):
            self._frames[edge.child].is_used = True
            self._spare.pop(edge.child, None)
        return sources[common], targets[common]

    def _frame(self, child: str, static: bool) -> _Frame:
        """What is known of a child; room is made where it is new."""
        frame = self._frames.get(child)
        if frame is None:
            if len(self._frames) >= self.max_frames:
                self._forget_one()
            frame = self._frames[child] = _Frame()
        is_kept = frame.is_used or static or any(edge.static for edge in frame.edges.values())
        self._spare.pop(child, None)
        if not is_kept:
            self._spare[child] = None
        return frame

    def _forget_one(self) -> None:
        unused = (name for name, frame in self._frames.items() if not frame.is_used)
        name = next(iter(self._spare), None) or next(unused, None) or next(iter(self._frames))
        self._spare.pop(name, None)
        self.counts["forgotten"] += 1
        for edge in self._frames.pop(name).edges.values():
            self._forget_parent(edge)

    def _new_edge(self, frame: _Frame, parent: str, child: str, static: bool) -> Edge:
        if len(frame.edges) >= MAX_SENDERS:
            spare = next((key for key in frame.edges if not key[1]), next(iter(frame.edges)))
            self._forget_parent(frame.edges.pop(spare))
        track: Track[Matrix] = Track(self.keep_ns, self.max_samples)
        edge = frame.edges[parent, static] = Edge(parent, child, static, track)
        self._parents[parent] += 1
        return edge

    def _forget_parent(self, edge: Edge) -> None:
        self._on_forgotten(edge)
        self._parents[edge.parent] -= 1
        if not self._parents[edge.parent]:
            del self._parents[edge.parent]

    def _paths(self, frame: str, stamp_ns: int, sure: bool = False) -> dict[str, tuple[Edge, ...]]:
        """The frames above one, itself and the nearest first, and the edges that lead up to each.

        Of several edges above a frame those count that serve at the time; `sure`: no others even where there is none.
        """
        paths: dict[str, tuple[Edge, ...]] = {frame: ()}
        waiting = deque([frame])
        while waiting and len(paths) < MAX_ABOVE:
            below = waiting.popleft()
            if below not in self._frames:
                continue
            edges = [edge for edge in reversed(self._frames[below].edges.values()) if edge.track.stamps_ns]
            serving = [edge for edge in edges if edge.serves(stamp_ns)]
            for edge in serving if serving or sure else edges:
                if edge.parent not in paths:
                    paths[edge.parent] = (*paths[below], edge)
                    waiting.append(edge.parent)
        return paths

    def _joined(
        self, target: str, source: str, stamp_ns: int
    ) -> tuple[dict[str, tuple[Edge, ...]], dict[str, tuple[Edge, ...]], str]:
        """The paths up from the source and from the target, and the frame in which they meet.

        Raises:
            UnknownFrame, NotConnected: see these classes.
        """
        self._check_known(target)
        self._check_known(source)
        sources = self._paths(source, stamp_ns)
        targets: dict[str, tuple[Edge, ...]] = {target: ()} if target in sources else self._paths(target, stamp_ns)
        common = next((name for name in sources if name in targets), None)
        if common is None:
            roots = next(reversed(targets)), next(reversed(sources))
            raise NotConnected(
                f"no transform joins {shown(target)!r} and {shown(source)!r}: their trees end at {shown(roots[0])!r} "
                f"and {shown(roots[1])!r}{self.why_refused(*roots)}"
            )
        return sources, targets, common

    def _contradiction(self, frame: _Frame, edge: Edge, stamp_ns: int) -> str | None:
        loop = self._paths(edge.parent, stamp_ns, sure=True).get(edge.child)
        if loop:
            return f"transform {edge} closes a loop with {', '.join(map(str, loop[:8]))}: stop one of their senders"
        if frame.doubt >= CONTRADICTION:
            senders = ", ".join(f"{one} ({'fixed' if one.static else 'moving'})" for one in frame.edges.values())
            return f"frame {shown(edge.child)!r} has several parents in turn: {senders}: stop all senders but one"
        if edge.doubt >= CONTRADICTION and frame.is_used:  # wheels turn too fast for their rate
            return f"transform {edge} jumps to and fro: two senders contradict each other; stop one"
        return None

    def _check_known(self, name: str) -> None:
        frame = self._frames.get(name)
        if name in self._parents or (frame is not None and any(edge.track.stamps_ns for edge in frame.edges.values())):
            return
        raise UnknownFrame(
            f"no transform has named the frame {shown(name)!r}{self.why_refused(name)}; known frames: {self._known()}",
            name,
        )

    def _known(self) -> str:
        some = islice(self._frames.items(), MAX_KNOWN)
        names = sorted({name for child, frame in some for name in (child, *(key[0] for key in frame.edges))})
        more = " ..." if max(len(names), len(self._frames)) > MAX_KNOWN else ""
        return ", ".join(map(shown, names[:MAX_KNOWN])) + more if names else "none"


def clean_frame(name: str) -> str:
    """A frame name without the leading slash of ROS 1 days."""
    return name.removeprefix("/")


def _check_names(parent: str, child: str) -> None:
    if not parent or not child or parent == child:
        raise ValueError(f"transform from {shown(child)!r} to {shown(parent)!r}: frames need two different names")
    for name in (parent, child):
        if len(name) > MAX_NAME:
            raise ValueError(f"the name of the frame {shown(name)!r} has {len(name)} characters, more than {MAX_NAME}")


def _climb(edges: tuple[Edge, ...], stamp_ns: int) -> Matrix:
    """top_from_frame [4, 4] along the edges above a frame."""
    top_from_frame = np.eye(4)
    for edge in edges:
        top_from_frame = edge.at(stamp_ns) @ top_from_frame
    return top_from_frame
