"""What both actions of `panoocc rig` look at: a bag, or the ROS graph."""

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from tqdm import tqdm

from panoocc_core.geometry import NS_PER_S

from ...bags.bag import BagReader, RawMessage
from ...ros.argument_types import number
from ...survey.intake import Intake, bag_intake
from ..shared import options

SECONDS = 10.0


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that say what is looked at."""
    source = parser.add_argument_group("what is looked at (default: what is published now)")
    source.add_argument("--bag", type=Path, metavar="BAG", help="rosbag2 folder, or one .mcap or .db3 file")
    source.add_argument(
        "--seconds",
        type=number(0.5, 3600.0),
        default=SECONDS,
        metavar="S",
        help="for how long, from the first image on (default: %(default)g)",
    )
    options.add(source, "--no-progress")


def looked_at(
    arguments: argparse.Namespace, wanted: Collection[str] | None, is_static: Callable[[str], bool]
) -> Intake:
    """What came.

    Raises:
        BagError: the bag cannot be read.
        ImportError: ROS 2 is not in this shell.
    """
    hidden = arguments.no_progress or not sys.stderr.isatty()
    whole_s = round(arguments.seconds, 1)
    with tqdm(total=whole_s, unit="s", disable=hidden) as bar:

        def show(seconds: float) -> None:
            bar.update(max(0.0, min(round(seconds, 1), whole_s) - bar.n))

        if arguments.bag is None:
            return _heard(arguments.seconds, wanted, show)
        with BagReader(arguments.bag) as bag:
            begin_ns = bag.start_ns

            def on_message(raw: RawMessage) -> None:
                show((raw.stamp_ns - begin_ns) / NS_PER_S)

            return bag_intake(bag, arguments.seconds, wanted, is_static, on_message)


def _heard(seconds: float, wanted: Collection[str] | None, show: Callable[[float], None]) -> Intake:
    try:
        from ...survey.topic_listener import listener
    except ImportError as error:
        raise ImportError(
            f"without --bag this looks at what is published, which needs ROS 2 in this shell ({error}): source it"
        ) from error
    with listener(wanted) as listening:
        return listening.listen(seconds, show)


def named(arguments: argparse.Namespace) -> str:
    """What was looked at, for a text."""
    return "the topics that were published" if arguments.bag is None else arguments.bag.name
