"""Blocks of samples on their way to one array: cut, mixed down, resampled, gathered."""

import hashlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from extract.audio.readers import AudioError, Block, Tally
from extract.audio.scratch import prefix
from extract.audio.truth import Part

QUALITY = "HQ"
# Hz; beyond, the header is damaged and would resample to gigabytes
MIN_RATE, MAX_RATE = 1_000, 768_000
IN_MEMORY = 1 << 22  # samples, 87 s at 48 kHz; longer clips go through a scratch file
_SILENT = 2.0**-15  # root mean square below one step of 16 bits
_CANCELLED = 0.01  # of the channels' energy is left in their mean: they oppose each other


@dataclass
class Measure:
    """What was measured of the samples so far. decoded, taken: seconds of the file and of the part.
    stopped: at the part's end. peak, energy: of the channels; mean_energy: of their mean. samples:
    taken. digest: of the mean's samples, float32, at the file's rate.
    """

    decoded: float = 0.0
    taken: float = 0.0
    stopped: bool = False
    peak: float = 0.0
    energy: float = 0.0
    mean_energy: float = 0.0
    samples: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def notes(self, floating: bool) -> tuple[str, ...]:
        """What is odd about the samples. floating: the file's numbers are floating point."""
        notes = []
        if floating and self.peak > 1:
            notes.append(
                f"samples reach {self.peak:.6g}, beyond 1: integers kept as floating point?"
            )
        if self.energy < self.samples * _SILENT**2:
            notes.append("silence")
        elif self.mean_energy < _CANCELLED * self.energy:
            left = self.mean_energy / self.energy
            notes.append(f"its channels cancel: {left:.2g} of their energy is left when mixed down")
        return tuple(notes)


def cut(blocks: Iterable[Block], part: Part, measure: Measure) -> Iterator[Block]:
    """The blocks' samples inside the part, and nothing after it."""
    begins, rate, place = 0.0, 0, 0  # seconds where this rate began; samples since
    for block in blocks:
        if not MIN_RATE <= block.rate <= MAX_RATE:
            raise AudioError(f"sample rate {block.rate} Hz is outside {MIN_RATE} to {MAX_RATE} Hz")
        if block.rate != rate:
            begins, rate, place = begins + (place / rate if rate else 0.0), block.rate, 0
        place += block.skipped
        count = len(block.samples)
        first = min(max(round((part.start - begins) * rate) - place, 0), count)
        stop = place + count if part.duration is None else round((part.end - begins) * rate)
        last = min(max(stop - place, 0), count)
        place += count
        measure.decoded += (count + block.skipped) / rate
        if last > first:
            measure.taken += (last - first) / rate
            yield Block(rate, block.samples[first:last])
        if last < count:
            measure.stopped = True
            return


def mix_down(blocks: Iterable[Block], tally: Tally, measure: Measure) -> Iterator[Block]:
    """The mean of the channels, `[sample]`. Raises AudioError on NaN or Inf."""
    for block in blocks:
        samples = block.samples
        channels = samples.shape[1]
        if channels == 1:
            mean = samples[:, 0]
        elif channels == 2:  # as NumPy's mean, bit for bit, in a quarter of the time
            mean = (samples[:, 0] + samples[:, 1]) / np.float32(2)
        else:
            mean = samples.mean(axis=1, dtype=np.float32)
        mean = np.ascontiguousarray(mean)
        energy = _energy(mean)
        if not np.isfinite(energy) and not np.isfinite(mean).all():
            raise AudioError("NaN or Inf samples")
        flat = samples.reshape(-1)
        measure.samples += len(mean)
        measure.mean_energy += energy
        measure.energy += energy if channels == 1 else _energy(flat) / channels
        if tally.floating:
            measure.peak = max(measure.peak, float(flat.max()), -float(flat.min()))
        measure.digest.update(mean)
        yield Block(block.rate, mean)


def _energy(samples: np.ndarray) -> float:
    """Sum of squares. Not by BLAS, which would start threads in every decoding process."""
    return float(np.einsum("i,i->", samples, samples))


def resample(blocks: Iterable[Block], sample_rate: int) -> Iterator[np.ndarray]:
    """float32 `[sample]` blocks at sample_rate Hz; the same samples whatever the blocks are, as
    long as their rate stays.
    """
    import soxr

    for rate, group in itertools.groupby(blocks, key=lambda block: block.rate):
        if rate == sample_rate:
            yield from (block.samples for block in group)
        else:
            stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality=QUALITY)
            yield from (stream.resample_chunk(block.samples) for block in group)
            yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def gather(blocks: Iterable[np.ndarray], scratch: Path | None) -> np.ndarray:
    """The blocks end to end, in memory or, where they are many, as a memory map of a file in
    scratch.
    """
    blocks = iter(blocks)
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if scratch is not None and count > IN_MEMORY:
            return _mapped(itertools.chain(held, blocks), scratch)
    if not count:
        raise AudioError("no audio samples")
    return np.concatenate(held)


def _mapped(blocks: Iterable[np.ndarray], scratch: Path) -> np.ndarray:
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix=prefix("samples"), delete=False) as file:
        try:
            file.writelines(block.tobytes() for block in blocks)
            file.flush()  # a full disk may show as late as here
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return np.memmap(file.name, np.float32, mode="r")


def discard(samples: np.ndarray) -> None:
    """Delete the scratch file of samples that nobody wants."""
    if isinstance(samples, np.memmap):
        Path(str(samples.filename)).unlink(missing_ok=True)
