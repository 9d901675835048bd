"""How every figure of the report looks, and how it becomes bytes: the same figure gives the same
bytes.

Sequential colours are cividis, categorical ones Okabe & Ito's (2008): both can be distinguished
with every kind of colour vision. Categories differ in marker and line as well. Widths suit a column
of text and a phone.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fsprobe.features import COMBINED

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
BLACK, GREY = "#000000", "#777777"
MARKERS = "os^Dvph"
DASHES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (6, 2)), (0, (3, 3)))
WIDTH = 5.8  # inches

_RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "fsprobe",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 96,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


class Look(NamedTuple):
    """What distinguishes a category from the others."""

    color: str
    marker: str
    linestyle: Any


def look(name: str, index: int) -> Look:
    """The look of the category at this index; `combined` is black in every figure."""
    turn, i = divmod(index, len(OKABE_ITO))
    other = (i + turn) % len(MARKERS)  # a colour that comes again has another marker and line
    return Look(BLACK if name == COMBINED else OKABE_ITO[i], MARKERS[other], DASHES[other])


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """A figure of this size (inches) with one pair of axes, in our style."""
    with style():
        figure = Figure(figsize=(width, height))
        yield figure, figure.add_subplot()


def write_values(
    axes: Axes, values: np.ndarray, dark: np.ndarray, digits: int, fontsize: float
) -> None:
    """Each value of a heatmap in its cell, white where the cell is dark; NaN stays blank."""
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = f"{value:.{digits}f}".removeprefix("0") if value < 1 else "1.0"
            colour = "white" if dark[row, column] else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=fontsize, color=colour)


def render(figure: Figure) -> tuple[bytes, str]:
    """(PNG, SVG) without dates or versions in them."""
    png, svg = io.BytesIO(), io.BytesIO()
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        _settle(figure)
        figure.savefig(png, format="png", metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return png.getvalue(), svg.getvalue().decode()


def has_boxes(figure: Figure) -> bool:
    """Has the figure, once rendered, a sign that its font has not, so that a box stands for it?"""
    known = get_font(findfont(_RC["font.family"][0])).get_charmap()
    texts = "".join(text.get_text() for text in figure.findobj(Text))
    return any(ord(sign) not in known for sign in texts if sign != "\n")


def _settle(figure: Figure) -> None:
    """Lay the figure out once and round: the layout's solver is not the same from run to run in the
    last digits.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = np.round(axes.get_position(original=True).bounds, 4).tolist()
        axes.set_position((left, bottom, width, height))


def legend(figure: Figure, axes: Axes) -> None:
    """The names of what the axes show, above the figure, in as many columns as it has room for."""
    handles, names = axes.get_legend_handles_labels()
    texts = [short(name) for name in names]
    for columns in range(min(3, len(handles)), 0, -1):
        drawn = figure.legend(handles, texts, loc="outside upper left", ncols=columns, fontsize=8.5)
        if columns == 1 or drawn.get_window_extent().width <= figure.bbox.width:
            break
        drawn.remove()


def plain_log(axis: Axis) -> None:
    """Ticks at 1, 2, 5, 10, … in plain digits on a logarithmic axis."""
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def short(name: str, most: int = 24) -> str:
    """The name, of `most` characters at most: cut in its middle, for names often differ in how they
    end.
    """
    end = most // 3
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"
