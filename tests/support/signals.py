"""Signals that the tests of the pretrained models feed them: float32 `[sample]`, the same on every
machine.
"""

import numpy as np


def noise(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    """White, uniform in ±0.5."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(rate * seconds)).astype(np.float32)


def tones(rate: int, seconds: float) -> np.ndarray:
    """Three steady sines: nothing but rounding errors between them, which a logarithm makes
    visible.
    """
    time = np.arange(round(rate * seconds)) / rate
    return sum(
        0.2 * np.sin(2 * np.pi * frequency * time) for frequency in (220, 1000, 3520)
    ).astype(np.float32)


def silence(rate: int, seconds: float) -> np.ndarray:
    return np.zeros(round(rate * seconds), np.float32)


SYNTHETIC = {"noise": noise, "tones": tones, "silence": silence}
