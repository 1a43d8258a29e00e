"""Tensors out of checkpoint files: nothing in a file is ever run, and no size that it claims is believed."""

import io
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from .published_names import modern

MAX_BYTES = 8 << 30  # the largest published file has 1.3 GB
ZIP_HEAD, PICKLE_HEADS = b"PK", (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
SCANNED_BYTES = 1 << 20  # of a pickle, for what it names
SUFFIXES = (".pth", ".pt", ".safetensors")
# What checkpoints of tensors name; an unknown name from here is damage, or of another version of PyTorch.
_FAMILIAR = ("torch", "collections", "numpy", "_codecs")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, what is wrong and what to do."""


class _NumPyValue:
    """Stands for a NumPy value beside the tensors, such as the best score in a file's `meta`, and keeps nothing of it.

    NumPy's own functions are not let near a file: the state of a damaged dtype can make them read anywhere.
    """

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_NUMPY_NAMES = (
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .pth/.pt checkpoint (its `state_dict`, if it has one) or a .safetensors file, by modern name.

    Raises:
        CheckpointError: no such file, too large, corrupt, not a checkpoint, or it would have to run code to load.
    """
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES)
        hint = f": give the file in it ({', '.join(inside[:5])})" if inside else ", and no checkpoint is in it"
        raise CheckpointError(f"{path} is a folder{hint}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give the path of a .pth or .safetensors checkpoint")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path}: {path.stat().st_size >> 20} MiB is more than any published checkpoint has")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file makes the readers fail in any way
        raise CheckpointError(f"{path}: {_refusal(path, error)}") from error
    tensors = _named_tensors(content, path)
    if not tensors:
        raise CheckpointError(
            f"{path}: holds no tensors; expected a state_dict with entries like img_backbone.conv1.weight"
        )
    return tensors


def _load_torch(path: Path) -> object:
    with path.open("rb") as file:
        head = file.read(2)
    if head not in (ZIP_HEAD, *PICKLE_HEADS):
        raise CheckpointError(f"{path}: not a checkpoint (it begins with {head!r}); download it again")
    if head == ZIP_HEAD:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > path.stat().st_size:  # PyTorch does not compress
            raise CheckpointError(f"{path}: claims {claimed >> 20} MiB, which it does not hold; download it again")
    stand_ins: list[Any] = [(_NumPyValue, name) for name in _NUMPY_NAMES]
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
        warnings.simplefilter("ignore")  # of pickle protocols, which torch then reads or refuses
        return torch.load(path, map_location="cpu", weights_only=True)


def _refusal(path: Path, error: Exception) -> str:
    """Why a file cannot be read, and what to do."""
    data = _pickled(path)
    if foreign := sorted({name for name in _pickled_names(data) if name.split(".")[0] not in _FAMILIAR}):
        named = ", ".join(name[:80] for name in foreign[:3])
        return (
            f"refused, because it holds code, not only tensors (it names {named}): do not use it. If it is your own, "
            "save its state_dict alone in the program that made it"
        )
    if data[:1] == b"\x80" and data[1:2] > b"\x02":
        return (
            f"is pickled with protocol {data[1]}, which PyTorch does not load safely: save its state_dict again with "
            "torch.save as it comes (protocol 2), or as safetensors"
        )
    reason = str(error).split("WeightsUnpickler error: ")[-1].split("\n")[0][:200] or type(error).__name__
    return f"not a readable checkpoint ({reason}); download it again"


def _pickled(path: Path) -> bytes:
    """The beginning of the pickle in a file; empty where there is none."""
    if path.suffix == ".safetensors":
        return b""
    try:
        with path.open("rb") as file:
            data = file.read(SCANNED_BYTES)
        if data.startswith(ZIP_HEAD):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                with archive.open(name) as entry:
                    data = entry.read(SCANNED_BYTES)
    except Exception:  # damaged: it has its own error
        return b""
    return data


def _pickled_names(data: bytes) -> list[str]:
    """The functions and classes that pickles one after the other name, up to the first damage; nothing is built."""
    stream, names = io.BytesIO(data), []
    try:
        while stream.tell() < len(data):
            memo: dict[Any, str | None] = {}
            top, texts = None, ["", ""]  # the last value where it is a text, and the last two texts
            for operation, argument, _ in pickletools.genops(stream):
                kind = operation.name
                if kind in ("GLOBAL", "INST"):
                    names.append(str(argument).replace(" ", "."))
                elif kind == "STACK_GLOBAL":
                    names.append(".".join(texts))
                if kind in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
                    memo[len(memo) if kind == "MEMOIZE" else argument] = top
                    continue
                stored = kind in ("GET", "BINGET", "LONG_BINGET")
                top = memo.get(argument) if stored else argument if isinstance(argument, str) else None
                if top is not None:
                    texts = [texts[-1], top]
    except Exception:  # the end of what can be read
        pass
    return names


def _named_tensors(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by modern name.

    Raises:
        CheckpointError: a tensor that is no plain array in memory, or a name that is there twice.
    """
    entries = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    tensors: dict[str, Tensor] = {}
    for key, value in entries.items() if isinstance(entries, Mapping) else ():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            continue
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise CheckpointError(f"{path}: {key} is a sparse, quantised or empty tensor; save the checkpoint densely")
        if modern(key) in tensors:
            raise CheckpointError(f"{path}: {modern(key)} is there twice, once as {key}")
        tensors[modern(key)] = value
    return tensors
