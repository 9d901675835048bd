"""The models in JAX against their own packages: seconds per clip, ratio and peak memory, in one run
on one machine.

    .venv-parity/bin/python -m tests.benchmarks.extractors          # about 9 minutes;
    launch/parity.sh makes the venv
    .venv-parity/bin/python -m tests.benchmarks.extractors --quick  # clips of 3 s, once each

Random weights and synthetic audio of 29.1 s at the model's rate; decoding is left out on both
sides. JAX runs the batches of windows that `extract.run` makes, of as many clips as fill them; a
package takes clip by clip. Each backend of each model has a process of its own, warmed up first
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
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from extract.embeddings import Embedding
from extract.shell import run
from tests.benchmarks import machine

MODELS = {
    "vggish": ("vggish", {}),
    "openl3": ("openl3", {}),
    "torchopenl3": ("openl3", {"variant": "torchopenl3"}),
    "passt": ("passt", {}),
    "passt-scene": ("passt", {"mode": "scene"}),
}
TARGETS = {"vggish": 1.5, "openl3": 2.0, "torchopenl3": 2.0, "passt": 5.0}
FLAGS = flags.FLAGS


def measure(model: str, backend: str, seconds: float, repeats: int) -> dict[str, float]:
    """Seconds per warm clip, seconds more that the first took (compiling), peak memory in GB; FLOP
    per clip and FLOP/s at most, NaN where nothing counts them.
    """
    from extract.embeddings import build
    from extract.pipeline.batches import Batcher

    name, options = MODELS[model]
    embedding = build(name, backend=backend, random_weights=0, **options)
    rng = np.random.default_rng(0)
    audio = rng.uniform(-0.5, 0.5, round(seconds * embedding.sample_rate)).astype(np.float32)
    batcher = Batcher(embedding, embedding.batch_size) if embedding.windows else None
    clips = filling(len(embedding.windows(audio)), embedding.batch_size) if embedding.windows else 1

    def clip() -> float:
        start = time.perf_counter()
        if batcher is None:
            embedding.clip_frames(audio)  # type: ignore[misc]
            return time.perf_counter() - start
        for row in range(clips):
            list(batcher.add(row, embedding.windows(audio), True))  # type: ignore[misc]
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


def apart(model: str, backend: str, seconds: float, repeats: int) -> dict[str, float]:
    """The same in a process of its own."""
    code = (
        f"from tests.benchmarks.extractors import measure; import json; "
        f"print(json.dumps(measure({model!r}, {backend!r}, {seconds}, {repeats})))"
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
    print(
        "model        JAX s/clip  package s/clip  ratio  target  JAX compile s  JAX peak GB  "
        "package peak GB  "
        "GFLOP/clip  GFLOP/s  peak GFLOP/s  share"
    )
    for model in FLAGS.model or MODELS:
        ours, theirs = (apart(model, backend, seconds, repeats) for backend in ("jax", "package"))
        target = f"{TARGETS[model]:.1f}" if model in TARGETS else "-"
        print(
            f"{model:<12} {ours['clip']:10.2f}  {theirs['clip']:14.2f}  "
            f"{theirs['clip'] / ours['clip']:5.2f}  "
            f"{target:>6}  {ours['first']:13.1f}  {ours['peak']:11.2f}  {theirs['peak']:15.2f}  "
            f"{ours['flop'] / 1e9:10.1f}  {ours['flop'] / ours['clip'] / 1e9:7.0f}  "
            f"{ours['most'] / 1e9:12.0f}  "
            f"{ours['flop'] / ours['clip'] / ours['most']:5.0%}",
            flush=True,
        )


if __name__ == "__main__":
    flags.DEFINE_bool("quick", False, "Clips of 3 s, once each.")
    flags.DEFINE_multi_enum("model", None, list(MODELS), "Only these.")
    run(main)
