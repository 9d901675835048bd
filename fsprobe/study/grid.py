"""The probes of a sweep, as pure functions: from tags to episodes to tasks, and from outcomes to
rows.

Clips are put into the order of split and id first, so that nothing depends on the order of the
manifest's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from extract.errors import InputError
from extract.manifest import SPLITS, Manifest, rank_tags
from fsprobe.batch.lanes import Outcome, ProbeSpec
from fsprobe.batch.memory import Sizes
from fsprobe.config import FULL, GridConfig, KShot
from fsprobe.features import tag_labels, tag_pool
from fsprobe.heads.head import Data
from fsprobe.study.episodes import Episode, draw_episode
from fsprobe.study.results import Found
from fsprobe.study.tables import (
    EpisodeRow,
    PairRow,
    ProbeKey,
    ProbeRow,
    SolverRow,
    TagCountRow,
    TagRow,
)

MOST_PAIRS = 100_000  # rows of cooccurrence.csv: every pair of 447 tags


@dataclass(frozen=True, eq=False)
class Grid:
    """What the probes of every embedding share.

    clips: the clips that some probe sees, by split (train, valid, test), then id. Of the training
    clips only those in some support set are kept. labels: bool `[clip, tag]`, a column per tag of
    `pool`. train, valid, test: rows.
    """

    config: GridConfig
    clips: Manifest
    train: slice
    valid: slice
    test: slice
    pool: tuple[str, ...]
    labels: np.ndarray
    episodes: tuple[Episode, ...]

    @property
    def test_positives(self) -> np.ndarray:
        """int `[tag]`: test clips that carry the tag."""
        return self.labels[self.test].sum(axis=0)

    @property
    def num_test(self) -> int:
        """How many test clips there are."""
        return self.test.stop - self.test.start

    @property
    def max_shot(self) -> int:
        """The largest K, `full` apart; 0 if there is none."""
        return max((k_shot for k_shot in self.config.k_shot if isinstance(k_shot, int)), default=0)

    @property
    def scarce(self) -> list[tuple[str, int]]:
        """(tag, clips) of every support that has fewer than the largest K, over all episodes."""
        return [
            (self.pool[tag], len(clips))
            for episode in self.episodes
            for tag, clips in zip(episode.tags, episode.support, strict=True)
            if len(clips) < self.max_shot
        ]

    @property
    def unscored(self) -> list[str]:
        """The pool's tags without a positive or without a negative test clip: they have no
        metric.
        """
        positives = self.test_positives
        return [
            self.pool[tag]
            for tag in np.flatnonzero((positives == 0) | (positives == self.num_test))
        ]


def build_grid(manifest: Manifest, config: GridConfig, where: str = "the manifest") -> Grid:
    """Draw every episode. Raises InputError on an empty split, an unknown tag, a scarce tag or too
    large an N.

    where: what messages call the manifest.
    """
    pool = tag_pool(manifest, config.tags)
    clips = manifest.used()
    order = [
        (SPLITS.index(split), clip)
        for split, clip in zip(clips.splits, clips.clip_ids, strict=True)
    ]
    clips = clips.take(sorted(range(len(clips)), key=order.__getitem__))
    split = np.array(clips.splits)
    for name, purpose in (
        ("train", "support sets are drawn from it"),
        ("valid", "training stops by its loss"),
        ("test", "metrics are taken on it"),
    ):
        if name not in split:
            raise InputError(
                f"{where}: no {name} clip with features: {purpose}; "
                "give some clips that split (--split_file of extract.prepare)"
            )
    labels = tag_labels(clips, pool)
    train = np.flatnonzero(split == "train")
    shots = [k_shot for k_shot in config.k_shot if isinstance(k_shot, int)]
    episodes = tuple(
        draw_episode(
            seed, labels, train, max(config.n_way), max(shots, default=0), config.on_scarce, pool
        )
        for seed in config.seeds
    )
    for episode in episodes:
        for n_way in config.n_way:
            if shots and not len(episode.cell(n_way, min(shots))):
                raise InputError(
                    f"the {n_way}-way episode of seed {episode.seed} has no training clip at all; "
                    "pass --on_scarce=drop_tag"
                )
    if FULL not in config.k_shot:
        train = np.unique(
            np.concatenate([clips for episode in episodes for clips in episode.support])
        )
    # the other splits stay whole, and stay behind the training clips
    keep = np.concatenate([train, np.flatnonzero(split != "train")])
    valid, test = len(train), len(train) + int(np.sum(split == "valid"))
    episodes = tuple(
        Episode(
            drawn.seed, drawn.tags, tuple(np.searchsorted(train, rows) for rows in drawn.support)
        )
        for drawn in episodes
    )
    return Grid(
        config,
        clips.take(keep.tolist()),
        slice(0, valid),
        slice(valid, test),
        slice(test, len(keep)),
        pool,
        labels[keep],
        episodes,
    )


def probe_keys(config: GridConfig, embedding: str, solver: str) -> list[ProbeKey]:
    """Every probe of one embedding, in the order of the results files."""
    return [
        ProbeKey(embedding, solver, n_way, k_shot, seed)
        for n_way in config.n_way
        for k_shot in config.k_shot
        for seed in config.seeds
    ]


def probe_specs(grid: Grid, keys: Sequence[ProbeKey]) -> list[ProbeSpec]:
    """The tasks of the given probes."""
    episodes = {episode.seed: episode for episode in grid.episodes}
    everything = np.arange(grid.train.stop)

    def support(episode: Episode, n_way: int, k_shot: KShot) -> np.ndarray:
        if isinstance(k_shot, str):
            return everything
        return episode.cell(n_way, k_shot)  # training clips come first

    return [
        ProbeSpec(
            key,
            key.seed,
            support(episodes[key.seed], key.n_way, key.k_shot),
            episodes[key.seed].tags[: key.n_way],
            key.k_shot == FULL,
        )
        for key in keys
    ]


def sizes(grid: Grid, dim: int) -> Sizes:
    """Those of probe_data, for features of `dim` dimensions."""
    train, valid, test = (rows.stop - rows.start for rows in (grid.train, grid.valid, grid.test))
    return Sizes(train, valid, test, dim, len(grid.pool))


def probe_data(grid: Grid, features: np.ndarray) -> Data:
    """Features `[clip, dim]` of grid.clips, by split, with their labels; views, no copies."""
    parts: Any = (
        array[rows]
        for rows in (grid.train, grid.valid, grid.test)
        for array in (features, grid.labels)
    )
    return Data(*parts)


def outcome_rows(grid: Grid, outcome: Outcome) -> Found:
    """A trained probe as rows. Means are over the tags that have a metric, NaN if none has."""
    key, tags = outcome.spec.key, outcome.spec.tags
    labels = grid.labels[grid.test][:, tags]
    positives = labels.sum(axis=0)
    num_test = labels.any(axis=1).sum() if grid.config.test_clips == "tagged" else len(labels)
    scored = np.isfinite(outcome.average_precision)

    def mean(values: np.ndarray) -> float:
        return float(np.mean(values[scored], dtype=np.float64)) if scored.any() else float("nan")

    row = ProbeRow(
        **key._asdict(),
        num_train=len(outcome.spec.support),
        mAP=mean(outcome.average_precision),
        roc_auc=mean(outcome.roc_auc),
        chance_mAP=mean(positives / max(num_test, 1)),
        val_loss=outcome.val_loss,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
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
            tags, outcome.average_precision, outcome.roc_auc, positives, strict=True
        )
    ]
    solver = (
        None
        if np.isnan(outcome.l2)
        else SolverRow(
            **key._asdict(),
            l2=outcome.l2,
            iterations=outcome.epochs,
            gradient_norm=outcome.gradient_norm,
        )
    )
    return Found(row, per_tag, solver, outcome.weight_norms)


def episode_rows(grid: Grid) -> list[EpisodeRow]:
    """The largest episode of every seed, as rows."""
    return [
        EpisodeRow(episode.seed, position, grid.pool[tag], shot, grid.clips.clip_ids[clip])
        for episode in grid.episodes
        for position, (tag, clips) in enumerate(zip(episode.tags, episode.support, strict=True))
        for shot, clip in enumerate(clips)
    ]


def tag_count_rows(manifest: Manifest, pool: Sequence[str]) -> list[TagCountRow]:
    """The pool's tags with their clips by split."""
    rank = {tag: i for i, (tag, _) in enumerate(rank_tags(manifest), 1)}
    labels, split = tag_labels(manifest, pool), np.array(manifest.splits)
    counts = [labels[split == name].sum(axis=0).tolist() for name in SPLITS if name]
    return [TagCountRow(tag, rank[tag], *row) for tag, *row in zip(pool, *counts, strict=True)]


def pair_rows(manifest: Manifest, pool: Sequence[str], most: int = MOST_PAIRS) -> list[PairRow]:
    """Pairs of the pool's tags that stand together on some clip with a split; of more than `most`
    pairs only those with more clips than a count, the least that leaves no more than `most`.
    """
    labels = scipy.sparse.csr_array(tag_labels(manifest.used(), pool)).astype(np.int32)
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
