"""Files that grow by rows, whatever interrupts: whole lines, and a full disk that says so."""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from extract.errors import InputError
from fsprobe.study.tables import Row, to_csv


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append whole lines; on a failed write, take back what got through."""
    with disk_full_explained(path), open(path, "ab", buffering=0) as file:
        start = file.tell()
        try:
            data = to_csv(rows, header(path))
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(start)
            raise


def drop_torn_line(path: Path) -> None:
    with open(path, "r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def header(path: Path) -> tuple[str, ...]:
    """A file's columns; an older version's has fewer."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(file.readline().rstrip("\r\n").split(","))


@contextlib.contextmanager
def disk_full_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = (
            "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "mend that"
        )
        raise InputError(
            f"{path}: {error.strerror}; {remedy} and rerun the same command to go on"
        ) from error
