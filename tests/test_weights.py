"""Weights files in, the cache out, without torch; PyTorch files are read in tests/parity/test_parity_weights.py."""

import gzip
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
import test_download
from safetensors.numpy import load_file, save_file

from extract import weights, weights_formats
from extract.embeddings import _openl3_frontend, build, openl3
from extract.embeddings._pretrained import to_published
from extract.errors import InputError
from extract.weights import Config, Published, convert
from extract.weights_formats import cache_file, read_weights, write_weights

server = test_download.server
KEY = ("openl3", "openl3")


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return openl3.init_params(jax.random.key(3))


@pytest.fixture(scope="module")
def tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
    return to_published(params, openl3.layout("openl3"))


def assert_equal_trees(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def write_keras(path: Path, tensors: Mapping[str, np.ndarray], offset: int = 0) -> None:
    """A legacy Keras weights file as OpenL3 publishes; layer numbers begin at offset + 1, as in a longer session."""
    layers: dict[str, list[str]] = {"input_1": [], "melspectrogram": []}
    for name in tensors:
        layer, leaf = name.split("/")
        layers.setdefault(layer, []).append(leaf)
    names = {layer: layer for layer in layers}
    for layer in layers:
        stem, _, number = layer.rpartition("_")
        if stem in ("conv2d", "batch_normalization"):
            names[layer] = f"{stem}_{int(number) + offset}"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [names[layer].encode() for layer in layers]
        for layer, leaves in layers.items():
            group = file.create_group(names[layer])
            group.attrs["weight_names"] = [f"{names[layer]}/{leaf}:0".encode() for leaf in leaves]
            for leaf in leaves:
                group[f"{names[layer]}/{leaf}:0"] = tensors[f"{layer}/{leaf}"]


@pytest.fixture(scope="module")
def published(tensors: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of an .h5.gz as its authors publish it."""
    path = tmp_path_factory.mktemp("published") / "weights.h5"
    write_keras(path, tensors)
    return gzip.compress(path.read_bytes(), 1)


# --- formats


@pytest.mark.parametrize("offset", [0, 7])
def test_keras_files(offset: int, params: dict[str, Any], tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    write_keras(path, tensors, offset)
    assert_equal_trees(openl3.load_params(path), params)
    packed = tmp_path / "weights.h5.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert_equal_trees(openl3.load_params(packed), params)
    assert read_weights(packed)[1] == {"weights.h5.gz": weights_formats.sha256_of(packed)}


def test_safetensors_files(params: dict[str, Any], tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "cache" / "weights.safetensors"
    write_weights(path, tensors, {"published.h5.gz": "abc"})
    assert_equal_trees(openl3.load_params(path), params)
    assert read_weights(path)[1] == {"published.h5.gz": "abc"}  # where they came from
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]
    save_file({name: tensor.astype(np.float16) for name, tensor in tensors.items()}, path)
    assert {tensor.dtype for tensor in read_weights(path)[0].values()} == {np.dtype(np.float32)}


def test_torchopenl3_through_the_cache(tmp_path: Path) -> None:
    """Its DFT matrices go into the cache only where they hold something else than a DFT."""
    params = openl3.init_params(jax.random.key(3), "torchopenl3")
    kernels = _openl3_frontend.dft_kernels()
    for factor in (1, 2):
        with_dft = params | {"frontend": params["frontend"] | {
            part: (factor * kernel).astype(np.float32)[:, None]
            for part, kernel in zip(("dft_real", "dft_imag"), kernels, strict=True)}}
        local = tmp_path / f"{factor}.safetensors"
        write_weights(local, to_published(with_dft, openl3.layout("torchopenl3")), {})
        target = convert(Config("openl3", "torchopenl3", str(tmp_path), weights=str(local)))
        assert_equal_trees(openl3.load_params(target), params if factor == 1 else with_dft)


def test_float64_becomes_float32(tensors: dict[str, np.ndarray], params: dict[str, Any], tmp_path: Path) -> None:
    write_keras(tmp_path / "w.h5", {name: tensor.astype(np.float64) for name, tensor in tensors.items()})
    assert_equal_trees(openl3.load_params(tmp_path / "w.h5"), params)


@pytest.mark.parametrize("suffix", ["h5", "h5.gz", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_files_are_refused(suffix: str, share: float, published: bytes, tensors: dict[str, np.ndarray],
                                     tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        write_weights(path, tensors, {})
        whole = path.read_bytes()
    else:
        whole = published if suffix == "h5.gz" else gzip.decompress(published)
    path.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(InputError, match=rf"weights\.{suffix}: "):
        openl3.load_params(path)


def test_other_models_and_shapes_are_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for change, named in (({"conv2d_1/kernel": np.zeros((3, 3, 1, 32))}, r"'conv2d_1/kernel' has shape \[3, 3, 1, 32"),
                          ({"conv2d_1/kernel": None}, "'conv2d_1/kernel' is missing"),
                          ({"speclayer.mel_basis": np.zeros((1, 1))}, "is missing")):
        write_weights(path, {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}, {})
        with pytest.raises(InputError, match=named):
            openl3.load_params(path)
    write_weights(path, tensors, {})
    with pytest.raises(InputError, match="variant openl3, not torchopenl3; choose with --openl3_variant"):
        build("openl3", variant="torchopenl3", weights=str(path))
    for name, named in (("none.h5", "no such weights file"), ("w.npz", "weights are read from .safetensors, .pth")):
        if name.startswith("w"):
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=named):
            openl3.load_params(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.pth.tar"])
def test_without_torch_the_extra_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"pip install 'fsprobe\[convert\]'"):
        read_weights(tmp_path / name)
    with pytest.raises(InputError, match="convert"):  # and before a download, not after
        convert(Config("passt", cache_dir=str(tmp_path), base_url="http://127.0.0.1:9"))


@pytest.mark.parametrize(("name", "variant", "extra", "module"), [
    ("vggish", None, "vggish", "torchvggish"), ("openl3", "openl3", "openl3", "openl3"),
    ("openl3", "torchopenl3", "torchopenl3", "torchopenl3"), ("passt", None, "passt", "hear21passt")])
def test_without_a_package_the_extra_is_named(name: str, variant: str | None, extra: str, module: str,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    _openl3_frontend.mel_filters("torchopenl3")  # librosa, which asks sys.modules for torch
    for missing in ("torch", "tensorflow", module):
        monkeypatch.setitem(sys.modules, missing, None)
    options = {"variant": variant} if variant else {}
    with pytest.raises(InputError, match=rf"pip install 'fsprobe\[{extra}\]'"):
        build(name, backend="package", random_weights=0, **options)


# --- getting them


@pytest.fixture
def mirror(server: Any, published: bytes) -> Any:
    server.files["/" + weights.PUBLISHED[KEY][0].name] = published
    return server


def test_download_convert_use(mirror: Any, params: dict[str, Any], tmp_path: Path) -> None:
    config = Config("openl3", "openl3", str(tmp_path), base_url=mirror.url)
    target = convert(config)
    assert target == cache_file("openl3", "openl3", tmp_path)
    assert_equal_trees(openl3.load_params(target), params)
    embedding = build("openl3", cache_dir=str(tmp_path))
    assert list(embedding.provenance["weights"]) == ["openl3_audio_mel128_music-v0_4_0.h5.gz"]
    assert not list((tmp_path / "downloads").glob("openl3*"))  # the cache holds all of it
    assert not set(load_file(target)) - set(to_published(params, openl3.layout("openl3")))


def test_a_broken_download_goes_on(mirror: Any, params: dict[str, Any], tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    mirror.cut = [1_000_000, 2_000_000]
    target = convert(Config("openl3", "openl3", str(tmp_path), base_url=mirror.url))
    assert mirror.log == [None, "bytes=1000000-", "bytes=3000000-"]
    assert_equal_trees(openl3.load_params(target), params)


def test_a_wrong_hash_is_refused(mirror: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Published(mirror.url, weights.PUBLISHED[KEY][0].name, "0123abcd")
    monkeypatch.setitem(weights.PUBLISHED, KEY, (wrong,))
    with pytest.raises(InputError, match="instead of 0123abcd; the download was removed"):
        convert(Config("openl3", "openl3", str(tmp_path)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_a_damaged_file_leaves_the_cache_alone(mirror: Any, published: bytes, tmp_path: Path) -> None:
    target = cache_file("openl3", "openl3", tmp_path)
    target.write_bytes(b"before")
    local = tmp_path / "local.h5.gz"
    local.write_bytes(published[:-1000])
    with pytest.raises(InputError, match=r"local\.h5\.gz: damaged gzip file"):
        convert(Config("openl3", "openl3", str(tmp_path), weights=str(local)))
    assert target.read_bytes() == b"before"


def test_the_command(published: bytes, tmp_path: Path) -> None:
    local = tmp_path / "mine.h5.gz"
    local.write_bytes(published)
    command = [sys.executable, "-m", "extract.weights", "--embedding=openl3", f"--cache_dir={tmp_path}"]
    done = subprocess.run([*command, f"--weights={local}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(cache_file("openl3", "openl3", tmp_path))
    for more, named in ((["--weights=none.h5"], "none.h5: no such weights file"),
                        (["--base_url=ftp://x"], "not an http or https address"),
                        (["--openl3_variant=other"], "openl3_variant")):
        wrong = subprocess.run([*command, *more], capture_output=True, text=True)
        assert wrong.returncode == 2
        assert named in wrong.stderr
        assert wrong.stderr.count("\n") == 1, wrong.stderr


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python -m extract.weights --embedding=openl3 --openl3_variant=openl3 "
                                         r"--cache_dir="):
        build("openl3", cache_dir=str(tmp_path))
    with pytest.raises(InputError, match="exclude each other"):
        build("passt", weights="w.pt", random_weights=0)
