"""Files as all of the project reads and writes them: CSVs, hashes, files that appear whole or not
at all, a full disk. Needs only the standard library.
"""

import contextlib
import csv
import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

from extract.errors import InputError

DISK_FULL = "the disk is full; make room and run the same command again"


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_csv(path: str | Path, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV that must have the given columns. Raises InputError on anything
    malformed.
    """
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        begins = 1  # the line on which the row at hand begins: quoted fields may hold line breaks
        try:
            header = reader.fieldnames or []
            for column in columns:
                if column not in header:
                    raise InputError(
                        f"{path}: column {column!r} is missing; "
                        f"the header must name {','.join(columns)}"
                    )
            if len(set(header)) < len(header):
                raise InputError(f"{path}: a column stands twice in the header {','.join(header)}")
            begins = reader.line_num + 1
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"{path}, line {begins}: not as many fields as the header has")
                yield reader.line_num, row
                begins = reader.line_num + 1
        except UnicodeDecodeError as error:
            line = _first_not_utf8(Path(path))  # the decoder reads far ahead
            raise InputError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error
        except csv.Error as error:
            raise InputError(f"{path}, line {begins}: not readable as CSV ({error})") from error


def _first_not_utf8(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def sha256_of(path: str | Path, progress: Callable[[int], object] = lambda count: None) -> str:
    """The file's SHA-256 in hex. progress: called with the bytes read since it was called last."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
            progress(len(data))
    return digest.hexdigest()


def make_directory(path: Path) -> None:
    """With its parents, if it is missing. Raises InputError if one of them is a file."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # whose message says no more than that
        raise InputError(
            f"{path}: {error.filename} is a file, not a directory; name another"
        ) from error


@contextlib.contextmanager
def atomic_write(path: str | Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A file, of UTF-8 text unless binary, that appears at `path` whole, or not at all."""
    path = Path(path)
    make_directory(path.parent)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file")
    with (
        made_whole(path) as scratch,
        scratch.open("wb") if binary else scratch.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def naming(path: Path, scratch: Path) -> Iterator[None]:
    """Work on `scratch`, which is to become `path`: OSErrors name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not (
            error.filename is None or str(error.filename).startswith(str(scratch))
        ):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """A name for a scratch file beside `path`, which becomes `path` at the end of the block, or
    disappears.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path, scratch):
        try:
            yield scratch
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
