"""`panoocc rig`: rig files made and checked, from a recording or from what is published now."""

import argparse

from ...ros.exit_codes import BAD_INPUT, FAILED, NOT_WRITTEN, RIG_AT_FAULT, explained
from . import check, make

DESCRIPTION = """\
A rig file says which camera is on which topic.  `make` writes one, `check` says what is wrong with one; both look at a
bag, or without --bag at what is published now (ROS 2 must be in the shell then).
"""
EPILOG = f"""\
examples:
  panoocc rig make --bag drive/ --out my_rig.yaml
  panoocc rig check --bag drive/ --rig my_rig.yaml --pictures look
  panoocc rig make --seconds 10 --model pano_small_occ3d --out my_rig.yaml   # of the cameras that run now
  panoocc rig check --rig my_rig.yaml --pictures look --overwrite
  panoocc rig check --images street --pictures look      # one set of images and its calibration.yaml

`panoocc rig make --help` and `panoocc rig check --help` explain each; docs/vehicle.md goes through them.

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, RIG_AT_FAULT)}
"""
_ACTIONS = {"make": make, "check": check}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `panoocc rig`, with their options."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    for name, module in _ACTIONS.items():
        action = actions.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(action)


def run(arguments: argparse.Namespace) -> int:
    """Make or check; returns the exit status."""
    return _ACTIONS[arguments.action].run(arguments)
