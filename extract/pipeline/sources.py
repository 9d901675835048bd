"""Where clips' audio is, and whether a file is still the one that a row was made from."""

import functools
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from extract.audio.finding import find_audio
from extract.audio.remote import Folder, Place, local_copy
from extract.errors import InputError
from extract.files import sha256_of
from extract.store import DONE, FAILED

CHECKS = ("stat", "hash")


File = Path | Place
_AT_ONCE = 32  # requests to an object store
_LATEST = (1 << 63) - 1  # ns, in the year 2262: a store has no room for later times


class Source(NamedTuple):
    """A clip's file. path: None if there is none, and then `reason` says why. note: how its name
    differs from the manifest's, or empty.
    """

    path: File | None
    reason: str = ""
    note: str = ""


class Comparison(NamedTuple):
    """Rows by whether their files have changed. unknown: done rows whose file was not recorded.
    unread: rows that failed before anything was known of their file, and whose file is there: it
    was missing then, its store did not answer, or the process was lost.
    """

    changed: tuple[int, ...]
    gone: tuple[int, ...]
    unknown: int
    unread: tuple[int, ...] = ()


def check_root(root: Path | Folder) -> None:
    """Raise InputError unless it is a directory, or something is there in its object store."""
    if isinstance(root, Folder):
        root.check()
    elif not root.is_dir():
        raise InputError(f"--audio_root={root}: no such directory")


def locate(root: Path | Folder, paths: Sequence[str]) -> list[Source]:
    """The file of every manifest path below the audio root."""

    def source(name: str) -> Source:
        if not name:
            return Source(None, "no path in the manifest")
        try:
            found = root.find(name) if isinstance(root, Folder) else find_audio(root, name)
        except InputError as error:
            return Source(None, str(error))
        return Source(found.path, "", found.note)

    if not isinstance(root, Folder):
        return [source(name) for name in paths]
    bar: Any = partial(tqdm, desc="looking for files", unit=" files", total=len(paths), delay=2)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(bar(pool.map(source, paths)))


def fingerprint(file: File, copy: Path) -> tuple[int, int, bytes]:
    """(size, modification time in ns, SHA-256) of a file; zeros if it cannot be read. copy: the
    file itself, or what to read of one that is elsewhere.
    """
    try:
        size, mtime_ns = _size_and_time(file)
        return size, mtime_ns, _digest(copy, size, mtime_ns)
    except OSError:
        return 0, 0, b""


def _size_and_time(file: File) -> tuple[int, int]:
    if isinstance(file, Place):
        return file.size, file.mtime_ns
    stat = file.stat()
    return stat.st_size, min(stat.st_mtime_ns, _LATEST)


@functools.lru_cache(maxsize=64)  # clips that are parts of one file follow each other
def _digest(file: File, size: int, mtime_ns: int) -> bytes:
    if isinstance(file, Path):
        return bytes.fromhex(sha256_of(file))
    with tempfile.TemporaryDirectory() as scratch:
        return bytes.fromhex(sha256_of(local_copy(file, Path(scratch))))


def compare(
    status: np.ndarray,
    recorded: Mapping[str, np.ndarray],
    sources: Sequence[Source],
    check: str = "stat",
) -> Comparison:
    """Every finished row's file against what was recorded of it.

    A file of another size has changed. One of the same size and time has not, unless check is
    `hash`. One of the same size and another time is compared by its hash, because copying a data
    set changes the times of all files.
    """
    changed, gone, unread, unknown = [], [], [], 0
    if not {"source", "source_sha256"} <= recorded.keys():
        return Comparison((), (), int((status == DONE).sum()))
    for row in np.flatnonzero((status == DONE) | (status == FAILED)).tolist():
        size, mtime = recorded["source"][row].tolist()
        file = sources[row].path
        known = bool(size or mtime)
        if not known and status[row] == DONE:
            unknown += 1
        elif file is None or (isinstance(file, Path) and not file.is_file()):
            gone += [row] if known else []
        elif not known:
            unread.append(row)
        elif _is_other(file, size, mtime, recorded["source_sha256"][row], check):
            changed.append(row)
    return Comparison(tuple(changed), tuple(gone), unknown, tuple(unread))


def _is_other(file: File, size: int, mtime: int, digest: np.ndarray, check: str) -> bool:
    size_now, mtime_now = _size_and_time(file)
    if size_now != size:
        return True
    if mtime_now == mtime and check != "hash":
        return False
    if not digest.any():
        return mtime_now != mtime
    return _digest(file, size_now, mtime_now) != digest.tobytes()
