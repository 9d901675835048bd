"""Results per tag against its training positives, and the rare tags against the frequent ones."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from fsprobe.config import FULL, KShot, shot_order
from fsprobe.pages.blocks import Block, Figure, Heading, Table
from fsprobe.reporting.comparisons import mismatch
from fsprobe.reporting.formatting import INTERVAL, METRICS, Style, caption, interval, most_seeds
from fsprobe.reporting.statistics import summarise
from fsprobe.reporting.sweep_results import SweepResults
from fsprobe.reporting.tag_plots import HEAD, TagPoint, tag_scatter
from fsprobe.study.tables import TagCountRow, TagRow


def long_tail(sweeps: Sequence[SweepResults], style: Style) -> list[Block]:
    """Results per tag against its training positives, and the tail against the 50 most frequent
    tags at equal K.

    sweeps: one, or several that `complement` each other (a tail pool and a top-50 pool, say),
    taken together.
    """
    counts = {tag: count for sweep in sweeps for tag, count in sweep.tag_counts.items()}
    if not any(count.rank > HEAD for count in counts.values()):
        return []
    pools = " and ".join(dict.fromkeys(sweep.grid.tags for sweep in sweeps))
    embeddings = list(dict.fromkeys(name for sweep in sweeps for name in sweep.embeddings))
    shots = sorted({k for sweep in sweeps for k in sweep.grid.k_shot}, key=shot_order)
    largest = max((k for k in shots if k != FULL), key=shot_order, default=FULL)
    figures = [
        figure
        for k_shot in dict.fromkeys([largest, *([FULL] if FULL in shots else [])])
        for figure in _scatter_figure(sweeps, embeddings, counts, k_shot, pools, style)
    ]
    if not figures:
        return []
    tail = {tag for tag, count in counts.items() if count.rank > HEAD}
    return [
        Heading(style.level, "The long tail"),
        *figures,
        _tail_table(sweeps, embeddings, shots, tail, pools),
    ]


def complement(sweeps: Sequence[SweepResults]) -> bool:
    """Do the sweeps probe different tags in the same way: on the same clips and features, with the
    same solver?
    """
    first = sweeps[0]
    tags = [{row.tag for rows in sweep.tags.values() for row in rows} for sweep in sweeps]
    return sum(map(len, tags)) == len(set().union(*tags)) and not any(
        mismatch(first, sweep)
        or sweep.stores != first.stores
        or sweep.configuration["solver"] != first.configuration["solver"]
        for sweep in sweeps
    )


def _scatter_figure(
    sweeps: Sequence[SweepResults],
    embeddings: Sequence[str],
    counts: Mapping[str, TagCountRow],
    k_shot: KShot,
    pools: str,
    style: Style,
) -> list[Block]:
    """A point per tag and embedding at one K; nothing where no tag has a value."""
    found = {name: _tag_points(sweeps, name, counts, k_shot) for name in embeddings}
    panels = {name: points for name, points in found.items() if points}
    if not panels:
        return []
    chance = defaultdict(list)
    for point in itertools.chain(*panels.values()):
        if not math.isnan(point.prevalence):
            chance[point.train].append(point.prevalence)
    means = {train: float(np.mean(values)) for train, values in chance.items()}
    rare = max(sum(point.in_tail for point in points) for points in panels.values())
    frequent = max(sum(not point.in_tail for point in points) for points in panels.values())
    where = caption(
        sweeps[0],
        (point.n_way for points in panels.values() for point in points),
        [k_shot],
        [point.seeds for points in panels.values() for point in points],
        pools,
        seeds=most_seeds(sweeps),
    )
    return [
        Figure(
            f"{style.prefix}long_tail_{k_shot}",
            "Scatter plots of average precision and ROC-AUC over training positives at "
            f"K = {k_shot}: {rare} tags ranked below {HEAD} and {frequent} others, per embedding.",
            f"A point per tag, mean over the seeds that drew it: {rare} tags ranked below {HEAD} "
            f"(hollow) and {frequent} others (filled), against the positives among the training "
            "clips, of which a probe sees K. Average precision rises with prevalence alone "
            f"(dotted: chance); ROC-AUC does not. {where}",
            partial(tag_scatter, panels, means),
        )
    ]


def _tag_points(
    sweeps: Sequence[SweepResults],
    embedding: str,
    counts: Mapping[str, TagCountRow],
    k_shot: KShot,
) -> list[TagPoint]:
    """The tags with a value at the largest N that has probes at k_shot."""
    found = []
    for sweep in sweeps:
        n_way, _ = sweep.largest_cell([k_shot])
        tested = sweep.clips.get("test") if sweep.test_clips == "all" else None
        for tag, mine in sweep.rows_by_tag([embedding], n_way, k_shot).items():
            rows = mine[embedding]
            ap, auc = (
                summarise([getattr(row, metric) for row in rows])
                for metric in ("average_precision", "roc_auc")
            )
            if tag in counts and ap.n:
                in_tail, train = counts[tag].rank > HEAD, counts[tag].train
                prevalence = rows[0].test_positives / tested if tested else math.nan
                found.append(TagPoint(in_tail, train, ap.mean, auc.mean, prevalence, ap.n, n_way))
    return found


def _tail_table(
    sweeps: Sequence[SweepResults],
    embeddings: Sequence[str],
    shots: Sequence[KShot],
    tail: set[str],
    pools: str,
) -> Table:
    """Means over seeds of the mean over the tail's tags and over the others, at each K."""
    rows, seeds, n_ways = [], [], set()
    for name in embeddings:
        for k_shot in shots:
            by_seed = _rows_by_seed(sweeps, name, k_shot)
            for label, inside in ((f"rank ≤ {HEAD}", False), (f"rank > {HEAD}", True)):
                chosen = [
                    mine
                    for tag_rows in by_seed
                    if (mine := [row for row in tag_rows if (row.tag in tail) == inside])
                ]
                if chosen:
                    cells, count = _tail_cells(chosen)
                    rows.append([name, str(k_shot), label, *cells])
                    seeds.append(count)
                    n_ways |= {row.n_way for mine in chosen for row in mine}
    where = caption(sweeps[0], n_ways, shots, seeds, pools, seeds=most_seeds(sweeps))
    return Table(
        "The tail against the most frequent tags at the same K: mean over the tags a seed drew, "
        f"then over seeds [{INTERVAL}]. {where}",
        [
            *("embedding", "K", "tags ranked", "tags", "seeds"),
            *METRICS.values(),
            "mean test positives",
        ],
        rows,
    )


def _rows_by_seed(
    sweeps: Sequence[SweepResults], embedding: str, k_shot: KShot
) -> list[list[TagRow]]:
    """Per seed, the tags of all sweeps with a value at the largest N that has probes at k_shot."""
    found: defaultdict[int, list[TagRow]] = defaultdict(list)
    for sweep in (sweep for sweep in sweeps if embedding in sweep.embeddings):
        n_way, _ = sweep.largest_cell([k_shot])
        for seed, probe in sweep.rows(embedding, n_way, k_shot).items():
            found[seed] += [
                row for row in sweep.tags[probe.key] if not math.isnan(row.average_precision)
            ]
    return list(found.values())


def _tail_cells(by_seed: Sequence[Sequence[TagRow]]) -> tuple[list[str], int]:
    """Number of tags, seeds, both metrics and mean test positives; and the number of seeds."""
    metrics = [
        summarise([float(np.mean([getattr(row, metric) for row in rows])) for rows in by_seed])
        for metric in ("average_precision", "roc_auc")
    ]
    rows, count = [row for rows in by_seed for row in rows], metrics[0].n
    tags, positives = {row.tag for row in rows}, np.mean([row.test_positives for row in rows])
    return [str(len(tags)), str(count), *map(interval, metrics), f"{positives:.1f}"], count
