"""The bytes of an audio file that are audio: what must be the same before and after its tags
change.
"""

import hashlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from extract.errors import InputError

Span = tuple[int, int]  # where bytes of the file begin and end
_PIECE = 1 << 20


def audio_sha256(path: Path) -> str:
    """SHA-256 of the audio of a file: the frames of an mp3 between its tags, the frames of a FLAC
    after its metadata, the packets of an Ogg after its headers, `mdat` of an MP4, `data` of a WAVE,
    `SSND` of an AIFF. Raises InputError on another kind of file.
    """
    if not path.stat().st_size:  # cannot be mapped
        raise InputError(f"{path}: is empty")
    digest = hashlib.sha256()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == b"OggS":
            for packet in _packets(data, path):
                digest.update(packet)
            return digest.hexdigest()
        for start, end in _spans(data, path):
            for place in range(start, min(end, len(data)), _PIECE):
                digest.update(data[place : min(place + _PIECE, end)])
    return digest.hexdigest()


def _spans(data: mmap.mmap, path: Path) -> Iterator[Span]:
    """Where the audio of a file is that is no Ogg."""
    if data[4:8] == b"ftyp":
        return _boxes(data)
    if data[:4] == b"RIFF":
        return _chunks(data, b"data", "<")
    if data[:4] == b"FORM":
        return _chunks(data, b"SSND", ">")
    start = _id3_size(data)
    if b"fLaC" in (data[:4], data[start : start + 4]):
        return iter([(_after_metadata(data, start + 4), len(data))])
    if data[:3] == b"ID3" or data[:1] == b"\xff":
        return iter([(start, _before_tags(data))])
    raise InputError(f"{path}: not a kind of file whose audio is told from its tags")


def _id3_size(data: mmap.mmap) -> int:
    """Bytes of an ID3v2 tag at the beginning, its header and footer included."""
    if data[:3] != b"ID3":
        return 0
    a, b, c, d = data[6:10]
    footer = 10 if data[5] & 0x10 else 0
    return 10 + (a << 21 | b << 14 | c << 7 | d) + footer


def _before_tags(data: mmap.mmap) -> int:
    """Where an ID3v1 or APEv2 tag at the end begins."""
    end = len(data)
    if data[-128:][:3] == b"TAG":
        end -= 128
    footer = data[max(end - 32, 0) :][:32]
    if footer[:8] == b"APETAGEX":
        size, _, marks = struct.unpack("<III", footer[12:24])
        end -= size + (32 if marks & (1 << 31) else 0)
    return end


def _after_metadata(data: mmap.mmap, place: int) -> int:
    """Where the frames of a FLAC begin. place: of its first block of metadata."""
    last = False
    while not last and place + 4 <= len(data):
        last = bool(data[place] & 0x80)
        place += 4 + int.from_bytes(data[place + 1 : place + 4], "big")
    return place


def _packets(data: mmap.mmap, path: Path) -> Iterator[bytes]:
    """Packets of an Ogg after the headers: pages may be numbered and cut anew."""
    from mutagen.ogg import OggPage, error

    headers: dict[int, int] = {}
    while True:
        try:
            page = OggPage(data)
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


def _boxes(data: mmap.mmap) -> Iterator[Span]:
    """The `mdat` of an MP4."""
    place = 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        skip = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, place + 8)
            skip = 16
        size = len(data) - place if size == 0 else size
        if size < skip:
            return
        if name == b"mdat":
            yield place + skip, place + size
        place += size


def _chunks(data: mmap.mmap, wanted: bytes, order: str) -> Iterator[Span]:
    """The chunks of that name of a WAVE or an AIFF. order: of the bytes of a size, < or >."""
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, place)
        if name == wanted:
            yield place + 8, place + 8 + size
        place += 8 + size + size % 2
