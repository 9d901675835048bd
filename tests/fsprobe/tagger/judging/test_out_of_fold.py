from dataclasses import replace

import numpy as np

from extract.manifest import Manifest
from fsprobe.tagger.judging.out_of_fold import out_of_fold
from fsprobe.tagger.judging.verdicts import roc_auc
from fsprobe.tagger.labelled import units_of
from tests.support.plain_fit import fit_heads


def test_clips_of_a_track_or_group_stay_together():
    clips = Manifest(tuple("abcde"), ("",) * 5, ("train",) * 5, ((),) * 5)
    tracks, groups = ("t1", "t1", "", "t2", ""), ("", "g", "", "g", "")
    units = units_of(replace(clips, tracks=tracks, groups=groups))
    assert units[0] == units[1] == units[3]  # by the track, then by the group
    assert len({units[0], units[2], units[4]}) == 3
    assert len(set(units_of(clips))) == 5


def data(clips=120, tags=3, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((clips, dim)).astype(np.float32)
    labels = (features[:, :tags] + rng.standard_normal((clips, tags)) > 0.8).astype(np.float32)
    return features, labels


def fitted(features):
    return lambda positive, negative: fit_heads(features, positive, negative, l2=0.5)


def test_no_score_comes_from_a_head_that_saw_the_clip_or_its_track():
    """Changing a fold's labels changes no score of that fold, and every score of the others."""
    features, labels = data()
    units = np.arange(120) // 3
    before = out_of_fold(fitted(features), features, labels, 1 - labels, units, 4)
    for unit in range(40):
        assert len(set(before.folds[units == unit])) == 1
    changed = labels.copy()
    swapped = before.folds == 2
    changed[swapped] = labels[np.flatnonzero(swapped)[::-1]]  # as many of each: the same folds
    scores = []
    for one in (labels, changed):
        heads = []
        for fold in range(4):
            held = (before.folds == fold)[:, None]
            heads.append(fitted(features)(np.where(held, 0, one), np.where(held, 0, 1 - one)))
        by_hand = np.stack([features @ head.kernel.T + head.bias for head in heads])
        scores.append(by_hand[before.folds, np.arange(120)])
    np.testing.assert_allclose(before.logits, scores[0], rtol=1e-5, atol=1e-6)
    same = np.isclose(scores[0], scores[1], rtol=1e-9)
    assert same[swapped].all() and not same[~swapped].all()


def test_random_labels_are_not_better_than_chance():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((200, 50)).astype(np.float32)
    labels = (rng.random((200, 4)) < 0.3).astype(np.float32)
    found = out_of_fold(fitted(features), features, labels, 1 - labels, np.arange(200))
    aucs = [
        roc_auc(found.logits[:, tag], labels[:, tag], 1 - labels[:, tag], found.folds)
        for tag in range(4)
    ]
    # a standard error is 0.05 with 60 positives and 140 negatives in five folds, 0.025 of the mean
    assert abs(np.mean(aucs) - 0.5) < 0.1


def test_unknown_labels_have_no_score_and_one_track_judges_nothing():
    features, labels = data()
    unknown = np.arange(120) % 3 == 0
    negative = np.where(unknown[:, None] & (labels == 0), 0, 1 - labels)
    found = out_of_fold(fitted(features), features, labels, negative, np.arange(120))
    np.testing.assert_array_equal(np.isnan(found.logits), labels + negative == 0)
    alone = np.zeros_like(labels)
    alone[5] = 1
    found = out_of_fold(fitted(features), features, alone, 1 - alone, np.arange(120))
    # the fold of the only positive has nothing to learn from
    held = found.folds == found.folds[5]
    assert np.isnan(found.logits[held]).all() and np.isfinite(found.logits[~held]).all()
