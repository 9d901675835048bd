"""musicnn and vgg against the package's own graph with its real weights, the front end against
librosa.
"""

from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import build, musicnn
from extract.embeddings.musicnn import frontend
from tests.parity.musicnn_package import averaged, log_mel, run_graphs, unpacked
from tests.parity.oracle import CLIPS, RECORDINGS, REQUIRED, SECONDS, assert_agree, clip
from tests.support.musicnn_wheel import wheel
from tests.support.signals import noise

if REQUIRED:
    import tf_keras  # noqa: F401
else:
    pytest.importorskip("tf_keras", reason="tf_keras is not installed; see launch/parity.sh")

pytestmark = pytest.mark.parity
RATE = musicnn.SAMPLE_RATE
WHOLE = RECORDINGS[1]  # 29 s, nine windows: the others have one
LOUD = "loud"  # clipped noise, beyond what float16 held under NumPy 2


def audio_of(name: str, request: pytest.FixtureRequest) -> np.ndarray:
    if name == LOUD:
        return np.clip(4 * noise(RATE, 4), -1, 1).astype(np.float32)
    return clip(name, RATE, 60 if name == WHOLE else max(SECONDS, 4), request)


OTHER = (1.5, 6.0)  # seconds of windows
AUDIO = noise(RATE, 6.5)  # that they are tried on


def windows_of(audio: np.ndarray) -> np.ndarray:
    return frontend.windows(audio, 187, 187, keep_tail=False)


@pytest.fixture(scope="module")
def clips(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    return {name: audio_of(name, request) for name in (*CLIPS, LOUD)}


@pytest.fixture(scope="module")
def expected(
    clips: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> dict[str | float, dict[str, np.ndarray]]:
    """What the package's graphs compute, of all that this module compares, in one process, since
    TensorFlow takes longest to start: by model for the clips, by seconds for other windows.
    """
    scratch = tmp_path_factory.mktemp("package")
    package = unpacked(wheel(), scratch)
    whole = [log_mel(x)[: 187 * len(windows_of(x))] for x in clips.values()]
    jobs: dict[str | float, tuple[str, np.ndarray]] = {
        model: (model, np.concatenate(whole).reshape(-1, 187, 96)) for model in musicnn.MODELS
    }
    for seconds in OTHER:
        frames = musicnn.frames_in(seconds)
        mel = log_mel(AUDIO)
        mel = mel[: len(mel) // frames * frames]
        jobs[seconds] = ("MSD_musicnn", mel.reshape(-1, frames, 96))
    found = run_graphs(package, list(jobs.values()), scratch)
    return dict(zip(jobs, found, strict=True))


@pytest.mark.parametrize("name", [*CLIPS, LOUD])
def test_the_front_end_is_librosas(name: str, clips: dict[str, np.ndarray]) -> None:
    actual = np.concatenate(jax.jit(frontend.log_mel)(windows_of(clips[name])))
    expected = log_mel(clips[name])[: len(actual)]
    # float32 sums in another order may fall on the other side of a rounding to float16: then they
    # differ by a step, log10(1 + 2^-10) = 4.24e-4, about 1e-4 of the loudest values
    assert np.abs(actual - expected).max() <= 4.3e-4
    assert (np.abs(actual - expected) < 1e-5).mean() > 0.99


@pytest.mark.parametrize("model", musicnn.MODELS)
def test_every_layer_is_the_packages(
    model: str,
    clips: dict[str, np.ndarray],
    expected: dict[str | float, dict[str, np.ndarray]],
) -> None:
    """Each clip by its own scale, for a quiet one could hide behind a loud one."""
    windows = {name: windows_of(x) for name, x in clips.items()}
    params = build("musicnn", weights=wheel(), model=model).params
    run = jax.jit(musicnn.all_layers, static_argnums=2)
    actual = run(params, np.concatenate(list(windows.values())), model)
    assert actual.keys() == expected[model].keys() == musicnn.layers(model).keys()
    assert len(windows[WHOLE]) == 9
    bounds = np.cumsum([len(part) for part in windows.values()])[:-1]
    for name, layer in expected[model].items():
        parts = (np.split(x, bounds) for x in (np.asarray(actual[name]), averaged(name, layer)))
        for of, here, there in zip(clips, *parts, strict=True):
            print(model, name, of, end=": ")
            assert_agree(here, there, 1e-4)


@pytest.mark.parametrize("seconds", OTHER)
def test_other_windows(seconds: float, expected: dict[str | float, dict[str, np.ndarray]]) -> None:
    layers = ("timbral", "cnn3", "max_pool", "penultimate")
    options: dict[str, Any] = {"layer": layers, "window": seconds, "hop": seconds, "tail": "drop"}
    embedding = build("musicnn", weights=wheel(), **options)
    assert embedding.windows is not None
    assert embedding.embed is not None
    actual = jax.jit(embedding.embed)(embedding.params, embedding.windows(AUDIO))
    for name, part in zip(layers, np.split(actual, np.cumsum([408, 64, 753]), axis=1), strict=True):
        there = averaged(name, expected[seconds][name])
        assert part.shape == there.shape
        assert np.abs(part - there).max() <= 1e-4 * np.abs(there).max()
