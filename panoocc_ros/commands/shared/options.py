"""Options that several commands have, each described once."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

from panoocc_core.labels import InstanceSource

from ...ros.argument_types import number, whole_number

MAX_THREADS, MAX_WORKERS = 1024, 64
MAX_SEED = 2**63 - 1

_OPTIONS: dict[str, dict[str, Any]] = {
    # the network
    "--model": {
        "metavar": "MODEL",
        "help": "preset (`panoocc models` lists them), or a YAML file that describes a network (default: %(default)s)",
    },
    "--checkpoint": {
        "type": Path,
        "metavar": "FILE",
        "help": "weights: .safetensors, a published .pth, or, where a network is only run, a step that panoocc export "
        "wrote (.onnx, .pt2) (default: those that come with the package, if any)",
    },
    "--seeded-weights": {
        "action": "store_true",
        "help": "random weights from a fixed seed: to try the machinery, the voxels mean nothing",
    },
    "--device": {
        "default": "auto",
        "metavar": "DEVICE",
        "help": "cpu, cuda, cuda:N, or auto: cuda where there is one, else cpu (default: %(default)s)",
    },
    "--precision": {
        "choices": ("fp32", "fp16", "bf16"),
        "default": "fp32",
        "help": "number format of the network (default: %(default)s)",
    },
    "--threads": {
        "type": whole_number(1, MAX_THREADS),
        "metavar": "N",
        "help": "CPU threads of the network (default: torch's choice)",
    },
    "--instances": {
        "choices": get_args(InstanceSource),
        "default": "",
        "help": "what tells things apart (components: connected voxels of one class; default: the network's)",
    },
    # cameras
    "--rig": {
        "default": "auto",
        "metavar": "RIG",
        "help": "which camera is on which topic: a name in config/rigs, or a YAML file (default: the rig with the "
        "network's cameras)",
    },
    # output
    "--out": {
        "type": Path,
        "required": True,
        "metavar": "BAG",
        "help": "new bag: one file where the name ends in .mcap, else a folder",
    },
    "--overwrite": {"action": "store_true", "help": "replace --out if it exists"},
    "--json": {"type": Path, "metavar": "FILE", "help": "also write the numbers as JSON"},
    "--no-progress": {"action": "store_true", "help": "no progress bar"},
    # rendering
    "--workers": {
        "type": whole_number(1, MAX_WORKERS),
        "metavar": "N",
        "help": "processes that render images (default: one for each processor)",
    },
}


def add(group: Any, *names: str, **changes: Any) -> None:
    """Add the options called so to a parser or one of its groups; `changes` are made to all of them."""
    for name in names:
        group.add_argument(name, **{**_OPTIONS[name], **changes})


def add_parameters(group: Any, settings: type, *names: str, usual: str | None = None, are_alike: bool = False) -> None:
    """Add options for parameters of a node, with its texts, limits, choices and defaults.

    Args:
        settings: dataclass of the node's parameters; those of `names` are numbers or texts.
        usual: what holds without the option, which is None then, in place of the node's default.
        are_alike: the group says what they are.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    for name in names:
        default, metadata = fields[name].default, fields[name].metadata
        kind: dict[str, Any] = {"choices": metadata["choices"]} if metadata["choices"] else {"metavar": "TEXT"}
        if metadata["limits"]:
            low, high = metadata["limits"]
            takes = whole_number(low, high) if isinstance(default, int) else number(low, high)
            kind = {"type": takes, "metavar": "X"}
        text, without = metadata["description"].replace("%", "%%"), "empty" if default == "" else default
        group.add_argument(
            f"--{name.replace('_', '-')}",
            **kind,
            default=default if usual is None else None,
            help=("" if are_alike else f"{_lowered(text).rstrip('.')} ") + f"(default: {usual or without})",
        )


def _lowered(text: str) -> str:
    """A sentence as it goes on after an option: an acronym keeps its letters."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
