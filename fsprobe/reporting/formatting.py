"""How the report words things: captions, numbers, intervals, p-values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fsprobe.config import KShot
from fsprobe.reporting.comparisons import Comparison
from fsprobe.reporting.statistics import Summary
from fsprobe.reporting.study import Study

INTERVAL = "95% bootstrap-t interval of the mean over seeds"
METRICS = {"mAP": "mAP", "roc_auc": "ROC-AUC"}


@dataclass(frozen=True)
class Style:
    """level of the sections' headings; prefix of figure names; half_width of mAP that seeds are
    counted for.
    """

    level: int = 2
    prefix: str = ""
    half_width: float = 0.005


def caption(
    study: Study,
    n_ways: Sequence[int],
    k_shots: Sequence[KShot],
    counts: Sequence[int],
    tags: str = "",
    solver: str = "",
) -> str:
    """Data set, split, N, K, seeds and test set. counts: seeds behind every point that is shown;
    tags: the pool.

    tags, solver: where they are not the study's.
    """
    clips = study.clips
    split = f"{clips.get('train', 0):,} training clips, " if clips else ""
    return (
        f"Data: {study.dataset} ({split}tags: {tags or study.grid.tags}); N = {listed(n_ways)}; K "
        f"= "
        f"{listed(k_shots)}; {seed_count(counts, study.grid.num_seeds)}; solver "
        f"{solver or study.solver}; "
        f"test set: {test_set(study)}."
    )


def seed_count(counts: Sequence[int], planned: int) -> str:
    """`20 seeds`, `3–5 of 20 seeds`: from the least to the most that a shown point has; points
    without are told.
    """
    found = [count for count in counts if count]
    low, high = min(found, default=0), max(found, default=0)
    if low == planned:
        text = f"{planned} seeds" if planned > 1 else "1 seed: no interval"
    else:
        text = f"{low}–{high} of {planned} seeds" if high > low else f"{low} of {planned} seeds"
    bare = len(counts) - len(found)
    return text + (f", {bare} of {len(counts)} values without any" if bare else "")


def test_set(study: Study) -> str:
    count = f"{study.clips['test']:,} " if study.clips.get("test") else ""
    return (
        f"all {count}test clips"
        if study.test_clips == "all"
        else f"those of the {count}test clips with at least one of the N tags"
    )


def interval(summary: Summary) -> str:
    """`0.3386 [0.3362, 0.3410]`, the mean alone for one seed, a dash for none."""
    if not summary.n:
        return "–"
    return f"{summary.mean:.4f}" + (
        f" [{summary.low:.4f}, {summary.high:.4f}]" if summary.n > 1 else ""
    )


def difference_cells(pair: Comparison) -> list[str]:
    """Seeds, difference with interval, std, p and Holm p."""
    d = pair.difference
    text = f"{d.mean:+.4f}" + (f" [{d.low:+.4f}, {d.high:+.4f}]" if d.n > 1 else "")
    return [str(d.n), text, number(d.std), p_value(d.p), p_value(pair.holm)]


def slug(name: str) -> str:
    """A name as part of a file name."""
    return (
        "".join(c if c.isascii() and c.isalnum() else "_" for c in name).strip("_").lower() or "x"
    )


def listed(values: Sequence[KShot]) -> str:
    return ", ".join(map(str, values))


def some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def p_value(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
