"""Whose labels a seed may learn of, where words stand for the others.

A tag without a vector is in no pool: no word says what it is. With another corpus to test on, all
tags of the first are seen, and the second's others are not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest
from extract.store import Store
from fsprobe import features
from fsprobe.config import SweepConfig
from fsprobe.labels import tag_labels, tag_pool
from fsprobe.words.vectors import Words, load_words, vectors_of

_SEEN, _SHUFFLED = 2, 3  # what these generators are for: spawn keys beside the seed


@dataclass(frozen=True, eq=False)
class SeenTags:
    """pool: tags with a vector. vectors: float32 `[tag, word]`, of length 1. share: of the pool,
    drawn anew for each seed. given: bool `[tag]`, the same for all seeds, instead of a share.
    without: tags that have no vector.
    """

    pool: tuple[str, ...]
    vectors: np.ndarray
    share: float
    given: np.ndarray | None = None
    without: tuple[str, ...] = ()

    def draw(self, seeds: Iterable[int]) -> dict[int, np.ndarray]:
        """Of each seed, bool `[tag]`: round(share · tags) of them, but not all, and two or more."""
        if self.given is not None:
            return dict.fromkeys(seeds, self.given)
        count = min(max(round(self.share * len(self.pool)), 2), len(self.pool) - 1)
        if len(self.pool) < 3:
            raise InputError(
                f"`tags`: {len(self.pool)} tags have a vector: too few to see two and hide one; "
                "widen `tags`, or make vectors of more"
            )
        return {
            seed: np.argsort(_generator(seed, _SEEN).permutation(len(self.pool))) < count
            for seed in seeds
        }

    def shuffled(self, seed: int) -> np.ndarray:
        """The vectors dealt out among the tags, none to its own."""
        rng = _generator(seed, _SHUFFLED)
        cycle = rng.permutation(len(self.pool))  # each takes the next one's: no tag keeps its own
        vectors = np.empty_like(self.vectors)
        vectors[cycle] = self.vectors[np.roll(cycle, 1)]
        return vectors


def words_of(
    config: SweepConfig, manifest: Manifest, stores: Mapping[str, Store]
) -> tuple[SeenTags | None, Manifest, dict[str, Store]]:
    """(which tags are seen, None without words; the manifest of all clips; the stores of the test
    clips, empty where they are those of all). Raises InputError on what does not fit together.
    """
    settings = config.words
    if not settings.directory:
        return None, manifest, {}
    words = load_words(settings.directory)
    if not settings.test_manifest:
        seen = _with_vectors(tag_pool(manifest, config.grid.tags), words, settings.seen)
        return seen, manifest, {}
    second = read_manifest(settings.test_manifest)
    test_stores = features.open_stores(
        {name: path for name, path in settings.test_stores if name in stores}
    )
    _require_same_stores(stores, test_stores)
    features.require_clips(test_stores, _of_splits(second, ("test",)))
    seen, both = _seen_of_two(manifest, second, config.grid.tags, words)
    return seen, both, test_stores


def _require_same_stores(stores: Mapping[str, Store], others: Mapping[str, Store]) -> None:
    """Raise InputError unless the second corpus has the same embeddings."""
    for name, store in stores.items():
        if name not in others:
            raise InputError(f"`test_store`: none called {name!r}; give `test_store={name}=DIR`")
        for what in ("embedding", "dim"):
            ours, theirs = store.meta.get(what), others[name].meta.get(what)
            if ours != theirs:
                raise InputError(
                    f"`test_store={name}={others[name].path}`: its {what} is {theirs}, that of "
                    f"`store` {ours}; extract both corpora alike"
                )


def _seen_of_two(
    first: Manifest, second: Manifest, tags: str, words: Words
) -> tuple[SeenTags, Manifest]:
    """(the tags, those of the first corpus seen, the second's others not; one manifest: the first's
    training and validation clips, the second's test clips). A tag of one corpus is unknown for the
    other's clips, where that does not have it.

    Raises InputError where the second has no test clip, or no tag that the first lacks.
    """
    taught = _of_splits(first, ("train", "valid"))
    tested = _of_splits(second, ("test",))
    if not len(tested):
        raise InputError("`test_manifest`: no test clip; give some clips that split")
    learnt = {tag for tags in _of_splits(first, ("train",)).tags for tag in tags}
    ours = [tag for tag in tag_pool(first, tags) if tag in learnt]
    present = {tag for tags in tested.tags for tag in tags}
    theirs = [tag for tag in tag_pool(second, "all") if tag in present]
    both = _with_vectors((*ours, *(tag for tag in theirs if tag not in ours)), words, 1.0)
    given = np.isin(both.pool, ours)
    if given.all() or not given.any():
        raise InputError(
            "`test_manifest`: of the tags with vectors, it has none that `manifest` lacks, or "
            "`manifest` has none to learn of; make vectors for both with extract.words"
        )
    seen = replace(both, given=given)
    known = [(taught, set(ours)), (tested, {tag for tags in second.tags for tag in tags})]
    manifest = Manifest(
        (*taught.clip_ids, *tested.clip_ids),
        (*taught.paths, *tested.paths),
        (*taught.splits, *tested.splits),
        (*taught.tags, *tested.tags),
        not_tags=tuple(absent for clips, tags in known for absent in _absent(clips, seen, tags)),
    )
    return seen, manifest


def _with_vectors(pool: tuple[str, ...], words: Words, share: float) -> SeenTags:
    vectors, known = vectors_of(words, pool)
    kept = np.flatnonzero(known)
    return SeenTags(
        tuple(pool[tag] for tag in kept),
        vectors[kept],
        share,
        without=tuple(tag for tag, has in zip(pool, known, strict=True) if not has),
    )


def _of_splits(manifest: Manifest, splits: tuple[str, ...]) -> Manifest:
    """The manifest of the clips of these splits."""
    return manifest.take([row for row, split in enumerate(manifest.splits) if split in splits])


def _absent(clips: Manifest, seen: SeenTags, tags: set[str]) -> list[tuple[str, ...]]:
    """Of each clip, the tags of the pool that it is known not to carry, as far as they are its
    corpus's.
    """
    positive, negative = tag_labels(clips, seen.pool)
    absent = (~positive if negative is None else negative) & np.isin(seen.pool, sorted(tags))
    return [tuple(seen.pool[tag] for tag in np.flatnonzero(row)) for row in absent]


def _generator(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose,)))
