"""Arrays that the models' packages computed once (tests/parity/make_goldens.py), for tests that
need no package.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.support.signals import noise, tones

FOLDER = Path(__file__).parent / "goldens"


def audio(rate: int, seconds: float) -> np.ndarray:
    """Tones above noise, so that every band of a log-mel image holds more than rounding errors."""
    return tones(rate, seconds) + np.float32(0.1) * noise(rate, seconds)


def vggish_params() -> dict[str, Any]:
    """Random ones, whose projections spread over the 256 steps."""
    from extract.embeddings import vggish

    params = vggish.init_params(jax.random.key(0))
    params["pca"]["eigenvectors"] = params["pca"]["eigenvectors"] * np.float32(0.8)
    return params


def musicnn_params(kind: str) -> dict[str, Any]:
    """Random ones of `musicnn` or `vgg`, every other factor of a normalisation negative, as many of
    the published ones are.
    """
    from extract.embeddings import musicnn

    params = musicnn.init_params(jax.random.key(0), f"MSD_{kind}")
    for name, leaves in params.items():
        if name.startswith("batch_normalization_"):
            signs = np.where(np.arange(len(leaves["scale"])) % 2, -1, 1).astype(np.float32)
            params[name] = leaves | {"scale": leaves["scale"] * signs}
    return params


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def assert_agree(actual: Any, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """max |difference| ≤ tolerance · max |expected|. Float32 sums in another order differ by some
    1e-6.
    """
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()
