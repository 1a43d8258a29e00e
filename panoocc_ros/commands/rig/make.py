"""`panoocc rig make`: a rig file out of what cameras and transforms send."""

import argparse
import shlex
import sys
from pathlib import Path

from panoocc_core.base.whole_files import whole_file

from ...node.choices import chosen_config
from ...ros.exit_codes import BAD_INPUT, FAILED, NOT_WRITTEN, RIG_AT_FAULT, explained
from ...survey.draft import Draft, drafted
from ...survey.rig_text import CHECK, MARK, rig_text
from ..shared import options
from ..shared.failures import Ended, status_of
from ..shared.results import check_results
from .looking import add_source, looked_at, named

HELP = "write a rig file from the topics of a bag, or of what is published now"
DESCRIPTION = """\
Writes a rig file: which topics are those of one camera (images, and the CameraInfo in their namespace or of their
frame), where each looks by its mount in TF and so which of the network's names it gets, its frames, and how far the
shutters are apart.  Nothing is asked: what had to be guessed follows CHECK in the file's comments, and is printed.
"""
EPILOG = f"""\
examples:
  panoocc rig make --bag drive/ --out my_rig.yaml
  panoocc rig make --seconds 5 --out my_rig.yaml          # of the cameras that run now
  panoocc run drive/ --rig my_rig.yaml --model nano --out grids.mcap

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, RIG_AT_FAULT, more="With 7 the file is there, but lacks cameras.")}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc rig make`."""
    options.add(parser, "--out", metavar="FILE.yaml", help="the rig file")
    options.add(parser, "--overwrite", help="replace a rig file that this command wrote")
    options.add(
        parser, "--model", default="nano", help="preset or file whose camera names are taken (default: %(default)s)"
    )
    parser.add_argument("--base-frame", default="", metavar="FRAME", help="the vehicle's frame (default: by TF)")
    add_source(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make a rig; returns the exit status."""
    return status_of("rig make", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    config = chosen_config(arguments.model)
    inputs = [] if arguments.bag is None else [arguments.bag]
    check_results({"--out": arguments.out}, {"--out": (".yaml", ".yml")}, arguments.overwrite, _why_foreign, inputs)
    intake = looked_at(arguments, None, lambda topic: topic.endswith("static"))
    draft = drafted(intake, config, arguments.base_frame)
    text = rig_text(draft, named(arguments), config.name)
    with whole_file(arguments.out) as part:
        part.write_text(text, encoding="utf-8")
    print(_summary(draft))
    for line in text.splitlines():
        if f"{CHECK}:" in line:
            print(f"panoocc rig make: {line.strip(' #')}", file=sys.stderr)
    out = str(arguments.out).encode(errors="backslashreplace").decode()
    print(f"written: {out}")
    bag = "" if arguments.bag is None else f"--bag {shlex.quote(str(arguments.bag))} "
    print(f"next: panoocc rig check {bag}--rig {shlex.quote(out)} --pictures look")
    if draft.missing:
        raise Ended(
            f"there is no camera for {', '.join(draft.missing)}, which {config.name} needs: record or start them, or "
            "choose another network with --model",
            RIG_AT_FAULT,
        )


def _why_foreign(path: Path) -> str | None:
    with path.open("rb") as file:
        return None if file.read(len(MARK)) == MARK.encode() else "panoocc rig make did not write it"


def _summary(draft: Draft) -> str:
    """Which camera got which name, and why."""
    width = max(len(camera.entry.name) for camera in draft.cameras)
    lines = [f"{c.entry.name:<{width}}  {c.entry.topic}: {c.told}" for c in draft.cameras]
    lines += [f"{'(not used)':<{width}}  {camera.topic}" for camera in draft.unused]
    rig = draft.rig
    frames = f"base_frame {rig.base_frame}, history through {draft.fixed_frame or 'no frame'}"
    return "\n".join([*lines, f"{frames}, spread_ms {rig.spread_ms:g}, reference {rig.reference}"])
