"""Exp. 1 of the paper (Ma & Lerch, AES 2024): probes on every training clip, and the weights that
`combined` gives each store (Fig. 3).
"""

import math
from collections.abc import Sequence

import numpy as np

from fsprobe.config import FULL
from fsprobe.features import COMBINED
from fsprobe.pages.blocks import Block, Figure, Heading, Paragraph, Table
from fsprobe.reporting import published
from fsprobe.reporting.formatting import INTERVAL, Style, caption, interval, number
from fsprobe.reporting.plots import weight_share_bars
from fsprobe.reporting.published import Published
from fsprobe.reporting.statistics import Summary, summarise
from fsprobe.reporting.sweep_results import SweepResults


def full_probes(sweep: SweepResults, style: Style) -> list[Block]:
    """Every embedding on all training clips, the largest N apart, beside published figures if they
    compare.
    """
    n_ways = [
        n for n in sweep.grid.n_way if any(sweep.rows(name, n, FULL) for name in sweep.embeddings)
    ]
    if not n_ways:
        return []
    clips = sweep.clips.get("train", 0), sweep.clips.get("valid", 0), sweep.clips.get("test", 0)
    beside = published.comparable(clips, sweep.grid.tags, n_ways[-1], sweep.test_clips)
    blocks: list[Block] = [
        Heading(style.level, "Exp. 1: full probes"),
        _full_table(sweep, n_ways[-1:], beside),
    ]
    if len(n_ways) > 1:
        blocks.append(_full_table(sweep, n_ways[:-1], ()))
    return [*blocks, _how_to_read(sweep, beside)]


def _full_table(sweep: SweepResults, n_ways: Sequence[int], beside: Sequence[Published]) -> Table:
    rows, counts = [], []
    for n_way in n_ways:
        for name in sweep.embeddings:
            if not sweep.rows(name, n_way, FULL):
                continue
            mean_ap, auc, chance = (
                sweep.summary(name, n_way, FULL, metric)
                for metric in ("mAP", "roc_auc", "chance_mAP")
            )
            counts.append(mean_ap.n)
            metrics = [interval(mean_ap), interval(auc), number(mean_ap.std), number(chance.mean)]
            rows.append([name, "this sweep", str(n_way), str(mean_ap.n), *metrics])
    for other in beside:
        source = f"{other.source}, {other.split.name} split"
        rows.append([other.model, source, "50", "–", other.mAP, other.roc_auc, "–", "–"])
    return Table(
        f"Probes on every training clip: mean [{INTERVAL}]. "
        f"{caption(sweep, n_ways, [FULL], counts)}",
        ["model", "source", "N", "seeds", "mAP", "ROC-AUC", "std of mAP", "chance mAP"],
        rows,
        left=2,
    )


def _how_to_read(sweep: SweepResults, beside: Sequence[Published]) -> Paragraph:
    """What stands beside the sweep's own values and why, and what the seeds do not vary."""
    if beside:
        published_text = (
            f"The published figures are single runs on the {beside[0].split.name} split of "
            "MagnaTagATune, which is the split of this sweep."
        )
    else:
        published_text = (
            "No published figure stands beside these: the known ones are for the 50 most frequent "
            "tags of MagnaTagATune on its clean (15,247 / 1,529 / 4,332 clips) or unfiltered "
            "split, and this sweep has other data, another pool, another N or another test set."
        )
    if sweep.trained_in_epochs:
        varies = "only the initialisation and the order of the clips vary"
    else:
        varies = "nothing varies once converged"
    return Paragraph(
        f"{published_text} Over the seeds of full probes {varies} (where N is below the pool, the "
        "tags vary too), so an interval over them says nothing of other training clips."
    )


def weight_shares(sweep: SweepResults, style: Style) -> list[Block]:
    """The paper's Fig. 3: how the weight of `combined` divides among the stores."""
    if COMBINED not in sweep.embeddings:
        return []
    n_way = max((n for n, k_shot in sweep.cells(COMBINED) if k_shot == FULL), default=0)
    norms = sweep.weight_norms(COMBINED, n_way, FULL)
    if not norms or not sweep.parts:
        return []
    parts = _shares(sweep.parts, list(norms.values()))
    texts = [
        f"{name} {share.mean:.3f} of the weight with {width:.3f} of the features"
        for name, share, width in parts
    ]
    return [
        Heading(style.level, "Share of absolute weight per embedding inside combined (Fig. 3)"),
        Figure(
            f"{style.prefix}exp1_weight_share",
            f"Bar chart of weight shares: {'; '.join(texts)}.",
            "Share of the absolute weights of full combined probes that lies on each store's "
            f"features; bars: mean, lines: {INTERVAL}; dashed: the share that even weights would "
            f"have. {caption(sweep, [n_way], [FULL], [share.n for _, share, _ in parts])}",
            lambda: weight_share_bars(parts),
        ),
    ]


def _shares(
    widths: Sequence[tuple[str, int]], norms: Sequence[np.ndarray]
) -> list[tuple[str, Summary, float]]:
    """Per store: its name, its share of the weight over the probes, its share of the features.

    widths: (store, features), in order. norms: `[dim]` per probe, the L1 norm of each feature's
    weights.
    """
    edges = np.cumsum([0, *(width for _, width in widths)])
    parts = []
    for (name, width), start in zip(widths, edges, strict=False):
        shares = [
            float(norm[start : start + width].sum() / norm.sum()) if norm.sum() else math.nan
            for norm in norms
        ]
        parts.append((name, summarise(shares), width / int(edges[-1])))
    return parts
