"""What the work of a command may fail with, and the exit status of each: in one place for all commands."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor

from panoocc_core.base.devices import is_out_of_memory
from panoocc_core.sim.pool import WORKER_KILLED

from ...bags.bag import BagError, BagWriteError
from ...ros.exit_codes import BAD_INPUT, FAILED, NETWORK_FAILED, NOT_WRITTEN, OK, fail


class Ended(Exception):
    """The work has come to its end without a result; the text says why, `status` is the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def status_of(command: str, work: Callable[[], object], more: str = "", engine: str = "the network") -> int:
    """Do the work of a command; returns the exit status, and says on stderr what it failed with.

    Args:
        more: what helps where a worker process was killed.
        engine: what computes with PyTorch.
    """
    try:
        work()
    except Ended as ended:
        return fail(command, ended, ended.status)
    except BrokenExecutor:
        return fail(command, f"{WORKER_KILLED}{more and '; '}{more}", FAILED)
    except BagWriteError as error:
        return fail(command, error, NOT_WRITTEN)
    except (BagError, ValueError, ImportError) as error:  # settings, files and data raise ValueErrors
        return fail(command, error, BAD_INPUT)
    except BrokenPipeError:
        raise
    except OSError as error:
        return fail(command, error, NOT_WRITTEN)
    except (RuntimeError, MemoryError) as error:  # torch: out of memory, a broken driver
        if is_out_of_memory(error):
            detail = (str(error).splitlines() or [type(error).__name__])[0]
            text = f"{engine} needs more memory than there is: take a smaller model or another device ({detail})"
            return fail(command, text, NETWORK_FAILED)
        return fail(command, f"{engine} failed: {str(error) or type(error).__name__}", NETWORK_FAILED)
    return OK
