"""Cross-validation inside a support set: which clip is in which fold, and what can be held out."""

import numpy as np

FOLDS = 5


def assign_folds(
    positive: np.ndarray,
    groups: np.ndarray | None = None,
    order: np.ndarray | None = None,
    num_folds: int = FOLDS,
) -> np.ndarray:
    """int32 `[clip]`: the fold of each clip, 0 to num_folds − 1, the same for the same arguments.

    positive: `[clip, tag]`, weights of the positive label. groups: int `[clip]`, clips of one group
    (near copies: a track) are in one fold; None: each clip is its own.

    Groups are assigned one by one, each to the fold that has the fewest positives of the group's
    rarest tag so far, and among equals to the one with the fewest clips. order: int `[clip]`, clips
    of lower numbers are assigned first; None: those with the rarest tags first.
    """
    count = len(positive)
    # and a tag that no clip has, so that there is one
    positive = np.append(np.asarray(positive) > 0, np.zeros((count, 1), bool), axis=1)
    groups = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    num_groups = int(groups.max(initial=-1)) + 1
    members = np.zeros((num_groups, positive.shape[1]), np.int64)
    np.add.at(members, groups, positive)
    sizes = np.bincount(groups, minlength=num_groups)
    totals = np.where(members > 0, members.sum(axis=0), np.iinfo(np.int64).max)
    rarest = totals.argmin(axis=1)
    first = totals.min(axis=1) if order is None else np.full(num_groups, np.iinfo(np.int64).max)
    if order is not None:
        np.minimum.at(first, groups, order)
    held = np.zeros((num_folds, positive.shape[1]), np.int64)
    clips = np.zeros(num_folds, np.int64)
    folds = np.zeros(num_groups, np.int32)
    for group in np.lexsort((np.arange(num_groups), first)):
        fold = np.lexsort((clips, held[:, rarest[group]]))[0]
        folds[group] = fold
        held[fold] += members[group]
        clips[fold] += sizes[group]
    return folds[groups].astype(np.int32)


def num_positive(positive: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """`[tag]`: how many groups have a positive clip of the tag; without groups, how many clips.
    positive: `[clip, tag]`. groups: int `[clip]`; clips of one group are held out together.
    """
    groups = np.arange(len(positive)) if groups is None else groups
    return np.array([np.unique(groups[weights > 0]).size for weights in positive.T])
