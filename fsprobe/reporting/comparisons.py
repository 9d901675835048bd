"""Paired comparisons on the same episodes, and the paper's qualitative findings checked on a
study's own rows.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fsprobe.config import FULL, KShot
from fsprobe.features import COMBINED
from fsprobe.reporting.grid_table import shot_order
from fsprobe.reporting.statistics import Difference, Summary, holm, paired_difference, summarise
from fsprobe.reporting.study import Study

ALPHA = 0.05
FLAT = 0.02  # mAP: less counts as flat; the paper's single embeddings lie 0.01 to 0.03 apart

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED, UNCHECKED = "undecided", "cannot be checked here"


@dataclass(frozen=True)
class Comparison:
    """mAP of `a` less that of `b`, paired by seed in one cell. holm: p adjusted over the
    comparisons of that cell.
    """

    a: str
    b: str
    n_way: int
    k_shot: KShot
    difference: Difference
    holm: float = math.nan

    @property
    def sign(self) -> int:
        """1 or −1 where the difference is significant after adjustment, else 0."""
        return int(np.sign(self.difference.mean)) if self.holm < ALPHA else 0


@dataclass(frozen=True)
class Finding:
    """A claim of the paper and what these rows say to it."""

    claim: str
    verdict: str
    detail: str


def compare_embeddings(study: Study, metric: str = "mAP") -> list[Comparison]:
    """Every pair of embeddings in every cell that both have, p adjusted within each cell."""
    found = []
    for b, a in itertools.combinations(study.embeddings, 2):
        for n_way, k_shot in study.cells(a):
            difference = paired_difference(
                study.values(a, n_way, k_shot, metric), study.values(b, n_way, k_shot, metric)
            )
            if difference.n:
                found.append(Comparison(a, b, n_way, k_shot, difference))
    return adjusted(found)


def compare_studies(first: Study, other: Study, metric: str = "mAP") -> list[Comparison]:
    """`other` less `first`, per embedding and cell that both have, over the seeds whose episodes
    are the same.

    a and b name embedding and study. Empty where manifests or test sets differ: such values do not
    compare.
    """
    if mismatch(first, other):
        return []
    found = []
    for embedding in (name for name in first.embeddings if name in other.embeddings):
        for n_way, k_shot in first.cells(embedding):
            same = [
                seed
                for seed in first.grid.seeds
                if seed in other.grid.seeds
                and (support := first.support(n_way, k_shot, seed))
                and support == other.support(n_way, k_shot, seed)
            ]
            ours, theirs = (
                study.values(embedding, n_way, k_shot, metric) for study in (first, other)
            )
            difference = paired_difference(
                {seed: theirs[seed] for seed in same if seed in theirs}, ours
            )
            if difference.n:
                found.append(
                    Comparison(
                        f"{embedding} ({other.label})",
                        f"{embedding} ({first.label})",
                        n_way,
                        k_shot,
                        difference,
                    )
                )
    return adjusted(found)


def mismatch(first: Study, other: Study) -> str:
    """Why the metrics of two studies do not compare; empty if they do."""
    if first.manifest != other.manifest:
        return "their manifests differ"
    if first.test_clips != other.test_clips:
        return f"their test sets differ (--test_clips={first.test_clips} and {other.test_clips})"
    return ""


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with Holm's p over those of each cell.

    Not over all cells together: with few seeds no p is small enough for hundreds of tests, however
    clear the matter.
    """
    cells: dict[tuple[int, KShot], list[int]] = {}
    for i, comparison in enumerate(comparisons):
        cells.setdefault((comparison.n_way, comparison.k_shot), []).append(i)
    found = list(comparisons)
    for members in cells.values():
        for i, p in zip(members, holm([comparisons[i].difference.p for i in members]), strict=True):
            found[i] = replace(comparisons[i], holm=p)
    return found


def findings(study: Study, comparisons: Sequence[Comparison]) -> list[Finding]:
    """The paper's three claims. comparisons: of `compare_embeddings` in mAP."""
    return [combining_helps(study, comparisons), gains_flatten(study), flat_over_n(study)]


def combining_helps(study: Study, comparisons: Sequence[Comparison]) -> Finding:
    """In how many cells `combined` beats every single embedding."""
    claim = "Combining helps: the concatenation beats every single embedding"
    if COMBINED not in study.embeddings or len(study.embeddings) < 3:
        return Finding(claim, UNCHECKED, "it takes `combined` and at least two single embeddings.")
    cells: dict[tuple[int, KShot], list[Comparison]] = {}
    for comparison in comparisons:
        if COMBINED in (comparison.a, comparison.b):
            cells.setdefault((comparison.n_way, comparison.k_shot), []).append(comparison)
    singles = len(study.embeddings) - 1
    cells = {cell: found for cell, found in cells.items() if len(found) == singles}
    if not cells:
        return Finding(
            claim, UNCHECKED, "no cell has paired seeds of `combined` and every single embedding."
        )
    signs = {
        cell: [c.sign if c.a == COMBINED else -c.sign for c in found]
        for cell, found in cells.items()
    }
    gains = {
        cell: min(c.difference.mean if c.a == COMBINED else -c.difference.mean for c in found)
        for cell, found in cells.items()
    }
    better, worse = (
        {cell for cell in cells if test(signs[cell])}
        for test in (lambda s: all(x > 0 for x in s), lambda s: any(x < 0 for x in s))
    )
    detail = (
        f"combined has significantly higher mAP than every single embedding in {len(better)} of "
        f"{len(cells)} "
        f"cells and significantly lower mAP than some in {len(worse)} (paired by seed, "
        f"Holm-adjusted p < "
        f"{ALPHA}). Over the best single embedding it gains {min(gains.values()):+.4f} to "
        f"{max(gains.values()):+.4f} mAP."
    )
    if worse:
        detail += f" It loses at {_cells(worse)}."
    return Finding(
        claim,
        _verdict(len(better), len(worse), len(cells)),
        detail + _powerless([c for found in cells.values() for c in found]),
    )


def gains_flatten(study: Study) -> Finding:
    """Whether mAP gains less per doubling of the training clips beyond K = 10 than up to it."""
    claim = "Gains flatten beyond K = 10"
    before = [k_shot for k_shot in study.grid.k_shot if shot_order(k_shot) < 10]
    beyond = [k_shot for k_shot in study.grid.k_shot if shot_order(k_shot) > 10]
    if 10 not in study.grid.k_shot or not before or not beyond:
        return Finding(
            claim, UNCHECKED, "it takes probes at K = 10, at a smaller and at a larger K."
        )
    shots = [k_shot for k_shot in beyond if k_shot != FULL]
    low, high = max(before, key=shot_order), max(shots or beyond, key=shot_order)
    found, texts = [], []
    for embedding in study.embeddings:
        for n_way in study.grid.n_way:
            early, late = (
                _per_doubling(study, embedding, n_way, *pair) for pair in ((low, 10), (10, high))
            )
            difference = paired_difference(early, late)
            if not difference.n:
                continue
            found.append(Comparison(embedding, "", n_way, high, difference))
            if n_way == max(study.grid.n_way):
                shared = [seed for seed in early if seed in late]
                texts.append(
                    f"{embedding} {np.nanmean([early[s] for s in shared]):+.4f} then "
                    f"{np.nanmean([late[s] for s in shared]):+.4f}"
                )
    if not found:
        return Finding(claim, UNCHECKED, f"no seed has probes at K = {low}, 10 and {high} yet.")
    found = adjusted(found)
    flatter, steeper = (sum(c.sign == sign for c in found) for sign in (1, -1))
    detail = (
        f"mAP gained per doubling of the training clips, K = {low} to 10 against K = 10 to {high}: "
        f"significantly less beyond 10 in {flatter} of {len(found)} cases (embedding × N), "
        f"significantly more "
        f"in {steeper}"
    )
    detail += f"; at N = {max(study.grid.n_way)}: {', '.join(texts)}." if texts else "."
    if not shots:
        detail += (
            " No K lies between 10 and full here: where between them a curve bends is not seen."
        )
    return Finding(claim, _verdict(flatter, steeper, len(found)), detail + _powerless(found))


def flat_over_n(study: Study) -> Finding:
    """Whether mAP at fixed K stays within ±FLAT from the smallest N to the largest, on the whole
    test set.
    """
    claim = "Flat over N at fixed K, on the whole test set"
    least, most = min(study.grid.n_way), max(study.grid.n_way)
    shots = [k_shot for k_shot in study.grid.k_shot if k_shot != FULL]
    if study.test_clips != "all" or least == most or not shots:
        return Finding(
            claim, UNCHECKED, "it takes two values of N, a K in shots, and --test_clips=all."
        )
    cases = [(name, k_shot) for name in study.embeddings for k_shot in shots]
    changes = {
        case: paired_difference(*(study.values(case[0], n, case[1]) for n in (most, least)))
        for case in cases
    }
    changes = {case: change for case, change in changes.items() if change.n > 1}
    if not changes:
        return Finding(
            claim,
            UNCHECKED,
            "no cell has two seeds at both ends of N yet, so no change has an interval.",
        )
    flat = [change for change in changes.values() if change.low >= -FLAT and change.high <= FLAT]
    moved = [change for change in changes.values() if change.low > FLAT or change.high < -FLAT]
    at, largest = max(changes.items(), key=lambda item: abs(item[1].mean))
    drawn = paired_difference(*(study.values(at[0], n, at[1], "chance_mAP") for n in (most, least)))
    same = summarise(list(_on_same_tags(study, *at, least, most).values()))
    detail = (
        f"from N = {least} to {most}, the 95% interval of the change of mAP lies within ±{FLAT} in "
        f"{len(flat)} "
        f"of {len(changes)} cases (embedding × K) and outside it in {len(moved)}; the others are "
        f"undecided. The "
        f"largest change: {at[0]} at K = {at[1]}, {_change(largest)}. Drawing other tags moves "
        f"chance mAP by "
        f"{drawn.mean:+.4f} there; on the {least} tags that both episodes have, mAP changes by "
        f"{_change(same)}."
    )
    return Finding(claim, _verdict(len(flat), len(moved), len(changes)), detail)


def _on_same_tags(
    study: Study, embedding: str, k_shot: KShot, least: int, most: int
) -> dict[int, float]:
    """Seed → mean change of average precision from N = least to most on the tags of the smaller
    episode.
    """
    few, many = (study.rows(embedding, n_way, k_shot) for n_way in (least, most))
    found = {}
    for seed in (seed for seed in few if seed in many):
        wide = {row.tag: row.average_precision for row in study.tags[many[seed].key]}
        changes = [
            wide[row.tag] - row.average_precision
            for row in study.tags[few[seed].key]
            if row.tag in wide
        ]
        defined = [change for change in changes if not math.isnan(change)]
        found[seed] = float(np.mean(defined)) if defined else math.nan
    return found


def _change(value: Difference | Summary) -> str:
    return f"{value.mean:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def _per_doubling(
    study: Study, embedding: str, n_way: int, low: KShot, high: KShot
) -> dict[int, float]:
    """Seed → mAP gained from K = low to high per doubling of the training clips."""
    few, many = (study.rows(embedding, n_way, k_shot) for k_shot in (low, high))
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


def _powerless(comparisons: Sequence[Comparison]) -> str:
    """A warning where the tests could not have been significant whatever the values."""
    tests = Counter((c.n_way, c.k_shot) for c in comparisons)
    weak = sum(2.0 ** (1 - c.difference.n) * tests[c.n_way, c.k_shot] >= ALPHA for c in comparisons)
    repeats = sum(math.isnan(c.difference.p) for c in comparisons)
    text = (
        f" In {weak} of {len(comparisons)} tests the seeds are too few for any p below {ALPHA}."
        if weak
        else ""
    )
    if repeats:
        text += f" {repeats} differences are the same at every seed: repetition, which no test "
        text += "over seeds can judge."
    return text


def _cells(cells: set[tuple[int, KShot]]) -> str:
    ordered = sorted(cells, key=lambda cell: (cell[0], shot_order(cell[1])))
    shown = ", ".join(f"N = {n_way} K = {k_shot}" for n_way, k_shot in ordered[:6])
    return shown + (f" and {len(ordered) - 6} more" if len(ordered) > 6 else "")
