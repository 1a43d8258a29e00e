#!/usr/bin/env python3
"""The node, with a network that fails as the file that TROUBLE names has it: memory, nan, slow,
heavy; for how many steps."""

import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from panoocc_core.network import Network
from panoocc_ros.node.node import main

FILE = Path(os.environ["TROUBLE"])
SLOW_S, HEAVY_S = 4.0, 0.6


def taken() -> str:
    """The trouble of this step; the file then has one step less."""
    word, _, steps = FILE.read_text().partition(" ") if FILE.exists() else ("", "", "")
    if word and int(steps) <= 1:
        FILE.unlink(missing_ok=True)
    elif word:
        FILE.write_text(f"{word} {int(steps) - 1}")
    return word


sound = Network.classes


def troubled(network, fused):
    word = taken()
    if word == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory, as the test has it")
    if word == "slow":
        time.sleep(SLOW_S)
    if word == "heavy":
        time.sleep(HEAVY_S)
    return sound(network, fused * float("nan") if word == "nan" else fused)


Network.classes = troubled
raise SystemExit(main())
