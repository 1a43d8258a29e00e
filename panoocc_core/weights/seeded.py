"""Stand-in weights made from parameter names alone: bit-identical everywhere, of no training.

They let every path run and be compared before a checkpoint is at hand.  Each tensor has a random stream of its own,
seeded with crc32(name) + seed over the published name, so that any subset of a network can be made alone.  Values are
scaled by kind, so that activations stay of order one through all layers, sampling offsets reach several cells, classes
spread and the occupancy gate cuts a part of the voxels.
"""

import math
import re
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

SQRT12 = math.sqrt(12.0)  # a uniform number on [-0.5, 0.5) times this has unit variance
BITS = 24  # the uniform draws carry as many bits as a float32 mantissa

Shapes = Mapping[str, tuple[tuple[int, ...], str]]  # published name -> shape, dtype

# Layers whose inputs are rectified, hence positive: each output's weights get zero mean, so that the output depends on
# what differs between positions and not on what all positions share.
_RECTIFIED_INPUT = re.compile(
    r"^img_backbone\.layer\d+\.\d+\.(conv[123]|downsample\.0)\.weight$|lateral_convs|upsample|semantic_det|seg_decoder"
    r"|temporal_block\.0\.conv[23]|ffns\.0\.layers\.1\.|(cls|reg)_branches\.\d+\.[2346]\."
    r"|\.decoder\.layers\.\d+\.attentions\.1\.value_proj"
)


def seeded_state(shapes: Shapes, seed: int = 0) -> dict[str, NDArray]:
    """Tensors of all published names in `shapes`; the copies of a shared box branch are equal."""
    out: dict[str, NDArray] = {}
    for name, (shape, dtype) in shapes.items():
        first = _first_copy(name)
        if first in out:
            out[name] = out[first]
            continue
        out[name] = np.asarray(_value(name, shape, shapes, seed), dtype=np.dtype(dtype)).reshape(shape)
    return out


def _first_copy(name: str) -> str:
    return re.sub(r"\b(cls_branches|reg_branches)\.\d+\.", r"\1.0.", name)


class _Draw:
    """Uniform integers of one tensor, turned into floats by exact operations (the same on every machine)."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int):
        stream = np.random.Generator(np.random.PCG64((zlib.crc32(_first_copy(name).encode()) + seed) & 0xFFFFFFFF))
        self.integers = (stream.random(math.prod(shape)) * 2.0**BITS).astype(np.int64).reshape(shape or (1,))

    def spread(self, deviation: float, mean: float = 0.0) -> NDArray:
        return (self.integers * 2.0**-BITS - 0.5) * (SQRT12 * deviation) + mean

    def between(self, low: float, high: float) -> NDArray:
        return self.integers * 2.0**-BITS * (high - low) + low

    def centred(self, out_axis: int) -> None:
        """Give the weights of each output zero mean, by integer arithmetic."""
        moved = np.moveaxis(self.integers, out_axis, 0)
        rows = moved.reshape(len(moved), -1)
        rows = rows - rows.sum(1, keepdims=True) // rows[0].size + 2 ** (BITS - 1)
        self.integers = np.moveaxis(rows.reshape(moved.shape), 0, out_axis)


def _value(name: str, shape: tuple[int, ...], shapes: Shapes, seed: int) -> NDArray:
    base, _, leaf = name.rpartition(".")
    if leaf in ("num_batches_tracked", "code_weights"):
        return np.ones(shape)
    draw = _Draw(name, shape, seed)
    if f"{base}.running_mean" in shapes:
        return _batch_norm(draw, name, base, leaf)
    weight = shapes.get(f"{base}.weight")
    if leaf in ("weight", "bias") and weight is not None and len(weight[0]) == 1:
        scale = 0.3 if ".can_bus_mlp." in name else 1.0  # the ego-motion vector, added to every voxel, stays smaller
        return draw.between(0.75 * scale, 1.25 * scale) if leaf == "weight" else draw.spread(0.1 * scale)
    if leaf in ("gamma1", "gamma2"):
        return draw.between(0.3, 0.6)
    if leaf in ("level_embeds", "cams_embeds"):
        return draw.spread(0.5)
    if leaf == "weight" and len(shape) == 2 and f"{base}.bias" not in shapes:
        return draw.spread(0.6 if base.endswith(("row_embed", "col_embed", "z_embed")) else 1.0)
    if base.endswith(("conv_offset", "sampling_offsets", "attention_weights", "reference_points")):
        return _sampling(draw, name, base, leaf, shape)
    if leaf in ("bias", "in_proj_bias"):
        return _bias(draw, name, shape)
    return _matrix(draw, name, base, shape, shapes)


def _batch_norm(draw: _Draw, name: str, base: str, leaf: str) -> NDArray:
    if leaf == "weight":
        residual = name.startswith("img_backbone.") and base.endswith("bn3")
        return draw.between(0.15, 0.35) if residual else draw.between(0.75, 1.25)
    return draw.between(0.6, 1.6) if leaf == "running_var" else draw.spread(0.1)


def _sampling(draw: _Draw, name: str, base: str, leaf: str, shape: tuple[int, ...]) -> NDArray:
    """Layers that say where to sample, and how much."""
    is_weight = leaf == "weight"
    backbone = name.startswith("img_backbone.")
    fan = math.sqrt(math.prod(shape[1:]))
    if base.endswith("conv_offset"):
        return draw.spread(0.6 / fan if is_weight else 0.5)
    if base.endswith("sampling_offsets"):
        return draw.spread((0.4 if backbone else 0.8) / fan if is_weight else (0.4 if backbone else 2.0))
    if base.endswith("attention_weights"):
        return draw.spread(1.5 / fan if is_weight else 0.5)
    return draw.spread(1.5 / fan if is_weight else 0.1)


def _bias(draw: _Draw, name: str, shape: tuple[int, ...]) -> NDArray:
    if ".cls_branches." in name and shape == (10,):
        return draw.spread(0.1, -2.0)
    return draw.spread(0.1, -2.5 if ".semantic_det." in name else 0.0)


def _matrix(draw: _Draw, name: str, base: str, shape: tuple[int, ...], shapes: Shapes) -> NDArray:
    """Convolutions and linear layers."""
    last = base.rpartition(".")[2]
    transposed = len(shape) == 5 and re.search(r"\.upsample\.\d+$", base) is not None
    fan: float = math.prod(shape[1:])
    centred = _RECTIFIED_INPUT.search(name) is not None
    if centred:
        draw.centred(out_axis=1 if transposed else 0)
    if transposed:
        # A kernel of 2 or 4 goes with stride 2, so half of its taps meet per axis.
        fan = shape[0] * math.prod(k / 2 if k % 2 == 0 else k for k in shape[2:])
    gain = 1.0
    if len(shape) >= 4:
        gain = math.sqrt(3.0 if centred else 2.0)  # a rectifier follows
        if ".semantic_det" in name:
            gain = 1.5
        elif name.startswith("img_neck."):
            gain = 1.0 if centred else 0.8
        elif base == "img_backbone.conv1" and any("conv_offset" in other for other in shapes):
            gain /= 60.0  # the networks with deformable convolutions take pixel values not divided by their spread
    elif last in ("value_proj", "output_proj") and ".cam_encoder." in name:
        gain = 1.7  # sampling averages: keep the attention audible
    elif name.endswith("in_proj_weight") or ".cls_branches." in name:
        gain = 1.5
    elif ".seg_decoder." in name:
        gain = 2.0 if last in ("4", "classifier") else 1.5
    elif ".reg_branches." in name:
        gain = 1.3
    return draw.spread(gain / math.sqrt(fan))
