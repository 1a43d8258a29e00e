"""Modulated deformable convolution: the taps of some pixels sampled by one weighted gather, then one matrix product."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..interpolation import bordered, cell_and_fraction, weighted_rows

VALUES_AT_ONCE = 1 << 20  # of those sampled, on a CPU: so few that the product still finds them in the caches


def deform_conv(x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """See `panoocc_core.ops.deform_conv`."""
    kernel = (weight.shape[2], weight.shape[3])
    product = weight.permute(2, 3, 1, 0).flatten(0, 2)
    out = torch.cat([part @ product for part in deform_columns(x, offsets, masks, kernel, stride, padding)])
    return out.view(len(x), *offsets.shape[2:], -1).permute(0, 3, 1, 2)


def deform_columns(
    x: Tensor, offsets: Tensor, masks: Tensor, kernel: tuple[int, int], stride: int, padding: int
) -> Iterator[Tensor]:
    """See `panoocc_core.ops.deform_conv`."""
    images, channels, rows, columns = x.shape
    kernel_rows, kernel_columns = kernel
    taps = kernel_rows * kernel_columns
    out_rows, out_columns = offsets.shape[2:]

    offsets = offsets.view(images, taps, 2, out_rows, out_columns).permute(
        0, 3, 4, 1, 2
    )  # [image, row, column, tap, yx]
    axis = torch.arange(taps, device=x.device)
    tap_y, tap_x = axis // kernel_columns - padding + 1, axis % kernel_columns - padding + 1  # with the border
    pixel_y = torch.arange(out_rows, device=x.device)[:, None, None] * stride
    pixel_x = torch.arange(out_columns, device=x.device)[None, :, None] * stride
    cell_y, down = cell_and_fraction(offsets[..., 0] + (pixel_y + tap_y), rows)
    cell_x, right = cell_and_fraction(offsets[..., 1] + (pixel_x + tap_x), columns)

    image = torch.arange(images, device=x.device, dtype=torch.int32)[:, None, None, None] * (rows + 2)
    first = (image + cell_y) * (columns + 2) + cell_x
    below = first + (columns + 2)
    cells = torch.stack((first, first + 1, below, below + 1), dim=-1)
    left, up = 1 - right, 1 - down
    weights = torch.stack((up * left, up * right, down * left, down * right), dim=-1)
    weights = weights * masks.permute(0, 2, 3, 1)[..., None].float()

    table = bordered(x.permute(0, 2, 3, 1)).reshape(-1, channels)
    at_once = max(1, VALUES_AT_ONCE // (taps * channels)) if x.device.type == "cpu" else cells.numel()  # pixels
    for taken, weighed in zip(*(of.view(-1, 4).split(at_once * taps) for of in (cells, weights))):
        yield weighted_rows(table, taken, weighed).view(-1, taps * channels)
