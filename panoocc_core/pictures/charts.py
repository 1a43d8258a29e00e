"""Charts of numbers (matplotlib) in the look of the other pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.whole_files import whole_file
from ..labels import Colour
from .canvas import BACKGROUND, FAINT, PANEL, TEXT

ENDINGS = (".png", ".svg", ".pdf")
LINES = ("#6cb6ff", "#ffc446", "#8cd68c", "#e878a0", "#c0a0f0", "#f09060")


def shade(colour: Colour) -> str:
    """A colour as matplotlib wants it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


STYLE: Mapping[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": shade(FAINT),
    "axes.facecolor": shade(PANEL),
    "axes.grid": True,
    "axes.labelcolor": shade(TEXT),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": shade(TEXT),
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.ymargin": 0.1,
    "figure.facecolor": shade(BACKGROUND),
    "font.size": 9,
    "grid.color": shade(FAINT),
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.labelcolor": shade(TEXT),
    "text.color": shade(TEXT),
    "xtick.color": shade(TEXT),
    "ytick.color": shade(TEXT),
}


def check_name(path: Path) -> None:
    """That a chart can have this name.

    Raises:
        ValueError: its ending is none of ENDINGS.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: the name of a picture of numbers must end in {', '.join(ENDINGS)}")


def new_figure(width_in: float, height_in: float) -> Any:
    """An empty matplotlib figure, drawn without a display; its parts are to be added within `styled`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def styled() -> Any:
    """The block in which figures are made and get their parts."""
    import matplotlib  # takes longer than most commands that draw nothing
    from cycler import cycler

    style: Any = {**STYLE, "axes.prop_cycle": cycler(color=LINES)}
    return matplotlib.rc_context(style)


def write_figure(path: Path, figure: Any) -> None:
    """Write a figure as PNG, SVG or PDF, by the name's ending; the file appears only once it is whole.

    Raises:
        ValueError: the ending is none of these.
        OSError: the folder is missing or cannot be written.
    """
    check_name(path)
    with whole_file(path) as part:
        figure.savefig(part, format=path.suffix.lower()[1:], dpi=120)
