"""A recorded case as a configuration, and our network run over its frames with every recorded stage taken out.

Stages are read with forward hooks, so that the network itself carries nothing for the comparison.
"""

import math
from typing import Any

import numpy as np
import torch

from panoocc_core.base.devices import full_float32
from panoocc_core.base.strict_yaml import build
from panoocc_core.config import ModelConfig
from panoocc_core.geometry import quaternion_from_rotation
from panoocc_core.memory import VoxelState, past_from_current, voxel_motion
from panoocc_core.models.box_head import Boxes, decode_boxes
from panoocc_core.models.panoocc import PanoOcc
from panoocc_core.models.point_labels import point_labels
from panoocc_core.models.voxel_decoder import classify
from panoocc_core.optics import Projections
from panoocc_core.voxels import layers_to_volume, volume_to_grid
from panoocc_core.weights.checkpoint import load_published
from panoocc_core.weights.inference import freeze, ready_for_inference

from .check import Case

SELF_MEMORY = "first_tokens"


def case_config(case: Case) -> ModelConfig:
    """The configuration tree of a case, built and checked like any YAML file."""
    n = case.network
    images, voxels, temporal, decoder, boxes = (n[k] for k in ("images", "voxels", "temporal", "decoder", "boxes"))
    pose = np.eye(4) if voxels["frame"] == "ego" else np.array(case.frames[0]["lidar2ego"])
    return build(
        ModelConfig,
        {
            "name": n["case"],
            "description": "recorded case",
            "truth": "voxels" if n["family"] == "occ3d" else "points",
            "published_decoder": "voxel_decoder" if n["family"] == "occ3d" else "voxel_encoder",
            "cameras": images["cameras"],
            "images": {
                "height": images["height"],
                "width": images["width"],
                "pad_multiple": images["pad_multiple"],
                "resized_intrinsics": "scaled",
                **images["normalise"],
            },
            "backbone": _backbone(n["backbone"]),
            "levels": n["neck"]["levels"],
            "embed": n["embed"],
            "heads": n["heads"],
            "ffn": n["ffn"],
            "grid": {
                "rows": voxels["H"],
                "columns": voxels["W"],
                "layers": voxels["Z"],
                "range_m": voxels["range"],
                "ego_from_network": {
                    "translation_m": pose[:3, 3].tolist(),
                    "rotation_xyzw": quaternion_from_rotation(pose[:3, :3]).tolist(),
                },
            },
            "encoder": {
                "layers": n["encoder"]["layers"],
                "self_points": n["encoder"]["self_attention_points"],
                "cross_points": n["encoder"]["cross_attention_points"],
                "self_memory": SELF_MEMORY,
                "reference_heights": "metric_linspace",
            },
            "ego_motion": {"quaternion": "scalar_repeated"},
            "temporal": _temporal(temporal),
            "decoder": {
                "upsample": [
                    {"channels": s["out"], **{k: s[k] for k in ("kernel", "stride", "padding")}}
                    for s in decoder["upsample_zyx"]
                ],
                "mlp": decoder["mlp"],
                "logit_upsample": decoder["logit_upsample_zyx"],
                "gate_threshold": n["gate"]["threshold"] if n.get("gate") else None,
                "gate_kernel": n["gate"]["kernel"] if n.get("gate") else 3,
                "thing_head": n["family"] != "occ3d",
            },
            "boxes": {
                "queries": boxes["queries"],
                "layers": boxes["layers"],
                "points": boxes["points"],
                "classes": boxes["classes"],
                "max_boxes": boxes["max_boxes"],
                "centre_limits_m": boxes["centre_limits"],
            },
            "points": _points(n.get("points")),
            "label_key": n["case"],
            "class_names": decoder["class_names"],
        },
        n["case"],
    )


def _backbone(b: dict[str, Any]) -> dict[str, Any]:
    if b.get("deform_groups", 1) != 1:
        raise ValueError("deformable convolutions with more than one offset group are not built")
    if b["kind"] == "resnet":
        keys = ("blocks", "style", "deformable_stages", "output_stages")
        return {"kind": "resnet", **{key: b[key] for key in keys if key in b}}
    return {
        "kind": "internimage",
        "width": b["embed_dims"][0],
        "heads": b["heads"],
        "blocks": b["blocks"],
        "kernel": math.isqrt(b["points"]),
        "offset_scale": b["offset_scale"],
        "mlp_ratio": b["mlp_ratio"],
        "output_stages": b["output_stages"],
    }


def _temporal(t: dict[str, Any]) -> dict[str, Any]:
    kind = {"concat_conv3d": "concat", "recurrent_attention": "recurrent"}[t["kind"]]
    out = {"kind": kind, "memory": SELF_MEMORY, "keep_height": "z translation" in t.get("pose", "")}
    if "points" in t:
        out["points"] = t["points"]
    ages = t.get("history_ages_s") or []
    if kind == "concat" and len(ages) != t["slots"] - 1:
        ages = [float(i) for i in range(t["slots"] - 1, 0, -1)]
    return {**out, "ages_s": [float(age) for age in ages]}


def _points(p: dict[str, Any] | None) -> dict[str, Any]:
    if p is None or p["rule"] == "direct":
        return {}
    return {"rule": p["rule"], "cells_xyz": p["cells_xyz"]}


def bottom_centred(boxes: Boxes) -> torch.Tensor:
    """The boxes [n, 9] with cz at the bottom face, as recorded."""
    moved = boxes.boxes.clone()
    moved[:, 2] -= moved[:, 5] / 2
    return moved


class Recorder:
    """Outputs of submodules during one pass, by stage name."""

    def __init__(self, model: PanoOcc):
        self._parts: dict[str, list[torch.Tensor]] = {}
        stages = {
            "ego_embedding": model.queries.ego_motion,
            "self_attention.0": model.encoder.layers[0].self_attention,
            "cross_attention.0": model.encoder.layers[0].cross_attention,
            "fused": model.fusion,
            "upsampled": model.decoder.upsample,
            **{f"encoder.{i}": layer for i, layer in enumerate(model.encoder.layers)},
            **{f"box.query.{i}": layer for i, layer in enumerate(model.boxes.layers)},
        }
        for name, module in stages.items():
            module.register_forward_hook(lambda _module, _input, output, name=name: self._add(name, output))

    def _add(self, name: str, output: torch.Tensor) -> None:
        self._parts.setdefault(name, []).append(output)

    def clear(self) -> None:
        """Before a pass."""
        self._parts.clear()

    @property
    def outputs(self) -> dict[str, torch.Tensor]:
        """Those of modules that were called block by block are joined."""
        return {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in self._parts.items()}


class CaseRun:
    """Our network on a case, loaded through the path of published checkpoints; frames are to be given in order."""

    def __init__(self, case: Case, device: str = "cpu"):
        self.case, self.device = case, torch.device(device)
        self.config = case_config(case)
        self.model = PanoOcc(self.config)
        tensors = {name: torch.from_numpy(value) for name, value in case.state_dict().items()}
        load_published(self.model, tensors, case.network["case"])
        freeze(ready_for_inference(self.model).to(self.device))
        self.recorder = Recorder(self.model)
        self.states: dict[int, VoxelState] = {}
        self.maps: dict[int, list[torch.Tensor]] = {}

    @torch.inference_mode()
    @full_float32()
    def image_maps(self, image_set: int) -> dict[str, list[np.ndarray]]:
        """Backbone and neck maps of an image set."""
        images = torch.from_numpy(self.case.network_input(image_set)).to(self.device)
        backbone = self.model.backbone(images)
        self.maps[image_set] = self.model.neck(backbone)
        return {"backbone": [m.cpu().numpy() for m in backbone], "fpn": [m.cpu().numpy() for m in self.maps[image_set]]}

    @torch.inference_mode()
    @full_float32()
    def step(self, frame: dict[str, Any], run: str) -> dict[str, np.ndarray]:
        """Every recorded stage of one frame."""
        model, config = self.model, self.config
        self.recorder.clear()
        if frame["image_set"] not in self.maps:
            self.image_maps(frame["image_set"])
        projections = Projections(self._projections(frame))
        projection = model.project(projections)
        vector = frame["can_bus_fed" if run == "clean" else "can_bus_fed_reference"]
        ego_motion = torch.tensor(vector, dtype=torch.float64).float().to(self.device)
        features = model.encoder.camera_tokens([self.maps[frame["image_set"]]])
        current = model.encode_voxels(features, projections, ego_motion)

        world_from_network = np.array(frame["ego2global"]) @ config.grid.ego_from_network.matrix
        states = [self.states[i] for i in frame["history_frames"]]
        tokens, motions = [state.tokens for state in states], self._motions(states, world_from_network)
        history = model.align(tokens, motions)
        fused = model.fuse(tokens, motions, current)
        self.states[frame["frame"]] = VoxelState(0, world_from_network, model.state(current, fused))

        logits = model.decode(fused)
        out = dict(self.recorder.outputs)
        out["decoder"] = volume_to_grid(layers_to_volume(out.pop("upsampled")))
        out |= {"projection.uv": projection.uv, "projection.mask": projection.visible, "logits": logits.classes}
        out["classes"] = classify(logits, config.decoder, config.labels.free_id)[0]
        if history:
            out["history"] = torch.stack(history)
        if logits.gate is not None:
            out["gate"] = logits.gate
        if logits.things is not None:
            out["thing_logits"] = logits.things
            for name, points in self._points(frame).items():
                out[name] = point_labels(logits.classes, points.to(self.device), config.grid, config.points)
        return {name: value.cpu().numpy() for name, value in (out | self._boxes(fused, logits)).items()}

    def _boxes(self, fused: torch.Tensor, logits: Any) -> dict[str, torch.Tensor]:
        model = self.model
        bev = []
        handle = model.boxes.register_forward_pre_hook(lambda _module, inputs: bev.append(inputs[0]))
        prediction = model.detect(fused)
        handle.remove()
        boxes = decode_boxes(prediction, self.config.boxes)
        position = model.boxes.query_embedding.weight[:, : self.config.embed]
        queries = {name: value for name, value in self.recorder.outputs.items() if name.startswith("box.query")}
        return queries | {
            "bev_memory": bev[0],
            "box.reference": model.boxes.reference(position),
            "box.class_logits": prediction.class_logits,
            "box.parameters": prediction.codes,
            "box.coder.boxes": boxes.boxes,
            "box.coder.scores": boxes.scores,
            "box.coder.labels": boxes.labels,
            "box.final.boxes": bottom_centred(boxes),
        }

    def _motions(self, states: list[VoxelState], world_from_network: np.ndarray) -> torch.Tensor:
        grid, temporal = self.config.grid, self.config.temporal
        since = [past_from_current(state.world_from_network, world_from_network, temporal) for state in states]
        motions = np.array([voxel_motion(motion, grid) for motion in since]).reshape(-1, 3, 4)
        return torch.as_tensor(motions, dtype=torch.float32, device=self.device)

    def _projections(self, frame: dict[str, Any]) -> torch.Tensor:
        image_from_lidar = np.array(frame["lidar2img"])
        lidar_from_network = np.array(frame["ego2lidar"]) if "ego2lidar" in frame else np.eye(4)
        return torch.as_tensor((image_from_lidar @ lidar_from_network)[:, :3], dtype=torch.float32, device=self.device)

    def _points(self, frame: dict[str, Any]) -> dict[str, torch.Tensor]:
        out = {}
        if "points_set" in frame:
            out["point_labels"] = torch.from_numpy(self.case.points(frame["frame"]))
        if "points_boundary" in self.case.inputs:
            out["point_labels_boundary"] = torch.from_numpy(self.case.inputs["points_boundary"])
        return out
