"""The probes of a sweep, as pure functions: from tags to episodes to the specs of a batch.

Clips are sorted by split and id first, so that nothing depends on the order of the manifest's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from extract.errors import InputError
from extract.manifest import SPLITS, Manifest
from fsprobe.batch.memory import Sizes
from fsprobe.batch.spec import ProbeSpec
from fsprobe.config import FULL, GridConfig, KShot
from fsprobe.heads.cross_validation import assign_folds
from fsprobe.heads.data import Data, Labelled
from fsprobe.labels import tag_labels, tag_pool, track_codes
from fsprobe.study.episodes import Episode, draw_episode
from fsprobe.study.seen_tags import SeenTags
from fsprobe.study.tables import ProbeKey
from fsprobe.words.config import NO_WORDS, WordsConfig


@dataclass(frozen=True, eq=False)
class Grid:
    """What the probes of every embedding share.

    clips: the clips that some probe sees, by split (train, valid, test), then id. Of the training
    clips only those in some support set are kept, unless unlabelled ones count too. positive,
    negative: bool `[clip, tag]`, a column per tag of `pool`, as in `fsprobe.labels.tag_labels`.
    tracks: int `[clip]`, or None. train, valid, test: rows. seen: of each seed, bool `[tag]`: whose
    labels its map from features to words may learn of; None in a sweep without words.
    """

    config: GridConfig
    clips: Manifest
    train: slice
    valid: slice
    test: slice
    pool: tuple[str, ...]
    positive: np.ndarray
    negative: np.ndarray | None
    tracks: np.ndarray | None
    episodes: tuple[Episode, ...]
    seen: dict[int, np.ndarray] | None = None

    def judged(self, tags: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
        """bool `[test clip, column]`: the clips on which the tags of these columns are judged, by a
        probe of the given tags.
        """
        positive = self.positive[self.test]
        known: np.ndarray = np.ones_like(positive[:, columns])
        if self.negative is not None:
            known = positive[:, columns] | self.negative[self.test][:, columns]
        if self.config.test_clips == "tagged":
            known &= positive[:, tags].any(axis=1, keepdims=True)
        return known

    @property
    def scarce(self) -> list[tuple[str, int]]:
        """(tag, clips) of every support that has fewer than the largest K, over all episodes."""
        return [
            (self.pool[tag], len(clips))
            for episode in self.episodes
            for tag, clips in zip(episode.tags, episode.support, strict=True)
            if len(clips) < self.config.max_shot
        ]

    @property
    def unscored(self) -> list[str]:
        """The pool's tags without a positive or without a negative test clip: they have no
        metric.
        """
        positive = self.positive[self.test]
        negative = ~positive if self.negative is None else self.negative[self.test]
        scored = positive.any(axis=0) & negative.any(axis=0)
        return [self.pool[tag] for tag in np.flatnonzero(~scored)]

    @property
    def unchosen(self) -> list[str]:
        """The pool's tags of which no validation clip says anything."""
        if self.negative is None:
            return []
        known = self.positive[self.valid] | self.negative[self.valid]
        return [self.pool[tag] for tag in np.flatnonzero(~known.any(axis=0))]


def build_grid(
    manifest: Manifest,
    config: GridConfig,
    where: str = "the manifest",
    validation: str = "valid",
    seen_tags: SeenTags | None = None,
    unlabelled: bool = False,
) -> Grid:
    """Draw every episode. Raises InputError on an empty split, an unknown tag, a scarce tag or too
    large an N.

    where: what messages call the manifest. validation: as in SolverConfig; only `valid` needs
    validation clips. seen_tags: with words, the pool and whose labels each seed sees; its tags are
    drawn among the others, and every training clip is kept. unlabelled: keep the training clips of
    no support set too.
    """
    pool = seen_tags.pool if seen_tags else tag_pool(manifest, config.tags)
    seen = seen_tags.draw(config.seeds) if seen_tags else None
    clips = manifest.used()
    order = [
        (SPLITS.index(split), clip)
        for split, clip in zip(clips.splits, clips.clip_ids, strict=True)
    ]
    clips = clips.take(sorted(range(len(clips)), key=order.__getitem__))
    split = np.array(clips.splits)
    _require_splits(split, where, validation)
    positive, negative = tag_labels(clips, pool)
    tracks = track_codes(clips)
    train = np.flatnonzero(split == "train")
    episodes = _draw_all(config, positive, train, pool, tracks, seen)
    if FULL not in config.k_shot and seen is None and not unlabelled:
        train = np.unique(np.concatenate([rows for drawn in episodes for rows in drawn.support]))
    # the other splits stay whole, and stay behind the training clips
    keep = np.concatenate([train, np.flatnonzero(split != "train")])
    valid, test = len(train), len(train) + int(np.sum(split == "valid"))
    return Grid(
        config,
        clips.take(keep.tolist()),
        slice(0, valid),
        slice(valid, test),
        slice(test, len(keep)),
        pool,
        positive[keep],
        None if negative is None else negative[keep],
        None if tracks is None else tracks[keep],
        tuple(
            replace(drawn, support=tuple(train.searchsorted(rows) for rows in drawn.support))
            for drawn in episodes
        ),
        seen,
    )


def _draw_all(
    config: GridConfig,
    positive: np.ndarray,
    train: np.ndarray,
    pool: Sequence[str],
    tracks: np.ndarray | None,
    seen: dict[int, np.ndarray] | None,
) -> list[Episode]:
    """The largest episode of every seed, of unseen tags where some are seen."""
    episodes = [
        draw_episode(
            seed,
            positive,
            train,
            max(config.n_way),
            config.max_shot,
            config.on_scarce,
            pool,
            tracks,
            None if seen is None else np.flatnonzero(~seen[seed]),
        )
        for seed in config.seeds
    ]
    if config.max_shot:
        _require_support(episodes, config.n_way)
    return episodes


def _require_splits(split: np.ndarray, where: str, validation: str) -> None:
    """Raise InputError unless there are clips for everything."""
    for name, purpose in (
        ("train", "support sets are drawn from it"),
        ("valid", "`validation=valid` chooses by it"),
        ("test", "metrics are taken on it"),
    ):
        if name not in split and (name != "valid" or validation == "valid"):
            raise InputError(
                f"{where}: no {name} clip with features: {purpose}; give some clips that split "
                "(--split_file of extract.prepare)"
            )


def _require_support(episodes: Sequence[Episode], n_ways: Sequence[int]) -> None:
    """Raise InputError unless every cell of 1 shot, and so of more, has a support clip."""
    n_way = min(n_ways)  # cells are nested
    for episode in episodes:
        if not len(episode.cell(n_way, 1)):
            raise InputError(
                f"the {n_way}-way episode of seed {episode.seed} has no training clip at all; "
                "pass `on_scarce=drop_tag`"
            )


def probe_keys(
    config: GridConfig, embedding: str, solver: str, words: WordsConfig = NO_WORDS
) -> list[ProbeKey]:
    """Every probe of one embedding, in the order of the results files."""
    return [
        ProbeKey(embedding, solver, n_way, k_shot, seed, *variant)
        for n_way in config.n_way
        for k_shot in config.k_shot
        for variant in words.variants(k_shot)
        for seed in config.seeds
    ]


def probe_specs(grid: Grid, keys: Sequence[ProbeKey], validation: str) -> list[ProbeSpec]:
    """The specs of the given probes, for a batch. validation: as in SolverConfig."""
    episodes = {episode.seed: episode for episode in grid.episodes}
    everything = np.arange(grid.train.stop)
    fold_of: dict[KShot | int, np.ndarray] = {}
    if validation == "support":
        fold_of = {seed: _episode_folds(grid, episode) for seed, episode in episodes.items()}
        if any(key.k_shot == FULL for key in keys):
            groups = None if grid.tracks is None else grid.tracks[grid.train]
            fold_of[FULL] = assign_folds(grid.positive[grid.train], groups)

    def spec(key: ProbeKey) -> ProbeSpec:
        episode, full = episodes[key.seed], key.k_shot == FULL
        support = everything if isinstance(key.k_shot, str) else episode.cell(key.n_way, key.k_shot)
        folds = fold_of.get(FULL if full else key.seed)
        return ProbeSpec(
            key,
            key.seed,
            support,
            episode.tags[: key.n_way],
            full,
            None if folds is None else folds[support],
        )

    return [spec(key) for key in keys]


def _episode_folds(grid: Grid, episode: Episode) -> np.ndarray:
    """int32 `[clip]`: folds of the largest episode's clips, by row of the grid. Clips are dealt out
    by shot, so that the folds of a cell are about as even as those of the whole.
    """
    rows = np.concatenate(episode.support)
    shots = np.concatenate([np.arange(len(clips)) for clips in episode.support])
    groups = None if grid.tracks is None else grid.tracks[rows]
    folds = np.zeros(grid.train.stop, np.int32)
    folds[rows] = assign_folds(grid.positive[rows][:, episode.tags], groups, order=shots)
    return folds


def sizes(grid: Grid, dim: int) -> Sizes:
    """The sizes of `probe_data`, for features of `dim` dimensions."""
    train, valid, test = (rows.stop - rows.start for rows in (grid.train, grid.valid, grid.test))
    return Sizes(train, valid, test, dim, len(grid.pool))


def probe_data(grid: Grid, features: np.ndarray) -> Data:
    """Features `[clip, dim]` of grid.clips, by split, with their labels; views, no copies."""
    clips = Labelled(features, grid.positive, grid.negative)  # type: ignore[arg-type]
    return Data(clips.of_clips(grid.train), clips.of_clips(grid.valid), clips.of_clips(grid.test))
