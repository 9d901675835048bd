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
    frames = np.asarray(vggish.frames(params, np.stack([silence(RATE, 2.2), audio])))
    assert frames.dtype == np.float32
    assert_quantised_alike(frames[1], expected["frames"])
    np.testing.assert_array_equal(frames[0, 0], frames[0, 1])
    assert np.isfinite(frames).all()


def assert_quantised_alike(actual: Any, expected: np.ndarray) -> None:
    difference = np.abs(np.asarray(actual) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01


@pytest.mark.parametrize(
    ("samples", "count"),
    [(1, 1), (15_599, 1), (15_600, 1), (30_959, 1), (30_960, 2), (465_600, 30)],
)
def test_lengths(samples: int, count: int, params: dict[str, Any]) -> None:
    if samples in (1, 30_959, 30_960):  # tracing takes longest
        audio = jax.ShapeDtypeStruct((3, samples), np.float32)
        assert jax.eval_shape(vggish.frames, params, audio).shape == (3, count, vggish.DIM)
    assert vggish.windows(np.zeros(samples, np.float32)).shape == (count, vggish.WINDOW)
    assert vggish.frame_times(samples).shape == (count,)
    assert vggish.num_frames(samples) == count


def test_frames_are_the_windows_of_a_run(params: dict[str, Any]) -> None:
    embedding = build("vggish", random_weights=0)
    assert (embedding.name, embedding.dim, embedding.sample_rate) == (vggish.NAME, vggish.DIM, RATE)
    assert (embedding.window, embedding.hop) == (0.975, 0.96)
    assert embedding.provenance["weights"] == "random, seed 0"
    audio = golden.audio(RATE, 2.2)
    assert embedding.windows is not None
    assert embedding.embed is not None
    actual = jax.jit(embedding.embed)(params, embedding.windows(audio))
    assert_quantised_alike(actual, golden.load("vggish")["frames"])


def test_frame_times_are_centres() -> None:
    np.testing.assert_allclose(vggish.frame_times(3 * RATE), [0.4875, 1.4475, 2.4075])
