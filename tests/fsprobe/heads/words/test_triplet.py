"""The triplet map against Adam and the hinge's gradient written out in NumPy, and its sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fsprobe.heads.head import score
from fsprobe.heads.words import triplet as triplets
from fsprobe.heads.words.triplet import TripletConfig, draw, drawing, triplet_heads
from tests.support.word_data import seen_masks, word_data

TAGS = 24


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def loop(data, seen, seed, config) -> tuple[np.ndarray, np.ndarray]:
    """(kernel, bias) on the features as they are, float64, step by step."""
    features = data.features.astype(np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    x = (features - mean) / deviation
    words = unit(data.words.astype(np.float64))
    words = unit(words - words[seen].mean(axis=0))
    source = drawing(jnp.asarray(data.labels), jnp.asarray(seen))
    first = triplets.initial_weights(seed, x.shape[1], words.shape[1])
    weights = [np.asarray(part, np.float64) for part in first]
    sample = jax.jit(draw, static_argnums=(2, 3))
    moment, square = ([np.zeros_like(part) for part in weights] for _ in range(2))
    for i in range(config.steps):
        key = triplets.sample_key(seed, i)
        clip, has, has_not = (
            np.asarray(part) for part in sample(key, source, config.batch_size, config.balanced)
        )
        out = x[clip] @ weights[0] + weights[1]
        length = np.linalg.norm(out, axis=1, keepdims=True)
        difference = words[has] - words[has_not]
        cosine = (out / length * difference).sum(axis=1, keepdims=True)
        active = (config.margin - cosine > 0) / config.batch_size
        slope = -active * (difference - cosine * out / length) / length
        gradients = [x[clip].T @ slope, slope.sum(axis=0)]
        for j, gradient in enumerate(gradients):
            moment[j] = 0.9 * moment[j] + 0.1 * gradient
            square[j] = 0.999 * square[j] + 0.001 * gradient**2
            step = moment[j] / (1 - 0.9 ** (i + 1))
            root = np.sqrt(square[j] / (1 - 0.999 ** (i + 1)))
            weights[j] = weights[j] - config.learning_rate * step / (root + 1e-8)
    kernel = weights[0] / deviation[:, None]
    return kernel, weights[1] - mean @ kernel


@pytest.mark.parametrize("balanced", [False, True])
def test_equals_a_plain_loop_on_one_seed(balanced):
    """100 steps; scores are cosines, so the tolerance of 1e-5 is absolute."""
    data, seen = word_data(), seen_masks(1, TAGS)[0]
    config = TripletConfig(steps=100, batch_size=16, balanced=balanced)
    seeds = jnp.array([7])
    heads = triplet_heads(seeds, *map(jnp.asarray, data), jnp.asarray(seen)[None], config)
    head = jax.tree.map(lambda leaf: leaf[0], heads)
    kernel, bias = loop(data, seen, 7, config)
    mapped = unit(data.features @ kernel + bias)
    expected = mapped @ np.asarray(head.words, np.float64).T
    actual = score(head, jnp.asarray(data.features))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_seeds_side_by_side_are_as_alone():
    data, seen = word_data(), jnp.asarray(seen_masks(3, TAGS))
    arrays = tuple(map(jnp.asarray, data))
    config = TripletConfig(steps=50)
    many = triplet_heads(jnp.arange(3), *arrays, seen, config)
    one = jax.jit(triplets.triplet, static_argnames="config")
    for i in range(3):
        alone = one(jnp.int32(i), *arrays, seen[i], config)
        np.testing.assert_allclose(many.kernel[i], alone.kernel, atol=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
def test_triplets_are_of_seen_tags_and_drawn_evenly(balanced):
    """Shares of 40,000 draws, within 5 standard errors of what the rule says."""
    rng = np.random.default_rng(0)
    labels = rng.random((30, 8)) < np.linspace(0.1, 0.6, 8)
    labels[0], labels[1] = True, False
    seen = np.array([True] * 6 + [False] * 2)
    clip, has, has_not = (
        np.asarray(part)
        for part in draw(
            jax.random.key(0), drawing(jnp.asarray(labels), jnp.asarray(seen)), 40_000, balanced
        )
    )
    assert labels[clip, has].all() and not labels[clip, has_not].any()
    assert seen[has].all() and seen[has_not].all()
    usable = (labels & seen).any(axis=1) & (~labels & seen).any(axis=1)
    assert not usable[clip].size or usable[clip].all()
    drawn, kinds = (has, np.flatnonzero(seen)) if balanced else (clip, np.flatnonzero(usable))
    shares = np.array([(drawn == kind).mean() for kind in kinds])
    error = np.sqrt(1 / len(kinds) / 40_000)
    assert np.abs(shares - 1 / len(kinds)).max() < 5 * error


def test_nothing_to_learn_from_brings_no_nan():
    data = word_data()
    none = jnp.zeros((1, TAGS), bool)
    heads = triplet_heads(jnp.array([0]), *map(jnp.asarray, data), none, TripletConfig(steps=5))
    scores = score(jax.tree.map(lambda leaf: leaf[0], heads), jnp.asarray(data.features))
    assert np.isfinite(scores).all()


def test_it_learns_what_the_words_say():
    data, test = word_data(seed=1), word_data(clips=300, seed=1)
    seen = seen_masks(5, TAGS)
    heads = triplet_heads(
        jnp.arange(5), *map(jnp.asarray, data), jnp.asarray(seen), TripletConfig(steps=500)
    )
    values = []
    for i, mask in enumerate(seen):
        scores = np.asarray(score(jax.tree.map(lambda leaf, i=i: leaf[i], heads), test.features))
        values += [roc_auc_score(test.labels[:, t], scores[:, t]) for t in np.flatnonzero(~mask)]
    assert np.mean(values) > 0.8
