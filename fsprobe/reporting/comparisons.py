"""Comparisons paired by seed, on the same episodes: of the embeddings of a sweep, of two sweeps."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fsprobe.config import KShot
from fsprobe.reporting.statistics import Summary, holm, paired_difference
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
    difference: Summary
    holm: float = math.nan

    @property
    def sign(self) -> int:
        """1 or −1 where the difference is significant after adjustment, else 0."""
        return int(np.sign(self.difference.mean)) if self.holm < ALPHA else 0


Pairs = Mapping[tuple[str, int, KShot], Comparison]  # (Comparison.a, N, K) → it


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


def compare_sweeps(
    first: SweepResults, others: Iterable[SweepResults], metric: str = "mAP"
) -> Pairs:
    """Each of `others` less `first`, per embedding, N and K that both have, over the seeds whose
    episodes are the same; p adjusted within each cell, over all of them.

    a and b are `named`. Of a sweep whose manifest or test set is another there is nothing: such
    values cannot be compared.
    """
    found = [
        Comparison(
            named(embedding, other),
            named(embedding, first),
            n_way,
            k_shot,
            paired_difference(
                _on_same_episodes(first, other, embedding, n_way, k_shot, metric),
                first.values(embedding, n_way, k_shot, metric),
            ),
        )
        for other in others
        if not mismatch(first, other)
        for embedding in first.embeddings
        if embedding in other.embeddings
        for n_way, k_shot in first.cells(embedding)
    ]
    pairs = adjusted([pair for pair in found if pair.difference.n])
    return {(pair.a, pair.n_way, pair.k_shot): pair for pair in pairs}


def _on_same_episodes(
    first: SweepResults,
    other: SweepResults,
    embedding: str,
    n_way: int,
    k_shot: KShot,
    metric: str,
) -> dict[int, float]:
    """`other.values` at the seeds at which both have the same tags and support clips."""
    return {
        seed: value
        for seed, value in other.values(embedding, n_way, k_shot, metric).items()
        if (support := first.support(n_way, k_shot, seed))
        and support == other.support(n_way, k_shot, seed)
    }


def named(embedding: str, sweep: SweepResults) -> str:
    """What a comparison of sweeps calls a side."""
    return f"{embedding} ({sweep.label})"


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
    cells: defaultdict[tuple[int, KShot], list[float]] = defaultdict(list)
    for pair in comparisons:
        cells[pair.n_way, pair.k_shot].append(pair.difference.p)
    corrected = {cell: iter(holm(p_values)) for cell, p_values in cells.items()}
    return [replace(pair, holm=next(corrected[pair.n_way, pair.k_shot])) for pair in comparisons]
