"""Arrays that somebody already has → a store: one vector per clip."""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.aggregate import standardise
from extract.errors import InputError
from extract.manifest import check_clip_id, sha256_of
from extract.store import read_clip_ids
from extract.store_files import StoreSpec
from extract.store_writer import write_store


class Imported(NamedTuple):
    """clips, dim: the store's shape. new: it was not there before."""

    clips: int
    dim: int
    new: bool


def import_arrays(features: str | Path, clip_ids: str | Path | None, name: str, store: str | Path,
                  key: str | None = None) -> Imported:
    """Make the store, unless it is there already. Raises InputError, leaving nothing behind."""
    path, source = Path(features), str(clip_ids or features)
    array, ids = _read(path, key)
    if clip_ids is not None:
        own, ids = ids, read_clip_ids(Path(clip_ids), "give one clip_id per line", "utf-8-sig")
        if own not in (None, ids):
            raise InputError(f"{features}: its clip_id column is not what {clip_ids} says; give only one of them")
    if ids is None:
        raise InputError(f"{features}: which clips are its rows? give --clip_ids, or a .csv with a clip_id column")
    array = _check(array, ids, path, source)
    spec = StoreSpec(embedding=name, dim=array.shape[1], aggregation="none",
                     provenance={"file": path.name, "sha256": sha256_of(path), "key": key})
    new = write_store(store, spec, ids, {"features": array,
                                         "features_framenorm": standardise(array).astype(np.float32)})
    return Imported(len(array), array.shape[1], new)


def _check(array: np.ndarray, ids: Sequence[str], features: Path, source: str) -> np.ndarray:
    """The array as float32, if it fits the ids. Raises InputError."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"{features}: dtype {array.dtype}; numbers are expected, so save it as a float array")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{features}: shape {array.shape}; two dimensions, (clips, values), are expected")
    if len(array) != len(ids):
        raise InputError(f"{features}: {len(array)} rows, but {source} names {len(ids)} clips; there must be one each")
    for number, clip in enumerate(ids):
        check_clip_id(clip, f"{source}, line {number + 1}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(f"{features}: NaN or Inf (or beyond float32) in {len(bad)} rows, first that of clip "
                         f"{ids[bad[0]]!r}; mend or drop them")
    return array


def _read(path: Path, key: str | None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The array, and the clip ids if the file has them."""
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: is it .npy, .npz or .csv? its name must end in that")
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            if key is None and len(loaded.files) != 1:
                raise InputError(f"{path}: holds {', '.join(loaded.files) or 'no array'}; choose one by --key")
            if key is not None and key not in loaded.files:
                raise InputError(f"{path}: has no array {key!r}; --key may be {', '.join(loaded.files)}")
            return loaded[key or loaded.files[0]], None
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, InputError | FileNotFoundError):
            raise
        raise InputError(f"{path}: truncated, or not an array of numbers ({error})") from None


def _read_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            lines = [(number, row) for number, row in enumerate(csv.reader(file, strict=True), 1) if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as UTF-8 CSV ({error})") from None
    with_ids = bool(lines) and lines[0][1][0] == "clip_id"
    if lines and (with_ids or not _is_number(lines[0][1][0])):
        lines = lines[1:]  # the header
    ids, values = [], []
    for number, row in lines:
        if len(row) != len(lines[0][1]):
            raise InputError(f"{path}, line {number}: {len(row)} fields, but {len(lines[0][1])} on line {lines[0][0]}")
        ids.append(row[0])
        try:
            values.append(np.array(row[with_ids:], np.float64))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}; only numbers are expected") from None
    if with_ids and len(set(ids)) < len(ids):
        twice = next(clip for clip in ids if ids.count(clip) > 1)
        raise InputError(f"{path}: clip_id {twice!r} stands twice; a clip_id must be unique")
    return np.array(values), tuple(ids) if with_ids else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
