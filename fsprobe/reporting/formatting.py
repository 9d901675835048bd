"""How the report writes numbers, intervals, p-values and captions."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fsprobe.config import KShot, shot_order
from fsprobe.pages.blocks import Table
from fsprobe.reporting.comparisons import Comparison
from fsprobe.reporting.statistics import Summary
from fsprobe.reporting.sweep_results import SweepResults
from fsprobe.study.records import cut_note

INTERVAL = "95% bootstrap-t interval of the mean over seeds"
METRICS = {"mAP": "mAP", "roc_auc": "ROC-AUC"}

Series = Mapping[str, Sequence[Summary]]  # name → a value per K


@dataclass(frozen=True)
class Style:
    """level: of the sections' headings. prefix: of figure names. half_width: of mAP, for which the
    report counts the seeds needed.
    """

    level: int = 2
    prefix: str = ""
    half_width: float = 0.005


def caption(
    sweep: SweepResults,
    n_ways: Iterable[int],
    k_shots: Iterable[KShot],
    counts: Sequence[int],
    tags: str = "",
    solver: str = "",
    seeds: int = 0,
) -> str:
    """Data set, split, N, K, seeds, solver and test set. n_ways, k_shots: of what is shown, in any
    order. counts: seeds behind every point shown.

    tags, solver, seeds: the pool, the solver and the seeds asked for where they are not the
    sweep's.
    """
    split = f"{sweep.clips.get('train', 0):,} training clips, " if sweep.clips else ""
    return (
        f"Data: {sweep.dataset} ({split}tags: {tags or sweep.grid.tags}); "
        f"N = {listed(sorted({*n_ways}))}; K = {listed(sorted({*k_shots}, key=shot_order))}; "
        f"{seed_count(counts, seeds or sweep.grid.num_seeds)}; solver {solver or sweep.solver}; "
        f"test set: {test_set(sweep)}."
    )


def caption_of(sweep: SweepResults, pairs: Sequence[Comparison], solver: str = "") -> str:
    """`caption` of a table of comparisons."""
    return caption(
        sweep,
        (pair.n_way for pair in pairs),
        (pair.k_shot for pair in pairs),
        [pair.difference.n for pair in pairs],
        solver=solver,
    )


def seed_count(counts: Sequence[int], planned: int) -> str:
    """`20 seeds`, or `3–5 of 20 seeds`: the fewest and the most behind any point that has some;
    then how many points have none.
    """
    found = [count for count in counts if count]
    low, high = min(found, default=0), max(found, default=0)
    if low == planned:
        text = f"{planned} seeds" if planned > 1 else "1 seed: no interval"
    else:
        text = f"{low}–{high} of {planned} seeds" if high > low else f"{low} of {planned} seeds"
    bare = len(counts) - len(found)
    return text + (f", {bare} of {len(counts)} values without any" if bare else "")


def most_seeds(sweeps: Iterable[SweepResults]) -> int:
    """Asked for by the sweep of the most: of sweeps side by side, each has its own number."""
    return max(sweep.grid.num_seeds for sweep in sweeps)


def test_set(sweep: SweepResults) -> str:
    count = f"{sweep.clips['test']:,} " if sweep.clips.get("test") else ""
    if sweep.test_clips == "all":
        return f"all {count}test clips"
    return f"those of the {count}test clips with at least one of the N tags"


def simplified(sweep: SweepResults) -> str:
    """Of how many probes the solver left something out, and what; empty for none."""
    note = cut_note(sweep.solver, list(sweep.solver_rows.values()), len(sweep.probes))
    return note and f"{note}."


def missing_probes(sweep: SweepResults) -> list[str]:
    """Per embedding, which probes have no row; empty where none is missing."""
    items = []
    for name, keys in sweep.missing.items():
        seeds = dict.fromkeys((key.n_way, key.k_shot, key.seed) for key in keys)
        cells = Counter((n_way, k_shot) for n_way, k_shot, _ in seeds)
        shown = ", ".join(
            f"N = {n} K = {k}: {count} of {sweep.grid.num_seeds} seeds"
            for (n, k), count in list(cells.items())[:6]
        )
        more = f" and {len(cells) - 6} more cells" if len(cells) > 6 else ""
        items.append(
            f"Missing: {len(keys):,} probes of {name} ({shown}{more}). "
            "The sweep's command, run again, adds them."
        )
    return items


def notes_of(sweeps: Sequence[SweepResults]) -> list[str]:
    """What is missing of each sweep and what its solver left out, with the sweep's name."""
    return [
        f"{sweep.label}: {note}"
        for sweep in sweeps
        for note in (*missing_probes(sweep), simplified(sweep))
        if note
    ]


def interval(value: Summary, sign: str = "") -> str:
    """`0.3386 [0.3362, 0.3410]`, the mean alone for one seed, a dash for none. sign: `+` for
    `+0.0120 [+0.0080, +0.0161]`.
    """
    if not value.n:
        return "–"
    bounds = f" [{value.low:{sign}.4f}, {value.high:{sign}.4f}]" if value.n > 1 else ""
    return f"{value.mean:{sign}.4f}{bounds}"


def difference_cells(pair: Comparison | None) -> tuple[str, str]:
    """The difference with its interval and Holm's p; dashes for no pair."""
    return (interval(pair.difference, "+"), p_value(pair.holm)) if pair else ("–", "–")


def difference_table(text: str, pairs: Sequence[Comparison]) -> Table:
    """Both sides, N, K, seeds, difference with interval, std, p and Holm's p."""
    header = ("a", "b", "N", "K", "seeds", "difference", "std", "p", "Holm p")
    rows = [
        [
            *(pair.a, pair.b, str(pair.n_way), str(pair.k_shot), str(pair.difference.n)),
            *(interval(pair.difference, "+"), number(pair.difference.std)),
            *(p_value(pair.difference.p), p_value(pair.holm)),
        ]
        for pair in pairs
    ]
    return Table(text, header, rows, left=2)


def slug(name: str) -> str:
    """A name as part of a file name."""
    safe = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return safe.strip("_").lower() or "x"


def seeds_behind(series: Series) -> list[int]:
    """Of every point, for a caption."""
    return [point.n for points in series.values() for point in points]


def ends(series: Series, k_shots: Sequence[KShot], before: str = "", between: str = ", ") -> str:
    """Each series' value at the first and at the last K, in words."""
    return "; ".join(
        f"{name} {before}{number(points[0].mean)} at K = {k_shots[0]}{between}"
        f"{number(points[-1].mean)} at K = {k_shots[-1]}"
        for name, points in series.items()
    )


def with_values(series: Series) -> Series:
    """The series with at least one point."""
    return {name: points for name, points in series.items() if any(point.n for point in points)}


def listed(values: Iterable[KShot]) -> str:
    return ", ".join(map(str, values))


def some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def p_value(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
