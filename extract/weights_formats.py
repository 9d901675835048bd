"""Published weight files in and out: PyTorch, legacy Keras HDF5 and safetensors, as NumPy arrays under their own names.

Nothing here unpickles without restriction: PyTorch files go through `torch.load(weights_only=True)`, the others hold no
pickles. torch and h5py are imported only when a file needs them.
"""

import gzip
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from extract.download import sha256_of
from extract.errors import InputError

Tensors = dict[str, np.ndarray]
# path in a parameter tree → (published name, axes that transpose the published array, or None)
Layout = dict[str, tuple[str, tuple[int, ...] | None]]
OIHW = (2, 3, 1, 0)  # torch's convolution kernel → flax's HWIO
LINEAR = (1, 0)  # torch's [out, in] → flax's [in, out]

TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar")
KERAS_SUFFIXES = (".h5", ".hdf5", ".h5.gz")


def cache_file(embedding: str, variant: str = "", cache_dir: str | Path | None = None) -> Path:
    """Where the converted weights of an embedding are kept."""
    folder = Path(cache_dir) if cache_dir else platformdirs.user_cache_path("fsprobe")
    return folder / f"{'-'.join(filter(None, (embedding, variant)))}.safetensors"


def read_weights(path: str | Path, companion: str = "") -> tuple[Tensors, dict[str, str]]:
    """(float32 tensors by published name, SHA-256 by file name).

    companion: glob of a second file in the same folder, whose tensors belong to the same model, wanted unless `path`
    is a safetensors file. Raises InputError if a file is missing, damaged, or of a format that is not read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    if path.name.endswith(".safetensors"):
        tensors, metadata = _read_safetensors(path)
        return tensors, json.loads(metadata["files"]) if "files" in metadata else {path.name: sha256_of(path)}
    if not path.name.endswith(TORCH_SUFFIXES + KERAS_SUFFIXES):
        raise InputError(f"{path}: weights are read from .safetensors, {', '.join(TORCH_SUFFIXES + KERAS_SUFFIXES)} "
                         "files")
    files = [path]
    if companion:
        found = sorted(path.parent.glob(companion))
        if not found:
            raise InputError(f"{path}: its second file {companion} must lie in the same folder")
        files.append(found[0])
    tensors = {name: tensor for file in files for name, tensor in _read(file).items()}
    return tensors, {file.name: sha256_of(file) for file in files}


def write_weights(path: str | Path, tensors: Mapping[str, np.ndarray], files: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; `files` (SHA-256 by name) goes into its metadata."""
    from safetensors.numpy import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, scratch,
                  metadata={"files": json.dumps(files)})
        with open(scratch, "rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def from_published(tensors: Mapping[str, np.ndarray], layout: Layout, shapes: Mapping[str, tuple[int, ...]],
                   where: str | Path) -> dict[str, np.ndarray]:
    """{path: array} of a parameter tree whose leaves have the given shapes. Raises InputError where one doesn't fit."""
    leaves = {}
    for path, (name, axes) in layout.items():
        if name not in tensors:
            raise InputError(f"{where}: tensor {name!r} is missing; is this the weights file of another model?")
        leaf = tensors[name].transpose(axes) if axes else tensors[name]
        if leaf.shape != shapes[path]:
            raise InputError(f"{where}: tensor {name!r} has shape {list(tensors[name].shape)}, which does not fit "
                             f"{list(shapes[path])}; is this the weights file of another model?")
        leaves[path] = leaf
    return leaves


def to_published(leaves: Mapping[str, np.ndarray], layout: Layout) -> Tensors:
    """The inverse of `from_published`, for the leaves that there are."""
    return {name: np.transpose(leaves[path], np.argsort(axes)) if axes else np.asarray(leaves[path])
            for path, (name, axes) in layout.items() if path in leaves}


def _read(path: Path) -> Tensors:
    if path.name.endswith(TORCH_SUFFIXES):
        return _read_torch(path)
    return _read_keras(path)


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: _float32(file.get_tensor(name)) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); delete it and convert again") from error


def import_torch(path: str | Path) -> Any:
    """The torch module. Raises InputError if it is not installed, naming the file that needs it."""
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: reading it needs torch: pip install 'fsprobe[convert]' (or give a .safetensors "
                         "file that was converted elsewhere)") from None
    return torch


def _read_torch(path: Path) -> Tensors:
    torch = import_torch(path)
    path.open("rb").close()  # what may not be read says so here; below, OSError is one of the ways to be damaged
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types on damaged files, and UnpicklingError on what is not weights
        found = re.search(r"GLOBAL \S+|[Uu]nsupported [^\n]*?(?=\. |\n|$)", str(error))
        reason = found[0] if found else str(error).partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"{path}: damaged, or not a PyTorch file of weights only, and nothing else is loaded "
                         f"({reason}); download it again from its authors") from error
    # Training checkpoints keep the state dict one level down.
    state = next((state[key] for key in ("state_dict", "model") if isinstance(state, dict) and key in state), state)
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a state dict")
    return {str(name): _float32(tensor.detach().cpu().numpy()) if hasattr(tensor, "detach") else _float32(tensor)
            for name, tensor in state.items() if hasattr(tensor, "detach") or isinstance(tensor, np.ndarray)}


def _numpy_globals() -> list[Any]:
    """What rebuilds NumPy arrays, as VGGish's PCA is published, under its names in NumPy 1 and 2; it runs no code."""
    rebuild = np.zeros(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [np.ndarray, np.dtype, type(np.dtype(np.float32)), type(np.dtype(np.float64)),
            *((rebuild, f"{module}._reconstruct") for module in modules)]


def _read_keras(path: Path) -> Tensors:
    """A legacy Keras weights file, gzipped or not, names as `layer/weight`."""
    import h5py

    if path.suffix == ".gz":
        try:
            with tempfile.TemporaryDirectory() as folder, gzip.open(path) as packed:
                with open(Path(folder) / path.stem, "wb") as plain:
                    shutil.copyfileobj(packed, plain)
                return _read_keras(Path(folder) / path.stem)
        except (EOFError, gzip.BadGzipFile) as error:
            raise InputError(f"{path}: damaged gzip file ({error}); download it again") from error
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}/{path.stem}", str(path))) from error
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            tensors = {}
            for layer in _strings(root.attrs["layer_names"]):
                for weight in _strings(root[layer].attrs["weight_names"]):
                    tensors[f"{layer}/{_basename(weight)}"] = _float32(root[layer][weight][()])
            return tensors
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: not a readable Keras weights file ({error}); download it again") from error


def _strings(names: Iterable[Any]) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _basename(weight: str) -> str:
    """`conv2d_1/kernel:0` → `kernel`."""
    return weight.rsplit("/", 1)[-1].split(":")[0]


def _float32(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)
