"""The exit statuses of the command `panoocc` and of all executables: one number means the same in each of them."""

import sys
import textwrap

from .parameter_fields import SettingsError

OK, FAILED, BAD_INPUT, NO_GRID, NOT_WRITTEN, NETWORK_FAILED = 0, 1, 2, 3, 4, 5
NO_SUBSCRIBER = TOO_FEW = NO_GRID  # nothing is broken, but what was wanted has not come
NO_ANSWER = 6  # of a node that is waited for
RIG_AT_FAULT = 7
INTERRUPTED, BROKEN_PIPE = 130, 141

MEANINGS = {
    OK: "done",
    FAILED: "it could not be brought to its end, e.g. a worker process was killed",
    BAD_INPUT: "an argument or what it names cannot be used",
    NO_GRID: "the bag gave no grid",
    NOT_WRITTEN: "a result could not be written",
    NETWORK_FAILED: "the network or the renderer failed, e.g. for want of memory",
    NO_ANSWER: "a node that was waited for did not answer",
    RIG_AT_FAULT: "cameras, transforms or the rig file are not as they must be",
    INTERRUPTED: "interrupted by Ctrl-C",
}


def explained(*codes: int, more: str = "") -> str:
    """The statuses of a command for the end of its help; success and Ctrl-C are added."""
    listed = "; ".join(f"{code} {MEANINGS[code]}" for code in (OK, *codes, INTERRUPTED))
    return textwrap.fill(f"exit status: {listed}.{more and ' '}{more}", width=100)


def fail(command: str, error: Exception | str, status: int) -> int:
    """Say in one line on stderr why a command failed; returns the status."""
    return failed(f"panoocc {command}", error, status)


def failed(program: str, error: Exception | str, status: int) -> int:
    """The same for a program of another name."""
    text = error.of_options() if isinstance(error, SettingsError) else str(error)
    print(f"{program}: {' '.join(text.split())}", file=sys.stderr)
    return status
