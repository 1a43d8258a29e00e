"""Which devices networks and renderers can run on."""

import torch


def usable_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; `auto` is cuda where there is one, else cpu.

    Raises:
        ValueError: unknown, or not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown; use cpu, cuda, cuda:<index> or auto") from error
    if target.type not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} is not supported; use cpu, cuda, cuda:<index> or auto")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not on this machine: torch {torch.__version__} sees {torch.cuda.device_count()} "
            "CUDA devices; use device cpu, or install a CUDA build of torch"
        )
    return target
