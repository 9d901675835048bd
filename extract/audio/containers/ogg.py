"""Ogg (Vorbis, Opus, FLAC, Speex): pages with their checksums, and the granule positions of every
chained stream. RFC 3533, 7845, 5334; the Vorbis I specification.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from extract.audio.containers.stream import Data, Stream, find, little

_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_NO_POSITION = (1 << 64) - 1
_BEGINS, _ENDS = 2, 4  # flags of a page
_SLACK = 0.02  # seconds, and two blocks more: the ends of a stream lie inside a block


@dataclass(frozen=True)
class _Page:
    serial: int
    flags: int
    position: int | None  # samples up to its last finished packet; None where none is finished
    packets: int  # that end on it
    body: int  # where its data begin
    end: int


@dataclass(frozen=True)
class _Codec:
    name: str
    rate: int  # of positions, Hz
    block: int  # samples of a packet at most
    skip: int = 0  # samples at the beginning that are not played


@dataclass
class _Link:
    """One link of a chain: what follows from its first pages on."""

    start: int
    codecs: dict[int, _Codec] = field(default_factory=dict)
    first: dict[int, tuple[int, int]] = field(default_factory=dict)  # position, packets
    last: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    begun: bool = False  # a page that is no first one has been seen
    pages: int = 0
    audio: int = 0  # bytes
    stray: int = 0


def scan(data: Data, start: int, stop: int) -> Iterator[Stream]:
    """The streams of the chain that begins at `start`."""
    place, link = start, _Link(start)
    while place < stop:
        page = _page(data, place, stop)
        if page is None:
            if data[place : place + 4] != b"OggS" and link.begun and _other(data, place):
                break
            found = _next_page(data, place + 1, stop)
            link.stray += found - place
            place = found
            continue
        if page.flags & _BEGINS and link.begun:
            yield from _streams(link, place)
            link = _Link(place)
        _take(link, page, data)
        place = page.end
    yield from _streams(link, place)


def _other(data: Data, place: int) -> bool:
    """A tag, or a file of another kind."""
    return data[place : place + 3] in (b"TAG", b"ID3") or data[place : place + 4] in (
        b"fLaC",
        b"RIFF",
        b"FORM",
        b"APET",
    )


def _take(link: _Link, page: _Page, data: Data) -> None:
    link.pages += 1
    if page.flags & _BEGINS:
        codec = _codec(bytes(data[page.body : page.end]))
        if codec is not None:
            link.codecs[page.serial] = codec
        return
    link.begun = True
    link.audio += page.end - page.body
    if page.position:
        link.first.setdefault(page.serial, (page.position, page.packets))
        link.last[page.serial] = page.position
    if page.flags & _ENDS:
        link.ended.add(page.serial)


def _streams(link: _Link, stop: int) -> Iterator[Stream]:
    """The first stream of audio of a link; others (video, say) lie between its pages."""
    serial, codec = next(iter(link.codecs.items()), (None, None))
    if serial is None or codec is None:
        return
    position, packets = link.first.get(serial, (0, 0))
    most = packets * codec.block
    # a recording of a running stream: the first packets are a page's at most
    begins = max(0, position - most) if position > most + codec.skip else 0
    samples = max(0, link.last.get(serial, 0) - begins - (0 if begins else codec.skip))
    seconds = samples / codec.rate
    slack = _SLACK + (2 * min(codec.block, 2048) + (most if begins else 0)) / codec.rate
    ended = serial in link.ended
    cut = "" if ended or not link.stray else "it breaks off inside a page"
    yield Stream(
        codec.name,
        link.start,
        stop,
        seconds,
        slack,
        lost=link.stray / max(link.audio + link.stray, 1) * seconds,
        counted=f"the positions of {link.pages} Ogg pages",
        cut=cut,
        note="" if ended else "the Ogg stream has no end mark; it may have been cut between pages",
    )


def _page(data: Data, place: int, stop: int) -> _Page | None:
    """The page at `place`, if it is whole and its checksum is right."""
    head = bytes(data[place : place + 27])
    if len(head) < 27 or head[:4] != b"OggS" or head[4]:
        return None
    table = bytes(data[place + 27 : place + 27 + head[26]])
    body = place + 27 + len(table)
    end = body + sum(table)
    if end > stop or len(table) < head[26]:
        return None
    page = head[:22] + bytes(4) + bytes(data[place + 26 : end])
    if _checksum(page) != little(head, 22, 4):
        return None
    position = little(head, 6, 8)
    packets = sum(size < 255 for size in table)
    return _Page(
        little(head, 14, 4),
        head[5],
        None if position == _NO_POSITION or not packets else position,
        packets,
        body,
        end,
    )


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32 runs from the highest bit, zlib's from the lowest: mirror going in and out."""
    mirrored = zlib.crc32(page.translate(_MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRROR), "big")


def _next_page(data: Data, start: int, stop: int) -> int:
    """Where the next sound page begins, `stop` if nowhere."""
    place = start
    while (place := find(data, b"OggS", place, stop)) >= 0:
        if _page(data, place, stop) is not None:
            return place
        place += 1
    return stop


def _codec(packet: bytes) -> _Codec | None:
    """From a stream's first packet; None if it is no audio."""
    if packet[:7] == b"\x01vorbis" and len(packet) >= 30:
        return _Codec("vorbis", max(little(packet, 12, 4), 1), (1 << (packet[28] >> 4)) // 2)
    if packet[:8] == b"OpusHead" and len(packet) >= 19:
        return _Codec("opus", 48_000, 5760, little(packet, 10, 2))
    if packet[:5] == b"\x7fFLAC" and len(packet) >= 31:
        info = packet[17:]  # STREAMINFO, after its header
        rate = int.from_bytes(info[10:13], "big") >> 4
        return _Codec("oggflac", max(rate, 1), int.from_bytes(info[2:4], "big"))
    if packet[:8] == b"Speex   " and len(packet) >= 68:
        block = little(packet, 56, 4) * max(little(packet, 64, 4), 1)
        return _Codec("speex", max(little(packet, 36, 4), 1), block)
    return None
