"""`panoocc fuzz`: the command line around `fuzz.engine`."""

import argparse
import random
from typing import TYPE_CHECKING

from tqdm import tqdm

from panoocc_core.base.whole_files import write_json

from ...ros.argument_types import whole_number
from ...ros.exit_codes import BAD_INPUT, FAILED, NOT_WRITTEN, explained
from ..shared import options
from ..shared.failures import Ended, status_of

if TYPE_CHECKING:
    from ...fuzz.engine import Finding

DESCRIPTION = """\
Gives bad input to everything that reads what others wrote: images, CameraInfo, transforms, odometry, point clouds,
voxel grids, the synchroniser, YAML files, checkpoints, bags.  Each may refuse it with the error that it names, or take
it; any other exception, an input that takes too long, or memory without bounds is a fault, told with the smallest
input found.
"""
EPILOG = f"""\
examples:
  panoocc fuzz                                   100,000 inputs, others each time
  panoocc fuzz --seed 7 --only image pth         the same inputs again, of two readers
  panoocc fuzz --inputs 1000000 --json fuzz.json

{explained(FAILED, BAD_INPUT, NOT_WRITTEN)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc fuzz`."""
    parser.add_argument(
        "--inputs", type=whole_number(1, 10**9), default=100_000, metavar="N", help="in all (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=whole_number(0, options.MAX_SEED), metavar="N", help="which inputs (default: drawn, and told)"
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these readers (default: all)")
    options.add(parser, "--json", "--no-progress")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc fuzz`; returns the exit status, errors are said on stderr."""
    return status_of("fuzz", lambda: _fuzz(arguments))


def _fuzz(arguments: argparse.Namespace) -> None:
    try:
        from ...fuzz.engine import fuzz, peak_mb, table
    except ImportError as error:
        raise ImportError(f"the package hypothesis is not there ({error}): pip install 'hypothesis>=6.100'") from error
    number = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    quiet = True if arguments.no_progress else None
    with tqdm(total=arguments.inputs, unit="input", disable=quiet) as bar:
        findings = list(
            fuzz(arguments.inputs, number, arguments.only, lambda name, _: bar.set_description(name), bar.update)
        )
    print(table(findings))
    total = sum(one.inputs for one in findings)
    print(f"{total} inputs, seed {number}; most memory of the process: {peak_mb():.0f} MB")
    if arguments.json is not None:
        plain = [one.as_dict() for one in findings]
        write_json(arguments.json, {"seed": number, "inputs": total, "peak_mb": peak_mb(), "readers": plain})
    faulty = [one for one in findings if one.fault is not None]
    for one in faulty:
        print(f"\n{_words(one, number, arguments.inputs)}")
    if faulty:
        raise Ended(f"faults in {', '.join(one.name for one in faulty)}", FAILED)


def _words(finding: "Finding", number: int, inputs: int) -> str:
    again = f"panoocc fuzz --seed {number} --only {finding.name} --inputs {inputs}"
    return f"{finding.name}: {finding.fault}\n  again: {again}"
