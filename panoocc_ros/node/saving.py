"""The service `~/save`: the next set as a bag, written beside the work, for whoever looks into a problem."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rclpy.node import Node

from ..bags.bag import BagWriteError
from ..bags.saved_set import Made, SaveRefused, default_folder, free_path, write_set
from ..frames.rig import Rig
from ..frames.sets import ReadySet
from ..motion.motion_options import MotionOptions
from ..ros.graph import to_bytes
from ..ros.throttle import ProblemLog

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class _Request:
    path: Path
    texts: Mapping[str, str]


class Saving:
    """Saves a set when it is asked to.  `take` belongs to the worker's thread, the others to the executor's."""

    def __init__(self, node: Node, rig: Rig, sources: MotionOptions, log: ProblemLog) -> None:
        self.rig, self._log, self._logger = _absolute(node, rig), log, node.get_logger()
        self._sources = _resolved(node, sources, ("odometry_topic", "imu_topic"))
        self._request: _Request | None = None  # until the set has come
        self._awaited: Path | None = None  # until the bag is written
        self._thread: threading.Thread | None = None

    def request(self, folder: str, texts: Mapping[str, str]) -> Path:
        """Have the next set saved; returns where.

        Args:
            folder: empty: the default one.
            texts: topic below /panoocc -> what is to stand in the bag beside the set.

        Raises:
            BagWriteError: that folder cannot be written.
            SaveRefused: the bag that was asked for before is not written yet.
        """
        if (awaited := self._awaited) is not None:
            raise SaveRefused(f"{awaited} was asked for before, and is not written yet: wait for it")
        path = free_path(Path(folder).expanduser() if folder else default_folder())
        self._awaited, self._request = path, _Request(path, texts)
        return path

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for the next set."""
        return self._request is not None

    def take(self, ready: ReadySet, made: Sequence[Made], problem: str = "") -> None:
        """Save a set if somebody waits for it.

        Args:
            made: what became of it.
            problem: why nothing did.
        """
        request, self._request = self._request, None
        if request is not None:
            self._thread = threading.Thread(
                target=self._write, args=(request, ready, made, problem), name="save", daemon=True
            )
            self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """To be called behind the last `take`; returns whether the last set was written in time."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._request is not None:
            self._log.warn("save", f"{self._request.path} was not written: no set came any more")
        elif self._awaited is not None:
            self._log.warn("save", f"{self._awaited} is not written yet, after {timeout_s:g} s")
        return self._thread is None or not self._thread.is_alive()

    def _write(self, request: _Request, ready: ReadySet, made: Sequence[Made], problem: str) -> None:
        texts = {**request.texts, "problem": problem} if problem else request.texts
        try:
            write_set(request.path, self.rig, self._sources, ready, made, texts, to_bytes)
        except BagWriteError as error:
            self._log.error("save", f"the set was not saved: {error}")
        except Exception as error:  # of any kind: a fault of ours, and nobody else would hear of it in this thread
            self._log.error("save", f"the set was not saved: {type(error).__name__}: {error}")
        else:
            self._logger.info(f"a set{f' without a grid ({problem})' if problem else ''} was saved as {request.path}")
        finally:
            self._awaited = None


def _absolute(node: Node, rig: Rig) -> Rig:
    """The rig with the topics' full names, as bags have them."""
    cameras = tuple(
        replace(one, topic=node.resolve_topic_name(one.topic), info_topic=node.resolve_topic_name(one.info_topic))
        for one in rig.cameras
    )
    return _resolved(node, replace(rig, cameras=cameras), ("tf_topic", "tf_static_topic"))


def _resolved(node: Node, options: Options, keys: Sequence[str]) -> Options:
    """The same with the full names of some topics, as far as they are named."""
    names = {key: node.resolve_topic_name(topic) for key in keys if (topic := getattr(options, key))}
    return replace(options, **names)  # type: ignore[type-var]
