"""What modulated deformable convolution computes: tap by tap a sampled, scaled map and its 1x1 convolution."""

import torch
from torch import Tensor
from torch.nn import functional


def deform_conv(x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """See `panoocc_core.ops.deform_conv`."""
    images, _, rows, columns = x.shape
    kernel_columns = weight.shape[3]
    out_rows, out_columns = offsets.shape[2:]
    pixel_y = torch.arange(out_rows, device=x.device)[:, None] * stride - padding
    pixel_x = torch.arange(out_columns, device=x.device) * stride - padding
    out = x.new_zeros(images, weight.shape[0], out_rows, out_columns)
    for tap in range(masks.shape[1]):
        tap_y, tap_x = divmod(tap, kernel_columns)
        grid_y = (pixel_y + tap_y + offsets[:, 2 * tap] + 0.5) / rows * 2 - 1
        grid_x = (pixel_x + tap_x + offsets[:, 2 * tap + 1] + 0.5) / columns * 2 - 1
        sampled = functional.grid_sample(x, torch.stack((grid_x, grid_y), dim=-1), align_corners=False)
        out = out + functional.conv2d(sampled * masks[:, tap : tap + 1], weight[:, :, tap_y, tap_x, None, None])
    return out
