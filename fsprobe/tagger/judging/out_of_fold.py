"""Folds by track or group, and heads that are judged only on clips they were not trained on.

One assignment to folds serves all tags. It keeps tracks and groups whole and spreads each tag's
positives, rarest tag first, so that as many tags as possible have positives in more than one fold
(after K. Sechidis et al., "On the stratification of multi-label data", 2011).

Strengths are chosen by cross-validation inside the labels: a head is fitted for each strength and
fold. A fold's own scores come from the strength that does best on the other folds, so that no
score was chosen on the clip it is for; the strength of the head that is saved is the best on all.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

# candidates, in units of the clips' mean squared distance from their mean, so that the scale of the
# features does not matter; few examples want a strong one
STRENGTHS = tuple(float(strength) for strength in np.logspace(0.5, -4.5, 11))
UNJUDGED = 0.1  # in the same units: where no tag can be judged
FOLDS = 5

# (positive, negative [clip, tag], strengths [tag]) → (kernel [tag, dim], bias [tag])
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class OutOfFold(NamedTuple):
    """logits float32 `[clip, tag]`: NaN where the clip's label is unknown, or where the other folds
    have no positive or no negative. folds int `[clip]`. strengths float64 `[tag]`: of the head to
    save.
    """

    logits: np.ndarray
    folds: np.ndarray
    strengths: np.ndarray


def whole(tracks: Sequence[str], groups: Sequence[str], clip_ids: Sequence[str]) -> np.ndarray:
    """int64 `[clip]`: clips of one number are of one track or one group, directly or by others.

    tracks, groups: may be empty, for the column that is not there, and hold empty strings.
    """
    parent = list(range(len(clip_ids)))

    def root(clip: int) -> int:
        while parent[clip] != clip:
            parent[clip] = parent[parent[clip]]
            clip = parent[clip]
        return clip

    for names in (tracks, groups):
        first: dict[str, int] = {}
        for clip, name in enumerate(names):
            if name:
                parent[root(clip)] = root(first.setdefault(name, clip))
    return np.unique([root(clip) for clip in range(len(clip_ids))], return_inverse=True)[1]


def assign_folds(units: np.ndarray, positive: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """int64 `[clip]`: a fold from 0 to count − 1, the same for all clips of a unit.

    units: int `[clip]` of `whole`. positive: `[clip, tag]`.
    """
    number = int(units.max()) + 1
    carried = np.zeros((number, positive.shape[1]))
    np.add.at(carried, units, positive > 0)
    sizes = np.bincount(units, minlength=number)
    order = np.random.default_rng(seed).permutation(number)
    rarest_first = np.argsort((carried > 0).sum(axis=0), kind="stable")
    fold = np.full(number, -1)
    tags = np.zeros((count, positive.shape[1]))
    clips = np.zeros(count)

    def place(unit: int, tag: int | None) -> None:
        keys = [clips] if tag is None else [clips, tags[:, tag]]
        fold[unit] = best = int(np.lexsort(keys)[0])
        tags[best] += carried[unit] > 0
        clips[best] += sizes[unit]

    for tag in rarest_first.tolist():
        for unit in order[(carried[order, tag] > 0) & (fold[order] < 0)]:
            place(int(unit), tag)
    for unit in order[fold[order] < 0]:
        place(int(unit), None)
    return fold[units]


def out_of_fold(
    fit: Fit,
    features: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    folds: np.ndarray,
    strengths: Sequence[float],
    unjudged: float,
) -> OutOfFold:
    """Scores of every known clip by heads that saw neither it nor its track.

    features float32 `[clip, dim]`; positive, negative `[clip, tag]`; folds int `[clip]`.
    fit: one head for weights and a strength per tag. unjudged: the strength where no tag has a
    score; otherwise a tag without one takes the others' median.
    """
    count = int(folds.max()) + 1
    known = positive + negative > 0
    scores = np.full((len(strengths), *positive.shape), np.nan, np.float32)
    with tqdm(
        total=count * len(strengths), desc="cross-validation", dynamic_ncols=True, delay=2
    ) as bar:
        for fold in range(count):
            held = folds == fold
            train_yes, train_no = (np.where(held[:, None], 0, w) for w in (positive, negative))
            can = (train_yes.sum(axis=0) > 0) & (train_no.sum(axis=0) > 0)
            # a tag that cannot be learnt here takes the labels of one that can, so that shapes stay
            stand_in = np.where(can, np.arange(len(can)), int(np.argmax(can)))
            train_yes, train_no = train_yes[:, stand_in], train_no[:, stand_in]
            for number, strength in enumerate(strengths):
                if can.any() and held.any():
                    kernel, bias = fit(train_yes, train_no, np.full(len(can), strength))
                    logits = features[held] @ kernel.T + bias
                    scores[number, held] = np.where(can, logits, np.nan)
                bar.update()
    scores[:, ~known] = np.nan
    losses = _losses(scores, positive, negative, folds)
    best = np.argmin(losses.sum(axis=1), axis=0)
    logits = np.full(positive.shape, np.nan, np.float32)
    for fold in range(count):
        others = np.argmin(losses.sum(axis=1) - losses[:, fold], axis=0)
        held = folds == fold
        logits[held] = scores[others[None, :], np.flatnonzero(held)[:, None], np.arange(len(best))]
    chosen = np.asarray(strengths, np.float64)[best]
    judged = ~np.isnan(logits).all(axis=0)
    chosen[~judged] = np.exp(np.median(np.log(chosen[judged]))) if judged.any() else unjudged
    return OutOfFold(logits, folds, chosen)


def mean_squared_distance(features: np.ndarray) -> float:
    """Of the clips `[clip, dim]` from their mean; at least a tiny number."""
    return max(float(features.var(axis=0, dtype=np.float64).sum()), 1e-20)


def _losses(
    scores: np.ndarray, positive: np.ndarray, negative: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """float64 `[strength, fold, tag]`: logistic loss summed over the fold's scored clips."""
    out = np.zeros((len(scores), int(folds.max()) + 1, scores.shape[2]))
    for number, z in enumerate(scores):
        scored = ~np.isnan(z)
        z = np.where(scored, z, 0)
        loss = positive * np.logaddexp(0, -z) + negative * np.logaddexp(0, z)
        np.add.at(out[number], folds, loss * scored)
    return out
