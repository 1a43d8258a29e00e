"""Compare an implementation with the recorded numbers of a case (numpy only).

    from test.parity.check import Case, compare
    case = Case('cases/occ_small')
    state = case.state_dict()                                # name -> np.ndarray, to be loaded into the network
    for frame in case.frames:                                # in order; the case is a stream
        x = case.network_input(frame['image_set'])           # float32 [camera, channel, height, width]
        outputs = my_network(x, frame, ...)                  # {'encoder.0': array, 'classes': array, ...}, see ENTRIES
        assert compare(case, frame['frame'], outputs)
    assert case.compare_maps(0, {'fpn': [...], 'backbone': [...]})

    python -m test.parity.check cases/occ_small                          # what is recorded
    python -m test.parity.check cases/occ_small dump.npz [--rtol 1e-4]   # keys: 'clean.03.fused', 'set0.fpn.1', ...

Give full arrays in the layouts of ENTRIES; `compare` takes the recorded positions out of them.  Entries that an
implementation does not give are skipped (and listed with `verbose=True`), so a part can be checked alone.
"""

import json
import re
from pathlib import Path

import numpy as np

from panoocc_core.weights.seeded import seeded_state

# name: (layout of the full array that the implementation gives, what it is).
# H, W, Z is the voxel grid (rows = y, columns = x, layers = z); N = H*W*Z tokens in the order (h*W + w)*Z + z;
# X, Y, S is the output grid (x, y, z order); C = 256; Q box queries; L box-decoder layers; K classes.
ENTRIES = {
    "backbone.{i}": (
        "[camera, channel, row, column]",
        "output of the i-th backbone stage that feeds the neck (per image set)",
    ),
    "fpn.{i}": (
        "[camera, C, row, column]",
        "i-th neck map, finest first, before camera and level embeddings (per image set)",
    ),
    "ego_embedding": ("[C]", "the ego-motion vector after its MLP and layer norm"),
    "projection.uv": (
        "[camera, N, 2]",
        "image position of the cross-attention reference points, divided by the padded width "
        "and height; recorded for visible points only",
    ),
    "projection.mask": ("[camera, N] bool", "visibility of the same points"),
    "self_attention.0": ("[N, C]", "first encoder layer: self-attention with its residual, before the norm"),
    "cross_attention.0": ("[N, C]", "first encoder layer: cross-attention with its residual, before the norm"),
    "encoder.{i}": ("[N, C]", "output of encoder layer i (the last one is the unfused volume)"),
    "history": (
        "[slot, N, C]",
        "history after resampling into the current frame, oldest first, only the slots that exist "
        "(before padding); absent in a frame without history",
    ),
    "fused": ("[N, C]", "volume after temporal fusion"),
    "decoder": ("[X, Y, S, 32]", "upsampled volume, input of the class MLP"),
    "logits": ("[X, Y, S, K]", "class logits on the output grid (after the trilinear step of the panoptic networks)"),
    "gate": ("[X, Y, S]", "occ: occupancy-gate logit"),
    "thing_logits": ("[N, 2]", "pan: the two logits of the coarse voxels; softmax channel 0 weights the box memory"),
    "classes": (
        "[X, Y, S] uint8",
        "final classes. occ: argmax, then 17 where the gate cuts. pan: argmax of the logits; some frames "
        "record classes[::2, ::2, ::2] only, as 'classes_half', which is compared with the given 'classes'",
    ),
    "point_labels": (
        "[point] uint8",
        "pan: class at each LiDAR point of the frame (high-resolution rule where network.json says so)",
    ),
    "point_labels_boundary": ("[point] uint8", "pan: the same for points_boundary, which lie on cell faces"),
    "bev_memory": ("[H*W, C]", "map that the box decoder samples, row-major"),
    "box.query.{i}": ("[Q, C]", "box queries after decoder layer i"),
    "box.reference": ("[Q, 3]", "reference points of the box queries, x y z in 0..1"),
    "box.class_logits": ("[L, Q, 10]", "class logits of every decoder layer"),
    "box.parameters": (
        "[L, Q, 10]",
        "cx, cy, log w, log l, cz, log h, sin, cos, vx, vy of every decoder layer; centres in metres",
    ),
    "box.coder": (
        "three arrays",
        "'box.coder.boxes' [n, 9] (cx, cy, cz, w, l, h, yaw, vx, vy; cz is the middle), "
        "'box.coder.scores' [n], 'box.coder.labels' [n]: after top-k and the centre limits",
    ),
    "box.final.boxes": ("[n, 9]", "the same boxes with cz lowered to the bottom face (rows as in 'box.coder')"),
}
AGREEMENT = ("classes", "classes_half", "point_labels", "point_labels_boundary", "projection.mask")
BOXES = ("box.coder.boxes", "box.coder.scores", "box.coder.labels", "box.final.boxes")


def read_keys(path):
    """A keys file (name, shape, dtype a line, separated by tabs) as {name: (shape, dtype)}."""
    rows = (line.split("\t") for line in path.read_text().splitlines() if line.strip())
    return {name: (tuple(int(v) for v in re.findall(r"\d+", shape)), dtype) for name, shape, dtype in rows}


def gather(name, full, index):
    """The recorded positions of a full array."""
    if index is None:
        return full
    i = index.astype(np.int64)
    if name.startswith(("fpn.", "backbone.")):
        return full[i[:, 0], :, i[:, 1], i[:, 2]]
    if name == "history":
        return full[:, i]
    return full[tuple(i.T)] if i.ndim == 2 else full[i]


def _load(path):
    if not path.exists():
        return {}
    with np.load(path) as f:
        return {k: f[k] for k in f.files}


class Case:
    """One folder: network.json, keys.txt, frames.json, expected.npz, and inputs.npz where there are images or points.

    Images that inputs.npz does not hold are generated (portable cases)."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.network = json.loads((self.folder / "network.json").read_text())
        self.frames = json.loads((self.folder / "frames.json").read_text())["frames"]
        self.inputs = _load(self.folder / "inputs.npz")
        self.data = _load(self.folder / "expected.npz")
        if "images_uint8" not in self.inputs:
            from .images import checksum, make_images

            im = self.network["images"]
            self.inputs["images_uint8"] = make_images(**im["generated"])
            assert checksum(self.inputs["images_uint8"]) == im["generated_checksum"], (
                "the generated images are not the recorded ones"
            )

    def state_dict(self):
        return seeded_state(read_keys(self.folder / "keys.txt"), self.network["weights_seed"])

    def network_input(self, image_set):
        """Normalised, then padded right and bottom with zeros: float32 [camera, channel, height, width]."""
        im = self.network["images"]
        x = self.inputs["images_uint8"][image_set].astype(np.float32)
        if im["normalise"]["channel_order"] == "RGB":
            x = x[..., ::-1]
        x = (x - np.asarray(im["normalise"]["mean"])) * (1.0 / np.asarray(im["normalise"]["std"], np.float64))
        pad = ((0, 0), (0, im["padded_height"] - x.shape[1]), (0, im["padded_width"] - x.shape[2]), (0, 0))
        return np.ascontiguousarray(np.pad(x.astype(np.float32), pad).transpose(0, 3, 1, 2))

    def points(self, frame):
        """LiDAR points of a frame (panoptic cases), float32 [n, 3]; the face points are inputs['points_boundary']."""
        return self.inputs["points"][self.frames[frame]["points_set"]]

    def names(self, frame, run="clean"):
        p = f"{run}.{frame:02d}."
        return [k[len(p) :] for k in self.data if k.startswith(p) and not k.endswith("@index")]

    def expected(self, frame, name, run="clean"):
        """(values, index); index is None where the whole array is recorded."""
        k = f"{run}.{frame:02d}.{name}"
        v = self.data[k]
        if name == "projection.mask":
            g = self.network["voxels"]
            v = np.unpackbits(v, axis=1)[:, : g["H"] * g["W"] * g["Z"]].astype(bool)
        return v, self.data.get(k + "@index")

    def compare_maps(self, image_set, outputs, **kw):
        """outputs: {'fpn': list of [camera, C, row, column], 'backbone': list, may be absent}; options: see compare."""
        rows = map_rows(self, image_set, outputs, kw.get("rtol", 1e-4))
        recorded = any(
            f"set{image_set}.{kind}.0" in self.data for kind in outputs
        )  # later sets of a case may have none
        return _report(f"image set {image_set}", rows, kw.get("quiet", False)) and (bool(rows) or not recorded)


class Row:
    def __init__(self, name, kind, max_abs, rel, ok, note=""):
        self.name, self.kind, self.max_abs, self.rel, self.ok, self.note = name, kind, max_abs, rel, ok, note


def rel_l2(got, want):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm((got - want).ravel()) / max(np.linalg.norm(want.ravel()), 1e-30))


def _row(name, got, want, rtol, agreement):
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return Row(name, "shape", np.inf, np.inf, False, f"{got.shape} instead of {want.shape}")
    if name in AGREEMENT:
        same = float((got == want).mean()) if want.size else 1.0
        return Row(name, "agree", 0.0, same, same >= agreement)
    if want.size == 0:
        return Row(name, "rel L2", 0.0, 0.0, True, "empty")
    d = np.abs(got.astype(np.float64) - want.astype(np.float64))
    r = rel_l2(got, want)
    return Row(name, "rel L2", float(d.max()), r, bool(np.isfinite(d).all()) and r <= rtol)


def match_boxes(got, want, score_tol=1e-3):
    """For every wanted box the row of the given box with the same label and a score within score_tol whose nine numbers
    are nearest (yaw modulo 2 pi), or -1.  Boxes with almost equal scores may come in another order: this ignores it."""
    gb, gs, gl = (np.asarray(v, np.float64) for v in got)
    wb, ws, wl = (np.asarray(v, np.float64) for v in want)
    pick = np.full(len(wb), -1)
    free = np.ones(len(gb), bool)
    for i in range(len(wb)):
        ok = np.flatnonzero(free & (gl == wl[i]) & (np.abs(gs - ws[i]) <= score_tol))
        if len(ok):
            d = gb[ok] - wb[i]
            d[:, 6] = (d[:, 6] + np.pi) % (2 * np.pi) - np.pi
            pick[i] = ok[np.argmin((d * d).sum(1))]
            free[pick[i]] = False
    return pick


def _box_rows(out, case, frame, run, rtol, agreement):
    want = {k: case.expected(frame, k, run)[0] for k in BOXES}
    got = {k: np.asarray(out[k]) for k in BOXES if k in out}
    pick = match_boxes([got[k] for k in BOXES[:3]], [want[k] for k in BOXES[:3]])
    hit = pick >= 0
    n = max(len(want[BOXES[0]]), len(got[BOXES[0]]), 1)
    rows = [
        Row(
            "box.coder (matched)",
            "agree",
            0.0,
            float(hit.sum() / n),
            hit.sum() / n >= 0.98,
            f"{int(hit.sum())} of {len(want[BOXES[0]])} recorded, {len(got[BOXES[0]])} given",
        )
    ]
    for k in BOXES:
        if k in got and k != "box.coder.labels" and hit.any():
            g, w = got[k][pick[hit]].astype(np.float64), want[k][hit].astype(np.float64)
            if g.ndim == 2:
                g = g.copy()
                g[:, 6] = w[:, 6] + (g[:, 6] - w[:, 6] + np.pi) % (2 * np.pi) - np.pi
            rows.append(_row(k, g, w, rtol, agreement))
    return rows


def _report(title, rows, quiet):
    if not quiet:
        print(title)
        for r in rows:
            val = f"{r.rel:10.2e}" if r.kind != "agree" else f"{100 * r.rel:9.4f}%"
            print(f"  {'ok  ' if r.ok else 'FAIL'} {r.name:26s} max abs {r.max_abs:9.2e}   {r.kind:6s} {val}  {r.note}")
    return all(r.ok for r in rows)


def map_rows(case, image_set, outputs, rtol=1e-4):
    rows = []
    for kind, maps in outputs.items():
        for i, m in enumerate(maps):
            k = f"set{image_set}.{kind}.{i}"
            if k in case.data:
                rows.append(
                    _row(
                        f"{kind}.{i}",
                        gather(f"{kind}.{i}", np.asarray(m), case.data[k + "@index"]),
                        case.data[k],
                        rtol,
                        0,
                    )
                )
    return rows


def rows_of(case, frame, outputs, run="clean", rtol=1e-4, agreement=0.999):
    rows = []
    for name in case.names(frame, run):
        source = "classes" if name == "classes_half" else name
        if name in BOXES or source not in outputs:
            continue
        want, index = case.expected(frame, name, run)
        full = np.asarray(outputs[source])
        try:
            got = full[::2, ::2, ::2] if name == "classes_half" else gather(name, full, index)
        except IndexError:
            rows.append(
                Row(
                    name,
                    "shape",
                    np.inf,
                    np.inf,
                    False,
                    f"a full array of shape {full.shape} does not hold the recorded positions",
                )
            )
            continue
        rows.append(_row(name, got, want, rtol, agreement))
    if all(k in outputs for k in BOXES[:3]) and BOXES[0] in case.names(frame, run):
        rows += _box_rows(outputs, case, frame, run, rtol, agreement)
    return rows


def compare(case, frame, outputs, run="clean", rtol=1e-4, agreement=0.999, verbose=False, quiet=False):
    """Print a table for one frame; True if everything that was given agrees.

    rtol: limit of the relative L2 error; agreement: share of equal values in class volumes, point labels and masks."""
    rows = rows_of(case, frame, outputs, run, rtol, agreement)
    good = _report(f"{case.folder.name} {run} frame {frame}", rows, quiet)
    if verbose:
        given = {r.name for r in rows}
        print("  not given:", ", ".join(n for n in case.names(frame, run) if n not in given and n not in BOXES) or "-")
    return good and bool(rows)


def main():
    import argparse

    ap = argparse.ArgumentParser(description="List what a case records, or compare a dump with it.")
    ap.add_argument("case")
    ap.add_argument(
        "dump",
        nargs="?",
        help="npz with full arrays: 'clean.03.fused', 'reference_first_frame.00.classes', 'set0.fpn.1'",
    )
    ap.add_argument("--rtol", type=float, default=1e-4)
    ap.add_argument("--agreement", type=float, default=0.999)
    a = ap.parse_args()
    case = Case(a.case)
    if a.dump is None:
        print(json.dumps(case.network, indent=1))
        for k, v in case.data.items():
            if not k.endswith("@index"):
                print(f"{k:44s} {str(v.shape):22s} {v.dtype}" + ("   sampled" if k + "@index" in case.data else ""))
        return
    dump = np.load(a.dump)
    ok, seen = True, False
    for run in ("clean", "reference_first_frame"):
        for f in range(len(case.frames)):
            p = f"{run}.{f:02d}."
            out = {k[len(p) :]: dump[k] for k in dump.files if k.startswith(p)}
            if out:
                seen = True
                ok &= compare(case, f, out, run, a.rtol, a.agreement, verbose=True)
    for s in range(len(case.inputs["images_uint8"])):
        for kind in ("backbone", "fpn"):
            maps = []
            while f"set{s}.{kind}.{len(maps)}" in dump.files:
                maps.append(dump[f"set{s}.{kind}.{len(maps)}"])
            if maps:
                seen = True
                ok &= case.compare_maps(s, {kind: maps}, rtol=a.rtol)
    print("all agree" if ok and seen else "DIFFERENT" if seen else "nothing to compare")
    raise SystemExit(0 if ok and seen else 1)


if __name__ == "__main__":
    main()
