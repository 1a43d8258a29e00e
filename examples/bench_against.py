"""Another implementation for `panoocc bench --against`: put your own network where Blur is.

    panoocc bench --model nano --against "python examples/bench_against.py"

The program is started once.  `load PATH` names a frame (.npz), `step` asks for its computation, whose time is taken;
both are answered with a line `done`.  What else it prints is passed over.
"""

import sys

import numpy as np


class Blur:
    """A stand-in that costs something: every image blurred, as float32."""

    def load(self, frame: dict[str, np.ndarray]) -> None:
        self.images = frame["images"].astype(np.float32)  # [camera, row, column, 3], RGB
        self.image_from_ego = frame["projections"]  # [camera, 3, 4]; poses and times are in the file too

    def step(self) -> None:
        for axis in (1, 2):
            self.images = (np.roll(self.images, 1, axis) + self.images + np.roll(self.images, -1, axis)) / 3


network = Blur()
for line in sys.stdin:
    word, _, path = line.strip().partition(" ")
    if word == "load":
        network.load(dict(np.load(path)))
    else:
        network.step()
    print("done", flush=True)
