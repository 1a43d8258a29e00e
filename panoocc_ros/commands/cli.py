"""The command `panoocc`: everything that works without a running ROS.

Only the module of the command that was chosen is imported, so that `panoocc --help` need not wait for PyTorch.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..ros.exit_codes import BAD_INPUT, BROKEN_PIPE, INTERRUPTED
from ..ros.signals import Terminated, ended_by_interrupt, unwound_by_signals
from ..ros.waiting_threads import wait_briefly

# Command -> what it is for; its module in this folder has the same name, DESCRIPTION, add_arguments and run.
COMMANDS = {
    "run": "run a network over a bag and write the voxel grids to a new bag",
    "image": "run a network over one set of images: a picture, and a grid",
    "label": "label the point clouds of a bag by a network's voxel grids",
    "view": "show voxel grids: Rerun, Foxglove, films, plots",
    "rig": "make a rig file of a bag or of what is published, and check it: times, transforms, views",
    "sim": "write a bag of a drive through a simulated street",
    "eval": "measure a network on simulated streets or a data set",
    "train": "train a network on simulated streets or nuScenes",
    "fuzz": "give bad input to everything that reads, and tell what is not handled",
    "bench": "measure time per stage and memory of networks",
    "soak": "run the node for many minutes: does its memory grow, do grids keep coming",
    "models": "list the model presets",
    "topics": "list what the node and `panoocc run` can send",
    "export": "write a network's step as one file, for onnxruntime, TensorRT or PyTorch",
    "checkpoint": "check a published checkpoint and convert it to safetensors",
}


def parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The command line; arguments are known of the chosen command only."""
    root = argparse.ArgumentParser(
        prog="panoocc",
        description="Semantic 3-D occupancy from surround cameras.",
        epilog="`panoocc COMMAND --help` explains a command, with examples.",
    )
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            module = import_module(f".{name}", __package__)
            command.description, command.epilog = module.DESCRIPTION, getattr(module, "EPILOG", None)
            command.set_defaults(run=module.run)
            module.add_arguments(command)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    wait_briefly()
    words = sys.argv[1:] if argv is None else list(argv)
    with ended_by_interrupt():
        arguments = parser(words[0] if words else None).parse_args(words)
        from panoocc_core.base.host_memory import keep_freed_memory, kept_by_environment  # torch comes with it
    try:
        keep_freed_memory(kept_by_environment())
    except ValueError as error:
        print(f"panoocc: {error}", file=sys.stderr)
        return BAD_INPUT
    try:
        with unwound_by_signals():
            status = int(arguments.run(arguments))
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # `panoocc models | head`: nobody reads on, which is no fault to report
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Terminated as ended:
        print(f"panoocc: ended by {ended}", file=sys.stderr)
        return ended.exit_status
    except KeyboardInterrupt:
        print("panoocc: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
