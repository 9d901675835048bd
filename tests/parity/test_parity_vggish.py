"""VGGish against torchvggish 0.2."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import build, packages, vggish
from extract.embeddings.pretrained import to_published
from tests.parity.oracle import CLIPS, SECONDS, assert_agree, clip, installed
from tests.support.signals import noise

pytestmark = pytest.mark.parity
RATE = vggish.SAMPLE_RATE


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    """Random parameters whose projections spread over the 256 steps, as the published ones do."""
    params = vggish.init_params(jax.random.key(0))
    outputs = np.asarray(vggish.network_output(params, vggish.windows(noise(RATE, 4))))
    params["pca"]["means"] = outputs.mean(0)
    params["pca"]["eigenvectors"] = params["pca"]["eigenvectors"] * np.float32(3 / outputs.std())
    return params


@pytest.fixture(scope="module")
def tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
    return to_published(params, vggish.layout())


@pytest.fixture(scope="module")
def package(tensors: dict[str, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return installed(packages.vggish, tensors)[0]


def frames(params: dict[str, Any], audio: np.ndarray) -> jax.Array:
    return jax.jit(vggish.embed)(params, vggish.windows(audio))


def examples(audio: np.ndarray) -> Any:
    from torchvggish import vggish_input

    return (
        vggish_input.waveform_to_examples(audio, RATE).detach().float()
    )  # made with requires_grad


def assert_quantised_alike(actual: Any, expected: np.ndarray) -> None:
    difference = np.abs(np.asarray(actual) - expected)
    print(
        f"{(difference > 0).mean():.2%} of {difference.size} values differ, by at most "
        f"{difference.max():g}"
    )
    assert difference.max() <= 1
    assert (difference > 0).sum() <= max(1, 0.01 * difference.size)


@pytest.mark.parametrize("name", CLIPS)
def test_front_end_and_embeddings(
    name: str,
    params: dict[str, Any],
    tensors: dict[str, np.ndarray],
    package: Callable,
    request: pytest.FixtureRequest,
) -> None:
    import torch
    from torchvggish import torchvggish

    audio = clip(name, RATE, 2 * SECONDS, request)
    windows = vggish.windows(audio)
    assert_agree(vggish.log_mel(windows), examples(audio)[:, 0].numpy())
    network = torchvggish._vgg().eval()
    network.load_state_dict(
        {key: torch.tensor(value) for key, value in tensors.items() if not key.startswith("pca")}
    )
    with torch.no_grad():
        assert_agree(
            jax.jit(vggish.network_output)(params, windows), network(examples(audio)).numpy()
        )
    expected = package(audio)
    if name == "noise":  # not all of them at the stops
        assert ((expected > 0) & (expected < 255)).mean() > 0.5
    assert_quantised_alike(frames(params, audio), expected)


@pytest.mark.parametrize(
    "samples", [vggish.WINDOW, vggish.WINDOW + vggish.HOP - 1, vggish.WINDOW + vggish.HOP]
)
def test_lengths(samples: int, params: dict[str, Any], package: Callable) -> None:
    audio = noise(RATE, samples / RATE)
    expected = package(audio)  # of one example, which the package squeezes
    assert expected.shape == (len(vggish.windows(audio)), 128)
    assert_quantised_alike(frames(params, audio), expected)


@pytest.mark.parametrize("zipped", [False, True], ids=["old", "zip"])
def test_both_load_the_published_files(
    zipped: bool,
    tensors: dict[str, np.ndarray],
    package: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The package's own constructor and ours take the same two files; the published PCA's
    is NumPy's.
    """
    import torch
    from torchvggish import torchvggish

    files = {
        torchvggish.VGGISH_WEIGHTS: {
            key: torch.tensor(value) for key, value in tensors.items() if not key.startswith("pca")
        },
        torchvggish.PCA_PARAMS: {
            key: value.astype(np.float64) for key, value in tensors.items() if key.startswith("pca")
        },
    }
    for url, content in files.items():
        path = tmp_path / url.rsplit("/", 1)[-1]
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        if not zipped:  # names as NumPy 1 wrote them
            path.write_bytes(
                path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            )
    monkeypatch.setattr(
        "torch.hub.load_state_dict_from_url",
        lambda url, **_: torch.load(tmp_path / url.rsplit("/", 1)[-1], weights_only=False),
    )
    model = torchvggish.vggish(postprocess=True).eval()
    audio = noise(RATE, 3)
    with torch.no_grad():
        expected = model(examples(audio)).numpy()
    np.testing.assert_array_equal(expected, package(audio))
    params = build("vggish", weights=tmp_path / "vggish-10086976.pth").params
    assert_quantised_alike(frames(params, audio), expected)
