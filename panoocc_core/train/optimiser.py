"""AdamW with learning rates by part of the network, and the schedule of the rate."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from ..base.strict_yaml import ConfigError
from .train_config import GroupConfig, OptimiserConfig, ScheduleConfig

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def group_of(name: str, config: OptimiserConfig) -> GroupConfig | None:
    """The group that a parameter or module belongs to, or None."""
    return next((group for group in config.groups if _below(name, group.prefix)), None)


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def is_frozen(name: str, config: OptimiserConfig) -> bool:
    """Whether a parameter or module keeps its values."""
    group = group_of(name, config)
    return group is not None and group.lr_scale == 0


def build_optimiser(model: nn.Module, config: OptimiserConfig, fixed_norms: Sequence[str] = ()) -> torch.optim.AdamW:
    """An optimiser over all that learns; what is frozen stops asking for gradients.

    Raises:
        ConfigError: a prefix fits no parameter, or everything is frozen.
    """
    names = [name for name, _ in model.named_parameters()]
    for where, prefixes in (("optimiser.groups", [g.prefix for g in config.groups]), ("fixed_norms", fixed_norms)):
        for prefix in prefixes:
            if not any(_below(name, prefix) for name in names):
                parts = ", ".join(sorted({name.split(".")[0] for name in names}))
                raise ConfigError(f"{where}: no parameter begins with {prefix!r}; the parts are {parts}")
    kept = {id(p) for norm in kept_norms(model, config, fixed_norms) for p in norm.parameters()}
    by_scale: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        group = group_of(name, config)
        scale = 1.0 if group is None else group.lr_scale
        if name == "boxes.code_weights" or scale == 0 or id(parameter) in kept:
            parameter.requires_grad_(False)
        else:
            by_scale.setdefault(scale, []).append(parameter)
    if not by_scale:
        raise ConfigError("optimiser.groups freeze the whole network: nothing would be learned")
    groups = [{"params": by_scale[scale], "lr_scale": scale} for scale in sorted(by_scale)]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


def kept_norms(model: nn.Module, config: OptimiserConfig, fixed_norms: Sequence[str]) -> list[nn.Module]:
    """Batch norms that keep their statistics: those of frozen parts, and those below the prefixes."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, _NORMS)
        and (is_frozen(name, config) or any(_below(name, prefix) for prefix in fixed_norms))
    ]


def set_training_mode(model: nn.Module, config: OptimiserConfig, fixed_norms: Sequence[str] = ()) -> None:
    """Training mode, but for batch norms that keep their statistics."""
    model.train()
    for norm in kept_norms(model, config, fixed_norms):
        norm.eval()


def lr_share(step: int, steps: int, steps_per_epoch: int, config: ScheduleConfig) -> float:
    """Share of the learning rate at a step of a training of `steps`."""
    share = 1.0
    if config.kind == "steps":
        share = 0.1 ** sum(step >= epoch * steps_per_epoch for epoch in config.drop_epochs)
    else:
        done = step / max(steps, 1)
        share = config.final_share + (1 - config.final_share) * (1 + math.cos(math.pi * done)) / 2
    if step < config.warmup_steps:
        share *= config.warmup_from + (1 - config.warmup_from) * step / config.warmup_steps
    return share


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its rate."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]
