"""Arrays that somebody already has → a store: one vector per clip."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.errors import InputError
from extract.files import made_whole, make_directory, sha256_of, text_encoding
from extract.manifest import check_clip_id
from extract.pipeline.aggregate import standardise
from extract.storage import files as store_files
from extract.storage.array_files import CLIP_ID, Columns, read_array_file, without_id_columns
from extract.storage.files import StoreSpec
from extract.storage.reading import check_unique, read_clip_ids
from extract.storage.spread import Spread
from extract.store import DONE, read_meta


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
    id_columns: str = "auto",
    note: Callable[[str], None] = lambda text: None,
    spread: Spread | None = None,
) -> Imported:
    """Make the store, unless it is there already. Raises InputError, leaving nothing behind.

    id_columns: `auto`, `keep` or `drop`, see `without_id_columns`. note(sentence) is called for
    each thing that was left out. spread: the rows are of tracks or groups, and each goes to all
    their clips.
    """
    path, source = Path(features), str(clip_ids or features)
    what = spread.by if spread else CLIP_ID
    columns = read_array_file(path, key, what)
    ids = own = columns.clip_ids
    if clip_ids is not None:
        encoding = text_encoding(clip_ids) if Path(clip_ids).is_file() else "utf-8"
        ids = read_clip_ids(Path(clip_ids), f"give one {what} per line", encoding)
        if own not in (None, ids):
            raise InputError(
                f"{features}: its {what} column is not what {clip_ids} says; give only one of them"
            )
    if ids is None:
        raise InputError(
            f"{features}: what are its rows? give --clip_ids, or a .csv with a {what} column"
        )
    check_unique(own or (), path, what)
    columns = _without_column_numbers(columns, ids, path, note)
    array, left_out = without_id_columns(columns, ids, path, id_columns, note)
    array = _check(array, ids, path, source)
    if spread:
        array, ids = spread.over_clips(array, ids, note)
    spec = StoreSpec(
        embedding=name,
        dim=array.shape[1],
        aggregation="none",
        provenance={
            "file": path.name,
            "sha256": sha256_of(path),
            "key": key,
            **({"left_out": list(left_out)} if left_out else {}),
            **({"by": spread.by} if spread else {}),
        },
    )
    new = write_store(
        store,
        spec,
        ids,
        {"features": array, "features_framenorm": standardise(array).astype(np.float32)},
    )
    return Imported(len(array), array.shape[1], new)


def _without_column_numbers(
    columns: Columns, clip_ids: Sequence[str], path: Path, note: Callable[[str], None]
) -> Columns:
    """Without a first row that numbers the columns, where it is one too many: the header of a data
    frame whose columns have no names.
    """
    values = columns.values
    if (
        values.ndim != 2
        or len(values) != len(clip_ids) + 1
        or values.shape[1] < 2
        or (values[0] != np.arange(values.shape[1])).any()
    ):
        return columns
    note(f"{path}: the first row numbers the columns, and is left out as a header")
    return replace(columns, values=values[1:])


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
        if _is_store_of(path, spec, clip_ids, arrays):
            return False
        raise InputError(
            f"{path}: exists already, and is not this store; name another --store, or delete it "
            f"first"
        )
    make_directory(path.parent)
    with store_files.disk_full_explained(path, kept=False), made_whole(path) as scratch:
        scratch.mkdir()
        for name, array in {**arrays, "status": np.full(len(clip_ids), DONE, np.uint8)}.items():
            store_files.allocate(scratch / f"{name}.npy", array.dtype, array.shape)
            store_files.write_at(scratch / f"{name}.npy", [(store_files.HEADER, array.tobytes())])
        store_files.write_pairs(scratch / "failures.csv", "reason", ())
        store_files.write_lines(scratch / "clip_ids.txt", clip_ids)
        meta = store_files.new_meta(spec, len(clip_ids))
        store_files.write_meta(scratch, {**meta, "checksums": store_files.checksums(scratch)})
    return True


def _is_store_of(
    path: Path, spec: StoreSpec, clip_ids: Sequence[str], arrays: dict[str, np.ndarray]
) -> bool:
    """A complete store, undamaged, of this spec, these clips and these arrays."""
    try:
        meta = read_meta(path)
        store_files.check_same(path, meta, spec, clip_ids)
        same = meta["checksums"] == store_files.checksums(path)
        # a manifest may give the rows of the same file to other clips
        return same and np.array_equal(np.load(path / "features.npy"), arrays["features"])
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
