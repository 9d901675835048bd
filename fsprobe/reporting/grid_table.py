"""Plain-text tables of a sweep: per embedding, N across and K down, mean ± standard deviation over
seeds.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from fsprobe.config import KShot, shot_order
from fsprobe.pages.text_table import text_table
from fsprobe.study.tables import ProbeRow


def print_tables(rows: Sequence[ProbeRow], embeddings: Sequence[str], num_seeds: int) -> None:
    """Both metrics of every embedding, on stdout."""
    for embedding in embeddings:
        mine = [row for row in rows if row.embedding == embedding]
        print(f"\n{embedding}: mean ± standard deviation over {num_seeds} seeds")
        for metric in ("mAP", "roc_auc"):
            print(grid_table(mine, metric))


def grid_table(rows: Iterable[ProbeRow], metric: str) -> str:
    """One table of `metric` (`mAP`, `roc_auc` or `chance_mAP`) over the rows of one embedding and
    solver; with words a line for each way and prior.
    """
    cells: dict[tuple[int, tuple[KShot, str, str]], list[float]] = {}
    for row in rows:
        line = (row.k_shot, row.zero_shot, row.prior)
        cells.setdefault((row.n_way, line), []).append(getattr(row, metric))
    n_ways = sorted({n_way for n_way, _ in cells})
    lines = sorted({line for _, line in cells}, key=lambda line: (shot_order(line[0]), *line[1:]))
    body = [
        [
            " ".join([f"K={line[0]}", *filter(None, line[1:])]),
            *(mean_std(cells.get((n_way, line), ())) for n_way in n_ways),
        ]
        for line in lines
    ]
    return text_table([[metric, *(f"N={n_way}" for n_way in n_ways)], *body])


def mean_std(values: Sequence[float]) -> str:
    """`mean ± std` over the values that are defined (population of seeds, n − 1); `–` where there
    is none.
    """
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return "–"
    return (
        f"{np.mean(defined):.4f} ± {np.std(defined, ddof=1):.4f}"
        if len(defined) > 1
        else f"{defined[0]:.4f}"
    )
