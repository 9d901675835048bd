"""Exp. 2 of the paper: mAP against K at the largest N, and how weights of K shots resemble those of
the full probe (Fig. 4).
"""

from collections.abc import Sequence

from fsprobe.config import FULL, KShot
from fsprobe.pages.blocks import Block, Figure, Heading, Table
from fsprobe.reporting.formatting import (
    INTERVAL,
    Series,
    Style,
    caption,
    ends,
    interval,
    seeds_behind,
    with_values,
)
from fsprobe.reporting.plots import curves
from fsprobe.reporting.statistics import pearson, summarise
from fsprobe.reporting.sweep_results import SweepResults


def data_efficiency(sweep: SweepResults, style: Style) -> list[Block]:
    """mAP against K at the largest N (the paper's Fig. 4, top)."""
    n_way = max(sweep.grid.n_way)
    k_shots = [
        k
        for k in sweep.grid.k_shot
        if k != 0 and any(sweep.rows(name, n_way, k) for name in sweep.embeddings)
    ]
    if len(k_shots) < 2:
        return []
    series = with_values(
        {name: [sweep.summary(name, n_way, k) for k in k_shots] for name in sweep.embeddings}
    )
    if not series:
        return []
    chance = [sweep.chance(sweep.embeddings, [n_way], [k]) for k in k_shots]
    where = caption(sweep, [n_way], k_shots, seeds_behind(series))
    return [
        Heading(style.level, "Exp. 2: data efficiency"),
        Figure(
            f"{style.prefix}exp2_map_over_k",
            f"Line chart of mAP over K per embedding: {ends(series, k_shots, 'from ', ' to ')}.",
            f"mAP against K; lines: mean, bars: {INTERVAL}. {where}",
            lambda: curves(series, k_shots, "mAP", chance),
        ),
        _table(f"mAP: mean [{INTERVAL}]. {where}", series, k_shots),
    ]


def norm_correlation(sweep: SweepResults, style: Style) -> list[Block]:
    """The paper's Fig. 4, bottom: how like the full probe's weights those of K shots are, feature
    by feature.
    """
    n_way = max(sweep.grid.n_way)
    k_shots = [k for k in sweep.grid.k_shot if k not in (0, FULL)]
    correlations = {}
    for name in sweep.embeddings:
        full = sweep.weight_norms(name, n_way, FULL)
        if full:
            correlations[name] = [
                summarise([pearson(norms[seed], full[seed]) for seed in norms if seed in full])
                for norms in (sweep.weight_norms(name, n_way, k) for k in k_shots)
            ]
    series = with_values(correlations)
    if not series:
        return []
    where = caption(sweep, [n_way], k_shots, seeds_behind(series))
    return [
        Figure(
            f"{style.prefix}exp2_norm_correlation",
            f"Line chart of the correlation over K: {ends(series, k_shots)}.",
            "Pearson correlation, over feature positions, between the L1 norms of the weights of a "
            "K-shot probe and of the full probe of the same seed and tags; lines: mean, bars: "
            f"{INTERVAL}. {where}",
            lambda: curves(series, k_shots, "correlation with the full probe"),
        ),
        _table(
            f"Correlation of weight norms with the full probe: mean [{INTERVAL}]. {where}",
            series,
            k_shots,
        ),
    ]


def _table(text: str, series: Series, k_shots: Sequence[KShot]) -> Table:
    return Table(
        text,
        ["embedding", *(f"K = {k}" for k in k_shots)],
        [[name, *map(interval, points)] for name, points in series.items()],
    )
