"""MPEG audio (MP1, MP2, MP3) and ADTS (AAC): frames counted one by one.

Headers: ISO/IEC 11172-3, 13818-3, 13818-7. Xing, Info and LAME: the LAME project's tag
specification; VBRI: Fraunhofer's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from extract.audio.containers.stream import Data, Stream, after_tag, begins_file, big, find

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS_V1 = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),  # layer I
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_KBPS_V2 = (
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_ADTS_RATES = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000),
    *(22_050, 16_000, 12_000, 11_025, 8_000, 7_350),
)
_IN_A_ROW = 3  # headers that follow each other before a frame is believed
_GAP_FRAMES = 2  # a decoder may lose them, or make them up, at a place where bytes are missing


@dataclass(frozen=True)
class Format:
    """What does not change inside a stream. samples: per frame and channel. rate: Hz."""

    name: str
    samples: int
    rate: int
    channels: int
    xing: int  # offset of a Xing header in a frame; 0 where there is none


@dataclass(frozen=True)
class _Header:
    """Of a Xing, Info or VBRI frame. frames, size (bytes): 0 where it does not say."""

    frames: int
    size: int
    trimmed: int  # samples of encoder delay and padding


def parse_header(head: bytes) -> tuple[Format, int] | None:
    """(format, size of the frame in bytes) of a frame's first bytes, or None if they begin none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    if layer == 4:
        return _parse_adts(head)
    bitrate, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or rate_index == 3 or not 0 < bitrate < 15 or head[3] & 3 == 2:
        return None
    rate = _RATES[version][rate_index]
    kbps = (_KBPS_V1 if version == 3 else _KBPS_V2)[layer - 1][bitrate - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    slot = 4 if layer == 1 else 1
    size = (samples // 8 // slot * kbps * 1000 // rate + padding) * slot
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    xing = 4 + side if layer == 3 else 0
    return Format(f"mp{layer}", samples, rate, 1 if mono else 2, xing), size


def _parse_adts(head: bytes) -> tuple[Format, int] | None:
    if len(head) < 7 or head[1] & 0xF6 != 0xF0:
        return None
    rate_index = head[2] >> 2 & 15
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if rate_index >= len(_ADTS_RATES) or size < 8:
        return None
    channels = (head[2] & 1) << 2 | head[3] >> 6
    samples = 1024 * ((head[6] & 3) + 1)
    return Format("aac", samples, _ADTS_RATES[rate_index], channels, 0), size


def scan(data: Data, start: int, stop: int) -> Iterator[Stream]:
    """The streams from `start`, where one may begin, on; nothing if no frames are found.

    A stream ends where the format changes, where a Xing header says that another file begins, or
    where a file of another kind does.
    """
    place = first_frame(data, start, stop)
    stray = place - start
    while place < stop and not begins_file(data, place):
        stream = _scan_one(data, place, stop, stray)
        place, stray = stream.stop, 0
        yield stream


@dataclass
class _Count:
    frames: int = 0
    audio: int = 0  # bytes
    stray: int = 0  # bytes that are neither frames nor tags
    gaps: int = 0


def _scan_one(data: Data, start: int, stop: int, stray: int) -> Stream:
    """The stream whose first frame is at `start`; the next one begins where it stops."""
    first = parse_header(bytes(data[start : start + 7]))
    assert first is not None
    form, size = first
    header = _vbr_header(data, start, form, size)
    next_header = _next_vbr_header(data, start + size, stop)
    count = _Count(stray=stray)
    if header is None:
        count.frames, count.audio = 1, size
    place = start + size
    sizes: dict[bytes, int] = {}  # of frames by their first bytes; 0: another format, or none
    width = 7 if form.name == "aac" else 4
    while place < stop:
        head = data[place : place + width]
        if head not in sizes:
            parsed = parse_header(head)
            sizes[head] = parsed[1] if parsed is not None and parsed[0] == form else 0
        size = sizes[head]
        if size:
            if next_header < place + size:
                if _vbr_header(data, place, form, size) is not None:
                    break
                next_header = _next_vbr_header(data, place + size, stop)
            if place + size > stop:  # the last frame is cut
                place = stop
                break
            count.frames += 1
            count.audio += size
            place += size
            continue
        after = after_tag(data, place, stop)
        if after > place and _lands(data, after, stop):
            place = after
            continue
        if begins_file(data, place) or _begins(data, place, stop):
            break  # another format: another stream
        found = first_frame(data, place + 1, stop)
        count.stray += found - place
        count.gaps += 1
        place = found
    return _stream(start, place, form, header, count)


def _stream(start: int, stop: int, form: Format, header: _Header | None, count: _Count) -> Stream:
    frame, size = form.samples / form.rate, stop - start
    seconds, promised = count.frames * frame, None
    lost = count.stray / max(count.audio, 1) * seconds
    if header is not None and header.frames:
        missing = header.frames - count.frames
        if abs(missing) <= 1:  # all there: what lies between is no audio
            seconds = promised = header.frames * frame - header.trimmed / form.rate
            lost = 0.0
        elif missing > 0 and abs(header.size - size) > 0.01 * size:
            # if its bytes were there, its number of frames would be a slip
            promised = header.frames * frame
    slack = frame * (2.5 + _GAP_FRAMES * count.gaps)
    word = "ADTS" if form.name == "aac" else "MPEG"
    return Stream(
        form.name,
        start,
        stop,
        max(seconds, 0.0),
        slack,
        promised,
        lost,
        f"{count.frames} {word} frames",
    )


def _begins(data: Data, place: int, stop: int) -> bool:
    """Do frames of one format follow each other from `place` on, to the end if it is near?"""
    form = None
    for seen in range(_IN_A_ROW):
        if seen and (place == stop or after_tag(data, place, stop) > place):
            return True
        if seen > 1 and place > stop:
            return True
        parsed = parse_header(bytes(data[place : place + 7]))
        if parsed is None or (form is not None and parsed[0] != form):
            return False
        form = parsed[0]
        place += parsed[1]
    return True


def _lands(data: Data, place: int, stop: int) -> bool:
    """Does something known, or the end, follow a tag? Otherwise its size is wrong."""
    return (
        place >= stop
        or after_tag(data, place, stop) > place
        or _begins(data, place, stop)
        or begins_file(data, place)
    )


def first_frame(data: Data, start: int, stop: int) -> int:
    """Where the first frame at or after `start` begins, `stop` if nowhere."""
    place = start
    while (place := find(data, b"\xff", place, stop)) >= 0:
        if place + 1 < stop and data[place + 1] & 0xE0 == 0xE0 and _begins(data, place, stop):
            return place
        place += 1
    return stop


def _next_vbr_header(data: Data, start: int, stop: int) -> int:
    """Where the next letters of a VBR header stand, `stop` if nowhere."""
    places = [find(data, mark, start, stop) for mark in (b"Xing", b"Info", b"VBRI")]
    return min((place for place in places if place >= 0), default=stop)


def _vbr_header(data: Data, place: int, form: Format, size: int) -> _Header | None:
    """The Xing, Info or VBRI header of the frame at `place`, if it is such a frame."""
    if not form.xing:
        return None
    frame = bytes(data[place : place + size])
    if frame[36:40] == b"VBRI":
        return _Header(big(frame, 50, 4), big(frame, 46, 4), 0)
    for offset in (form.xing, form.xing + 2):  # a checksum may come before it
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            return _parse_xing(frame, offset, form)
    return None


def _parse_xing(frame: bytes, offset: int, form: Format) -> _Header:
    flags, place = big(frame, offset + 4, 4), offset + 8
    values = [0, 0, 0, 0]  # frames, bytes, table of contents, quality: those that its flags say
    for index, size in enumerate((4, 4, 100, 4)):
        if flags >> index & 1:
            values[index] = big(frame, place, size)
            place += size
    trimmed = 0
    if frame[place : place + 4] in (b"LAME", b"Lavf", b"Lavc"):
        both = big(frame, place + 21, 3)
        trimmed = (both >> 12) + (both & 0xFFF)
    return _Header(values[0], values[1], trimmed if trimmed < 8 * form.samples else 0)
