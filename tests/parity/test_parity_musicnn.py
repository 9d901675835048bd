"""musicnn and vgg against the package's own graph with its real weights, the front end against
librosa.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from extract.embeddings import musicnn
from extract.embeddings.musicnn import frontend
from tests.parity.musicnn_package import averaged, log_mel, run_graph, unpacked
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


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(wheel(), tmp_path_factory.mktemp("package"))


@pytest.mark.parametrize("name", [*CLIPS, LOUD])
def test_the_front_end_is_librosas(name: str, request: pytest.FixtureRequest) -> None:
    audio = audio_of(name, request)
    windows = frontend.windows(audio, 187, 187, keep_tail=False)
    actual = np.concatenate(jax.jit(frontend.log_mel)(windows))
    expected = log_mel(audio)[: len(actual)]
    # float32 sums in another order may fall on the other side of a rounding to float16: then they
    # differ by a step, log10(1 + 2^-10) = 4.24e-4, about 1e-4 of the loudest values
    assert np.abs(actual - expected).max() <= 4.3e-4
    assert (np.abs(actual - expected) < 1e-5).mean() > 0.99


@pytest.mark.parametrize("model", musicnn.MODELS)
def test_every_layer_is_the_packages(
    model: str, package: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each clip by its own scale, for a quiet one could hide behind a loud one. All of them in one
    call: TensorFlow takes longest to start.
    """
    clips = {name: audio_of(name, request) for name in (*CLIPS, LOUD)}
    windows = {name: frontend.windows(x, 187, 187, keep_tail=False) for name, x in clips.items()}
    mel = [log_mel(x)[: 187 * len(windows[name])] for name, x in clips.items()]
    expected = run_graph(package, model, np.concatenate(mel).reshape(-1, 187, 96), tmp_path)
    params = musicnn.load_params(wheel(), model)
    run = jax.jit(musicnn.all_layers, static_argnums=2)
    actual = run(params, np.concatenate(list(windows.values())), model)
    assert actual.keys() == expected.keys() == musicnn.layers(model).keys()
    assert len(windows[WHOLE]) == 9
    bounds = np.cumsum([len(part) for part in windows.values()])[:-1]
    for name, layer in expected.items():
        parts = (np.split(x, bounds) for x in (np.asarray(actual[name]), averaged(name, layer)))
        for of, here, there in zip(clips, *parts, strict=True):
            print(model, name, of, end=": ")
            assert_agree(here, there, 1e-4)


@pytest.mark.parametrize("seconds", [1.5, 6.0])
def test_other_windows(seconds: float, package: Path, tmp_path: Path) -> None:
    audio = noise(RATE, 6.5)
    frames = musicnn.frames_in(seconds)
    layers = ("timbral", "cnn3", "max_pool", "penultimate")
    config = musicnn.Config(layer=layers, window=seconds, hop=seconds, tail="drop")
    actual = musicnn.frames(musicnn.load_params(wheel()), audio, config)
    mel = log_mel(audio)[: len(actual) * frames].reshape(-1, frames, 96)
    expected = run_graph(package, "MSD_musicnn", mel, tmp_path)
    for name, part in zip(
        config.names, np.split(actual, np.cumsum([408, 64, 753]), axis=1), strict=True
    ):
        there = averaged(name, expected[name])
        assert np.abs(part - there).max() <= 1e-4 * np.abs(there).max()
