"""Another implementation beside ours, and ours as another's."""

import argparse
import itertools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from panoocc_core import OccupancyStream
from panoocc_core.base.whole_files import write_json
from panoocc_core.bench import (
    EXECUTORS,
    GRID_ALONE,
    RivalError,
    Setting,
    against_table,
    alternate,
    computing_threads,
    read_frame_file,
    serve,
    steady,
)
from panoocc_core.network import Network
from panoocc_core.types import Frame

from ...node.choices import loaded_executor
from ...ros.exit_codes import FAILED
from ...ros.parameter_fields import SettingsError
from ..shared.failures import Ended
from ..shared.streets import street_bag, street_rig
from .bag_frames import bag_frames
from .networks import STREET_FRAMES, Choice, choices

COUNTED = 5


def one_choice(arguments: argparse.Namespace, option: str) -> tuple[Choice, Setting]:
    """The one setting that such a run measures.

    Raises:
        SettingsError: several were asked for.
    """
    if len(arguments.model or ()) > 1:
        raise SettingsError(f"--{option} runs one network, not {len(arguments.model)}: give one", "model")
    for name in ("precision", "threads", "executor"):
        if len(getattr(arguments, name) or ()) > 1:
            raise SettingsError(f"--{option} runs one setting: give one value", name)
    arguments.model = arguments.model or ["nano"]
    (choice,) = choices(arguments)
    return choice, choice.settings[0]


def _waiting_step(setting: Setting) -> Callable[[Frame], None]:
    """Steps of a network, or of an exported file, that return when all is computed."""
    loaded = loaded_executor(
        setting.config, setting.checkpoint, setting.seeded_weights, setting.device, setting.precision, setting.threads
    )
    stream = OccupancyStream(EXECUTORS[setting.executor](loaded) if isinstance(loaded, Network) else loaded)
    device = torch.device(setting.device)

    def step(frame: Frame) -> None:
        stream.step(frame, GRID_ALONE)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def against(arguments: argparse.Namespace) -> None:
    """`--against`: frames by turns."""
    words = shlex.split(arguments.against)
    if not words:
        raise SettingsError("it is empty: give the program and its words", "against")
    choice, setting = one_choice(arguments, "against")
    with TemporaryDirectory() as folder:
        bag = arguments.bag or street_bag(
            Path(folder) / "street.mcap", street_rig(choice.config, choice.rig), STREET_FRAMES
        )
        frames = bag_frames(bag, choice.config, choice.rig, STREET_FRAMES)
    step = _waiting_step(setting)

    fed = list(itertools.islice(steady(frames, choice.config), (arguments.frames or COUNTED) + 1))
    with computing_threads(setting.threads), tqdm(total=len(fed), unit="frame", desc="by turns", disable=None) as bar:
        try:
            report = alternate((setting.label, step), (arguments.against, words), fed, setting.threads, bar.update)
        except RivalError as error:
            raise Ended(f"--against: {error}", FAILED) from error
    print(against_table(report))
    if arguments.json is not None:
        write_json(arguments.json, {"against": report.as_dict()})
        print(f"written: {arguments.json}")


def serve_lines(arguments: argparse.Namespace) -> None:
    """`--serve`: the program that another checkout's `--against` starts."""
    _, setting = one_choice(arguments, "serve")
    step = _waiting_step(setting)

    with computing_threads(setting.threads):
        serve(read_frame_file, step, sys.stdin, sys.stdout)
