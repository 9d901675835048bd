"""ESZSL for 100 seeds and 49 pairs of strengths, against a plain NumPy loop:

    python -m tests.benchmarks.zero_shot --json=PATH

The loop solves each pair of each seed anew, as the paper's formula stands, with the two Gram
matrices and the product of features and labels computed once per seed; it is timed on `--loop_seeds`
seeds and its time scaled to all. Both compute the heads of the unseen tags in float64; those of the
seeds that the loop ran are compared.
"""

import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from jax import Array

from extract.shell import run
from fsprobe.heads.words.eszsl import FEATURE_STRENGTHS, WORD_STRENGTHS
from fsprobe.heads.words.spectra import FeatureSide, WordSide, eszsl, feature_side, word_side
from tests.support.word_data import WordData, seen_masks, word_data

flags.DEFINE_string("json", None, "Where to write the figures.")
flags.DEFINE_integer("seeds", 100, "Seeds of the vmapped program.")
flags.DEFINE_integer("loop_seeds", 3, "Seeds that the loop runs.")
flags.DEFINE_integer("clips", 3000, "Training clips.")
flags.DEFINE_integer("dim", 100, "Dimensions of a feature.")
flags.DEFINE_integer("tags", 105, "Tags, four fifths of them seen.")
flags.DEFINE_integer("word", 384, "Dimensions of a word vector.")
flags.DEFINE_integer("repeats", 3, "Timings of the vmapped program; the best counts.")
FLAGS = flags.FLAGS


@jax.jit
def kernels_of(side: FeatureSide, words: WordSide, feature_l2s: Array, word_l2s: Array) -> Array:
    """`[seed, feature_l2, word_l2, unseen, dim]`."""
    over_words = jax.vmap(eszsl, in_axes=(None, None, None, 0))
    over_features = jax.vmap(over_words, in_axes=(None, None, 0, None))
    over_seeds = jax.vmap(over_features, in_axes=(None, 0, None, None))
    return over_seeds(side, words, feature_l2s, word_l2s).kernel.astype(np.float32)


side_of_features = jax.jit(feature_side)
sides_of_words = jax.jit(jax.vmap(word_side, in_axes=(None, 0, 0)))


def loop(data: WordData, seen: np.ndarray) -> np.ndarray:
    """One seed → kernels `[feature_l2, word_l2, unseen, dim]`."""
    x = data.features.astype(np.float64)
    x = x - x.mean(axis=0)
    y = data.labels[:, seen].astype(np.float64)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    words = data.words / np.linalg.norm(data.words, axis=1, keepdims=True)
    words = words - words[seen].mean(axis=0)
    words = (words / np.linalg.norm(words, axis=1, keepdims=True)).astype(np.float64)
    s = words[seen]
    gram, product, of_words = x.T @ x, x.T @ y @ s, s.T @ s
    kernels = []
    for feature_l2 in FEATURE_STRENGTHS:
        for word_l2 in WORD_STRENGTHS:
            left = gram + feature_l2 * np.trace(gram) * np.eye(len(gram))
            right = of_words + word_l2 * np.trace(of_words) * np.eye(len(of_words))
            v = np.linalg.solve(right, np.linalg.solve(left, product).T).T
            kernels.append(words[~seen] @ v.T)
    return np.array(kernels).reshape(len(FEATURE_STRENGTHS), len(WORD_STRENGTHS), *kernels[0].shape)


def seconds(function, *args) -> tuple[float, object]:
    start = time.perf_counter()
    found = function(*args)
    return time.perf_counter() - start, found


def main() -> None:
    data = word_data(FLAGS.clips, FLAGS.dim, FLAGS.tags, FLAGS.word)
    seen = seen_masks(FLAGS.seeds, FLAGS.tags, 0.8)
    wanted = np.array([np.flatnonzero(~mask) for mask in seen])

    def vmapped() -> np.ndarray:
        features, labels, words = (np.asarray(part, np.float64) for part in data)
        with jax.enable_x64(True):
            sides = sides_of_words(words, seen, wanted)
            strengths = np.array(FEATURE_STRENGTHS), np.array(WORD_STRENGTHS)
            return np.asarray(kernels_of(side_of_features(features, labels), sides, *strengths))

    first, kernels = seconds(vmapped)
    best = min(seconds(vmapped)[0] for _ in range(FLAGS.repeats))
    taken, differences = [], []
    for i in range(FLAGS.loop_seeds):
        wall, expected = seconds(loop, data, seen[i])
        taken.append(wall)
        differences.append(np.abs(kernels[i] - expected).max() / np.abs(expected).max())
    whole = float(np.mean(taken)) * FLAGS.seeds
    figures = {
        "seeds": FLAGS.seeds,
        "pairs": len(FEATURE_STRENGTHS) * len(WORD_STRENGTHS),
        "first_call_s": round(first, 3),
        "vmapped_s": round(best, 3),
        "loop_s": round(whole, 1),
        "loop_seeds": FLAGS.loop_seeds,
        "times_faster": round(whole / best, 1),
        "largest_difference": float(max(differences)),
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if FLAGS.json:
        Path(FLAGS.json).write_text(text + "\n")
    print("compilation is in first_call_s alone", file=sys.stderr)


if __name__ == "__main__":
    run(main)
