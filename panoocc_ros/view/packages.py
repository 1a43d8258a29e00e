"""Viewers' packages, which are there only where somebody has asked for them."""

import importlib
import importlib.util
from typing import Any


def viewer(name: str) -> Any:
    """The module of a viewer: `rerun` or `foxglove`.

    Raises:
        ImportError: it is not installed; the text says how it is.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"the package {name} is not there ({error}): pip install 'panoocc[view]'") from error


def has_viewer(name: str) -> bool:
    """Whether a viewer is installed."""
    return importlib.util.find_spec(name) is not None
