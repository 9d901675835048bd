"""What each strategy asks about, worked out by hand."""

import numpy as np
import pytest

from extract.errors import InputError
from fsprobe.listening.strategies import STRATEGIES, choose, suggest

P = np.array([0.02, 0.97, 0.52, 0.31, 0.75, 0.49, 0.05, 0.88], np.float32)
NOTHING = np.zeros(8, bool)


def no_directions(places):
    raise AssertionError("only `diverse` looks at the features")


def places(strategy, count, p=P, known=NOTHING, directions=no_directions, seed=0):
    rng = np.random.default_rng(seed)
    return [one.place for one in choose(strategy, p, known, count, rng, directions)]


def test_uncertain_is_the_distance_to_a_half_and_top_the_probability():
    assert places("uncertain", 3) == [5, 2, 3]
    assert places("top", 3) == [1, 7, 4]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_known_is_never_asked_and_nothing_twice(strategy):
    known = np.array([0, 1, 1, 0, 0, 0, 1, 0], bool)
    unit = np.eye(8, dtype=np.float32)
    found = places(strategy, 20, known=known, directions=lambda chosen: unit[chosen])
    assert sorted(found) == [0, 3, 4, 5, 7]
    assert places(strategy, 20, known=~NOTHING, directions=lambda chosen: unit[chosen]) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_a_head_clips_are_drawn_at_random(strategy):
    p = np.full(200, np.nan, np.float32)
    draws = [places(strategy, 10, p, np.zeros(200, bool), seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2] and len(set(draws[0])) == 10


def test_balanced_takes_bins_in_turn():
    p = np.array([0.95] * 3 + [0.05] * 50 + [0.55], np.float32)
    found = places("balanced", 6, p, np.zeros(54, bool))
    bins = [int(10 * p[place]) for place in found]
    assert bins == [9, 5, 0, 9, 0, 9]
    assert places("balanced", 1, np.ones(1, np.float32), np.zeros(1, bool)) == [0]


def test_equals_are_not_taken_in_the_store_s_order():
    p = np.full(300, 0.5, np.float32)
    assert max(places("uncertain", 5, p, np.zeros(300, bool))) > 50


def test_diverse_goes_farthest_first_from_what_is_judged():
    angles = np.deg2rad([0, 10, 90, 100, 180, 0])
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    known = np.array([0, 0, 0, 0, 0, 1], bool)  # the clip at 0 degrees is judged
    p = np.full(6, 0.5, np.float32)
    found = places("diverse", 3, p, known, lambda chosen: unit[chosen])
    assert found[0] == 4  # 180 degrees away
    assert found[1] in (2, 3)  # then about half way, 90 or 100 from each
    assert len(set(found)) == 3


def test_diverse_asks_only_where_the_head_is_unsure():
    rng = np.random.default_rng(0)
    unit = rng.standard_normal((100, 4)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    p = np.linspace(0, 1, 100, dtype=np.float32)
    found = places("diverse", 4, p, np.zeros(100, bool), lambda chosen: unit[chosen])
    assert all(abs(p[place] - 0.5) < 0.11 for place in found)


def test_tags_take_turns_and_a_clip_is_asked_about_once():
    p = np.stack([P, P], axis=1)  # both tags want the same clips
    known = np.zeros((8, 2), bool)
    arguments = ("top", p, known, 4, np.random.default_rng(0), no_directions)
    found = suggest(*arguments)
    assert [(one.place, one.tag) for one in found] == [(1, 0), (7, 1), (4, 0), (2, 1)]
    assert found[0].score == pytest.approx(0.97)
    each = suggest(*arguments, each=True)
    assert [(one.place, one.tag) for one in each] == [(q, t) for t in (0, 1) for q in (1, 7, 4, 2)]


def test_a_tag_that_has_nothing_left_leaves_its_turns_to_others():
    p = np.stack([P, P], axis=1)
    known = np.zeros((8, 2), bool)
    known[1:, 0] = True
    found = suggest("top", p, known, 5, np.random.default_rng(0), no_directions)
    assert [one.tag for one in found] == [1, 0, 1, 1, 1]


@pytest.mark.parametrize("p", [np.nan, 0.4])
def test_every_tag_is_asked_about_in_time_though_a_batch_has_fewer_questions(p):
    known = np.zeros((200, 50), bool)
    rng = np.random.default_rng(0)
    for _ in range(5):
        probability = np.full(known.shape, p, np.float32)
        found = suggest("uncertain", probability, known, 20, rng, no_directions)
        assert len(found) == 20
        for one in found:
            known[one.place, one.tag] = True
    assert known.sum(axis=0).tolist() == [2] * 50


def test_an_unknown_strategy():
    with pytest.raises(InputError, match=r"strategy='best': use one of uncertain, top"):
        places("best", 1)
