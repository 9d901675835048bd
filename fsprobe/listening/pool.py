"""The clips that may be asked about: where their features are, what heads say of them, what is
known.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest
from fsprobe.labels import tag_labels
from fsprobe.listening.ranking import by_block, directions, standard_of
from fsprobe.listening.strategies import Directions
from fsprobe.tagger.matching import Part
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.tagging import Scorer, items_by_clip


class Pool(NamedTuple):
    """clip_ids: of the manifest's clips that every store has, in the manifest's order. rows: per
    part int64 `[clip]`, where their features are.
    """

    clip_ids: tuple[str, ...]
    parts: tuple[Part, ...]
    rows: tuple[np.ndarray, ...]


def pool_of(manifest: Manifest, parts: Sequence[Part]) -> Pool:
    """Raises InputError if no clip of the manifest has a finished row in every store."""
    items = items_by_clip(parts)
    first = parts[0].store.clip_ids
    place = {first[row]: number for number, row in enumerate(items.rows[0].tolist())}
    clip_ids = tuple(clip for clip in manifest.clip_ids if clip in place)
    if not clip_ids:
        raise InputError(
            f"{parts[0].store.path}: no finished row of any clip of the manifest; extract them"
        )
    order = np.array([place[clip] for clip in clip_ids], np.int64)
    return Pool(clip_ids, tuple(parts), tuple(rows[order] for rows in items.rows))


def probabilities(pool: Pool, tagger: Tagger) -> np.ndarray:
    """float32 `[clip, tag]`. Raises InputError on NaN or Inf in the features."""
    scorer = Scorer(tagger, pool.parts)
    out = np.empty((len(pool.clip_ids), len(tagger.tags)), np.float32)

    score = lambda rows: scorer.probabilities(scorer.logits(rows))  # noqa: E731
    for start, scores in by_block(score, pool.rows, "scoring"):
        out[start : start + len(scores)] = scores
    return out


def heard(manifest: Manifest) -> np.ndarray:
    """bool `[clip]`: False where the manifest has no `not_tags` and lists no tag of the clip."""
    return np.array([manifest.not_tags is not None or bool(tags) for tags in manifest.tags], bool)


def listed_labels(pool: Pool, manifest: Manifest, tags: Sequence[str]) -> np.ndarray:
    """bool `[clip, tag]`: has somebody told the manifest whether the clip has the tag? Where it has
    no `not_tags`, of clips with a tag all tags were told; a clip without any is not heard yet,
    though training takes it for a no.
    """
    positive, negative = tag_labels(manifest, tags)
    if negative is None:
        named = {tag for listed in manifest.tags for tag in listed}
        said = heard(manifest)[:, None] & np.array([tag in named for tag in tags], bool)
    else:
        said = positive | negative
    places = {clip: place for place, clip in enumerate(manifest.clip_ids)}
    return said[[places[clip] for clip in pool.clip_ids]]


def with_judged(
    known: np.ndarray, pool: Pool, judged: Iterable[tuple[str, str]], tags: Sequence[str]
) -> np.ndarray:
    """`known` `[clip, tag]` and what was judged, as `unknown` too. judged: (clip, tag)."""
    rows = {clip: row for row, clip in enumerate(pool.clip_ids)}
    column = {tag: number for number, tag in enumerate(tags)}
    known = known.copy()
    for clip, tag in judged:
        if clip in rows and tag in column:
            known[rows[clip], column[tag]] = True
    return known


def directions_of(pool: Pool) -> Directions:
    """Features of clips of the pool: standardised over it, then scaled to length 1."""
    standard = standard_of(pool.parts, pool.rows)
    return lambda places: directions(pool.parts, standard, [rows[places] for rows in pool.rows])
