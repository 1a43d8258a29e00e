"""`panoocc export`: one streaming step of a network as a file, checked against the network."""

import argparse
import sys
from pathlib import Path

from panoocc_core.base.rig_files import AUTO, rig_with
from panoocc_core.export.spec import is_exported, spec_path
from panoocc_core.export.writing import OPSET, Written, kind_of, trace, write
from panoocc_core.sim import load_sim_rig
from panoocc_core.weights.checkpoint import load_model
from panoocc_core.weights.inference import ready_for_inference

from ...node.choices import chosen_config
from ...ros.argument_types import whole_number
from ...ros.exit_codes import BAD_INPUT, NETWORK_FAILED, NOT_WRITTEN, explained
from ..shared import options
from ..shared.failures import status_of
from ..shared.network import network_of, tell_weights
from ..shared.results import check_results

DESCRIPTION = f"""\
Writes one streaming step of a network as a single file: images, poses and memory in, voxels, boxes and memory out, with
shapes that do not change.  FILE.yaml beside it says what each tensor is and how the file was made.  The file is run
over a simulated street beside the network and is left only if both agree.  .onnx has ONNX's own operators (opset
{OPSET}), for onnxruntime and TensorRT; .pt2 is of torch.export.  The node and panoocc run take either as --checkpoint.
"""
EPILOG = f"""\
examples:
  panoocc export nano --format onnx --out nano.onnx
  panoocc run street.mcap --model nano --checkpoint nano.onnx --out grids.mcap
  panoocc export pano_small_occ3d --checkpoint PanoOcc_small.pth --format pt2 --out small.pt2

docs/export.md says what goes in, and how the file gets to TensorRT.

{explained(BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED, more="Whenever it is not 0, nothing new is at --out.")}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc export`."""
    parser.add_argument("model", metavar="PRESET", help="preset, or a YAML file that describes a network")
    parser.add_argument("--format", choices=("pt2", "onnx"), required=True, help="of the file")
    options.add(parser, "--out", metavar="FILE", help="file to write, which ends in .onnx or .pt2 as --format says")
    options.add(parser, "--overwrite", help="replace an exported step of this name")
    network = parser.add_argument_group("network")
    options.add(network.add_mutually_exclusive_group(), "--checkpoint", "--seeded-weights")
    options.add(network, "--instances", "--precision", "--threads")
    rig = parser.add_argument_group("rig")
    rig.add_argument(
        "--rig",
        default=AUTO,
        metavar="RIG",
        help="mounts and lenses of the cameras: a name in config/sim_rigs, or a YAML file (default: the one with the "
        "network's cameras)",
    )
    rig.add_argument(
        "--cameras-per-voxel",
        type=whole_number(1, 32),
        metavar="K",
        help="cameras that a voxel is seen by, at most; more are an error when the file runs (default: as many as the "
        "rig has at one voxel)",
    )
    parser.set_defaults(device="cpu")


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc export`; returns the exit status."""
    return status_of("export", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    out = arguments.out
    config = chosen_config(arguments.model, instances=arguments.instances)
    check_results({"--out": out}, {"--out": (f".{arguments.format}",)}, arguments.overwrite, _why_foreign)
    kind_of(out, arguments.precision)
    name = rig_with("sim_rigs", config.cameras) if arguments.rig == AUTO else arguments.rig
    rig = load_sim_rig(name)
    if missing := [camera for camera in config.cameras if camera not in {one.name for one in rig}]:
        raise ValueError(f"--rig {name}: lacks {', '.join(missing)}, which {config.name} takes")
    network = network_of(arguments, config)
    plain = load_model(config, arguments.checkpoint, arguments.seeded_weights, "cpu", arguments.precision, plain=True)

    def tell(stage: str) -> None:
        print(f"panoocc export: {stage} ...", file=sys.stderr)

    if arguments.overwrite:  # one without the other is of no use
        spec_path(out).unlink(missing_ok=True)
        out.unlink(missing_ok=True)
    tell("trace")
    traced = trace(network, ready_for_inference(plain), rig, name, arguments.cameras_per_voxel)
    done = write(traced, out, tell)
    tell_weights("export", arguments.checkpoint, arguments.seeded_weights)
    print(_summary(out, done))


def _why_foreign(path: Path) -> str | None:
    return None if is_exported(path) and spec_path(path).is_file() else "panoocc export did not write it"


def _summary(out: Path, done: Written) -> str:
    spec = done.spec
    ports = [
        f"  {'in ' if port in spec.inputs else 'out'} {port.name:13s} {port.dtype:8s} {list(port.shape)}"
        for port in (*spec.inputs, *spec.outputs)
    ]
    at_a_voxel = f"{spec.cameras_per_voxel} of {len(spec.cameras)} cameras at a voxel (rig {spec.rig})"
    return "\n".join(
        [
            f"{spec.model}, {spec.precision}, {at_a_voxel}, {spec.size_bytes / 1e6:.1f} MB",
            *ports,
            str(done.agreement),
            f"written: {out}, {spec_path(out)}",
        ]
    )
