"""Sweeps that differ in their split alone, together: one split of few tracks is a small sample."""

import itertools
import json
import math
from collections.abc import Sequence

import numpy as np

from fsprobe.config import KShot
from fsprobe.pages.blocks import Block, Bullets, Figure, Heading, Paragraph, Table
from fsprobe.reporting.formatting import METRICS, Style, interval, notes_of, slug
from fsprobe.reporting.plots import curves
from fsprobe.reporting.statistics import Summary, student_interval, summarise
from fsprobe.reporting.sweep_results import SweepResults, cells_of, grouped

INTERVAL = "95% interval of the mean over splits, Student's"


def groups(sweeps: Sequence[SweepResults]) -> list[list[SweepResults]]:
    """Sweeps of one configuration, data set and size of split, on two manifests or more."""
    return [
        group
        for group in grouped(sweeps, _but_for_the_manifest)
        if len({sweep.manifest for sweep in group}) == len(group) > 1
    ]


def _but_for_the_manifest(sweep: SweepResults) -> str:
    configuration = {**sweep.configuration, "manifest_sha256": ""}
    return json.dumps([configuration, sweep.dataset, sweep.clips], sort_keys=True)


def splits_together(groups: Sequence[Sequence[SweepResults]], style: Style) -> list[Block]:
    """Of each group: values over N and K, a curve for each N, and differences of embeddings."""
    blocks: list[Block] = [
        Heading(style.level, "Splits together"),
        Paragraph(
            "Each value is the mean over splits of the mean over seeds. The interval is that of "
            "the splits' means, so it covers both what the split and what the seeds change. The "
            "splits share their clips: it says nothing about another catalogue. A tag without "
            "positive test clips in a split is not tested there and left out of its means."
        ),
    ]
    for group in groups:
        blocks += _of_group(group, style)
    return blocks


def _of_group(sweeps: Sequence[SweepResults], style: Style) -> list[Block]:
    first, labels = sweeps[0], ", ".join(sweep.label for sweep in sweeps)
    where = (
        f"Data: {first.dataset}; solver {first.solver}; {len(sweeps)} splits of "
        f"{first.grid.num_seeds} seeds ({labels})."
    )
    cells = cells_of(sweeps)
    rows = [
        [name, str(n), str(k), *(interval(_summary(sweeps, name, n, k, m)) for m in METRICS)]
        for name in first.embeddings
        for n, k in cells
    ]
    blocks: list[Block] = [
        Heading(style.level + 1, f"{first.solver}: {len(sweeps)} splits"),
        Table(f"Mean [{INTERVAL}]. {where}", ["embedding", "N", "K", *METRICS.values()], rows),
        _tested_table(sweeps, sorted({n for n, _ in cells}), where),
    ]
    if notes := notes_of(sweeps):
        blocks.append(Bullets(notes))
    for n_way in sorted({n for n, _ in cells}):
        k_shots = [k for n, k in cells if n == n_way]
        blocks.append(_curve(sweeps, n_way, k_shots, f"N = {n_way}. {where}"))
    return [*blocks, *_differences(sweeps, cells, where)]


def _tested_table(sweeps: Sequence[SweepResults], n_ways: Sequence[int], where: str) -> Table:
    """How many of an episode's N tags have a metric, a column for each split."""
    rows = [
        [name, str(n_way), *(_tested(sweep, name, n_way) for sweep in sweeps)]
        for name in sweeps[0].embeddings
        for n_way in n_ways
    ]
    return Table(
        f"Of the N tags that an episode draws, those that were tested: mean over K and seeds, in "
        f"each split. {where}",
        ["embedding", "N", *(sweep.label for sweep in sweeps)],
        rows,
    )


def _tested(sweep: SweepResults, name: str, n_way: int) -> str:
    counts = [
        sum(not math.isnan(row.average_precision) for row in rows)
        for key, rows in sweep.tags.items()
        if (key.embedding, key.n_way) == (name, n_way)
    ]
    return f"{np.mean(counts):.1f}" if counts else "–"


def _curve(
    sweeps: Sequence[SweepResults], n_way: int, k_shots: Sequence[KShot], where: str
) -> Figure:
    first = sweeps[0]
    series = {
        name: [_summary(sweeps, name, n_way, k) for k in k_shots] for name in first.embeddings
    }
    chance = [
        summarise([sweep.chance(sweep.embeddings, [n_way], [k]) for sweep in sweeps]).mean
        for k in k_shots
    ]
    ends = "; ".join(
        f"{name} from {has[0].mean:.3f} to {has[-1].mean:.3f}"
        for name, points in series.items()
        if (has := [point for point in points if point.n])
    )
    return Figure(
        f"splits_{slug(first.solver)}_n{n_way}",
        f"Line chart of mAP over K per embedding: {ends}.",
        f"mAP against K; lines: mean over splits, bars: {INTERVAL}. {where}",
        lambda: curves(series, k_shots, "mAP", chance),
    )


def _differences(
    sweeps: Sequence[SweepResults], cells: Sequence[tuple[int, KShot]], where: str
) -> list[Block]:
    """Of every pair of embeddings, paired by split. Five splits are too few for a test."""
    rows = []
    for b, a in itertools.combinations(sweeps[0].embeddings, 2):
        for n_way, k_shot in cells:
            ours, theirs = (_means(sweeps, name, n_way, k_shot) for name in (a, b))
            both = [ours[label] - theirs[label] for label in ours if label in theirs]
            difference = summarise(both, student_interval)
            rows.append([a, b, str(n_way), str(k_shot), interval(difference)])
    text = f"mAP of a less mAP of b, paired by split: mean [{INTERVAL}]. {where}"
    return [Table(text, ["a", "b", "N", "K", "difference"], rows, left=2)] if rows else []


def _means(
    sweeps: Sequence[SweepResults], name: str, n_way: int, k_shot: KShot, metric: str = "mAP"
) -> dict[str, float]:
    """Label of a split → its mean over seeds."""
    return {
        sweep.label: sweep.summary(name, n_way, k_shot, metric).mean
        for sweep in sweeps
        if sweep.rows(name, n_way, k_shot)
    }


def _summary(
    sweeps: Sequence[SweepResults], name: str, n_way: int, k_shot: KShot, metric: str = "mAP"
) -> Summary:
    return summarise(list(_means(sweeps, name, n_way, k_shot, metric).values()), student_interval)
