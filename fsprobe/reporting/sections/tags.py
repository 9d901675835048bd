"""The report's sections on tags: counts, co-occurrence, per-tag results, the long tail; and on
several studies.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from fsprobe.config import FULL, KShot
from fsprobe.reporting import comparisons as compare
from fsprobe.reporting import plots as figures
from fsprobe.reporting.blocks import Block, Bullets, Figure, Heading, Paragraph, Table
from fsprobe.reporting.grid_table import mean_std, shot_order
from fsprobe.reporting.phrases import (
    INTERVAL,
    METRICS,
    Style,
    caption,
    difference_cells,
    interval,
    seed_count,
    test_set,
)
from fsprobe.reporting.statistics import summarise
from fsprobe.reporting.study import Study
from fsprobe.study.tables import TagRow

HEAD = 50  # the tail begins below this rank, as --tags=tail has it
_SHOWN = 50  # tags at most in figures that name each


def data(study: Study, style: Style) -> list[Block]:
    """Tag counts by split (the paper's Fig. 2), the long tail, co-occurrence."""
    if not study.tag_counts:
        return []
    ranked = sorted(study.tag_counts.items(), key=lambda item: item[1].rank)
    names = [name for name, _ in ranked[:_SHOWN]]
    counts = {
        split: [getattr(count, split) for _, count in ranked[:_SHOWN]]
        for split in ("train", "valid", "test")
    }
    which = (
        f"the {len(names)} most frequent of its {len(ranked)} tags"
        if len(ranked) > len(names)
        else f"its {len(ranked)} tags"
    )
    probed = {row.tag for rows in study.tags.values() for row in rows}
    first, last = ranked[0], ranked[-1]
    of = f"Data set: {study.dataset}, pool: {study.grid.tags}"
    blocks: list[Block] = [
        Heading(style.level, "Data"),
        Figure(
            f"{style.prefix}data_tag_counts",
            f"Stacked bars of clips per tag by split, from {first[0]} ({first[1].train} training "
            f"clips) down to "
            f"{names[-1]} ({counts['train'][-1]}).",
            f"Clips per tag and split (Fig. 2). {of}; {which}, by rank.",
            lambda: figures.tag_counts(names, counts),
        ),
        Figure(
            f"{style.prefix}data_long_tail",
            f"Training clips over rank, from {first[1].train} at rank {first[1].rank} to "
            f"{last[1].train} at rank "
            f"{last[1].rank}, falling ever more slowly.",
            f"Training clips of every tag of the pool against its rank in the whole manifest. "
            f"{of}.",
            lambda: figures.long_tail(
                [(c.rank, c.train) for name, c in ranked if name not in probed],
                [(c.rank, c.train) for name, c in ranked if name in probed],
                HEAD,
            ),
        ),
    ]
    if study.cooccurrence:
        clips = {name: max(sum(count[1:]), 1) for name, count in ranked}
        share = np.array(
            [
                [study.cooccurrence.get((a, b), 0) / clips[a] if a != b else np.nan for b in names]
                for a in names
            ]
        )
        if len(names) > 1:
            row, column = np.unravel_index(np.nanargmax(share), share.shape)
            told = (
                f"the strongest: {share[row, column]:.0%} of the clips with {names[row]} also "
                f"carry "
                f"{names[column]}"
            )
            blocks.append(
                Figure(
                    f"{style.prefix}data_cooccurrence",
                    f"Heatmap of tag co-occurrence; {told}.",
                    f"Of the clips with the row's tag (all splits), the share that carries the "
                    f"column's; {told}. {of}; "
                    f"{which}.",
                    lambda: figures.cooccurrence(names, share),
                )
            )
    return blocks


def per_tag(study: Study, style: Style) -> list[Block]:
    """Average precision and ROC-AUC of every tag at the largest N and K."""
    n_way, k_shot = best_cell(study, study.grid.k_shot)
    embeddings = [name for name in study.embeddings if study.rows(name, n_way, k_shot)]
    found = _by_tag(study, embeddings, n_way, k_shot)
    counts = study.tag_counts
    names = sorted(found, key=lambda tag: (counts[tag].rank if tag in counts else math.inf, tag))
    rows, seeds, empty = [], [], 0
    for tag in names:
        mine = found[tag]
        cells = []
        for metric in ("average_precision", "roc_auc"):
            for name in embeddings:
                values = [getattr(row, metric) for row in mine[name]]
                cells.append(mean_std(values))
                seeds.append(sum(not math.isnan(value) for value in values))
        empty += cells.count("–") == len(cells)
        positives = next(row.test_positives for rows_ in mine.values() for row in rows_)
        rows.append(
            [
                tag,
                *((str(counts[tag].rank), str(counts[tag].train)) if tag in counts else ("–", "–")),
                str(positives),
                str(max(map(len, mine.values()))),
                *cells,
            ]
        )
    note = (
        f" {empty} of these {len(rows)} tags have no metric: no positive or no negative test clip."
        if empty
        else ""
    )
    return [
        Heading(style.level, "Per tag"),
        Table(
            "Average precision (AP) and ROC-AUC per tag: mean ± standard deviation over the seeds "
            "that drew it; a tag is "
            f"drawn by every seed only where N is the whole pool. "
            f"{caption(study, [n_way], [k_shot], seeds)}{note}",
            [
                "tag",
                "rank",
                "train",
                "test",
                "drawn",
                *(f"{metric} {name}" for metric in ("AP", "ROC-AUC") for name in embeddings),
            ],
            rows,
        ),
    ]


def long_tail(studies: Sequence[Study], style: Style) -> list[Block]:
    """Results per tag against its training positives, and the tail against the 50 most frequent
    tags at equal K.

    studies: one, or several that `complement` each other (a tail pool and a top-50 pool, say),
    taken together.
    """
    ranks = {tag: count for study in studies for tag, count in study.tag_counts.items()}
    if not any(count.rank > HEAD for count in ranks.values()):
        return []
    blocks: list[Block] = [Heading(style.level, "The long tail")]
    first, pools = studies[0], " and ".join(dict.fromkeys(study.grid.tags for study in studies))
    embeddings = list(dict.fromkeys(name for study in studies for name in study.embeddings))
    shots = sorted({k for study in studies for k in study.grid.k_shot}, key=shot_order)
    largest = max((k for k in shots if k != FULL), key=shot_order, default=FULL)
    for k_shot in dict.fromkeys([largest, *([FULL] if FULL in shots else [])]):
        panels, chance, seeds, n_ways = {}, defaultdict(list), [], set()
        for name in embeddings:
            points = []
            for study in studies:
                n_way, _ = best_cell(study, [k_shot])
                for tag, mine in _by_tag(study, [name], n_way, k_shot).items():
                    if tag not in ranks:
                        continue
                    ap, auc = (
                        summarise([getattr(row, metric) for row in mine[name]])
                        for metric in ("average_precision", "roc_auc")
                    )
                    if ap.n:
                        points.append(
                            (tag, ranks[tag].rank > HEAD, ranks[tag].train, ap.mean, auc.mean)
                        )
                        seeds.append(ap.n)
                        n_ways.add(n_way)
                        if study.clips.get("test") and study.test_clips == "all":
                            chance[ranks[tag].train].append(
                                mine[name][0].test_positives / study.clips["test"]
                            )
            if points:
                panels[name] = points
        if not panels:
            continue
        tails = max(sum(point[1] for point in points) for points in panels.values())
        heads = max(sum(not point[1] for point in points) for points in panels.values())
        where = caption(first, sorted(n_ways), [k_shot], seeds, pools)
        means = {count: float(np.mean(values)) for count, values in chance.items()}
        blocks.append(
            Figure(
                f"{style.prefix}long_tail_{k_shot}",
                f"Scatter plots of average precision and ROC-AUC over training positives at K = "
                f"{k_shot}: {tails} tags "
                f"ranked below {HEAD} and {heads} others, per embedding.",
                f"A point per tag, mean over the seeds that drew it: {tails} tags ranked below "
                f"{HEAD} (hollow) and "
                f"{heads} others (filled), against the positives among the training clips, of "
                f"which a probe sees K. "
                f"Average precision rises with prevalence alone (dotted: chance); ROC-AUC does "
                f"not. {where}",
                partial(figures.tag_scatter, panels, means, HEAD),
            )
        )
    table = _tail_table(
        studies,
        embeddings,
        shots,
        {tag for tag, count in ranks.items() if count.rank > HEAD},
        pools,
    )
    return [*blocks, *table] if len(blocks) > 1 else []


def complement(studies: Sequence[Study]) -> bool:
    """Do the studies probe different tags in the same way: on the same clips and features, with the
    same solver?
    """
    first = studies[0]
    tags = [{row.tag for rows in study.tags.values() for row in rows} for study in studies]
    return sum(map(len, tags)) == len(set().union(*tags)) and not any(
        compare.mismatch(first, study)
        or study.stores != first.stores
        or study.configuration["solver"] != first.configuration["solver"]
        for study in studies
    )


def side_by_side(studies: Sequence[Study], style: Style) -> list[Block]:
    """Several studies: their values beside each other, what does not compare, and paired
    differences where it does.
    """
    first = studies[0]
    blocks: list[Block] = [Heading(style.level, "The folders side by side")]
    notes = []
    for study in studies[1:]:
        if why := compare.mismatch(first, study):
            notes.append(
                f"{study.label} does not compare with {first.label}: {why}. No difference is taken."
            )
        for name in first.stores:
            if study.stores.get(name, first.stores[name]) != first.stores[name]:
                notes.append(
                    f"The store {name} of {study.label} holds other features than that of "
                    f"{first.label}."
                )
        if (
            study.solver != first.solver
            or study.configuration["solver"] != first.configuration["solver"]
        ):
            notes.append(
                f"{study.label} was trained with other solver settings than {first.label}."
            )
    blocks += [Bullets(notes)] if notes else []
    groups: dict[str, list[Study]] = {}
    for study in studies:
        groups.setdefault(study.manifest, []).append(study)
    for group in groups.values():
        rows, counts = [], []
        cells = sorted(
            {cell for study in group for name in study.embeddings for cell in study.cells(name)},
            key=lambda cell: (cell[0], shot_order(cell[1])),
        )
        for name in dict.fromkeys(name for study in group for name in study.embeddings):
            for n_way, k_shot in cells:
                values = [
                    summarise(list(study.values(name, n_way, k_shot).values()))
                    if name in study.embeddings
                    else summarise([])
                    for study in group
                ]
                if any(value.n for value in values):
                    rows.append([name, str(n_way), str(k_shot), *map(interval, values)])
                    counts += [value.n for value in values]
        planned = max(study.grid.num_seeds for study in group)
        blocks.append(
            Table(
                f"mAP: mean [{INTERVAL}]; {seed_count(counts, planned)}. Data set: "
                f"{group[0].dataset}. "
                + " ".join(
                    f"{study.label}: tags {study.grid.tags}, solver {study.solver}, test set "
                    f"{test_set(study)}."
                    for study in group
                ),
                ["embedding", "N", "K", *(study.label for study in group)],
                rows,
            )
        )
    if len(groups) > 1:
        blocks.append(Paragraph("Folders of different manifests stand in tables of their own."))
    for study in studies[1:]:
        pairs = compare.compare_studies(first, study)
        if pairs:
            blocks.append(
                Table(
                    f"mAP of {study.label} less mAP of {first.label}, over the seeds whose "
                    f"episodes are the same in both: "
                    f"mean [{INTERVAL}], p of a paired permutation test, and after Holm's "
                    f"correction over the rows of "
                    "each N and K. "
                    + caption(
                        first,
                        sorted({p.n_way for p in pairs}),
                        sorted({p.k_shot for p in pairs}, key=shot_order),
                        [p.difference.n for p in pairs],
                        solver=" and ".join(dict.fromkeys([study.solver, first.solver])),
                    ),
                    ["a", "b", "N", "K", "seeds", "difference", "std", "p", "Holm p"],
                    [[p.a, p.b, str(p.n_way), str(p.k_shot), *difference_cells(p)] for p in pairs],
                    left=2,
                )
            )
        elif not compare.mismatch(first, study):
            blocks.append(
                Paragraph(
                    f"{study.label} and {first.label} share no episode (other tags, seeds or "
                    f"largest "
                    "K): their differences cannot be paired."
                )
            )
    return blocks


def best_cell(study: Study, k_shots: Iterable[KShot]) -> tuple[int, KShot]:
    """Of the finished cells at the given K: the largest N, then the largest K."""
    wanted = set(k_shots)
    cells = {cell for name in study.embeddings for cell in study.cells(name) if cell[1] in wanted}
    return max(cells, key=lambda cell: (cell[0], shot_order(cell[1])), default=(0, FULL))


def _by_tag(
    study: Study, embeddings: Sequence[str], n_way: int, k_shot: KShot
) -> dict[str, dict[str, list[TagRow]]]:
    """Tag → embedding → rows of a cell, over the seeds that drew the tag; every embedding has an
    entry.
    """
    found: dict[str, dict[str, list[TagRow]]] = {}
    for name in embeddings:
        for probe in study.rows(name, n_way, k_shot).values():
            for row in study.tags[probe.key]:
                found.setdefault(row.tag, {name: [] for name in embeddings})[name].append(row)
    return found


def _tail_table(
    studies: Sequence[Study],
    embeddings: Sequence[str],
    shots: Sequence[KShot],
    tail: set[str],
    pools: str,
) -> list[Block]:
    """Means over seeds of the mean over the tail's tags and over the others, at each K."""
    rows, seeds, n_ways = [], [], set()
    for name in embeddings:
        for k_shot in shots:
            for label, inside in ((f"rank ≤ {HEAD}", False), (f"rank > {HEAD}", True)):
                per_seed: defaultdict[tuple[str, int], list[TagRow]] = defaultdict(list)
                for study in (study for study in studies if name in study.embeddings):
                    n_way, _ = best_cell(study, [k_shot])
                    for probe in study.rows(name, n_way, k_shot).values():
                        for row in study.tags[probe.key]:
                            if (row.tag in tail) == inside and not math.isnan(
                                row.average_precision
                            ):
                                per_seed[study.label, probe.seed].append(row)
                                n_ways.add(n_way)
                if per_seed:
                    values = [
                        summarise(
                            [
                                float(np.mean([getattr(row, metric) for row in mine]))
                                for mine in per_seed.values()
                            ]
                        )
                        for metric in ("average_precision", "roc_auc")
                    ]
                    positives = float(
                        np.mean([row.test_positives for mine in per_seed.values() for row in mine])
                    )
                    tags = len({row.tag for mine in per_seed.values() for row in mine})
                    rows.append(
                        [
                            name,
                            str(k_shot),
                            label,
                            str(tags),
                            str(values[0].n),
                            *map(interval, values),
                            f"{positives:.1f}",
                        ]
                    )
                    seeds.append(values[0].n)
    return [
        Table(
            "The tail against the most frequent tags at the same K: mean over the tags a seed "
            "drew, then over "
            "seeds "
            f"[{INTERVAL}]. " + caption(studies[0], sorted(n_ways), shots, seeds, pools),
            [
                "embedding",
                "K",
                "tags ranked",
                "tags",
                "seeds",
                *METRICS.values(),
                "mean test positives",
            ],
            rows,
        )
    ]
