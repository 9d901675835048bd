"""What the parity tests share: clips, and what it means to agree with a package."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.audio.decoding import decode
from extract.errors import InputError
from tests.support.signals import SYNTHETIC

RECORDINGS = (
    "drum_bass.ogg",
    "joram-moments_of_clarity-08-solipsism-59-88.mp3",
    "solo_trumpet.ogg",
    "vibe_ace.ogg",
)
CLIPS = (*SYNTHETIC, *RECORDINGS)
FEW = ("noise", "silence", RECORDINGS[1])  # for networks, whose front ends are tried on all of them
REQUIRED = os.environ.get("FSPROBE_PARITY") == "required"
SECONDS = float(
    os.environ.get("FSPROBE_PARITY_SECONDS", "2")
)  # of every clip; 30 takes the recordings whole


def clip(name: str, rate: int, seconds: float, request: pytest.FixtureRequest) -> np.ndarray:
    if name in SYNTHETIC:
        return SYNTHETIC[name](rate, min(seconds, 4))
    try:
        folder: Path = request.getfixturevalue("real_data")
    except pytest.skip.Exception as skipped:
        if REQUIRED:
            pytest.fail(str(skipped))
        raise
    return decode(folder / "audio" / name, rate)[: round(rate * seconds)]


def installed(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args); skips, with what is missing, where that is a package (unless
    FSPROBE_PARITY=required).
    """
    try:
        return function(*args)
    except InputError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


def assert_agree(actual: Any, expected: Any, tolerance: float = 1e-3) -> None:
    """Equal shapes, finite, and max |difference| at most `tolerance` of the largest expected
    magnitude.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == np.float32
    assert np.isfinite(expected).all()
    scale = np.abs(expected).max() or 1.0
    difference = np.abs(actual - expected).max() / scale
    print(
        f"max |difference| {difference:.1e} of scale {scale:.4g}, {len(actual)} rows"
    )  # pytest -s -v shows it
    assert difference <= tolerance
