"""WAV, RF64, BW64, Sony Wave64 and AIFF: chunks, and the sizes that headers only claim.

Microsoft's and IBM's RIFF; EBU Tech 3306; Apple's AIFF-C.
"""

from collections.abc import Iterator
from dataclasses import replace

from extract.audio.containers.stream import Data, Stream, begins_file, big, little

_UNKNOWN = 0x7FFF_0000  # and above: sizes of writers that could not go back to correct them
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_PLAIN = (1, 3, 6, 7)  # PCM, floating point, A-law, µ-law
_ADPCM = (2, 0x11)
_AIFF_PLAIN = (b"NONE", b"SOWT", b"TWOS", b"FL32", b"FL64", b"IN24", b"IN32")


def scan(data: Data, start: int, stop: int) -> list[Stream]:
    """The file that begins at `start`: one stream, or none."""
    head = bytes(data[start : start + 12])
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wave(data, "wav", start, stop)
    if data[start : start + 16] == _W64:
        return _wave(data, "w64", start, stop)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(data, start, stop)
    return []


def _chunks(data: Data, container: str, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, size, where its content begins) of the chunks of the file that begins at `start`."""
    place, head = (start + 40, 24) if container == "w64" else (start + 12, 8)
    while place + head <= stop:
        name, body = bytes(data[place : place + 4]), place + head
        if container == "w64":
            size = little(data, place + 16, 8) - head
            if data[place + 4 : place + 16] != _W64_TAIL or size < 0:
                return
        else:
            size = (big if container == "aiff" else little)(data, place + 4, 4)
        yield name, size, body
        place = body + size + -size % (8 if container == "w64" else 2)


def _wave(data: Data, container: str, start: int, stop: int) -> list[Stream]:
    second, long_size = 0.0, None
    for name, size, body in _chunks(data, container, start, stop):
        if name == b"ds64":
            long_size = little(data, body + 8, 8)
        elif name == b"fmt ":
            second = _bytes_per_second(data, body, size)
        elif name == b"data":
            if size == 0xFFFFFFFF and long_size is not None:
                size = long_size
            return _stream(container, data, start, stop, body, size, second)
    return []


def _bytes_per_second(data: Data, body: int, size: int) -> float:
    """By a `fmt ` chunk; 0 where blocks do not say how many samples they hold."""
    code, rate, block = (
        little(data, body, 2),
        little(data, body + 4, 4),
        little(data, body + 12, 2),
    )
    if code == 0xFFFE and size >= 40:
        code = little(data, body + 24, 2)
    samples = 1 if code in _PLAIN else little(data, body + 18, 2) if code in _ADPCM else 0
    return rate * block / samples if samples else 0.0


def _aiff(data: Data, start: int, stop: int) -> list[Stream]:
    stated, second = 0.0, 0.0
    for name, size, body in _chunks(data, "aiff", start, stop):
        if name == b"COMM":
            block = big(data, body, 2) * ((big(data, body + 6, 2) + 7) // 8)
            rate = _extended(bytes(data[body + 8 : body + 18]))
            stated = big(data, body + 2, 4) / max(rate, 1)
            kind = bytes(data[body + 18 : body + 22]) if size >= 22 else b"NONE"
            second = float(rate * block) if kind.upper() in _AIFF_PLAIN else 0.0
        elif name == b"SSND":
            found = _stream("aiff", data, start, stop, body + 8, max(size - 8, 0), second)
            return [replace(one, promised=max(one.promised or 0.0, stated)) for one in found]
    return []


def _extended(data: bytes) -> int:
    """An 80-bit IEEE float, rounded: AIFF's sample rate."""
    exponent, mantissa = big(data, 0, 2) - 16383 - 63, big(data, 2, 8)
    return mantissa >> -exponent if exponent < 0 else 0


def _stream(
    container: str,
    data: Data,
    start: int,
    stop: int,
    body: int,
    size: int,
    second: float,
) -> list[Stream]:
    """From the place and the claimed size of the samples, and bytes per second; none if nobody can
    count them here.
    """
    if not second:
        return []
    there = stop - body
    empty = size == 0 and _after_chunks(data, container, body, stop) >= stop
    unknown = (size == 0 and not empty) or (size >= _UNKNOWN and size > there)
    held = there if unknown else min(size, there)
    end = stop if unknown else _after_chunks(data, container, body + held, stop)
    note = f"its header gives {size} bytes of samples; all that follow were taken"
    stream = Stream(
        container,
        start,
        end,
        held / second,
        0.002,
        None if unknown else size / second,
        counted=f"{held} bytes of samples",
        note=note if unknown and held else "",
    )
    return [stream]


def _after_chunks(data: Data, container: str, place: int, stop: int) -> int:
    """The end of the chunks that follow the samples; anything else is left to the caller."""
    if container == "w64":
        place += -place % 8 if place < stop else 0
        while place + 24 <= stop and bytes(data[place + 4 : place + 16]) == _W64_TAIL:
            place += max(little(data, place + 16, 8), 24)
            place += -place % 8
        return min(place, stop)
    read = big if container == "aiff" else little
    place += place % 2 if place < stop and data[place] == 0 else 0
    while place + 8 <= stop:
        name, size = bytes(data[place : place + 4]), read(data, place + 4, 4)
        is_name = name.isascii() and name.decode().isprintable()
        if begins_file(data, place) or not is_name or place + 8 + size > stop + 1:
            break
        place += 8 + size + size % 2
    return min(place, stop)
