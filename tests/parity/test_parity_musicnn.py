"""musicnn and vgg against the package's own graph with its real weights, the front end against
librosa.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from musicnn_wheel import wheel
from oracle import CLIPS, REQUIRED, SECONDS, clip
from signals import noise

from extract.embeddings import musicnn
from extract.embeddings.musicnn import frontend

if REQUIRED:
    import librosa
    import tf_keras  # noqa: F401
else:
    librosa = pytest.importorskip("librosa")
    pytest.importorskip("tf_keras", reason="tf_keras is not installed; see launch/parity.sh")

pytestmark = pytest.mark.parity
RATE = musicnn.SAMPLE_RATE
LOUD = "loud"  # clipped noise, beyond what float16 held under NumPy 2


def audio_of(name: str, request: pytest.FixtureRequest) -> np.ndarray:
    if name == LOUD:
        return np.clip(4 * noise(RATE, 4), -1, 1).astype(np.float32)
    return clip(name, RATE, max(SECONDS, 4), request)


def librosa_log_mel(audio: np.ndarray) -> np.ndarray:
    """As the package has it: float32 `[frame, 96]`."""
    mel = librosa.feature.melspectrogram(y=audio, sr=RATE, n_fft=512, hop_length=256, n_mels=96)
    return np.log10(10000 * mel.T.astype(np.float16).astype(np.float32) + 1)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(folder)
    return folder


def graph(package: Path, model: str, windows: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """Layer → `[window, ...]` by the package."""
    np.save(folder / "windows.npy", windows)
    script = Path(__file__).parent / "musicnn_graph.py"
    command = [sys.executable, str(script), str(package), model]
    subprocess.run(
        [*command, str(folder / "windows.npy"), str(folder / "out.npz")],
        check=True,
        capture_output=True,
        env=os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    with np.load(folder / "out.npz") as arrays:
        return dict(arrays)


def averaged(name: str, layer: np.ndarray) -> np.ndarray:
    """`[window, width]`: over time, and for pools over mel, as a store holds it."""
    if name.startswith("pool"):
        return layer.mean((1, 2))
    if name in ("mean_pool", "max_pool", "penultimate", "tags"):
        return layer.reshape(len(layer), -1)
    return layer.reshape(*layer.shape[:2], -1).mean(1)


@pytest.mark.parametrize("name", [*CLIPS, LOUD])
def test_the_front_end_is_librosas(name: str, request: pytest.FixtureRequest) -> None:
    audio = audio_of(name, request)
    windows = frontend.windows(audio, 187, 187, keep_tail=False)
    actual = np.concatenate(jax.jit(frontend.log_mel)(windows))
    expected = librosa_log_mel(audio)[: len(actual)]
    # where float32 sums in another order fall on the other side of a float16: 2.2e-4 there
    assert np.abs(actual - expected).max() <= 1e-4 * max(expected.max(), 2.2)


@pytest.mark.parametrize("model", musicnn.MODELS)
def test_every_layer_is_the_packages(
    model: str, package: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All clips in one call: TensorFlow takes longest to start."""
    clips = {name: audio_of(name, request) for name in (*CLIPS, LOUD)}
    windows = {name: frontend.windows(x, 187, 187, keep_tail=False) for name, x in clips.items()}
    mel = [librosa_log_mel(x)[: 187 * len(windows[name])] for name, x in clips.items()]
    expected = graph(package, model, np.concatenate(mel).reshape(-1, 187, 96), tmp_path)
    params = musicnn.load_params(wheel(), model)
    run = jax.jit(musicnn.all_layers, static_argnums=2)
    actual = run(params, np.concatenate(list(windows.values())), model)
    assert actual.keys() == expected.keys() == musicnn.layers(model).keys()
    for name, layer in expected.items():
        here, there = np.asarray(actual[name]), averaged(name, layer)
        assert here.shape == there.shape
        scale = np.abs(there).max()
        difference = np.abs(here - there).max() / scale
        print(f"{model} {name}: max |difference| {difference:.1e} of scale {scale:.4g}")
        assert difference <= 1e-4


@pytest.mark.parametrize("seconds", [1.5, 6.0])
def test_other_windows(seconds: float, package: Path, tmp_path: Path) -> None:
    audio = noise(RATE, 6.5)
    frames = musicnn.frames_in(seconds)
    layers = ("timbral", "cnn3", "max_pool", "penultimate")
    config = musicnn.Config(layer=layers, window=seconds, hop=seconds, tail="drop")
    actual = musicnn.frames(musicnn.load_params(wheel()), audio, config)
    mel = librosa_log_mel(audio)[: len(actual) * frames].reshape(-1, frames, 96)
    expected = graph(package, "MSD_musicnn", mel, tmp_path)
    for name, part in zip(
        config.names, np.split(actual, np.cumsum([408, 64, 753]), axis=1), strict=True
    ):
        there = averaged(name, expected[name])
        assert np.abs(part - there).max() <= 1e-4 * np.abs(there).max()
