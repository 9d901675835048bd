"""What a tagger learns from: features of the marked clips, what is known of each, who belongs
together.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.errors import InputError
from extract.files import is_number, read_csv
from extract.manifest import Manifest
from fsprobe.features import load_features, missing_clips
from fsprobe.labels import tag_labels
from fsprobe.tagger.matching import Part


class Labelled(NamedTuple):
    """clip_ids `[clip]`; features float32 `[clip, dim]`; positive, negative float32 `[clip, tag]`:
    weights, (1, 0) yes, (0, 1) no, (0, 0) not known. units int64 `[clip]`: clips of one number are
    of one track or group.
    """

    tags: tuple[str, ...]
    clip_ids: tuple[str, ...]
    features: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    units: np.ndarray


class Counts(NamedTuple):
    """Of one tag: clips that have it and that do not, tracks of each."""

    positives: int
    negatives: int
    tracks_positive: int
    tracks_negative: int


def clips_to_train_on(manifest: Manifest, split: str) -> Manifest:
    """Those with a split, or with the one named, of units that all clips tell. Raises InputError if
    there is none.
    """
    rows = [row for row, s in enumerate(manifest.splits) if s and split in ("all", s)]
    if not rows:
        raise InputError(
            f"`split={split}`: no clip of the manifest has {'one' if split == 'all' else 'it'}; "
            "extract.prepare sets them"
        )
    return with_units(manifest).take(rows)


def with_units(manifest: Manifest) -> Manifest:
    """With a group for each of its units, and no tracks: what is taken of it keeps two tracks
    together that a clip joins which is not taken.
    """
    return replace(manifest, tracks=(), groups=tuple(map(str, units_of(manifest).tolist())))


def without_missing(manifest: Manifest, parts: Sequence[Part], drop: bool) -> tuple[Manifest, int]:
    """(the clips that every store has, how many were dropped). Raises InputError on a clip that a
    store lacks, unless drop.
    """
    stores = {part.name: part.store for part in parts}
    absent = missing_clips(stores, manifest)
    if absent and not drop:
        clip, name = next(iter(absent.items()))
        raise InputError(
            f"{stores[name].path}: no finished row of clip {clip!r} ({len(absent)} such clips of "
            f"{len(manifest)}); extract them, or pass `missing=drop`"
        )
    rows = [row for row, clip in enumerate(manifest.clip_ids) if clip not in absent]
    if not rows:
        raise InputError("no clip of the manifest has a finished row in every store")
    return manifest.take(rows), len(absent)


def labels(manifest: Manifest, tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(positive, negative) float32 `[clip, tag]`. Where the manifest has `not_tags`, what stands in
    neither list is unknown; where it does not, it is absent.
    """
    positive, negative = tag_labels(manifest, tags)
    negative = ~positive if negative is None else negative
    return positive.astype(np.float32), negative.astype(np.float32)


def units_of(manifest: Manifest) -> np.ndarray:
    """int64 `[clip]`: clips of one number are of one track or one group, directly or by others."""
    parent = list(range(len(manifest)))

    def root(clip: int) -> int:
        while parent[clip] != clip:
            parent[clip] = parent[parent[clip]]
            clip = parent[clip]
        return clip

    for names in (manifest.tracks, manifest.groups):
        first: dict[str, int] = {}
        for clip, name in enumerate(names):
            if name:
                parent[root(clip)] = root(first.setdefault(name, clip))
    return np.unique([root(clip) for clip in range(len(manifest))], return_inverse=True)[1]


def count(positive: np.ndarray, negative: np.ndarray, units: np.ndarray) -> list[Counts]:
    """Of each tag; positive, negative `[clip, tag]`."""
    return [
        Counts(*((w > 0).sum() for w in (yes, no)), *(len(set(units[w > 0])) for w in (yes, no)))
        for yes, no in zip(positive.T, negative.T, strict=True)
    ]


def trainable(manifest: Manifest, tags: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """(tags with a positive and a negative clip, the others → why they are left out). Raises
    InputError if none is left.
    """
    positive, negative = (w.sum(axis=0) for w in labels(manifest, tags))
    left_out = {
        tag: "no clip is known not to have it" if yes else "no clip has it"
        for tag, yes, no in zip(tags, positive, negative, strict=True)
        if not (yes and no)
    }
    kept = tuple(tag for tag in tags if tag not in left_out)
    if not kept:
        why = f": {next(iter(left_out.items()))[1]} (tag {tags[0]!r})" if tags else ""
        raise InputError(f"no tag can be learnt{why}; mark clips with and without it")
    return kept, left_out


def load(manifest: Manifest, parts: Sequence[Part], tags: Sequence[str]) -> Labelled:
    """The clips of which something is known. Raises InputError on NaN or Inf in their features."""
    positive, negative = labels(manifest, tags)
    known = np.flatnonzero((positive + negative).sum(axis=1) > 0)
    numbers: dict[int, int] = {}  # a clip of which nothing is known may join two tracks
    units = [numbers.setdefault(unit, len(numbers)) for unit in units_of(manifest)[known].tolist()]
    manifest = manifest.take(known.tolist())
    return Labelled(
        tuple(tags),
        manifest.clip_ids,
        features_of(parts, manifest.clip_ids),
        positive[known],
        negative[known],
        np.array(units, np.int64),
    )


def features_of(parts: Sequence[Part], clip_ids: Sequence[str]) -> np.ndarray:
    """float32 `[clip, dim]`. Raises InputError on a clip that a store lacks, and on NaN or Inf."""
    stores, count = {part.name: part.store for part in parts}, len(clip_ids)
    clips = Manifest(tuple(clip_ids), ("",) * count, ("train",) * count, ((),) * count)
    framenorm = parts[0].array == "features_framenorm"
    return load_features(stores, clips, "+".join(stores), framenorm)


def read_prevalence(path: Path) -> dict[str, float]:
    """tag → the share of clips that have it, from a CSV `tag,prevalence`. Raises InputError."""
    found: dict[str, float] = {}
    for line, row in read_csv(path, ("tag", "prevalence")):
        tag, text = row["tag"], row["prevalence"]
        value = float(text) if is_number(text) else math.nan
        if not 0 < value < 1:
            raise InputError(
                f"{path}, line {line}: prevalence {text!r} of tag {tag!r} is not between 0 and 1"
            )
        if tag in found:
            raise InputError(f"{path}, line {line}: tag {tag!r} stands twice")
        found[tag] = value
    return found
