"""`panoocc topics`: what the node and `panoocc run` can send."""

import argparse
import dataclasses
import json

from ..outputs.topic_rows import TopicRow, topic_rows
from ..ros.exit_codes import NOT_WRITTEN, OK, explained, fail
from .shared import options

DESCRIPTION = """\
Lists the topics that are made of a grid: below ~/ of the node, below /panoocc/ in the bags of `panoocc run`.

All publishers are reliable; latched ones are transient local.  What nobody subscribes to is not made.  The parameters
are those of the node, and options of `panoocc run` (--points-max-rate-hz).
"""
EPILOG = explained(NOT_WRITTEN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc topics`."""
    options.add(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc topics`; returns the exit status."""
    rows = topic_rows()
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
        except OSError as error:
            return fail("topics", f"{arguments.json}: cannot be written: {error}", NOT_WRITTEN)
    print("\n".join(line for row in rows for line in lines_of(row)))
    return OK


def lines_of(row: TopicRow) -> list[str]:
    """Topic and type, and below them all else."""
    depth = f"depth {row.depth}{', latched' if row.latched else ''}"
    rate = f"{row.max_rate} ({row.max_rate_hz:g})" if row.max_rate else "sent once"
    frame = f"in {row.frame}" if row.frame else "in no frame"
    needs = f"; needs {', '.join(row.needs)}" if row.needs else ""
    bags = "" if row.in_bags else "; not in bags"
    bags = "; in bags where --outputs names it" if row.in_bags and not row.by_default else bags
    nodes = "; in bags alone" if not row.in_node else "; where its package is installed" if row.optional else ""
    return [
        f"{row.topic:20s} {row.type}",
        f"    {row.what}",
        f"    {frame}; {depth}; {rate}{needs}{bags}{nodes}",
    ]
