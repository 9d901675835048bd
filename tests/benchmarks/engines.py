"""Ray on one node beside the local engine: clips per second on the same cores, in one run; and the
memory of both as the corpus grows.

    python -m tests.benchmarks.engines                       # log-mel and musicnn; about 15 minutes
    python -m tests.benchmarks.engines --clips=40 --seconds=3 --large=200      # a trial
    python -m tests.benchmarks.engines --large=10000 --embedding=logmel --clips=200    # memory

Each run is a command as a user starts it, with every core of this process, on generated clips. Ray
starts a cluster of its own in it. What counts is the time between the first and the last clip of
`--repeats` runs of each, in turn, the fastest: the first starts and compiles. --large: clips of one
second, with log-mel, for the memory of the driver and of all its processes together, at most, beside
those of a tenth of them.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile
from absl import flags

from extract.manifest import Manifest, write_manifest
from extract.shell import run
from extract.store import open_store
from tests.benchmarks import machine

ENGINES = ("local", "ray")
TARGET = 0.9  # of the local engine's clips per second
FLAGS = flags.FLAGS


def corpus(folder: Path, clips: int, seconds: float) -> Path:
    """Clips of noise as 16-bit WAV, 22,050 Hz; the manifest."""
    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(22_050 * seconds) + clips)
    names = tuple(f"c{i:05}" for i in range(clips))
    for i, name in enumerate(names):
        soundfile.write(folder / f"{name}.wav", noise[i : i + round(22_050 * seconds)], 22_050)
    paths = tuple(f"{name}.wav" for name in names)
    write_manifest(
        folder / "manifest.csv", Manifest(names, paths, ("train",) * clips, ((),) * clips)
    )
    return folder / "manifest.csv"


class Watched:
    """A run of extract.run. seconds: from its first finished clip to its last. peak: bytes of all
    its processes together, at most; driver: of the first.
    """

    def __init__(self, manifest: Path, embedding: str, engine: str, store: Path) -> None:
        self.peak = self.driver = 0
        command = [sys.executable, "-m", "extract.run", f"--manifest={manifest}"]
        command += [f"--audio_root={manifest.parent}", f"--embedding={embedding}"]
        command += [f"--store={store}", f"--engine={engine}"]
        command += [f"--num_workers={len(os.sched_getaffinity(0))}"]
        environment = os.environ | {"RAY_ADDRESS": ""}
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr))  # type: ignore[arg-type]
        reader.start()
        first, clips, counted = None, 0, 0
        while process.poll() is None:
            self._measure(process.pid)
            done = _done(store)
            if done and first is None:
                first, counted = time.perf_counter(), done
            if done > clips:
                clips, last = done, time.perf_counter()
            time.sleep(0.2)
        reader.join()
        if process.returncode:
            raise RuntimeError("".join(errors)[-2000:])
        assert first is not None, "too few clips to see any come"
        self.rate = (clips - counted) / (last - first) if clips > counted else float("nan")

    def _measure(self, pid: int) -> None:
        """Proportional set sizes: what is shared counts once."""
        sizes = {process: _bytes_of(process) for process in [pid, *_below(pid)]}
        self.driver = max(self.driver, sizes[pid])
        self.peak = max(self.peak, sum(sizes.values()))


def _done(store: Path) -> int:
    if not (store / "store.json").exists():
        return 0
    return int((open_store(store).status == 1).sum())


def _below(pid: int) -> list[int]:
    """All processes that descend from it; Ray's are in sessions of their own, but still below."""
    children: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    except OSError:
        pass
    return children + [one for child in children for one in _below(child)]


def _bytes_of(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def compare(folder: Path, embedding: str) -> None:
    """A line of the table: the fastest of `repeats` runs of each engine, in turn."""
    rates: dict[str, float] = dict.fromkeys(ENGINES, 0.0)
    for repeat in range(FLAGS.repeats):
        for engine in ENGINES:
            store = folder / f"{embedding}-{engine}-{repeat}"
            watched = Watched(folder / "audio" / "manifest.csv", embedding, engine, store)
            rates[engine] = max(rates[engine], watched.rate)
    ratio = rates["ray"] / rates["local"]
    print(
        f"{embedding:<9} {rates['local']:13.2f}  {rates['ray']:11.2f}  {ratio:5.2f}  {TARGET:6.2f}"
        f"  {'reached' if ratio >= TARGET else 'missed'}",
        flush=True,
    )


def memory(folder: Path, clips: int) -> None:
    for engine in ENGINES:
        for count in (clips // 10, clips):
            manifest = folder / f"many-{count}" / "manifest.csv"
            if not manifest.exists():
                corpus(manifest.parent, count, 1.0)
            watched = Watched(manifest, "logmel", engine, folder / f"many-{engine}-{count}")
            print(
                f"{engine:<6} {count:6} clips: driver {watched.driver / 2**20:6.0f} MiB, all "
                f"processes {watched.peak / 2**20:6.0f} MiB, {watched.rate:.0f} clips/s",
                flush=True,
            )


def main() -> None:
    print(f"{time.strftime('%Y-%m-%d')}, {machine.describe()}, clips of {FLAGS.seconds:g} s")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if FLAGS.clips:
            corpus(folder / "audio", FLAGS.clips, FLAGS.seconds)
            print("embedding  local clips/s  ray clips/s  ratio  target")
            for embedding in FLAGS.embedding:
                compare(folder, embedding)
        if FLAGS.large:
            memory(folder, FLAGS.large)


if __name__ == "__main__":
    flags.DEFINE_integer("clips", 400, "For speed; 0: none.")
    flags.DEFINE_float("seconds", 29.1, "Of a clip.")
    flags.DEFINE_integer("repeats", 2, "Runs of each engine.")
    flags.DEFINE_integer("large", 0, "Clips of one second, for memory; 0: none.")
    flags.DEFINE_multi_enum(
        "embedding", ["logmel", "musicnn"], ["logmel", "musicnn", "vggish"], "For speed."
    )
    run(main)
