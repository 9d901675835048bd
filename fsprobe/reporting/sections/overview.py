"""What was run, what is missing of it, where it comes from, and how far the solver converged."""

import math

from fsprobe.features import COMBINED
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.pages.blocks import Block, Bullets, Heading, Paragraph, Table
from fsprobe.reporting.formatting import (
    Style,
    listed,
    missing_probes,
    simplified,
    some,
    test_set,
)
from fsprobe.reporting.sweep_results import SweepResults
from fsprobe.study.tables import SolverRow

# What a report without the file lacks.
_NEEDS = {
    "tags.csv": "tag counts, the long tail and training positives are",
    "cooccurrence.csv": "co-occurrence is",
    "weight_norms": "weight shares (Fig. 3) and norm correlations (Fig. 4, bottom) are",
}


def what_was_run(sweep: SweepResults, style: Style) -> list[Block]:
    """The data, the grid and the solver; what is missing of it; what it was made from."""
    return [
        Heading(style.level, "What was run"),
        Bullets(_run_items(sweep)),
        *_missing(sweep),
        *_provenance(sweep),
    ]


def _run_items(sweep: SweepResults) -> list[str]:
    clips = [f"{sweep.clips.get(split, 0):,}" for split in ("train", "valid", "test")]
    seeds, grid = sweep.grid.seeds, sweep.grid
    settings = sweep.configuration["solver"]
    heeded = SOLVERS[sweep.solver].settings if sweep.solver in SOLVERS else settings.keys()
    solver = {key: value for key, value in settings.items() if key in heeded}
    items = [
        f"Data: {sweep.dataset}; clips in train / valid / test: "
        f"{' / '.join(clips) if sweep.clips else '–'}; tags drawn from: {grid.tags}.",
        f"Embeddings: {', '.join(sweep.embeddings)}.",
        f"Grid: N = {listed(grid.n_way)}; K = {listed(grid.k_shot)}; "
        f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]}), scarce tags: {grid.on_scarce}.",
        f"Test set: {test_set(sweep)}.",
        f"Solver: {sweep.solver} ({', '.join(f'{key} {value}' for key, value in solver.items())}).",
        f"Probes: {len(sweep.probes):,} of "
        f"{sum(len(sweep.keys(name)) for name in sweep.embeddings):,}.",
    ]
    if sweep.words.directory:
        (way, _), (_, prior) = sweep.words.variants(0)[0], sweep.words.variants(1)[0]
        shown = [f"K = 0 is by {way}"] if 0 in grid.k_shot else []
        shown += [f"the prior of K in shots is {prior}"] if grid.max_shot else []
        if shown:
            items.append(f"Outside of the sections on words, {' and '.join(shown)}.")
    patience = 0 if sweep.validation == "none" else solver.get("patience", math.inf)
    stalled = [
        row
        for row in sweep.probes.values()
        if row.epochs == solver.get("max_epochs") and row.epochs - row.best_epoch < patience
    ]
    if stalled:
        items.append(
            f"{len(stalled):,} of {len(sweep.probes):,} probes were still improving or within "
            f"their patience at the last epoch allowed ({solver['max_epochs']})."
        )
    if note := simplified(sweep):
        items.append(note)
    return items


def _missing(sweep: SweepResults) -> list[Block]:
    """What is absent from the rows, if anything is."""
    items, rows = missing_probes(sweep), sweep.probes.values()
    if sweep.unscored:
        items.append(
            f"Empty metrics: {sum(sweep.unscored.values()):,} of "
            f"{sum(map(len, sweep.tags.values())):,} rows of per_tag.csv, of "
            f"{len(sweep.unscored)} tag(s) without a positive or without a negative test clip "
            f"({some(sorted(sweep.unscored))}). They are left out of every mean."
        )
    if diverged := sum(row.diverged for row in rows):
        items.append(
            f"Diverged: {diverged:,} probes never had a finite validation loss. Their metrics are "
            "empty, and left out of every mean."
        )
    if empty := sum(math.isnan(row.mAP) and not row.diverged for row in rows):
        items.append(f"{empty:,} probes have no mAP at all: none of their tags has a metric.")
    items += [f"{file} is not in the folder: {_NEEDS[file]} left out." for file in sweep.absent]
    if sweep.norms and COMBINED in sweep.norms and not sweep.parts:
        items.append("run.json does not record the parts of combined: Fig. 3 is left out.")
    return [Paragraph("Missing or empty:"), Bullets(items)] if items else []


def _provenance(sweep: SweepResults) -> list[Block]:
    run = sweep.run
    stores = ", ".join(f"{name} {digest[:16]}…" for name, digest in sweep.stores.items())
    versions = [f"{name} {version}" for name, version in (run.get("versions") or {}).items()]
    commit = str(run.get("git_commit") or "not recorded")[:12]
    devices = dict.fromkeys(map(str, run.get("devices") or ["unrecorded devices"]))
    seconds = float(run.get("wall_time_s") or 0)
    items = [
        f"Manifest SHA-256 {sweep.manifest[:16]}…; stores: {stores}.",
        f"Versions: {', '.join(versions) or 'not recorded'}; commit {commit}; "
        f"on {', '.join(devices)}; {seconds:,.0f} s.",
    ]
    return [Paragraph("Made from:"), Bullets(items)]


def convergence(sweep: SweepResults, style: Style) -> list[Block]:
    """How far a converged solver converged."""
    rows = []
    for name in sweep.embeddings:
        for k_shot in sweep.grid.k_shot:
            mine = [
                row
                for key, row in sweep.solver_rows.items()
                if (key.embedding, key.k_shot) == (name, k_shot) and not math.isnan(row.l2)
            ]
            if mine:
                rows.append([name, str(k_shot), *_convergence_cells(mine)])
    if not rows:
        return []
    return [
        Heading(style.level, "Convergence"),
        Table(
            f"The strengths (l2) that {sweep.solver} chose and how far it converged, over every N "
            "and seed.",
            [
                *("embedding", "K", "probes", "least l2", "median l2", "greatest l2"),
                *("greatest gradient norm", "most iterations", "not converged"),
            ],
            rows,
        ),
    ]


def _convergence_cells(rows: list[SolverRow]) -> list[str]:
    l2 = sorted(row.l2 for row in rows)
    judged = [row for row in rows if not math.isnan(row.gap)]  # not by older versions
    return [
        str(len(rows)),
        *(f"{value:.3g}" for value in (l2[0], l2[len(l2) // 2], l2[-1])),
        f"{max(row.gradient_norm for row in rows):.2g}",
        str(max(row.iterations for row in rows)),
        str(sum(not row.converged for row in judged)) if judged else "–",
    ]
