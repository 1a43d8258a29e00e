"""`panoocc checkpoint`: checks a published checkpoint and writes it as safetensors."""

import argparse
from pathlib import Path

from panoocc_core import CheckpointError
from panoocc_core.config import ConfigError
from panoocc_core.weights.checkpoint import convert

from ..ros.exit_codes import BAD_INPUT, NOT_WRITTEN, OK, explained, fail

DESCRIPTION = """\
Reads a published PanoOcc checkpoint (.pth), finds the preset that it fits, checks every entry, and writes safetensors.
Nothing in the file is executed.  Published files: https://github.com/Robertwyq/PanoOcc
"""
EPILOG = explained(BAD_INPUT, NOT_WRITTEN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc checkpoint`."""
    parser.add_argument("file", type=Path, help="published checkpoint (.pth), or .safetensors to check again")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: FILE with the suffix .safetensors)"
    )
    parser.add_argument("--model", help="preset that the file is meant for (default: found by its entries)")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc checkpoint`; returns the exit status, errors are said on stderr."""
    target = arguments.out or arguments.file.with_suffix(".safetensors")
    if target.resolve() == arguments.file.resolve():
        return fail("checkpoint", f"{target}: is the file itself; name another one with --out", BAD_INPUT)
    try:
        print(convert(arguments.file, target, arguments.model))
    except (CheckpointError, ConfigError) as error:
        return fail("checkpoint", error, BAD_INPUT)
    except BrokenPipeError:
        raise
    except OSError as error:
        return fail("checkpoint", error, NOT_WRITTEN)
    return OK
