"""Heads out of other tags' heads, against solving the formula for each tag anew."""

import numpy as np
import pytest

import fsprobe
from extract.errors import InputError
from fsprobe.heads.head import Head
from fsprobe.heads.words.eszsl import WORD_STRENGTHS
from fsprobe.heads.words.mixture import choose_strength, heads_from_words, leave_one_out
from fsprobe.tagger.fitting import FitFromWords, fit_heads
from fsprobe.tagger.tagger import Source, Tagger
from fsprobe.words.vectors import Words
from tests.support.word_data import WordData, word_data

TAGS = 16


@pytest.fixture(scope="module")
def data() -> WordData:
    return word_data(clips=260, tags=TAGS, noise=1.0)


@pytest.fixture(scope="module")
def head(data) -> Head:
    rng = np.random.default_rng(1)
    kernel = (data.features - data.features.mean(axis=0)).T @ data.labels / 50
    noisy = kernel.T + 0.05 * rng.standard_normal(kernel.T.shape)
    return Head(noisy.astype(np.float32), np.arange(TAGS, dtype=np.float32))  # type: ignore[arg-type]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def shares(vectors: np.ndarray, seen: np.ndarray, tag: int, l2: float) -> np.ndarray:
    """(SSᵀ + λ)⁻¹ S s of one tag; λ in units of the trace of all seen tags' Gram matrix."""
    words = unit(vectors.astype(np.float64))
    words = unit(words - words[seen].mean(axis=0))
    gram = words[seen] @ words[seen].T
    return gram, words[seen] @ words[tag], l2 * np.trace(gram)


def test_a_query_is_mixed_from_the_tags(data, head):
    known = Head(*(part[: TAGS - 2] for part in head))
    found = heads_from_words(known, data.words[: TAGS - 2], data.words[TAGS - 2 :], data.features)
    l2 = choose_strength(known, data.words[: TAGS - 2], data.features)
    seen = np.arange(TAGS) < TAGS - 2
    for i, tag in enumerate((TAGS - 2, TAGS - 1)):
        gram, towards, strength = shares(data.words, seen, tag, l2)
        weights = np.linalg.solve(gram + strength * np.eye(len(gram)), towards)
        np.testing.assert_allclose(found.kernel[i], weights @ known.kernel, atol=1e-5)
        np.testing.assert_allclose(found.bias[i], weights @ known.bias, rtol=1e-4)


def test_each_tag_is_mixed_from_the_others(data, head):
    """λ by a loop that leaves a tag out and solves anew; then the heads of that λ."""
    x = data.features - data.features.mean(axis=0)
    every, scores = np.ones(TAGS, bool), []
    for l2 in WORD_STRENGTHS:
        kernels = []
        for tag in range(TAGS):
            gram, towards, strength = shares(data.words, every, tag, l2)
            rest = np.arange(TAGS) != tag
            inner = gram[rest][:, rest] + strength * np.eye(TAGS - 1)
            kernels.append(np.linalg.solve(inner, towards[rest]) @ head.kernel[rest])
        alike = [np.corrcoef(x @ a, x @ b)[0, 1] for a, b in zip(kernels, head.kernel, strict=True)]
        scores.append((np.mean(alike), np.array(kernels)))
    best = int(np.argmax([score for score, _ in scores]))
    assert choose_strength(head, data.words, data.features) == WORD_STRENGTHS[best]
    found = leave_one_out(head, data.words, data.features)
    np.testing.assert_allclose(found.kernel, scores[best][1], atol=1e-5)


def test_a_tag_without_a_vector_has_no_part(data, head):
    words = data.words.copy()
    words[3] = 0
    kept = np.arange(TAGS) != 3
    found = leave_one_out(head, words, data.features)
    without = leave_one_out(Head(*(part[kept] for part in head)), words[kept], data.features)
    assert not np.asarray(found.kernel[3]).any()
    np.testing.assert_allclose(found.kernel[kept], without.kernel, atol=1e-5)


def tagger_of(head: Head, tags: list[str]) -> Tagger:
    source = Source("store", "x", "features", 12, 12, "mean")
    numbers = np.zeros((len(tags), 2), np.float32)
    kernel, bias = (np.asarray(part) for part in head)
    return Tagger(tuple(tags), kernel, bias, numbers, numbers[:, 0], "store", (source,))


@pytest.mark.parametrize(
    ("grown", "clips", "tags"),
    [(True, 60, 4), pytest.param(False, 130, 6, marks=pytest.mark.slow)],
)
def test_a_new_tag_starts_from_its_name(data, grown, clips, tags):
    """One shot for each of some tags: test ROC-AUC above that of heads that start from zero.

    grown: the other tags are a tagger's; else they are trained beside, of all their labels.
    """
    names = [f"tag{i}" for i in range(TAGS)]
    words = Words(tuple(names), data.words, {"source": "made up"})
    train, test = slice(0, clips), slice(130, None)
    full = fsprobe.fit(data.features[train], data.labels[train])
    gains = []
    for new in range(tags):
        rows = np.flatnonzero(data.labels[train, new])[:1]
        rest = np.flatnonzero(~data.labels[train, new])[:12]
        few = np.concatenate([rows, rest])
        yes = data.labels[train].astype(np.float32)
        no = 1 - yes
        known = np.isin(np.arange(clips), few)
        yes[:, new] *= known
        no[:, new] *= known
        others = [tag for tag in range(TAGS) if tag != new]
        order = [new] if grown else list(range(TAGS))
        tagger = None
        if grown:
            kept = Head(*(part[np.array(others)] for part in full))
            tagger = tagger_of(kept, [names[tag] for tag in others])
        columns = [names[tag] for tag in order]
        fit = FitFromWords(words, columns, tagger)
        arguments = (data.features[train], yes[:, order], no[:, order], np.arange(clips), "auto")
        at = order.index(new)
        area = []
        started, plain = fit(*arguments), fit_heads(*arguments)
        for found in (started, plain):
            scores = data.features[test] @ found.kernel[at] + found.bias[at]
            judged = fsprobe.evaluate(scores[:, None], data.labels[test, new : new + 1])
            area.append(judged["roc_auc"])
        gains.append(area[0] - area[1])
        assert plain.scales is None and started.scales[at] in (0, 0.25, 0.5, 1, 2, 4)
    print(gains)
    assert np.mean(gains) > 0.02


@pytest.mark.parametrize(("tags", "grown"), [("a", ""), ("ac", ""), ("ab", "d"), ("a", "cd")])
def test_one_vector_is_no_prior(tags, grown):
    """It was NaN, or what rounding left, at the size of a head."""
    words = Words(("a", "b", "d"), np.eye(3, 4, dtype=np.float32), {})
    heads = Head(np.ones((len(grown), 2), np.float32), np.zeros(len(grown), np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="it takes two"):
        FitFromWords(words, tuple(tags), tagger_of(heads, list(grown)) if grown else None)


def test_a_tag_that_cannot_be_learnt_gives_no_other_its_head(data):
    """In a fold without a positive of it: whatever is fitted in its place is not its head."""
    names = tuple(f"tag{i}" for i in range(5))
    yes = data.labels[:90, :5].astype(np.float32)
    no = 1 - yes
    yes[:, 3] = no[:, 3] = 0
    without = data.words[:5].copy()
    without[3] = 0
    found = [
        FitFromWords(Words(names, vectors, {}), names)(
            data.features[:90], yes, no, np.arange(90), "auto"
        )
        for vectors in (data.words[:5], without)
    ]
    kept = [0, 1, 2, 4]
    np.testing.assert_array_equal(found[0].kernel[kept], found[1].kernel[kept])
    alone = np.where(np.arange(5)[:, None] == 2, data.words[:5], 0)
    head = Head(*found[0][:2])  # type: ignore[arg-type]
    assert not np.any(leave_one_out(head, alone, data.features)[0])
