"""Names in published checkpoints for every parameter of ours (facts of the published files; see `checkpoint`).

The box branches of all decoder layers are one shared module, so a published file holds one identical copy a layer.
"""

import re
from collections.abc import Iterable

from ..config import ModelConfig

_HEAD = "pts_bbox_head."
_TRANSFORMER = _HEAD + "transformer."
_ENCODER = _TRANSFORMER + r"cam_encoder.layers.\1."
_BOX_DECODER = _TRANSFORMER + r"decoder.layers.\1."

HEADS = "decoder.heads."  # of the sparse decoder: our own, in no published file

# Ours -> published; the first pattern that matches the beginning of a name is replaced, the rest follows unchanged.
_RULES = (
    (r"backbone\.", "img_backbone."),
    (r"neck\.lateral\.(\d+)\.", r"img_neck.lateral_convs.\1.conv."),
    (r"neck\.output\.(\d+)\.", r"img_neck.fpn_convs.\1.conv."),
    (r"queries\.embedding\.", _HEAD + "bev_embedding."),
    (r"queries\.row\.", _HEAD + "positional_encoding.row_embed."),
    (r"queries\.column\.", _HEAD + "positional_encoding.col_embed."),
    (r"queries\.layer\.", _HEAD + "positional_encoding.z_embed."),
    (r"queries\.ego_motion\.4\.", _TRANSFORMER + "can_bus_mlp.norm."),
    (r"queries\.ego_motion\.", _TRANSFORMER + "can_bus_mlp."),
    (r"encoder\.camera_embedding", _TRANSFORMER + "cams_embeds"),
    (r"encoder\.level_embedding", _TRANSFORMER + "level_embeds"),
    (r"encoder\.layers\.(\d+)\.self_attention\.", _ENCODER + "attentions.0."),
    (r"encoder\.layers\.(\d+)\.cross_attention\.output_proj\.", _ENCODER + "attentions.1.output_proj."),
    (r"encoder\.layers\.(\d+)\.cross_attention\.", _ENCODER + "attentions.1.deformable_attention."),
    (r"encoder\.layers\.(\d+)\.ffn\.0\.", _ENCODER + "ffns.0.layers.0.0."),
    (r"encoder\.layers\.(\d+)\.ffn\.2\.", _ENCODER + "ffns.0.layers.1."),
    (r"encoder\.layers\.(\d+)\.", _ENCODER),
    (r"boxes\.query_embedding\.", _HEAD + "query_embedding."),
    (r"boxes\.code_weights", _HEAD + "code_weights"),
    (r"boxes\.class_branch\.", _HEAD + "cls_branches.*."),
    (r"boxes\.code_branch\.", _HEAD + "reg_branches.*."),
    (r"boxes\.reference_points\.", _TRANSFORMER + "reference_points."),
    (r"boxes\.layers\.(\d+)\.self_attention\.", _BOX_DECODER + "attentions.0.attn."),
    (r"boxes\.layers\.(\d+)\.bev_attention\.", _BOX_DECODER + "attentions.1."),
    (r"boxes\.layers\.(\d+)\.ffn\.0\.", _BOX_DECODER + "ffns.0.layers.0.0."),
    (r"boxes\.layers\.(\d+)\.ffn\.2\.", _BOX_DECODER + "ffns.0.layers.1."),
    (r"boxes\.layers\.(\d+)\.", _BOX_DECODER),
)


def _rules(config: ModelConfig) -> tuple[tuple[str, str], ...]:
    """The rules of one network: two spellings and two positions depend on its parts."""
    block = "temporal_encoder.temporal_block." + ("0." if config.temporal.kind == "concat" else "")
    decoder = f"{config.published_decoder}."
    last = 2 * (len(config.decoder.mlp) - 2)
    mlp = _TRANSFORMER + "seg_decoder.mlp_decoder.nn_layers."
    return (
        (r"fusion\.", _TRANSFORMER + block),
        (r"decoder\.upsample\.", _TRANSFORMER + decoder + "upsample."),
        (re.escape(HEADS), _TRANSFORMER + decoder + "occupancy_heads."),
        (r"decoder\.gate\.", _TRANSFORMER + decoder + "semantic_det.0."),
        (r"decoder\.things\.", _TRANSFORMER + decoder + "semantic_det1.0."),
        (rf"decoder\.mlp\.{last}\.", f"{mlp}{last}."),
        (rf"decoder\.mlp\.{last + 1}\.", _TRANSFORMER + "seg_decoder.classifier."),
        (r"decoder\.mlp\.(\d+)\.", mlp + r"\1.0."),
        *_RULES,
    )


def published_names(names: Iterable[str], config: ModelConfig) -> dict[str, list[str]]:
    """Our parameter names -> the names of their copies in a published file, the first copy first.

    Raises:
        KeyError: a name that no rule knows.
    """
    rules = [(re.compile(pattern), replacement) for pattern, replacement in _rules(config)]
    copies = range(config.boxes.layers)
    out = {}
    for name in names:
        pattern, replacement = next(((p, r) for p, r in rules if p.match(name)), (None, ""))
        if pattern is None:
            raise KeyError(f"no published name is known for the parameter {name}")
        published = pattern.sub(replacement, name, count=1)
        out[name] = [published.replace("*", str(i)) for i in copies] if "*" in published else [published]
    return out


def modern(name: str) -> str:
    """A published name as written today: old files say `conv2_offset` for deformable offsets, some begin `module.`."""
    return name.removeprefix("module.").replace(".conv2_offset.", ".conv2.conv_offset.")
