"""Linear heads beside the baselines: every metric of sweeps that differ in their solver, and paired
differences to the first linear head.
"""

from collections import Counter
from collections.abc import Sequence

from fsprobe.config import KShot, shot_order
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.pages.blocks import Block, Figure, Heading, Table
from fsprobe.reporting.comparisons import compare_sweeps, named
from fsprobe.reporting.formatting import (
    INTERVAL,
    METRICS,
    Style,
    caption,
    difference_cells,
    ends,
    interval,
    most_seeds,
    seeds_behind,
    slug,
    with_values,
)
from fsprobe.reporting.plots import curves
from fsprobe.reporting.sweep_results import SweepResults, grouped

SCORES = {**METRICS, "macro_f1": "macro F1", "micro_f1": "micro F1"}

Cell = tuple[str, int, KShot]  # embedding, n_way, k_shot


def solvers(sweeps: Sequence[SweepResults], style: Style) -> list[Block]:
    """A comparison for each group of sweeps with one manifest and test set, if a baseline and
    something else are among them.
    """
    alike = grouped(sweeps, lambda sweep: (sweep.manifest, sweep.test_clips))
    groups = [group for group in alike if len(group) > 1 and any(map(_is_baseline, group))]
    blocks: list[Block] = []
    for i, group in enumerate(groups):
        prefix = f"solvers_{i + 1}_" if len(groups) > 1 else "solvers_"
        blocks += _comparison(group, prefix)
    return [Heading(style.level, "Linear heads and baselines"), *blocks] if blocks else []


def _comparison(group: Sequence[SweepResults], prefix: str) -> list[Block]:
    """The reference first, then the others in the order given."""
    first = next(filter(_is_linear_head, group), group[0])
    ordered = [first, *(sweep for sweep in group if sweep is not first)]
    names = _names(ordered)
    cells = _cells(ordered)
    if not cells:
        return []
    figures = [
        figure
        for embedding in dict.fromkeys(cell[0] for cell in cells)
        for figure in _figure(ordered, names, [c for c in cells if c[0] == embedding], prefix)
    ]
    return [*figures, _values(ordered, names, cells), *_differences(ordered, names, cells)]


def _is_baseline(sweep: SweepResults) -> bool:
    return sweep.solver in SOLVERS and SOLVERS[sweep.solver].baseline


def _is_linear_head(sweep: SweepResults) -> bool:
    hidden = sweep.configuration["solver"].get("hidden", 0)
    return sweep.solver in SOLVERS and not _is_baseline(sweep) and not hidden


def _names(sweeps: Sequence[SweepResults]) -> list[str]:
    """A name for each: its solver, with the folder where several have that solver."""
    all_solvers = [sweep.solver for sweep in sweeps]
    return [
        sweep.solver if all_solvers.count(sweep.solver) == 1 else f"{sweep.solver} ({sweep.label})"
        for sweep in sweeps
    ]


def _cells(sweeps: Sequence[SweepResults]) -> list[Cell]:
    """Those of two sweeps or more, by embedding, N and K."""
    found = Counter(
        (name, *cell) for sweep in sweeps for name in sweep.embeddings for cell in sweep.cells(name)
    )
    embeddings = list(dict.fromkeys(name for name, *_ in found))
    return sorted(
        (cell for cell, count in found.items() if count > 1),
        key=lambda cell: (embeddings.index(cell[0]), cell[1], shot_order(cell[2])),
    )


def _figure(
    sweeps: Sequence[SweepResults], names: Sequence[str], cells: Sequence[Cell], prefix: str
) -> list[Block]:
    """mAP over K at the largest N, a line per solver; nothing for a single K or without any value.
    cells: of one embedding.
    """
    embedding, n_way = cells[0][0], max(n_way for _, n_way, _ in cells)
    k_shots = [k_shot for _, n, k_shot in cells if n == n_way]
    series = with_values(
        {
            name: [sweep.summary(embedding, n_way, k_shot) for k_shot in k_shots]
            for name, sweep in zip(names, sweeps, strict=True)
        }
    )
    if len(k_shots) < 2 or not series:
        return []
    chance = [sweeps[0].chance([embedding], [n_way], [k_shot]) for k_shot in k_shots]
    where = caption(
        sweeps[0],
        [n_way],
        k_shots,
        seeds_behind(series),
        solver=", ".join(series),
        seeds=most_seeds(sweeps),
    )
    return [
        Figure(
            f"{prefix}{slug(embedding)}",
            f"Line chart of mAP of {embedding} over K per solver: {ends(series, k_shots)}.",
            f"{embedding}: mAP against K per solver; lines: mean, bars: {INTERVAL}. {where}",
            lambda: curves(series, k_shots, "mAP", chance),
        )
    ]


def _values(sweeps: Sequence[SweepResults], names: Sequence[str], cells: Sequence[Cell]) -> Table:
    rows, counts = [], []
    for embedding, n_way, k_shot in cells:
        for name, sweep in zip(names, sweeps, strict=True):
            if sweep.rows(embedding, n_way, k_shot):
                values = [sweep.summary(embedding, n_way, k_shot, metric) for metric in SCORES]
                counts.append(values[0].n)
                rows.append([embedding, name, str(n_way), str(k_shot), *map(interval, values)])
    text = (
        f"Linear heads and baselines: mean [{INTERVAL}]. F1 is taken at each tag's best threshold "
        "on the support set, for lc_protonets too, whose paper instead takes the labels of the "
        f"nearest prototype. {_settings(sweeps, names)} Folders: "
        f"{', '.join(sweep.label for sweep in sweeps)}. {_where(sweeps, cells, counts)}"
    )
    return Table(text, ["embedding", "solver", "N", "K", *SCORES.values()], rows, left=2)


def _settings(sweeps: Sequence[SweepResults], names: Sequence[str]) -> str:
    """What chose each solver's strengths or epochs, and how its features were standardised."""
    how = [
        f"{name}: validation {sweep.validation}, standardize "
        f"{sweep.configuration['solver'].get('standardize', 'none')}"
        for name, sweep in zip(names, sweeps, strict=True)
    ]
    clips = sweeps[0].clips.get("valid")
    labelled = f"{clips:,} labelled validation clips" if clips else "labelled validation clips"
    seen = any(sweep.validation == "valid" for sweep in sweeps)
    means = f" (valid: strengths or epochs were chosen on {labelled})" if seen else ""
    return f"Settings{means}: {'; '.join(how)}."


def _differences(
    sweeps: Sequence[SweepResults], names: Sequence[str], cells: Sequence[Cell]
) -> list[Block]:
    """Every other sweep less the first, on the episodes that both have."""
    found = {metric: compare_sweeps(sweeps[0], sweeps[1:], metric) for metric in SCORES}
    rows, counts = [], []
    for embedding, n_way, k_shot in cells:
        for name, sweep in list(zip(names, sweeps, strict=True))[1:]:
            key = (named(embedding, sweep), n_way, k_shot)
            pairs = [found[metric].get(key) for metric in SCORES]
            if seeds := max((pair.difference.n for pair in pairs if pair), default=0):
                counts.append(seeds)
                texts = [text for pair in pairs for text in difference_cells(pair)]
                rows.append([embedding, name, str(n_way), str(k_shot), str(seeds), *texts])
    if not rows:
        return []
    header = [part for title in SCORES.values() for part in (title, "Holm p")]
    text = (
        f"Each solver less {names[0]}, over the seeds whose episodes are the same in both: mean "
        f"[{INTERVAL}], and p of a paired permutation test (sign flips, two-sided) after Holm's "
        "correction over the rows of each N and K, metric by metric. A dash for p: the difference "
        f"is the same at every seed. {_where(sweeps, cells, counts)}"
    )
    return [Table(text, ["embedding", "solver", "N", "K", "seeds", *header], rows, left=2)]


def _where(sweeps: Sequence[SweepResults], cells: Sequence[Cell], counts: Sequence[int]) -> str:
    n_ways, k_shots = (n_way for _, n_way, _ in cells), (k_shot for *_, k_shot in cells)
    made = ", ".join(dict.fromkeys(sweep.solver for sweep in sweeps))
    return caption(sweeps[0], n_ways, k_shots, counts, solver=made, seeds=most_seeds(sweeps))
