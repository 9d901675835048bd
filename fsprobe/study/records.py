"""The rows of a sweep's results, from its grid and its outcomes."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from extract.manifest import SPLITS, Manifest, rank_tags
from fsprobe.batch.spec import Outcome
from fsprobe.heads.evaluate import TagMetrics
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.labels import tag_labels
from fsprobe.metrics import mean_of_defined
from fsprobe.study.grid import Grid
from fsprobe.study.results import SOLVER, FinishedProbe
from fsprobe.study.tables import (
    EpisodeRow,
    PairRow,
    ProbeRow,
    SolverRow,
    TagCountRow,
    TagRow,
    UnseenRow,
)
from fsprobe.words.vectors import near_synonyms

MOST_PAIRS = 100_000  # rows of cooccurrence.csv: every pair of 447 tags
CONVERGED = 1e-3  # a gap up to this counts: of hard problems float32 proves no smaller one


def finished_probe(grid: Grid, outcome: Outcome, validation: str) -> FinishedProbe:
    """A trained probe as rows. validation: empty where the solver chooses nothing. Means are over
    the tags that have a metric, NaN if none has.
    """
    key, metrics = outcome.spec.key, outcome.metrics
    scored = np.isfinite(metrics.average_precision)
    num_judged = grid.judged(outcome.spec.tags, outcome.spec.tags).sum(axis=0)
    prevalence = metrics.true / np.maximum(num_judged, 1)
    macro, micro = f1_scores(metrics) if len(outcome.spec.support) else (float("nan"),) * 2
    row = ProbeRow(
        **key._asdict(),
        num_train=len(outcome.spec.support),
        mAP=mean_of_defined(metrics.average_precision),
        roc_auc=mean_of_defined(metrics.roc_auc),
        chance_mAP=mean_of_defined(prevalence[scored]),
        val_loss=outcome.val_loss,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        validation=validation,
        macro_f1=macro,
        micro_f1=micro,
    )
    per_tag = [
        TagRow(
            **key._asdict(),
            tag=grid.pool[tag],
            average_precision=float(precision),
            roc_auc=float(auc),
            test_positives=int(count),
        )
        for tag, precision, auc, count in zip(
            outcome.spec.tags, *metrics[:2], metrics.true, strict=True
        )
    ]
    return FinishedProbe(row, per_tag, _solver_row(outcome), outcome.weight_norms, outcome.head)


def f1_scores(metrics: TagMetrics) -> tuple[float, float]:
    """(macro, micro) F1 over the tags that have a metric; NaN if none has."""
    scored = np.isfinite(metrics.average_precision)
    if not scored.any():
        return float("nan"), float("nan")
    hits, given, true = (part[scored].astype(np.float64) for part in metrics[2:])
    macro = np.mean(2 * hits / np.maximum(given + true, 1))
    return float(macro), float(2 * hits.sum() / max(given.sum() + true.sum(), 1))


def cut_note(solver: str, rows: Sequence[SolverRow], num_probes: int) -> str:
    """Of how many probes, and of how many of their clips, the solver left something out; empty for
    none.
    """
    cut = [row.clips_cut for row in rows if row.clips_cut]
    if not cut:
        return ""
    return (
        f"{len(cut):,} of {num_probes:,} probes {SOLVERS[solver].cut}; this concerns up to "
        f"{max(cut):,} support clips of a probe (column `clips_cut` of {SOLVER})"
    )


def _solver_row(outcome: Outcome) -> SolverRow | None:
    """None for a probe of which there is nothing to say."""
    penalised = not np.isnan(outcome.l2)
    if not penalised and not outcome.clips_cut:
        return None
    return SolverRow(
        **outcome.spec.key._asdict(),
        l2=outcome.l2,
        gradient_norm=outcome.gradient_norm,
        iterations=outcome.epochs,
        gap=outcome.gap,
        converged=int(not penalised or outcome.gap <= CONVERGED),
        clips_cut=outcome.clips_cut,
        prior_scale=outcome.scale,
    )


def episode_rows(grid: Grid) -> list[EpisodeRow]:
    """The largest episode of every seed, as rows; tags alone where K is 0 and nothing else."""
    if set(grid.config.k_shot) == {0}:
        return [
            EpisodeRow(episode.seed, position, grid.pool[tag], None, "")
            for episode in grid.episodes
            for position, tag in enumerate(episode.tags)
        ]
    return [
        EpisodeRow(episode.seed, position, grid.pool[tag], shot, grid.clips.clip_ids[clip])
        for episode in grid.episodes
        for position, (tag, clips) in enumerate(zip(episode.tags, episode.support, strict=True))
        for shot, clip in enumerate(clips)
    ]


def unseen_rows(grid: Grid) -> list[UnseenRow] | None:
    """Of every seed, the tags whose labels are not seen; None without words."""
    if grid.seen is None:
        return None
    near = near_synonyms(grid.pool)
    rows = []
    for seed, seen in grid.seen.items():
        for tag in np.flatnonzero(~seen):
            twins = np.flatnonzero(near[tag] & seen)
            rows.append(UnseenRow(seed, grid.pool[tag], grid.pool[twins[0]] if twins.size else ""))
    return rows


def tag_count_rows(manifest: Manifest, pool: Sequence[str]) -> list[TagCountRow]:
    """The pool's tags with their clips by split."""
    rank = {tag: i for i, (tag, _) in enumerate(rank_tags(manifest), 1)}
    positive, split = tag_labels(manifest, pool)[0], np.array(manifest.splits)
    counts = [positive[split == name].sum(axis=0).tolist() for name in SPLITS if name]
    return [TagCountRow(tag, rank[tag], *row) for tag, *row in zip(pool, *counts, strict=True)]


def pair_rows(manifest: Manifest, pool: Sequence[str], most: int = MOST_PAIRS) -> list[PairRow]:
    """Pairs of the pool's tags that some clip with a split carries together. Where there are more
    than `most`, only the pairs with more clips than a threshold, the least that leaves at most
    `most`.
    """
    labels = scipy.sparse.csr_array(tag_labels(manifest.used(), pool)[0]).astype(np.int32)
    together = scipy.sparse.triu(labels.T @ labels, 1, format="coo")
    order = np.lexsort((together.col, together.row))
    first, second, clips = (array[order] for array in (together.row, together.col, together.data))
    if len(clips) > most:
        kept = clips > np.sort(clips)[-most - 1]
        first, second, clips = first[kept], second[kept], clips[kept]
    return [
        PairRow(pool[a], pool[b], count)
        for a, b, count in zip(first.tolist(), second.tolist(), clips.tolist(), strict=True)
    ]
