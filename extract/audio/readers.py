"""The two decoders, with the same interface: bytes → blocks of samples, in order.

soundfile (libsndfile) comes first: it is fast, and exact where its header is right. PyAV brings
FFmpeg's libraries, so that nobody needs ffmpeg installed. Neither ever sees a name that it could
take for a protocol, and neither opens another file than the one it is given.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from extract.audio.containers import Data
from extract.audio.containers.stream import little

BLOCK = 1 << 18  # samples per channel decoded at a time
EXACT_SEEK = ("wav", "w64", "aiff", "flac", "vorbis")  # containers that soundfile seeks in exactly


# formats that are packets and a small header
_BARE = {"ac3", "eac3", "dts", "amr", "au", "wav", "loas", "truehd", "mlp", "tta", "voc", "aac"}
_EVEN = {"ac3", "dts"}  # packets of one size; FFmpeg hands damage over with the last sound one
_SHORTENED = {"avi", "caf"}  # of a file that is cut, FFmpeg shortens the duration, not the frames
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_STATED = {
    *("matroska", "webm", "mov", "mp4", "asf", "avi", "wav", "caf", "au", "aiff", "w64", "ogg"),
    *("flac", "ape", "tta", "wv", "mpc8", "tak", "flv", "nistsphere"),
}


class AudioError(ValueError):
    """The file gives no usable audio. The message is one line and leaves out the path."""


@dataclass
class Block:
    """samples: float32 `[sample, channel]` at `rate` Hz; integers are mapped to [-1, 1). skipped:
    samples that were passed over before it.
    """

    rate: int
    samples: np.ndarray
    skipped: int = 0


@dataclass
class Tally:
    """What a decoder reports. errors: how many of its packets it could not decode, and why the last
    one. floating: the file's own numbers are floating point. announced: seconds by its header.
    """

    packets: int = 0
    errors: int = 0
    message: str = ""
    floating: bool = False
    announced: float | None = None


Reader = Callable[[Any, Tally, float], Iterator[Block]]


class ByteRange(io.RawIOBase):
    """Bytes [start, stop) of a buffer as a file that decoders can read."""

    def __init__(self, data: Data, start: int, stop: int):
        self._data, self._start, self._stop, self._place = data, start, stop, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data[self._place : min(self._place + len(buffer), self._stop)]
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._place, io.SEEK_END: self._stop}[whence]
        self._place = max(self._start, base + offset)
        return self._place - self._start


def read_soundfile(source: str | ByteRange, tally: Tally, skip: float = 0.0) -> Iterator[Block]:
    """Blocks by libsndfile, after `skip` seconds. Raises AudioError with its reason."""
    import soundfile

    try:
        file = soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        # what it says of junk named .mp3 is "File does not exist or is not a regular file"
        why = reason(error)
        raise AudioError("not audio" if "does not exist" in why else why) from None
    with file:
        tally.floating = file.subtype in ("FLOAT", "DOUBLE")
        tally.announced = file.frames / file.samplerate
        skipped = 0
        # where FFmpeg wrote Opus, the first read would begin with the encoder's delay
        if skip or file.subtype == "OPUS":
            skipped = file.seek(min(round(skip * file.samplerate), file.frames))
        while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
            yield Block(file.samplerate, block, skipped)
            skipped = 0


def read_pyav(source: ByteRange, tally: Tally, skip: float = 0.0) -> Iterator[Block]:
    """Blocks by FFmpeg's libraries, from the beginning on. Raises AudioError with its reason.

    A packet that cannot be decoded is counted and left out.
    """
    import av

    try:
        container = av.open(source, io_open=_refuse, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(reason(error)) from None
    with container:
        if not container.streams.audio:
            raise AudioError("no audio in it")
        stream = container.streams.audio[0]
        stream.codec_context.options = {"err_detect": "crccheck"}
        tally.floating = stream.codec_context.name.startswith(("pcm_f32", "pcm_f64"))
        tally.announced = _duration(container, stream)
        yield from _joined(_av_frames(container, stream, tally))


class Packets(NamedTuple):
    """What FFmpeg finds in a file without decoding it. stated: seconds by its header, None where
    FFmpeg would estimate them. seconds: of its packets. span: from the first packet's time to the
    last's. unused: bytes of a file that is nothing but packets, outside of them.
    """

    stated: float | None = None
    seconds: float = 0.0
    span: float = 0.0
    unused: float = 0.0


def packets_of(source: ByteRange) -> Packets:
    """The packets of a file whose kind `extract.audio.containers` does not count."""
    import av

    try:
        with av.open(source, "r", io_open=_refuse, metadata_errors="replace") as container:
            if not container.streams.audio:
                return Packets()
            stream = container.streams.audio[0]
            sizes, total = [], 0
            times: list[int] = []
            with contextlib.suppress(av.FFmpegError):
                for packet in container.demux(stream):
                    sizes.append(packet.size)
                    total += packet.duration or 0
                    if packet.pts is not None:
                        # a duration is rounded down, to whole milliseconds in some containers
                        total += bool(times and packet.pts == times[-1] + 1)
                        times += [packet.pts, packet.pts + (packet.duration or 0)]
            unit = float(stream.time_base or 0)
            span = (max(times) - min(times)) * unit if times else 0.0
            kinds = set(container.format.name.split(","))
            used = len(sizes) * int(np.median(sizes)) if kinds & _EVEN and sizes else sum(sizes)
            unused = source.seek(0, 2) - used if kinds & _BARE else 0
            stated, seconds = _duration(container, stream), total * unit
            whole = stream.frames * unit if kinds & _SHORTENED else 0.0
            whole = _stated_by_asf(source) if "asf" in kinds else whole
            stated = whole if whole > seconds + 0.5 else stated
            if "voc" in kinds and sizes:
                stated = seconds * (1 + _missing(source) / sum(sizes))
            return Packets(stated, seconds, span, max(0, unused))
    except (av.FFmpegError, ValueError, AudioError):
        return Packets()


def _stated_by_asf(source: ByteRange) -> float:
    """Seconds by the File Properties of an ASF, 0 where it was broadcast. FFmpeg passes them over
    where the file is not of the size that they state, too.
    """
    source.seek(0)
    head = source.read(1 << 16)
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or little(head, place + 88, 4) & 1:
        return 0.0
    return little(head, place + 64, 8) / 1e7 - little(head, place + 80, 8) / 1e3


def _missing(source: ByteRange) -> int:
    """Bytes of the last block of a Creative Voice file, by its size, that are not there."""
    end = source.seek(0, 2)
    source.seek(20)
    place = little(source.read(2), 0, 2)
    while source.seek(place) < end and len(head := source.read(4)) == 4 and head[0]:
        place += 4 + little(head, 1, 3)
    return max(0, place - end)


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise AudioError("it refers to other files")


def _duration(container: Any, stream: Any) -> float | None:
    """Seconds that the container states; None for formats where FFmpeg estimates them."""
    if not set(container.format.name.split(",")) & _STATED:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _av_frames(container: Any, stream: Any, tally: Tally) -> Iterator[Block]:
    import av

    try:
        for packet in container.demux(stream):
            tally.packets += 1
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                tally.errors, tally.message = tally.errors + 1, reason(error)
                continue
            for frame in frames:
                if frame.sample_rate and frame.samples:
                    yield Block(frame.sample_rate, _as_float(frame))
    except av.FFmpegError as error:  # it reads no further
        tally.errors, tally.message = tally.errors + 1, reason(error)


def _as_float(frame: Any) -> np.ndarray:
    """float32 `[sample, channel]` of a frame."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(frame.samples, -1).T
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif array.dtype.kind == "i":
        array = array.astype(np.float32) / np.float32(2.0 ** (8 * array.dtype.itemsize - 1))
    return np.ascontiguousarray(array.T, np.float32)


def _joined(blocks: Iterator[Block]) -> Iterator[Block]:
    """Small blocks of one rate and number of channels made into larger ones."""
    held: list[Block] = []
    for block in blocks:
        if held and (
            block.rate != held[0].rate
            or block.samples.shape[1] != held[0].samples.shape[1]
            or sum(len(piece.samples) for piece in held) > BLOCK
        ):
            yield Block(held[0].rate, np.concatenate([piece.samples for piece in held]))
            held = []
        held.append(block)
    if held:
        yield Block(held[0].rate, np.concatenate([piece.samples for piece in held]))


def reason(error: Exception) -> str:
    """An error in words, without a decoder's name for it."""
    said = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
    return str(said).rstrip(".") or type(error).__name__


READERS: dict[str, Reader] = {"soundfile": read_soundfile, "PyAV": read_pyav}
