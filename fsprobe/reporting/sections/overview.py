"""The report's sections on a study as a whole: what was run, what is missing, findings,
comparisons, convergence.
"""

import math
from collections.abc import Iterable, Sequence

from fsprobe.config import KShot
from fsprobe.features import COMBINED
from fsprobe.reporting import comparisons as compare
from fsprobe.reporting import paper_experiments as experiments
from fsprobe.reporting.blocks import Block, Bullets, Heading, Paragraph, Table
from fsprobe.reporting.grid_table import shot_order
from fsprobe.reporting.phrases import (
    INTERVAL,
    Style,
    caption,
    difference_cells,
    listed,
    number,
    some,
    test_set,
)
from fsprobe.reporting.statistics import seeds_needed, summarise
from fsprobe.reporting.study import Study


def probes(study: Study, style: Style) -> list[Block]:
    """Everything about the probes of one study."""
    pairs = compare.compare_embeddings(study)
    return [
        *overview(study, style),
        *finding_blocks(study, pairs, style),
        *experiments.all_of(study, style),
        *difference_table(study, pairs, style),
        *seed_table(study, style),
        *solver_table(study, style),
    ]


def overview(study: Study, style: Style) -> list[Block]:
    """What was run, and what is missing of it."""
    planned = sum(len(study.keys(name)) for name in study.embeddings)
    clips = (
        " / ".join(f"{study.clips.get(split, 0):,}" for split in ("train", "valid", "test"))
        if study.clips
        else "–"
    )
    seeds = study.grid.seeds
    solver = {
        key: value
        for key, value in study.configuration["solver"].items()
        if key in _SETTINGS[study.solver]
    }
    stalled = [row for row in study.probes.values() if row.epochs == solver.get("max_epochs")]
    items = [
        f"Data: {study.dataset}; clips in train / valid / test: {clips}; tags drawn from: "
        f"{study.grid.tags}.",
        f"Embeddings: {', '.join(study.embeddings)}.",
        f"Grid: N = {listed(study.grid.n_way)}; K = {listed(study.grid.k_shot)}; {len(seeds)} "
        f"seeds ({seeds[0]} to "
        f"{seeds[-1]}), scarce tags: {study.grid.on_scarce}.",
        f"Test set: {test_set(study)}.",
        f"Solver: {study.solver} ({', '.join(f'{key} {value}' for key, value in solver.items())}).",
        f"Probes: {len(study.probes):,} of {planned:,}.",
    ]
    if study.solver == "adam" and stalled:
        items.append(
            f"{len(stalled):,} of {len(study.probes):,} probes were still improving or within "
            f"their patience "
            f"at the last epoch allowed ({solver['max_epochs']})."
        )
    return [
        Heading(style.level, "What was run"),
        Bullets(items),
        *_missing(study),
        *_provenance(study),
    ]


_SETTINGS = {
    "adam": (
        "learning_rate",
        "weight_decay",
        "batch_size",
        "max_epochs",
        "patience",
        "restore_best",
        "hidden",
        "standardize",
        "matmul_precision",
    ),
    "lbfgs": ("l2", "standardize", "matmul_precision"),
}  # what each solver heeds


def finding_blocks(study: Study, pairs: Sequence[compare.Comparison], style: Style) -> list[Block]:
    """The paper's qualitative findings, checked on these rows."""
    found = compare.findings(study, pairs)
    return [
        Heading(style.level, "The paper's findings, checked on these rows"),
        Bullets(
            [f"{finding.claim}. {finding.verdict.upper()}: {finding.detail}" for finding in found]
        ),
    ]


def difference_table(
    study: Study, pairs: Sequence[compare.Comparison], style: Style
) -> list[Block]:
    """Paired differences between embeddings at the largest N."""
    n_way = max((pair.n_way for pair in pairs), default=0)
    shown = [pair for pair in pairs if pair.n_way == n_way]
    if not shown:
        return []
    significant = sum(bool(pair.sign) for pair in pairs)
    return [
        Heading(style.level, "Differences between embeddings"),
        Table(
            f"mAP of a less mAP of b on the same episodes: mean [{INTERVAL}], p of a paired "
            f"permutation test (sign flips, "
            "two-sided), and p after Holm's correction over the pairs of the cell. Shown is the "
            "largest N; over all "
            f"cells {significant} of {len(pairs)} comparisons are below {compare.ALPHA}. A dash "
            f"for p: the difference is "
            "the same at every seed, which no test over seeds can judge. "
            + caption(study, [n_way], _shots(shown), [pair.difference.n for pair in shown]),
            ["a", "b", "N", "K", "seeds", "difference", "std", "p", "Holm p"],
            [
                [pair.a, pair.b, str(pair.n_way), str(pair.k_shot), *difference_cells(pair)]
                for pair in shown
            ],
            left=2,
        ),
    ]


def seed_table(study: Study, style: Style) -> list[Block]:
    """How many seeds an interval of the asked width takes, at the largest N."""
    n_way = max(study.grid.n_way)
    rows, counts, k_shots = [], [], []
    for name in study.embeddings:
        for k_shot in study.grid.k_shot:
            values = summarise(list(study.values(name, n_way, k_shot).values()))
            if values.n:
                needed = seeds_needed(values.std, style.half_width)
                rows.append(
                    [
                        name,
                        str(k_shot),
                        str(values.n),
                        number(values.std),
                        number(values.half_width),
                        "–" if needed is None else f"{needed:,}",
                    ]
                )
                counts.append(values.n)
                k_shots.append(k_shot)
    if not rows:
        return []
    return [
        Heading(style.level, "Seeds needed"),
        Table(
            f"Seeds for a 95% interval of ±{style.half_width} mAP, from the standard deviation "
            f"seen here (itself known to "
            "about ±35% from 5 seeds, ±16% from 20; the count goes with its square). A dash: one "
            "seed shows no "
            "deviation. " + caption(study, [n_way], list(dict.fromkeys(k_shots)), counts),
            ["embedding", "K", "seeds", "std", "half width now", "seeds needed"],
            rows,
        ),
    ]


def solver_table(study: Study, style: Style) -> list[Block]:
    """How far a converged solver converged."""
    rows = []
    for name in study.embeddings:
        for k_shot in study.grid.k_shot:
            mine = [
                row
                for key, row in study.solver_rows.items()
                if (key.embedding, key.k_shot) == (name, k_shot)
            ]
            if mine:
                l2 = sorted(row.l2 for row in mine if not math.isnan(row.l2))
                spread = (
                    [f"{value:.3g}" for value in (l2[0], l2[len(l2) // 2], l2[-1])]
                    if l2
                    else ["–"] * 3
                )
                rows.append(
                    [
                        name,
                        str(k_shot),
                        str(len(mine)),
                        *spread,
                        f"{max(row.gradient_norm for row in mine):.2g}",
                        str(max(row.iterations for row in mine)),
                    ]
                )
    if not rows:
        return []
    return [
        Heading(style.level, "Convergence"),
        Table(
            f"What {study.solver} chose and reached, over every N and seed.",
            [
                "embedding",
                "K",
                "probes",
                "least l2",
                "median l2",
                "greatest l2",
                "greatest gradient norm",
                "most iterations",
            ],
            rows,
        ),
    ]


def _missing(study: Study) -> list[Block]:
    """What is absent from the rows, if anything is."""
    items = []
    for name, keys in study.missing.items():
        cells: dict[tuple[int, KShot], int] = {}
        for key in keys:
            cells[key.n_way, key.k_shot] = cells.get((key.n_way, key.k_shot), 0) + 1
        told = ", ".join(
            f"N = {n} K = {k}: {count} of {study.grid.num_seeds} seeds"
            for (n, k), count in list(cells.items())[:6]
        )
        more = f" and {len(cells) - 6} more cells" if len(cells) > 6 else ""
        items.append(
            f"Missing: {len(keys):,} probes of {name} ({told}{more}). The sweep's command, run "
            f"again, adds "
            "them."
        )
    if study.unscored:
        rows = sum(study.unscored.values())
        total = sum(map(len, study.tags.values()))
        names = sorted(study.unscored)
        items.append(
            f"Empty metrics: {rows:,} of {total:,} rows of per_tag.csv, of {len(names)} tag(s) "
            f"without a "
            f"positive or without a negative test clip ({some(names)}). They are left out of every "
            f"mean."
        )
    empty = sum(math.isnan(row.mAP) for row in study.probes.values())
    if empty:
        items.append(f"{empty:,} probes have no mAP at all: none of their tags has a metric.")
    for file in study.absent:
        items.append(f"{file} is not in the folder: {_NEEDS[file]} left out.")
    if study.norms and COMBINED in study.norms and not study.parts:
        items.append("run.json does not record the parts of combined: Fig. 3 is left out.")
    return [Paragraph("Missing or empty:"), Bullets(items)] if items else []


_NEEDS = {
    "tags.csv": "tag counts, the long tail and training positives are",
    "cooccurrence.csv": "co-occurrence is",
    "weight_norms": "weight shares (Fig. 3) and norm correlations (Fig. 4, bottom) are",
}


def _provenance(study: Study) -> list[Block]:
    run = study.run
    versions = ", ".join(
        f"{name} {version}" for name, version in (run.get("versions") or {}).items()
    )
    devices = dict.fromkeys(map(str, run.get("devices") or ["unrecorded devices"]))
    return [
        Paragraph("Made from and with:"),
        Bullets(
            [
                f"Manifest SHA-256 {study.manifest[:16]}…; stores: "
                + ", ".join(f"{name} {digest[:16]}…" for name, digest in study.stores.items())
                + ".",
                f"Versions: {versions or 'not recorded'}; commit "
                f"{str(run.get('git_commit') or 'not recorded')[:12]}; "
                f"on {', '.join(devices)}; "
                f"{float(run.get('wall_time_s') or 0):,.0f} s.",
            ]
        ),
    ]


def _shots(pairs: Iterable[compare.Comparison]) -> list[KShot]:
    return sorted({pair.k_shot for pair in pairs}, key=shot_order)
