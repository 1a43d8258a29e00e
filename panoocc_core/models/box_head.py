"""Box branch: learned queries attend to the bird's-eye map of the fused volume (arXiv 2010.04159)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import BoxConfig, GridConfig, ModelConfig
from ..ops.deform_attn import deform_attn
from ..ops.interpolation import bordered
from ..step import BoxPrediction
from ..voxels import column_mean, extent_m, shape_hwz
from .layers import Linear
from .view_encoder import FeedForward

BOX_CODES = 10  # cx, cy, log w, log l, cz, log h, sin yaw, cos yaw, vx, vy
CENTRE_CODES = (0, 1, 4)  # where cx, cy, cz stand


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Decoded boxes in the network frame, centred in the middle; yaw and sizes in the published convention."""

    boxes: Tensor  # float32 [n, 9]: cx, cy, cz, w, l, h, yaw, vx, vy
    scores: Tensor  # float32 [n]
    labels: Tensor  # int64 [n]


class BevAttention(nn.Module):
    """Deformable attention of box queries on the bird's-eye map."""

    def __init__(self, embed: int, heads: int, points: int):
        super().__init__()
        self.heads, self.points = heads, points
        self.sampling_offsets = Linear(embed, heads * points * 2)
        self.attention_weights = Linear(embed, heads * points)
        self.value_proj = Linear(embed, embed)
        self.output_proj = Linear(embed, embed)

    def forward(
        self, query: Tensor, position: Tensor, bev: Tensor, shape: tuple[int, int], reference: Tensor
    ) -> Tensor:
        """Attended query [Q, C] with its residual; `bev` is [rows * columns, C], `reference` [Q, 3] in 0..1."""
        count, conditioning = query.shape[0], query + position
        offsets = self.sampling_offsets(conditioning).float().view(count, self.heads, 1, self.points, 2)
        weights = self.attention_weights(conditioning).float().view(count, self.heads, 1, self.points).softmax(-1)
        values = bordered(self.value_proj(bev).unflatten(0, shape)[None])
        values = values.flatten(1, 2).unflatten(-1, (self.heads, -1))
        return self.output_proj(deform_attn(values, (shape,), reference[:, None, :2], offsets, weights)) + query


class BoxLayer(nn.Module):
    def __init__(self, embed: int, heads: int, ffn: int, points: int):
        super().__init__()
        self.self_attention = nn.MultiheadAttention(embed, heads)
        self.bev_attention = BevAttention(embed, heads, points)
        self.ffn = FeedForward(embed, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(embed) for _ in range(3))

    def forward(
        self, query: Tensor, position: Tensor, bev: Tensor, shape: tuple[int, int], reference: Tensor
    ) -> Tensor:
        placed = query + position
        attended = self.self_attention(placed, placed, query, need_weights=False)[0]
        query = self.norms[0](query + attended)
        query = self.norms[1](self.bev_attention(query, position, bev, shape, reference))
        return self.norms[2](self.ffn(query))


def _mlp_with_norms(embed: int, outputs: int) -> nn.Sequential:
    hidden = [Linear(embed, embed), nn.LayerNorm(embed), nn.ReLU(), Linear(embed, embed), nn.LayerNorm(embed)]
    return nn.Sequential(*hidden, nn.ReLU(), Linear(embed, outputs))


def _logit(p: Tensor, eps: float = 1e-5) -> Tensor:
    p = p.clamp(0, 1)
    return (p.clamp(min=eps) / (1 - p).clamp(min=eps)).log()


class BoxHead(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        boxes, embed = config.boxes, config.embed
        self.grid = config.grid
        self.query_embedding = nn.Embedding(boxes.queries, 2 * embed)  # position, content
        self.reference_points = Linear(embed, 3)
        self.layers = nn.ModuleList(
            BoxLayer(embed, config.heads, config.ffn, boxes.points) for _ in range(boxes.layers)
        )
        self.class_branch = _mlp_with_norms(embed, len(boxes.classes))
        self.code_branch = nn.Sequential(
            Linear(embed, embed), nn.ReLU(), Linear(embed, embed), nn.ReLU(), Linear(embed, BOX_CODES)
        )
        self.code_weights = nn.Parameter(torch.ones(BOX_CODES), requires_grad=False)  # of the training loss

    def forward(self, bev: Tensor) -> BoxPrediction:
        """Bird's-eye map [rows * columns, C] -> classes and codes of every layer."""
        position, query = self.query_embedding.weight.chunk(2, dim=1)
        reference = self.reference(position)
        shape = (self.grid.rows, self.grid.columns)
        class_logits, codes = [], []
        for layer in self.layers:
            query = layer(query, position, bev, shape, reference)
            class_logits.append(self.class_branch(query).float())
            codes.append(self._codes(self.code_branch(query).float(), reference))
        return BoxPrediction(torch.stack(class_logits), torch.stack(codes))

    def reference(self, position: Tensor) -> Tensor:
        """Reference points of the queries, float32 [Q, 3] (x, y, z) in 0..1."""
        return self.reference_points(position).float().sigmoid()

    def _codes(self, codes: Tensor, reference: Tensor) -> Tensor:
        """Centres move from the reference points and get metres."""
        columns = list(codes.unbind(-1))
        for axis, code in enumerate(CENTRE_CODES):
            unit = (columns[code] + _logit(reference[:, axis])).sigmoid()
            columns[code] = unit * extent_m(self.grid)[axis] + self.grid.range_m[axis]
        return torch.stack(columns, dim=-1)


class NoBoxes(nn.Module):
    """The box branch of a network without box classes: finds nothing, and has nothing to learn."""

    def forward(self, bev: Tensor) -> BoxPrediction:
        return BoxPrediction(bev.new_zeros((1, 0, 1), dtype=torch.float32), bev.new_zeros((1, 0, BOX_CODES)).float())


def bev_map(tokens: Tensor, thing_logits: Tensor | None, grid: GridConfig) -> Tensor:
    """Map [rows * columns, C] for the boxes: mean over the layers, weighted with softmax channel 0 where there is one.

    Channel 1 of the logits is trained as "thing", so the published networks weigh with the probability of the others.
    """
    if thing_logits is not None:
        tokens = tokens * thing_logits.float().softmax(-1)[:, :1].to(tokens.dtype)
    return column_mean(tokens, shape_hwz(grid))


def decode_boxes(prediction: BoxPrediction, config: BoxConfig) -> Boxes:
    """The best `max_boxes` of the last layer whose centres lie within the limits; no threshold, no suppression."""
    scores = prediction.class_logits[-1].sigmoid()  # [Q, class]
    best = scores.flatten().topk(min(config.max_boxes, scores.numel()))
    labels = best.indices % scores.shape[1]
    codes = prediction.codes[-1][best.indices // scores.shape[1]]
    cx, cy, log_w, log_l, cz, log_h, sine, cosine, vx, vy = codes.unbind(-1)
    yaw = torch.atan2(sine, cosine)
    boxes = torch.stack((cx, cy, cz, log_w.exp(), log_l.exp(), log_h.exp(), yaw, vx, vy), dim=-1)
    low, high = config.centre_limits_m[:3], config.centre_limits_m[3:]
    kept = torch.ones_like(yaw, dtype=torch.bool)
    for axis in range(3):
        kept &= (boxes[:, axis] >= low[axis]) & (boxes[:, axis] <= high[axis])
    return Boxes(boxes[kept], best.values[kept], labels[kept])
