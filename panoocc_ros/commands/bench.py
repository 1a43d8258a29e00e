"""`panoocc bench`: time and memory of a network on the frames of a bag, or on a simulated street."""

import argparse
import itertools
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EXIT_OK, EXIT_BAD_INPUT = 0, 2
EPILOG = """\
The table gives wall and CPU time of every stage.  Two numbers compare machines: how many GFLOP of plain matrix products
the same machine would have done in the time of a frame, and the time of the sampling operator against the usual torch
formulation, both measured in the same run.  Without --bag the rendering of simulated streets is measured too, in one
thread: six images of the size that nano takes.

examples:
  panoocc bench                                     Pano-small (Occ3D) and nano on a simulated street
  panoocc bench --model pano_small_4f --bag drive/  one network on your own images
"""


def add_bench(subparsers: Any) -> None:
    """Register `panoocc bench`."""
    parser = subparsers.add_parser(
        "bench",
        help="measure time per stage and memory of networks",
        description="Runs networks with seeded weights over a few frames and measures every stage.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=["nano", "pano_small_occ3d"],
        help="presets or YAML files (default: nano pano_small_occ3d)",
    )
    parser.add_argument("--bag", type=Path, help="bag with the six cameras of --rig (default: a simulated street)")
    parser.add_argument("--rig", default="nuscenes", help="rig of the bag (default: %(default)s)")
    parser.add_argument(
        "--frames", type=int, default=3, help="frames a network, the first one not counted (default: 3)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc bench`; returns the exit status, errors are said on stderr."""
    from ..bags.bag import BagError

    try:
        with TemporaryDirectory() as folder:
            bag = arguments.bag or _street(Path(folder) / "street.mcap", arguments.frames)
            networks = [_measure(name, bag, arguments).as_dict() for name in arguments.model]
        numbers = {"networks": networks}
        if arguments.bag is None:
            numbers["rendering"] = _measure_rendering().as_dict()
        if arguments.json is not None:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(numbers, indent=1) + "\n")
            print(f"written: {arguments.json}")
    except (BagError, ValueError, OSError) as error:
        print(f"panoocc bench: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_OK


def _street(path: Path, frames: int) -> Path:
    """A simulated street with full-size images, one set every half second."""
    from panoocc_core.sim import nuscenes_rig

    from ..sim.bag import write_street_bag

    print("rendering a simulated street with six images of 1600x900 a frame ...", file=sys.stderr)
    write_street_bag(path, 0, frames * 0.5, 2.0, nuscenes_rig(1.0))
    return path


def _measure(name: str, bag: Path, arguments: argparse.Namespace) -> Any:
    from tqdm import tqdm

    from panoocc_core import load_model, model_config
    from panoocc_core.bench import bench, table

    config = model_config(name)
    frames = _frames(bag, arguments.rig, config.cameras, arguments.frames)
    model = load_model(config, seeded_weights=True, device=arguments.device, precision=arguments.precision)
    with tqdm(total=len(frames), unit="frame", desc=config.name, disable=None) as bar:
        report = bench(model, frames, warmup=min(1, len(frames) - 1), on_frame=bar.update)
    print(table(report) + "\n", flush=True)
    return report


def _measure_rendering() -> Any:
    from tqdm import tqdm

    from panoocc_core import model_config
    from panoocc_core.bench import bench_rendering, rendering_table
    from panoocc_core.sim import nuscenes_rig

    scale = model_config("nano").images.width / nuscenes_rig(1.0)[0].width
    with tqdm(unit="set", desc="rendering", disable=None) as bar:
        report = bench_rendering(nuscenes_rig(scale), on_set=bar.update)
    print(rendering_table(report) + "\n", flush=True)
    return report


def _frames(path: Path, rig: str, cameras: tuple[str, ...], count: int) -> list[Any]:
    """The first frames of a bag.

    Raises:
        BagError: the bag cannot be read or gives no frame.
    """
    from ..bags.bag import BagError, BagReader
    from ..bags.replay import check_topics
    from ..bags.source import ready_sets
    from ..frames.assembler import FrameAssembler
    from ..frames.rig import load_rig

    with BagReader(path) as bag:
        assembler = FrameAssembler(load_rig(rig).select(cameras))
        check_topics(bag, assembler.rig)
        frames = [assembler.frame(ready) for _, ready in itertools.islice(ready_sets(bag, assembler), count)]
        if not frames:
            raise BagError(f"{path}: no complete set of images ({assembler.status(bag.end_ns).last_drop})")
    return frames
