"""Nested N-way K-shot episodes (Ma & Lerch, AES 2024, §3; DESIGN.md, "The paper's protocol").

One *largest* episode is drawn per seed: tags in random order and, for each tag in that order, K
positive training clips that no earlier tag has taken. The N-way K-shot cell is the part with
position < N and shot < K, so cells are nested both ways and equal for every embedding. What a cell
holds depends on the seed, the pool, the training clips and the largest K (earlier tags take that
many clips each), on nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.errors import InputError

_EPISODE = 1  # what this generator is for: spawn key beside the seed, as fold_in for jax keys


@dataclass(frozen=True)
class Episode:
    """The largest episode of one seed.

    tags: int `[position]`, columns of the label matrix, in episode order.
    support: per position, int `[shot]` rows of the label matrix: that tag's support clips in order.
    """

    seed: int
    tags: np.ndarray
    support: tuple[np.ndarray, ...]

    def cell(self, n_way: int, k_shot: int) -> np.ndarray:
        """Rows of the N-way K-shot support set, by position, then shot."""
        return np.concatenate([clips[:k_shot] for clips in self.support[:n_way]])


def draw_episode(
    seed: int,
    labels: np.ndarray,
    train: np.ndarray,
    n_way: int,
    k_shot: int,
    on_scarce: str = "error",
    names: Sequence[str] | None = None,
    tracks: np.ndarray | None = None,
    pool: np.ndarray | None = None,
) -> Episode:
    """Draw the largest episode: n_way tags, up to k_shot support clips each.

    labels: bool `[clip, tag]`, known positives; train: rows that may be support. tracks: int
    `[clip]`: a tag's clips come from different tracks as long as there are any, for near copies are
    no further shots. pool: int `[tag]`, the columns to draw from; None: all. k_shot 0 draws tags
    only. A tag with fewer than k_shot positives left is an InputError (`on_scarce="error"`),
    keeps what it has (`"fewer"`) or gives its place to the next tag of the order (`"drop_tag"`).
    Raises InputError where n_way exceeds the tags there are.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_EPISODE,)))
    order = rng.permutation(labels.shape[1] if pool is None else pool)
    taken = np.zeros(labels.shape[0], bool)
    tags: list[int] = []
    support: list[np.ndarray] = []
    for tag in order:
        if len(tags) == n_way:
            break
        candidates = rng.permutation(train[labels[train, tag]])
        clips = candidates[~taken[candidates]]
        if tracks is not None:
            clips = clips[np.argsort(_repeats(tracks[clips]), kind="stable")]
        clips = clips[:k_shot]
        if len(clips) < k_shot and on_scarce != "fewer":
            if on_scarce == "drop_tag":
                continue
            name = names[tag] if names is not None else tag
            raise InputError(
                f"tag {name!r} has {len(clips)} training clips left of {len(candidates)} positives "
                f"(seed {seed}), {k_shot} are needed; lower `k_shot`, or pass `on_scarce=fewer` or "
                "`on_scarce=drop_tag`"
            )
        taken[clips] = True
        tags.append(int(tag))
        support.append(clips)
    if len(tags) < n_way:
        dropped = (
            f", {len(order) - len(tags)} of them dropped as scarce"
            if on_scarce == "drop_tag"
            else ""
        )
        what = f"tags{dropped}" if pool is None else f"unseen tags{dropped}"
        remedy = "widen `tags`" if pool is None else "lower `seen`, or widen `tags`"
        raise InputError(
            f"`n_way={n_way}` is above the pool of {len(order)} {what} (seed {seed}); "
            f"lower `n_way` or {remedy}"
        )
    return Episode(seed, np.array(tags), tuple(support))


def _repeats(tracks: np.ndarray) -> np.ndarray:
    """int `[clip]`: how many clips before it are of the same track."""
    order = np.argsort(tracks, kind="stable")
    _, first, counts = np.unique(tracks[order], return_index=True, return_counts=True)
    repeats = np.empty(len(tracks), np.int64)
    repeats[order] = np.arange(len(tracks)) - np.repeat(first, counts)
    return repeats
