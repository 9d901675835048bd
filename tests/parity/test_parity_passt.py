"""PaSST, 30 s variant, against hear21passt 0.0.26."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import build, packages, passt
from extract.embeddings.passt_network import log_mel
from extract.embeddings.pretrained import to_published
from tests.parity.oracle import CLIPS, FEW, SECONDS, assert_agree, clip, installed
from tests.support.signals import noise

pytestmark = pytest.mark.parity
RATE = passt.SAMPLE_RATE
DEFAULT: dict[str, Any] = {}
SCENE: dict[str, Any] = {"mode": "scene"}


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return passt.init_params(jax.random.key(0))


@pytest.fixture(scope="module")
def package(params: dict[str, Any]) -> Callable[[dict[str, Any]], Callable]:
    """Options → the package's frames with them."""
    tensors = to_published(params, passt.layout())
    default = {"window": passt.WINDOW, "hop": passt.HOP, "mode": "timestamp"}
    return lambda options: installed(packages.passt, tensors, *(default | options).values())[0]


def frames(params: dict[str, Any], audio: np.ndarray, **options: Any) -> jax.Array:
    """As a run embeds them."""
    embedding = build("passt", random_weights=0, **options)
    assert embedding.windows is not None
    assert embedding.embed is not None
    return jax.jit(embedding.embed)(params, embedding.windows(audio))


@pytest.mark.parametrize("name", FEW)
def test_timestamps(
    name: str, params: dict[str, Any], package: Callable, request: pytest.FixtureRequest
) -> None:
    audio = clip(name, RATE, SECONDS / 2, request)
    assert_agree(frames(params, audio), package(DEFAULT)(audio))


@pytest.mark.parametrize("name", FEW)
def test_scenes(
    name: str, params: dict[str, Any], package: Callable, request: pytest.FixtureRequest
) -> None:
    audio = clip(name, RATE, SECONDS, request)
    expected = package(SCENE)(audio)
    assert_agree(jax.jit(passt.embed)(params, audio[None]), expected)
    assert_agree(passt.scene_frames(params, audio), expected)  # filled up and masked, as in a run


def test_a_scene_of_more_than_30_seconds(params: dict[str, Any], package: Callable) -> None:
    audio = noise(RATE, 30.1)
    assert_agree(passt.scene_frames(params, audio), package(SCENE)(audio))


@pytest.mark.parametrize("name", CLIPS)
def test_front_end(name: str, package: Callable, request: pytest.FixtureRequest) -> None:
    package(DEFAULT)
    import torch
    from hear21passt.base30sec import AugmentMelSTFT

    with contextlib.redirect_stdout(io.StringIO()):
        mel = AugmentMelSTFT(
            n_mels=128,
            sr=32000,
            win_length=800,
            hopsize=320,
            n_fft=1024,
            freqm=48,
            timem=192,
            htk=False,
            fmin=0.0,
            fmax=None,
            norm=1,
            fmin_aug_range=10,
            fmax_aug_range=2000,
        ).eval()
    audio = clip(name, RATE, SECONDS, request)
    with torch.no_grad():
        expected = mel(torch.tensor(audio)[None]).numpy()
    assert_agree(jax.jit(log_mel)(audio[None]), expected)


@pytest.mark.parametrize(
    "options", [{"window": 0.5, "hop": 0.25}, {"window": 0.1501, "hop": 0.3333}]
)
def test_other_windows(
    options: dict[str, float], params: dict[str, Any], package: Callable
) -> None:
    audio = noise(RATE, 1.01)
    assert_agree(frames(params, audio, **options), package(options)(audio))


@pytest.mark.parametrize("samples", [2561, 3199, 3200])
def test_lengths(samples: int, params: dict[str, Any], package: Callable) -> None:
    """From the shortest clip that the package can reflect."""
    audio = noise(RATE, samples / RATE)
    expected = package(DEFAULT)(audio)
    assert_agree(frames(params, audio), expected)


@pytest.mark.parametrize("zipped", [False, True], ids=["old", "zip"])
def test_both_load_the_published_file(
    zipped: bool, package: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(DEFAULT)
    import torch
    from hear21passt import base30sec
    from hear21passt.models.passt import get_model

    path = tmp_path / "passt-s-f128-30sec-p16-s10-ap.473-swa.pt"
    monkeypatch.setattr(
        "hear21passt.models.helpers.vit_helpers.download_cached_file", lambda url, **_: str(path)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(0)
        state = get_model(arch="passt_30sec", input_tdim=3000, pretrained=False).state_dict()
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        model = base30sec.load_model(mode="embed_only")
        audio = noise(RATE, 0.5)
        expected, _ = base30sec.get_timestamp_embeddings(torch.tensor(audio)[None], model)
    params = build("passt", weights=path).params
    assert_agree(frames(params, audio), expected[0].numpy())
