"""The two front ends of OpenL3: a window of 1 s at 48 kHz → a log-mel image of 128 bands and 199
frames.

Both give the network 80 dB of 10·log10(magnitude), that is 160 dB of dynamic range, so that between
the partials of a steady tone the image shows rounding errors. That is why this module is so careful
about precision.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings import dsp

SAMPLE_RATE = 48000
N_FFT, HOP, FRAMES, BANDS = 2048, 242, 199, 128
BINS = N_FFT // 2 + 1
PAD = (FRAMES - 1) * HOP + N_FFT - SAMPLE_RATE  # zeros that make room for the last frames


def log_mel(x: jax.Array, buffers: Mapping[str, jax.Array] | None = None) -> jax.Array:
    """`[batch, 48000]` → decibels below each window's maximum, float32 `[batch, band, frame]`, at
    least −80.

    buffers: None for the front end of openl3 0.4.2; for that of torchopenl3, the filters of its
    state dict, which override what the package computes: `mel` and, where they are no plain DFT,
    `dft_real` and `dft_imag`.
    """
    if buffers is None:
        # kapre pads the end only, and takes mel bands of the magnitude.
        frames = dsp.frame(jnp.pad(x, ((0, 0), (0, PAD))), N_FFT, HOP)
        spectrum = jnp.abs(jnp.fft.rfft(frames * tensorflow_hann(N_FFT)))
        mel = jnp.einsum("btf,mf->bmt", spectrum, mel_filters("openl3"))
    else:
        # kapre 0.1.4, kept by torchopenl3, pads both ends and takes the root of the mel bands of
        # the power.
        frames = dsp.frame(jnp.pad(x, ((0, 0), (PAD // 2, PAD - PAD // 2))), N_FFT, HOP)
        if "dft_real" in buffers:
            power = _power_by_kernels(frames, buffers["dft_real"][:, 0], buffers["dft_imag"][:, 0])
        else:
            power = _power(frames)
        mel = jnp.sqrt(jnp.einsum("btf,mf->bmt", power, buffers["mel"]))
    decibels = 10 * jnp.log10(jnp.maximum(mel, 1e-10))
    return jnp.maximum(decibels - decibels.max((1, 2), keepdims=True), -80.0)


def _power(frames: jax.Array) -> jax.Array:
    """Power spectrum of `[batch, frame, 2048]` with the package's DFT kernels.

    Those are rounded to float32, and between partials the spectrum shows by how much. So: an FFT,
    and the rounding errors' product, which is small and needs no precision. They are odd or even in
    time; those of sample 0 and sample 1024 vanish.
    """

    def fft(frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        spectrum = jnp.fft.rfft(frames * dft_window().astype(frames.dtype))
        return spectrum.real.astype(np.float32), spectrum.imag.astype(np.float32)

    real, imaginary = jax.lax.platform_dependent(
        frames, tpu=fft, default=lambda frames: in_float64(fft, frames)
    )
    one, other = frames[..., 1 : N_FFT // 2], frames[..., : N_FFT // 2 : -1]
    errors_real, errors_imaginary = _rounding_errors()
    return (real + (one + other) @ errors_real) ** 2 + (
        imaginary + (one - other) @ errors_imaginary
    ) ** 2


def _power_by_kernels(frames: jax.Array, real: jax.Array, imaginary: jax.Array) -> jax.Array:
    """The same with any kernels, `[bin, 2048]`: right and slow."""

    def power(*arrays: jax.Array) -> jax.Array:
        parts = [jnp.einsum("bts,fs->btf", arrays[0], kernels) for kernels in arrays[1:]]
        return (parts[0] ** 2 + parts[1] ** 2).astype(np.float32)

    return jax.lax.platform_dependent(
        frames, real, imaginary, tpu=power, default=lambda *arrays: in_float64(power, *arrays)
    )


def in_float64(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    """`function` of the arrays in double precision: in single, sums over a frame are noisier than
    the package's.
    """
    with jax.enable_x64(True):
        return function(*(array.astype(jnp.float64) for array in arrays))


def dft_window() -> np.ndarray:
    """float32 `[2048]`, in float64."""
    return dsp.hann(N_FFT).astype(np.float32).astype(np.float64)


def dft_kernels() -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of the windowed DFT, float64 `[bin, 2048]`; the package rounds them
    to float32.
    """
    angles = 2 * np.pi / N_FFT * (np.outer(np.arange(BINS), np.arange(N_FFT)) % N_FFT)
    return np.cos(angles) * dft_window(), -np.sin(angles) * dft_window()


@functools.cache
def _rounding_errors() -> tuple[np.ndarray, np.ndarray]:
    """Of the real and the imaginary kernels, float32 `[1023, bin]`, for samples 1 to 1023."""
    real, imaginary = (
        (kernels.astype(np.float32) - kernels).astype(np.float32)[:, 1 : N_FFT // 2].T
        for kernels in dft_kernels()
    )
    return real, imaginary


@functools.cache
def mel_filters(variant: str) -> np.ndarray:
    """float32 `[band, bin]`: Slaney's, each of unit area (openl3), or HTK's, each of unit sum
    (torchopenl3).
    """
    from librosa.filters import mel

    options = {"htk": False, "norm": "slaney"} if variant == "openl3" else {"htk": True, "norm": 1}
    return mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=BANDS, fmin=0, fmax=SAMPLE_RATE / 2, **options)


@functools.cache
def tensorflow_hann(size: int) -> np.ndarray:
    """`tf.signal.hann_window(size)` to the last bit: float32 throughout, with the cosine as Eigen
    evaluates it.

    An exactly rounded window differs in one weight of ten by 6e-8, which moves the embedding of a
    tone by up to 1%.
    """
    one = np.float32(1)

    def horner(x: np.ndarray, *coefficients: float) -> np.ndarray:
        y = np.full_like(x, coefficients[0])
        for coefficient in coefficients[1:]:
            y = y * x + np.float32(coefficient)
        return y

    x = np.float32(2 * np.pi) * np.arange(size, dtype=np.float32) / np.float32(size)
    quadrant = np.rint(x * np.float32(2 / np.pi))
    # π/2 in four parts, after Cody and Waite
    for part in (
        -1.5703125,
        -4.83989715576171875e-4,
        1.62865035235881805e-7,
        5.56443155445167707e-11,
    ):
        x = x + quadrant * np.float32(part)
    square = x * x
    cosine = horner(square, 2.43722661e-5, -1.38865201e-3, 4.16666195e-2, -0.5, 1)
    sine = horner(square, -1.95923411e-4, 8.33268737e-3, -1.66666620e-1) * square * x + x
    signs = np.array([one, -one, -one, one])[quadrant.astype(int) % 4]
    values = signs * np.where(quadrant.astype(int) % 2, sine, cosine)
    return np.float32(0.5) - np.float32(0.5) * values


def drop_plain_dft(buffers: dict[str, np.ndarray]) -> None:
    """Remove DFT matrices that hold a Hann-windowed DFT and nothing else: an FFT gives the same for
    less.
    """
    plain = dict(zip(("dft_real", "dft_imag"), dft_kernels(), strict=True))
    if all(
        np.allclose(buffers[part][:, 0], kernels, rtol=0, atol=1e-6)
        for part, kernels in plain.items()
    ):
        for part in plain:
            del buffers[part]
