"""`panoocc view BAG`: grids and what belongs to them in Rerun or Foxglove, as a film, or as plots."""

import argparse
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from panoocc_core.base.overwriting import why_other_kind
from panoocc_core.geometry import NS_PER_S
from panoocc_core.pictures import animation, charts

from ..bags.bag import BagReader
from ..bags.pacing import Pacer
from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, NO_GRID, NOT_WRITTEN, OK, explained
from ..ros.signals import stopped_by_signals
from ..view.bag_scenes import GRIDS, BagScenes
from ..view.film import usual_rate_hz, write_film
from ..view.foxglove_sink import HOST, PORT, FoxgloveSink, foxglove_server
from ..view.packages import viewer
from ..view.plots import Plotter
from ..view.rerun_sink import check_display, rerun_file, rerun_window
from ..view.scene import OVERLAY, Scene
from .shared import options
from .shared.failures import Ended, status_of
from .shared.results import check_results
from .shared.words import many

DESCRIPTION = """\
Shows voxel grids with what belongs to them: camera images, boxes and their numbers, the vehicle's path, the 2-D grid,
latencies and counts over time.  Grids are those of a bag (of `panoocc run`, or recorded from the node), or with --live
those of a node that runs.  Without another choice Rerun's viewer opens; --save, --video, --plot and --foxglove need no
display and can be combined.
"""
EPILOG = f"""\
examples:
  panoocc view grids.mcap --images drive/                       # Rerun's viewer
  panoocc view grids.mcap --images drive/ --save drive.rrd      # a file for it
  panoocc view grids.mcap --video drive.mp4 --from 10 --to 20   # the voxels alone, ten seconds
  panoocc view grids.mcap --plot numbers.png
  panoocc view grids.mcap --images drive/ --foxglove --loop     # then open the address that is printed
  panoocc view --live --foxglove                                # of a node that runs, until Ctrl-C

{explained(BAD_INPUT, NO_GRID, NOT_WRITTEN)}
"""
MAX_EVERY, MAX_RATE, MAX_FPS = 1_000_000, 1000.0, 240.0
WATCH_S = 0.2  # between two looks whether to go on waiting


class Sink(Protocol):
    """What scenes are shown to, one after the other."""

    def show(self, scene: Scene) -> None: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc view`."""
    parser.add_argument("bag", type=Path, nargs="?", metavar="BAG", help="bag with grids")
    parser.add_argument("--live", action="store_true", help="the grids of a node that runs, in place of a bag")
    parser.add_argument(
        "--images", type=Path, metavar="BAG", help="the bag with the camera images, if it is another one"
    )
    parser.add_argument("--topic", default=GRIDS, metavar="TOPIC", help="the grids (default: %(default)s)")
    parser.add_argument("--use-sim-time", action="store_true", help="with --live: latencies by /clock")
    choice = parser.add_argument_group("which grids")
    choice.add_argument(
        "--from",
        dest="begin_s",
        type=number(0.0),
        default=0.0,
        metavar="S",
        help="from S seconds after the first one on",
    )
    choice.add_argument(
        "--to",
        dest="end_s",
        type=number(0.0),
        default=float("inf"),
        metavar="S",
        help="before S seconds after the first one",
    )
    choice.add_argument("--every", type=whole_number(1, MAX_EVERY), default=1, metavar="N", help="one grid in N")
    where = parser.add_argument_group("where to (default: Rerun's viewer)")
    where.add_argument("--save", type=Path, metavar="FILE.rrd", help="a file for Rerun")
    where.add_argument("--video", type=Path, metavar="FILE", help="a film: .mp4, .gif or .webp")
    where.add_argument(
        "--fps",
        type=number(0.1, MAX_FPS),
        metavar="N",
        help="of the film, a frame a grid (default: every grid lasts until the next one)",
    )
    where.add_argument("--plot", type=Path, metavar="FILE", help="plots of numbers over time: .png, .svg or .pdf")
    where.add_argument("--foxglove", action="store_true", help="serve Foxglove over WebSocket, in real time")
    where.add_argument(
        "--host",
        default=HOST,
        metavar="HOST",
        help="which address Foxglove may connect to; 0.0.0.0: any (default: %(default)s)",
    )
    where.add_argument(
        "--port", type=whole_number(0, 65535), default=PORT, metavar="N", help="(default: %(default)s; 0: a free one)"
    )
    where.add_argument(
        "--rate", type=number(0.001, MAX_RATE), default=1.0, metavar="X", help="times real time (default: %(default)s)"
    )
    where.add_argument("--loop", action="store_true", help="play the bag again and again")
    where.add_argument("--overwrite", action="store_true", help="replace files of these kinds")
    options.add(parser, "--no-progress")


def run(arguments: argparse.Namespace) -> int:
    """Show; returns the exit status."""
    return status_of("view", lambda: _run(arguments), engine="the view")


def _run(arguments: argparse.Namespace) -> None:
    _check(arguments)
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals()) if arguments.live or arguments.foxglove else threading.Event()
        if arguments.live:
            live = stack.enter_context(_listening(arguments, stop))
            print(f"waiting for grids on {arguments.topic}", file=sys.stderr, flush=True)
            if not live.wait_for_node():
                raise Ended(f"nobody published grids on {arguments.topic}", NO_GRID)
            _show(arguments, live, stop, arguments.fps, arguments.topic)
        else:
            grids = stack.enter_context(BagReader(arguments.bag))
            images = stack.enter_context(BagReader(arguments.images)) if arguments.images else None
            chosen = arguments.begin_s, arguments.end_s, arguments.every
            scenes = BagScenes(grids, images, arguments.topic, *chosen)
            _show(arguments, scenes, stop, arguments.fps or usual_rate_hz(scenes.times_s), arguments.bag.name)


def _listening(arguments: argparse.Namespace, stop: threading.Event) -> Any:
    try:
        from ..view.listener import listening
    except ImportError as error:
        raise ImportError(
            f"--live needs ROS 2 in this shell ({error}): source it and the workspace of panoocc"
        ) from error
    return listening(arguments.topic, stop, arguments.use_sim_time)


def _check(arguments: argparse.Namespace) -> None:
    """What argparse cannot see.

    Raises:
        ValueError: options contradict each other, a name does not say its kind, or a window has no display.
        Ended: a file is in the way.
        ImportError: a viewer's package is not installed.
    """
    if arguments.live == (arguments.bag is not None):
        raise ValueError("give either a bag with grids or --live")
    wants = (
        (arguments.live and arguments.images, "--images is for bags: with --live the images are those of the topics"),
        (arguments.loop and (arguments.live or not arguments.foxglove), "--loop is for a bag and --foxglove"),
        (arguments.rate != 1 and (arguments.live or not arguments.foxglove), "--rate is for a bag and --foxglove"),
        (arguments.fps and not arguments.video, "--fps is for --video"),
        (arguments.live and arguments.video and not arguments.fps, "--video of --live needs --fps"),
        (arguments.loop and (arguments.save or arguments.video or arguments.plot), "--loop leaves no file"),
        (arguments.end_s <= arguments.begin_s, f"--to {arguments.end_s:g} must be after --from {arguments.begin_s:g}"),
    )
    for is_wrong, text in wants:
        if is_wrong:
            raise ValueError(text)
    opens_window = not _outputs(arguments) and not arguments.foxglove
    if arguments.foxglove:  # these now, and not after a node was waited for
        viewer("foxglove")
    if arguments.save or opens_window:
        viewer("rerun")
    if opens_window:
        check_display()
    endings = {"--save": (".rrd",), "--video": animation.ENDINGS, "--plot": charts.ENDINGS}
    inputs = [path for path in (arguments.bag, arguments.images) if path is not None]
    check_results(_outputs(arguments), endings, arguments.overwrite, why_other_kind, inputs)


def _outputs(arguments: argparse.Namespace) -> dict[str, Path]:
    given = {"--save": arguments.save, "--video": arguments.video, "--plot": arguments.plot}
    return {option: path for option, path in given.items() if path is not None}


def _show(
    arguments: argparse.Namespace, scenes: BagScenes | Any, stop: threading.Event, fps: float | None, name: str
) -> None:
    """Show all scenes everywhere that was asked for, and tell what could not be shown.

    Raises:
        Ended: there was no scene.
    """
    plotter = Plotter() if arguments.plot else None
    with ExitStack() as stack:
        sinks: list[Sink] = [] if plotter is None else [plotter]
        if arguments.save:
            sinks.append(stack.enter_context(rerun_file(arguments.save, scenes.sources, name)))
        server = stack.enter_context(foxglove_server(arguments.host, arguments.port)) if arguments.foxglove else None
        if server is not None:
            sinks.append(server)
        if not _outputs(arguments) and server is None:
            sinks.append(stack.enter_context(rerun_window(scenes.sources, name)))
        if arguments.live:
            print("showing; Ctrl-C ends", file=sys.stderr, flush=True)
        playing = _chosen(arguments, scenes) if arguments.live else _played(arguments, scenes, server, stop)
        shown = _shown(arguments, playing, sinks, scenes)
        problems: dict[str, str] = {}
        if arguments.video:
            assert fps is not None  # see `_check`
            cameras = [camera for camera in scenes.sources.cameras.values() if camera != OVERLAY]
            title = f"PanoOcc {name}"
            write_film(arguments.video, shown, cameras, fps, title, problems, as_they_came=not arguments.fps)
        else:
            deque(shown, maxlen=0)
        if plotter is not None:
            plotter.write(arguments.plot, name)
        if server is not None and not arguments.live and not stop.is_set():
            print("the bag is over; Ctrl-C ends", file=sys.stderr, flush=True)
            stop.wait()
    for sink in sinks:
        problems |= getattr(sink, "problems", {})
    for what, text in {**scenes.problems, **problems}.items():
        print(f"WARNING: {what}: {text}", file=sys.stderr)
    if skipped := getattr(scenes, "skipped", 0):
        print(f"WARNING: {many(skipped, 'grid')} not shown: newer ones came before their turn", file=sys.stderr)
    for text, count in scenes.broken.items():
        print(f"WARNING: {many(count, 'grid')} left out: {text}", file=sys.stderr)
    for path in _outputs(arguments).values():
        print(f"written: {str(path).encode(errors='backslashreplace').decode()}")


def _shown(
    arguments: argparse.Namespace, playing: Iterable[Scene], sinks: Sequence[Sink], scenes: BagScenes | Any
) -> Iterator[Scene]:
    """The scenes, each of which the sinks have got before it comes."""
    hidden = arguments.no_progress or not sys.stderr.isatty() or arguments.live
    total, count = None if arguments.live else len(scenes), 0
    with tqdm(playing, total=total, unit="grid", disable=hidden) as bar:
        for scene in bar:
            count += 1
            for sink in sinks:
                sink.show(scene)
            yield scene
    if not count:
        why = "; ".join(scenes.broken) or f"none came on {arguments.topic}"
        raise Ended(f"there is no grid to show: {why}", NO_GRID)


def _chosen(arguments: argparse.Namespace, scenes: Iterable[Scene]) -> Iterator[Scene]:
    """Of the scenes that come those that were asked for."""
    first_ns, count = None, 0
    for scene in scenes:
        first_ns = scene.stamp_ns if first_ns is None else first_ns
        time_s = (scene.stamp_ns - first_ns) / NS_PER_S
        if time_s >= arguments.end_s:
            return
        if time_s >= arguments.begin_s:
            if count % arguments.every == 0:
                yield scene
            count += 1


def _played(
    arguments: argparse.Namespace, scenes: BagScenes, server: FoxgloveSink | None, stop: threading.Event
) -> Iterator[Scene]:
    """The scenes of a bag: at once, or in real time from when somebody watches."""
    if server is None:
        yield from scenes
        return
    first = next(iter(scenes), None)
    if first is None:
        return
    server.show(first)  # what there is to subscribe to
    print(f"open {server.url} , or connect Foxglove to ws://{arguments.host}:{server.port}", flush=True)
    while not server.watched.wait(WATCH_S) and not stop.is_set():
        pass
    if stop.is_set():
        raise Ended("nobody has connected to see the grids", OK)
    while not stop.is_set():
        server.restart()
        pacer = Pacer(arguments.rate)
        for scene in scenes:
            if stop.wait(max(0.0, pacer.wait_s(scene.stamp_ns))):
                return
            yield scene
        if not arguments.loop:
            return
