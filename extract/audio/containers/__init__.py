"""What a file holds, counted from its bytes: `survey`."""

from collections.abc import Iterable
from dataclasses import replace

from extract.audio.containers import flac, mp4, mpeg, ogg, wave
from extract.audio.containers.stream import (
    MP4,
    Data,
    Stream,
    after_tag,
    before_tail_tags,
    begins_file,
)

# Matroska, ASF, Sun, CAF, MPEG programme and transport streams, Flash: they may hold frames of MPEG
# audio in pieces
_NOT_COUNTED = (b"\x1aE\xdf\xa3", b"0&\xb2u", b".snd", b"caff", b"\0\0\1\xba", b"G", b"FLV")

__all__ = ["Data", "Stream", "survey"]


def survey(data: Data) -> tuple[Stream, ...]:
    """The streams of audio in a file, in order; none if it is of a kind that is not counted here.

    Several where files were joined. Bytes after a stream that nothing explains are its loss.
    """
    start, stop = 0, before_tail_tags(data, 0, len(data))
    streams: list[Stream] = []
    while start < stop:
        after = _end_of_tag(data, start, stop)
        if after > start:
            start = after
            continue
        found = list(_scan(data, start, stop))
        if found:
            streams += found
            start = max(found[-1].stop, start + 1)
            continue
        if streams:
            streams[-1] = _with_loss(data, streams[-1], stop)
        break
    return tuple(streams)


def _end_of_tag(data: Data, start: int, stop: int) -> int:
    """The end of a tag, or `start`. A size that leads over frames of audio is wrong."""
    after = after_tag(data, start, stop)
    if after == start or after >= stop or _known(data, after):
        return after
    return mpeg.first_frame(data, start + 10, after)


def _known(data: Data, place: int) -> bool:
    return (
        begins_file(data, place)
        or after_tag(data, place, len(data)) > place
        or mpeg.parse_header(bytes(data[place : place + 7])) is not None
    )


def _scan(data: Data, start: int, stop: int) -> Iterable[Stream]:
    head = bytes(data[start : start + 16])
    if head[:4] == b"OggS":
        return ogg.scan(data, start, stop)
    if head[:4] == b"fLaC":
        return flac.scan(data, start, stop)
    if head[4:8] in MP4:
        return mp4.scan(data, start, stop)
    if begins_file(data, start) or head.startswith(_NOT_COUNTED):
        return wave.scan(data, start, stop)
    return mpeg.scan(data, start, stop)


def _with_loss(data: Data, stream: Stream, stop: int) -> Stream:
    """The stream, with the bytes from its end to `stop` as lost audio, unless they are padding."""
    rest = stop - stream.stop
    complete = stream.promised is not None and abs(stream.promised - stream.seconds) <= stream.slack
    if complete and not any(bytes(data[stream.stop : stop])):
        return stream
    rate = (stream.stop - stream.start) / max(stream.seconds, 1e-3)
    return replace(stream, stop=stop, lost=stream.lost + rest / rate)
