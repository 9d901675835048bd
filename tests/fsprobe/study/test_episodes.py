"""Episodes: N·K distinct positive training clips, nested both ways, decided by the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError
from fsprobe.study.episodes import draw_episode


def labels_and_train(
    num_clips: int = 400, num_tags: int = 8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((num_clips, num_tags)) < 0.25, np.flatnonzero(rng.random(num_clips) < 0.8)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 8), st.integers(1, 6))
def test_support_is_distinct_positive_and_from_training(seed, n_way, k_shot):
    labels, train = labels_and_train()
    episode = draw_episode(seed, labels, train, n_way, k_shot)
    cell = episode.cell(n_way, k_shot)
    assert len(np.unique(cell)) == n_way * k_shot
    assert len(np.unique(episode.tags)) == n_way
    assert np.isin(cell, train).all()
    for tag, clips in zip(episode.tags, episode.support, strict=True):
        assert labels[clips, tag].all()


def test_cells_are_nested_both_ways():
    labels, train = labels_and_train()
    episode = draw_episode(3, labels, train, 6, 5)
    assert set(episode.cell(2, 5)) < set(episode.cell(6, 5))
    assert set(episode.cell(6, 1)) < set(episode.cell(6, 5))
    wider = draw_episode(3, labels, train, 8, 5)  # a larger N only adds tags
    np.testing.assert_array_equal(wider.tags[:6], episode.tags)
    np.testing.assert_array_equal(wider.cell(6, 5), episode.cell(6, 5))


def test_seeds_differ_and_repeat():
    labels, train = labels_and_train()
    first, again, other = (draw_episode(seed, labels, train, 5, 3) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.cell(5, 3), again.cell(5, 3))
    assert set(first.cell(5, 3)) != set(other.cell(5, 3))


def test_tags_are_drawn_evenly():
    labels, train = labels_and_train()
    first = [draw_episode(seed, labels, train, 1, 1).tags[0] for seed in range(400)]
    counts = np.bincount(first, minlength=8)
    # binomial(400, 1/8): mean 50, standard deviation 6.6; five of them is a chance of 1e-6 per tag
    assert np.abs(counts - 50).max() < 33


def scarce() -> tuple[np.ndarray, np.ndarray]:
    """Tag 0 has 2 clips, the others 10 each, none shared."""
    labels = np.zeros((32, 4), bool)
    labels[:2, 0] = labels[2:12, 1] = labels[12:22, 2] = labels[22:, 3] = True
    return labels, np.arange(32)


def test_a_scarce_tag_stops_keeps_what_it_has_or_gives_way():
    labels, train = scarce()
    with pytest.raises(InputError, match="'rare' has 2 training clips left of 2 positives"):
        draw_episode(0, labels, train, 4, 5, "error", ["rare", "b", "c", "d"])
    fewer = draw_episode(0, labels, train, 4, 5, "fewer")
    counts = {int(tag): len(clips) for tag, clips in zip(fewer.tags, fewer.support, strict=True)}
    assert counts == {0: 2, 1: 5, 2: 5, 3: 5}
    dropped = draw_episode(0, labels, train, 3, 5, "drop_tag")
    assert sorted(dropped.tags) == [1, 2, 3]
    with pytest.raises(InputError, match="above the pool of 4 tags, 1 of them dropped"):
        draw_episode(0, labels, train, 4, 5, "drop_tag")


def test_exclusion_can_make_a_tag_scarce():
    labels = np.ones((6, 2), bool)  # both tags on all 6 clips: the second finds only 2 of them free
    with pytest.raises(InputError, match="2 training clips left of 6"):
        draw_episode(0, labels, np.arange(6), 2, 4)


def test_n_way_above_the_pool():
    labels, train = labels_and_train()
    with pytest.raises(InputError, match="`n_way=9` is above the pool of 8 tags"):
        draw_episode(0, labels, train, 9, 1)


def test_one_tag_one_clip_and_tags_only():
    labels, train = labels_and_train()
    assert len(draw_episode(0, labels, train, 1, 1).cell(1, 1)) == 1
    assert [len(clips) for clips in draw_episode(0, labels, train, 3, 0).support] == [0, 0, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 60))
def test_clips_of_a_tag_come_from_different_tracks_as_long_as_there_are_any(seed, num_tracks):
    labels, train = labels_and_train()
    tracks = np.random.default_rng(seed % 1000).integers(0, num_tracks, len(labels))
    episode = draw_episode(seed, labels, train, 4, 9, tracks=tracks)
    taken: set[int] = set()
    for tag, clips in zip(episode.tags, episode.support, strict=True):
        free = [clip for clip in train[labels[train, tag]] if clip not in taken]
        counts = np.bincount(tracks[free], minlength=num_tracks)
        # round r has a clip of every track with more than r clips: tracks repeat no sooner
        repeats = [int((tracks[clips[:i]] == tracks[clip]).sum()) for i, clip in enumerate(clips)]
        assert repeats == sorted(repeats)
        rounds = np.bincount(repeats)
        for number, size in enumerate(rounds[:-1]):
            assert size == (counts > number).sum(), "a track was used again before another once"
        taken |= set(clips.tolist())


def test_tracks_keep_cells_nested():
    labels, train = labels_and_train()
    tracks = np.arange(len(labels)) // 7
    largest = draw_episode(3, labels, train, 8, 5, tracks=tracks)
    narrower = draw_episode(3, labels, train, 6, 5, tracks=tracks)
    np.testing.assert_array_equal(largest.cell(6, 5), narrower.cell(6, 5))
    assert set(largest.cell(6, 2)) < set(largest.cell(6, 5))


def test_where_every_clip_is_a_track_nothing_changes():
    labels, train = labels_and_train()
    plain = draw_episode(5, labels, train, 5, 4)
    tracked = draw_episode(5, labels, train, 5, 4, tracks=np.arange(len(labels))[::-1])
    np.testing.assert_array_equal(plain.cell(5, 4), tracked.cell(5, 4))
