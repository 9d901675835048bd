"""The files of a store, one by one: how each is written. `extract.storage.writer` knows in which
order.
"""

import contextlib
import csv
import datetime
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from extract.errors import InputError
from extract.files import DISK_FULL, atomic_write, is_disk_full, read_csv, sha256_of
from extract.storage.reading import read_clip_ids
from extract.store import (
    AUDIO_ARRAYS,
    DECODERS,
    FORMAT_VERSION,
    PASSING,
    WIDTHS,
    same_provenance,
)

HEADER = 128  # bytes of a .npy header as NumPy pads it; it leaves room for the first axis to grow


@dataclass(frozen=True)
class StoreSpec:
    """What the numbers of a store are: two runs may share one only if all of this is equal."""

    embedding: str
    dim: int
    aggregation: str = "mean_std"
    sample_rate: int | None = None  # Hz
    window: float | None = None  # seconds
    hop: float | None = None  # seconds
    keep_frames: bool = False
    num_shards: int = 1
    shard_index: int = 0
    clips_sha256: str | None = None  # of ids and paths of all used clips, other shards' too
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return WIDTHS[self.aggregation] * self.dim


@dataclass(frozen=True)
class AudioRecord:
    """What a clip was made from: a row of each of `extract.store.AUDIO_ARRAYS`, and its notes.

    Hashes are SHA-256 as 32 bytes, or empty. seconds 0: nothing was decoded.
    """

    seconds: float = 0.0
    promised: float = 0.0
    decoder: str = ""
    audio_sha256: bytes = b""
    size: int = 0  # bytes
    mtime_ns: int = 0
    source_sha256: bytes = b""
    notes: tuple[str, ...] = ()

    def row(self, name: str) -> np.ndarray:
        """Of the array of that name."""
        values: dict[str, Any] = {
            "seconds": self.seconds,
            "promised": self.promised,
            "decoder": DECODERS.index(self.decoder),
            "audio_sha256": list(self.audio_sha256.ljust(32, b"\0")),
            "source": (self.size, self.mtime_ns),
            "source_sha256": list(self.source_sha256.ljust(32, b"\0")),
        }
        return np.array(values[name], AUDIO_ARRAYS[name][0])


def new_meta(spec: StoreSpec, clips: int) -> dict[str, Any]:
    """store.json of a store just begun; `checksums` is empty until it is complete."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "format_version": FORMAT_VERSION,
        **json.loads(json.dumps(asdict(spec))),
        "num_clips": clips,
        "created": now,
        "checksums": {},
    }


def check_same(path: Path, meta: dict[str, Any], spec: StoreSpec, clip_ids: Sequence[str]) -> None:
    """Raise InputError unless the store of store.json `meta` was begun with this spec and these
    clips. Notes in meta what is allowed to differ.
    """
    fix = "give the same, or another --store"
    for key, now in json.loads(json.dumps(asdict(spec))).items():
        was = meta.get(key)
        if was == now or key == "clips_sha256":
            continue
        if key == "provenance" and same_provenance(was, now):
            meta["resumed_with"] = {part: now.get(part) for part in PASSING}
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            key, was, now = next(
                (f"{key} {part}", was.get(part), now.get(part))
                for part in {**was, **now}
                if was.get(part) != now.get(part)
            )
        raise InputError(f"{path}: was begun with {key} {was!r}, now it is {now!r}; {fix}")
    before = read_clip_ids(path / "clip_ids.txt")
    if before != tuple(clip_ids):
        pairs = zip(before, clip_ids, strict=False)
        first = next((f", first {was!r} → {now!r}" for was, now in pairs if was != now), "")
        raise InputError(
            f"{path}: was begun with another manifest ({len(before)} clips → "
            f"{len(clip_ids)}{first}); {fix}"
        )
    if meta.get("clips_sha256") != spec.clips_sha256:
        raise InputError(
            f"{path}: was begun with another manifest (these clips have other paths, or "
            f"other shards other clips); {fix}"
        )


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    with atomic_write(path / "store.json") as file:
        file.write(json.dumps(meta, indent=2) + "\n")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """clip_ids.txt or paths.txt."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in lines)


def write_pairs(path: Path, what: str, pairs: Iterable[tuple[str, str]]) -> None:
    """failures.csv or notes.csv from pairs of a clip_id and a text. what: the text's column."""
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows([("clip_id", what), *pairs])


def read_failures(path: Path) -> dict[str, str]:
    """clip_id → reason. Raises InputError if the file is missing or malformed."""
    try:
        rows = read_csv(path / "failures.csv", ("clip_id", "reason"))
        return {row["clip_id"]: row["reason"] for _, row in rows}
    except FileNotFoundError:
        raise InputError(
            f"{path / 'failures.csv'}: no such file; restore it or extract again"
        ) from None


def read_notes(path: Path) -> dict[str, tuple[str, ...]]:
    """clip_id → its notes; empty if there is no such file."""
    notes: dict[str, tuple[str, ...]] = {}
    if (path / "notes.csv").exists():
        for _, row in read_csv(path / "notes.csv", ("clip_id", "note")):
            notes[row["clip_id"]] = (*notes.get(row["clip_id"], ()), row["note"])
    return notes


def checksums(path: Path) -> dict[str, str]:
    """file name → SHA-256 (hex) of every array of a store, of its clip_ids.txt and paths.txt."""
    names = [*sorted(path.glob("*.npy")), path / "clip_ids.txt", *path.glob("paths.txt")]
    sums = {}
    with tqdm(
        total=sum(file.stat().st_size for file in names),
        desc="checksums",
        unit="B",
        unit_scale=True,
        dynamic_ncols=True,
        leave=False,
        delay=2,
    ) as bar:
        for file in names:
            sums[file.name] = sha256_of(file, bar.update)
    return sums


def allocate(path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    """A .npy of zeros whose disk space is claimed now, so that a full disk shows before any work is
    done.
    """
    size = HEADER + int(np.prod(shape)) * np.dtype(dtype).itemsize
    with path.open("wb") as file:
        file.write(npy_header(dtype, shape))
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(HEADER, size, 1 << 20):
                file.write(bytes(min(1 << 20, size - start)))
        file.flush()
        os.fsync(file.fileno())


def npy_header(dtype: Any, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    header = buffer.getvalue()
    assert len(header) == HEADER
    return header


def write_at(path: Path, pieces: Sequence[tuple[int, bytes]]) -> None:
    """Write (offset, bytes) pieces into an existing file and wait until they are on the disk."""
    if not pieces:
        return
    file = os.open(path, os.O_WRONLY)
    try:
        for offset, data in pieces:
            view = memoryview(data)
            while view:  # a nearly full disk takes part of it, then refuses the rest
                written = os.pwrite(file, view, offset)
                offset, view = offset + written, view[written:]
        os.fsync(file)
    finally:
        os.close(file)


def write_rows(path: Path, rows: Sequence[tuple[int, np.ndarray]]) -> None:
    """Write (row, values) into a .npy of such rows, as `write_at` does."""
    write_at(path, [(HEADER + row * values.nbytes, values.tobytes()) for row, values in rows])


@contextlib.contextmanager
def disk_full_explained(path: Path, kept: bool = True) -> Iterator[None]:
    """Turn a full disk into an InputError that says what to do. kept: are there finished clips?"""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise InputError(
            f"{path}: {DISK_FULL}{': finished clips are kept' if kept else ''}"
        ) from error
