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
VARIANTS = ("openl3", "torchopenl3")


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return openl3.init_params(jax.random.key(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_package_and_clips_of_a_batch_do_not_touch(variant: str) -> None:
    params = openl3.init_params(jax.random.key(0), variant)
    audio = golden.audio(RATE, 0.65)
    windows = [openl3.windows(clip) for clip in (silence(RATE, 0.65), audio)]
    quiet, loud = np.split(jax.jit(openl3.embed)(params, np.concatenate(windows)), 2)
    golden.assert_agree(loud, golden.load(variant)["frames"])
    np.testing.assert_allclose(quiet[0], quiet[1], rtol=1e-5)
    assert np.isfinite(quiet).all()


def test_the_variants_differ() -> None:
    one, other = (golden.load(variant)["frames"] for variant in VARIANTS)
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
def test_lengths(samples: int, count: int) -> None:
    windows = openl3.windows(np.arange(1, samples + 1, dtype=np.float32))
    assert windows.shape == (count, openl3.WINDOW)
    assert windows[0, 24_000] == 1  # its centre is the first sample


def test_what_a_run_is_given(params: dict[str, Any]) -> None:
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
    with pytest.raises(InputError, match="openl3_variant=openl4`: must be openl3 or torchopenl3"):
        build("openl3", variant="openl4", random_weights=0)
