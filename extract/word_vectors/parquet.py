"""A column of words out of a Parquet file: enough for GloVe's wheel, and no package of 40 MB.

Reads the first column of strings without nulls, uncompressed or Snappy, in pages of version 1,
encoded PLAIN or RLE_DICTIONARY; anything else is an InputError that says so.
Source: apache.org's parquet-format (README, Encodings, parquet.thrift) and Snappy's
format_description.txt.
"""

import struct
from typing import Any

import numpy as np

from extract.errors import InputError

_MAGIC = b"PAR1"
_DICTIONARY_PAGE, _DATA_PAGE = 2, 0
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8
_UNCOMPRESSED, _SNAPPY = 0, 1
_BYTE_ARRAY = 6


def read_words(data: bytes, where: str) -> list[str]:
    """The first column of the file whose bytes `data` are. Raises InputError naming `where`."""
    try:
        return _first_column(data)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise InputError(
            f"{where}: not a Parquet file of words ({error!r}); get it again"
        ) from None


def _first_column(data: bytes) -> list[str]:
    if data[:4] != _MAGIC or data[-4:] != _MAGIC:
        raise ValueError("PAR1 is missing at its ends")
    (length,) = struct.unpack("<I", data[-8:-4])
    footer = _Thrift(data, len(data) - 8 - length).struct()
    words: list[bytes] = []
    for group in footer[4]:
        column = group[1][0][3]
        if column[1] != _BYTE_ARRAY or column[4] not in (_UNCOMPRESSED, _SNAPPY):
            raise ValueError("its first column is no text, or is compressed otherwise than Snappy")
        words += _column_chunk(data, column)
    if len(words) != footer[3]:
        raise ValueError(f"{len(words)} words of {footer[3]}")
    return [word.decode() for word in words]


def _column_chunk(data: bytes, column: dict[int, Any]) -> list[bytes]:
    position = min(column[9], column.get(11, column[9]))
    dictionary: list[bytes] = []
    words: list[bytes] = []
    while len(words) < column[5]:
        thrift = _Thrift(data, position)
        header = thrift.struct()
        position = thrift.position + header[3]
        page = data[thrift.position : position]
        if column[4] == _SNAPPY:
            page = _unsnap(page)
        if header[1] == _DICTIONARY_PAGE:
            dictionary = _plain(page, 0, header[7][1])
        elif header[1] == _DATA_PAGE:
            count, encoding = header[5][1], header[5][2]
            # levels of definition: 4 bytes of length, then runs; there are no nulls to find
            start = 4 + struct.unpack_from("<I", page)[0]
            if encoding == _PLAIN:
                words += _plain(page, start, count)
            elif encoding in (_RLE_DICTIONARY, _PLAIN_DICTIONARY):
                words += [dictionary[i] for i in _indices(page, start, count)]
            else:
                raise ValueError(f"encoding {encoding} is not read")
        else:
            raise ValueError(f"page type {header[1]} is not read")
    return words


def _plain(page: bytes, position: int, count: int) -> list[bytes]:
    """`count` strings, each behind its length in 4 bytes."""
    words = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", page, position)
        position += 4 + length
        if position > len(page):
            raise ValueError("a page is cut short")
        words.append(page[position - length : position])
    return words


def _indices(page: bytes, position: int, count: int) -> list[int]:
    """Runs of one value, and groups of eight packed into bits, as many as the first byte says."""
    width = page[position]
    reader = _Thrift(page, position + 1)
    size = (width + 7) // 8
    values: list[int] = []
    while len(values) < count:
        header = reader.varint()
        if header & 1:
            groups = header >> 1
            packed = np.frombuffer(page, np.uint8, groups * width, reader.position)
            bits = np.unpackbits(packed, bitorder="little").reshape(groups * 8, width)
            values += (bits @ (1 << np.arange(width))).tolist()
            reader.position += groups * width
        else:
            value = int.from_bytes(page[reader.position : reader.position + size], "little")
            values += [value] * (header >> 1)
            reader.position += size
    return values[:count]


def _unsnap(data: bytes) -> bytes:
    """Snappy: literals, and copies of what stands before, which may overlap what they write."""
    reader = _Thrift(data, 0)
    length = reader.varint()
    out = bytearray()
    position = reader.position
    while position < len(data):
        tag = data[position]
        position += 1
        kind, size = tag & 3, tag >> 2
        if kind == 0:
            if size >= 60:
                extra = size - 59
                size = int.from_bytes(data[position : position + extra], "little")
                position += extra
            out += data[position : position + size + 1]
            position += size + 1
            continue
        if kind == 1:
            size, offset = 4 + (size & 7), (tag >> 5) << 8 | data[position]
            position += 1
        else:
            extra = 2 if kind == 2 else 4
            size, offset = size + 1, int.from_bytes(data[position : position + extra], "little")
            position += extra
        if not 0 < offset <= len(out):
            raise ValueError("a Snappy copy reaches back too far")
        start = len(out) - offset
        piece = out[start : start + size]
        out += (piece * (size // offset + 1))[:size]
    if len(out) != length:
        raise ValueError(f"{len(out)} bytes unpacked of {length}")
    return bytes(out)


class _Thrift:
    """Reads Thrift's compact protocol: structs as dictionaries by field number."""

    def __init__(self, data: bytes, position: int):
        self.data, self.position = data, position

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while (header := self.byte()) != 0:
            number = number + (header >> 4) if header >> 4 else self.zigzag()
            fields[number] = self.value(header & 15)
        return fields

    def value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            self.position += 8
            return struct.unpack_from("<d", self.data, self.position - 8)[0]
        if kind == 8:
            length = self.varint()
            self.position += length
            return self.data[self.position - length : self.position]
        if kind in (9, 10):
            header = self.byte()
            count = header >> 4 if header >> 4 < 15 else self.varint()
            return [self.value(header & 15) for _ in range(count)]
        if kind == 12:
            return self.struct()
        raise ValueError(f"Thrift type {kind} is not read")
