"""Viewers' packages, which are there only where somebody has asked for them."""

import importlib
import importlib.util
from typing import Any

DISTRIBUTIONS = {"rerun": "rerun-sdk>=0.41", "foxglove": "foxglove-sdk>=0.30"}  # the extra `view` of pyproject.toml


def viewer(name: str) -> Any:
    """The module of a viewer: `rerun` or `foxglove`.

    Raises:
        ImportError: it is not installed; the text says how it is.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        wanted = DISTRIBUTIONS[name.partition(".")[0]]
        raise ImportError(f"the package {name} is not there ({error}): pip install '{wanted}'") from error


def has_viewer(name: str) -> bool:
    """Whether a viewer is installed."""
    return importlib.util.find_spec(name) is not None
