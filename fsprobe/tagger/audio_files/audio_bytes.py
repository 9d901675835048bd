"""The bytes of an audio file that are audio: what must be the same before and after its tags
change.
"""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from extract.errors import InputError

_PIECE = 1 << 20


def audio_sha256(path: Path) -> str:
    """SHA-256 of the audio of a file: the frames of an mp3 between its tags, the frames of a FLAC
    after its metadata, the packets of an Ogg after its headers, `mdat` of an MP4, `data` of a WAVE,
    `SSND` of an AIFF. Raises InputError on another kind of file.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        for piece in _audio(file, head, path):
            digest.update(piece)
    return digest.hexdigest()


def _audio(file: IO[bytes], head: bytes, path: Path) -> Iterator[bytes]:
    if head[:4] == b"OggS":
        return _ogg(file, path)
    if head[4:8] == b"ftyp":
        return _boxes(file, b"mdat")
    if head[:4] == b"RIFF":
        return _chunks(file, b"data", "<I")
    if head[:4] == b"FORM":
        return _chunks(file, b"SSND", ">I")
    if head[:4] == b"fLaC" or _after_id3(head, file).startswith(b"fLaC"):
        return _flac(file, head)
    if head[:3] == b"ID3" or head[:1] == b"\xff":
        return _mpeg(file, head)
    raise InputError(f"{path}: not a kind of file whose audio is told from its tags")


def _id3_size(head: bytes) -> int:
    """Bytes of an ID3v2 tag at the beginning, its header and footer included."""
    if head[:3] != b"ID3":
        return 0
    a, b, c, d = head[6:10]
    footer = 10 if head[5] & 0x10 else 0
    return 10 + (a << 21 | b << 14 | c << 7 | d) + footer


def _after_id3(head: bytes, file: IO[bytes]) -> bytes:
    file.seek(_id3_size(head))
    start = file.read(4)
    file.seek(0)
    return start


def _read(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end and (piece := file.read(min(_PIECE, end - start))):
        start += len(piece)
        yield piece


def _length(file: IO[bytes]) -> int:
    return file.seek(0, 2)


def _mpeg(file: IO[bytes], head: bytes) -> Iterator[bytes]:
    """Between an ID3v2 tag and its padding at the beginning and ID3v1 or APEv2 at the end."""
    start, end = _id3_size(head), _length(file)
    file.seek(max(end - 128, 0))
    if file.read(3) == b"TAG":
        end -= 128
    file.seek(max(end - 32, 0))
    footer = file.read(32)
    if footer[:8] == b"APETAGEX":
        size, _, marks = struct.unpack("<III", footer[12:24])
        end -= size + (32 if marks & (1 << 31) else 0)
    return _read(file, start, end)


def _flac(file: IO[bytes], head: bytes) -> Iterator[bytes]:
    place = _id3_size(head) + 4
    last = False
    while not last:
        file.seek(place)
        block = file.read(4)
        if len(block) < 4:
            break
        last = bool(block[0] & 0x80)
        place += 4 + int.from_bytes(block[1:], "big")
    return _read(file, place, _length(file))


def _ogg(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Packets after the headers, and the granule position of each page: pages may be numbered and
    cut anew.
    """
    from mutagen.ogg import OggPage, error

    headers: dict[int, int] = {}
    while True:
        try:
            page = OggPage(file)
        except EOFError:
            return
        except error as wrong:
            raise InputError(f"{path}: not a whole Ogg file ({wrong})") from None
        # Vorbis has three header packets, all others here two; a header fills its pages
        if page.serial not in headers:
            first = page.packets[0] if page.packets else b""
            headers[page.serial] = 3 if first[1:7] == b"vorbis" else 2
        for number, packet in enumerate(page.packets):
            if headers[page.serial]:
                whole = number < len(page.packets) - 1 or page.complete
                headers[page.serial] -= whole
            else:
                yield packet


def _boxes(file: IO[bytes], wanted: bytes) -> Iterator[bytes]:
    place, end = 0, _length(file)
    while place + 8 <= end:
        file.seek(place)
        size, name = struct.unpack(">I4s", file.read(8))
        skip = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            skip = 16
        size = end - place if size == 0 else size
        if size < skip:
            return
        if name == wanted:
            yield from _read(file, place + skip, place + size)
        place += size


def _chunks(file: IO[bytes], wanted: bytes, order: str) -> Iterator[bytes]:
    place, end = 12, _length(file)
    while place + 8 <= end:
        file.seek(place)
        head = file.read(8)
        (size,) = struct.unpack(order, head[4:])
        if head[:4] == wanted:
            yield from _read(file, place + 8, place + 8 + size)
        place += 8 + size + size % 2
