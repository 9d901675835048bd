"""The paper's qualitative findings (Ma & Lerch, AES 2024), checked on a sweep's own rows."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fsprobe.config import FULL, KShot, shot_order
from fsprobe.features import COMBINED, is_single
from fsprobe.reporting.comparisons import ALPHA, Comparison, adjusted
from fsprobe.reporting.formatting import interval, some
from fsprobe.reporting.statistics import Summary, mean_of, paired_difference, summarise
from fsprobe.reporting.sweep_results import SweepResults, in_order

FLAT = 0.02  # mAP: less counts as flat; the paper's single embeddings lie 0.01 to 0.03 apart

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED, UNCHECKED = "undecided", "cannot be checked here"

Cell = tuple[int, KShot]


@dataclass(frozen=True)
class Finding:
    """A claim of the paper, and what these rows say about it."""

    claim: str
    verdict: str
    detail: str


def findings(sweep: SweepResults, comparisons: Sequence[Comparison]) -> list[Finding]:
    """The paper's three claims. comparisons: of `compare_embeddings` in mAP."""
    return [combining_helps(sweep, comparisons), gains_flatten(sweep), flat_over_n(sweep)]


def combining_helps(sweep: SweepResults, comparisons: Sequence[Comparison]) -> Finding:
    """In how many cells `combined` beats every single embedding."""
    claim = "Combining helps: the concatenation beats every single embedding"
    singles = [name for name in sweep.embeddings if is_single(name)]
    if COMBINED not in sweep.embeddings or len(singles) < 2:
        return Finding(claim, UNCHECKED, "it takes `combined` and at least two single embeddings.")
    tried: defaultdict[Cell, list[Comparison]] = defaultdict(list)
    for c in comparisons:
        if COMBINED in (c.a, c.b) and any(map(is_single, (c.a, c.b))):
            tried[c.n_way, c.k_shot].append(c)
    cells = {cell: found for cell, found in tried.items() if len(found) == len(singles)}
    if not cells:
        return Finding(
            claim, UNCHECKED, "no cell has paired seeds of `combined` and every single embedding."
        )
    gains = [min(_favour(c) * c.difference.mean for c in found) for found in cells.values()]
    better = {cell for cell in cells if all(_favour(c) * c.sign > 0 for c in cells[cell])}
    worse = {cell for cell in cells if any(_favour(c) * c.sign < 0 for c in cells[cell])}
    detail = (
        f"combined has significantly higher mAP than every single embedding in {len(better)} of "
        f"{len(cells)} cells and significantly lower mAP than some in {len(worse)} (paired by "
        f"seed, Holm-adjusted p < {ALPHA}). Over the best single embedding it gains "
        f"{min(gains):+.4f} to {max(gains):+.4f} mAP."
    )
    if worse:
        detail += f" It loses at {some([f'N = {n} K = {k}' for n, k in in_order(worse)], 6)}."
    detail += _powerless([c for found in cells.values() for c in found], comparisons)
    return Finding(claim, _verdict(len(better), len(worse), len(cells)), detail)


def _favour(comparison: Comparison) -> int:
    """1 where a positive difference speaks for `combined`, −1 where it speaks against it."""
    return 1 if comparison.a == COMBINED else -1


def gains_flatten(sweep: SweepResults) -> Finding:
    """Whether mAP gains less per doubling of the training clips beyond K = 10 than up to it."""
    claim = "Gains flatten beyond K = 10"
    before = [k_shot for k_shot in sweep.grid.k_shot if 0 < shot_order(k_shot) < 10]
    beyond = [k_shot for k_shot in sweep.grid.k_shot if shot_order(k_shot) > 10]
    if 10 not in sweep.grid.k_shot or not before or not beyond:
        return Finding(
            claim, UNCHECKED, "it takes probes at K = 10, at a smaller and at a larger K."
        )
    shots = [k_shot for k_shot in beyond if k_shot != FULL]
    low, high = max(before, key=shot_order), max(shots or beyond, key=shot_order)
    found, texts = [], []
    for embedding in sweep.embeddings:
        for n_way in sweep.grid.n_way:
            early = _per_doubling(sweep, embedding, n_way, low, 10)
            late = _per_doubling(sweep, embedding, n_way, 10, high)
            difference = paired_difference(early, late)
            if not difference.n:
                continue
            found.append(Comparison(embedding, "", n_way, high, difference))
            if n_way == max(sweep.grid.n_way):
                shared = [seed for seed in early if seed in late]
                means = (np.nanmean([gain[s] for s in shared]) for gain in (early, late))
                texts.append(f"{embedding} " + " then ".join(f"{mean:+.4f}" for mean in means))
    if not found:
        return Finding(claim, UNCHECKED, f"no seed has probes at K = {low}, 10 and {high} yet.")
    found = adjusted(found)
    flatter, steeper = (sum(c.sign == sign for c in found) for sign in (1, -1))
    at_largest = f"; at N = {max(sweep.grid.n_way)}: {', '.join(texts)}" if texts else ""
    detail = (
        f"mAP gained per doubling of the training clips, K = {low} to 10 against K = 10 to {high}: "
        f"significantly less beyond 10 in {flatter} of {len(found)} cases (embedding × N), "
        f"significantly more in {steeper}{at_largest}."
    )
    if not shots:
        detail += (
            " No K lies between 10 and full here, so these rows do not show where a curve bends."
        )
    return Finding(claim, _verdict(flatter, steeper, len(found)), detail + _powerless(found, found))


def flat_over_n(sweep: SweepResults) -> Finding:
    """Whether mAP at fixed K stays within ±FLAT from the smallest N to the largest, on the whole
    test set.
    """
    claim = "Flat over N at fixed K, on the whole test set"
    least, most = min(sweep.grid.n_way), max(sweep.grid.n_way)
    shots = [k_shot for k_shot in sweep.grid.k_shot if k_shot not in (0, FULL)]
    if sweep.test_clips != "all" or least == most or not shots:
        return Finding(
            claim, UNCHECKED, "it takes two values of N, a K in shots, and --test_clips=all."
        )
    changes = {}
    for name in sweep.embeddings:
        for k_shot in shots:
            many, few = (sweep.values(name, n_way, k_shot) for n_way in (most, least))
            change = paired_difference(many, few)
            if change.n > 1:
                changes[name, k_shot] = change
    if not changes:
        return Finding(
            claim,
            UNCHECKED,
            "no cell has two seeds at both ends of N yet, so no change has an interval.",
        )
    flat = sum(change.low >= -FLAT and change.high <= FLAT for change in changes.values())
    moved = sum(change.low > FLAT or change.high < -FLAT for change in changes.values())
    detail = (
        f"from N = {least} to {most}, the 95% interval of the change of mAP lies within ±{FLAT} in "
        f"{flat} of {len(changes)} cases (embedding × K) and outside it in {moved}"
    )
    detail += "; the others are undecided. " if flat + moved < len(changes) else ". "
    detail += _largest_change(sweep, changes, least, most)
    return Finding(claim, _verdict(flat, moved, len(changes)), detail)


def _largest_change(
    sweep: SweepResults, changes: Mapping[tuple[str, KShot], Summary], least: int, most: int
) -> str:
    """The largest change over N, and what remains of it once tags and prevalence are the same."""
    (name, k_shot), largest = max(changes.items(), key=lambda item: abs(item[1].mean))
    many, few = (sweep.values(name, n_way, k_shot, "chance_mAP") for n_way in (most, least))
    drawn = paired_difference(many, few)
    same = summarise(list(_on_same_tags(sweep, name, k_shot, least, most).values()))
    return (
        f"The largest change: {name} at K = {k_shot}, {interval(largest, '+')}. Drawing other "
        f"tags moves chance mAP by {drawn.mean:+.4f} there; on the {least} tags that both episodes "
        f"have, mAP changes by {interval(same, '+')}."
    )


def _on_same_tags(
    sweep: SweepResults, embedding: str, k_shot: KShot, least: int, most: int
) -> dict[int, float]:
    """Seed → mean change of average precision from N = least to most on the tags of the smaller
    episode.
    """
    few, many = (sweep.rows(embedding, n_way, k_shot) for n_way in (least, most))
    found = {}
    for seed in (seed for seed in few if seed in many):
        wide = {row.tag: row.average_precision for row in sweep.tags[many[seed].key]}
        found[seed] = mean_of(
            [
                wide[row.tag] - row.average_precision
                for row in sweep.tags[few[seed].key]
                if row.tag in wide
            ]
        )
    return found


def _per_doubling(
    sweep: SweepResults, embedding: str, n_way: int, low: KShot, high: KShot
) -> dict[int, float]:
    """Seed → mAP gained from K = low to high per doubling of the training clips."""
    few, many = (sweep.rows(embedding, n_way, k_shot) for k_shot in (low, high))
    return {
        seed: (many[seed].mAP - few[seed].mAP)
        / math.log2(many[seed].num_train / few[seed].num_train)
        for seed in few
        if seed in many and many[seed].num_train > few[seed].num_train > 0
    }


def _verdict(for_it: int, against: int, cases: int) -> str:
    if for_it == cases:
        return HOLDS
    if for_it:
        return f"{HOLDS} in {for_it} of {cases} cases"
    return FAILS if against else UNDECIDED


def _powerless(comparisons: Sequence[Comparison], tested: Sequence[Comparison]) -> str:
    """A warning where the tests could not have been significant whatever the values. tested: all
    that p was adjusted over.
    """
    best = adjusted([replace(c, difference=_at_best(c.difference)) for c in tested])
    weak = {(c.a, c.b, c.n_way, c.k_shot) for c in best if c.holm >= ALPHA}
    text = ""
    if few := sum((c.a, c.b, c.n_way, c.k_shot) in weak for c in comparisons):
        text += f" In {few} of {len(comparisons)} tests the seeds are too few for any p below "
        text += f"{ALPHA}."
    if repeats := sum(math.isnan(c.difference.p) for c in comparisons):
        text += f" {repeats} differences are the same at every seed: repetition, which no test "
        text += "over seeds can judge."
    return text


def _at_best(difference: Summary) -> Summary:
    """With the smallest p that so many seeds can give; NaN stays, for it does not count."""
    least = math.nan if math.isnan(difference.p) else 2.0 ** (1 - difference.n)
    return difference._replace(p=least)
