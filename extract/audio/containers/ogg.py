"""Ogg (Vorbis, Opus, FLAC, Speex): pages with their checksums, and the granule positions of every
chained stream. RFC 3533, 7845, 5334; the Vorbis I specification.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from extract.audio.containers.stream import Data, Stream, after_tag, begins_file, big, find, little

_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_NO_POSITION = (1 << 64) - 1
_CONTINUES, _BEGINS, _ENDS = 1, 2, 4  # flags of a page
# Samples of a frame by its configuration: SILK, hybrid, CELT.
_OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
_SLACK = 0.02  # seconds, and two blocks more: the ends of a stream lie inside a block


@dataclass(frozen=True)
class _Page:
    serial: int
    flags: int
    position: int | None  # samples up to its last finished packet; None where none is finished
    sizes: bytes  # the lacing values: a packet ends at the first below 255
    body: int  # where its data begin
    end: int


@dataclass
class _Track:
    """One stream of a link. rate: of positions, Hz. block: samples of a packet at most. skip:
    samples at the beginning that are not played. samples: of all its packets; None where packets
    do not say how many they hold.
    """

    serial: int
    codec: str
    rate: int
    block: int
    skip: int = 0
    headers: int = 1  # packets that are still to come before the first of audio
    sizes: tuple[int, int] = (0, 0)  # Vorbis: samples of a short and a long block
    blocks: tuple[int, ...] = ()  # Vorbis: samples of a packet's whole block, by its first byte
    previous: int = 0  # Vorbis: the block before, samples
    open: bytes = b""  # of a packet that goes on on the next page
    samples: int | None = 0
    longest: int = 0  # packet of Opus, samples
    begins: int | None = None  # position of its first sample
    last: int = 0  # position of its last
    ended: bool = False


@dataclass
class _Link:
    """One link of a chain: what follows from its first pages on. track: its first stream of audio;
    others (video, say) lie between its pages.
    """

    start: int
    track: _Track | None = None
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
            other = begins_file(data, place) and data[place : place + 4] != b"OggS"
            if link.begun and (other or after_tag(data, place, stop) > place):
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


def _take(link: _Link, page: _Page, data: Data) -> None:
    link.pages += 1
    if page.flags & _BEGINS:
        link.track = link.track or _track(page.serial, bytes(data[page.body : page.end]))
        return
    link.begun = True
    link.audio += page.end - page.body
    track = link.track
    if track is None or page.serial != track.serial:
        return
    before = track.samples
    for packet in _packets(track, page, data):
        _count(track, packet)
    if page.position:
        if track.begins is None:
            new = (track.samples or 0) - (before or 0)
            track.begins = max(0, page.position - new) if track.samples is not None else 0
        track.last = page.position
    track.ended |= bool(page.flags & _ENDS)


def _packets(track: _Track, page: _Page, data: Data) -> Iterator[bytes]:
    """The packets that end on the page, but for one whose beginning is not there."""
    place, size = page.body, 0
    begun = track.open if page.flags & _CONTINUES else b""
    lost = bool(page.flags & _CONTINUES) and not track.open
    for value in page.sizes:
        size += value
        if value == 255:
            continue
        if not lost:
            yield begun + data[place : place + size]
        place, size, begun, lost = place + size, 0, b"", False
    unfinished = page.sizes[-1:] in (b"", b"\xff")
    track.open = begun + data[place : place + size] if unfinished and not lost else b""


def _count(track: _Track, packet: bytes) -> None:
    """Take a header packet, or add the samples of one of audio to the track's."""
    if track.headers:
        track.headers -= 1
        if track.codec == "vorbis" and packet[:7] == b"\x05vorbis":
            track.blocks = _vorbis_blocks(track.sizes, packet)
            if not track.blocks:
                track.samples = None
    elif not packet or track.samples is None:
        return
    elif track.codec == "opus":
        samples = _opus_samples(packet)
        track.samples += samples
        track.longest = max(track.longest, samples)
    elif track.codec == "speex":
        track.samples += track.block
    elif block := track.blocks[packet[0]] if track.blocks else 0:
        if track.previous:
            track.samples += (track.previous + block) // 4
        track.previous = block


def _vorbis_blocks(sizes: tuple[int, int], setup: bytes) -> tuple[int, ...]:
    """Samples of a packet's whole block by its first byte; none if the setup header is no help."""
    modes = _vorbis_modes(setup)
    mask = (1 << max(len(modes) - 1, 0).bit_length()) - 1
    return tuple(
        0 if byte & 1 else sizes[modes[min(byte >> 1 & mask, len(modes) - 1)]]
        for byte in range(256 if modes else 0)
    )


def _opus_samples(packet: bytes) -> int:
    """At 48 kHz, from the first two bytes (RFC 6716, section 3)."""
    frames = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[packet[0] & 3]
    return _OPUS_FRAMES[packet[0] >> 3] * frames


def _vorbis_modes(packet: bytes) -> tuple[bool, ...]:
    """Each mode's block flag, read from the end of the setup header, as FFmpeg does: 41 bits a mode
    (flag, 16 zeros, 16 zeros, 8 of a mapping), before them their number less one in 6 bits.
    """
    tail = packet[-400:]
    bits = int.from_bytes(tail, "little")
    end = bits.bit_length() - 1  # the framing bit
    flags: list[bool] = []
    found: tuple[bool, ...] = ()
    while end >= 41 + 6 and len(flags) < 64:
        mode = bits >> (end - 41)
        if mode >> 1 & 0xFFFFFFFF or mode >> 33 & 0xFF > 63:
            break
        flags.insert(0, bool(mode & 1))
        end -= 41
        if (bits >> (end - 6) & 63) + 1 == len(flags):
            found = tuple(flags)
    return found


def _streams(link: _Link, stop: int) -> Iterator[Stream]:
    """The link's, if it has audio."""
    track = link.track
    if track is None:
        return
    begins = track.begins or 0
    skip = track.skip if begins < track.skip + track.block else 0
    stated = max(0, track.last - begins - skip) / track.rate
    counted = None if track.samples is None else max(0, track.samples - skip) / track.rate
    slack = _SLACK + 2 * (track.longest or min(track.block, 2048)) / track.rate
    seconds = stated
    if counted is not None and abs(counted - stated) > slack:  # packets are missing, or it lies
        seconds = counted
    cut = "" if track.ended or not link.stray else "it breaks off inside a page"
    yield Stream(
        track.codec,
        link.start,
        stop,
        seconds,
        slack,
        stated,
        link.stray / max(link.audio + link.stray, 1) * stated,
        f"the packets of {link.pages} Ogg pages",
        cut,
        "" if track.ended else "the Ogg stream has no end mark; it may have been cut between pages",
    )


def _page(data: Data, place: int, stop: int) -> _Page | None:
    """The page at `place`, if it is whole and its checksum is right."""
    head = bytes(data[place : place + 27])
    if len(head) < 27 or head[:4] != b"OggS" or head[4]:
        return None
    sizes = bytes(data[place + 27 : place + 27 + head[26]])
    body = place + 27 + len(sizes)
    end = body + sum(sizes)
    if end > stop or len(sizes) < head[26]:
        return None
    page = head[:22] + bytes(4) + bytes(data[place + 26 : end])
    if _checksum(page) != little(head, 22, 4):
        return None
    position = little(head, 6, 8)
    finished = bool(sizes) and min(sizes) < 255 and position != _NO_POSITION
    return _Page(little(head, 14, 4), head[5], position if finished else None, sizes, body, end)


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


def _track(serial: int, packet: bytes) -> _Track | None:
    """From a stream's first packet; None if it is no audio."""
    if packet[:7] == b"\x01vorbis" and len(packet) >= 30:
        sizes = 1 << (packet[28] & 15), 1 << (packet[28] >> 4)
        rate = max(little(packet, 12, 4), 1)
        return _Track(serial, "vorbis", rate, sizes[1] // 2, headers=2, sizes=sizes)
    if packet[:8] == b"OpusHead" and len(packet) >= 19:
        return _Track(serial, "opus", 48_000, 5760, little(packet, 10, 2))
    if packet[:5] == b"\x7fFLAC" and len(packet) >= 31:
        # STREAMINFO begins at 17
        return _Track(
            serial, "oggflac", max(big(packet, 27, 3) >> 4, 1), big(packet, 19, 2), samples=None
        )
    if packet[:8] == b"Speex   " and len(packet) >= 68:
        block = little(packet, 56, 4) * max(little(packet, 64, 4), 1)
        return _Track(serial, "speex", max(little(packet, 36, 4), 1), block)
    return None
