"""TensorFlow bundles: read, and refused in one line where they are damaged or hostile."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from extract.embeddings.tensor_bundle import crc32c, masked, read_bundle, read_wheel
from extract.errors import InputError

MAGIC = bytes.fromhex("57fb808b247547db")


# --- an independent writer, by the formats' descriptions


def varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def plain_crc32c(data: bytes) -> int:
    """Bit by bit, as in RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def mask(crc: int) -> bytes:
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def block(entries: list[tuple[bytes, bytes]], shared: bool = False) -> bytes:
    body, last = b"", b""
    for key, value in entries:
        same = 0
        while shared and same < min(len(key), len(last)) and key[same] == last[same]:
            same += 1
        body += varint(same) + varint(len(key) - same) + varint(len(value)) + key[same:] + value
        last = key
    return body + struct.pack("<II", 0, 1)


def sealed(content: bytes, kind: int = 0) -> bytes:
    content += bytes([kind])
    return content + mask(plain_crc32c(content))


def table(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    data = sealed(block(entries, shared=True), kind)
    pointers = sealed(block([(b"~", varint(0) + varint(len(data) - 5))]))
    handles = varint(0) + varint(0) + varint(len(data)) + varint(len(pointers) - 5)
    return data + pointers + handles.ljust(40, b"\0") + MAGIC


def entry(
    array: np.ndarray, offset: int, *, dtype: int = 1, size: int | None = None, crc: bytes = b""
) -> bytes:
    raw = array.tobytes()
    dimensions = b"".join(
        b"\x12" + varint(len(b"\x08" + varint(n))) + b"\x08" + varint(n) for n in array.shape
    )
    out = b"\x08" + varint(dtype) + b"\x12" + varint(len(dimensions)) + dimensions
    out += b"\x20" + varint(offset) + b"\x28" + varint(len(raw) if size is None else size)
    return out + b"\x35" + (crc or mask(plain_crc32c(raw)))


HEADER = (b"", b"\x08\x01\x1a\x02\x08\x01")
ARRAYS = {
    "conv/bias": np.arange(5, dtype=np.float32),
    "conv/kernel": np.random.default_rng(0).standard_normal((3, 3, 1, 5)).astype(np.float32),
    "scalar": np.float32(3).reshape(()),
}


def bundle() -> tuple[bytes, bytes]:
    entries, data = [HEADER], b""
    for name, array in ARRAYS.items():
        entries.append((name.encode(), entry(array, len(data))))
        data += array.tobytes()
    return table(entries), data


# --- reading


def test_a_bundle_is_read() -> None:
    found = read_bundle(*bundle())
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.float32


@pytest.mark.parametrize("length", [0, 1, 3, 9, 4095, 4096, 4097, 9999])
def test_crc32c(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == plain_crc32c(data)
    assert masked(crc32c(data)).to_bytes(4, "little") == mask(plain_crc32c(data))


def test_crc32c_of_the_standards_example() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_what_is_not_float32_or_of_an_optimizer_is_left_out() -> None:
    array = np.zeros(2, np.float32)
    index = table(
        [
            HEADER,
            (b"step", entry(array, 0, dtype=9, crc=b"....")),
            (b"w", entry(array, 0)),
            (b"w/Adam", entry(array, 0)),
        ]
    )
    assert list(read_bundle(index, array.tobytes())) == ["w"]


def test_a_wheel(tmp_path: Path) -> None:
    path = tmp_path / "w.whl"
    index, data = bundle()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/model/.index", index)
        archive.writestr("pkg/model/.data-00000-of-00001", data)
        archive.writestr("pkg/other.txt", "x")
    assert set(read_wheel(path)) == {f"model/{name}" for name in ARRAYS}


# --- refusing

VALUES = np.ones(3, np.float32)
HUGE = varint(2**62)


def endless_shape() -> bytes:
    """Of 0 values: 2^64 − 1 by 0."""
    lengths = (b"\x08" + varint(2**64 - 1), b"\x08" + varint(0))
    message = b"".join(b"\x12" + varint(len(length)) + length for length in lengths)
    return varint(len(message)) + message


HOSTILE = {
    "empty": (b"", b""),
    "no table": (b"x" * 100, b""),
    "footer alone": (bytes(40) + MAGIC, b""),
    "handles beyond the file": ((HUGE * 4).ljust(40, b"\0") + MAGIC, b""),
    "endless numbers": (b"\xff" * 40 + MAGIC, b""),
    "compressed": (table([HEADER], kind=1), b""),
    "a tensor beyond the data": (table([HEADER, (b"w", entry(VALUES, 1000))]), VALUES.tobytes()),
    "a huge offset": (table([HEADER, (b"w", entry(VALUES, 2**63))]), VALUES.tobytes()),
    "a size that is not its shape's": (table([(b"w", entry(VALUES, 0, size=8))]), bytes(100)),
    "another CRC": (table([(b"w", entry(VALUES, 0, crc=b"1234"))]), VALUES.tobytes()),
    "a name that is not UTF-8": (table([(b"\xff", entry(VALUES, 0))]), VALUES.tobytes()),
    "a length beyond 64 bits": (
        table([(b"w", b"\x08\x01\x12" + endless_shape() + b"\x35" + mask(0))]),
        b"",
    ),
    "a shape that is a number": (table([(b"w", b"\x08\x01\x10\x03")]), bytes(100)),
    "a group": (table([(b"w", b"\x0b")]), b""),
    "a field without an end": (table([(b"w", b"\x12\x7f")]), b""),
    "big-endian": (table([(b"", b"\x08\x01\x10\x01")]), b""),
    "several files": (table([(b"", b"\x08\x02")]), b""),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_bundles_are_refused_in_one_line(how: str, tmp_path: Path) -> None:
    index, data = HOSTILE[how]
    with pytest.raises(ValueError):
        read_bundle(index, data)
    path = tmp_path / "w.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/.index", index)
        archive.writestr("m/.data-00000-of-00001", data)
    with pytest.raises(InputError, match=r"w\.whl: damaged, or no wheel") as caught:
        read_wheel(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300 + len(str(path))


def test_any_damaged_byte_is_found() -> None:
    """Blocks and tensors have CRCs; of the footer, what matters must still lead to the blocks."""
    index, data = bundle()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(index), size=200).tolist():
        hurt = index[:place] + bytes([index[place] ^ 1 << place % 8]) + index[place + 1 :]
        try:
            found = read_bundle(hurt, data)
        except ValueError:
            continue
        # it was in a part that says nothing: the metaindex's handle, or the footer's padding
        assert place >= len(index) - 48
        assert {name: array.tobytes() for name, array in found.items()} == {
            name: array.tobytes() for name, array in ARRAYS.items()
        }
    for place in range(0, len(data), 7):
        hurt = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(ValueError, match="CRC"):
            read_bundle(index, hurt)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression(method: int, tmp_path: Path) -> None:
    path = tmp_path / "w.whl"
    index, data = bundle()
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("m/.index", index)
        archive.writestr("m/.data-00000-of-00001", data)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            found = read_wheel(path)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        # what the directory at the end leaves out, or the name of a file that is no index
        assert not found or {name: array.tobytes() for name, array in found.items()} == {
            f"m/{name}": array.tobytes() for name, array in ARRAYS.items()
        }


@pytest.mark.parametrize(
    "how", ["not a zip", "no data file", "truncated", "too large", "a place beyond the file"]
)
def test_damaged_wheels(how: str, tmp_path: Path) -> None:
    path = tmp_path / "w.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/.index", bytes((1 << 28) + 1) if how == "too large" else b"x" * 100)
        if how == "truncated":
            archive.writestr("m/.data-00000-of-00001", bytes(1000))
        if how == "a place beyond the file":
            archive.infolist()[0].header_offset = 2**62
    if how == "not a zip":
        path.write_bytes(b"<html>")
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"w\.whl: damaged, or no wheel"):
        read_wheel(path)
