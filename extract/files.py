"""Files as all of the project reads and writes them: CSVs, hashes, files that appear whole or not
at all, a full disk. Needs only the standard library.
"""

import codecs
import contextlib
import csv
import errno
import hashlib
import importlib.metadata
import itertools
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from extract.errors import InputError

DISK_FULL = "the disk is full; make room and run the same command again"

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t])"?\r?\n?')
# By which a file's first bytes say how it is encoded. UTF-32's begins as UTF-16's does.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
csv.field_size_limit(2**31 - 1)  # a field may be as long as it is, also one that nobody asks for


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_csv(path: str | Path, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a table that must have the given columns; columns without a name and
    rows without a value are left out. Raises InputError on anything malformed.

    Separated by comma, semicolon or tab: by the first of them with which the header names every
    column. Encoded as `text_encoding` says.
    """
    encoding = text_encoding(path)
    with Path(path).open(newline="", encoding=encoding) as file:
        begins = 1  # the line on which the row at hand begins: quoted fields may hold line breaks
        try:
            first = file.readline()
            delimiter = _delimiter(first, columns)
            offset = 1 if _SEPARATOR_LINE.fullmatch(first) else 0
            lines: Iterable[str] = file if offset else itertools.chain([first], file)
            reader = csv.reader(lines, strict=True, delimiter=delimiter)
            header = [name.strip() for name in next(reader, [])]
            _check_header(header, columns, delimiter, path)
            begins = offset + reader.line_num + 1
            for fields in reader:
                if any(fields) and len(fields) != len(header):
                    raise InputError(f"{path}, line {begins}: not as many fields as the header has")
                if any(fields):
                    row = zip(header, fields, strict=True)
                    yield offset + reader.line_num, {name: value for name, value in row if name}
                begins = offset + reader.line_num + 1
        except UnicodeError as error:
            raise _not_decodable(path, encoding) from error
        except csv.Error as error:
            raise InputError(f"{path}, line {begins}: not readable as CSV ({error})") from error


def _delimiter(first: str, columns: Collection[str]) -> str:
    """Which of DELIMITERS separates the first line, or the one that its "sep=;" names: Excel writes
    such a line above the header.
    """
    if said := _SEPARATOR_LINE.fullmatch(first):
        return said[1]
    headers = {
        delimiter: [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        for delimiter in DELIMITERS
    }
    fitting = [delimiter for delimiter, header in headers.items() if {*columns} <= {*header}]
    return (fitting or sorted(headers, key=lambda delimiter: -len(headers[delimiter])))[0]


def _check_header(
    header: Sequence[str], columns: Collection[str], delimiter: str, path: str | Path
) -> None:
    for column in columns:
        if column not in header:
            found = ",".join(header)
            found = f"{found[:80]}…" if len(found) > 80 else found
            how = f", separated by {DELIMITERS[delimiter]}," if len(header) > 1 else ""
            hint = "" if len(header) > 1 else " (columns are separated by comma, semicolon or tab)"
            raise InputError(
                f"{path}: column {column!r} is missing; the header{how} is {found!r}, and must "
                f"name {','.join(columns)}{hint}"
            )
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        twice = max(named, key=named.count)
        raise InputError(f"{path}: a column stands twice in the header: {twice!r}")


def text_encoding(path: str | Path) -> str:
    """UTF-8 with or without a byte order mark; UTF-16 and UTF-32 with one. Raises InputError on
    what looks like UTF-16 without.
    """
    with Path(path).open("rb") as file:
        start = file.read(4)
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    if b"\0" in start:
        raise InputError(
            f"{path}: not text, or UTF-16 without a byte order mark; save the file as UTF-8"
        )
    return "utf-8-sig"


def read_text(path: str | Path) -> str:
    """The whole of a text file, of any encoding of `text_encoding`. Raises InputError on another,
    and OSError.
    """
    encoding = text_encoding(path)
    try:
        return Path(path).read_text(encoding)
    except UnicodeError as error:
        raise _not_decodable(path, encoding) from error


def _not_decodable(path: str | Path, encoding: str) -> InputError:
    if encoding != "utf-8-sig":
        return InputError(f"{path}: not {encoding.upper()}, though its first bytes say so")
    with Path(path).open("rb") as file:  # the decoder reads far ahead
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return InputError(f"{path}, line {number}: not UTF-8; save the file as UTF-8")
    return InputError(f"{path}: not UTF-8; save the file as UTF-8")


def is_number(text: str | bytes) -> bool:
    """Is it one as Python writes numbers? It reads 12_3 as 123, too, but that is a name."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in str(text)


def sha256_of(path: str | Path, progress: Callable[[int], object] = lambda count: None) -> str:
    """The file's SHA-256 in hex. progress: called with the bytes read since it was called last."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
            progress(len(data))
    return digest.hexdigest()


def version_of(package: str) -> str:
    """Of an installed package; `not installed` of another."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cache_folder() -> Path | None:
    """The user's folder for what can be fetched or computed again; None where there is no home."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("fsprobe")
    except RuntimeError:  # neither HOME nor an entry in passwd: in a container, under cron
        return None


def make_directory(path: Path) -> None:
    """With its parents, if it is missing. Raises InputError if one of them is a file."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # whose message says no more than that
        raise InputError(
            f"{path}: {error.filename} is a file, not a directory; name another"
        ) from error


def folders_below(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of its files) of the root and of all folders below it, linked ones too: each
    once, by a name without links if it has one.
    """
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        for folder, inner, names in os.walk(waiting.pop(0)):
            real = os.path.realpath(folder)
            if real in seen:
                inner.clear()
                continue
            seen.add(real)
            yield Path(folder), names
            links = (Path(folder, name) for name in sorted(inner))
            waiting += [link for link in links if link.is_symlink()]


@contextlib.contextmanager
def atomic_write(path: str | Path, binary: bool = False) -> Iterator[IO[Any]]:
    """A file, of UTF-8 text unless binary, that appears at `path` whole, or not at all."""
    path = Path(path)
    make_directory(path.parent)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file")
    if path.exists() and not path.is_file():  # root could take the place of /dev/null
        raise InputError(f"{path}: is no plain file; name another")
    with (
        made_whole(path) as scratch,
        scratch.open("wb") if binary else scratch.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """A name for a scratch file or folder beside `path`, which becomes `path` at the end of the
    block, or disappears. OSErrors about it name `path`.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield scratch
        scratch.replace(path)
    except OSError as error:
        if error.errno is None or not (
            error.filename is None or str(error.filename).startswith(str(scratch))
        ):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
