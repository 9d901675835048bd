"""What the seeds can show: the paper's findings checked, differences between embeddings, and how
many seeds an interval takes.
"""

from collections.abc import Sequence

from fsprobe.pages.blocks import Block, Bullets, Heading, Table
from fsprobe.reporting.comparisons import ALPHA, Comparison
from fsprobe.reporting.findings import findings
from fsprobe.reporting.formatting import (
    INTERVAL,
    Style,
    caption,
    caption_of,
    difference_table,
    number,
)
from fsprobe.reporting.statistics import seeds_needed
from fsprobe.reporting.sweep_results import SweepResults


def findings_checked(sweep: SweepResults, pairs: Sequence[Comparison], style: Style) -> list[Block]:
    """The paper's qualitative findings, checked on these rows."""
    return [
        Heading(style.level, "The paper's findings, checked on these rows"),
        Bullets([f"{f.claim}. {f.verdict.upper()}: {f.detail}" for f in findings(sweep, pairs)]),
    ]


def differences(sweep: SweepResults, pairs: Sequence[Comparison], style: Style) -> list[Block]:
    """Paired differences between embeddings at the largest N."""
    n_way = max((pair.n_way for pair in pairs), default=0)
    shown = [pair for pair in pairs if pair.n_way == n_way]
    if not shown:
        return []
    significant = sum(bool(pair.sign) for pair in pairs)
    return [
        Heading(style.level, "Differences between embeddings"),
        difference_table(
            f"mAP of a less mAP of b on the same episodes: mean [{INTERVAL}], p of a paired "
            "permutation test (sign flips, two-sided), and p after Holm's correction over the "
            "pairs of the cell. Shown is the largest N; over all cells "
            f"{significant} of {len(pairs)} comparisons are below {ALPHA}. A dash for p: the "
            "difference is the same at every seed, which no test over seeds can judge. "
            f"{caption_of(sweep, shown)}",
            shown,
        ),
    ]


def seeds_for_half_width(sweep: SweepResults, style: Style) -> list[Block]:
    """How many seeds an interval of the asked width takes, at the largest N."""
    n_way = max(sweep.grid.n_way)
    found = [
        (name, k_shot, values)
        for name in sweep.embeddings
        for k_shot in sweep.grid.k_shot
        if (values := sweep.summary(name, n_way, k_shot)).n
    ]
    if not found:
        return []
    rows = [
        [
            *(name, str(k_shot), str(values.n), number(values.std), number(values.half_width)),
            "–" if values.n == 1 else f"{seeds_needed(values.std, style.half_width):,}",
        ]
        for name, k_shot, values in found
    ]
    k_shots = (k_shot for _, k_shot, _ in found)
    where = caption(sweep, [n_way], k_shots, [values.n for *_, values in found])
    return [
        Heading(style.level, "Seeds needed"),
        Table(
            f"Seeds for a 95% interval of ±{style.half_width} mAP, from the standard deviation "
            "seen here (itself known to about ±35% from 5 seeds, ±16% from 20; the count grows "
            f"with its square). A dash: one seed shows no deviation. {where}",
            ["embedding", "K", "seeds", "std", "half width now", "seeds needed"],
            rows,
        ),
    ]
