"""The words of GloVe's wheel, a column of strings in a Parquet file, without a package of 40 MB.

The wheel's SHA-256 is known, so this reads what its file holds and no more: one column of words
that stand once each, in pages of version 1 under Snappy. Its writer put the first words in a
dictionary and wrote the others as they are, hence dictionary and plain pages give them in order,
and the pages of indices between them say nothing more.
Source: apache.org's parquet-format (README, Encodings, parquet.thrift) and Snappy's
format_description.txt.
"""

import io
from typing import Any, BinaryIO

_INDICES = 8  # RLE_DICTIONARY, an encoding


def read_words(data: bytes, count: int) -> list[str]:
    """The first `count` words of the file whose bytes `data` are."""
    file = io.BytesIO(data)
    file.seek(len("PAR1"))
    words: list[str] = []
    while len(words) < count:
        header = _struct(file)
        page = io.BytesIO(_unsnap(file.read(header[3])))
        data_page = header.get(5)
        if data_page is None:
            words += _strings(page, header[7][1])
        elif data_page[2] != _INDICES:
            page.seek(_little(page, 4), io.SEEK_CUR)  # levels of definition: there are no nulls
            words += _strings(page, data_page[1])
    return words


def _little(file: BinaryIO, size: int) -> int:
    return int.from_bytes(file.read(size), "little")


def _strings(page: BinaryIO, count: int) -> list[str]:
    """`count` strings, each behind its length."""
    return [page.read(_little(page, 4)).decode() for _ in range(count)]


def _unsnap(data: bytes) -> bytes:
    """Snappy: literals, and copies of what stands before, which may overlap what they write."""
    file = io.BytesIO(data)
    length = _varint(file)
    out = bytearray()
    while len(out) < length:
        tag = _little(file, 1)
        kind, size = tag & 3, (tag >> 2) + 1
        if kind == 0:
            out += file.read(size if size <= 60 else _little(file, size - 60) + 1)
            continue
        if kind == 1:
            size, offset = 4 + (tag >> 2 & 7), (tag >> 5) << 8 | _little(file, 1)
        else:
            offset = _little(file, 2 if kind == 2 else 4)
        start = len(out) - offset
        piece = out[start : start + size]
        out += (piece * (size // offset + 1))[:size]
    return bytes(out)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = _little(file, 1)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value


def _struct(file: BinaryIO) -> dict[int, Any]:
    """A struct of Thrift's compact protocol, by field number."""
    fields: dict[int, Any] = {}
    number = 0
    while header := _little(file, 1):
        number += header >> 4
        fields[number] = _value(file, header & 15)
    return fields


def _value(file: BinaryIO, kind: int) -> Any:
    """Of the kinds that headers of pages hold: truth, binary, struct; else a signed integer."""
    if kind in (1, 2):
        return kind == 1
    if kind == 8:
        return file.read(_varint(file))
    if kind == 12:
        return _struct(file)
    value = _varint(file)
    return value >> 1 ^ -(value & 1)
