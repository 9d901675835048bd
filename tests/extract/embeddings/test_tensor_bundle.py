"""TensorFlow bundles, as an independent writer makes them by the formats' descriptions."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from extract.embeddings.tensor_bundle import masked, read_bundle, read_wheel
from extract.errors import InputError

MAGIC = bytes.fromhex("57fb808b247547db")


def varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def crc32c(data: bytes) -> int:
    """Bit by bit, RFC 3720 appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def block(entries: list[tuple[bytes, bytes]], shared: bool = False) -> bytes:
    body, last = b"", b""
    for key, value in entries:
        same = 0
        while shared and same < min(len(key), len(last)) and key[same] == last[same]:
            same += 1
        body += varint(same) + varint(len(key) - same) + varint(len(value)) + key[same:] + value
        last = key
    return body + struct.pack("<II", 0, 1)


def sealed(content: bytes) -> bytes:
    """With its type and its CRC, for which nobody looks."""
    return content + b"\0" + b"CRC-"


def table(entries: list[tuple[bytes, bytes]]) -> bytes:
    data = sealed(block(entries, shared=True))
    pointers = sealed(block([(b"~", varint(0) + varint(len(data) - 5))]))
    handles = varint(0) + varint(0) + varint(len(data)) + varint(len(pointers) - 5)
    return data + pointers + handles.ljust(40, b"\0") + MAGIC


def entry(array: np.ndarray, offset: int, dtype: int = 1) -> bytes:
    raw = array.tobytes()
    dimensions = b"".join(
        b"\x12" + varint(len(b"\x08" + varint(n))) + b"\x08" + varint(n) for n in array.shape
    )
    out = b"\x08" + varint(dtype) + b"\x12" + varint(len(dimensions)) + dimensions
    out += b"\x20" + varint(offset) + b"\x28" + varint(len(raw))
    return out + b"\x35" + struct.pack("<I", masked(crc32c(raw)))


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


def test_a_bundle_is_read() -> None:
    found = read_bundle(*bundle())
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.float32


def test_what_is_not_float32_or_of_an_optimizer_is_left_out() -> None:
    array = np.zeros(2, np.float32)
    index = table(
        [
            HEADER,
            (b"step", entry(array, 0, dtype=9)),
            (b"w", entry(array, 0)),
            (b"w/Adam", entry(array, 0)),
        ]
    )
    assert list(read_bundle(index, array.tobytes())) == ["w"]


def test_a_tensor_that_is_not_the_one_written_is_refused() -> None:
    index, data = bundle()
    with pytest.raises(InputError, match=r"^w\.whl: tensor 'conv/bias' does not have"):
        read_bundle(index, bytes([data[0] ^ 1]) + data[1:], "w.whl")


def test_the_published_mask_of_a_crc() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert masked(0) == 0xA282EAD8


def test_a_wheel(tmp_path: Path) -> None:
    path = tmp_path / "w.whl"
    index, data = bundle()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/model/.index", index)
        archive.writestr("pkg/model/.data-00000-of-00001", data)
        archive.writestr("pkg/other.txt", "x")
    assert set(read_wheel(path)) == {f"model/{name}" for name in ARRAYS}
