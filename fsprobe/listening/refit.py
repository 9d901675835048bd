"""Heads fitted again to what was judged so far: a tagger as fsprobe.train makes it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest
from fsprobe.listening.exchange import merged
from fsprobe.listening.judgements import Current
from fsprobe.tagger import labelled
from fsprobe.tagger.fitting import fit_heads
from fsprobe.tagger.judging.out_of_fold import Fitted
from fsprobe.tagger.matching import Part
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.training import TrainConfig, tagger_of, train

_STEP = 64  # numbers of clips are rounded up to it: equal shapes compile once


def refit(
    manifest: Manifest, parts: Sequence[Part], current: Current, tags: Sequence[str]
) -> Tagger:
    """A tagger of those tags that have a yes and a no, from the manifest's labels and what was
    judged. Raises InputError if there is no such tag yet.
    """
    clips = labelled.with_units(merged(manifest, current))
    clips = replace(clips, splits=("train",) * len(clips))
    said = zip(clips.tags, clips.not_tags or (), strict=True)
    rows = [row for row, labels in enumerate(said) if any(labels)]
    if not rows:
        raise InputError("nothing has been judged yet: a tag needs a yes and a no")
    known, _ = labelled.without_missing(clips.take(rows), parts, drop=True)
    kept, _ = labelled.trainable(known, tags)
    rows_of = train(labelled.load(known, parts, kept), _fit_padded, TrainConfig())
    return tagger_of(rows_of, parts, "+".join(part.name for part in parts), known)


def _fit_padded(
    features: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    units: np.ndarray,
    l2: float | str,
) -> Fitted:
    """`fit_heads` with copies of the first clip, of which nothing is known."""
    more = -len(features) % _STEP
    extended = np.append(np.arange(len(features)), np.zeros(more, int))
    weights = [np.pad(labels, ((0, more), (0, 0))) for labels in (positive, negative)]
    return fit_heads(features[extended], weights[0], weights[1], units[extended], l2)
