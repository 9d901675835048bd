"""Exp. 3 of the paper: mAP and ROC-AUC over N × K per embedding, chance mAP below (Fig. 5)."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from fsprobe.config import KShot
from fsprobe.pages.blocks import Block, Figure, Heading, Paragraph, Table
from fsprobe.reporting.formatting import METRICS, Style, caption, slug
from fsprobe.reporting.grid_table import mean_std
from fsprobe.reporting.plots import heatmaps
from fsprobe.reporting.sweep_results import SweepResults, cells_of

CHANCE = "chance mAP (prevalence)"

Panels = Mapping[str, np.ndarray]  # title → `[k_shot, n_way]`; of CHANCE `[1, n_way]`


def grid(sweep: SweepResults, style: Style) -> list[Block]:
    """Heatmaps and tables per embedding, if there are several N."""
    cells = cells_of([sweep])
    n_ways = [n for n in sweep.grid.n_way if any(n == n_way for n_way, _ in cells)]
    k_shots = [k for k in sweep.grid.k_shot if any(k == k_shot for _, k_shot in cells)]
    if len(n_ways) < 2 or not k_shots:
        return []
    panels = {
        name: found
        for name in sweep.embeddings
        if not np.isnan((found := _panels(sweep, name, n_ways, k_shots))["mAP"]).all()
    }
    if not panels:
        return []
    limits = _limits(list(panels.values()))
    blocks: list[Block] = [Heading(style.level, "Exp. 3: N × K grid")]
    if sweep.test_clips == "all":
        blocks.append(
            Paragraph(
                "Curves over N are confounded: with other N, other tags are drawn and chance mAP "
                "moves. Compare columns with the chance row below them, or rerun with "
                "--test_clips=tagged."
            )
        )
    for i, (name, panel) in enumerate(panels.items()):
        counts = [sweep.summary(name, n, k).n for k in k_shots for n in n_ways]
        where = caption(sweep, n_ways, k_shots, counts)
        row, column = np.unravel_index(np.nanargmax(panel["mAP"]), panel["mAP"].shape)
        blocks.append(
            Figure(
                f"{style.prefix}exp3_{i + 1}_{slug(name)}",
                f"Heatmaps of mAP and ROC-AUC of {name} over N and K with chance mAP below; "
                f"mAP is highest, {panel['mAP'][row, column]:.4f}, at N = {n_ways[column]}, "
                f"K = {k_shots[row]}.",
                f"{name}: mean over seeds; all embeddings share the colour scales. {where}",
                partial(heatmaps, n_ways, k_shots, panel, limits),
            )
        )
        blocks += [_table(sweep, name, metric, n_ways, k_shots, where) for metric in METRICS]
    return blocks


def _panels(
    sweep: SweepResults, name: str, n_ways: Sequence[int], k_shots: Sequence[KShot]
) -> Panels:
    """Means over seeds per metric, and chance mAP over all K."""
    means = {
        title: np.array([[sweep.summary(name, n, k, metric).mean for n in n_ways] for k in k_shots])
        for metric, title in METRICS.items()
    }
    chance = np.array([[sweep.chance([name], [n], k_shots) for n in n_ways]])
    return means | {CHANCE: chance}


def _limits(panels: Sequence[Panels]) -> dict[str, tuple[float, float]]:
    """Panel → least and greatest value over all embeddings; mAP and its chance share theirs, so
    that the eye compares them.
    """
    limits: dict[str, tuple[float, float]] = {}
    for titles in (("mAP", CHANCE), ("ROC-AUC",)):
        values = np.concatenate([panel[title].ravel() for panel in panels for title in titles])
        limits |= dict.fromkeys(titles, (float(np.nanmin(values)), float(np.nanmax(values))))
    return limits


def _table(
    sweep: SweepResults,
    name: str,
    metric: str,
    n_ways: Sequence[int],
    k_shots: Sequence[KShot],
    where: str,
) -> Table:
    rows = [
        [f"K = {k}", *(mean_std(list(sweep.values(name, n, k, metric).values())) for n in n_ways)]
        for k in k_shots
    ]
    title = METRICS[metric]
    text = f"{name}: {title}, mean ± standard deviation over seeds. {where}"
    return Table(text, [title, *(f"N = {n}" for n in n_ways)], rows)
