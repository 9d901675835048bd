"""PaSST without its package: goldens that the package computed, lengths, batches."""

from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import Embedding, build, passt
from extract.embeddings.passt_network import log_mel
from extract.errors import InputError
from tests.support import golden
from tests.support.signals import silence

RATE = passt.SAMPLE_RATE


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    return build("passt", random_weights=0)


@pytest.fixture(scope="module")
def params(embedding: Embedding) -> dict[str, Any]:
    return embedding.params


def test_the_front_end_equals_the_package() -> None:
    golden.assert_agree(
        log_mel(golden.audio(RATE, 1)[None])[0, :, ::10], golden.load("passt")["log_mel"]
    )


def test_timestamps_equal_the_package_and_clips_of_a_batch_do_not_touch(
    params: dict[str, Any],
) -> None:
    clips = (silence(RATE, 0.3), golden.audio(RATE, 0.3))
    windows = np.concatenate([passt.windows(clip, 5120, 1600) for clip in clips])
    quiet, loud = np.split(jax.jit(passt.embed)(params, windows), 2)
    golden.assert_agree(loud, golden.load("passt")["frames"])
    np.testing.assert_allclose(quiet, np.broadcast_to(quiet[:1], quiet.shape), atol=1e-4)


def test_scenes_equal_the_package_masked_or_not(params: dict[str, Any]) -> None:
    audio = golden.audio(RATE, 1)
    golden.assert_agree(jax.jit(passt.embed)(params, audio[None]), golden.load("passt")["scene"])
    golden.assert_agree(passt.scene_frames(params, audio), golden.load("passt")["scene"])
    golden.assert_agree(
        passt.scene(params, np.pad(audio, (0, RATE))[None], len(audio)),
        golden.load("passt")["scene"],
    )


@pytest.mark.parametrize(
    ("samples", "count"), [(1, 2), (2560, 2), (2561, 2), (3199, 2), (3200, 3), (931_200, 583)]
)
def test_lengths(samples: int, count: int, embedding: Embedding) -> None:
    assert embedding.windows is not None
    assert embedding.windows(np.zeros(samples, np.float32)).shape == (count, 5120)


@pytest.mark.parametrize(("samples", "passes"), [(30 * RATE, 1), (30 * RATE + 1, 4)])
def test_a_clip_is_one_scene(samples: int, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def scene(params: Any, x: np.ndarray, length: int, precision: str) -> np.ndarray:
        lengths.append(length)
        return np.zeros((len(x), passt.DIM), np.float32)

    monkeypatch.setattr(passt, "scene", scene)
    audio = np.zeros(samples, np.float32)
    assert passt.scene_frames({}, audio).shape == (1, passt.DIM)
    assert lengths == [30 * RATE] * passes


def test_what_a_run_is_given(embedding: Embedding, params: dict[str, Any]) -> None:
    assert (embedding.name, embedding.dim, embedding.sample_rate) == (passt.NAME, passt.DIM, RATE)
    assert (embedding.window, embedding.hop) == (0.16, 0.05)
    assert embedding.windows is not None
    assert embedding.embed is not None
    actual = jax.jit(embedding.embed)(params, embedding.windows(golden.audio(RATE, 0.3)))
    golden.assert_agree(actual, golden.load("passt")["frames"])
    scene = build("passt", mode="scene", random_weights=0)
    assert (scene.window, scene.hop, scene.provenance["mode"]) == (30.0, 10.0, "scene")
    assert scene.clip_frames is not None
    golden.assert_agree(scene.clip_frames(golden.audio(RATE, 1)), golden.load("passt")["scene"])
    assert scene.clip_frames(np.ones(1, np.float32)).shape == (1, passt.DIM)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"window": 0.1}, r"window 0.1 s is not between 0.1500 and 30 s"),
        ({"window": 31.0}, "window 31"),
        ({"window": float("nan")}, "finite"),
        ({"hop": float("inf")}, "finite"),
        ({"hop": 0.0}, "hop 0.0 s"),
        ({"mode": "song"}, "passt_mode=song`: must be timestamp or scene"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        build("passt", random_weights=0, **options)


def test_windows_of_other_lengths() -> None:
    embedding = build("passt", random_weights=0, window=1.0, hop=0.5)
    assert (embedding.window, embedding.hop) == (1.0, 0.5)
    assert embedding.windows is not None
    assert embedding.windows(np.zeros(2 * RATE, np.float32)).shape == (5, RATE)
