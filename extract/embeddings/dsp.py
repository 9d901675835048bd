"""Signal processing shared by the pretrained models: frames, windows, mel filters."""

import jax
import jax.numpy as jnp
import numpy as np


def frame(x: jax.Array, size: int, hop: int) -> jax.Array:
    """float `[..., sample]` → `[..., frame, size]`, whole frames only."""
    count = max(0, 1 + (x.shape[-1] - size) // hop)
    shifts = -(-size // hop)
    missing = (count + shifts - 1) * hop - x.shape[-1]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(0, missing))])
    blocks = x[..., : (count + shifts - 1) * hop].reshape(*x.shape[:-1], count + shifts - 1, hop)
    # Concatenated blocks are a few contiguous copies; an index gather of every sample is many times
    # slower on CPU.
    return jnp.concatenate([blocks[..., i : i + count, :] for i in range(shifts)], -1)[..., :size]


def windows_of(x: np.ndarray, size: int, hop: int) -> np.ndarray:
    """The same on the host, as a read-only view: `[sample]` → `[window, size]`."""
    return np.lib.stride_tricks.sliding_window_view(x, size)[::hop]


def at_least(x: np.ndarray, size: int) -> np.ndarray:
    """`[sample]` with zeros appended up to `size` samples."""
    return np.pad(x, (0, max(0, size - len(x))))


def hann(size: int, periodic: bool = True) -> np.ndarray:
    """A Hann window, float64 `[size]`."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size if periodic else size - 1))


def mel_filters(sample_rate: int, n_fft: int, bands: int, low: float, high: float) -> np.ndarray:
    """Unnormalised HTK mel filters, float32 `[n_fft // 2 + 1, band]`; low, high in Hz.

    The triangles are straight in mel, not in Hz, as in the VGGish front end and in Kaldi (Slaney's
    and librosa's are straight in Hz). With `low` ≥ 0 and `high` below Nyquist the DC and Nyquist
    rows are 0, as both of them have it.
    """

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log1p(np.asarray(hz) / 700)

    bins = mel(np.linspace(0, sample_rate / 2, n_fft // 2 + 1))[:, None]
    edges = np.linspace(mel(low), mel(high), bands + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    slopes = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return np.maximum(0, slopes).astype(np.float32)
