"""A loaded network made ready to infer: the same function, computed faster."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..models.panoocc import PanoOcc
from ..models.resnet import DeformConv2d

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, DeformConv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def ready_for_inference(model: PanoOcc) -> PanoOcc:
    """Evaluation mode without gradients, batch norms folded into their convolutions, image features channels-last.

    Float32 is made to mean float32: by default cuDNN rounds the inputs of convolutions to the ten bits of TF32.
    The network cannot be trained or saved under published names afterwards.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    model.eval().requires_grad_(False)
    for parent in list(model.modules()):
        _fold_children(parent)
    for parameter in [*model.backbone.parameters(), *model.neck.parameters()]:
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def _fold_children(parent: nn.Module) -> None:
    """Fold every batch norm that directly follows a convolution among the children: all networks are written so."""
    for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
        if isinstance(conv, _CONVOLUTIONS) and isinstance(norm, _NORMS):
            transposed = isinstance(conv, nn.ConvTranspose3d)
            assert norm.running_mean is not None and norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
                transposed,
            )
            setattr(parent, name, nn.Identity())
