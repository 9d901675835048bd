"""An Embedding by windows, small enough for tests, and a run with it as a process that a test may
kill.

python tests/support/fake_embedding.py MANIFEST AUDIO_ROOT STORE [seconds to sleep per clip]
"""

import sys
import time

import numpy as np

from extract.embeddings import Embedding

RATE, WINDOW, HOP, DIM = 8000, 400, 160, 24


def windows(audio: np.ndarray) -> np.ndarray:
    padded = np.pad(audio, (0, max(0, WINDOW - len(audio))))
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]


def embed(params, batch):  # type: ignore[no-untyped-def]
    """Of the module, so that all runs of a process share its programs."""
    import jax.numpy as jnp

    spectrum = jnp.log(jnp.abs(jnp.fft.rfft(batch)) + 1e-3)
    return jnp.tanh(spectrum @ params) * jnp.std(batch, axis=1, keepdims=True)


def build(batch_size: int = 16) -> Embedding:
    weights = (
        np.random.default_rng(0).standard_normal((WINDOW // 2 + 1, DIM)).astype(np.float32) / 10
    )
    return Embedding(
        name="fake",
        sample_rate=RATE,
        dim=DIM,
        window=WINDOW / RATE,
        hop=HOP / RATE,
        windows=windows,
        embed=embed,
        params=weights,
        batch_size=batch_size,
        provenance={"package": "tests"},
    )


def main() -> None:
    from dataclasses import replace

    from extract.manifest import read_manifest
    from extract.pipeline.extract_clips import RunConfig, extract_clips
    from extract.storage import writer as store_writer

    pause = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0

    def slow_windows(audio: np.ndarray) -> np.ndarray:
        time.sleep(pause)
        return windows(audio)

    store_writer.COMMIT_SECONDS = 0.02
    extract_clips(
        read_manifest(sys.argv[1]),
        sys.argv[2],
        replace(build(), windows=slow_windows),
        sys.argv[3],
        RunConfig(num_workers=2, keep_frames=True),
    )


if __name__ == "__main__":
    main()
