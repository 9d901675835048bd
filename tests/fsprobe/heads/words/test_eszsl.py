"""ESZSL against its formula in a plain NumPy loop, and what a zero-shot head may know.

Tolerance 1e-5 of the largest value: both sides are float64, the heads are returned in float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fsprobe.heads.words import spectra
from fsprobe.heads.words.eszsl import zero_shot_heads
from tests.support.word_data import seen_masks, word_data

FEATURE_L2S, WORD_L2S = (1e-5, 1e-3, 1e-1), (1e-4, 1e-2, 1.0)
GRID = {"feature_l2s": FEATURE_L2S, "word_l2s": WORD_L2S}
TOLERANCE = 1e-5


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def loop_scores(data, seen, feature_l2, word_l2, taught, clips):
    """The map V learnt on `taught` tags → scores `[clip, tag]` of all tags, as the paper writes it.
    seen: whose mean and spectrum give the words' centre and the strengths' units.
    """
    features = data.features.astype(np.float64)
    x = features - features.mean(axis=0)
    y = data.labels[:, taught].astype(np.float64)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    s = unit(data.words.astype(np.float64))
    s = unit(s - s[seen].mean(axis=0))
    gamma = feature_l2 * np.trace(x.T @ x)
    lam = word_l2 * np.trace(s[seen].T @ s[seen])
    left = np.linalg.solve(x.T @ x + gamma * np.eye(x.shape[1]), x.T @ y @ s[taught])
    v = np.linalg.solve(s[taught].T @ s[taught] + lam * np.eye(s.shape[1]), left.T).T
    return (clips - features.mean(axis=0)) @ v @ s.T


@pytest.mark.parametrize("dim", [12, 90], ids=["more clips than dimensions", "fewer"])
def test_equals_a_plain_loop(dim):
    data = word_data(clips=60, dim=dim)
    seen = seen_masks(3, 24)
    for feature_l2 in FEATURE_L2S:
        for word_l2 in WORD_L2S:
            one = {"feature_l2s": (feature_l2,), "word_l2s": (word_l2,)}
            heads, _ = zero_shot_heads(*data, seen, **one)
            assert heads.kernel.shape == (3, 24, dim) and heads.kernel.dtype == np.float32
            for i, mask in enumerate(seen):
                expected = loop_scores(data, mask, feature_l2, word_l2, mask, data.features)
                kernel, bias = (np.asarray(part[i], np.float64) for part in heads)
                actual = data.features @ kernel.T + bias
                error = np.abs(actual - expected).max() / np.abs(expected).max()
                assert error < TOLERANCE, (i, feature_l2, word_l2, error)


def test_held_out_tags_are_as_if_never_seen():
    """Leaving one out in closed form equals a fit without that tag; so does the choice."""
    data, valid = word_data(), word_data(clips=200, noise=1.0)
    seen = seen_masks(2, 24)
    head, chosen = zero_shot_heads(*data, seen, valid[:2], **GRID)
    for i, mask in enumerate(seen):
        table = {}
        for feature_l2 in FEATURE_L2S:
            for word_l2 in WORD_L2S:
                precisions = []
                for tag in np.flatnonzero(mask):
                    taught = mask & (np.arange(24) != tag)
                    scores = loop_scores(data, mask, feature_l2, word_l2, taught, valid.features)
                    labels = valid.labels[:, tag]
                    precisions.append(average_precision_score(labels, scores[:, tag]))
                table[feature_l2, word_l2] = np.mean(precisions)
        best = max(table, key=lambda pair: table[pair])
        assert (chosen.feature[i], chosen.word[i]) == pytest.approx(best)
        assert chosen.score[i] == pytest.approx(table[best], abs=1e-5)
        expected = loop_scores(data, mask, *best, mask, valid.features)
        actual = valid.features @ head.kernel[i].T + head.bias[i]
        np.testing.assert_allclose(actual, expected, atol=TOLERANCE * np.abs(expected).max())


def left_out_scores(data, seen, feature_l2, word_l2, tag):
    """As loop_scores, of one tag by the words of the other seen ones; the map is learnt for each
    clip anew, without it. What is the same for all: mean, spectrum, the labels' mean and deviation.
    """
    x = data.features.astype(np.float64)
    x = x - x.mean(axis=0)
    y = data.labels.astype(np.float64)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    s = unit(data.words.astype(np.float64))
    s = unit(s - s[seen].mean(axis=0))
    gamma = feature_l2 * np.trace(x.T @ x)
    lam = word_l2 * np.trace(s[seen].T @ s[seen])
    taught = seen & (np.arange(len(s)) != tag)
    to_tag = np.linalg.solve(s[taught].T @ s[taught] + lam * np.eye(s.shape[1]), s[tag])
    target = y[:, taught] @ s[taught] @ to_tag
    scores = np.empty(len(x))
    for clip in range(len(x)):
        others = np.arange(len(x)) != clip
        gram = x[others].T @ x[others] + gamma * np.eye(x.shape[1])
        scores[clip] = x[clip] @ np.linalg.solve(gram, x[others].T @ target[others])
    return scores


@pytest.mark.parametrize("dim", [12, 50], ids=["more clips than dimensions", "fewer"])
def test_without_validation_no_clip_chooses_that_was_learnt_from(dim):
    """The closed form over clips and tags equals a loop over both. Labels that the features do not
    tell: on clips that were learnt from, weak strengths look best.
    """
    data = word_data(clips=40, dim=dim, tags=8, noise=3.0)
    seen = seen_masks(2, 8)
    _, chosen = zero_shot_heads(*data, seen, **GRID)
    for i, mask in enumerate(seen):
        table = {
            (feature_l2, word_l2): np.mean(
                [
                    average_precision_score(
                        data.labels[:, tag], left_out_scores(data, mask, feature_l2, word_l2, tag)
                    )
                    for tag in np.flatnonzero(mask)
                ]
            )
            for feature_l2 in FEATURE_L2S
            for word_l2 in WORD_L2S
        }
        best = max(table, key=lambda pair: table[pair])
        assert (chosen.feature[i], chosen.word[i]) == pytest.approx(best)
        assert chosen.score[i] == pytest.approx(table[best], abs=1e-5)
    _, fooled = zero_shot_heads(*data, seen, data[:2], **GRID)
    assert (np.asarray(fooled.score) > np.asarray(chosen.score)).all()


def test_unseen_labels_are_never_read():
    data, seen = word_data(), seen_masks(2, 24)
    seen[1] = seen[0]
    other = data.labels.copy()
    other[:, ~seen[0]] = ~other[:, ~seen[0]]
    as_is, changed = (
        zero_shot_heads(data.features, labels, data.words, seen, **GRID)
        for labels in (data.labels, other)
    )
    jax.tree.map(np.testing.assert_array_equal, as_is, changed)


def test_wanted_tags_are_those_of_all():
    data, seen = word_data(), seen_masks(2, 24)
    wanted = np.array([np.flatnonzero(~mask) for mask in seen])
    few, _ = zero_shot_heads(*data, seen, wanted=wanted, **GRID)
    every, _ = zero_shot_heads(*data, seen, **GRID)
    for i, tags in enumerate(wanted):
        scale = np.abs(every.kernel).max()
        np.testing.assert_allclose(few.kernel[i], every.kernel[i][tags], atol=1e-6 * scale)


def test_tags_without_words_are_inert_and_score_nothing():
    data, seen = word_data(), seen_masks(2, 24)
    labels = np.concatenate([data.labels, data.labels[:, :3]], axis=1)
    words = np.concatenate([data.words, np.zeros((3, 6), np.float32)])
    more = np.concatenate([seen, np.ones((2, 3), bool)], axis=1)
    (head, chosen), (wide, as_before) = (
        zero_shot_heads(*data, seen, **GRID),
        zero_shot_heads(data.features, labels, words, more, **GRID),
    )
    np.testing.assert_array_equal(chosen.feature, as_before.feature)
    np.testing.assert_array_equal(chosen.word, as_before.word)
    scale = np.abs(head.kernel).max()
    np.testing.assert_allclose(wide.kernel[:, :24], head.kernel, atol=1e-6 * scale)
    assert not np.asarray(wide.kernel[:, 24:]).any() and not np.asarray(wide.bias[:, 24:]).any()


def test_constant_labels_and_features_bring_no_nan():
    data, seen = word_data(), seen_masks(2, 24)
    labels = data.labels.copy()
    labels[:, 0], labels[:, 1] = False, True
    features = data.features.copy()
    features[:, 0] = 7.0
    head, _ = zero_shot_heads(features, labels, data.words, seen, **GRID)
    assert np.isfinite(head.kernel).all() and np.isfinite(head.bias).all()


def test_the_words_do_it_and_shuffled_words_give_chance():
    """Over 30 seeds, mean ROC-AUC of unseen tags: far above 0.5, and within 4 standard errors of
    it when the words are dealt out anew.
    """
    data, test = word_data(seed=1), word_data(clips=300, seed=1)
    seen = seen_masks(30, 24)

    def mean_auc(words):
        values = []
        for i, mask in enumerate(seen):
            both = np.stack([mask, mask])
            head, _ = zero_shot_heads(data.features, data.labels, words(i), both, **GRID)
            scores = test.features @ np.asarray(head.kernel[0]).T
            values.append(
                np.mean(
                    [roc_auc_score(test.labels[:, t], scores[:, t]) for t in np.where(~mask)[0]]
                )
            )
        return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))

    assert mean_auc(lambda i: data.words)[0] > 0.8
    shuffled, error = mean_auc(lambda i: data.words[np.random.default_rng(100 + i).permutation(24)])
    assert abs(shuffled - 0.5) < 4 * error


def test_mixing_tells_whom_a_tag_leans_on():
    """With hardly any penalty a tag with a twin among the seen tags leans on it most, and the
    mixture of the seen tags' words is the twin's.
    """
    data, seen = word_data(tags=6, word=8), np.array([True] * 5 + [False])
    words = data.words.copy()
    words[5] = 2 * words[2]
    side = spectra.word_side(jnp.asarray(words), jnp.asarray(seen), jnp.arange(6))
    leans = np.asarray(spectra.mixing(side, jnp.float32(1e-5)))
    assert leans.shape == (6, 6)
    assert np.argmax(leans[:, 5]) == 2 and leans[2, 5] > 0.7
    assert not leans[5].any()
    centred = np.asarray(spectra.centred_words(jnp.asarray(words), jnp.asarray(seen)))
    np.testing.assert_allclose(centred.T @ leans[:, 5], centred[2], atol=1e-2)


def test_one_compilation_for_all_pairs_of_strengths():
    """The maths is one traced function of strengths: vmapped equals one by one."""
    data, seen = word_data(), jnp.asarray(seen_masks(1, 24)[0])
    features = jax.jit(spectra.feature_side)(jnp.asarray(data.features), jnp.asarray(data.labels))
    words = jax.jit(spectra.word_side)(jnp.asarray(data.words), seen, jnp.arange(24))
    l2s = jnp.array([1e-3, 1e-1])
    many = jax.jit(jax.vmap(spectra.eszsl, in_axes=(None, None, 0, 0)))(
        features, words, l2s, l2s[::-1]
    )
    alone = jax.jit(spectra.eszsl)
    for i in range(2):
        one = alone(features, words, l2s[i], l2s[1 - i])
        scale = np.abs(one.kernel).max()
        np.testing.assert_allclose(many.kernel[i], one.kernel, atol=1e-5 * scale)
