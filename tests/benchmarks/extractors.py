"""The models in JAX against their own packages: seconds per clip, ratio and peak memory, in one run
on one machine.

    .venv-parity/bin/python -m tests.benchmarks.extractors          # about 9 minutes;
    launch/parity.sh makes the venv
    .venv-parity/bin/python -m tests.benchmarks.extractors --quick  # clips of 3 s, once each

Random weights and synthetic audio of 29.1 s at the model's rate; decoding is left out on both
sides. JAX runs the batches of windows that `extract.run` makes, of as many clips as fill them; a
package takes clip by clip. musicnn has its real weights, and stands beside two things: the
package's extractor as users run it, and its graph kept in one session. Each backend of each model has a process of its own, warmed up first
(what the first clips take more is listed as compilation); the fastest of two repeats counts, on
both sides.

GFLOP per clip are XLA's count for `embed` in its direct form (that of GPUs: on CPUs convolutions
are filtered minimally, in fewer, so their share of the peak may pass 100%). The peak is that of a
large float32 product in the same process: NumPy's BLAS on a CPU, XLA elsewhere.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from extract.embeddings import Embedding
from extract.shell import run
from tests.benchmarks import machine
from tests.parity import musicnn_package
from tests.support.musicnn_wheel import wheel

MODELS = {
    "vggish": ("vggish", {}),
    "openl3": ("openl3", {}),
    "torchopenl3": ("openl3", {"variant": "torchopenl3"}),
    "passt": ("passt", {}),
    "passt-scene": ("passt", {"mode": "scene"}),
    "passt-bfloat16": ("passt", {"precision": "bfloat16"}),
}
TARGETS = {"vggish": 1.5, "openl3": 2.0, "torchopenl3": 2.0, "passt": 5.0}
MUSICNN = ("MSD_musicnn", "MSD_vgg")
USED, GRAPH = 4.0, 2.0  # targets beside musicnn's extractor, and beside its graph in one session
FLAGS = flags.FLAGS


def measure(model: str, backend: str, seconds: float, repeats: int) -> dict[str, float]:
    """Seconds per warm clip, seconds more that the first took (compiling), peak memory in GB; FLOP
    per clip and FLOP/s at most, NaN where nothing counts them.
    """
    from extract.embeddings import build

    name, options = MODELS[model]
    if backend == "package":
        options = {key: value for key, value in options.items() if key != "precision"}
    return timed(build(name, backend=backend, random_weights=0, **options), seconds, repeats)


def timed(embedding: Embedding, seconds: float, repeats: int) -> dict[str, float]:
    """What `measure` says, of an embedding."""
    from extract.pipeline.batches import Batcher
    from extract.pipeline.workers import Result

    audio = clip_of(embedding.sample_rate, seconds)
    batcher = Batcher(embedding, embedding.batch_size) if embedding.windows else None
    clips = filling(len(embedding.windows(audio)), embedding.batch_size) if embedding.windows else 1

    def clip() -> float:
        start = time.perf_counter()
        if batcher is None:
            embedding.clip_frames(audio)  # type: ignore[misc]
            return time.perf_counter() - start
        for row in range(clips):
            list(batcher.add(row, Result(audio), True))
        list(batcher.flush())
        return (time.perf_counter() - start) / clips

    first = clip()
    best = min(clip() for _ in range(repeats))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kB on Linux
    flops = (
        [float("nan")] * 2 if batcher is None else [flops_per_clip(embedding, audio), peak_flops()]
    )
    return {
        "first": (first - best) * clips,
        "clip": best,
        "peak": peak,
        "flop": flops[0],
        "most": flops[1],
    }


def measure_musicnn(model: str, seconds: float, repeats: int) -> dict[str, float]:
    """As `measure`, of a musicnn model, front end included as in `extract.run`."""
    from extract.embeddings import build

    embedding = build("musicnn", model=model, weights=str(wheel()), tail="drop")
    return timed(embedding, seconds, repeats)


def measure_package(model: str, seconds: float, repeats: int) -> dict[str, float]:
    """Seconds per clip of the package's graph kept in one session (windows one by one, its front
    end left out), and of its extractor as users run it, which builds the graph, restores the
    weights and computes the front end for each file. The extractor's code is its own; what the
    package does not do on today's NumPy is none of its work.
    """
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        package = musicnn_package.unpacked(wheel(), scratch)
        audio = clip_of(16000, seconds)
        soundfile.write(scratch / "clip.wav", audio, 16000)
        mel = musicnn_package.log_mel(audio)
        np.save(scratch / "windows.npy", mel[: len(mel) // 187 * 187].reshape(-1, 187, 96))
        graph = [sys.executable, str(musicnn_package.SCRIPT), str(package), model]
        graph += [
            str(scratch / "windows.npy"),
            str(scratch / "out.npz"),
            f"--repeats={repeats + 1}",
        ]
        extractor = (
            "import sys, time; sys.path.insert(0, sys.argv[1]); "
            "from musicnn.extractor import extractor; times = []\n"
            f"for _ in range({repeats + 1}):\n"
            f"    start = time.perf_counter(); extractor(sys.argv[2], model={model!r})\n"
            "    times.append(time.perf_counter() - start)\n"
            "print(min(times[1:]))"
        )
        used = [sys.executable, "-c", extractor, str(package), str(scratch / "clip.wav")]
        found = {}
        for name, command in (("graph", graph), ("used", used)):
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                env=os.environ | musicnn_package.LEGACY,
            )
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            found[name] = float(done.stdout.split()[-1])
        return found


def clip_of(rate: int, seconds: float) -> np.ndarray:
    """Noise, float32 `[sample]`."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate))
    return samples.astype(np.float32)


def flops_per_clip(embedding: Embedding, audio: np.ndarray) -> float:
    """FLOP of `embed` on the clip's windows by XLA's count, in the form that a GPU gets: without
    loops, of which XLA counts the body once.
    """
    import jax

    windows = embedding.windows(audio)  # type: ignore[misc]
    batch = jax.ShapeDtypeStruct((embedding.batch_size, windows.shape[1]), np.float32)
    traced = jax.jit(embedding.embed).trace(embedding.params, batch)  # type: ignore[arg-type]
    analysis: Any = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
    return float(analysis["flops"]) * len(windows) / embedding.batch_size


def peak_flops() -> float:
    """FLOP/s of a large float32 product."""
    import jax

    if jax.default_backend() == "cpu":
        return machine.peak_flops()
    a = jax.numpy.ones((8192, 8192), np.float32)
    product = jax.jit(lambda a: jax.lax.dot(a, a, precision=jax.lax.Precision.HIGHEST))
    product(a).block_until_ready()
    return 2 * 8192**3 / machine.seconds(lambda: product(a).block_until_ready(), 5)


def filling(windows: int, batch_size: int) -> int:
    """The fewest clips, at most 8, of so many windows each that leave under 3% of their batches
    empty.
    """

    def share(clips: int) -> float:
        return clips * windows / (-(-clips * windows // batch_size) * batch_size)

    return next((clips for clips in range(1, 8) if share(clips) > 0.97), 8)


def apart(function: str, *args: Any) -> dict[str, float]:
    """`measure(*args)` or `measure_musicnn(*args)` in a process of its own."""
    code = (
        f"from tests.benchmarks import extractors; import json; "
        f"print(json.dumps(extractors.{function}(*{args!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    import jax

    seconds, repeats = (3.0, 1) if FLAGS.quick else (29.1, 2)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {len(os.sched_getaffinity(0))} CPU "
        f"cores, "
        f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, clips of {seconds} s, best of "
        f"{repeats}"
    )
    chosen = FLAGS.model or [*MODELS, *MUSICNN]
    if any(model in MODELS for model in chosen):
        print(
            "model          JAX s/clip  package s/clip  ratio  target  JAX compile s  JAX peak GB  "
            "package peak GB  GFLOP/clip  GFLOP/s  peak GFLOP/s  share"
        )
    for model in (model for model in chosen if model in MODELS):
        ours, theirs = (
            apart("measure", model, backend, seconds, repeats) for backend in ("jax", "package")
        )
        target = f"{TARGETS[model]:.1f}" if model in TARGETS else "-"
        print(
            f"{model:<14} {ours['clip']:10.2f}  {theirs['clip']:14.2f}  "
            f"{theirs['clip'] / ours['clip']:5.2f}  "
            f"{target:>6}  {ours['first']:13.1f}  {ours['peak']:11.2f}  {theirs['peak']:15.2f}  "
            f"{_flops(ours)}",
            flush=True,
        )
    if any(model in MUSICNN for model in chosen):
        print(
            "model        JAX s/clip  extractor s/clip  ratio  target  graph s/clip  ratio  target  "
            "JAX compile s  JAX peak GB  GFLOP/clip  GFLOP/s  peak GFLOP/s  share"
        )
    for model in (model for model in chosen if model in MUSICNN):
        ours = apart("measure_musicnn", model, seconds, repeats)
        theirs = measure_package(model, seconds, repeats)
        print(
            f"{model:<12} {ours['clip']:10.3f}  {theirs['used']:16.3f}  "
            f"{theirs['used'] / ours['clip']:5.2f}  {USED:6.1f}  {theirs['graph']:12.3f}  "
            f"{theirs['graph'] / ours['clip']:5.2f}  {GRAPH:6.1f}  {ours['first']:13.1f}  "
            f"{ours['peak']:11.2f}  {_flops(ours)}",
            flush=True,
        )


def _flops(ours: dict[str, float]) -> str:
    return (
        f"{ours['flop'] / 1e9:10.1f}  {ours['flop'] / ours['clip'] / 1e9:7.0f}  "
        f"{ours['most'] / 1e9:12.0f}  {ours['flop'] / ours['clip'] / ours['most']:5.0%}"
    )


if __name__ == "__main__":
    flags.DEFINE_bool("quick", False, "Clips of 3 s, once each.")
    flags.DEFINE_multi_enum("model", None, [*MODELS, *MUSICNN], "Only these.")
    run(main)
