"""Which embedding carries which tag: average precision by tag and embedding, and how far the best
single one leads a reference. With a network's layers as embeddings: which layers carry which tags.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fsprobe.config import FULL, KShot
from fsprobe.features import is_single
from fsprobe.pages.blocks import Block, Bullets, Figure, Heading, Table
from fsprobe.reporting.comparisons import ALPHA
from fsprobe.reporting.formatting import (
    INTERVAL,
    Style,
    caption,
    interval,
    number,
    p_value,
    some,
)
from fsprobe.reporting.statistics import Summary, holm, mean_of, paired_difference
from fsprobe.reporting.sweep_results import SweepResults, cells_of
from fsprobe.reporting.tag_plots import ap_by_embedding

_LEAST = 3  # single embeddings that make a comparison of layers
_SHOWN = 50  # tags at most in the figure
_USUAL = "penultimate"  # the layer that one takes without further thought

_AT_FULL = (
    " At K = full all seeds train on the same clips: intervals and p say how results vary with the "
    "initialisation and the tags drawn, not with the clips."
)

BySeed = Mapping[int, float]  # seed → average precision


@dataclass(frozen=True)
class _Tag:
    """A tag's mean AP per embedding, NaN where there is none; its best single embedding; that one's
    lead over the reference, over the seeds that drew the tag, and p after Holm's correction over
    the tag's single embeddings. ahead: the single ones that lead the reference beyond chance.
    """

    name: str
    means: tuple[float, ...]
    seeds: int
    best: str
    lead: Summary
    p: float
    ahead: tuple[str, ...]


def embeddings_by_tag(sweep: SweepResults, style: Style) -> list[Block]:
    """A figure and a table at the largest K in shots, and at `full`, if at least three single
    embeddings have values there.
    """
    blocks: list[Block] = []
    for k_shot in _largest_shots(sweep):
        n_way, _ = sweep.largest_cell([k_shot])
        shown = [name for name in sweep.embeddings if sweep.rows(name, n_way, k_shot)]
        order = sorted(shown, key=is_single, reverse=True)  # single ones first
        singles = list(filter(is_single, order))
        if len(singles) < _LEAST:
            continue
        values = _by_seed(sweep, order, n_way, k_shot)
        if not values:
            continue
        reference = _reference(singles, values)
        tags = [_of_tag(tag, mine, order, singles, reference) for tag, mine in values.items()]
        where = caption(sweep, [n_way], [k_shot], [tag.seeds for tag in tags])
        blocks += [
            _figure(tags, order, singles, f"{style.prefix}embeddings_by_tag_{k_shot}", where),
            Bullets(_summary(tags, order, singles, reference, k_shot)),
            _table(tags, order, reference, where + (_AT_FULL if k_shot == FULL else "")),
        ]
    return [Heading(style.level, "Which embedding carries which tag"), *blocks] if blocks else []


def _largest_shots(sweep: SweepResults) -> list[KShot]:
    """The largest K in shots that has rows, and `full` if it has."""
    found = {k_shot for _, k_shot in cells_of([sweep])}
    shots = sorted(k_shot for k_shot in found if isinstance(k_shot, int))
    return [*shots[-1:], *([FULL] if FULL in found else [])]


def _by_seed(
    sweep: SweepResults, embeddings: Sequence[str], n_way: int, k_shot: KShot
) -> dict[str, dict[str, BySeed]]:
    """Tag → embedding → its values, by rank; without tags that have none."""
    found: dict[str, dict[str, BySeed]] = {
        tag: {
            name: {
                row.seed: row.average_precision
                for row in rows
                if not math.isnan(row.average_precision)
            }
            for name, rows in mine.items()
        }
        for tag, mine in sweep.rows_by_tag(embeddings, n_way, k_shot).items()
    }
    return {
        tag: found[tag]
        for tag in sweep.by_rank(found)
        if any(by_seed for name, by_seed in found[tag].items() if is_single(name))
    }


def _reference(singles: Sequence[str], values: Mapping[str, Mapping[str, BySeed]]) -> str:
    """`penultimate`, or the one single embedding with that word in its name; without, the one of
    the highest mean over the tags.
    """
    if _USUAL in singles:
        return _USUAL
    named = [name for name in singles if _USUAL in name]
    if len(named) == 1:
        return named[0]
    means = {
        name: mean_of([mean_of([*mine[name].values()]) for mine in values.values()])
        for name in singles
    }
    return max(singles, key=lambda name: -1.0 if math.isnan(means[name]) else means[name])


def _of_tag(
    tag: str,
    by_embedding: Mapping[str, BySeed],
    order: Sequence[str],
    singles: Sequence[str],
    reference: str,
) -> _Tag:
    means = {name: mean_of([*by_embedding[name].values()]) for name in order}
    best = max((name for name in singles if by_embedding[name]), key=means.__getitem__)
    leads = {
        name: paired_difference(by_embedding[name], by_embedding[reference])
        for name in singles
        if name != reference
    }
    adjusted = dict(zip(leads, holm([lead.p for lead in leads.values()]), strict=True))
    return _Tag(
        tag,
        tuple(means.values()),
        max(map(len, by_embedding.values())),
        best,
        leads.get(best, paired_difference({}, {})),
        adjusted.get(best, math.nan),
        tuple(name for name in leads if adjusted[name] < ALPHA and leads[name].mean > 0),
    )


def _figure(
    tags: Sequence[_Tag], order: Sequence[str], singles: Sequence[str], name: str, where: str
) -> Figure:
    shown = tags[:_SHOWN]
    which = f"; the {_SHOWN} most frequent of {len(tags)} tags" if len(tags) > _SHOWN else ""
    return Figure(
        name,
        f"Heatmap of average precision, {len(shown)} tags down, {len(order)} embeddings across. "
        + "Best single embedding: "
        + ", ".join(f"{name} for {_best_of(tags, name)}" for name in singles)
        + ".",
        "Average precision per tag and embedding, mean over the seeds that drew the tag (the "
        "numbers). Colour: what it lies above the mean of the tag's single embeddings, which stand "
        f"left of the line. Boxed: the best single one{which}. {where}",
        partial(
            ap_by_embedding,
            [tag.name for tag in shown],
            order,
            np.array([tag.means for tag in shown]),
            [order.index(tag.best) for tag in shown],
            num_singles=len(singles),
        ),
    )


def _best_of(tags: Sequence[_Tag], embedding: str) -> str:
    return f"{sum(tag.best == embedding for tag in tags)} of {len(tags)} tags"


def _summary(
    tags: Sequence[_Tag],
    order: Sequence[str],
    singles: Sequence[str],
    reference: str,
    k_shot: KShot,
) -> list[str]:
    """Per single embedding its mean over the tags, the tags it is best for, and those where it is
    ahead of the reference beyond chance.
    """
    items = []
    for name in singles:
        mean = mean_of([tag.means[order.index(name)] for tag in tags])
        best = [tag for tag in tags if tag.best == name]
        text = f"{name} at K = {k_shot}: mean {number(mean)}, best for {_best_of(tags, name)}"
        text += f" ({some([tag.name for tag in best])})" if best else ""
        if name != reference:
            ahead = [tag.name for tag in tags if name in tag.ahead]
            text += f"; ahead of {reference} with p < {ALPHA} for {len(ahead)}"
            text += f" ({some(ahead)})" if ahead else ""
        items.append(f"{text}.")
    return items


def _table(tags: Sequence[_Tag], order: Sequence[str], reference: str, where: str) -> Table:
    rows = [
        [
            *(tag.name, str(tag.seeds), *map(number, tag.means), tag.best),
            *(interval(tag.lead, "+"), p_value(tag.p)),
        ]
        for tag in tags
    ]
    return Table(
        "Average precision per tag and embedding, mean over the seeds that drew the tag; the best "
        f"single embedding and its lead over {reference}, paired by seed [{INTERVAL}], with p of a "
        "permutation test (sign flips, two-sided) after Holm's correction over the tag's single "
        "embeddings. The best is picked by these very seeds, so its lead is on average a little "
        f"too large. {where}",
        ["tag", "drawn", *order, "best single", f"lead over {reference}", "Holm p"],
        rows,
    )
