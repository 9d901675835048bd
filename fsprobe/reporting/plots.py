"""The report's drawings. Numbers in, a matplotlib figure out; the same numbers give the same bytes.

Sequential colours are cividis, categorical ones Okabe & Ito's (2008): both are told apart by every
kind of colour vision. Categories differ in marker and line as well. Widths suit a column of text
and a phone.
"""

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

from fsprobe.config import FULL, KShot
from fsprobe.reporting.statistics import Summary

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
BLACK, GREY = "#000000", "#777777"
MARKERS, DASHES = (
    "os^Dvph",
    ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (6, 2)), (0, (3, 3))),
)
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


def render(figure: Figure) -> tuple[bytes, str]:
    """(PNG, SVG) without dates or versions in them."""
    png, svg = io.BytesIO(), io.BytesIO()
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        _settle(figure)
        figure.savefig(png, format="png", metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return png.getvalue(), svg.getvalue().decode()


def _settle(figure: Figure) -> None:
    """Lay the figure out once and round: the layout's solver is not the same from run to run in the
    last digits.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = np.round(axes.get_position(original=True).bounds, 4).tolist()
        axes.set_position((left, bottom, width, height))


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def curves(
    series: Mapping[str, Sequence[Summary]],
    k_shots: Sequence[KShot],
    ylabel: str,
    chance: Sequence[float] = (),
) -> Figure:
    """A line per name over K with intervals; K in shots on a logarithmic axis, `full` apart at its
    right end.

    series: name → a Summary per K, n = 0 where there is none. chance: a value per K, drawn dotted.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.9))
        axes = figure.add_subplot()
        shots = [math.log2(k_shot) for k_shot in k_shots if isinstance(k_shot, int)]
        x = np.array([*shots, *([max(shots, default=0.0) + 1.0] if FULL in k_shots else [])])
        span = max(float(np.ptp(x)), 1.0)
        for i, (name, summaries) in enumerate(series.items()):
            y = np.array([s.mean for s in summaries])
            reach = np.array([[s.mean - s.low, s.high - s.mean] for s in summaries]).T
            here = (
                x + (i - (len(series) - 1) / 2) * 0.012 * span
            )  # side by side, so that no interval hides another
            look = _look(name, i)
            inner = slice(0, len(shots))
            axes.plot(
                here[inner],
                y[inner],
                linestyle=look["linestyle"],
                color=look["color"],
                linewidth=1.5,
            )
            axes.errorbar(
                here,
                y,
                np.nan_to_num(reach),
                linestyle="",
                marker=look["marker"],
                color=look["color"],
                markersize=5,
                capsize=2.5,
                elinewidth=1.2,
                label=name,
            )
            if FULL in k_shots and shots:
                axes.plot(
                    here[-2:], y[-2:], linestyle=(0, (1, 2)), color=look["color"], linewidth=1.2
                )
        if len(chance):
            axes.plot(
                x, chance, linestyle=":", color=GREY, linewidth=1.2, label="chance (prevalence)"
            )
        axes.xaxis.set_major_locator(FixedLocator(x.tolist()))
        axes.set_xticklabels([str(k_shot) for k_shot in k_shots])
        axes.set_xlabel(
            "K: support clips per tag (full: every training clip)"
            if FULL in k_shots
            else "K: support clips per tag"
        )
        axes.set_ylabel(ylabel)
        axes.margins(x=0.08)
        _legend(figure, axes)
        return figure


def shares(parts: Sequence[tuple[str, Summary, float]]) -> Figure:
    """A bar per store: its share of absolute weight with interval, and a rule at its share of the
    features.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 1.3 + 0.45 * len(parts)))
        axes = figure.add_subplot()
        for i, (name, share, width) in enumerate(parts):
            reach = np.nan_to_num([[share.mean - share.low], [share.high - share.mean]])
            axes.barh(
                i,
                share.mean,
                height=0.6,
                color=_look(name, i)["color"],
                xerr=reach,
                error_kw={"capsize": 3, "elinewidth": 1.2},
            )
            axes.plot(
                [width, width],
                [i - 0.4, i + 0.4],
                color=BLACK,
                linestyle="--",
                linewidth=1.5,
                label="share of the features" if i == 0 else None,
            )
        axes.set_yticks(range(len(parts)), [_short(name) for name, _, _ in parts])
        axes.set_xlim(
            0, max(max(np.nanmax([s.mean, s.high]), width) for _, s, width in parts) * 1.08
        )
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of the absolute weight of combined")
        _legend(figure, axes)
        return figure


def heatmaps(
    n_ways: Sequence[int],
    k_shots: Sequence[KShot],
    panels: Mapping[str, np.ndarray],
    limits: Mapping[str, tuple[float, float]],
) -> Figure:
    """A panel per metric, K down and N across, values written in. panels: `[k_shot, n_way]`, or
    `[1, n_way]` for what does not depend on K; NaN stays blank. limits: the colour scale of
    each.
    """
    with style():
        heights = [len(values) * 0.34 + 0.5 for values in panels.values()]
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.5))
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (metric, values) in zip(grid, panels.items(), strict=True):
            low, high = limits[metric]
            image = axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
            for (row, column), value in np.ndenumerate(values):
                if not math.isnan(value):
                    dark = (value - low) / max(high - low, 1e-12) < 0.5
                    axes.text(
                        column,
                        row,
                        f"{value:.3f}".removeprefix("0") if value < 1 else "1.0",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color="white" if dark else "black",
                    )
            axes.set_title(metric)
            axes.set_xticks(range(len(n_ways)), [str(n_way) for n_way in n_ways])
            axes.set_yticks(
                range(len(values)),
                [str(k) for k in k_shots] if len(values) == len(k_shots) else [""],
            )
            axes.set_ylabel("K" if len(values) == len(k_shots) else "any K")
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            figure.colorbar(image, ax=axes, pad=0.02, aspect=max(4.0, 4.0 * len(values)))
        grid[-1].set_xlabel("N: tags per episode")
        return figure


def tag_counts(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Figure:
    """Stacked bars per tag. counts: split → clips per tag."""
    with style():
        figure = Figure(figsize=(WIDTH, 1.2 + 0.17 * len(names)))
        axes = figure.add_subplot()
        left = np.zeros(len(names))
        for (split, values), colour, hatch in zip(
            counts.items(),
            (OKABE_ITO[0], OKABE_ITO[5], OKABE_ITO[2]),
            ("", "////", ""),
            strict=False,
        ):
            axes.barh(
                range(len(names)),
                values,
                left=left,
                height=0.8,
                color=colour,
                label=split,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.3,
            )
            left += np.array(values)
        axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("clips")
        _legend(figure, axes)
        return figure


def long_tail(
    counts: Sequence[tuple[int, int]], pool: Sequence[tuple[int, int]], cut: int
) -> Figure:
    """Training clips against rank on a logarithmic axis. counts, pool: (rank, clips) of other and
    of probed tags.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.2))
        axes = figure.add_subplot()
        for points, colour, marker, label in (
            (counts, GREY, "x", "not probed"),
            (pool, OKABE_ITO[0], "o", "probed"),
        ):
            if points:
                axes.plot(
                    *zip(*points, strict=True), marker, color=colour, markersize=3.5, label=label
                )
        if any(rank > cut for rank, _ in [*counts, *pool]):
            axes.axvline(
                cut + 0.5, color=BLACK, linewidth=1, linestyle="--", label=f"rank {cut} | {cut + 1}"
            )
        axes.set_yscale("symlog", linthresh=1)
        least, most = (pick(clips for _, clips in [*counts, *pool]) for pick in (min, max))
        axes.set_ylim(least / 1.5 if least > 1 else -0.2, max(most, 1) * 1.5)
        _plain_log(axes, "y")
        axes.set_xlabel("rank of the tag by its number of clips")
        axes.set_ylabel("training clips")
        _legend(figure, axes)
        return figure


def cooccurrence(names: Sequence[str], share: np.ndarray) -> Figure:
    """share `[tag, tag]`: of the clips with the row's tag, those that carry the column's as well;
    diagonal NaN.
    """
    with style():
        size = 1.8 + 0.135 * len(names)
        figure = Figure(figsize=(max(WIDTH, size), max(3.0, size * 0.92)))
        axes = figure.add_subplot()
        axes.set_facecolor("#e8e8e8")
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=max(float(np.nanmax(share)), 1e-12))
        labels = [_short(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(names)), labels, fontsize=7.5)
        axes.set_xlabel("… that also carry this tag")
        axes.set_ylabel("of the clips with this tag, the share …")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, pad=0.02, shrink=0.6)
        return figure


def tag_scatter(
    panels: Mapping[str, Sequence[tuple[str, bool, int, float, float]]],
    chance: Mapping[int, float],
    cut: int,
) -> Figure:
    """Per embedding a row of two panels: average precision and ROC-AUC of each tag over its
    training positives.

    panels: embedding → (tag, in the tail, training positives, average precision, ROC-AUC). chance:
    training positives → mean prevalence in test of the tags with so many, drawn dotted. Tail tags
    are hollow.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 0.9 + 2.1 * len(panels)))
        grid = figure.subplots(len(panels), 2, squeeze=False, sharex=True, sharey="col")
        for i, (embedding, points) in enumerate(panels.items()):
            colour = _look(embedding, i)["color"]
            for column, metric in enumerate(("average precision", "ROC-AUC")):
                axes = grid[i, column]
                for tail, marker in ((False, "o"), (True, "D")):
                    chosen = [
                        (count, point[column])
                        for _, is_tail, count, *point in points
                        if is_tail == tail
                    ]
                    if chosen:
                        axes.plot(
                            *zip(*chosen, strict=True),
                            marker,
                            color=colour,
                            markersize=4,
                            alpha=0.8,
                            markerfacecolor="none" if tail else colour,
                            linestyle="",
                            label=f"rank > {cut}" if tail else f"rank ≤ {cut}",
                        )
                if column == 0 and chance:
                    axes.plot(
                        *zip(*sorted(chance.items()), strict=True),
                        ":",
                        color=GREY,
                        linewidth=1.2,
                        label="chance",
                    )
                if column == 1:
                    axes.axhline(0.5, color=GREY, linewidth=1.2, linestyle=":")
                axes.set_xscale("symlog", linthresh=1)
                _plain_log(axes, "x")
                axes.set_title(f"{_short(embedding)}: {metric}", fontsize=9)
                axes.tick_params(labelsize=8)
        for axes in grid[-1]:
            axes.set_xlabel("training positives")
        _legend(figure, grid[0, 0])
        return figure


def _look(name: str, index: int) -> dict[str, Any]:
    """Colour, marker and line of a category; `combined` is black in every figure."""
    i = index % len(OKABE_ITO)
    return {
        "color": BLACK if name == "combined" else OKABE_ITO[i],
        "marker": MARKERS[i],
        "linestyle": DASHES[i],
    }


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            [_short(name) for name in names],
            loc="outside upper left",
            ncols=min(3, len(handles)),
            fontsize=8.5,
        )


def _plain_log(axes: Axes, which: str) -> None:
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _short(name: str, room: int = 24) -> str:
    return name if len(name) <= room else name[: room - 1] + "…"
