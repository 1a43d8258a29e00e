"""Words that commands say alike."""


def many(count: int, what: str) -> str:
    """A count and what is counted: "1 grid", "2 grids"."""
    return f"{count} {what}" + ("" if count == 1 else "s")
