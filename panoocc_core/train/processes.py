"""Several processes that learn together: gradients and statistics become their mean (torch.distributed)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all that learn together."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean of all gradients; one without a gradient counts as 0."""
        if self.count == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        # What one process has no gradient for may have one elsewhere; what nobody has one for stays untouched.
        has = torch.tensor([float(p.grad is not None) for p in learning], device=learning[0].device)
        distributed.all_reduce(has)
        moved = [p for p, count in zip(learning, has.tolist()) if count > 0]
        for p in moved:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self._average([p.grad for p in moved if p.grad is not None])

    def average_statistics(self, model: nn.Module) -> None:
        """Give every process the mean of all batch-norm statistics."""
        if self.count > 1:
            self._average([b for b in model.buffers() if b.is_floating_point()])

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a scalar over all processes."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total / self.count

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in at least one process."""
        return bool(self.mean(torch.tensor(float(flag), device=device)) > 0)

    def _average(self, tensors: list[Tensor]) -> None:
        flat = torch.cat([t.reshape(-1) for t in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors])):
            tensor.copy_(part.view_as(tensor))


ALONE = Processes()
_PATIENCE = timedelta(hours=24)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # The others wait while the first one renders or validates, which may take hours.
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def own_device(name: str) -> torch.device:
    """The device of this process: with several processes on CUDA, the GPU of its local rank."""
    device = torch.device(name)
    local = os.environ.get("LOCAL_RANK")
    return torch.device("cuda", int(local)) if device.type == "cuda" and local is not None else device
