"""Where the files that are not code lie: model presets, rigs, message definitions.

One rule serves a checkout, `pip install` and a colcon workspace: a folder beside the package, else
`share/panoocc/<folder>` below one of the package's ancestors (both installers put it there).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def folder(name: str) -> Path:
    """The folder `name` ("config" or "msg").

    Raises:
        FileNotFoundError: the installation is not complete.
    """
    beside = _PACKAGE.parent / name
    if (_PACKAGE.parent / "package.xml").is_file() and beside.is_dir():
        return beside
    for ancestor in _PACKAGE.parents:
        shared = ancestor / "share" / "panoocc" / name
        if shared.is_dir():
            return shared
    raise FileNotFoundError(
        f"the folder share/panoocc/{name} is in none of the folders above {_PACKAGE}; install the package again"
    )


def shipped_weights(model: str) -> Path | None:
    """The weights that come with the package for a preset, or None."""
    path = folder("config") / "weights" / f"{model}.safetensors"
    return path if path.is_file() else None


def listing(name: str) -> dict[str, Path]:
    """The YAML files of one folder below `config`, by stem."""
    return {path.stem: path for path in sorted((folder("config") / name).glob("*.yaml"))}
