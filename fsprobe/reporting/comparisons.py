"""Comparisons paired by seed, on the same episodes: of the embeddings of a sweep, of two sweeps."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fsprobe.config import KShot
from fsprobe.reporting.statistics import Difference, holm, paired_difference
from fsprobe.reporting.sweep_results import SweepResults

ALPHA = 0.05


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


def compare_embeddings(sweep: SweepResults) -> list[Comparison]:
    """mAP of every pair of embeddings in every cell that both have, p adjusted within each cell."""
    found = []
    for b, a in itertools.combinations(sweep.embeddings, 2):
        for n_way, k_shot in sweep.cells(a):
            difference = paired_difference(
                sweep.values(a, n_way, k_shot), sweep.values(b, n_way, k_shot)
            )
            if difference.n:
                found.append(Comparison(a, b, n_way, k_shot, difference))
    return adjusted(found)


def compare_sweeps(first: SweepResults, other: SweepResults) -> list[Comparison]:
    """`other` less `first` as in `sweep_differences`; a and b name embedding and sweep."""
    return adjusted(
        [
            Comparison(
                named(embedding, other),
                named(embedding, first),
                n_way,
                k_shot,
                difference,
            )
            for (embedding, n_way, k_shot), difference in sweep_differences(first, other).items()
        ]
    )


def sweep_differences(
    first: SweepResults, other: SweepResults, metric: str = "mAP"
) -> dict[tuple[str, int, KShot], Difference]:
    """`other` less `first`, per embedding, N and K that both have, over the seeds whose episodes
    are the same.

    Empty where manifests or test sets differ: such values cannot be compared.
    """
    if mismatch(first, other):
        return {}
    found = {}
    for embedding in (name for name in first.embeddings if name in other.embeddings):
        for n_way, k_shot in first.cells(embedding):
            ours = first.values(embedding, n_way, k_shot, metric)
            theirs = other.values(embedding, n_way, k_shot, metric)
            same = {
                seed: theirs[seed]
                for seed in _same_episodes(first, other, n_way, k_shot)
                if seed in theirs
            }
            difference = paired_difference(same, ours)
            if difference.n:
                found[embedding, n_way, k_shot] = difference
    return found


def named(embedding: str, sweep: SweepResults) -> str:
    """What a comparison of sweeps calls a side."""
    return f"{embedding} ({sweep.label})"


def _same_episodes(
    first: SweepResults, other: SweepResults, n_way: int, k_shot: KShot
) -> list[int]:
    """The seeds at which both sweeps have the same tags and support clips."""
    return [
        seed
        for seed in first.grid.seeds
        if seed in other.grid.seeds
        and (support := first.support(n_way, k_shot, seed))
        and support == other.support(n_way, k_shot, seed)
    ]


def mismatch(first: SweepResults, other: SweepResults) -> str:
    """Why the metrics of two sweeps do not compare; empty if they do."""
    if first.manifest != other.manifest:
        return "their manifests differ"
    if first.test_clips != other.test_clips:
        return f"their test sets differ (--test_clips={first.test_clips} and {other.test_clips})"
    if first.clips and other.clips and first.clips != other.clips:
        return "their clips differ (--missing=drop leaves out what a store lacks)"
    return ""


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with Holm's p over those of each cell.

    Not over all cells together: with few seeds no p is small enough for hundreds of tests, however
    large the difference.
    """
    cells: dict[tuple[int, KShot], list[int]] = {}
    for i, comparison in enumerate(comparisons):
        cells.setdefault((comparison.n_way, comparison.k_shot), []).append(i)
    found = list(comparisons)
    for members in cells.values():
        for i, p in zip(members, holm([comparisons[i].difference.p for i in members]), strict=True):
            found[i] = replace(comparisons[i], holm=p)
    return found
