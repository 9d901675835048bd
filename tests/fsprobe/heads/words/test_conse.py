"""ConSE against a loop over clips, and against heads that never knew the held-out tag."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fsprobe.heads.head import Head, score
from fsprobe.heads.words import conse
from tests.support.word_data import WordData, seen_masks, word_data

TAGS = 24
TOLERANCE = 1e-5  # of cosines: sums of at most 24 products in float32


@pytest.fixture(scope="module")
def data() -> WordData:
    return word_data(clips=100)


@pytest.fixture(scope="module")
def head(data) -> Head:
    rng = np.random.default_rng(3)
    kernel = 0.1 * rng.standard_normal((TAGS, data.features.shape[1])).astype(np.float32)
    return Head(jnp.asarray(kernel), jnp.asarray(-3 * kernel.sum(axis=1)))


def loop(data, head, seen, top) -> np.ndarray:
    kernel, bias = (np.asarray(part, np.float64) for part in head)
    words = data.words.astype(np.float64)
    words = words / np.linalg.norm(words, axis=1, keepdims=True)
    scores = np.zeros((len(data.features), TAGS))
    for c, clip in enumerate(data.features):
        probability = 1 / (1 + np.exp(-(kernel @ clip + bias)))
        candidates = sorted(np.flatnonzero(seen), key=lambda t: -probability[t])[:top]
        place = sum(probability[t] * words[t] for t in candidates)
        scores[c] = words @ place / np.linalg.norm(place)
    return scores


@pytest.mark.parametrize("top", [1, 5, 1000])
def test_equals_a_plain_loop(data, head, top):
    seen = seen_masks(1, TAGS)[0]
    fitted = conse.conse(head, jnp.asarray(data.words), jnp.asarray(seen), top)
    actual = score(fitted, jnp.asarray(data.features))
    np.testing.assert_allclose(actual, loop(data, head, seen, top), atol=TOLERANCE)


@pytest.mark.parametrize("top", [1, 5, 1000])
def test_held_out_tags_are_as_if_unseen(data, head, top):
    seen = seen_masks(1, TAGS)[0]
    fitted = conse.conse(head, jnp.asarray(data.words), jnp.asarray(seen), top)
    actual = np.asarray(conse.held_out_scores(fitted, jnp.asarray(data.features)))
    for tag in np.flatnonzero(seen):
        others = seen & (np.arange(TAGS) != tag)
        expected = loop(data, head, others, top)[:, tag]
        np.testing.assert_allclose(actual[:, tag], expected, atol=TOLERANCE)


def test_the_choice_is_the_best_on_held_out_tags(data, head):
    seen = seen_masks(1, TAGS)[0]
    tops = jnp.array([3, 5, 1000])  # not 1: then clips tie but for rounding
    chosen, precision = conse.choose_top(
        head, jnp.asarray(data.words), jnp.asarray(seen), tops, data.features, data.labels
    )
    table = []
    for top in (3, 5, 1000):
        precisions = []
        for tag in np.flatnonzero(seen):
            others = seen & (np.arange(TAGS) != tag)
            scores = loop(data, head, others, top)[:, tag].astype(np.float32)
            precisions.append(average_precision_score(data.labels[:, tag], scores))
        table.append(np.mean(precisions))
    assert int(chosen) == (3, 5, 1000)[int(np.argmax(table))]
    assert float(precision) == pytest.approx(max(table), abs=1e-4)


def test_tags_without_words_neither_teach_nor_score(data, head):
    seen = np.ones(TAGS, bool)
    words = data.words.copy()
    words[:2] = 0
    actual = score(
        conse.conse(head, jnp.asarray(words), jnp.asarray(seen), 1000), jnp.asarray(data.features)
    )
    assert np.isfinite(actual).all() and not np.asarray(actual[:, :2]).any()
    seen[:2] = False
    expected = loop(data, head, seen, 1000)[:, 2:]
    np.testing.assert_allclose(actual[:, 2:], expected, atol=TOLERANCE)
