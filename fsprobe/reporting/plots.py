"""The report's drawings of embeddings over N and K. Numbers in, a matplotlib figure out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from fsprobe.config import FULL, KShot
from fsprobe.pages.plot_style import (
    BLACK,
    GREY,
    WIDTH,
    drawing,
    legend,
    look,
    short,
    style,
    write_values,
)
from fsprobe.reporting.statistics import Summary


def curves(
    series: Mapping[str, Sequence[Summary]],
    k_shots: Sequence[KShot],
    ylabel: str,
    chance: Sequence[float] = (),
) -> Figure:
    """A line per name over K with intervals; K in shots on a logarithmic axis, 0 where a half would
    be, `full` apart at its right end.

    series: name → a Summary per K, n = 0 where there is none. chance: a value per K, drawn dotted.
    """
    with drawing(3.9) as (figure, axes):
        shots = [math.log2(k or 0.5) for k in k_shots if isinstance(k, int)]
        x = np.array([*shots, *([max(shots, default=0.0) + 1.0] if FULL in k_shots else [])])
        span = max(float(np.ptp(x)), 1.0)
        apart = np.diff(np.sort(x)).min(initial=span)
        step = min(0.012 * span, 0.6 * apart / max(len(series), 1))
        for i, (name, summaries) in enumerate(series.items()):
            # Side by side, so that no interval hides another; never as far as the next K.
            shift = (i - (len(series) - 1) / 2) * step
            _curve(axes, name, i, x + shift, summaries, len(shots))
        if len(chance):
            dotted: Any = {"linestyle": ":", "color": GREY, "linewidth": 1.2}
            axes.plot(x, chance, label="chance (prevalence)", **dotted)
        axes.xaxis.set_major_locator(FixedLocator(x.tolist()))
        axes.set_xticklabels([str(k_shot) for k_shot in k_shots])
        full = " (full: every training clip)" if FULL in k_shots else ""
        axes.set_xlabel(f"K: support clips per tag{full}")
        axes.set_ylabel(ylabel)
        axes.margins(x=0.08)
        if len(x) == 1:  # the limits would be those of the points side by side
            axes.set_xlim(x[0] - 0.5, x[0] + 0.5)
        legend(figure, axes)
        return figure


def _curve(
    axes: Axes, name: str, index: int, x: np.ndarray, summaries: Sequence[Summary], num_shots: int
) -> None:
    """Points with intervals; a line through the first num_shots, a dotted one on to `full`."""
    y = np.array([s.mean for s in summaries])
    reach = np.array([[s.mean - s.low, s.high - s.mean] for s in summaries]).T
    color, marker, linestyle = look(name, index)
    axes.plot(x[:num_shots], y[:num_shots], linestyle=linestyle, color=color, linewidth=1.5)
    axes.errorbar(
        x,
        y,
        np.nan_to_num(reach),
        linestyle="",
        marker=marker,
        color=color,
        markersize=5,
        capsize=2.5,
        elinewidth=1.2,
        label=name,
    )
    if 0 < num_shots < len(x):
        axes.plot(x[-2:], y[-2:], linestyle=(0, (1, 2)), color=color, linewidth=1.2)


def weight_share_bars(parts: Sequence[tuple[str, Summary, float]]) -> Figure:
    """A bar per store: its share of absolute weight with interval, and a rule at its share of the
    features.
    """
    with drawing(1.3 + 0.45 * len(parts)) as (figure, axes):
        for i, (name, share, width) in enumerate(parts):
            reach = np.nan_to_num([[share.mean - share.low], [share.high - share.mean]])
            axes.barh(
                i,
                share.mean,
                height=0.6,
                color=look(name, i).color,
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
        axes.set_yticks(range(len(parts)), [short(name) for name, _, _ in parts])
        longest = max(max(np.nanmax([share.mean, share.high]), width) for _, share, width in parts)
        axes.set_xlim(0, longest * 1.08)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of the absolute weight of combined")
        legend(figure, axes)
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
            dark = (values - low) / max(high - low, 1e-12) < 0.5
            write_values(axes, values, dark, digits=3, fontsize=8)
            over_k = len(values) == len(k_shots)
            axes.set_title(metric)
            axes.set_xticks(range(len(n_ways)), [str(n_way) for n_way in n_ways])
            axes.set_yticks(range(len(values)), [str(k) for k in k_shots] if over_k else [""])
            axes.set_ylabel("K" if over_k else "any K")
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            figure.colorbar(image, ax=axes, pad=0.02, aspect=max(4.0, 4.0 * len(values)))
        grid[-1].set_xlabel("N: tags per episode")
        return figure
