"""What words do: tags without examples (K = 0), and few shots pulled to what their words say."""

from collections.abc import Sequence

import numpy as np

from fsprobe.config import FULL, KShot
from fsprobe.pages.blocks import Block, Figure, Heading, Paragraph, Table
from fsprobe.reporting.comparisons import Comparison, adjusted
from fsprobe.reporting.formatting import (
    INTERVAL,
    Series,
    Style,
    caption,
    difference_table,
    interval,
    number,
    seeds_behind,
    slug,
    with_values,
)
from fsprobe.reporting.plots import curves
from fsprobe.reporting.statistics import mean_of, paired_difference
from fsprobe.reporting.sweep_results import SweepResults
from fsprobe.study.tables import TagRow
from fsprobe.words.config import NONE, SHUFFLED, WORDS

_SHOWN = 8  # best tags, and worst ones
_METRICS = ("mAP", "roc_auc")
_RANKED = ("mAP", "roc_auc", "precision_at_10", "hit_at_10")


def words(sweep: SweepResults, style: Style) -> list[Block]:
    """Empty for a sweep without words."""
    if not sweep.words.directory:
        return []
    blocks: list[Block] = [
        Heading(style.level, "Words"),
        Paragraph(
            f"Each seed hides {1 - sweep.words.seen:.0%} of the tags and draws its N among them. K "
            "= 0 is by a tag's words alone, by a map learnt on the other tags; strengths are "
            "chosen on seen tags held out as if unseen. A prior pulls few-shot heads to the head "
            "of the words; `shuffled` is the same with the vectors dealt out among the tags, so "
            "that what it gains is not the words'."
            if not sweep.words.test_manifest
            else "All tags of the first corpus are seen; those tested are of the second alone."
        ),
    ]
    for name in sweep.embeddings:
        mine = Style(style.level + 1, f"{style.prefix}{slug(name)}_")
        parts = [
            *_without_examples(sweep, name),
            *_retrieval_and_annotation(sweep, name),
            *_curves(sweep, name, mine),
            *_gains(sweep, name),
            *_near_synonyms(sweep, name),
            *_what_the_map_does(sweep, name),
        ]
        blocks += [Heading(mine.level, f"Words: {name}"), *parts] if parts else []
    return blocks


def _n_way(sweep: SweepResults) -> int:
    return max(sweep.grid.n_way)


def _where(sweep: SweepResults, k_shots: Sequence[KShot], counts: Sequence[int]) -> str:
    return caption(sweep, [_n_way(sweep)], k_shots, counts)


def _without_examples(sweep: SweepResults, name: str) -> list[Block]:
    """Every way at K = 0, with words and with shuffled ones."""
    n_way, variants = _n_way(sweep), sweep.words.variants(0)
    found = {
        variant: [sweep.summary(name, n_way, 0, metric, variant) for metric in _METRICS]
        for variant in variants
    }
    found = {variant: both for variant, both in found.items() if both[0].n}
    if not found:
        return []
    tests = [
        _comparison(sweep, name, 0, (way, WORDS), (way, SHUFFLED))
        for way, kind in variants
        if kind == SHUFFLED
    ]
    rows = [[*variant, *map(interval, both)] for variant, both in found.items()]
    chance = number(sweep.chance([name], [n_way], [0]))
    text = f"Tags without examples: mean [{INTERVAL}]; chance mAP {chance}."
    where = _where(sweep, [0], [both[0].n for both in found.values()])
    table = Table(f"{text} {where}", ["zero_shot", "words", "mAP", "ROC-AUC"], rows, left=2)
    return [table, *_differences("mAP of the words less that of shuffled ones", tests, where)]


def _retrieval_and_annotation(sweep: SweepResults, name: str) -> list[Block]:
    """Per tag and per clip, unseen tags alone and among the seen ones; means over seeds."""
    found: dict[tuple[str, str, str, str], list[tuple[float, ...]]] = {}
    for key, rows in sweep.zero_shot.items():
        if (key.embedding, key.n_way, key.prior) == (name, _n_way(sweep), WORDS):
            for row in rows:
                group = (row.zero_shot, row.task, row.tags, row.clip_kind)
                values = tuple(getattr(row, metric) for metric in _RANKED)
                found.setdefault(group, []).append(values)
    if not found:
        return []
    order = sweep.words.zero_shot.index
    rows_ = [
        [*group, *(number(mean_of(column)) for column in zip(*values, strict=True))]
        for group, values in sorted(found.items(), key=lambda item: order(item[0][0]))
    ]
    text = (
        "Retrieval ranks clips for a tag, annotation ranks tags for a clip. Unseen: the N unseen "
        "tags alone compete; generalised: seen tags too. Clips: all, or those that carry seen tags "
        "alone, unseen ones alone, or both. Means over seeds."
    )
    header = ["zero_shot", "task", "tags", "clips", "mAP", "ROC-AUC", "P@10", "hit@10"]
    counts = [len(values) for values in found.values()]
    return [Table(f"{text} {_where(sweep, [0], counts)}", header, rows_, left=4)]


def _series(sweep: SweepResults, name: str, metric: str) -> Series:
    """Prior → a Summary per K; at K = 0 by the first way of --zero_shot."""
    ways = {k_shot: "" if k_shot else sweep.words.zero_shot[0] for k_shot in _k_shots(sweep)}
    return with_values(
        {
            prior: [
                sweep.summary(name, _n_way(sweep), k_shot, metric, (way, prior))
                for k_shot, way in ways.items()
            ]
            for prior in sweep.words.prior
        }
    )


def _k_shots(sweep: SweepResults) -> list[int]:
    return [k_shot for k_shot in sweep.grid.k_shot if isinstance(k_shot, int)]


def _curves(sweep: SweepResults, name: str, style: Style) -> list[Block]:
    """mAP over K, a line for each prior."""
    series = _series(sweep, name, "mAP")
    k_shots = _k_shots(sweep)
    if len(k_shots) < 2 or len(series) < 2:
        return []
    chance = [sweep.chance([name], [_n_way(sweep)], [k_shot]) for k_shot in k_shots]
    where = _where(sweep, k_shots, seeds_behind(series))
    ends = "; ".join(
        f"{prior} {number(points[-1].mean)} at K = {k_shots[-1]}"
        for prior, points in series.items()
    )
    rows = [
        [prior, metric, *map(interval, points)]
        for metric in _METRICS
        for prior, points in _series(sweep, name, metric).items()
    ]
    return [
        Figure(
            f"{style.prefix}words_over_k",
            f"Line chart of mAP over K for each prior: {ends}.",
            f"mAP against K by what few-shot heads are pulled to; K = 0 by "
            f"{sweep.words.zero_shot[0]}. Lines: mean, bars: {INTERVAL}. {where}",
            lambda: curves(series, list(k_shots), "mAP", chance),
        ),
        Table(
            f"The same: mean [{INTERVAL}]. {where}",
            ["prior", "metric", *(f"K = {k_shot}" for k_shot in k_shots)],
            rows,
            left=2,
        ),
    ]


def _gains(sweep: SweepResults, name: str) -> list[Block]:
    """The prior's gain at each K, over none and over shuffled words."""
    if WORDS not in sweep.words.prior:
        return []
    pairs = [
        _comparison(sweep, name, k_shot, ("", WORDS), ("", other))
        for k_shot in sweep.grid.k_shot
        if k_shot not in (0, FULL)
        for other in (NONE, SHUFFLED)
    ]
    where = _where(sweep, _k_shots(sweep), [pair.difference.n for pair in pairs])
    return _differences("mAP with the words as a prior less that with another", pairs, where)


def _comparison(
    sweep: SweepResults, name: str, k_shot: KShot, a: tuple[str, str], b: tuple[str, str]
) -> Comparison:
    """Of two variants, (zero_shot, prior)."""
    n_way = _n_way(sweep)
    ours, theirs = (sweep.values(name, n_way, k_shot, variant=variant) for variant in (a, b))
    first, other = (" ".join(filter(None, variant)) for variant in (a, b))
    return Comparison(first, other, n_way, k_shot, paired_difference(ours, theirs))


def _differences(what: str, pairs: Sequence[Comparison], where: str) -> list[Block]:
    found = adjusted([pair for pair in pairs if pair.difference.n])
    if not found:
        return []
    text = (
        f"{what}, on the same episodes: mean [{INTERVAL}], p of a paired permutation test, and "
        f"after Holm's correction over the rows of each K. {where}"
    )
    return [difference_table(text, found)]


def _near_synonyms(sweep: SweepResults, name: str) -> list[Block]:
    """Average precision of unseen tags with a near synonym among the seen ones, and of others."""
    rows = []
    for k_shot in _k_shots(sweep):
        for variant in sweep.words.variants(k_shot):
            apart: dict[bool, list[float]] = {True: [], False: []}
            for row in _tag_rows(sweep, name, k_shot, variant):
                twin = sweep.unseen.get(row.seed, {}).get(row.tag, "")
                apart[bool(twin)].append(row.average_precision)
            if apart[True]:
                means = [number(mean_of(values)) for values in apart.values()]
                rows.append([str(k_shot), " ".join(filter(None, variant)), *means])
    if not rows:
        return []
    twins = {(twin, tag) for tags in sweep.unseen.values() for tag, twin in tags.items() if twin}
    shown = ", ".join(f"{tag} for {twin}" for twin, tag in sorted(twins)[:4])
    text = (
        "Near synonyms apart: mean average precision of the unseen tags that a seen one nearly "
        "spells (but for case, blanks and signs they differ by a plural s, or by one edit where "
        f"both have five letters; {shown}), and of all others, over tags and seeds."
    )
    return [Table(text, ["K", "prior", "with a near synonym seen", "others"], rows, left=2)]


def _tag_rows(
    sweep: SweepResults, name: str, k_shot: KShot, variant: tuple[str, str]
) -> list[TagRow]:
    probes = sweep.rows(name, _n_way(sweep), k_shot, variant).values()
    return [row for probe in probes for row in sweep.tags[probe.key]]


def _what_the_map_does(sweep: SweepResults, name: str) -> list[Block]:
    """Of the best and the worst tags at K = 0, the nearest words and the seen tags leant on."""
    variant = sweep.words.variants(0)[0]
    scores: dict[str, list[float]] = {}
    for row in _tag_rows(sweep, name, 0, variant):
        scores.setdefault(row.tag, []).append(row.average_precision)
    means = {tag: mean_of(values) for tag, values in scores.items()}
    ranked = sorted((tag for tag in means if not np.isnan(means[tag])), key=lambda t: -means[t])
    if not ranked:
        return []
    shown = ranked if len(ranked) <= 2 * _SHOWN else ranked[:_SHOWN] + ranked[-_SHOWN:]
    texts = {
        row.tag: row
        for key, rows in sorted(sweep.map.items(), key=lambda item: -item[0].seed)
        if (key.embedding, key.n_way, key[5:]) == (name, _n_way(sweep), variant)
        for row in rows
    }  # of each tag the row that comes last, that of the first seed
    rows_ = []
    for tag in shown:
        if tag not in texts:  # the file of the map is not there
            return []
        cells = [_listed(text) for text in (texts[tag].nearest, texts[tag].leans_on)]
        drawn = [number(means[tag]), str(len(scores[tag])), str(texts[tag].seed)]
        rows_.append([tag, *cells, *drawn])
    text = (
        f"The map of {variant[0]}: the best and the worst unseen tags, by mean average precision "
        "over the seeds that drew them. Nearest words: the tags (of all) whose words are nearest "
        "to where the map puts the tag's test clips. Leans on: the seen tags whose words its own "
        "is made of. Both are of the first seed that drew it."
    )
    header = ["tag", "nearest words", "leans on", "AP", "drawn", "seed"]
    return [Table(text, header, rows_, left=3)]


def _listed(text: str) -> str:
    """`a=0.5|b=0.2` → `a 0.5, b 0.2`."""
    items = [item.rpartition("=") for item in text.split("|") if item]
    return ", ".join(f"{tag} {weight}" for tag, _, weight in items)
