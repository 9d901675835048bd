"""Which clips score highest: by hand, with equals, over several blocks and stores."""

import numpy as np
import pytest

from extract.errors import InputError
from extract.store import open_store
from fsprobe.heads.head import Head
from fsprobe.listening import ranking
from fsprobe.tagger.matching import parts_of
from tests.support.fake_tagger import write_store

CLIPS = 9_000  # more than two blocks


@pytest.fixture
def parts(tmp_path):
    rng = np.random.default_rng(0)
    stores = {
        name: open_store(write_store(tmp_path / name, 3 + scale * rng.standard_normal((CLIPS, 5))))
        for name, scale in (("a", 1.0), ("b", 100.0))
    }
    return parts_of(stores, "a+b")


def features(parts):
    return np.concatenate([part.store.features_framenorm for part in parts], axis=1).astype(float)


def all_rows(parts):
    return [np.arange(CLIPS)] * len(parts)


def test_the_nearest_clips_are_those_of_a_plain_cosine(parts):
    x = features(parts)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    query = z[[7, 4500]].mean(axis=0)
    expected = z @ query / np.linalg.norm(query)
    rows = all_rows(parts)
    standard = ranking.standard_of(parts, rows)
    score = ranking.cosine_to(parts, standard, [np.array([7, 4500])] * 2)
    found = ranking.best(score, parts, rows, 30, "test")
    np.testing.assert_array_equal(found.place, np.argsort(-expected)[:30])
    np.testing.assert_allclose(found.score, expected[found.place], atol=1e-5)
    assert set(found.place[:2]) == {7, 4500}


def test_a_linear_head_on_two_stores(parts):
    kernel = np.random.default_rng(1).standard_normal((1, 10)).astype(np.float32)
    score = ranking.logit_of(parts, Head(kernel, np.float32([0.5])))
    found = ranking.best(score, parts, all_rows(parts), CLIPS, "test")
    expected = features(parts) @ kernel[0] + 0.5
    np.testing.assert_allclose(found.score, np.sort(expected)[::-1], rtol=1e-4, atol=1e-3)


def test_of_equals_the_first_and_never_more_than_there_are(parts):
    equal = lambda rows: np.zeros(len(parts[0].rows(rows[0])), np.float32)  # noqa: E731
    rows = all_rows(parts)
    assert ranking.best(equal, parts, rows, 3, "test").place.tolist() == [0, 1, 2]
    assert ranking.best(equal, parts, rows, CLIPS + 5, "test").place.tolist() == list(range(CLIPS))


def test_a_dimension_that_never_varies_counts_for_nothing(tmp_path):
    x = np.random.default_rng(0).standard_normal((50, 3))
    x[:, 1] = 1e6
    (part,) = parts_of({"a": open_store(write_store(tmp_path / "a", x))}, "a")
    standard = ranking.standard_of([part], [np.arange(50)])
    assert standard.scales[0][1] == 0
    found = ranking.best(
        ranking.cosine_to([part], standard, [np.array([3])]), [part], [np.arange(50)], 50, "test"
    )
    assert found.place[0] == 3 and np.isfinite(found.score).all()


def test_features_that_are_no_numbers_are_named(tmp_path):
    x = np.zeros((20, 3))
    x[13, 2] = np.nan
    (part,) = parts_of({"a": open_store(write_store(tmp_path / "a", x))}, "a")
    score = ranking.logit_of([part], Head(np.ones((1, 3), np.float32), np.zeros(1, np.float32)))
    with pytest.raises(InputError, match="c0013"):
        ranking.best(score, [part], [np.arange(20)], 5, "test")
