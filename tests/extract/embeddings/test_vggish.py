"""VGGish without its package: goldens that the package computed, lengths, batches."""

from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import build, vggish
from tests.support import golden
from tests.support.signals import silence

RATE = vggish.SAMPLE_RATE


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return golden.vggish_params()


def test_equals_the_package_and_clips_of_a_batch_do_not_touch(params: dict[str, Any]) -> None:
    expected = golden.load("vggish")
    audio = golden.audio(RATE, 2.2)
    golden.assert_agree(vggish.log_mel(vggish.windows(audio))[:, ::8], expected["log_mel"])
    windows = [vggish.windows(clip) for clip in (silence(RATE, 2.2), audio)]
    frames = np.asarray(jax.jit(vggish.embed)(params, np.concatenate(windows)))
    assert frames.dtype == np.float32
    quiet, loud = np.split(frames, 2)
    assert_quantised_alike(loud, expected["frames"])
    np.testing.assert_array_equal(quiet[0], quiet[1])
    assert np.isfinite(frames).all()


def assert_quantised_alike(actual: Any, expected: np.ndarray) -> None:
    difference = np.abs(np.asarray(actual) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01


@pytest.mark.parametrize(
    ("samples", "count"),
    [(1, 1), (15_599, 1), (15_600, 1), (30_959, 1), (30_960, 2), (465_600, 30)],
)
def test_lengths(samples: int, count: int) -> None:
    assert vggish.windows(np.zeros(samples, np.float32)).shape == (count, vggish.WINDOW)


def test_what_a_run_is_given(params: dict[str, Any]) -> None:
    embedding = build("vggish", random_weights=0)
    assert (embedding.name, embedding.dim, embedding.sample_rate) == (vggish.NAME, vggish.DIM, RATE)
    assert (embedding.window, embedding.hop) == (0.975, 0.96)
    assert embedding.provenance["weights"] == "random, seed 0"
    audio = golden.audio(RATE, 2.2)
    assert embedding.windows is not None
    assert embedding.embed is not None
    actual = jax.jit(embedding.embed)(params, embedding.windows(audio))
    assert_quantised_alike(actual, golden.load("vggish")["frames"])
