"""OpenL3 without its packages: goldens that both computed, lengths, batches."""

from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import build, openl3
from extract.embeddings.openl3_frontend import dft_kernels, drop_plain_dft, log_mel
from extract.errors import InputError
from tests.support import golden
from tests.support.signals import silence

RATE = openl3.SAMPLE_RATE


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return openl3.init_params(jax.random.key(0))


@pytest.mark.parametrize("variant", openl3.VARIANTS)
def test_equals_the_package_and_clips_of_a_batch_do_not_touch(variant: str) -> None:
    params = openl3.init_params(jax.random.key(0), variant)
    audio = golden.audio(RATE, 0.65)
    frames = openl3.frames(params, np.stack([silence(RATE, 0.65), audio]))
    golden.assert_agree(frames[1], golden.load(variant)["frames"])
    np.testing.assert_allclose(frames[0, 0], frames[0, 1], rtol=1e-5)
    assert np.isfinite(np.asarray(frames)).all()


def test_the_variants_differ() -> None:
    one, other = (golden.load(variant)["frames"] for variant in openl3.VARIANTS)
    assert np.abs(one - other).max() > 0.01 * np.abs(one).max()


@pytest.mark.parametrize(
    ("samples", "count"),
    [
        (1, 1),
        (24_000, 1),
        (24_001, 2),
        (28_800, 2),
        (28_801, 3),
        (47_999, 6),
        (48_000, 6),
        (1_396_800, 287),
    ],
)
def test_lengths(samples: int, count: int, params: dict[str, Any]) -> None:
    assert openl3.num_frames(samples) == count
    if samples in (1, 28_800, 28_801):  # tracing takes longest
        audio = jax.ShapeDtypeStruct((2, samples), np.float32)
        assert jax.eval_shape(openl3.frames, params, audio).shape == (2, count, openl3.DIM)
    assert openl3.windows(np.zeros(samples, np.float32)).shape == (count, openl3.WINDOW)
    assert openl3.frame_times(samples).shape == (count,)


def test_frames_are_the_windows_of_a_run(params: dict[str, Any]) -> None:
    embedding = build("openl3", random_weights=0)
    assert (embedding.name, embedding.dim, embedding.sample_rate) == (openl3.NAME, openl3.DIM, RATE)
    assert (embedding.window, embedding.hop) == (1.0, 0.1)
    assert embedding.provenance["variant"] == "openl3"
    assert (
        build("openl3", variant="torchopenl3", random_weights=0).provenance["variant"]
        == "torchopenl3"
    )
    assert embedding.windows is not None
    assert embedding.embed is not None
    actual = jax.jit(embedding.embed)(params, embedding.windows(golden.audio(RATE, 0.65)))
    golden.assert_agree(actual, golden.load("openl3")["frames"])


def test_frame_times_begin_with_the_first_sample() -> None:
    np.testing.assert_allclose(openl3.frame_times(RATE), [0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_silence_is_all_maximum() -> None:
    for buffers in (None, openl3.init_params(jax.random.key(0), "torchopenl3")["frontend"]):
        assert not np.asarray(log_mel(np.zeros((1, 48_000), np.float32), buffers)).any()


def test_dft_matrices_of_a_weights_file() -> None:
    """Those that hold a DFT are replaced by an FFT, which gives the same; others stay."""
    kernels = {
        part: kernel.astype(np.float32)[:, None]
        for part, kernel in zip(("dft_real", "dft_imag"), dft_kernels(), strict=True)
    }
    mel = openl3.init_params(jax.random.key(0), "torchopenl3")["frontend"]["mel"]
    window = golden.audio(RATE, 1)[None]
    by_kernels = np.asarray(log_mel(window, {"mel": mel, **kernels}))
    plain = dict(kernels)
    drop_plain_dft(plain)
    assert plain == {}
    np.testing.assert_allclose(log_mel(window, {"mel": mel}), by_kernels, atol=1e-3)  # dB of 80
    other = {**kernels, "dft_imag": 2 * kernels["dft_imag"]}
    drop_plain_dft(other)
    assert set(other) == {"dft_real", "dft_imag"}


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(InputError, match="'openl4'; there are openl3, torchopenl3"):
        build("openl3", variant="openl4", random_weights=0)
