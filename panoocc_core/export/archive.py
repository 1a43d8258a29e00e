"""Whether a .pt2 archive holds nothing but tensors and a graph of PyTorch's own operators.

`torch.export.load` unpickles what the archive tells it to, evaluates the sizes that it gives as formulas, and takes any
name below `torch` for an operator.  So an archive is looked through before: none of that is in those that
`panoocc export` writes.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..weights.tensor_files import CheckpointError

_MEMBERS = re.compile(
    r"(models/model\.json|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt)"
)
_TARGETS = re.compile(r"torch\.ops\.aten\.[a-z_0-9]+(\.[A-Za-z_0-9]+)?|_operator\.getitem")
_NAMES = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_TEXTS = re.compile(r"[\w .:/<>()\[\],'\"=*+-]*")
MAX_JSON = 256 << 20
SAMPLE = "data/sample_inputs/model.pt"


def check_archive(path: Path) -> None:
    """Raises CheckpointError where an archive has anything that could run code, or claims more than it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path)
    except (zipfile.BadZipFile, UnicodeDecodeError, json.JSONDecodeError, RecursionError, KeyError) as error:
        raise CheckpointError(f"{path}: is no archive of torch.export, or damaged ({error})") from error


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > path.stat().st_size:  # PyTorch does not compress
        raise CheckpointError(f"{path}: claims more bytes than it holds; write it again with panoocc export")
    texts: dict[str, Any] = {}
    for entry in entries:
        name = entry.filename.partition("/")[2]
        if not _MEMBERS.fullmatch(name):
            raise _refused(path, f"it has the part {name[:80]!r}")
        if name == SAMPLE and entry.file_size:
            raise _refused(path, "it has pickled sample inputs")
        if name.endswith(".json"):
            if entry.file_size > MAX_JSON:
                raise CheckpointError(f"{path}: {name} has {entry.file_size >> 20} MiB, which no network has")
            texts[name] = json.loads(archive.read(entry))
    for name, content in texts.items():
        for key, value in _values(content):
            if reason := _why_foreign(key, value):
                raise _refused(path, f"{name}: {reason}")


def _values(content: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of all mappings."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _why_foreign(key: str, value: Any) -> str | None:
    if key == "use_pickle" and value is not False:
        return "a tensor is pickled"
    if key in ("as_expr", "expr_str", "as_sym_int", "as_sym_bool", "as_sym_float", "as_custom_obj", "as_graph"):
        return f"it has {key}"
    if key in ("guards_code", "range_constraints", "module_call_graph_hooks") and value:
        return f"it has {key}"
    if key == "target" and isinstance(value, str) and not _TARGETS.fullmatch(value):
        return f"it calls {value[:80]!r}"
    if key == "metadata" and value:
        return "it has notes at its operators"
    if key == "name" and isinstance(value, str) and not _NAMES.fullmatch(value):
        return f"it names something {value[:80]!r}"
    return None


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: refused, because it may run code: {reason}; take an archive that this version of panoocc export wrote"
    )
