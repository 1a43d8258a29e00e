"""Torch reference of multi-scale deformable attention."""

import torch
from torch import Tensor

from ..interpolation import bordered, cell_and_fraction, weighted_rows

# Samples worked on at once, about 60 bytes each: fewer would stay in a CPU cache, but many small parallel operations
# wait for each other when other processes share the cores.
SAMPLES_AT_ONCE = {"cpu": 1_000_000, "cuda": 8_000_000}


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    locations: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`."""
    queries, heads, levels, points = weights.shape
    table, level_start = _table(values, shapes)
    step = max(1, SAMPLES_AT_ONCE[values.device.type] // (heads * levels * points))
    chunks = []
    for begin in range(0, queries, step):
        part = slice(begin, begin + step)
        rows, shares = _corners(locations[part], shapes, level_start)  # int32, float32 [query, head, level, point, 4]
        if source is not None:
            rows = rows + (source[part] * (level_start[-1])).to(rows.dtype)[:, None, None, None, None]
        rows = rows * heads + torch.arange(heads, device=rows.device, dtype=rows.dtype)[:, None, None, None]
        shares = shares * weights[part].float()[..., None]
        bags = rows.shape[0] * heads
        chunks.append(weighted_rows(table, rows.view(bags, -1), shares.view(bags, -1)))
    out = torch.cat(chunks) if chunks else table.new_zeros(0, table.shape[1])
    return out.view(queries, heads * values.shape[-1])


def _table(values: Tensor, shapes: tuple[tuple[int, int], ...]) -> tuple[Tensor, list[int]]:
    """Zero-bordered maps as [source * cell * head, channel]; where the cells of each level begin, and their number."""
    sources, _, heads, channels = values.shape
    maps = values.flatten(2).split([rows * columns for rows, columns in shapes], dim=1)
    cells = [
        bordered(level.reshape(sources, rows, columns, -1)).flatten(1, 2)
        for level, (rows, columns) in zip(maps, shapes, strict=True)
    ]
    start = [0]
    for level in cells:
        start.append(start[-1] + level.shape[1])
    return torch.cat(cells, dim=1).view(-1, channels), start


def _corners(locations: Tensor, shapes: tuple[tuple[int, int], ...], level_start: list[int]) -> tuple[Tensor, Tensor]:
    """Cells [query, head, level, point, 4] in the table of one source and their interpolation weights."""
    device = locations.device
    rows = torch.tensor([s[0] for s in shapes], device=device, dtype=torch.int32)[:, None]
    columns = torch.tensor([s[1] for s in shapes], device=device, dtype=torch.int32)[:, None]
    start = torch.tensor(level_start[:-1], device=device, dtype=torch.int32)[:, None]
    x, right = cell_and_fraction(locations[..., 0] * columns - 0.5, columns)
    y, down = cell_and_fraction(locations[..., 1] * rows - 0.5, rows)
    first = start + y * (columns + 2) + x
    below = first + (columns + 2)
    left, up = 1 - right, 1 - down
    cells = torch.stack((first, first + 1, below, below + 1), dim=-1)
    return cells, torch.stack((up * left, up * right, down * left, down * right), dim=-1)
