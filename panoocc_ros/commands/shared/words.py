"""Words that commands say alike."""

import sys
from pathlib import Path


def many(count: int, what: str) -> str:
    """A count and what is counted: "1 grid", "2 grids"."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def weights_note(checkpoint: Path | None, is_seeded: bool) -> str:
    """What must be known of a network's weights to judge its voxels; empty where the user has brought them."""
    if is_seeded:
        return "weights seeded, not trained"
    return "" if checkpoint else "weights trained on simulated streets alone"


def tell_weights(command: str, checkpoint: Path | None, is_seeded: bool) -> None:
    """Say on stderr what the weights of the package know."""
    if not checkpoint and not is_seeded:
        note = weights_note(checkpoint, is_seeded)
        print(f"panoocc {command}: NOTE, {note}: of real images they know nothing (config/weights)", file=sys.stderr)
