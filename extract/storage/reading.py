"""Reading the files of a store, strictly: arrays as memory maps, and lines of text."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import InputError


class Stacked:
    """Arrays of several shards as one `[clip, width]`; indexing (by row) reads only the rows it
    names.
    """

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        wanted = np.arange(len(self))[index]
        rows = np.atleast_1d(wanted)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(shard):
            here = shard == number
            out[here] = self.parts[number][rows[here] - self.starts[number]]
        return out if np.ndim(wanted) else out[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)


def let_go(array: np.ndarray | Stacked) -> None:
    """Unmap the pages read, so that they don't count as this process's memory; the system's cache
    keeps them.
    """
    for part in array.parts if isinstance(array, Stacked) else (array,):
        if isinstance(mapped := getattr(part, "_mmap", None), mmap.mmap) and hasattr(
            mmap, "MADV_DONTNEED"
        ):
            mapped.madvise(mmap.MADV_DONTNEED)


def load_array(
    path: Path, dtype: Any, shape: tuple[int | None, ...], growing: bool = False
) -> np.ndarray:
    """Map a .npy read-only; None in `shape` is any length. `growing`: bytes past the array's end
    are allowed.

    Raises InputError if the file is missing, foreign, truncated, too long, or of another dtype or
    shape.
    """
    try:
        array: np.memmap = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore it or extract again") from None
    except Exception as error:  # whatever a damaged header makes NumPy raise
        raise InputError(
            f"{path}: truncated, or not a .npy of numbers ({error}); restore it or extract again"
        ) from None
    if array.dtype != dtype:
        raise InputError(
            f"{path}: dtype {array.dtype} is not {np.dtype(dtype)}; restore it or extract again"
        )
    if array.ndim != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        expected = tuple("any" if length is None else length for length in shape)
        raise InputError(
            f"{path}: shape {array.shape}, but by clip_ids.txt and store.json it must be "
            f"{expected}; restore the files or extract again"
        )
    surplus = path.stat().st_size - array.offset - array.nbytes
    if surplus and not growing:
        raise InputError(f"{path}: {surplus} bytes follow the array; restore it or extract again")
    return array


def read_clip_ids(
    path: Path, fix: str = "restore it or extract again", encoding: str = "utf-8"
) -> tuple[str, ...]:
    """The ids of a clip_ids.txt, one per line, unique. Raises InputError, whose message ends in
    `fix`.
    """
    try:
        text = path.read_text(encoding=encoding)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {fix}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); one clip_id per line is expected") from None
    clip_ids = tuple(text.removesuffix("\n").split("\n")) if text else ()
    for number, clip in enumerate(clip_ids):
        if not clip.strip():
            raise InputError(f"{path}, line {number + 1}: empty clip_id; {fix}")
    check_unique(clip_ids, path)
    return clip_ids


def read_paths(path: Path, rows: int) -> tuple[str, ...] | None:
    """The lines of a paths.txt; None if there is no such file. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); restore it or extract again") from None
    if len(lines) != rows + 1 or lines[-1]:
        raise InputError(
            f"{path}: {len(lines) - 1} lines, but clip_ids.txt has {rows}; restore it or extract "
            "again"
        )
    return tuple(lines[:-1])


def check_unique(ids: Sequence[str], path: Path, what: str = "clip_id") -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise InputError(f"{path}: {what} {name!r} stands twice; a {what} must be unique")
        seen.add(name)
