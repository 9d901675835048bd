"""Checked, resumable downloads over HTTP, and archives unpacked without escaping.

A transfer grows in `NAME.part`, is hashed there, and takes its name only when it is right: a file
called NAME is always whole. Whatever breaks the transfer (Ctrl-C, kill -9, the network), the next
call goes on where it stopped.

Why not a library: pooch starts a broken transfer anew (3 GB for MagnaTagATune) and does not know a
part of a hash; with httpx this file has as many statements as with urllib, and what had arrived of
the last chunk before a break is lost.
"""

import contextlib
import http.client
import io
import os
import re
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import filelock
from tqdm import tqdm

from extract.errors import InputError
from extract.files import is_disk_full, made_whole, make_directory, sha256_of
from extract.manifest import resolve_audio

CHUNK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without a byte


class _Broken(Exception):
    """One attempt ended early; the next may go on."""


def fetch(
    url: str,
    path: str | Path,
    *,
    sha256: str = "",
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """Download `url` to `path`, resuming `path.part` if there is one; a file already there is only
    checked.

    sha256: the hex digits that open the file's SHA-256: all 64, the 8 of a torch.hub name, or none
    if unpublished. attempts: tries in a row without a new byte, `pause`, 2·`pause`, … seconds
    apart. Raises InputError where the server says no, the network stays away, or the hash differs
    (and then removes what it downloaded, but never a file that it found).
    """
    path = Path(path)
    if not re.match(r"https?://", url):
        raise InputError(f"{url}: not an http or https address")
    make_directory(path.parent)
    try:
        with filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            if path.exists():
                if problem := _differs(path, sha256):
                    raise InputError(f"{path}: {problem}; delete the file to download it again")
                return path
            part = path.with_name(path.name + ".part")
            try:
                _insist(url, part, bool(sha256), attempts, pause)
            except OSError as error:
                if error.filename is None and is_disk_full(error):
                    raise OSError(error.errno, error.strerror, str(part)) from error
                raise
            if problem := _differs(part, sha256):
                _discard(part)
                raise InputError(
                    f"{url}: {problem}; the download was removed: try again, or another mirror"
                )
            part.replace(path)
            _discard(part)
    except filelock.Timeout:
        raise InputError(f"{path}: another process is downloading it; wait for that one") from None
    return path


def _differs(path: Path, sha256: str) -> str:
    """How the file differs from what was published; empty if it does not."""
    if sha256 and not (digest := sha256_of(path)).startswith(sha256.lower()):
        return f"SHA-256 {digest} instead of {sha256}"
    return ""


def _insist(url: str, part: Path, hashed: bool, attempts: int, pause: float) -> None:
    """Transfer until `part` is whole, starting anew after every break-off."""
    failed, most = 0, _length(part)
    while True:
        try:
            return _transfer(url, part, hashed)
        except _Broken as error:
            failed = 0 if _length(part) > most else failed + 1
            most = max(most, _length(part))
            if failed >= attempts:
                raise InputError(
                    f"{url}: {error}; {_length(part)} bytes are kept, "
                    "run the same command again to go on from there"
                ) from error
            time.sleep(min(pause * 2**failed, 30.0))


def _transfer(url: str, part: Path, hashed: bool) -> None:
    """One attempt. Raises _Broken if another may help, InputError if not."""
    validator = _validator(part)
    version = validator.read_text() if validator.exists() else ""
    if not (hashed or version):  # nothing would show that the rest belongs to the same file
        part.unlink(missing_ok=True)
    start = _length(part)
    headers = {"User-Agent": "fsprobe", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if version:
            headers["If-Range"] = version
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _receive(response, part, start)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if start and error.headers.get("Content-Range") == f"bytes */{start}":
                return  # nothing was missing
            _discard(part)
        elif error.code < 500 and error.code not in _PASSING:
            raise InputError(f"{url}: the server answers {error.code} {error.reason}") from error
        raise _Broken(f"the server answers {error.code} {error.reason}") from error
    except _NO_CONNECTION as error:
        raise _Broken(f"no connection ({getattr(error, 'reason', None) or repr(error)})") from error


_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)  # refusals that may pass
_NO_CONNECTION = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def _receive(response: http.client.HTTPResponse, part: Path, start: int) -> None:
    """Write what the server sends behind the `start` bytes of `part`, or from its beginning."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        start = 0  # the server ignores ranges, or the file has changed
    elif not re.match(rf"bytes {start}-", response.headers.get("Content-Range", "")):
        _discard(part)
        raise _Broken("the server sent another range than was asked for")
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    if not start:
        # The old bytes go first: a crash here must not leave them beside the new version.
        part.unlink(missing_ok=True)
        _validator(part).write_text(_version(response.headers))
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(
            desc=part.stem,
            initial=start,
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=None,
        ) as bar,
    ):
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and _length(part) != total:
        raise _Broken(f"the connection closed after {_length(part)} of {total} bytes")


def _version(headers: http.client.HTTPMessage) -> str:
    """What `If-Range` may name: a strong entity tag, else the date; empty if the server states
    neither.
    """
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _validator(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Joined(io.RawIOBase):
    """Several files read as one, seekable: an archive cut into parts needs no second copy on
    disk.
    """

    def __init__(self, files: Sequence[io.FileIO]):
        self._files = files
        self._ends = [0]
        for file in files:
            self._ends.append(self._ends[-1] + file.seek(0, io.SEEK_END))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        for file, start, end in zip(self._files, self._ends, self._ends[1:], strict=False):
            if start <= self._position < end:
                file.seek(self._position - start)
                count = file.readinto(memoryview(buffer)[: end - self._position]) or 0
                self._position += count
                return count
        return 0


@contextlib.contextmanager
def open_joined(paths: Sequence[str | Path]) -> Iterator[BinaryIO]:
    """The concatenation of the files, in the order given, as one seekable binary file."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(io.FileIO(path)) for path in paths]
        yield stack.enter_context(io.BufferedReader(_Joined(files), CHUNK))


def extract_zip(parts: Sequence[str | Path], root: str | Path) -> None:
    """Unpack the zip that the parts form, below `root`.

    Each file appears whole or not at all, and one already there with its size is passed over, so a
    second call finishes what was interrupted. Raises InputError, before anything is written, if a
    member would leave `root`; and if the archive is damaged.
    """
    name = str(parts[0])
    try:
        with open_joined(parts) as file, zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            targets = [_confined(root, member.filename, name) for member in members]
            for member, target in zip(
                tqdm(members, desc="unpack", unit="file", disable=None), targets, strict=True
            ):
                if target.is_file() and target.stat().st_size == member.file_size:
                    continue
                make_directory(target.parent)
                with made_whole(target) as scratch:
                    scratch.write_bytes(archive.read(member))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(
            f"{name}: damaged or not a zip archive ({error}); delete it and download again"
        ) from error


def _confined(root: str | Path, member: str, name: str) -> Path:
    try:
        target = resolve_audio(root, member)
        # a link that lies there already may lead out, too
        if not target.resolve().is_relative_to(Path(root).resolve()):
            raise InputError("a link leads out")
        return target
    except InputError:
        raise InputError(
            f"{name}: member {member!r} would leave {root}; nothing was unpacked"
        ) from None
