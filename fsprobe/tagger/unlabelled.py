"""Clips that nobody has labelled, in the training of a tagger: `fsprobe.heads.unlabelled` around
the fits. What is judged out of fold stays the labelled clips alone; unlabelled clips of the tracks
that are held out are left out with them. Strengths too are chosen by the labelled clips alone, as
in the sweep: unlabelled ones, whose labels are guesses, are in every part that a fit learns from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from extract.manifest import Manifest
from extract.store import Store
from fsprobe.features import missing_clips
from fsprobe.heads.data import Labelled as Clips
from fsprobe.heads.unlabelled import (
    SELF_TRAINING,
    WEAK_NEGATIVES,
    self_training,
    weak_negatives,
)
from fsprobe.tagger.judging.out_of_fold import Fitted
from fsprobe.tagger.labelled import Labelled, features_of, units_of
from fsprobe.tagger.matching import Part
from fsprobe.tagger.training import FitHeads

NEVER_HELD_OUT = -1  # the unit of a clip, for fit_heads
WAYS = (WEAK_NEGATIVES, SELF_TRAINING)


class Rest(NamedTuple):
    """The unlabelled clips. features float32 `[clip, dim]`; units int64 `[clip]`, and those of the
    labelled clips by the same numbers, `[labelled]`.
    """

    clip_ids: tuple[str, ...]
    features: np.ndarray
    units: np.ndarray
    labelled_units: np.ndarray


def load_rest(manifest: Manifest, split: str, labelled: Labelled, parts: Sequence[Part]) -> Rest:
    """The clips without a split, and those that are trained on but of which nothing is known, as
    far as every store has them. split: what is trained on, `all` or one; other splits stay away.

    manifest: whole, for tracks that labelled and unlabelled clips share.
    """
    stores: Mapping[str, Store] = {part.name: part.store for part in parts}
    known = set(labelled.clip_ids)
    listed = [
        row
        for row, (clip, mine) in enumerate(zip(manifest.clip_ids, manifest.splits, strict=True))
        if clip not in known and (not mine or split in ("all", mine))
    ]
    clips = replace(manifest.take(listed), splits=("train",) * len(listed))
    absent = missing_clips(stores, clips)
    kept = tuple(clip for clip in clips.clip_ids if clip not in absent)
    units = dict(zip(manifest.clip_ids, units_of(manifest).tolist(), strict=True))
    features = features_of(parts, kept) if kept else labelled.features[:0]
    mine, theirs = (
        np.array([units[clip] for clip in ids], np.int64) for ids in (kept, labelled.clip_ids)
    )
    return Rest(kept, features, mine, theirs)


def with_unlabelled(
    fit: FitHeads,
    rest: Rest,
    way: str,
    weight: float,
    teacher: tuple[np.ndarray, np.ndarray] | None = None,
) -> FitHeads:
    """`fit` that takes the unlabelled clips in. way: `weak_negatives` or `self_training`. teacher:
    features of the labelled and of the unlabelled clips that a teacher is fitted to; None: its own.
    """

    def fit_more(
        features: np.ndarray,
        positive: np.ndarray,
        negative: np.ndarray,
        units: np.ndarray,
        l2: float | str,
    ) -> Fitted:
        seen = (positive + negative).any(axis=1)
        held = np.setdiff1d(rest.labelled_units[~seen], rest.labelled_units[seen])
        usable = ~np.isin(rest.units, held)
        count = len(features)
        labels = [np.pad(part, ((0, len(usable)), (0, 0))) for part in (positive, negative)]
        clips = np.concatenate([features, rest.features])
        everything = Clips(jnp.asarray(clips), *map(jnp.asarray, labels))
        open_ = jnp.asarray(np.append(np.zeros(count, bool), usable))
        share = jnp.float32(weight)
        if way == SELF_TRAINING:
            mine, theirs = teacher or (features, rest.features)
            kernel, bias = fit(mine, positive, negative, units, l2)[:2]
            logits = np.pad(theirs @ kernel.T + bias, ((count, 0), (0, 0)))
            everything = self_training(everything, open_, share, jnp.asarray(logits))
        else:
            everything = weak_negatives(everything, open_, share)
        yes, no = (np.asarray(part) for part in everything.weights)
        together = np.append(rest.labelled_units, np.full(len(usable), NEVER_HELD_OUT))
        return fit(clips, yes, no, together, l2)

    return fit_more
