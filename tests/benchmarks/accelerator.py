"""An accelerator beside the CPU of the same machine: the same probes, the same features, and the
seconds that each takes.

    python -m tests.benchmarks.accelerator --data=../shared/data     # 5 minutes on one H100

Every part runs in a process of its own, once on the accelerator and once with JAX_PLATFORMS=cpu.
Probes are those of the real posteriors (tests/benchmarks/README of `--data`), swept by the command.
Models have random weights and get noise; musicnn has its real weights where the cache holds them.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from extract.shell import run

FLAGS = flags.FLAGS
MODELS = ("musicnn", "vggish", "openl3", "passt")
SOLVERS = ("adam", "lbfgs", "ridge", "prototypes", "lc_protonets")
GRID = ("--n_way=10", "--n_way=50", "--k_shot=1", "--k_shot=10", "--k_shot=full", "--num_seeds=5")
CLIPS, SECONDS = 16, 29.1


def features(model: str, out: str) -> None:
    """Frames of noise by a model, and seconds per clip once it is warm, into an npz file."""
    import jax

    from extract.embeddings import build
    from extract.pipeline.batches import Batcher
    from tests.benchmarks.extractors import clip_of

    try:
        embedding = build(model)
    except Exception:
        embedding = build(model, random_weights=0)
    audio = clip_of(embedding.sample_rate, SECONDS)
    batcher = Batcher(embedding, embedding.batch_size)

    def clips() -> list[np.ndarray]:
        done = []
        for row in range(CLIPS):
            done += batcher.add(row, embedding.windows(np.roll(audio, 1000 * row)), True)
        return [np.asarray(part[1]) for part in [*done, *batcher.flush()]]

    start = time.perf_counter()
    clips()
    cold = time.perf_counter() - start
    start = time.perf_counter()
    frames = clips()
    warm = (time.perf_counter() - start) / CLIPS
    np.savez(
        out,
        frames=np.concatenate(frames),
        times=[cold, warm],
        device=str(jax.devices()[0].device_kind),
    )


def probes(solver: str, root: Path, out: Path) -> None:
    """A sweep of the posteriors by the command."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "fsprobe.sweep",
            f"--manifest={root}/manifest.csv",
            *(f"--store={name}={root}/{name}" for name in ("msd_musicnn", "jamendo_musicnn")),
            "--embedding=combined",
            "--tags=top50",
            *GRID,
            "--on_scarce=fewer",
            f"--solver={solver}",
            f"--out={out}",
        ],
        check=True,
    )


def make_stores(data: Path, root: Path) -> None:
    from extract.storage.arrays import import_arrays

    subprocess.run(
        [
            sys.executable,
            "-m",
            "extract.prepare",
            "--dataset=magnatagatune",
            f"--out={root}/manifest.csv",
            f"--annotations={data}/magnatagatune/annotations_final.csv.gz",
            f"--clip_info={data}/magnatagatune/clip_info_final.csv.gz",
            f"--split_file={data}/mtat_posteriors/split.csv",
        ],
        check=True,
    )
    folder = data / "mtat_posteriors"
    for name in ("msd_musicnn", "jamendo_musicnn"):
        import_arrays(folder / f"{name}.npy", folder / "clip_ids.txt", name, root / name)


def twice(code: str, *args: object) -> list[float]:
    """Seconds of a call in this module, in processes of their own: on the accelerator, on the
    CPU. `{}` in an argument becomes the platform.
    """
    taken = []
    for platform in ("accelerator", "cpu"):
        here = ", ".join(repr(str(arg).replace("{}", platform)) for arg in args)
        call = (
            f"from pathlib import Path; from tests.benchmarks import accelerator as a; "
            f"a.{code}({here})"
        )
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", call],
            capture_output=True,
            text=True,
            env=os.environ | ({"JAX_PLATFORMS": "cpu"} if platform == "cpu" else {}),
        )
        if done.returncode:
            raise RuntimeError(f"{code}({here}) on {platform}: {done.stderr[-1500:]}")
        taken.append(time.perf_counter() - start)
    return taken


def compare_features(model: str, root: Path) -> str:
    twice("features", model, root / f"{model}_{{}}.npz")
    ours, cpu = (np.load(root / f"{model}_{name}.npz") for name in ("accelerator", "cpu"))
    scale = np.abs(cpu["frames"]).max()
    worst = np.abs(ours["frames"] - cpu["frames"]).max() / scale
    return (
        f"{model:<13} {worst:18.1e} {ours['times'][0]:8.1f} {cpu['times'][0]:8.1f} "
        f"{ours['times'][1]:10.4f} {cpu['times'][1]:10.4f}   {ours['device']}"
    )


def compare_probes(solver: str, root: Path) -> str:
    seconds = twice("probes", solver, root, root / f"{solver}_{{}}")
    ours, cpu = (_rows(root / f"{solver}_{name}") for name in ("accelerator", "cpu"))
    assert ours.keys() == cpu.keys()
    apart = [abs(float(ours[key]["mAP"]) - float(cpu[key]["mAP"])) for key in cpu]
    same = sum(ours[key]["best_epoch"] == cpu[key]["best_epoch"] for key in cpu)
    return (
        f"{solver:<13} {max(apart):18.1e} {np.median(apart):8.1e} {same:5d} of {len(cpu)} "
        f"{seconds[0]:8.1f} {seconds[1]:8.1f}"
    )


def _rows(folder: Path) -> dict[tuple[str, ...], dict[str, str]]:
    with open(folder / "probes.csv", newline="") as file:
        return {
            tuple(row[name] for name in ("n_way", "k_shot", "seed")): row
            for row in csv.DictReader(file)
        }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if FLAGS.model:
            print("model         apart (of scale)  cold, s  CPU's  warm, s/clip  CPU's")
        for model in FLAGS.model:
            print(_told(lambda model=model: compare_features(model, root)), flush=True)
        if FLAGS.solver:
            make_stores(Path(FLAGS.data).resolve(), root)
            print("solver        mAP apart, largest  median  same epoch  seconds, cold  CPU's")
        for solver in FLAGS.solver:
            print(_told(lambda solver=solver: compare_probes(solver, root)), flush=True)


def _told(work: object) -> str:
    """What went wrong is a row, too: the others still run."""
    try:
        return work()  # type: ignore[operator,no-any-return]
    except RuntimeError as error:
        return str(error)


if __name__ == "__main__":
    flags.DEFINE_string("data", "../shared/data", "The folder of real data.")
    flags.DEFINE_multi_enum("model", list(MODELS), list(MODELS), "Only these models.")
    flags.DEFINE_multi_enum("solver", list(SOLVERS), list(SOLVERS), "Only these solvers.")
    run(main)
