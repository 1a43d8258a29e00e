"""What the worker processes that render streets have in common."""

import os
import threading
from multiprocessing import parent_process

import cv2
import torch

WORKER_KILLED = "a worker process was killed, e.g. for want of memory"


def begin_worker() -> None:
    """To be called first in a worker process: it computes in one thread, and ends when its parent does.

    A parent that is killed cannot end its workers, and they would render on, or wait for work for ever.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # nobody else ends this process
