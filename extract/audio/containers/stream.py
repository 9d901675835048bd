"""What a container scanner reports, and what all scanners need: tags, and reading integers."""

import mmap
from dataclasses import dataclass

Data = bytes | mmap.mmap
_MAGIC = (b"OggS", b"fLaC", b"RIFF", b"RF64", b"BW64", b"FORM", b"riff")
MP4 = (b"ftyp", b"moov", b"mdat", b"wide")


@dataclass(frozen=True)
class Stream:
    """One stream of audio in a file, as counted from its bytes, before anything is decoded.

    start, stop: its bytes in the file, which a decoder can read alone. seconds: what the bytes
    hold. slack: seconds by which a correct decoder may differ (encoder delay, a frame or two).
    promised: seconds that the header states, None where it states nothing. lost: seconds under
    bytes that are neither audio nor tags, by the mean byte rate. counted: what was counted, in
    words. cut: why the stream is known to end too early, or empty. note: what is odd but harmless.
    """

    container: str
    start: int
    stop: int
    seconds: float
    slack: float
    promised: float | None = None
    lost: float = 0.0
    counted: str = ""
    cut: str = ""
    note: str = ""


def big(data: Data, place: int, size: int) -> int:
    """An unsigned big-endian integer."""
    return int.from_bytes(data[place : place + size], "big")


def little(data: Data, place: int, size: int) -> int:
    """An unsigned little-endian integer."""
    return int.from_bytes(data[place : place + size], "little")


def find(data: Data, what: bytes, start: int, stop: int) -> int:
    """The first place of `what` that begins in [start, stop), or -1."""
    return data.find(what, start, min(stop + len(what) - 1, len(data)))


def begins_file(data: Data, place: int) -> bool:
    """Does a file begin at `place` whose kind its first bytes name?"""
    return data[place : place + 4] in _MAGIC or data[place + 4 : place + 8] in MP4


def after_tag(data: Data, place: int, stop: int) -> int:
    """The end of the tag that begins at `place`: ID3v2, ID3v1, APE, Lyrics3. `place` if none does.

    A size that leads beyond `stop` is no size: such a tag ends where it begins.
    """
    head = data[place : place + 32]
    end = place
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128 and head[3] < 0xFF:
        size = (head[6] << 21) | (head[7] << 14) | (head[8] << 7) | head[9]
        end = place + 10 + size + (10 if head[5] & 0x10 else 0)
    elif head[:8] == b"APETAGEX" and len(head) == 32:
        is_header = bool(little(head, 20, 4) & 0x20000000)
        end = place + 32 + (little(head, 12, 4) if is_header else 0)
    elif head[:4] == b"TAG+":
        end = place + 227
    elif head[:3] == b"TAG":
        end = place + 128
    elif head[:11] == b"LYRICSBEGIN":
        footer = max(
            find(data, mark, place, min(place + 1_000_000, stop))
            for mark in (b"LYRICS200", b"LYRICSEND")
        )
        end = footer + 9 if footer >= 0 else place
    return end if end <= stop else place


def before_tail_tags(data: Data, start: int, stop: int) -> int:
    """The end of the audio: `stop` without the tags that end there (ID3v1, APE, Lyrics3)."""
    while True:
        if stop - start >= 128 and data[stop - 128 : stop - 125] == b"TAG":
            stop -= 128
        elif stop - start >= 32 and data[stop - 32 : stop - 24] == b"APETAGEX":
            size, flags = little(data, stop - 20, 4), little(data, stop - 12, 4)
            size += 32 if flags & 0x80000000 else 0  # it has a header, which size leaves out
            if not 32 <= size <= stop - start:
                return stop
            stop -= size
        elif stop - start >= 15 and data[stop - 9 : stop] == b"LYRICS200":
            digits = bytes(data[stop - 15 : stop - 9])
            if not digits.isdigit() or int(digits) + 15 > stop - start:
                return stop
            stop -= int(digits) + 15
        else:
            return stop
