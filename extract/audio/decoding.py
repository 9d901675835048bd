"""Decode, down-mix, resample: an audio file → mono float32 at a rate in Hz, all of it or a reason.

What a file holds is counted from its bytes first (`extract.audio.containers`), and what is decoded
must agree to a frame or two of the codec: soundfile is tried, then PyAV (`extract.audio.readers`).
A file that holds less than its header states, or bytes that are neither audio nor tags, is
truncated; so is one that neither decoder gets whole. Files joined end to end are decoded one after
the other, each at its own rate.

Channels are averaged; soxr resamples at quality HQ. Samples keep the file's scale: integers map to
[-1, 1), floating point stays as it is, and so does a DC offset. Everything streams in blocks, so
memory does not grow with the length of a file.
"""

import contextlib
import importlib.metadata
import mmap
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from extract.audio import samples as stages
from extract.audio.containers import Data, Stream, survey
from extract.audio.readers import (
    EXACT_SEEK,
    READERS,
    AudioError,
    Block,
    ByteRange,
    Tally,
    packets_of,
    reason,
)
from extract.audio.truth import (
    Held,
    Part,
    allowed_loss,
    check_part,
    disagreement,
    held,
    held_by_packets,
)
from extract.errors import InputError
from extract.files import is_disk_full

Source = str | Path | bytes | IO[bytes]
ACCEPTED = "truncated, accepted"  # how the note on such a clip begins


class Decoded(NamedTuple):
    """A clip. samples: float32 `[sample]`. seconds: decoded of it; promised: that its file, or the
    manifest, says it has. decoder: the one that made it. digest: SHA-256 of the mono samples at the
    file's own rate. notes: what is odd about it, each a sentence.
    """

    samples: np.ndarray
    seconds: float
    promised: float
    decoder: str
    digest: bytes
    notes: tuple[str, ...] = ()


def decode(
    path: Source,
    sample_rate: int,
    scratch: Path | None = None,
    start: float | None = None,
    duration: float | None = None,
    on_truncated: str = "fail",
) -> np.ndarray:
    """The file as float32 `[sample]`, at least one, at `sample_rate` Hz: see `decode_clip`."""
    return decode_clip(path, sample_rate, scratch, start, duration, on_truncated).samples


def decode_clip(
    path: Source,
    sample_rate: int,
    scratch: Path | None = None,
    start: float | None = None,
    duration: float | None = None,
    on_truncated: str = "fail",
) -> Decoded:
    """A file, its bytes or a file object, or its part from `start` on for `duration` (seconds).

    With a directory `scratch`, a long clip comes as a read-only memory map of a file there, for the
    caller to delete. on_truncated: `fail`, or `accept` what is left. Raises AudioError with the
    reason, or OSError if the disk of `scratch` is full.
    """
    part = Part(start or 0.0, duration)
    try:
        with _opened(path) as (data, name):
            return _decode(data, name, part, sample_rate, scratch, on_truncated == "accept")
    except AudioError:
        raise
    except OSError as error:
        if is_disk_full(error):
            raise
        raise AudioError(error.strerror or str(error)) from error
    except Exception as error:  # scanners and decoders meet all kinds of damage
        raise AudioError(f"{type(error).__name__}: {error}") from error


def count_seconds(path: Source) -> float:
    """Seconds of audio that a file holds, counted as for `decode_clip`. Raises AudioError if nobody
    can say, and OSError.
    """
    with _opened(path) as (data, _):
        try:
            total = _held(data, survey(data))
        except Exception as error:  # scanners and decoders meet all kinds of damage
            raise AudioError(f"{type(error).__name__}: {error}") from error
    if not total.seconds:
        raise AudioError("holds no audio, or does not say how much")
    return total.seconds


def provenance() -> dict[str, Any]:
    """Versions of everything between the file and the samples. Raises InputError if something is
    missing.
    """
    try:
        import av
        import soundfile

        packages = {name: importlib.metadata.version(name) for name in ("soundfile", "soxr", "av")}
    except ImportError as error:
        raise InputError(
            f"{error}; decoding audio needs: pip install 'fsprobe[extract]'"
        ) from error
    return {
        **packages,
        "libsndfile": soundfile.__libsndfile_version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "resampler": f"soxr {stages.QUALITY}",
    }


@contextlib.contextmanager
def _opened(path: Source) -> Iterator[tuple[Data, str | None]]:
    """The bytes, mapped where they are a file's, and the file's absolute path."""
    if not isinstance(path, str | Path):
        data = path if isinstance(path, bytes) else path.read()
        if not data:
            raise AudioError("empty file (0 bytes)")
        yield data, None
        return
    with Path(path).open("rb") as file:
        if file.seek(0, 2) == 0:
            raise AudioError("empty file (0 bytes)")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped, str(Path(path).absolute())


def _decode(
    data: Data, name: str | None, part: Part, sample_rate: int, scratch: Path | None, accept: bool
) -> Decoded:
    streams = survey(data)
    total = _held(data, streams)
    if total.fault and not accept:
        raise AudioError(f"truncated: {total.fault}")
    check_part(part, total, accept)
    faults: list[str] = []
    attempts: list[Decoded] = []
    for decoder in READERS:
        tally, measure = Tally(), stages.Measure()
        try:
            blocks = _blocks(decoder, data, name, streams, part, tally)
            array = _array(blocks, part, tally, measure, sample_rate, scratch)
        except Exception as error:  # decoders raise all kinds of things at damaged files
            if is_disk_full(error):
                raise
            faults.append(f"{decoder}: {reason(error)}")
            continue
        fault = disagreement(measure.decoded, measure.stopped, tally, total)
        promised = part.duration or max(total.promised - part.start, 0) or measure.taken
        notes = (
            *(stream.note for stream in streams if stream.note),
            *measure.notes(tally.floating),
        )
        found = Decoded(array, measure.taken, promised, decoder, measure.digest.digest(), notes)
        if not fault and not total.fault:
            for attempt in attempts:
                stages.discard(attempt.samples)
            counted = accept or total.seconds is not None  # `check_part` has let it pass
            return found if part.duration is None else _complete(found, part.duration, counted)
        faults.append(f"{decoder} {fault}" if fault else total.fault)
        attempts.append(found)
    return _truncated(attempts, faults, total, accept)


def _held(data: Data, streams: tuple[Stream, ...]) -> Held:
    if streams:
        return held(streams)
    return held_by_packets(packets_of(ByteRange(data, 0, len(data))), len(data))


def _complete(found: Decoded, duration: float, accepted: bool) -> Decoded:
    """A part, with a note if its file ends before it does; AudioError unless that is accepted."""
    if found.seconds >= duration - allowed_loss(duration):
        return found
    said = f"{found.seconds:.2f} s of the {duration:.2f} s that it should have"
    if not accepted:
        stages.discard(found.samples)
        raise AudioError(f"truncated: {said}")
    return found._replace(notes=(f"{ACCEPTED}: {said}", *found.notes))


def _truncated(attempts: list[Decoded], faults: list[str], total: Held, accept: bool) -> Decoded:
    """The longest attempt if that is accepted, else AudioError with what was wrong with each."""
    said = "; ".join(dict.fromkeys(faults))
    longest = max(attempts, key=lambda attempt: attempt.seconds, default=None)
    for attempt in attempts:
        if not (accept and attempt is longest):
            stages.discard(attempt.samples)
    if longest is not None and accept:
        note = f"{ACCEPTED}: {longest.seconds:.2f} s; {said}"
        return longest._replace(notes=(note, *longest.notes))
    if longest is not None:
        raise AudioError(f"truncated: {said} ({total.counted})")
    reasons = {fault.partition(": ")[2] for fault in faults}
    if len(reasons) == 1:
        raise AudioError(reasons.pop())
    raise AudioError(f"no decoder reads it ({said})")


def _blocks(
    decoder: str,
    data: Data,
    name: str | None,
    streams: tuple[Stream, ...],
    part: Part,
    tally: Tally,
) -> Generator[Block]:
    """What a decoder makes of the streams, one after the other, or of the whole file."""
    read = READERS[decoder]
    whole = decoder == "soundfile" and len(streams) < 2  # it may have the file, and seek in it
    path = name if whole else None
    if not streams:
        yield from read(path or ByteRange(data, 0, len(data)), tally, 0.0)
        return
    for stream in streams:
        source = path or ByteRange(data, stream.start, stream.stop)
        seeks = whole and stream.container in EXACT_SEEK
        for block in read(source, tally, part.start if seeks else 0.0):
            short = tally.announced is not None and (
                tally.announced < stream.seconds - stream.slack - allowed_loss(stream.seconds)
            )
            if decoder == "soundfile" and short:  # it never reads beyond what it announces
                raise AudioError(f"takes it for {tally.announced:.2f} s of {stream.seconds:.2f} s")
            yield block


def _array(
    blocks: Generator[Block],
    part: Part,
    tally: Tally,
    measure: stages.Measure,
    sample_rate: int,
    scratch: Path | None,
) -> np.ndarray:
    inside = stages.cut(blocks, part, measure)
    mono = stages.mix_down(inside, tally, measure)
    with contextlib.closing(blocks):
        return stages.gather(stages.resample(mono, sample_rate), scratch)
