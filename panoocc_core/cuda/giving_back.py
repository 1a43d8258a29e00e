"""The end of what this folder keeps on a device from frame to frame."""

import torch

from ..base.devices import give_back_memory, with_index
from .compaction import forget_compactions
from .front_end import forget_front_ends
from .kernels import has_cupy, import_cupy
from .staging import forget_staging


def give_back_all(device: torch.device) -> None:
    """Let other processes have what nobody holds any more, and what is kept for the next frame: it is made again."""
    if device.type == "cuda":
        for forget in (forget_front_ends, forget_staging, forget_compactions):
            forget()
        if has_cupy():
            cupy = import_cupy()
            with cupy.cuda.Device(with_index(device).index):
                cupy.get_default_memory_pool().free_all_blocks()
    give_back_memory(device)
