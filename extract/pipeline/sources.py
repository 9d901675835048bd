"""Where clips' audio is, and whether a file is still the one that a row was made from."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.audio.finding import find_audio
from extract.errors import InputError
from extract.files import sha256_of
from extract.store import DONE, FAILED

CHECKS = ("stat", "hash")


class Source(NamedTuple):
    """A clip's file. path: None if there is none, and then `reason` says why. note: how its name
    differs from the manifest's, or empty.
    """

    path: Path | None
    reason: str = ""
    note: str = ""


class Comparison(NamedTuple):
    """Rows by whether their files have changed. unknown: done rows whose file was not recorded."""

    changed: tuple[int, ...]
    gone: tuple[int, ...]
    unknown: int


def locate(audio_root: str | Path, paths: Sequence[str]) -> list[Source]:
    """The file of every manifest path."""
    sources = []
    for name in paths:
        if not name:
            sources.append(Source(None, "no path in the manifest"))
            continue
        try:
            found = find_audio(audio_root, name)
        except InputError as error:
            sources.append(Source(None, str(error)))
            continue
        sources.append(Source(found.path, "", found.note))
    return sources


@functools.lru_cache(maxsize=64)  # clips that are parts of one file follow each other
def _digest(path: Path, size: int, mtime_ns: int) -> bytes:
    return bytes.fromhex(sha256_of(path))


def fingerprint(path: Path) -> tuple[int, int, bytes]:
    """(size, modification time in ns, SHA-256) of a file; zeros if it cannot be read."""
    try:
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns, _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError:
        return 0, 0, b""


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
    changed, gone, unknown = [], [], 0
    for row in np.flatnonzero((status == DONE) | (status == FAILED)).tolist():
        if "source" not in recorded:
            unknown += int(status[row] == DONE)
            continue
        size, mtime = recorded["source"][row].tolist()
        path = sources[row].path
        known = bool(size or mtime)
        if not known and status[row] == DONE:
            unknown += 1
        elif path is None or not path.is_file():
            gone += [row] if known else []
        elif not known or _is_other(path, size, mtime, recorded["source_sha256"][row], check):
            changed.append(row)
    return Comparison(tuple(changed), tuple(gone), unknown)


def _is_other(path: Path, size: int, mtime: int, digest: np.ndarray, check: str) -> bool:
    stat = path.stat()
    if stat.st_size != size:
        return True
    if stat.st_mtime_ns == mtime and check != "hash":
        return False
    if not digest.any():
        return stat.st_mtime_ns != mtime
    return _digest(path, stat.st_size, stat.st_mtime_ns) != digest.tobytes()
