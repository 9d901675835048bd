"""FLAC: frame headers with their checksums and numbers. RFC 9639."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from extract.audio.containers.stream import Data, Stream, big, find

_BLOCKS = {1: 192, **{i: 576 << (i - 2) for i in range(2, 6)}, **{i: 1 << i for i in range(8, 16)}}
_MARK = re.compile(rb"\xff[\xf8\xf9]")  # of a frame
_CRC8 = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte << 1) ^ (0x07 if _byte & 0x80 else 0)
    _CRC8.append(_byte & 0xFF)


class _Frame(NamedTuple):
    place: int
    first: int  # sample
    samples: int


def scan(data: Data, start: int, stop: int) -> Iterator[Stream]:
    """The stream that begins at `start`, and those that follow it at once."""
    while start < stop and data[start : start + 4] == b"fLaC" and _is_info(data, start + 4):
        end = _next_stream(data, start + 42, stop)
        yield _scan_one(data, start, end)
        start = end


def _is_info(data: Data, place: int) -> bool:
    return data[place] & 0x7F == 0 and big(data, place + 1, 3) == 34


def _next_stream(data: Data, start: int, stop: int) -> int:
    place = start
    while (place := find(data, b"fLaC", place, stop - 42)) >= 0:
        if _is_info(data, place + 4):
            return place
        place += 4
    return stop


def _scan_one(data: Data, start: int, stop: int) -> Stream:
    block, packed = big(data, start + 10, 2), big(data, start + 18, 8)
    rate, total = max(packed >> 44, 1), packed & ((1 << 36) - 1)  # 0 samples: unknown
    channels, bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    largest = block * channels * (bits + 1) // 8 + 1024  # what does not shrink is stored as it is
    frames = list(_chain(list(_candidates(data, _after_metadata(data, start, stop), stop, block))))
    held = sum(frame.samples for frame in frames)
    end = frames[-1].first + frames[-1].samples if frames else 0
    after = max(0, stop - frames[-1].place - largest) if frames else 0
    if after and not any(bytes(data[stop - after : stop])) and held >= total:
        after = 0  # padding
    lost = max(0, end - held) / rate + after / (stop - start) * held / rate
    return Stream(
        "flac",
        start,
        stop,
        held / rate,
        1.5 * max(block, 16) / rate,
        total / rate if total else None,
        lost,
        f"{len(frames)} FLAC frames",
    )


def _after_metadata(data: Data, start: int, stop: int) -> int:
    place, last = start + 4, False
    while not last and place + 4 <= stop:
        last = bool(data[place] & 0x80)
        after = place + 4 + big(data, place + 1, 3)
        if data[place] & 0x7F > 6 or after > stop:  # damaged: frames are looked for from here on
            return place
        place = after
    return place


def _candidates(data: Data, start: int, stop: int, block: int) -> Iterator[_Frame]:
    """Everything that looks like a frame header, checksum included."""
    place = start
    while mark := _MARK.search(data, place, stop):
        frame = _parse(bytes(data[mark.start() : mark.start() + 18]), mark.start(), block)
        if frame is not None:
            yield frame
        place = mark.end()


def _parse(head: bytes, place: int, block: int) -> _Frame | None:
    if len(head) < 6 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    block_code, rate_code = head[2] >> 4, head[2] & 15
    if block_code == 0 or rate_code == 15:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # leading ones: the number's length, as in UTF-8
    length = max(ones, 1)
    if ones == 1 or ones == 8 or len(head) < 4 + length + 5:
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 4 + length]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    place_of_size = 4 + length
    extra = {6: 1, 7: 2}.get(block_code, 0)
    samples = _BLOCKS.get(block_code) or big(head, place_of_size, extra) + 1
    end = place_of_size + extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    crc = 0
    for byte in head[:end]:
        crc = _CRC8[crc ^ byte]
    if crc != head[end]:
        return None
    first = number if head[1] & 1 else number * block
    return _Frame(place, first, samples)


def _chain(candidates: list[_Frame]) -> Iterator[_Frame]:
    """Frames that follow each other; over a gap, only where two that fit come next."""
    expected = 0
    for index, frame in enumerate(candidates):
        fits = frame.first == expected
        if not fits and frame.first > expected and index + 1 < len(candidates):
            follower = frame.first + frame.samples
            fits = any(later.first == follower for later in candidates[index + 1 : index + 4])
        if fits:
            yield frame
            expected = frame.first + frame.samples
