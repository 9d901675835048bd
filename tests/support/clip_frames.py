"""Frames of whole clips, and what may go wrong with them. Decoding processes import this module: it
is quick to import.
"""

import os
import signal

import numpy as np


def mean_of_thousands(samples: np.ndarray) -> np.ndarray:
    blocks = samples[: max(1, len(samples) // 1000) * 1000]
    return np.stack([part[:3] for part in np.array_split(blocks, max(1, len(blocks) // 1000))])


def not_finite(samples: np.ndarray) -> np.ndarray:
    return np.full((2, 3), np.nan if len(samples) > 4000 else 1e6, np.float32)


def dies_on_long_clips(samples: np.ndarray) -> np.ndarray:
    if len(samples) > 7000:
        os.kill(os.getpid(), signal.SIGSEGV)
    return samples[:30].reshape(-1, 3)


def has_a_bug(samples: np.ndarray) -> np.ndarray:
    raise KeyError("bug")
