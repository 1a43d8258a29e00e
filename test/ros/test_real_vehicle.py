"""A recorded nuScenes vehicle, whose LiDAR is not quite where weights know it; named by the environment."""

import json
import os
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core import Frame, model_config
from panoocc_core.preprocess import network_input
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.bags.source import ready_sets
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.rig import load_rig
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.messages.fields import transforms

BAG, CASE = os.environ.get("PANOOCC_REAL_BAG"), os.environ.get("PANOOCC_REAL_CASE")
pytestmark = pytest.mark.skipif(not BAG, reason="needs PANOOCC_REAL_BAG")

CONFIG = model_config("pano_small_4f")
RIG = load_rig("nuscenes").select(CONFIG.cameras)


@cache
def read(network_frame: str | None):
    """The frames of the bag, and what is told of them."""
    rig = replace(RIG, network_frame=network_frame)
    with BagReader(BAG) as bag, closing(FrameAssembler(rig, AssemblerOptions().patient(), config=CONFIG)) as assembler:
        frames = [assembler.frame(ready) for _, ready in ready_sets(bag, assembler)]
        return frames, assembler.status(0).notices


@pytest.mark.parametrize("named", ["lidar_top", None])
def test_the_mount_of_the_lidar_is_held_against_the_preset_s(named):
    frames, (notice,) = read(named)
    assert "0.04 m and 1.3 degrees" in notice.text and notice.count == len(frames) == 2
    assert ("set network_frame to lidar_top" in notice.text) == (named is None)
    assert all((frame.ego_from_network is None) == (named is None) for frame in frames)


def pixels_off(frame: Frame, image_from_lidar: np.ndarray) -> float:
    """Median distance, in pixels of the input, of points around the vehicle from where [camera, 3, 4] puts them."""
    inputs = network_input(frame, CONFIG.placed(frame.ego_from_network), torch.device("cpu"))
    projections = inputs.projections.image_from_network
    points = np.random.default_rng(0).uniform((-40, -40, -3, 1), (40, 40, 2, 1), (2000, 4))
    off = []
    for ours, theirs in zip(projections.double().numpy(), image_from_lidar, strict=True):
        u, v = ours @ points.T, theirs @ points.T
        ahead = (u[2] > 3) & (v[2] > 3)
        off.append(np.linalg.norm(u[:2, ahead] / u[2, ahead] - v[:2, ahead] / v[2, ahead], axis=0))
    return float(np.median(np.concatenate(off)))


@pytest.mark.skipif(not CASE, reason="needs PANOOCC_REAL_CASE")
def test_voxels_are_looked_for_where_the_published_code_looks_for_them():
    """At the LiDAR's stamp, with its frame, the projections are those that were recorded of the same key frames."""
    recorded = json.loads((Path(CASE) / "frames.json").read_text())["frames"]
    scale = CONFIG.images.width / json.loads((Path(CASE) / "network.json").read_text())["images"]["width"]
    with BagReader(BAG) as bag:
        poses = {
            one.stamp_ns: one.parent_from_child
            for message in bag.messages(["/tf"])
            for one in transforms(bag.deserialise(message))
        }
    for named, limit in (("lidar_top", (0.0, 0.01)), (None, (5.0, 30.0))):
        for frame, case in zip(read(named)[0], recorded):
            sweep_ns = max(stamp_ns for stamp_ns in poses if stamp_ns - frame.stamp_ns < 100_000_000)
            at_sweep = replace(frame, stamp_ns=sweep_ns, world_from_ego=poses[sweep_ns])
            image_from_lidar = np.diag((scale, scale, 1.0)) @ np.array(case["lidar2img"])[:, :3]
            assert limit[0] <= pixels_off(at_sweep, image_from_lidar) < limit[1]
