"""Decode, down-mix, resample: an audio file → mono float32 at a rate in Hz.

soundfile (libsndfile) reads WAV, FLAC, Ogg, MP3 and more; what it does not know goes to audioread,
which uses ffmpeg where that is installed: video files, AAC. Channels are averaged; soxr resamples
at quality HQ. Samples keep the file's scale: integers map to [-1, 1), floating point stays as it
is, and so does a DC offset.

Everything streams in blocks, so memory does not grow with the length of a file. Of a truncated
file, what can still be decoded counts; an error inside the stream (FLAC reports one), no samples at
all, NaN or Inf do not.
"""

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import InputError
from extract.files import is_disk_full

QUALITY = "HQ"
MIN_RATE, MAX_RATE = (
    1_000,
    768_000,
)  # Hz; beyond, the header is damaged and would resample to gigabytes
IN_MEMORY = 1 << 22  # samples, 87 s at 48 kHz; longer clips go through a scratch file
_BLOCK = 1 << 18  # samples per channel decoded at a time


class AudioError(ValueError):
    """The file gives no usable audio. The message is one line and leaves out the path."""


def decode(path: str | Path, sample_rate: int, scratch: Path | None = None) -> np.ndarray:
    """The file as float32 `[sample]`, at least one, at `sample_rate` Hz: a pure function of both.

    With a directory `scratch`, a long clip comes as a read-only memory map of a file there, for the
    caller to delete. Raises AudioError with the reason, or OSError if the disk of `scratch` is
    full.
    """
    try:
        if Path(path).stat().st_size == 0:
            raise AudioError("empty file (0 bytes)")
        with _open(Path(path)) as (rate, blocks):
            if not MIN_RATE <= rate <= MAX_RATE:
                raise AudioError(f"sample rate {rate} Hz is outside {MIN_RATE} to {MAX_RATE} Hz")
            return _gather(_resample(blocks, rate, sample_rate), scratch)
    except AudioError:
        raise
    except OSError as error:
        if is_disk_full(error):
            raise
        raise AudioError(error.strerror or str(error)) from error
    except Exception as error:  # decoders raise all kinds of things at damaged files
        raise AudioError(f"{type(error).__name__}: {error}") from error


def provenance() -> dict[str, Any]:
    """Versions of everything between the file and the samples. Raises InputError if something is
    missing.
    """
    try:
        import soundfile

        packages = {
            name: importlib.metadata.version(name) for name in ("soundfile", "soxr", "audioread")
        }
    except ImportError as error:
        raise InputError(
            f"{error}; decoding audio needs: pip install 'fsprobe[extract]'"
        ) from error
    return {
        **packages,
        "libsndfile": soundfile.__libsndfile_version__,
        "resampler": f"soxr {QUALITY}",
    }


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """(sample rate in Hz, blocks float32 `[sample, channel]`)."""
    import audioread
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        # what it says of junk named .mp3 is "File does not exist or is not a regular file"
        why = (
            "not audio"
            if "does not exist" in error.error_string
            else error.error_string.rstrip(".")
        )
    else:
        with file:
            yield file.samplerate, _soundfile_blocks(file)
        return
    try:
        audio = audioread.audio_open(str(path))
    except (audioread.DecodeError, EOFError):
        raise AudioError(
            f"no decoder reads it (libsndfile: {why}; with ffmpeg installed, audioread knows more "
            "formats)"
        ) from None
    with audio:
        yield audio.samplerate, _pcm16_blocks(audio, audio.channels)


def _soundfile_blocks(file: Any) -> Iterator[np.ndarray]:
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block


def _pcm16_blocks(buffers: Iterable[bytes], channels: int) -> Iterator[np.ndarray]:
    rest = b""
    for buffer in buffers:
        data = rest + bytes(buffer)
        whole = len(data) - len(data) % (2 * channels)  # a buffer may end inside a sample
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").reshape(-1, channels).astype(np.float32) / 32768


def _resample(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Mono float32 `[sample]` blocks at sample_rate Hz; the same samples whatever the blocks
    are.
    """
    import soxr

    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality=QUALITY)
    for block in blocks:
        mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
        if not np.isfinite(mono).all():
            raise AudioError("NaN or Inf samples")
        yield mono if rate == sample_rate else stream.resample_chunk(mono)
    if rate != sample_rate:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _gather(blocks: Iterable[np.ndarray], scratch: Path | None) -> np.ndarray:
    """The blocks end to end, in memory or, where they are many, as a memory map of a file in
    scratch.
    """
    held: list[np.ndarray] = []
    count = 0
    with contextlib.ExitStack() as stack:
        file = None
        for block in blocks:
            count += len(block)
            held.append(block)
            if scratch is not None and count > IN_MEMORY:
                if file is None:
                    scratch.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(
                        tempfile.NamedTemporaryFile(dir=scratch, delete=False)
                    )
                file.writelines(block.tobytes() for block in held)
                held.clear()
    if not count:
        raise AudioError("no audio samples")
    return np.concatenate(held) if file is None else np.memmap(file.name, np.float32, mode="r")
