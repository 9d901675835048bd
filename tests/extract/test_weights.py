"""Weights files in, the cache out, without torch; PyTorch files are read in
tests/parity/test_parity_weights.py.
"""

import gzip
import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from extract.embeddings import build, openl3, openl3_frontend, passt, vggish, weights_formats
from extract.embeddings.pretrained import to_published
from extract.embeddings.published import Config, convert
from extract.embeddings.registry import OPENL3, Published
from extract.embeddings.weights_formats import cache_file, read_weights, write_weights
from extract.errors import InputError
from tests.support import http_server
from tests.support.commands import Commands

server = http_server.server


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return openl3.init_params(jax.random.key(3))


@pytest.fixture(scope="module")
def tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
    return to_published(params, openl3.layout("openl3"))


def loaded(path: Path, variant: str = "openl3") -> Any:
    return build("openl3", weights=path, variant=variant).params


def assert_equal_trees(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def write_keras(path: Path, tensors: Mapping[str, np.ndarray], offset: int = 0) -> None:
    """A legacy Keras weights file as OpenL3 publishes; layer numbers begin at offset + 1, as in a
    longer session.
    """
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
def test_keras_files(
    offset: int, params: dict[str, Any], tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "weights.h5"
    write_keras(path, tensors, offset)
    assert_equal_trees(loaded(path), params)
    packed = tmp_path / "weights.h5.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert_equal_trees(loaded(packed), params)
    assert read_weights(packed)[1] == {"weights.h5.gz": weights_formats.sha256_of(packed)}


def test_safetensors_files(
    params: dict[str, Any], tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "weights.safetensors"
    write_weights(path, tensors, {"published.h5.gz": "abc"})
    assert_equal_trees(loaded(path), params)
    assert read_weights(path)[1] == {"published.h5.gz": "abc"}  # where they came from
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    save_file({name: tensor.astype(np.float16) for name, tensor in tensors.items()}, path)
    assert {tensor.dtype for tensor in read_weights(path)[0].values()} == {np.dtype(np.float32)}


def test_torchopenl3_through_the_cache(tmp_path: Path) -> None:
    """Its DFT matrices go into the cache only where they hold something else than a DFT."""
    params = openl3.init_params(jax.random.key(3), "torchopenl3")
    kernels = openl3_frontend.dft_kernels()
    for factor in (1, 2):
        with_dft = params | {
            "frontend": params["frontend"]
            | {
                part: (factor * kernel).astype(np.float32)[:, None]
                for part, kernel in zip(("dft_real", "dft_imag"), kernels, strict=True)
            }
        }
        local = tmp_path / f"{factor}.safetensors"
        write_weights(local, to_published(with_dft, openl3.layout("torchopenl3")), {})
        target = convert(Config("openl3", "torchopenl3", str(tmp_path), weights=str(local)))
        expected = params if factor == 1 else with_dft
        assert_equal_trees(loaded(target, "torchopenl3"), expected)


def test_float64_becomes_float32(
    tensors: dict[str, np.ndarray], params: dict[str, Any], tmp_path: Path
) -> None:
    write_keras(
        tmp_path / "w.h5", {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    )
    assert_equal_trees(loaded(tmp_path / "w.h5"), params)


@pytest.mark.parametrize("suffix", ["h5", "h5.gz", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_files_are_refused(
    suffix: str, share: float, published: bytes, tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        write_weights(path, tensors, {})
        whole = path.read_bytes()
    else:
        whole = published if suffix == "h5.gz" else gzip.decompress(published)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=rf"weights\.{suffix}: "):
        loaded(path)


def test_other_models_and_shapes_are_refused(
    tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    for change, named in (
        (
            {"conv2d_1/kernel": np.zeros((3, 3, 1, 32))},
            r"'conv2d_1/kernel' has shape \[3, 3, 1, 32",
        ),
        ({"conv2d_1/kernel": None}, "'conv2d_1/kernel' is missing"),
        ({"speclayer.mel_basis": np.zeros((1, 1))}, "is missing"),
    ):
        write_weights(
            path,
            {name: tensor for name, tensor in (tensors | change).items() if tensor is not None},
            {},
        )
        variant = "torchopenl3" if "speclayer.mel_basis" in change else "openl3"
        with pytest.raises(InputError, match=named):
            loaded(path, variant)
    write_weights(path, tensors, {})
    with pytest.raises(
        InputError, match="variant openl3, not torchopenl3; choose with --openl3_variant"
    ):
        build("openl3", variant="torchopenl3", weights=str(path))
    for name, named in (
        ("none.h5", "no such weights file"),
        ("w.npz", "weights are read from .safetensors, .pth"),
    ):
        if name.startswith("w"):
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=named):
            loaded(tmp_path / name)


def zeros_of(model: str) -> dict[str, np.ndarray]:
    """Tensors as the model publishes them, of no memory."""
    module, options = {
        "openl3": (openl3, ("openl3",)),
        "torchopenl3": (openl3, ("torchopenl3",)),
        "passt": (passt, ()),
        "vggish": (vggish, ()),
    }[model]
    flat = {
        "/".join(path): np.broadcast_to(np.float32(0), leaf.shape)
        for path, leaf in flatten_dict(dict(module.parameter_shapes())).items()
    }
    if model == "torchopenl3":
        flat["frontend/mel"] = np.zeros((128, 1025), np.float32)
    return to_published(unflatten_dict(flat, sep="/"), module.layout(*options))


@pytest.mark.parametrize("theirs", ["vggish", "openl3", "torchopenl3", "passt"])
@pytest.mark.parametrize("model", [vggish, openl3, passt])
def test_every_model_refuses_every_other_models_tensors(model: Any, theirs: str) -> None:
    tensors = zeros_of(theirs)
    if model.NAME in theirs:
        assert model.from_tensors(tensors, "w")
        return
    with pytest.raises(
        InputError, match=r"^w: tensor .* is missing; is this the weights file of another model\?"
    ):
        model.from_tensors(tensors, "w")


@pytest.mark.parametrize("shape", [(), (3,), (1, 3, 3, 1, 64)])
def test_tensors_of_another_rank_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"'features\.0\.weight' has shape"):
        vggish.from_tensors(
            zeros_of("vggish") | {"features.0.weight": np.zeros(shape, np.float32)}, "w"
        )


SMALL = {  # what a file of a model may hold
    "conv2d_1/kernel": np.ones((3, 3, 1, 64), np.float32),
    "conv2d_1/bias": np.ones(64, np.float32),
}


def damage_keras(path: Path, how: str) -> None:
    with h5py.File(path, "r+") as file:
        weight = "conv2d_1/conv2d_1/bias:0"
        if how == "layer_names are numbers":
            file.attrs["layer_names"] = np.arange(3)
        elif how == "layer_names is a number":
            file.attrs["layer_names"] = 3
        elif how == "names are not UTF-8":
            file.attrs["layer_names"] = np.array([b"\xff\xfe"])
        else:
            del file[weight]
            if how == "text":
                file[weight] = np.array([b"1.0"] * 64)
            elif how == "complex":
                file[weight] = np.zeros(64, np.complex64)
            elif how == "a group":
                file.create_group(weight)
            else:
                file[weight] = h5py.SoftLink("/nowhere")


@pytest.mark.parametrize(
    "how",
    [
        "layer_names are numbers",
        "layer_names is a number",
        "names are not UTF-8",
        "text",
        "complex",
        "a group",
        "a link to nowhere",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_keras_files(how: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_keras(path, SMALL)
    assert read_weights(path)[0].keys() == SMALL.keys()
    damage_keras(path, how)
    if packed:
        path = tmp_path / "w.h5.gz"
        path.write_bytes(gzip.compress((tmp_path / "w.h5").read_bytes(), 1))
    with pytest.raises(
        InputError, match=r"w\.h5(\.gz)?: not a readable Keras weights file"
    ) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_gzip_file_damaged_inside(published: bytes, tmp_path: Path) -> None:
    for place in (12, 100, len(published) // 2):
        (tmp_path / "w.h5.gz").write_bytes(
            published[:place] + b"\xff" * 50 + published[place + 50 :]
        )
        with pytest.raises(InputError, match=r"w\.h5\.gz: damaged gzip file"):
            read_weights(tmp_path / "w.h5.gz")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F4", "C64", "nonsense"])
def test_odd_safetensors_files(dtype: str, tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(InputError, match=r"w\.safetensors: not a readable safetensors file"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("files", ["not JSON", "[1, 2]", "3"])
def test_odd_metadata(files: str, tmp_path: Path) -> None:
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "w.safetensors", {"files": files})
    with pytest.raises(
        InputError, match=r"w\.safetensors: its metadata 'files' is not a JSON object"
    ):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["w.safetensors", "w.h5", "w.h5.gz"])
def test_what_may_not_be_read_says_so(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch(mode=0)
    with pytest.raises(PermissionError, match=name):
        read_weights(tmp_path / name)


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy as np; from extract.embeddings.weights_formats import "
        "write_weights; "
        "from extract.shell import run; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "path = sys.argv.pop(); run(lambda: write_weights(path, "
        "{'x': np.zeros(10000, np.float32)}, {}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.safetensors")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"{tmp_path / 'w.safetensors'}: the disk is full" in done.stderr
    assert "run the same command again" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.pth.tar"])
def test_without_torch_the_extra_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"pip install 'fsprobe\[convert\]'"):
        read_weights(tmp_path / name)
    with pytest.raises(InputError, match="convert"):  # and before a download, not after
        convert(Config("passt", cache_dir=str(tmp_path), base_url="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("name", "variant", "extra", "module"),
    [
        ("vggish", None, "vggish", "torchvggish"),
        ("openl3", "openl3", "openl3", "openl3"),
        ("openl3", "torchopenl3", "torchopenl3", "torchopenl3"),
        ("passt", None, "passt", "hear21passt"),
    ],
)
def test_without_a_package_the_extra_is_named(
    name: str, variant: str | None, extra: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    openl3_frontend.mel_filters("torchopenl3")  # librosa, which asks sys.modules for torch
    for missing in ("torch", "tensorflow", module):
        monkeypatch.setitem(sys.modules, missing, None)
    options = {"variant": variant} if variant else {}
    with pytest.raises(InputError, match=rf"pip install 'fsprobe\[{extra}\]'"):
        build(name, backend="package", random_weights=0, **options)


# --- getting them


@pytest.fixture
def mirror(server: Any, published: bytes) -> Any:
    server.files["/" + OPENL3.files["openl3"][0].name] = published
    return server


def test_download_convert_use(mirror: Any, params: dict[str, Any], tmp_path: Path) -> None:
    config = Config("openl3", "openl3", str(tmp_path), base_url=mirror.url)
    target = convert(config)
    assert target == cache_file("openl3", "openl3", tmp_path)
    assert_equal_trees(loaded(target), params)
    embedding = build("openl3", cache_dir=str(tmp_path))
    assert list(embedding.provenance["weights"]) == ["openl3_audio_mel128_music-v0_4_0.h5.gz"]
    assert not list((tmp_path / "downloads").glob("openl3*"))  # the cache holds all of it
    assert not set(load_file(target)) - set(to_published(params, openl3.layout("openl3")))


def test_a_broken_download_goes_on(
    mirror: Any, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    mirror.cut = [1_000_000, 2_000_000]
    target = convert(Config("openl3", "openl3", str(tmp_path), base_url=mirror.url))
    assert mirror.log == [None, "bytes=1000000-", "bytes=3000000-"]
    assert_equal_trees(loaded(target), params)


def test_a_wrong_hash_is_refused(
    mirror: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Published(mirror.url, OPENL3.files["openl3"][0].name, "0123abcd")
    monkeypatch.setitem(OPENL3.files, "openl3", (wrong,))
    with pytest.raises(InputError, match="instead of 0123abcd; the download was removed"):
        convert(Config("openl3", "openl3", str(tmp_path)))
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    ]


def test_garbage_is_no_dead_end(
    server: Any, published: bytes, params: dict[str, Any], tmp_path: Path
) -> None:
    """A captive portal's page, say: no hash of this file is published."""
    config, name = (
        Config("openl3", "openl3", str(tmp_path), base_url=server.url),
        OPENL3.files["openl3"][0].name,
    )
    server.files["/" + name] = b"<html>log in first</html>"
    with pytest.raises(
        InputError, match=r"damaged gzip file .*the download was removed: run again"
    ):
        convert(config)
    server.files["/" + name] = published
    assert_equal_trees(loaded(convert(config)), params)
    (tmp_path / "downloads" / name).write_bytes(b"somebody's")
    with pytest.raises(InputError, match="lay there before: delete and run again"):
        convert(config)
    assert (tmp_path / "downloads" / name).read_bytes() == b"somebody's"


def test_a_damaged_file_leaves_the_cache_alone(
    mirror: Any, published: bytes, tmp_path: Path
) -> None:
    target = cache_file("openl3", "openl3", tmp_path)
    target.write_bytes(b"before")
    local = tmp_path / "local.h5.gz"
    local.write_bytes(published[:-1000])
    with pytest.raises(InputError, match=r"local\.h5\.gz: damaged gzip file"):
        convert(Config("openl3", "openl3", str(tmp_path), weights=str(local)))
    assert target.read_bytes() == b"before"


def test_the_command(published: bytes, tmp_path: Path, commands: Commands) -> None:
    local = tmp_path / "mine.h5.gz"
    local.write_bytes(published)
    command = ("extract.weights", "--embedding=openl3", f"--cache_dir={tmp_path}")
    done = commands.run(*command, f"--weights={local}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(cache_file("openl3", "openl3", tmp_path))
    for more, named in (
        (["--weights=none.h5"], "none.h5: no such weights file"),
        (["--base_url=ftp://x"], "not an http or https address"),
        (["--openl3_variant=other"], "openl3_variant"),
        ([f"--weights={local}", "--base_url=http://x"], "give one of them"),
    ):
        wrong = commands.run(*command, *more)
        assert wrong.returncode == 2
        assert named in wrong.stderr
        assert wrong.stderr.count("\n") == 1, wrong.stderr


def test_the_embedding_must_be_named(commands: Commands) -> None:
    done = commands.run("extract.weights")
    assert (done.returncode, done.stderr) == (
        2,
        "extract.weights: --embedding is missing; see --help\n",
    )


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"python -m extract.weights --embedding=openl3 --openl3_variant=openl3 "
        r"--cache_dir=",
    ):
        build("openl3", cache_dir=str(tmp_path))
    with pytest.raises(InputError, match="exclude each other"):
        build("passt", weights="w.pt", random_weights=0)
    for seed in (-1, 2**31):
        with pytest.raises(InputError, match=f"--random_weights={seed}"):
            build("vggish", random_weights=seed)
