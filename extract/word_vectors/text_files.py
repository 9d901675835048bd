"""Word vectors in files of text: GloVe, word2vec's text form, fastText's .vec, and CSV.

A text file has a line per word: the word, then its numbers, between blanks; word2vec and fastText
begin with a line of two integers, how many words and how many numbers. Files of gigabytes are read
line by line; every line is checked, and only the words asked for are kept.
"""

import codecs
import csv
import gzip
import zlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from extract.errors import InputError
from extract.files import is_number
from extract.word_vectors.lookup import TableRows

LONGEST_LINE = 1 << 20  # bytes
_NUMBER = b"0123456789+-.eE \t"
_ABOUT = "a line holds a word and its numbers, between blanks"


def find_in_text(path: str | Path, words: Collection[str]) -> TableRows:
    """The words asked for that the file has, each with its place and its vector, float32 `[dim]`.

    Raises InputError on a binary file, rows of unequal length, what is no finite number, a word
    asked for that stands twice, or fewer rows than the first line says.
    """
    path = Path(path)
    asked = {word.encode(): word for word in words}
    found: TableRows = {}
    for place, (line, word, values) in enumerate(_rows(path)):
        if word in asked:
            if asked[word] in found:
                raise InputError(
                    f"{path}, line {line}: {asked[word]!r} stands twice; remove one of its rows"
                )
            found[asked[word]] = place, _numbers(values.split(), f"{path}, line {line}")
    return found


def find_in_csv(path: str | Path, tags: Collection[str]) -> TableRows:
    """As find_in_text, from a CSV of `tag,v1,v2,…` with a header or without; every row is kept
    apart by its whole tag.
    """
    path = Path(path)
    found: TableRows = {}
    lines: dict[str, int] = {}
    dim = 0
    for line, row in _csv_rows(path):
        where = f"{path}, line {line}"
        dim = dim or len(row) - 1
        if len(row) - 1 != dim or not dim:
            raise InputError(
                f"{where}: {len(row) - 1} numbers instead of {dim or 'some'}; "
                "a row holds a tag and its numbers, tag,v1,v2,…"
            )
        tag = row[0].strip()
        if tag in lines:
            raise InputError(
                f"{where}: tag {tag!r} stands already on line {lines[tag]}; remove one of its rows"
            )
        lines[tag] = line
        vector = _numbers([field.encode() for field in row[1:]], where)
        if tag in tags:
            found[tag] = len(lines) - 1, vector
    if not lines:
        raise InputError(f"{path}: no rows; a row holds a tag and its numbers, tag,v1,v2,…")
    return found


def _rows(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """(line number, word, the bytes of its numbers), checked."""
    dim, declared, count = 0, None, 0
    for line, text in _lines(path):
        first = text.split() if line == 1 else []
        if len(first) == 2 and all(part.isdigit() for part in first):  # word2vec, fastText
            declared, dim = map(int, first)
            continue
        word, _, values = text.partition(b" ")
        if not dim:
            text = text.replace(b"\t", b" ")
            word, _, values = text.partition(b" ")
            dim = len(values.split())
        if values.count(b" ") != dim - 1 or values.translate(None, _NUMBER) or not word:
            word, values = _carefully(text, dim, f"{path}, line {line}")
        count += 1
        yield line, word, values
    if not count:
        raise InputError(f"{path}: no words in it; {_ABOUT}")
    if declared is not None and count != declared:
        raise InputError(
            f"{path}: {count} words, its first line says {declared}; "
            "the file is cut short or its first line is wrong: get it again"
        )


def _carefully(text: bytes, dim: int, where: str) -> tuple[bytes, bytes]:
    """A row that is not a word, a blank and numbers with one blank between: tabs, repeated
    blanks, or a word that holds blanks (GloVe 840B has ". . .").
    """
    fields = text.replace(b"\t", b" ").split(b" ")
    fields = fields[:1] + [part for part in fields[1:] if part]
    head, values = fields[:-dim] or [b""], fields[-dim:]
    if len(fields) <= dim or not dim or any(map(is_number, head[1:])):
        raise InputError(f"{where}: {len(fields) - 1} numbers instead of {dim or 'some'}; {_ABOUT}")
    _numbers(values, where)
    return b" ".join(head).lstrip(), b" ".join(values)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, line without its end) of a file or of its .gz, empty lines left out."""
    with path.open("rb") as raw:
        file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        with tqdm(
            desc=path.name,
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=None,
        ) as bar:
            lines = iter(partial(file.readline, LONGEST_LINE), b"")
            try:
                for number, text in enumerate(lines, 1):
                    binary = number <= 8 and (b"\0" in text or text[:2] == b"PK")
                    if binary or len(text) == LONGEST_LINE:
                        raise InputError(
                            f"{path}: not a text file of word vectors; unpack an archive, "
                            "save binary vectors as text"
                        )
                    if not number % 4096:
                        bar.update(raw.tell() - bar.n)
                    if number == 1:
                        text = text.removeprefix(codecs.BOM_UTF8)
                    if text := text.rstrip():
                        yield number, text
                bar.update(raw.tell() - bar.n)
            except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise InputError(f"{path}: damaged ({error}); get it again") from error


def _numbers(values: Sequence[bytes], where: str) -> np.ndarray:
    """float32 `[dim]`. Raises InputError on what is no finite number."""
    for value in values:
        if not is_number(value):
            raise InputError(f"{where}: {value.decode(errors='replace')!r} is no number; {_ABOUT}")
    vector = np.array([float(value) for value in values]).astype(np.float32)
    if not np.isfinite(vector).all():
        bad = values[int(np.argmin(np.isfinite(vector)))]
        raise InputError(f"{where}: {bad.decode()!r} is no finite number; remove the row")
    return vector


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields), the header left out: a first row that begins with tag or word and has
    no number behind it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for i, row in enumerate(reader):
                header = i == 0 and row and row[0].strip().lower() in ("tag", "word")
                if header and not any(is_number(field.encode()) for field in row[1:2]):
                    continue
                if row:
                    yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as a CSV in UTF-8 ({error})") from error
