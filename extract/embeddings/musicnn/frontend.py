"""musicnn's front end: audio at 16 kHz → log-mel frames of 96 bands, and windows of frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings import dsp

SAMPLE_RATE = 16000
N_FFT, HOP, BANDS = 512, 256, 96
_LARGEST = float(np.finfo(np.float16).max)


def num_frames(num_samples: int) -> int:
    """Frames of a clip: centred on every 256th sample, the first sample among them."""
    return 1 + num_samples // HOP


def starts(frames: int, window: int, hop: int, keep_tail: bool) -> np.ndarray:
    """First frame of each window of a clip of `frames` frames, at least one; window, hop in frames.

    keep_tail: a last window ends with the clip where the others leave frames over.
    """
    whole = np.arange(0, max(frames - window, 0) + 1, hop)
    if keep_tail and whole[-1] + window < frames:
        return np.append(whole, frames - window)
    return whole


def windows(audio: np.ndarray, window: int, hop: int, keep_tail: bool) -> np.ndarray:
    """float32 `[sample]` → `[window, 1 + sample]` for `log_mel`; window, hop in frames.

    The first value of a window is how many frames it has of its own: fewer than `window` where the
    clip is shorter. The samples reach half an STFT frame beyond the first and the last frame; zeros
    stand where the clip has none.
    """
    frames = num_frames(len(audio))
    size = (window - 1) * HOP + N_FFT
    padded = np.pad(audio, (N_FFT // 2, max(N_FFT // 2, size - N_FFT // 2 - len(audio))))
    first = starts(frames, window, hop, keep_tail)
    out = np.empty((len(first), 1 + size), np.float32)
    out[:, 0] = min(frames, window)
    out[:, 1:] = np.lib.stride_tricks.sliding_window_view(padded, size)[first * HOP]
    return out


@functools.cache
def mel_filters() -> np.ndarray:
    """Slaney's, each of unit area, 0 to 8000 Hz: float32 `[bin, band]`."""
    from librosa.filters import mel

    return np.ascontiguousarray(mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=BANDS).T)


def log_mel(x: jax.Array) -> jax.Array:
    """Windows `[batch, 1 + sample]` → log10(10000 · mel power + 1), `[batch, frame, band]`.

    A window with too few frames of its own repeats them, as in the models' training. Mel power is
    rounded to float16 first, as in the models' training; beyond float16's range it is its largest.
    """
    frames = dsp.frame(x[:, 1:], N_FFT, HOP) * dsp.hann(N_FFT).astype(np.float32)
    spectrum = jnp.fft.rfft(frames)
    mel = (spectrum.real**2 + spectrum.imag**2) @ mel_filters()
    # the barrier: XLA may take a round trip through float16 for superfluous
    half = jax.lax.optimization_barrier(jnp.minimum(mel, _LARGEST).astype(jnp.float16))
    y = jnp.log10(10000 * half.astype(jnp.float32) + 1)
    own = x[:, :1].astype(jnp.int32)
    index = jnp.arange(y.shape[1])[None] % own
    return jnp.take_along_axis(y, index[..., None], axis=1)
