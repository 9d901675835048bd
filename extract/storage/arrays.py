"""Arrays that somebody already has → a store: one vector per clip."""

import csv
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.errors import InputError
from extract.files import make_directory, naming, sha256_of
from extract.manifest import check_clip_id
from extract.pipeline.aggregate import standardise
from extract.storage import files as store_files
from extract.storage.files import StoreSpec
from extract.store import DONE, read_clip_ids, read_meta


class Imported(NamedTuple):
    """clips, dim: the store's shape. new: it was not there before."""

    clips: int
    dim: int
    new: bool


def import_arrays(
    features: str | Path,
    clip_ids: str | Path | None,
    name: str,
    store: str | Path,
    key: str | None = None,
) -> Imported:
    """Make the store, unless it is there already. Raises InputError, leaving nothing behind."""
    path, source = Path(features), str(clip_ids or features)
    array, ids = _read(path, key)
    if clip_ids is not None:
        own, ids = ids, read_clip_ids(Path(clip_ids), "give one clip_id per line", "utf-8-sig")
        if own not in (None, ids):
            raise InputError(
                f"{features}: its clip_id column is not what {clip_ids} says; give only one of them"
            )
    if ids is None:
        raise InputError(
            f"{features}: which clips are its rows? give --clip_ids, or a .csv with a clip_id "
            f"column"
        )
    array = _check(array, ids, path, source)
    spec = StoreSpec(
        embedding=name,
        dim=array.shape[1],
        aggregation="none",
        provenance={"file": path.name, "sha256": sha256_of(path), "key": key},
    )
    new = write_store(
        store,
        spec,
        ids,
        {"features": array, "features_framenorm": standardise(array).astype(np.float32)},
    )
    return Imported(len(array), array.shape[1], new)


def write_store(
    path: str | Path, spec: StoreSpec, clip_ids: Sequence[str], arrays: dict[str, np.ndarray]
) -> bool:
    """Make a complete store at once: built beside `path` and renamed, it appears whole or not at
    all.

    False if `path` is this very store already, and whole. Raises InputError if it is anything else,
    or on a full disk.
    """
    path = Path(path).resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if _is_store_of(path, spec, clip_ids):
            return False
        raise InputError(
            f"{path}: exists already, and is not this store; name another --store, or delete it "
            f"first"
        )
    make_directory(path.parent)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with store_files.disk_full_explained(path, kept=False), naming(path, scratch):
            scratch.mkdir()
            for name, array in {**arrays, "status": np.full(len(clip_ids), DONE, np.uint8)}.items():
                store_files.allocate(scratch / f"{name}.npy", array.dtype, array.shape)
                store_files.write_at(
                    scratch / f"{name}.npy", [(store_files.HEADER, array.tobytes())]
                )
            store_files.write_failures(scratch, ())
            store_files.write_clip_ids(scratch, clip_ids)
            meta = store_files.new_meta(spec, len(clip_ids))
            store_files.write_meta(scratch, {**meta, "checksums": store_files.checksums(scratch)})
            scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _is_store_of(path: Path, spec: StoreSpec, clip_ids: Sequence[str]) -> bool:
    """A complete store, undamaged, of this spec and these clips (an import's spec holds its file's
    SHA-256).
    """
    try:
        meta = read_meta(path)
        return (
            all(
                meta.get(key) == value
                for key, value in json.loads(json.dumps(asdict(spec))).items()
            )
            and read_clip_ids(path / "clip_ids.txt") == tuple(clip_ids)
            and meta["checksums"] == store_files.checksums(path)
        )
    except InputError:
        return False


def _check(array: np.ndarray, ids: Sequence[str], features: Path, source: str) -> np.ndarray:
    """The array as float32, if it fits the ids. Raises InputError."""
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{features}: dtype {array.dtype}; numbers are expected, so save it as a float array"
        )
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{features}: shape {array.shape}; two dimensions, (clips, values), are expected"
        )
    if len(array) != len(ids):
        raise InputError(
            f"{features}: {len(array)} rows, but {source} names {len(ids)} clips; there must be "
            f"one each"
        )
    for number, clip in enumerate(ids):
        check_clip_id(clip, f"{source}, line {number + 1}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(
            f"{features}: NaN or Inf (or beyond float32) in {len(bad)} rows, first that of clip "
            f"{ids[bad[0]]!r}; mend or drop them"
        )
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
                raise InputError(
                    f"{path}: holds {', '.join(loaded.files) or 'no array'}; choose one by --key"
                )
            if key is not None and key not in loaded.files:
                raise InputError(
                    f"{path}: has no array {key!r}; --key may be {', '.join(loaded.files)}"
                )
            return loaded[key or loaded.files[0]], None
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, InputError | FileNotFoundError):
            raise
        raise InputError(f"{path}: truncated, or not an array of numbers ({error})") from None


def _read_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            lines = [
                (number, row) for number, row in enumerate(csv.reader(file, strict=True), 1) if row
            ]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as UTF-8 CSV ({error})") from None
    with_ids = bool(lines) and lines[0][1][0] == "clip_id"
    if lines and (with_ids or not _is_number(lines[0][1][0])):
        lines = lines[1:]  # the header
    ids, values = [], []
    for number, row in lines:
        if len(row) != len(lines[0][1]):
            raise InputError(
                f"{path}, line {number}: {len(row)} fields, but {len(lines[0][1])} on line "
                f"{lines[0][0]}"
            )
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
