"""Folds: groups stay whole, every tag's positives are spread, and nothing is left to chance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fsprobe.heads.cross_validation import FOLDS, assign_folds


def example(seed: int, n: int, n_tags: int, chance: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).random((n, n_tags)) < chance


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    n=st.integers(0, 60),
    n_tags=st.integers(0, 5),
    n_groups=st.integers(1, 40),
)
def test_groups_are_whole_and_folds_are_decided(seed, n, n_tags, n_groups):
    positive = example(seed, n, n_tags)
    groups = np.random.default_rng(seed).integers(0, n_groups, n)
    folds = assign_folds(positive, groups)
    assert folds.shape == (n,) and folds.dtype == np.int32
    assert ((folds >= 0) & (folds < FOLDS)).all()
    for group in np.unique(groups):
        assert len(set(folds[groups == group])) == 1
    np.testing.assert_array_equal(folds, assign_folds(positive.copy(), groups * 7 - 3))
    np.testing.assert_array_equal(folds, assign_folds(positive * 0.5, groups))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 80), chance=st.floats(0.05, 0.9))
def test_the_positives_of_one_tag_are_even_over_the_folds(seed, n, chance):
    positive = example(seed, n, 1, chance)
    held = np.bincount(assign_folds(positive)[positive[:, 0]], minlength=FOLDS)
    assert held.max() - held.min() <= 1


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), n_tags=st.integers(2, 10), k_shot=st.integers(3, 10))
def test_clips_of_one_tag_each_are_even_for_all_tags(seed, n_tags, k_shot):
    tags = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_tags), k_shot))
    positive = np.eye(n_tags, dtype=bool)[tags]
    folds = assign_folds(positive)
    for tag in range(n_tags):
        held = np.bincount(folds[tags == tag], minlength=FOLDS)
        assert held.max() - held.min() <= 1
    sizes = np.bincount(folds, minlength=FOLDS)
    assert sizes.max() - sizes.min() <= n_tags


def test_every_tag_of_five_clips_is_in_every_fold():
    positive = np.eye(4, dtype=bool).repeat(FOLDS, axis=0)
    folds = assign_folds(positive)
    for tag in range(4):
        assert sorted(folds[positive[:, tag]]) == list(range(FOLDS))


def test_an_order_makes_prefixes_even():
    """A cell has the first shots of each tag: its folds are even too."""
    n_tags, k_shot = 4, 10
    positive = np.eye(n_tags, dtype=bool).repeat(k_shot, axis=0)
    shots = np.tile(np.arange(k_shot), n_tags)
    folds = assign_folds(positive, order=shots)
    for count in (3, 5, 7):
        for tag in range(n_tags):
            held = np.bincount(folds[positive[:, tag] & (shots < count)], minlength=FOLDS)
            assert held.max() - held.min() <= 1


def test_as_many_folds_as_asked_for():
    folds = assign_folds(example(0, 30, 2), num_folds=3)
    assert set(folds) == {0, 1, 2}
