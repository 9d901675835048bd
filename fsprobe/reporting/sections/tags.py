"""The tags: how many clips each has, which occur together, and the metrics of each."""

import math
from collections.abc import Sequence

import numpy as np

from fsprobe.pages.blocks import Block, Figure, Heading, Table
from fsprobe.reporting import tag_plots
from fsprobe.reporting.formatting import Style, caption
from fsprobe.reporting.grid_table import mean_std
from fsprobe.reporting.sweep_results import SweepResults
from fsprobe.study.tables import TagCountRow, TagRow

_SHOWN = 50  # tags at most in figures that name each

RankedTags = Sequence[tuple[str, TagCountRow]]


def tag_counts(sweep: SweepResults, style: Style) -> list[Block]:
    """Tag counts by split (the paper's Fig. 2), the long tail, co-occurrence."""
    if not sweep.tag_counts:
        return []
    ranked = sorted(sweep.tag_counts.items(), key=lambda item: item[1].rank)
    data = f"Data set: {sweep.dataset}, pool: {sweep.grid.tags}"
    which = f"its {len(ranked)} tags"
    if len(ranked) > _SHOWN:
        which = f"the {_SHOWN} most frequent of {which}"
    return [
        Heading(style.level, "Data"),
        _counts_figure(ranked[:_SHOWN], style, f"{data}; {which}"),
        _tail_figure(sweep, ranked, style, data),
        *_cooccurrence_figure(sweep, ranked[:_SHOWN], style, f"{data}; {which}"),
    ]


def _counts_figure(ranked: RankedTags, style: Style, data: str) -> Figure:
    names = [name for name, _ in ranked]
    counts = {
        split: [getattr(count, split) for _, count in ranked]
        for split in ("train", "valid", "test")
    }
    return Figure(
        f"{style.prefix}data_tag_counts",
        f"Stacked bars of clips per tag by split, from {names[0]} ({counts['train'][0]} training "
        f"clips) down to {names[-1]} ({counts['train'][-1]}).",
        f"Clips per tag and split (Fig. 2). {data}, by rank.",
        lambda: tag_plots.tag_counts(names, counts),
    )


def _tail_figure(sweep: SweepResults, ranked: RankedTags, style: Style, data: str) -> Figure:
    probed = {row.tag for rows in sweep.tags.values() for row in rows}
    (_, first), (_, last) = ranked[0], ranked[-1]
    return Figure(
        f"{style.prefix}data_long_tail",
        f"Training clips over rank, from {first.train} at rank {first.rank} to {last.train} at "
        f"rank {last.rank}.",
        f"Training clips of every tag of the pool against its rank in the whole manifest. {data}.",
        lambda: tag_plots.long_tail(
            [(count.rank, count.train) for name, count in ranked if name not in probed],
            [(count.rank, count.train) for name, count in ranked if name in probed],
        ),
    )


def _cooccurrence_figure(
    sweep: SweepResults, ranked: RankedTags, style: Style, data: str
) -> list[Block]:
    if not sweep.cooccurrence or len(ranked) < 2:
        return []
    clips = {name: max(count.train + count.valid + count.test, 1) for name, count in ranked}
    names = list(clips)
    share = np.array(
        [
            [sweep.cooccurrence.get((a, b), 0) / clips[a] if a != b else np.nan for b in names]
            for a in names
        ]
    )
    row, column = np.unravel_index(np.nanargmax(share), share.shape)
    strongest = (
        f"the strongest: {share[row, column]:.0%} of the clips with {names[row]} also carry "
        f"{names[column]}"
    )
    return [
        Figure(
            f"{style.prefix}data_cooccurrence",
            f"Heatmap of tag co-occurrence; {strongest}.",
            "Of the clips with the row's tag (all splits), the share that carries the column's; "
            f"{strongest}. {data}.",
            lambda: tag_plots.cooccurrence(names, share),
        )
    ]


def per_tag(sweep: SweepResults, style: Style) -> list[Block]:
    """Average precision and ROC-AUC of every tag at the largest N and K."""
    n_way, k_shot = sweep.largest_cell(sweep.grid.k_shot)
    embeddings = [name for name in sweep.embeddings if sweep.rows(name, n_way, k_shot)]
    found = sweep.rows_by_tag(embeddings, n_way, k_shot)
    names = sweep.by_rank(found)
    rows = [_tag_row(tag, sweep.tag_counts.get(tag), list(found[tag].values())) for tag in names]
    seeds = [
        sum(not math.isnan(getattr(row, metric)) for row in found[tag][name])
        for tag in names
        for metric in ("average_precision", "roc_auc")
        for name in embeddings
    ]
    empty = sum(row[0] in sweep.unscored and set(row[5:]) == {"–"} for row in rows)
    note = (
        f" {empty} of these {len(rows)} tags have no metric: no positive or no negative test clip."
        if empty
        else ""
    )
    return [
        Heading(style.level, "Per tag"),
        Table(
            "Average precision (AP) and ROC-AUC per tag: mean ± standard deviation over the seeds "
            "that drew it; a tag is drawn by every seed only where N is the whole pool. "
            f"{caption(sweep, [n_way], [k_shot], seeds)}{note}",
            [
                *("tag", "rank", "train", "test", "drawn"),
                *(f"{metric} {name}" for metric in ("AP", "ROC-AUC") for name in embeddings),
            ],
            rows,
        ),
    ]


def _tag_row(
    tag: str, count: TagCountRow | None, by_embedding: Sequence[Sequence[TagRow]]
) -> list[str]:
    """Tag, rank, training and test clips, seeds that drew it, then each metric per embedding."""
    return [
        tag,
        *(("–", "–") if count is None else (str(count.rank), str(count.train))),
        str(next(row.test_positives for rows in by_embedding for row in rows)),
        str(max(map(len, by_embedding))),
        *(
            mean_std([getattr(row, metric) for row in rows])
            for metric in ("average_precision", "roc_auc")
            for rows in by_embedding
        ),
    ]
