"""The command `panoocc`: everything that works without a running ROS."""

import argparse
import os
import sys
from collections.abc import Sequence

from panoocc_core.base.host_memory import keep_freed_memory

from ..ros.signals import Terminated, unwound_by_signals
from .bench import add_bench
from .models import add_commands
from .run import add_run
from .sim import add_command as add_sim

EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="panoocc",
        description="Semantic 3-D occupancy from surround cameras.  Every command explains itself with --help.",
    )
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_run(subparsers)
    add_sim(subparsers)
    add_bench(subparsers)
    add_commands(subparsers)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = parser().parse_args(argv)
    keep_freed_memory()
    try:
        with unwound_by_signals():
            status = int(arguments.run(arguments))
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # `panoocc models | head`: nobody reads on, which is no fault to report
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Terminated as ended:
        print(f"panoocc: ended by {ended}", file=sys.stderr)
        return ended.exit_status
    except KeyboardInterrupt:
        print("panoocc: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
