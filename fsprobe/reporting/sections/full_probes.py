"""The report's sections on the paper's experiments (Ma & Lerch, AES 2024), each present when its
rows are.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from fsprobe.config import FULL
from fsprobe.features import COMBINED
from fsprobe.reporting import plots as figures
from fsprobe.reporting import published
from fsprobe.reporting.blocks import Block, Figure, Heading, Paragraph, Table
from fsprobe.reporting.grid_table import mean_std
from fsprobe.reporting.phrases import INTERVAL, METRICS, Style, caption, interval, number, slug
from fsprobe.reporting.statistics import Summary, pearson, summarise
from fsprobe.reporting.study import Study


def all_of(study: Study, style: Style) -> list[Block]:
    """Every section of this module, in the paper's order."""
    return [
        *full_probes(study, style),
        *weight_shares(study, style),
        *data_efficiency(study, style),
        *norm_correlation(study, style),
        *grid_heatmaps(study, style),
    ]


def full_probes(study: Study, style: Style) -> list[Block]:
    """Exp. 1: every embedding on all training clips, the largest N apart, beside published figures
    if they compare.
    """
    n_ways = [
        n for n in study.grid.n_way if any(study.rows(name, n, FULL) for name in study.embeddings)
    ]
    if not n_ways:
        return []
    clips = study.clips.get("train", 0), study.clips.get("valid", 0), study.clips.get("test", 0)
    beside = published.comparable(clips, study.grid.tags, n_ways[-1], study.test_clips)
    blocks: list[Block] = [Heading(style.level, "Exp. 1: full probes")]
    for chosen in filter(None, (n_ways[-1:], n_ways[:-1])):
        rows, counts = [], []
        for n_way, name in (
            (n, name) for n in chosen for name in study.embeddings if study.rows(name, n, FULL)
        ):
            mean_ap, auc, chance = (
                summarise(list(study.values(name, n_way, FULL, metric).values()))
                for metric in ("mAP", "roc_auc", "chance_mAP")
            )
            counts.append(mean_ap.n)
            rows.append(
                [
                    name,
                    "this study",
                    str(n_way),
                    str(mean_ap.n),
                    interval(mean_ap),
                    interval(auc),
                    number(mean_ap.std),
                    number(chance.mean),
                ]
            )
        if chosen == n_ways[-1:]:
            rows += [
                [
                    other.model,
                    f"{other.source}, {other.split.name} split",
                    "50",
                    "–",
                    other.mAP,
                    other.roc_auc,
                    "–",
                    "–",
                ]
                for other in beside
            ]
        blocks.append(
            Table(
                f"Probes on every training clip: mean [{INTERVAL}]. "
                f"{caption(study, chosen, [FULL], counts)}",
                ["model", "source", "N", "seeds", "mAP", "ROC-AUC", "std of mAP", "chance mAP"],
                rows,
                left=2,
            )
        )
    told = (
        f"The published figures are single runs on the {beside[0].split.name} split of "
        "MagnaTagATune, which is the split of this study."
        if beside
        else "No published figure stands beside these: those at hand are for the 50 most frequent "
        "tags of MagnaTagATune on its clean (15,247 / 1,529 / 4,332 clips) or unfiltered split, "
        "and this study has other data, another pool, another N or another test set."
    )
    varies = (
        "only initialisation and order vary"
        if study.solver == "adam"
        else "nothing varies once converged"
    )
    return [
        *blocks,
        Paragraph(
            f"{told} Over the seeds of full probes {varies} (the tags do, where N is below the "
            "pool): their intervals are narrow for that reason."
        ),
    ]


def weight_shares(study: Study, style: Style) -> list[Block]:
    """The paper's Fig. 3: how the weight of `combined` divides among the stores."""
    n_way = (
        max((n for n, k_shot in study.cells(COMBINED) if k_shot == FULL), default=0)
        if COMBINED in study.embeddings
        else 0
    )
    norms = study.weight_norms(COMBINED, n_way, FULL) if n_way else {}
    if not norms or not study.parts:
        return []
    edges = np.cumsum([0, *(width for _, width in study.parts)])
    parts: list[tuple[str, Summary, float]] = []
    for (name, width), start in zip(study.parts, edges, strict=False):
        share = [
            float(norm[start : start + width].sum() / norm.sum()) if norm.sum() else math.nan
            for norm in norms.values()
        ]
        parts.append((name, summarise(share), width / int(edges[-1])))
    told = "; ".join(
        f"{name} {share.mean:.3f} of the weight with {width:.3f} of the features"
        for name, share, width in parts
    )
    return [
        Heading(style.level, "Share of absolute weight per embedding inside combined (Fig. 3)"),
        Figure(
            f"{style.prefix}exp1_weight_share",
            f"Bar chart of weight shares: {told}.",
            "Share of the absolute weights of full combined probes that lies on each store's "
            "features; bars: "
            f"mean, lines: {INTERVAL}; dashed: the share that even weights would have. "
            + caption(study, [n_way], [FULL], [share.n for _, share, _ in parts]),
            lambda: figures.shares(parts),
        ),
    ]


def data_efficiency(study: Study, style: Style) -> list[Block]:
    """Exp. 2: mAP against K at the largest N (the paper's Fig. 4, top)."""
    n_way = max(study.grid.n_way)
    k_shots = [
        k for k in study.grid.k_shot if any(study.rows(name, n_way, k) for name in study.embeddings)
    ]
    if len(k_shots) < 2:
        return []
    series = {
        name: [summarise(list(study.values(name, n_way, k).values())) for k in k_shots]
        for name in study.embeddings
    }
    series = {name: points for name, points in series.items() if any(point.n for point in points)}
    if not series:
        return []
    counts = [point.n for points in series.values() for point in points]
    chance = [
        summarise(
            [
                value
                for name in study.embeddings
                for value in study.values(name, n_way, k, "chance_mAP").values()
            ]
        ).mean
        for k in k_shots
    ]
    told = "; ".join(
        f"{name} from {number(points[0].mean)} at K = {k_shots[0]} to {number(points[-1].mean)} at "
        f"K = {k_shots[-1]}"
        for name, points in series.items()
    )
    where = caption(study, [n_way], k_shots, counts)
    return [
        Heading(style.level, "Exp. 2: data efficiency"),
        Figure(
            f"{style.prefix}exp2_map_over_k",
            f"Line chart of mAP over K per embedding: {told}.",
            f"mAP against K; lines: mean, bars: {INTERVAL}. {where}",
            lambda: figures.curves(series, k_shots, "mAP", chance),
        ),
        Table(
            f"mAP: mean [{INTERVAL}]. {where}",
            ["embedding", *(f"K = {k}" for k in k_shots)],
            [[name, *map(interval, points)] for name, points in series.items()],
        ),
    ]


def norm_correlation(study: Study, style: Style) -> list[Block]:
    """The paper's Fig. 4, bottom: how like the full probe's weights those of K shots are, feature
    by feature.
    """
    n_way = max(study.grid.n_way)
    k_shots = [k for k in study.grid.k_shot if k != FULL]
    series = {}
    for name in study.embeddings:
        full = study.weight_norms(name, n_way, FULL)
        shots = {k: study.weight_norms(name, n_way, k) for k in k_shots} if full else {}
        points = [
            summarise([pearson(norms[seed], full[seed]) for seed in norms if seed in full])
            for norms in shots.values()
        ]
        if any(point.n for point in points):
            series[name] = points
    if not series:
        return []
    told = "; ".join(
        f"{name} {number(points[0].mean)} at K = {k_shots[0]}, {number(points[-1].mean)} at "
        f"K = {k_shots[-1]}"
        for name, points in series.items()
    )
    where = caption(
        study, [n_way], k_shots, [point.n for points in series.values() for point in points]
    )
    return [
        Figure(
            f"{style.prefix}exp2_norm_correlation",
            f"Line chart of the correlation over K: {told}.",
            "Pearson correlation, over feature positions, between the L1 norms of the weights of a "
            "K-shot "
            f"probe and of the full probe of the same seed and tags; lines: mean, bars: "
            f"{INTERVAL}. {where}",
            lambda: figures.curves(series, k_shots, "correlation with the full probe"),
        ),
        Table(
            f"Correlation of weight norms with the full probe: mean [{INTERVAL}]. {where}",
            ["embedding", *(f"K = {k}" for k in k_shots)],
            [[name, *map(interval, points)] for name, points in series.items()],
        ),
    ]


def grid_heatmaps(study: Study, style: Style) -> list[Block]:
    """Exp. 3: mAP and ROC-AUC over N × K per embedding, chance mAP beside them (the paper's Fig.
    5).
    """
    cells = {cell for name in study.embeddings for cell in study.cells(name)}
    n_ways = [n for n in study.grid.n_way if any(n == n_way for n_way, _ in cells)]
    k_shots = [k for k in study.grid.k_shot if any(k == k_shot for _, k_shot in cells)]
    if len(n_ways) < 2 or not k_shots:
        return []
    panels, counts = {}, {}
    for name in study.embeddings:
        values = {
            metric: [
                [summarise(list(study.values(name, n, k, metric).values())) for n in n_ways]
                for k in k_shots
            ]
            for metric in METRICS
        }
        counts[name] = [cell.n for row in values["mAP"] for cell in row]
        if not any(counts[name]):
            continue
        panels[name] = {
            METRICS[metric]: np.array([[cell.mean for cell in row] for row in rows])
            for metric, rows in values.items()
        }
        chance = [
            summarise(
                [
                    value
                    for k in k_shots
                    for value in study.values(name, n, k, "chance_mAP").values()
                ]
            ).mean
            for n in n_ways
        ]
        panels[name]["chance mAP (prevalence)"] = np.array([chance])
    metrics = list(next(iter(panels.values()), {}))
    limits = {metric: _limits([p[metric] for p in panels.values()]) for metric in metrics}
    if panels:  # mAP and its chance share a scale, so that the eye compares them
        both = [metrics[0], metrics[-1]]
        limits |= dict.fromkeys(
            both, (min(limits[m][0] for m in both), max(limits[m][1] for m in both))
        )
    blocks: list[Block] = [Heading(style.level, "Exp. 3: N × K grid")]
    if study.test_clips == "all" and panels:
        blocks.append(
            Paragraph(
                "Curves over N are confounded: with other N, other tags are drawn and chance mAP "
                "moves. Compare columns with the chance row below them, or rerun with "
                "--test_clips=tagged."
            )
        )
    for i, (name, panel) in enumerate(panels.items()):
        best = np.unravel_index(np.nanargmax(panel["mAP"]), panel["mAP"].shape)
        where = caption(study, n_ways, k_shots, counts[name])
        blocks.append(
            Figure(
                f"{style.prefix}exp3_{i + 1}_{slug(name)}",
                f"Heatmaps of mAP and ROC-AUC of {name} over N and K with chance mAP below; mAP is "
                f"highest, "
                f"{panel['mAP'][best]:.4f}, at N = {n_ways[best[1]]}, K = {k_shots[best[0]]}.",
                f"{name}: mean over seeds; all embeddings share the colour scales. {where}",
                partial(figures.heatmaps, n_ways, k_shots, panel, limits),
            )
        )
        for metric, title in METRICS.items():
            blocks.append(
                Table(
                    f"{name}: {title}, mean ± standard deviation over seeds. {where}",
                    [title, *(f"N = {n}" for n in n_ways)],
                    [
                        [
                            f"K = {k}",
                            *(
                                mean_std(list(study.values(name, n, k, metric).values()))
                                for n in n_ways
                            ),
                        ]
                        for k in k_shots
                    ],
                )
            )
    return blocks if panels else []


def _limits(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([array[~np.isnan(array)] for array in arrays])
    return float(values.min()), float(values.max())
