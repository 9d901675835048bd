"""OpenL3 against openl3 0.4.2 and torchopenl3 1.0.1, whose front ends differ."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import build, openl3, packages
from extract.embeddings.openl3_frontend import log_mel
from extract.embeddings.pretrained import to_published
from tests.parity.oracle import CLIPS, FEW, SECONDS, assert_agree, clip, installed
from tests.support.signals import noise

pytestmark = pytest.mark.parity
RATE = openl3.SAMPLE_RATE


@pytest.fixture(scope="module", params=("openl3", "torchopenl3"))
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def params(variant: str) -> dict[str, Any]:
    return openl3.init_params(jax.random.key(0), variant)


def frames(params: dict[str, Any], audio: np.ndarray) -> jax.Array:
    return jax.jit(openl3.embed)(params, openl3.windows(audio))


@pytest.fixture(scope="module")
def package(variant: str, params: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    return installed(getattr(packages, variant), to_published(params, openl3.layout(variant)))[0]


@pytest.fixture(scope="module")
def front_end(variant: str, package: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """The package's own: `[window, 48000]` → `[window, 128, 199]`."""
    if variant == "openl3":
        from openl3 import models
        from tensorflow.keras import Model

        network = models.AUDIO_MODELS["mel128"](include_frontend=True)
        last = (
            next(i for i, layer in enumerate(network.layers) if layer.name.startswith("batch_norm"))
            - 1
        )
        model = Model(network.input, network.layers[last].output)
        return lambda windows: np.asarray(model(windows[:, None]))[..., 0]
    import torch
    from torchopenl3.models import PytorchOpenl3

    layer = PytorchOpenl3(input_repr="mel128", content_type="music", embedding_size=512).speclayer

    def frames(windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return layer.to(torch.tensor(windows).dtype)(torch.tensor(windows)[:, None]).numpy()[
                ..., 0
            ]

    return frames


@pytest.mark.parametrize("name", FEW)
def test_embeddings(
    name: str, params: dict[str, Any], package: Callable, request: pytest.FixtureRequest
) -> None:
    audio = clip(name, RATE, SECONDS, request)
    assert_agree(frames(params, audio), package(audio))


@pytest.mark.parametrize("name", CLIPS)
def test_front_end(
    name: str,
    variant: str,
    params: dict[str, Any],
    front_end: Callable,
    request: pytest.FixtureRequest,
) -> None:
    """torchopenl3's float32 sums leave noise 60 dB (of 10·log10 magnitude) below the maximum, where
    it shows between the partials of tones; it changes with torch's convolution library and is as
    large against the package's own sums in float64. So below -50 dB those are what the port must
    equal.
    """
    windows = openl3.windows(clip(name, RATE, SECONDS, request))[::9].copy()
    actual, expected = (
        np.asarray(jax.jit(log_mel)(windows, params.get("frontend"))),
        front_end(windows),
    )
    if variant == "torchopenl3":
        exact = front_end(windows.astype(np.float64)).astype(np.float32)
        print(f"the package's own noise: {np.abs(expected - exact).max() / 80:.1e}")
        assert_agree(actual, exact)
        expected = np.where(expected > -50, expected, exact)
    assert_agree(actual, expected)


@pytest.mark.parametrize("samples", [1, 24_000, 24_001, 28_801])
def test_lengths(samples: int, params: dict[str, Any], package: Callable) -> None:
    audio = noise(RATE, samples / RATE)
    expected = package(audio)
    assert len(expected) == len(openl3.windows(audio))
    assert_agree(frames(params, audio), expected)


@pytest.mark.parametrize("packed", [False, True], ids=["h5", "h5.gz"])
def test_openl3_and_we_load_the_published_keras_file(packed: bool, tmp_path: Path) -> None:
    installed(
        packages.openl3,
        to_published(openl3.init_params(jax.random.key(1)), openl3.layout("openl3")),
    )
    import h5py
    import openl3 as openl3_package
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
    from openl3 import models

    network = models.AUDIO_MODELS["mel128"](include_frontend=True)
    rng = np.random.default_rng(0)
    network.set_weights(
        [np.abs(rng.normal(1, 0.1, w.shape)) if w.ndim == 1 else w for w in network.get_weights()]
    )
    path = tmp_path / "openl3_audio_mel128_music-v0_4_0.h5"
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, network)
    model = models.load_audio_embedding_model_from_path(str(path), "mel128", 512)
    audio = noise(RATE, 1)
    expected = openl3_package.get_audio_embedding(
        audio, RATE, model=model, hop_size=0.1, verbose=0
    )[0]
    if packed:
        with gzip.open(f"{path}.gz", "wb") as file:
            file.write(path.read_bytes())
        path = Path(f"{path}.gz")
    assert_agree(frames(build("openl3", weights=path).params, audio), expected)


@pytest.mark.parametrize("nested", [False, True])
def test_torchopenl3_and_we_load_the_published_file(
    nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = openl3.init_params(jax.random.key(1), "torchopenl3")
    installed(packages.torchopenl3, to_published(params, openl3.layout("torchopenl3")))
    import torch
    import torchopenl3

    network = torchopenl3.models.PytorchOpenl3(
        input_repr="mel128", content_type="music", embedding_size=512
    )
    path = tmp_path / "torchopenl3_mel128_music_512.pth.tar"
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(
        "torch.hub.load_state_dict_from_url", lambda url: torch.load(path, weights_only=True)
    )
    model = torchopenl3.core.load_audio_embedding_model("mel128", "music", 512)
    audio = noise(RATE, 1)
    expected = torchopenl3.get_audio_embedding(audio, RATE, model=model, hop_size=0.1)[0][0].numpy()
    if nested:
        torch.save({"epoch": 1, "state_dict": network.state_dict()}, path)
    loaded = build("openl3", variant="torchopenl3", weights=path).params
    assert set(loaded["frontend"]) == {"mel"}  # its DFT matrices hold a DFT and nothing else
    assert_agree(frames(loaded, audio), expected)


def test_other_dft_matrices_override(tmp_path: Path) -> None:
    """The buffers of the state dict decide, whatever they are."""
    params = openl3.init_params(jax.random.key(0), "torchopenl3")
    rng = np.random.default_rng(0)
    for part in ("dft_real", "dft_imag"):
        params["frontend"][part] = rng.standard_normal((1025, 1, 2048)).astype(np.float32)
    package, _ = installed(packages.torchopenl3, to_published(params, openl3.layout("torchopenl3")))
    audio = noise(RATE, 0.2)
    assert_agree(frames(params, audio), package(audio))
