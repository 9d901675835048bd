"""What it costs to know that a clip is whole, and what decoders make of damaged files.

    python -m tests.benchmarks.decoding --data=../shared/data   # about a minute
    python -m tests.benchmarks.decoding --fuzz=210              # decoders alone on damaged files

Seconds per clip of `extract.audio.decoding` against a plain loop over the same soundfile and soxr
that counts, checks and hashes nothing (as decoding was before), for the catalogue's Ogg and
MagnaTagATune's kind of MP3, one after the other clip by clip, so that both see the same machine.
Without --data, clips of these kinds are made.

--fuzz: of damaged files, how many soundfile, PyAV, audioread and an ffmpeg process decode right
(to two frames and the loss that is let pass), give up, or pass off as whole; and `extract.audio`
with its counts. What is not installed is left out.
"""

import collections
import io
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from extract.audio import decode
from extract.audio.decoding import AudioError, decode_clip
from extract.audio.truth import allowed_loss
from extract.shell import run
from tests.support import damaged_audio

FLAGS = flags.FLAGS
RATE = 22_050


def plain(path: Path, sample_rate: int) -> np.ndarray:
    """Decoded, mixed down and resampled in blocks, and nothing checked but NaN."""
    import soundfile
    import soxr

    with soundfile.SoundFile(path) as file:
        stream = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
        pieces = []
        while len(block := file.read(1 << 18, dtype="float32", always_2d=True)):
            mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
            assert np.isfinite(mono).all()
            pieces.append(stream.resample_chunk(mono))
        pieces.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(pieces)


def measure(paths: list[Path], repeats: int) -> dict[str, float]:
    """Milliseconds of CPU per clip, the fastest of the repeats of each, mean over the clips."""
    best: dict[str, list[float]] = {"plain": [], "decode": []}
    for path in paths:
        times = collections.defaultdict(list)
        for _ in range(repeats):
            for name, function in (("plain", plain), ("decode", decode)):
                start = time.process_time()  # others may use the machine
                function(path, RATE)
                times[name].append(time.process_time() - start)
        for name, values in times.items():
            best[name].append(1000 * min(values))
    means = {name: statistics.fmean(values) for name, values in best.items()}
    return {**means, "ratio": means["decode"] / means["plain"], "clips": len(paths)}


def clips(data: str | None, folder: Path) -> dict[str, list[Path]]:
    """Twenty files of each kind."""
    if data is not None:
        ogg = sorted((Path(data) / "catalogue" / "audio").rglob("*.ogg"))
        mp3 = sorted((Path(data) / "audio").glob("*.mp3"))
        return {"catalogue ogg": ogg[:: max(1, len(ogg) // 20)][:20], "magnatagatune mp3": mp3 * 5}
    rng = np.random.default_rng(0)
    made: dict[str, list[Path]] = {"ogg": [], "mp3": []}
    for container, seconds in (("ogg", 10), ("mp3", 29.1)):
        for index in range(5):
            path = folder / f"{index}.{container}"
            samples = damaged_audio.signal(seconds, 16_000, 1, rng)
            path.write_bytes(damaged_audio.encode(container, samples, 16_000))
            made[container].append(path)
    return made


# --- decoders alone


def by_soundfile(path: Path) -> float:
    import soundfile

    samples, rate = soundfile.read(path)
    return len(samples) / rate


def by_pyav(path: Path) -> float:
    import av

    with av.open(io.BytesIO(path.read_bytes())) as container:
        frames = container.decode(audio=0)
        return sum(frame.samples / frame.sample_rate for frame in frames)


def by_audioread(path: Path) -> float:
    import audioread
    from audioread import ffdec

    opener = ffdec.FFmpegAudioFile if shutil.which("ffmpeg") else audioread.audio_open
    with opener(str(path)) as file:
        size = sum(len(buffer) for buffer in file)
        return size / 2 / file.channels / file.samplerate


def by_process(path: Path) -> float:
    command = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-f", "f32le", "-ac", "1"]
    done = subprocess.run([*command, "-ar", "48000", "-"], capture_output=True, check=True)
    return len(done.stdout) / 4 / 48_000


def by_us(path: Path) -> float:
    return decode_clip(path, RATE).seconds


def compare(files: int, folder: Path) -> dict[str, dict[str, int]]:
    """Decoder → how many files were `right`, `failed`, or `wrong`, and milliseconds per file."""
    decoders: dict[str, Callable[[Path], float]] = {
        "soundfile": by_soundfile,
        "PyAV": by_pyav,
        "audioread": by_audioread,
        "ffmpeg": by_process,
        "extract.audio": by_us,
    }
    counts: dict[str, dict[str, int]] = {name: collections.Counter() for name in decoders}
    spent: dict[str, float] = collections.defaultdict(float)
    for index, sample in enumerate(damaged_audio.damaged(files)):
        path = folder / f"{index}.{sample.name.split()[1]}"
        path.write_bytes(sample.data)
        for name, decoder in decoders.items():
            start = time.perf_counter()
            counts[name][outcome(decoder, path, sample)] += 1
            spent[name] += time.perf_counter() - start
        path.unlink()
    return {
        name: {**found, "ms": round(1000 * spent[name] / files)} for name, found in counts.items()
    }


def outcome(decoder: Callable[[Path], float], path: Path, sample: damaged_audio.Sample) -> str:
    try:
        seconds = decoder(path)
    except ImportError:
        return "not installed"
    except (AudioError, Exception):
        return "failed"
    if sample.seconds is None:  # cut: some of it is missing, whatever was counted
        return "wrong"
    allowed = sample.slack + allowed_loss(sample.seconds)
    return "right" if abs(seconds - sample.seconds) <= allowed else "wrong"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if FLAGS.fuzz:
            print(json.dumps(compare(FLAGS.fuzz, Path(folder)), indent=2))
            return
        found = {
            kind: measure(paths, FLAGS.repeats)
            for kind, paths in clips(FLAGS.data, Path(folder)).items()
        }
    for kind, row in found.items():
        print(
            f"{kind}: plain {row['plain']:.2f} ms, decode {row['decode']:.2f} ms per clip, "
            f"ratio {row['ratio']:.3f} ({row['clips']} clips)"
        )


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder with catalogue/audio and audio.")
    flags.DEFINE_integer("repeats", 7, "Of each clip; the fastest counts.")
    flags.DEFINE_integer("fuzz", 0, "Compare decoders on that many damaged files instead.")
    run(main)
