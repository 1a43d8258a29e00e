"""How fast the operators' implementations are on this GPU:   .venv/bin/python -m test.kernels.speed

At the sizes of the published networks, in half precision: torch's operations, the kernels, and the package deformops
where it is installed, in turns.  Values once by cell and once by head: the latter without the copy that would make it.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor

from .published import ATTENTIONS, CONVOLUTIONS

ROUNDS = 20


def milliseconds(works: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """Median time on the device of each, called in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS + 2):
        for name, work in works.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            if turn > 1:
                times[name].append(begin.elapsed_time(end))
    return {name: median(of_name) for name, of_name in times.items()}


@torch.inference_mode()
def print_speeds(device: torch.device) -> None:
    """A line for every operator and size."""
    from panoocc_core.ops.deform_attn import deformops
    from panoocc_core.ops.deform_attn import triton as attn
    from panoocc_core.ops.deform_attn import tuned as torch_attn
    from panoocc_core.ops.deform_conv import triton as conv
    from panoocc_core.ops.deform_conv import tuned as torch_conv

    print(f"{torch.cuda.get_device_name(device)}, float16, milliseconds, median of {ROUNDS}")
    for case in ATTENTIONS:
        values, *others = case.inputs(torch.float16, device)
        by_head = values.transpose(1, 2).contiguous().transpose(1, 2)
        works = {
            "torch": partial(torch_attn.deform_attn, values, case.shapes, *others),
            "triton": partial(attn.deform_attn, values, case.shapes, *others),
            "by head": partial(attn.deform_attn, by_head, case.shapes, *others),
        }
        if find_spec("deformops"):
            works["deformops"] = partial(deformops.deform_attn, values, case.shapes, *others)
        times = milliseconds(works)
        rate = case.gathered_bytes(torch.float16) / times["triton"] / 1e9
        print(f"{case.name:24s}", *(f"{name} {ms:8.3f}" for name, ms in times.items()), f"{rate:6.2f} TB/s gathered")
    for convolution in CONVOLUTIONS:
        tensors = convolution.inputs(torch.float16, device)
        works = {"torch": torch_conv.deform_conv, "triton": conv.deform_conv}
        times = milliseconds({name: partial(work, *tensors, 1, 1) for name, work in works.items()})
        print(f"{convolution.name:24s}", *(f"{name} {ms:8.3f}" for name, ms in times.items()))


if __name__ == "__main__":
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device that this torch can use")
    print_speeds(torch.device("cuda"))
