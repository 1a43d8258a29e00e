"""A loaded network made ready to infer: the same function, computed faster."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..models.layers import Freezable
from ..models.resnet import DeformConv2d
from ..network import Network

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, DeformConv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def ready_for_inference(network: Network) -> Network:
    """Evaluation mode without gradients, batch norms folded into their convolutions, 2-D kernels channels-last.

    The network cannot be trained or saved under published names afterwards.

    Raises:
        TypeError: a module of the network has a batch norm that it does not declare; see `fold_norms`.
    """
    network.eval().requires_grad_(False)
    fold_norms(network)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, DeformConv2d)):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return network


def freeze(network: Network) -> Network:
    """Let every layer keep what follows from its weights alone, where and in which precision they are now."""
    for module in network.modules():
        if isinstance(module, Freezable):
            module.freeze()
    return network


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution that it follows.

    Which belong together is declared by the module that calls both: `norm_pairs`, a tuple of (convolution, batch norm),
    named as submodules; those that are None are passed over.

    Raises:
        TypeError: a declared pair is none, or a batch norm is left over.
    """
    for name, module in network.named_modules():
        for conv_name, norm_name in getattr(module, "norm_pairs", ()):
            owner = getattr(module, norm_name.split(".")[0])
            if owner is None:
                continue
            conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
            if not (isinstance(conv, _CONVOLUTIONS) and isinstance(norm, _NORMS)):
                kinds = f"{type(conv).__name__} and {type(norm).__name__}"
                raise TypeError(
                    f"{name}: {conv_name} and {norm_name} are {kinds}, not a convolution and its batch norm"
                )
            _fold(conv, norm)
            module.set_submodule(norm_name, nn.Identity())
    left = [name for name, module in network.named_modules() if isinstance(module, _NORMS)]
    if left:
        raise TypeError(f"batch norms that no module declares in norm_pairs: {', '.join(left)}")


def _fold(conv: nn.Module, norm: nn.Module) -> None:
    assert isinstance(conv, _CONVOLUTIONS) and isinstance(norm, _NORMS)
    assert norm.running_mean is not None and norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        isinstance(conv, nn.ConvTranspose3d),
    )
