"""An accelerator beside the CPU: the same probes, the same features, and the seconds they take.

    JAX_PLATFORMS=cpu python -m tests.benchmarks.accelerator --out=/tmp/cpu
    python -m tests.benchmarks.accelerator --out=/tmp/accelerator --beside=/tmp/cpu

Every part runs in a process of its own, on the device that JAX finds. `--beside` compares with what
another device wrote, on the same machine or not. Probes are those of the real posteriors, swept by
the command. Models have random weights and get noise; musicnn has its real ones.
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags

from extract.errors import InputError
from extract.shell import run

FLAGS = flags.FLAGS
MODELS = ("musicnn", "vggish", "openl3", "passt")
SOLVERS = ("adam", "lbfgs", "ridge", "prototypes", "lc_protonets")
GRID = ("--n_way=10", "--n_way=50", "--k_shot=1", "--k_shot=10", "--k_shot=full", "--num_seeds=5")
CLIPS, SECONDS = 4, 29.1


def features(model: str, out: str) -> None:
    """Frames of noise by a model, and seconds per clip once it is warm, into an npz file."""
    import jax

    from extract.embeddings import build
    from extract.pipeline.batches import Batcher
    from extract.pipeline.workers import Result
    from tests.benchmarks.extractors import clip_of

    embedding = build(model, **({} if model == "musicnn" else {"random_weights": 0}))
    audio = clip_of(embedding.sample_rate, SECONDS)
    batcher = Batcher(embedding, embedding.batch_size)

    def clips() -> tuple[list[np.ndarray], float]:
        start, done = time.perf_counter(), []
        for row in range(CLIPS):
            done += batcher.add(row, Result(np.roll(audio, 1000 * row)), True)
        frames = [result.array for _, result in [*done, *batcher.flush()]]
        return frames, time.perf_counter() - start

    cold = clips()[1]
    frames, warm = clips()
    device = str(jax.devices()[0].device_kind)
    np.savez(out, frames=np.concatenate(frames), cold=cold, warm=warm / CLIPS, device=device)


def probes(solver: str, out: Path) -> float:
    """Seconds of a sweep of the posteriors by the command."""
    stores = (f"--store={name}={out}/{name}" for name in ("msd_musicnn", "jamendo_musicnn"))
    command = [sys.executable, "-m", "fsprobe.sweep", f"--manifest={out}/manifest.csv", *stores]
    command += ["--embedding=combined", "--tags=top50", *GRID, "--on_scarce=fewer"]
    start = time.perf_counter()
    subprocess.run([*command, f"--solver={solver}", f"--out={out / solver}"], check=True)
    return time.perf_counter() - start


def make_stores(data: Path, out: Path) -> None:
    from extract.storage.arrays import import_arrays

    official, folder = data / "magnatagatune", data / "mtat_posteriors"
    command = [sys.executable, "-m", "extract.prepare", "--dataset=magnatagatune"]
    command += [f"--annotations={official}/annotations_final.csv.gz", f"--out={out}/manifest.csv"]
    command += [f"--clip_info={official}/clip_info_final.csv.gz"]
    subprocess.run([*command, f"--split_file={folder}/split.csv"], check=True)
    for name in ("msd_musicnn", "jamendo_musicnn"):
        import_arrays(folder / f"{name}.npy", folder / "clip_ids.txt", name, out / name)


def features_beside(model: str, out: Path, beside: Path) -> str:
    """A line: how far frames are apart, as a share of the largest; cold and warm seconds."""
    mine, theirs = (np.load(folder / f"{model}.npz") for folder in (out, beside))
    apart = np.abs(mine["frames"] - theirs["frames"]).max() / np.abs(theirs["frames"]).max()
    return (
        f"{apart:16.1e} {mine['cold']:8.1f} {theirs['cold']:12.1f} {mine['warm']:12.4f} "
        f"{theirs['warm']:12.4f}  {mine['device']}, {theirs['device']}"
    )


def probes_beside(solver: str, out: Path, beside: Path) -> str:
    """A line: how far mAP is apart, and how many probes end at the same epoch."""
    mine, theirs = (_rows(folder / solver / "probes.csv") for folder in (out, beside))
    apart = [abs(float(mine[key]["mAP"]) - float(theirs[key]["mAP"])) for key in theirs]
    same = sum(mine[key]["best_epoch"] == theirs[key]["best_epoch"] for key in theirs)
    return f"{max(apart):16.1e} {np.median(apart):10.1e} {same:6d} of {len(theirs)}"


def _rows(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    with open(path, newline="") as file:
        return {(row["n_way"], row["k_shot"], row["seed"]): row for row in csv.DictReader(file)}


def main() -> None:
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    beside = Path(FLAGS.beside) if FLAGS.beside else None
    if there := [solver for solver in FLAGS.solver if (out / solver).exists()]:
        raise InputError(
            f"--out={out}: it holds a sweep of {there[0]}, which would go on instead of being timed; "
            "name a new folder"
        )
    print("solver         seconds, cold  mAP apart, most     median  same epoch")
    if FLAGS.solver:
        make_stores(Path(FLAGS.data), out)
    for solver in FLAGS.solver:
        line = f"{solver:<13} {probes(solver, out):14.1f} "
        print(line + (probes_beside(solver, out, beside) if beside else ""), flush=True)
    print("\nmodel          apart, of scale  cold, s  theirs  warm, s/clip  theirs")
    for model in FLAGS.model:
        call = f"from tests.benchmarks.accelerator import features as f; f({model!r}, {str(out / model)!r})"
        subprocess.run([sys.executable, "-c", call], check=True)
        print(f"{model:<13} " + (features_beside(model, out, beside) if beside else ""), flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("data", "../shared/data", "The folder of real data.")
    flags.DEFINE_string("out", None, "A folder for what this device computes.", required=True)
    flags.DEFINE_string("beside", None, "The folder that another device wrote.")
    flags.DEFINE_multi_enum("model", list(MODELS), list(MODELS), "Only these models.")
    flags.DEFINE_multi_enum("solver", list(SOLVERS), list(SOLVERS), "Only these solvers.")
    run(main)
