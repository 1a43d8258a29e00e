"""FLOPs and bytes of one frame, counted from the configuration: of the ideal computation, whatever the code does.

The rules, so that a floor does not move when the code is clever:

- One multiplication and one addition are two FLOPs.  Products and convolutions are counted with all that the padding
  adds; what works element by element (norms, activations, residuals, softmax) is taken as fused and free.
- Whatever leaves the output unchanged is saved: linears of `cat(a, b)` are split, and the half that is constant is not
  computed; two slots that sample the same volume share one product; values are projected once, and only those that
  sampling can reach; embeddings fold into a bias; the first layer's self-attention conditions on constants and one
  vector, and so does the box branch's; offsets and weights are made once a query and not once a camera.
- Bytes moved: every product reads its input and its weights and writes its output once; images are read and the classes
  written once.
- Bytes gathered: four corners a sample, eight where volumes are resampled, in rows of one head's channels.  A gather's
  table is what an ideal order would keep at hand: one head of one camera.
- What the frames decide is asked of the frames (`FrameFacts`): which voxels which cameras see, how many voxels the
  occupancy gate opens.  The history is full.

Counted is the family of `models.panoocc`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Literal

from ...config import InternImageConfig, ModelConfig, ResNetConfig
from ...models.resnet import EXPANSION
from ...voxels import token_count

Kind = Literal["product", "conv3", "conv1", "elementwise", "gather"]
CORNERS, CORNERS_3D = 4, 8
IMAGE_BYTES = 4  # images are float32 whatever the precision
HEAD_CHANNELS = 32  # of the occupancy heads of a sparse decoder
COUNTED_STAGES = ("prepare", "backbone", "encoder", "temporal", "decoder")  # what a grid needs
BOXES = "boxes"  # the branch, which runs where somebody wants things


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What frames decide."""

    sightings: int  # pairs of a voxel and a camera that sees it
    image_pixels: int  # of all cameras, as they come
    open_share: float = 1.0  # of the fine voxels, by the occupancy gate


@dataclass(frozen=True, slots=True)
class Work:
    """One operation."""

    stage: str
    name: str
    kind: Kind
    flops: float
    moved_bytes: float
    shape: tuple[int, int, int] = (0, 0, 0)  # inputs, outputs and rows (or pixels): at what its rate is measured
    gathered_bytes: float = 0.0
    table_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class _Counter:
    """Makes works of one stage; `size` is the bytes of a feature."""

    stage: str
    size: int

    def linear(self, name: str, rows: float, inputs: int, outputs: int, kind: Kind = "product") -> Work:
        moved = self.size * (rows * (inputs + outputs) + inputs * outputs)
        return Work(self.stage, name, kind, 2 * rows * inputs * outputs, moved, (inputs, outputs, int(rows)))

    def conv(self, name: str, pixels: int, inputs: int, outputs: int, taps: float, read: int | None = None) -> Work:
        """A convolution to `pixels` of all images or layers, of `read` ones (as many)."""
        kind: Kind = "conv1" if taps == 1 else "conv3"
        moved = self.size * ((read or pixels) * inputs + pixels * outputs + inputs * outputs * taps)
        return Work(self.stage, name, kind, 2 * pixels * inputs * outputs * taps, moved, (inputs, outputs, pixels))

    def gather(self, name: str, rows: float, channels: int, table_rows: int) -> Work:
        """Rows of `channels` features that are weighted and added; table_rows 0: each is read in order, and cached."""
        row = self.size * channels
        flops = 2 * rows * channels
        return Work(self.stage, name, "gather", flops, 0, (channels, 0, 0), rows * row, table_rows * row)


def works(config: ModelConfig, facts: FrameFacts, feature_bytes: int) -> list[Work]:
    """Every operation of one frame, stage by stage, the box branch last."""
    found = [_prepare(config, facts)]
    backbone = config.backbone
    count = _Counter("backbone", feature_bytes)
    if isinstance(backbone, ResNetConfig):
        found += _resnet(config, backbone, count)
    else:
        found += _internimage(config, backbone, count)
    found += _pyramid(config, count)
    found += _encoder(config, facts, _Counter("encoder", feature_bytes))
    found += _temporal(config, _Counter("temporal", feature_bytes))
    found += _decoder(config, facts, _Counter("decoder", feature_bytes))
    found += _boxes(config, _Counter(BOXES, feature_bytes))
    return found


def _prepare(config: ModelConfig, facts: FrameFacts) -> Work:
    written = len(config.cameras) * 3 * prod(config.images.padded_hw) * IMAGE_BYTES
    return Work("prepare", "images", "elementwise", 0, 3 * facts.image_pixels + written)


def _half(size_hw: tuple[int, int]) -> tuple[int, int]:
    return ceil(size_hw[0] / 2), ceil(size_hw[1] / 2)


def map_sizes(config: ModelConfig) -> list[tuple[int, int]]:
    """Rows and columns of the levels of the feature pyramid, finest first."""
    size = _half(_half(config.images.padded_hw))
    sizes = []
    for stage in range(1, len(config.backbone.blocks) + 1):
        size = size if stage == 1 else _half(size)
        if stage in config.backbone.output_stages:
            sizes.append(size)
    while len(sizes) < config.levels:
        sizes.append(_half(sizes[-1]))
    return sizes


def _resnet(config: ModelConfig, backbone: ResNetConfig, count: _Counter) -> Iterator[Work]:
    cameras, size = len(config.cameras), _half(config.images.padded_hw)
    yield count.conv("stem", cameras * prod(size), 3, backbone.width, 49, cameras * prod(config.images.padded_hw))
    size, channels = _half(size), backbone.width
    for stage, blocks in enumerate(backbone.blocks, start=1):
        width = backbone.width << (stage - 1)
        outputs, deformable = width * EXPANSION, stage in backbone.deformable_stages
        for block in range(blocks):
            before = cameras * prod(size)
            if block == 0 and stage > 1:
                size = _half(size)
            pixels, name = cameras * prod(size), f"layer{stage}.{block}"
            narrow = pixels if backbone.style == "caffe" else before  # where the first 1x1 convolution has its pixels
            yield count.conv(f"{name}.conv1", narrow, channels, width, 1)
            if deformable:
                yield count.conv(f"{name}.conv2.offsets", pixels, width, 27, 9, narrow)
                yield count.gather(f"{name}.conv2.samples", pixels * 9 * CORNERS, width, narrow // cameras)
                yield count.linear(f"{name}.conv2", pixels, 9 * width, width)
            else:
                yield count.conv(f"{name}.conv2", pixels, width, width, 9, narrow)
            yield count.conv(f"{name}.conv3", pixels, width, outputs, 1)
            if block == 0 and (stage > 1 or channels != outputs):
                yield count.conv(f"{name}.downsample", pixels, channels, outputs, 1)
            channels = outputs


def _internimage(config: ModelConfig, backbone: InternImageConfig, count: _Counter) -> Iterator[Work]:
    cameras, first = len(config.cameras), _half(config.images.padded_hw)
    size, channels, taps = _half(first), backbone.width, backbone.kernel**2
    yield count.conv("stem", cameras * prod(first), 3, channels // 2, 9, cameras * prod(config.images.padded_hw))
    yield count.conv("stem.2", cameras * prod(size), channels // 2, channels, 9, cameras * prod(first))
    for stage, (blocks, heads) in enumerate(zip(backbone.blocks, backbone.heads, strict=True)):
        pixels, head = cameras * prod(size), channels // heads
        for block in range(blocks):
            name = f"level{stage}.{block}"
            moved = 2 * count.size * pixels * channels
            yield Work(count.stage, f"{name}.depthwise", "elementwise", 2 * pixels * channels * taps, moved)
            yield count.linear(f"{name}.offsets and weights", pixels, channels, heads * taps * 3)
            yield count.linear(f"{name}.values", pixels, channels, channels)
            yield count.gather(f"{name}.samples", pixels * heads * taps * CORNERS, head, prod(size))
            yield count.linear(f"{name}.output", pixels, channels, channels)
            yield count.linear(f"{name}.mlp", pixels, channels, channels * backbone.mlp_ratio)
            yield count.linear(f"{name}.mlp.2", pixels, channels * backbone.mlp_ratio, channels)
        if stage + 1 < len(backbone.blocks):
            size = _half(size)
            yield count.conv(f"level{stage}.downsample", cameras * prod(size), channels, 2 * channels, 9, pixels)
            channels *= 2


def _pyramid(config: ModelConfig, count: _Counter) -> Iterator[Work]:
    cameras, sizes, inputs = len(config.cameras), map_sizes(config), config.backbone.output_channels
    for level, (size, channels) in enumerate(zip(sizes, inputs)):
        yield count.conv(f"lateral.{level}", cameras * prod(size), channels, config.embed, 1)
    for level, size in enumerate(sizes):
        read = cameras * prod(size if level < len(inputs) else sizes[level - 1])
        yield count.conv(f"output.{level}", cameras * prod(size), config.embed, config.embed, 9, read)


def _attention(
    config: ModelConfig, count: _Counter, name: str, points: int, own_layer: bool, has_previous: bool, is_first: bool
) -> Iterator[Work]:
    """Voxel attention over the volume before and the current one."""
    voxels, embed, heads, pillars = token_count(config.grid), config.embed, config.heads, _pillars(config)
    reached = voxels if own_layer else pillars
    conditions = (2 if has_previous else 1) * embed  # else (W1 + W2) of the query alone
    if not is_first:
        yield count.linear(f"{name}.offsets and weights", voxels, conditions, heads * 2 * points * 3)
        yield count.linear(f"{name}.values", reached * (2 if has_previous else 1), embed, embed)
    yield count.gather(f"{name}.samples", voxels * heads * 2 * points * CORNERS, embed // heads, pillars)
    yield count.linear(f"{name}.output", voxels, embed, embed)


def _pillars(config: ModelConfig) -> int:
    return config.grid.rows * config.grid.columns


def _encoder(config: ModelConfig, facts: FrameFacts, count: _Counter) -> Iterator[Work]:
    encoder, embed, heads, voxels = config.encoder, config.embed, config.heads, token_count(config.grid)
    tokens = sum(map(prod, map_sizes(config)))
    samples = heads * config.levels * encoder.cross_points
    for layer in range(encoder.layers):
        own_layer = encoder.self_memory == "own_layer"
        yield from _attention(
            config, count, f"{layer}.self", encoder.self_points, own_layer, False, is_first=layer == 0
        )
        yield count.linear(f"{layer}.cross.values", len(config.cameras) * tokens, embed, embed)
        yield count.linear(f"{layer}.cross.offsets and weights", voxels, embed, samples * 3)
        yield count.gather(f"{layer}.cross.samples", facts.sightings * samples * CORNERS, embed // heads, tokens)
        yield count.linear(f"{layer}.cross.output", voxels, embed, embed)
        yield count.linear(f"{layer}.ffn", voxels, embed, config.ffn)
        yield count.linear(f"{layer}.ffn.2", voxels, config.ffn, embed)


def _temporal(config: ModelConfig, count: _Counter) -> Iterator[Work]:
    temporal, embed, voxels = config.temporal, config.embed, token_count(config.grid)
    states = len(temporal.ages_s)
    if states:
        yield count.gather("warp", states * voxels * CORNERS_3D, embed, 0)
        moved = 2 * count.size * states * voxels * embed
        yield Work(count.stage, "warp.states", "elementwise", 0, moved)
    if temporal.kind == "recurrent":
        own_layer = temporal.memory == "own_layer"
        yield from _attention(config, count, "fusion", temporal.points, own_layer, bool(states), is_first=False)
        return
    yield count.linear("conv1 and downsample", voxels, (states + 1) * embed, 2 * embed)
    yield count.conv("conv2", voxels, embed, embed, 27)
    yield count.linear("conv3", voxels, embed, embed)


def _decoder(config: ModelConfig, facts: FrameFacts, count: _Counter) -> Iterator[Work]:
    """A sparse decoder computes the children of kept voxels alone."""
    decoder, channels = config.decoder, config.embed
    zyx, kept = [config.grid.layers, config.grid.rows, config.grid.columns], 1.0
    sparse = decoder.sparse
    for number, stage in enumerate(decoder.upsample):
        before = prod(zyx) * kept
        zyx = [
            (size - 1) * stride - 2 * padding + kernel
            for size, stride, padding, kernel in zip(zyx, stage.stride, stage.padding, stage.kernel)
        ]
        made, taps = int(prod(zyx) * kept), prod(stage.kernel) / prod(stage.stride)
        yield count.conv(f"upsample.{number}", made, channels, stage.channels, taps, int(before))
        channels = stage.channels
        if sparse is not None:
            if number < decoder.head_count:
                yield count.linear(f"head.{number}", made, channels, HEAD_CHANNELS)
                yield count.linear(f"head.{number}.gate", made, HEAD_CHANNELS, decoder.gate_kernel**3)
            kept = sparse.capacity[number]
    voxels = prod(zyx) * kept
    gated = decoder.gate_threshold is not None
    if gated:
        yield count.linear("gate", voxels if sparse is None else made, channels, decoder.gate_kernel**3)
    decided = voxels * (facts.open_share if gated and decoder.logit_upsample == (1, 1, 1) and sparse is None else 1)
    for layer, (inputs, outputs) in enumerate(pairwise((*decoder.mlp, config.class_count))):
        yield count.linear(f"mlp.{layer}", decided, inputs, outputs)
    out = prod(config.output_shape_xyz)
    if decoder.logit_upsample != (1, 1, 1):  # axis by axis, the last one at the full size
        lerps = 2 * config.class_count * out * kept * 1.75
        yield Work(count.stage, "logit_upsample", "elementwise", lerps, count.size * voxels * config.class_count)
    yield Work(count.stage, "classes and confidence", "elementwise", 0, 2 * out)


def _boxes(config: ModelConfig, count: _Counter) -> Iterator[Work]:
    boxes, embed, heads, pillars = config.boxes, config.embed, config.heads, _pillars(config)
    if not boxes.classes:
        return
    yield Work(count.stage, "map", "elementwise", 0, count.size * (token_count(config.grid) + pillars) * embed)
    for layer in range(boxes.layers):
        if layer:  # of the first one all that conditions is constant
            yield count.linear(f"{layer}.self.inputs", boxes.queries, embed, 3 * embed)
            pairs = 4 * boxes.queries**2 * embed
            yield Work(count.stage, f"{layer}.self.pairs", "product", pairs, 0, (embed // heads, boxes.queries, 1))
            yield count.linear(f"{layer}.self.output", boxes.queries, embed, embed)
            yield count.linear(f"{layer}.offsets and weights", boxes.queries, embed, heads * boxes.points * 3)
        yield count.linear(f"{layer}.values", pillars, embed, embed)
        yield count.gather(f"{layer}.samples", boxes.queries * heads * boxes.points * CORNERS, embed // heads, pillars)
        yield count.linear(f"{layer}.output", boxes.queries, embed, embed)
        yield count.linear(f"{layer}.ffn", boxes.queries, embed, config.ffn)
        yield count.linear(f"{layer}.ffn.2", boxes.queries, config.ffn, embed)
    for outputs in (embed, embed, len(boxes.classes), embed, embed, 10):
        yield count.linear("branches", boxes.queries, embed, outputs)
