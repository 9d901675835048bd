"""The report's drawings of tags. Numbers in, a matplotlib figure out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fsprobe.pages.plot_style import (
    BLACK,
    GREY,
    OKABE_ITO,
    WIDTH,
    drawing,
    legend,
    look,
    plain_log,
    short,
    style,
    write_values,
)

BOX = OKABE_ITO[1]
HEAD = 50  # the tail begins below this rank, as --tags=tail has it


class TagPoint(NamedTuple):
    """A tag in a scatter plot: its training positives, its mean metrics over the seeds that drew
    it among n_way tags, and its prevalence in test, NaN where it is not known.
    """

    in_tail: bool
    train: int
    average_precision: float
    roc_auc: float
    prevalence: float
    seeds: int
    n_way: int


def tag_counts(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Figure:
    """Stacked bars per tag. counts: split → clips per tag."""
    looks = ((OKABE_ITO[0], ""), (OKABE_ITO[5], "////"), (OKABE_ITO[2], ""))
    with drawing(1.2 + 0.17 * len(names)) as (figure, axes):
        left = np.zeros(len(names))
        for (split, values), (colour, hatch) in zip(counts.items(), looks, strict=False):
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
        axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("clips")
        legend(figure, axes)
        return figure


def long_tail(counts: Sequence[tuple[int, int]], pool: Sequence[tuple[int, int]]) -> Figure:
    """Training clips against rank on a logarithmic axis. counts, pool: (rank, clips) of other and
    of probed tags.
    """
    everything = [*counts, *pool]
    with drawing(3.2) as (figure, axes):
        for points, colour, marker, label in (
            (counts, GREY, "x", "not probed"),
            (pool, OKABE_ITO[0], "o", "probed"),
        ):
            if points:
                ranks, clips = zip(*points, strict=True)
                axes.plot(ranks, clips, marker, color=colour, markersize=3.5, label=label)
        if any(rank > HEAD for rank, _ in everything):
            label = f"rank {HEAD} | {HEAD + 1}"
            axes.axvline(HEAD + 0.5, color=BLACK, linewidth=1, linestyle="--", label=label)
        axes.set_yscale("symlog", linthresh=1)
        least, most = (pick(clips for _, clips in everything) for pick in (min, max))
        axes.set_ylim(least / 1.5 if least > 1 else -0.2, max(most, 1) * 1.5)
        plain_log(axes.yaxis)
        axes.set_xlabel("rank of the tag by its number of clips")
        axes.set_ylabel("training clips")
        legend(figure, axes)
        return figure


def cooccurrence(names: Sequence[str], share: np.ndarray) -> Figure:
    """share `[tag, tag]`: of the clips with the row's tag, those that carry the column's as well;
    diagonal NaN.
    """
    labels = [short(name) for name in names]
    few = len(names) < 15  # then the axes are lower than their label is long
    size = 1.8 + 0.135 * len(names)
    below = 0.6 + 0.065 * max(map(len, labels))
    height = max(3.0, size * 0.92, below + (2.0 if few else 2.7))
    with drawing(height, max(WIDTH, size)) as (figure, axes):
        axes.set_facecolor("#e8e8e8")
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=max(float(np.nanmax(share)), 1e-12))
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(names)), labels, fontsize=7.5)
        axes.set_xlabel("… that also carry this tag")
        axes.set_ylabel("of the clips with this tag," + ("\n" if few else " ") + "the share …")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, pad=0.02, shrink=0.6)
        return figure


def ap_by_embedding(
    tags: Sequence[str],
    embeddings: Sequence[str],
    means: np.ndarray,
    best: Sequence[int],
    num_singles: int,
) -> Figure:
    """Average precision `[tag, embedding]`, NaN blank, coloured by what it lies above the mean of
    its row over the first num_singles embeddings. best: per tag the column to be boxed.
    """
    with np.errstate(invalid="ignore"):
        above = means - np.nanmean(means[:, :num_singles], axis=1, keepdims=True)
    most = max(float(np.nanmax(np.abs(above))), 1e-3)
    width = max(WIDTH, 2.6 + 0.36 * len(embeddings))
    with drawing(2.2 + 0.19 * len(tags), width) as (figure, axes):
        image = axes.imshow(above, cmap="cividis", vmin=-most, vmax=most, aspect="auto")
        write_values(axes, means, above < 0, digits=2, fontsize=7.5)
        for row, column in enumerate(best):
            corner = (column - 0.46, row - 0.44)
            axes.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, edgecolor=BOX, linewidth=1.8))
        if num_singles < len(embeddings):
            axes.axvline(num_singles - 0.5, color="white", linewidth=3)
        axes.set_xticks(
            range(len(embeddings)),
            [_abridged(name) for name in embeddings],
            rotation=90,
            fontsize=8,
        )
        axes.set_yticks(range(len(tags)), [short(tag) for tag in tags], fontsize=8)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, location="top", pad=0.02, shrink=0.6, aspect=40)
        bar.set_label("AP less the tag's mean over the single embeddings", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        return figure


def _abridged(embedding: str) -> str:
    """`A+B`, or `A + 5 more` where the name is long."""
    first, *others = embedding.split("+")
    many = len(embedding) > 24 and others
    return f"{short(first)} + {len(others)} more" if many else short(embedding)


def tag_scatter(panels: Mapping[str, Sequence[TagPoint]], chance: Mapping[int, float]) -> Figure:
    """Per embedding a row of two panels: average precision and ROC-AUC of each tag over its
    training positives.

    chance: training positives → mean prevalence in test of the tags with so many, drawn dotted.
    Tail tags are hollow.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 0.9 + 2.1 * len(panels)))
        grid = figure.subplots(len(panels), 2, squeeze=False, sharex=True, sharey="col")
        for i, (embedding, points) in enumerate(panels.items()):
            colour = look(embedding, i).color
            precision, auc = grid[i]
            _scatter(precision, [(p.in_tail, p.train, p.average_precision) for p in points], colour)
            _scatter(auc, [(p.in_tail, p.train, p.roc_auc) for p in points], colour)
            if chance:
                counts, prevalences = zip(*sorted(chance.items()), strict=True)
                precision.plot(counts, prevalences, ":", color=GREY, linewidth=1.2, label="chance")
            auc.axhline(0.5, color=GREY, linewidth=1.2, linestyle=":")
            for axes, metric in ((precision, "average precision"), (auc, "ROC-AUC")):
                axes.set_xscale("symlog", linthresh=1)
                plain_log(axes.xaxis)
                axes.set_title(f"{short(embedding)}: {metric}", fontsize=9)
                axes.tick_params(labelsize=8)
        for axes in grid[-1]:
            axes.set_xlabel("training positives")
        legend(figure, grid[0, 0])
        return figure


def _scatter(axes: Axes, points: Sequence[tuple[bool, int, float]], colour: str) -> None:
    """points: (in the tail, training positives, metric)."""
    for tail, marker, label in ((False, "o", f"rank ≤ {HEAD}"), (True, "D", f"rank > {HEAD}")):
        chosen = [(train, value) for in_tail, train, value in points if in_tail == tail]
        if chosen:
            trains, values = zip(*chosen, strict=True)
            axes.plot(
                trains,
                values,
                marker,
                color=colour,
                markersize=4,
                alpha=0.8,
                markerfacecolor="none" if tail else colour,
                linestyle="",
                label=label,
            )
