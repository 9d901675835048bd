"""Log-mel frames: the embedding that needs no weights. librosa's defaults throughout.

22,050 Hz; periodic Hann window of 2048 samples, hop 512, zero-padded so that frame t is centred at
t·512; power spectrum; 128 Slaney mel bands, 0 to 11,025 Hz; 10·log10(max(power, 1e-10)) dB,
absolute: no dependence on the clip's maximum, so a frame is a function of its own samples.
"""

import importlib.metadata

import numpy as np

from extract.embeddings import Embedding

SAMPLE_RATE = 22_050  # Hz
N_FFT, HOP, N_MELS = 2048, 512, 128
_BLOCK = 2048  # frames at a time, so that an hour's spectrogram never exists whole


def build() -> Embedding:
    """The log-mel Embedding."""
    return Embedding(
        name="logmel",
        sample_rate=SAMPLE_RATE,
        dim=N_MELS,
        window=N_FFT / SAMPLE_RATE,
        hop=HOP / SAMPLE_RATE,
        clip_frames=frames,
        provenance={
            "package": "librosa",
            "version": importlib.metadata.version("librosa"),
            "n_fft": N_FFT,
            "hop_length": HOP,
            "n_mels": N_MELS,
        },
    )


def frames(audio: np.ndarray) -> np.ndarray:
    """float32 `[sample]` → float32 `[1 + sample // HOP, N_MELS]` in dB."""
    import librosa

    count = 1 + len(audio) // HOP
    out = np.empty((count, N_MELS), np.float32)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        first, last = start * HOP - N_FFT // 2, (stop - 1) * HOP + N_FFT // 2
        samples = np.pad(audio[max(first, 0) : last], (max(-first, 0), max(last - len(audio), 0)))
        power = librosa.feature.melspectrogram(
            y=samples, sr=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP, n_mels=N_MELS, center=False
        )
        out[start:stop] = librosa.power_to_db(power, top_db=None).T
    return out
