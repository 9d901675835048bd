"""Clips whose features say what the words of their tags say: data for zero-shot tests."""

from typing import NamedTuple

import numpy as np


class WordData(NamedTuple):
    """features `[clip, dim]`, labels bool `[clip, tag]`, words `[tag, word]`."""

    features: np.ndarray
    labels: np.ndarray
    words: np.ndarray


def word_data(
    clips: int = 200,
    dim: int = 12,
    tags: int = 24,
    word: int = 6,
    noise: float = 0.5,
    seed: int = 0,
) -> WordData:
    """Each tag has random words; a clip has 1 to 3 tags, and its features are a linear map of their
    mean, plus noise. The map and the words are the seed's, however many clips there are.
    """
    rng = np.random.default_rng(seed)
    words, to_features = rng.standard_normal((tags, word)), rng.standard_normal((word, dim))
    labels = np.zeros((clips, tags), bool)
    for row in labels:
        row[rng.choice(tags, rng.integers(1, 4), replace=False)] = True
    mean = labels @ words / labels.sum(axis=1, keepdims=True)
    features = mean @ to_features + noise * rng.standard_normal((clips, dim))
    return WordData((3 + features).astype(np.float32), labels, words.astype(np.float32))


def seen_masks(seeds: int, tags: int, share: float = 0.75) -> np.ndarray:
    """bool `[seed, tag]`, each with round(share · tags) seen tags."""
    masks = np.zeros((seeds, tags), bool)
    for i, mask in enumerate(masks):
        mask[np.random.default_rng(i).permutation(tags)[: round(share * tags)]] = True
    return masks
