"""Several processes that learn together: gradients and statistics become their mean (torch.distributed)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all that learn together."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those on the same machine

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    @property
    def leads_machine(self) -> bool:
        """Whether this process makes the files that all on its machine read."""
        return self.local_rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            distributed.barrier()

    def from_first(self, data: bytes | None, device: torch.device) -> bytes | None:
        """What the first process gives, in every process; what the others give is not looked at."""
        if self.count == 1:
            return data
        size = torch.tensor(-1 if data is None else len(data), device=device)
        distributed.broadcast(size, 0)
        if size <= 0:
            return None if size < 0 else b""
        content = torch.empty(int(size), dtype=torch.uint8, device=device)
        if self.is_first and data is not None:
            content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        distributed.broadcast(content, 0)
        return content.cpu().numpy().tobytes()

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

    def total(self, counts: NDArray[np.int64], device: torch.device) -> NDArray[np.int64]:
        """Sum over all processes."""
        if self.count == 1:
            return counts
        total = torch.from_numpy(counts.copy()).to(device)
        distributed.all_reduce(total)
        return total.cpu().numpy()

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
    # The others wait while the first one renders, which may take hours.
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count, int(os.environ.get("LOCAL_RANK", distributed.get_rank())))
    finally:
        distributed.destroy_process_group()


def own_device(name: str) -> torch.device:
    """The device of this process: with several processes on CUDA, the GPU of its local rank."""
    device = torch.device(name)
    local = os.environ.get("LOCAL_RANK")
    return torch.device("cuda", int(local)) if device.type == "cuda" and local is not None else device
