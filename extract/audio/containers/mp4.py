"""MP4, M4A, MOV: sample tables and fragments of the first audio track. ISO/IEC 14496-12."""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from extract.audio.containers.stream import Data, Stream, big

_TOP = (
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"udta", b"meta", b"moof"),
    *(b"sidx", b"styp", b"mfra", b"pnot", b"prft", b"emsg", b"ssix"),
)
_FRAMES = 4  # of 2048 samples: priming, padding and a decoder's delay


@dataclass(frozen=True)
class _Box:
    name: bytes
    body: int
    end: int
    whole: bool  # all its bytes are in the file


@dataclass
class _Track:
    id: int
    scale: int  # units per second
    duration: int  # that the header states, in these units
    edited: float  # seconds by the edit list; 0: all
    held: int = 0  # units of samples whose bytes are in the file
    samples: int = 0
    missing: int = 0  # samples


def scan(data: Data, start: int, stop: int) -> Iterator[Stream]:
    """The file that begins at `start`: its first audio track, or nothing."""
    boxes = list(_boxes(data, start, stop, top=True))
    end = boxes[-1].end if boxes else start
    movie = next((box for box in boxes if box.name == b"moov" and box.whole), None)
    if movie is None:
        return
    track = _audio_track(data, movie, start, stop)
    if track is None:
        return
    default = _default_duration(data, movie, track.id)
    for box in boxes:
        if box.name == b"moof" and box.whole:
            _take_fragment(data, box, track, default)
    cut = next((box for box in boxes if not box.whole), None)
    missing = f"; {track.missing} lie beyond its end" if track.missing else ""
    stated = track.edited or track.duration / track.scale
    held = track.held / track.scale
    seconds = min(held, track.edited) if track.edited else held
    yield Stream(
        "mp4",
        start,
        min(end, stop),
        seconds,
        _FRAMES * 2048 / max(track.scale, 8000),
        stated or None,
        counted=f"{track.samples} MP4 samples{missing}",
        cut=f"its last box, {cut.name.decode('latin-1')}, is cut" if cut else "",
    )


def _boxes(data: Data, start: int, stop: int, top: bool = False) -> Iterator[_Box]:
    place, first = start, True
    while place + 8 <= stop:
        size, name, body = big(data, place, 4), bytes(data[place + 4 : place + 8]), place + 8
        if size == 1:
            size, body = big(data, place + 8, 8), place + 16
        elif size == 0:
            size = stop - place
        if size < body - place or (top and (name not in _TOP or (name == b"ftyp" and not first))):
            return
        yield _Box(name, body, min(place + size, stop), place + size <= stop)
        place, first = place + size, False


def _child(data: Data, box: _Box, *path: bytes) -> _Box | None:
    for name in path:
        found = next((b for b in _boxes(data, box.body, box.end) if b.name == name), None)
        if found is None:
            return None
        box = found
    return box


def _audio_track(data: Data, movie: _Box, start: int, stop: int) -> _Track | None:
    header = _child(data, movie, b"mvhd")
    scale = _scale_and_duration(data, header)[0] if header else 1
    for box in _boxes(data, movie.body, movie.end):
        handler = _child(data, box, b"mdia", b"hdlr") if box.name == b"trak" else None
        if handler is not None and data[handler.body + 8 : handler.body + 12] == b"soun":
            return _track(data, box, scale, start, stop)
    return None


def _scale_and_duration(data: Data, box: _Box) -> tuple[int, int]:
    """Of an mvhd or mdhd; an unknown duration is 0."""
    size = 8 if data[box.body] == 1 else 4
    place = box.body + 4 + 2 * size  # behind two dates
    scale, duration = big(data, place, 4), big(data, place + 4, size)
    return max(scale, 1), 0 if duration == (1 << 8 * size) - 1 else duration


def _track(data: Data, box: _Box, movie_scale: int, start: int, stop: int) -> _Track | None:
    media, table = _child(data, box, b"mdia", b"mdhd"), _child(data, box, b"mdia", b"minf", b"stbl")
    header = _child(data, box, b"tkhd")
    if media is None or table is None:
        return None
    edits = _child(data, box, b"edts", b"elst")
    track = _Track(
        big(data, header.body + (20 if data[header.body] == 1 else 12), 4) if header else 0,
        *_scale_and_duration(data, media),
        edited=_edited(data, edits) / movie_scale if edits else 0.0,
    )
    _take_table(data, table, track, start, stop)
    return track


def _entries(data: Data, box: _Box, form: str, begin: int = 8) -> list[tuple[int, ...]]:
    """The rows of a table from byte `begin` of the box on, by `struct`'s form: as many as the
    number before them says, or as there are.
    """
    size = struct.calcsize(form)
    first = box.body + begin
    count = min(big(data, first - 4, 4), max(box.end - first, 0) // size)
    return list(struct.iter_unpack(form, data[first : first + count * size]))


def _edited(data: Data, box: _Box) -> int:
    """Units of the movie's scale that the edit list plays; 0 means the whole track."""
    form = ">QqI" if data[box.body] == 1 else ">IiI"
    # the time -1 is an empty edit: nothing is played
    return sum(duration for duration, time, _ in _entries(data, box, form) if time != -1)


def _take_table(data: Data, table: _Box, track: _Track, start: int, stop: int) -> None:
    """Count the samples of stts, and of these the ones whose bytes are there."""
    boxes = {box.name: box for box in _boxes(data, table.body, table.end)}
    times, sizes, chunks = boxes.get(b"stts"), boxes.get(b"stsz"), boxes.get(b"stsc")
    offsets = boxes.get(b"stco") or boxes.get(b"co64")
    if times is None or sizes is None or chunks is None or offsets is None:
        return
    present = _present(data, sizes, chunks, offsets, start, stop)
    for count, delta in _entries(data, times, ">II"):
        found = list(itertools.islice(present, count))
        track.held += sum(found) * delta
        track.samples += sum(found)
        track.missing += len(found) - sum(found)


def _present(
    data: Data, sizes: _Box, chunks: _Box, offsets: _Box, start: int, stop: int
) -> Iterator[bool]:
    """Is each sample's last byte in the file?"""
    same, count = big(data, sizes.body + 4, 4), big(data, sizes.body + 8, 4)
    lengths = iter(
        itertools.repeat(same, min(count, stop - start))
        if same
        else [size for (size,) in _entries(data, sizes, ">I", 12)]
    )
    runs = _entries(data, chunks, ">III")
    form = ">Q" if offsets.name == b"co64" else ">I"
    for number, (offset,) in enumerate(_entries(data, offsets, form), 1):
        while len(runs) > 1 and runs[1][0] <= number:
            runs.pop(0)
        place = start + offset
        for length in itertools.islice(lengths, runs[0][1] if runs else 0):
            place += length
            yield place <= stop


def _default_duration(data: Data, movie: _Box, track_id: int) -> int:
    extends = _child(data, movie, b"mvex")
    boxes = _boxes(data, extends.body, extends.end) if extends else iter(())
    of_track = (b for b in boxes if b.name == b"trex" and big(data, b.body + 4, 4) == track_id)
    return next((big(data, box.body + 12, 4) for box in of_track), 0)


def _take_fragment(data: Data, moof: _Box, track: _Track, default: int) -> None:
    """Add a fragment's samples; their bytes follow it, in an mdat that must be whole."""
    for part in _boxes(data, moof.body, moof.end):
        header = _child(data, part, b"tfhd") if part.name == b"traf" else None
        if header is None or big(data, header.body + 4, 4) != track.id:
            continue
        flags, place = big(data, header.body + 1, 3), header.body + 8
        place += (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
        duration = big(data, place, 4) if flags & 8 else default
        for run in _boxes(data, part.body, part.end):
            if run.name == b"trun":
                count, units = _run(data, run, duration)
                track.samples += count
                track.held += units


def _run(data: Data, run: _Box, default: int) -> tuple[int, int]:
    """(samples, their units) of a trun."""
    flags, count = big(data, run.body + 1, 3), big(data, run.body + 4, 4)
    place = run.body + 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    step = 4 * sum(bool(flags & flag) for flag in (0x100, 0x200, 0x400, 0x800))
    if not flags & 0x100:
        return count, count * default
    count = min(count, (run.end - place) // step)
    return count, sum(big(data, place + step * index, 4) for index in range(count))
