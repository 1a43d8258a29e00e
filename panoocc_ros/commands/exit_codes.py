"""The exit statuses of the command `panoocc`: one number means the same in every command."""

import sys
import textwrap

from ..ros.parameter_fields import SettingsError

OK, FAILED, BAD_INPUT, NO_GRID, NOT_WRITTEN, NETWORK_FAILED, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 4, 5, 130, 141

MEANINGS = {
    OK: "done",
    FAILED: "it could not be brought to its end, e.g. a worker process was killed",
    BAD_INPUT: "an argument or what it names cannot be used",
    NO_GRID: "the bag gave no grid",
    NOT_WRITTEN: "a result could not be written",
    NETWORK_FAILED: "the network failed, e.g. for want of memory",
    INTERRUPTED: "interrupted by Ctrl-C",
}


def explained(*codes: int, more: str = "") -> str:
    """The statuses of a command for the end of its help; success and Ctrl-C are added."""
    listed = "; ".join(f"{code} {MEANINGS[code]}" for code in (OK, *codes, INTERRUPTED))
    return textwrap.fill(f"exit status: {listed}.{more and ' '}{more}", width=100)


def fail(command: str, error: Exception | str, status: int) -> int:
    """Say in one line on stderr why a command failed; returns the status."""
    text = error.of_options() if isinstance(error, SettingsError) else str(error)
    print(f"panoocc {command}: {' '.join(text.split())}", file=sys.stderr)
    return status
