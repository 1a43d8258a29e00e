"""Loss cases: generated predictions and targets with recorded loss terms, assignments and gradients (numpy only).

    from test.parity.loss_cases import LossCase, compare
    case = LossCase('test/parity/losses/occ')
    x = case.inputs                            # dict of arrays, see INPUTS; case.settings holds weights and grid
    outputs = my_losses(x, case.settings)      # {'term.box_class.1': value, 'assignment.1': array, ...}, see ENTRIES
    assert compare(case, outputs)

    python -m test.parity.loss_cases test/parity/losses/occ                    # what is recorded

The inputs are made by PCG64 uniform draws and exact IEEE operations, so they are bit-identical everywhere (checksum in
settings.json).  Terms are recorded with their weights applied, so the total loss is their plain sum.
"""

import json
import zlib
from pathlib import Path

import numpy as np

BITS = 24

# X, Y, S is the output grid (x, y, z order); N = H*W*Z coarse tokens in the order (h*W + w)*Z + z; K classes;
# Q box queries; L decoder layers; n boxes; p points.
INPUTS = {
    "logits": ("float32 [X, Y, S, K]", "class logits"),
    "gate": ("float32 [X, Y, S]", "occ: occupancy-gate logit"),
    "thing_logits": ("float32 [N, 2]", "pan: the two logits of the coarse voxels"),
    "class_logits": ("float32 [L, Q, 10]", "class logits of the box queries, every decoder layer"),
    "box_parameters": ("float32 [L, Q, 10]", "cx, cy, log w, log l, cz, log h, sin, cos, vx, vy; centres in metres"),
    "gt_boxes": ("float32 [n, 9]", "cx, cy, cz (middle), w, l, h, yaw, vx, vy"),
    "gt_labels": ("int64 [n]", "box class, 0..9"),
    "semantics": ("uint8 [X, Y, S]", "occ: true class, 17 = free"),
    "mask_camera": ("uint8 [X, Y, S]", "occ: 1 where a camera sees the voxel"),
    "points": ("float32 [p, 3]", "pan: LiDAR points, all inside the range"),
    "point_classes": ("uint8 [p]", "pan: class of each point, 0..16"),
}
ENTRIES = {
    "term.occupancy_ce": "occ: cross-entropy of the voxels that a camera sees",
    "term.occupancy_lovasz": "occ: Lovasz-softmax of the occupied voxels",
    "term.gate_focal": "occ: focal loss of the gate",
    "term.semantic_focal": "pan: focal loss of all fine voxels",
    "term.semantic_lovasz": "pan: Lovasz-softmax of the labelled voxels",
    "term.thing_focal": "pan: focal loss of the coarse voxels",
    "term.box_class.{i}, term.box_l1.{i}": "box terms of decoder layer i; occ: the last layer only",
    "assignment.{i}": "int64 [Q]: row of gt_boxes that query is matched to in decoder layer i, -1 = none",
    "voxel_labels": "pan: uint8 [X, Y, S], class of the fine voxels, 17 = unlabelled",
    "coarse_labels": "pan: uint8 [N], 1 thing, 0 other, 2 unlabelled",
    "gradient.{term}.{input}": "gradient of one term with respect to one input, in the shape of the input; box terms: "
    "'gradient.boxes.class_logits' and 'gradient.boxes.box_parameters', all layers' box terms together",
}


class _Draw:
    """Uniform integers of one array."""

    def __init__(self, name, seed):
        self.rng = np.random.Generator(np.random.PCG64((zlib.crc32(name.encode()) + seed) & 0xFFFFFFFF))

    def integers(self, n, *shape):
        """0..n-1."""
        return (self.rng.random(shape) * 2.0**BITS).astype(np.int64) * n >> BITS

    def between(self, lo, hi, *shape):
        """Uniform; multiples of (hi - lo) / 2^24."""
        return (self.rng.random(shape) * 2.0**BITS).astype(np.int64) * (2.0**-BITS * (hi - lo)) + lo


def _volume(draw, shape, classes, background, blobs):
    """Blocks of classes in a background, later ones in front."""
    v = np.full(shape, background, np.int64)
    c = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    for _ in range(blobs):
        k = classes[int(draw.integers(len(classes), 1)[0])]
        inside = np.ones(shape, bool)
        for axis, n in enumerate(shape):
            a, size = int(draw.integers(n, 1)[0]), int(draw.integers(n // 2, 1)[0]) + 1
            inside &= (c[axis] >= a) & (c[axis] < a + size)
        v[inside] = k
    return v


def make_inputs(s):
    """All inputs of a case from its settings."""

    def d(name):
        return _Draw(name, s["seed"])

    X, Y, S = grid = tuple(s["grid_xyz"])
    K, Q, L, n = s["classes"], s["queries"], s["layers"], s["boxes"]
    lo, hi = np.asarray(s["range"][:3]), np.asarray(s["range"][3:])
    out = {}

    boxes = d("gt_boxes")
    centre = boxes.between(0.1, 0.9, n, 3) * (hi - lo) + lo
    size, yaw, speed = boxes.between(0.5, 4.5, n, 3), boxes.between(-3.1, 3.1, n, 1), boxes.between(-4, 4, n, 2)
    out["gt_boxes"] = np.concatenate([centre, size, yaw, speed], 1)
    out["gt_labels"] = d("gt_labels").integers(10, n)

    p = d("box_parameters").between(-1, 1, L, Q, 10) * np.asarray([1, 1, 0.9, 0.9, 1, 0.9, 1, 1, 3, 3])
    p[..., [0, 1, 4]] = (p[..., [0, 1, 4]] * 0.5 + 0.5) * (hi - lo) + lo
    c = d("class_logits").between(-2.5, 2.5, L, Q, 10) - 2.0
    near, noise = d("near").integers(Q, L, 3 * n + 1), d("noise").between(-1, 1, L, 3 * n + 1, 3)
    for layer in range(L):  # some queries come near a true box, some of them with its class
        for j in range(3 * n):
            q, g = near[layer, j], j % n
            p[layer, q, [0, 1, 4]] = centre[g] + noise[layer, j]
            if j % 2:
                c[layer, q, out["gt_labels"][g]] += 3.0
    out["box_parameters"], out["class_logits"] = p, c

    if s["family"] == "occ3d":
        v = _volume(d("semantics"), grid, s["present"], 17, 26)
        x, y, z = np.meshgrid(*(np.arange(m) for m in grid), indexing="ij")
        seen = (3 * x + 2 * y - 5 * z > s["mask_from"]) & (d("mask").integers(10, *grid) > 0)
        if s["hide_occupied"]:
            seen &= v == 17
        out["semantics"], out["mask_camera"] = v, seen
        out["gate"] = d("gate").between(-2.5, 2.5, *grid) + np.where((v < 17) & seen, 1.5, -1.5)
        truth = v
    else:
        region = _volume(d("regions"), tuple(2 * g for g in grid), s["present"], s["present"][0], 30)
        u = d("points").between(0, 1, s["points"], 3)
        dense = d("clusters")
        u[s["points"] // 2 :] = u[s["points"] // 2 :] * 0.25 + dense.between(0, 0.75, 1, 3)  # several points per voxel
        out["points"] = u * (hi - lo) + lo
        i = (u * (2 * np.asarray(grid))).astype(np.int64)
        k = region[i[:, 0], i[:, 1], i[:, 2]]
        other = np.asarray(s["present"])[d("labels").integers(len(s["present"]), s["points"])]
        out["point_classes"] = np.where(d("flip").integers(5, s["points"]) == 0, other, k)
        H, W, Z = s["coarse_hwz"]
        out["thing_logits"] = d("thing_logits").between(-2.5, 2.5, H * W * Z, 2)
        truth = region[::2, ::2, ::2]
    t = d("logits").between(-2.5, 2.5, *grid, K)
    good = d("good").integers(10, *grid) < 6
    for k in range(K):
        t[..., k] += 2.5 * (good & (truth == k))
    out["logits"] = t
    kinds = {"gt_labels": np.int64, "semantics": np.uint8, "mask_camera": np.uint8, "point_classes": np.uint8}
    return {k: np.ascontiguousarray(out[k].astype(kinds.get(k, np.float32))) for k in INPUTS if k in out}


def checksum(inputs):
    total = 0
    for k, v in inputs.items():
        total = zlib.crc32(v.astype(v.dtype.newbyteorder("<")).tobytes(), zlib.crc32(k.encode(), total))
    return f"{total:08x}"


class LossCase:
    """One folder: settings.json and expected.npz."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.settings = json.loads((self.folder / "settings.json").read_text())
        self.inputs = make_inputs(self.settings)
        assert checksum(self.inputs) == self.settings["inputs_checksum"], (
            "the generated inputs are not the recorded ones"
        )
        with np.load(self.folder / "expected.npz") as f:
            self.data = {k: f[k] for k in f.files}

    def names(self):
        return [k for k in self.data if not k.endswith("@index")]


def compare(case, outputs, rtol=1e-5, quiet=False):
    """Print a table; True if everything that was given agrees.

    Arrays are given whole; recorded positions are taken out.  Terms: relative error <= rtol.  Gradients: relative L2
    <= rtol.  Assignments and labels: equal.
    """
    good, seen = True, False
    for name in case.names():
        if name not in outputs:
            continue
        seen = True
        want, got = case.data[name], np.asarray(outputs[name])
        index = case.data.get(name + "@index")
        if index is not None:
            got = got[tuple(index.astype(np.int64).T)]
        if got.shape != want.shape:
            ok, note = False, f"shape {got.shape} instead of {want.shape}"
        elif name.startswith(("term.", "gradient.")):
            a, b = got.astype(np.float64), want.astype(np.float64)
            error = np.linalg.norm((a - b).ravel()) / max(np.linalg.norm(b.ravel()), 1e-12)
            ok, note = bool(error <= rtol), f"{error:.2e}"
        else:
            ok = bool((got == want).all())
            note = f"{int((got != want).sum())} of {want.size} differ"
        good &= ok
        if not quiet:
            print(f"  {'ok  ' if ok else 'FAIL'} {name:44s} {note}")
    return good and seen


def main():
    import argparse

    ap = argparse.ArgumentParser(description="List the inputs and the recorded entries of a loss case.")
    ap.add_argument("case")
    case = LossCase(ap.parse_args().case)
    print(json.dumps(case.settings, indent=1))
    for k, v in case.inputs.items():
        print(f"{'input ' + k:44s} {str(v.shape):18s} {v.dtype}")
    for k in case.names():
        v = case.data[k]
        print(f"{k:44s} {str(v.shape):18s} {v.dtype}" + (f"  {v:.9g}" if v.ndim == 0 else ""))


if __name__ == "__main__":
    main()
