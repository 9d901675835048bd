import numpy as np
from sklearn.linear_model import LogisticRegression

from fsprobe.tagger.judging.out_of_fold import (
    assign_folds,
    mean_squared_distance,
    out_of_fold,
    whole,
)


def test_clips_of_a_track_or_group_stay_together():
    units = whole(("t1", "t1", "", "t2", ""), ("", "g", "", "g", ""), tuple("abcde"))
    assert units[0] == units[1] == units[3]  # by the track, then by the group
    assert len({units[0], units[2], units[4]}) == 3
    assert len(set(whole((), (), tuple("abc")))) == 3


def test_folds_keep_units_whole_and_spread_rare_tags():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(60), 4)
    of_unit = rng.random((60, 5)) < [0.5, 0.3, 0.1, 0.05, 0.04]
    of_unit[:2, 4] = True
    positive = of_unit[units].astype(np.float32)
    folds = assign_folds(units, positive, 5)
    for unit in range(60):
        assert len(set(folds[units == unit])) == 1
    for tag in range(5):
        carriers = int(of_unit[:, tag].sum())
        assert len(set(folds[positive[:, tag] > 0])) == min(carriers, 5)
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 12  # three tracks
    assert (assign_folds(units, positive, 5) == folds).all()


def fit_with(features):
    """A head by scikit-learn, for tags whose labels are all known or not at all."""

    def fit(positive, negative, strengths):
        rows = []
        for yes, no, l2 in zip(positive.T, negative.T, strengths, strict=True):
            known = yes + no > 0
            model = LogisticRegression(C=1 / (known.sum() * l2), tol=1e-8, max_iter=1000)
            model.fit(features[known], yes[known] > 0)
            rows.append((model.coef_[0], model.intercept_[0]))
        kernel, bias = zip(*rows, strict=True)
        return np.array(kernel), np.array(bias)

    return fit


def data(clips=120, tags=3, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((clips, dim)).astype(np.float32)
    labels = (features[:, :tags] + rng.standard_normal((clips, tags)) > 0.8).astype(np.float32)
    return features, labels


def test_no_score_comes_from_a_head_that_saw_the_clip():
    """With one strength: changing a fold's labels changes no score of that fold."""
    features, labels = data()
    folds = np.arange(120) % 4
    before = out_of_fold(fit_with(features), features, labels, 1 - labels, folds, [0.1], 0.1)
    changed = labels.copy()
    changed[folds == 2] = 1 - changed[folds == 2]
    after = out_of_fold(fit_with(features), features, changed, 1 - changed, folds, [0.1], 0.1)
    same = before.logits == after.logits
    assert same[folds == 2].all() and not same[folds != 2].any()


def test_random_labels_are_not_better_than_chance():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((200, 50)).astype(np.float32)
    labels = (rng.random((200, 4)) < 0.3).astype(np.float32)
    found = out_of_fold(
        fit_with(features), features, labels, 1 - labels, np.arange(200) % 5, [0.01, 1.0], 0.1
    )
    from sklearn.metrics import roc_auc_score

    aucs = [roc_auc_score(labels[:, tag], found.logits[:, tag]) for tag in range(4)]
    # a standard error is 0.045 with 60 positives and 140 negatives, 0.022 of the mean
    assert abs(np.mean(aucs) - 0.5) < 0.09


def test_unknown_labels_have_no_score_and_one_fold_judges_nothing():
    features, labels = data()
    unknown = np.arange(120) % 3 == 0
    negative = np.where(unknown[:, None] & (labels == 0), 0, 1 - labels)
    folds = np.arange(120) % 4
    found = out_of_fold(fit_with(features), features, labels, negative, folds, [0.1, 1.0], 0.1)
    np.testing.assert_array_equal(np.isnan(found.logits), labels + negative == 0)
    alone = np.zeros_like(labels)
    alone[5] = 1
    found = out_of_fold(fit_with(features), features, alone, 1 - alone, folds, [0.1, 1.0], 0.7)
    # the fold of the only positive has nothing to learn from
    assert np.isnan(found.logits[folds == 1]).all() and (found.strengths > 0).all()


def test_the_best_strength_is_chosen():
    """Noise in 60 dimensions wants a strong penalty; the informative one a weak."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((80, 60)).astype(np.float32)
    labels = (rng.random((80, 1)) < 0.5).astype(np.float32)
    path = [1e-4, 10.0]
    folds = np.arange(80) % 5
    assert out_of_fold(fit_with(noise), noise, labels, 1 - labels, folds, path, 1).strengths == 10
    told = np.concatenate([4 * labels - 2, noise[:, :1]], axis=1)
    assert out_of_fold(fit_with(told), told, labels, 1 - labels, folds, path, 1).strengths == 1e-4


def test_mean_squared_distance():
    x = np.array([[0.0, 0], [2, 0], [0, 4], [2, 4]], np.float32)
    assert mean_squared_distance(x) == 1 + 4
