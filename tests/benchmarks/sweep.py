"""How fast probes train and are scored, beside PyTorch and scikit-learn given the same arrays and
episodes.

    pip install -e '.[extract,dev,benchmark]'     # torch; any build, the CPU's is smallest
    python -m tests.benchmarks.sweep [--quick | --converged] [--json=PATH]    # 16 to 19 minutes on two cores

Features are generated in MagnaTagATune's shape (15,247 / 1,529 / 4,332 clips, its 50 tag counts).
Everybody trains the same number of epochs, without early stopping: all take the same steps. Peers
validate after each epoch, fsprobe what it takes to know the best one
(fsprobe.heads.early_stopping). Compilation is timed apart.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from extract.storage.arrays import import_arrays
from fsprobe import metrics, shell
from fsprobe.batch import dispatch
from fsprobe.batch.lanes import device_mesh
from fsprobe.batch.packing import CPU_EPOCHS
from fsprobe.batch.spec import Outcome, ProbeSpec
from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data
from fsprobe.heads.strengths import DUAL_PATH
from fsprobe.pages.text_table import text_table
from tests.benchmarks import corpus, machine, peers

N_WAYS, K_SHOTS = (2, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50), (1, 5, 10, 15, 20)

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "A corner of the grid at two widths: 3 minutes on two cores.")
flags.DEFINE_bool("converged", False, "The converged probes alone: 9 minutes on two cores.")
flags.DEFINE_string("json", None, "Where to write the figures.")
flags.DEFINE_integer("epochs", 10, "Epochs that everybody trains; 5 if --quick.")
flags.DEFINE_integer("seeds", 2, "Seeds of every cell.")
flags.DEFINE_multi_integer("width", [256, 1024, 1536, 2816], "Widths.")


def grid(episodes: list[Any], n_ways: tuple[int, ...], k_shots: tuple[int, ...]) -> list[ProbeSpec]:
    return [
        ProbeSpec((n, k, e.seed), e.seed, e.cell(n, k), e.tags[:n])
        for n in n_ways
        for k in k_shots
        for e in episodes
    ]


def train_all(specs: list[ProbeSpec], data: Any, config: SolverConfig, mesh: Any) -> list[Outcome]:
    return [
        outcome for outcomes in dispatch.train(specs, data, config, mesh) for outcome in outcomes
    ]


def on_devices(data: Data, mesh: Any) -> Data:
    """With a single test clip: what is timed is training."""
    return jax.device_put(
        data._replace(test=jax.tree.map(lambda part: part[:1], data.test)),
        NamedSharding(mesh, P()),
    )


def adam(
    dims: list[int], n_ways: tuple[int, ...], k_shots: tuple[int, ...], num_seeds: int, epochs: int
) -> list[dict[str, Any]]:
    """Seconds to train the grid at each width, by everybody; scoring is left out (a single test
    clip).
    """
    mesh, programs = device_mesh(), machine.Programs()
    config = SolverConfig(max_epochs=epochs, patience=epochs + 1)
    specs = grid(corpus.episodes(num_seeds, max(n_ways), max(k_shots)), n_ways, k_shots)
    cells = [specs[i : i + num_seeds] for i in range(0, len(specs), num_seeds)]
    rows = []
    for dim in tqdm(dims, "training", unit="width", disable=None):
        jax.clear_caches()
        data = corpus.data(dim)
        peers.use_the_same_device()
        tensors = peers.Tensors(data)
        data = on_devices(data, mesh)
        before = programs.count
        first = machine.seconds(lambda data=data: train_all(specs, data, config, mesh))
        compiled = programs.count - before
        own = machine.seconds(lambda data=data: train_all(specs, data, config, mesh), 2)
        vmap = machine.seconds(
            lambda tensors=tensors: [peers.torch_vmap(cell, tensors, config) for cell in cells]
        )
        loop = machine.seconds(lambda tensors=tensors: peers.torch_loop(specs, tensors, config), 2)
        steps = (
            sum(-(-len(spec.support) // config.batch_size) * len(spec.tags) for spec in specs)
            * epochs
        )
        validations = 2 * -(-epochs // CPU_EPOCHS) * sum(len(spec.tags) for spec in specs)
        rows.append(
            {
                "dim": dim,
                "probes": len(specs),
                "epochs": epochs,
                "compile_s": first - own,
                "cold_s": first,
                "programs": compiled,
                "fsprobe_s": own,
                "torch_vmap_s": vmap,
                "torch_loop_s": loop,
                # the least there is to do: a product forward and one back per batch, and of the
                # validation clips
                # one of each when an interval of epochs ends; 2 FLOP per weight and clip
                "flops": 2.0
                * dim
                * (2 * config.batch_size * steps + corpus.CLIPS["valid"] * validations),
                # six passes over weights and moments per step
                "bytes": 6.0 * 4 * dim * steps,
            }
        )
    return rows


def lbfgs(
    dims: list[int], n_ways: tuple[int, ...], k_shots: tuple[int, ...], num_seeds: int
) -> list[dict[str, Any]]:
    """Seconds of regularised probes to convergence, their strength chosen among eleven by the
    validation loss.
    """
    mesh, programs = device_mesh(), machine.Programs()
    config = SolverConfig("lbfgs")
    specs = grid(corpus.episodes(num_seeds, max(n_ways), max(k_shots)), n_ways, k_shots)
    rows = []
    for dim in tqdm(dims, "regularised", unit="width", disable=None):
        jax.clear_caches()
        data = corpus.data(dim)
        mean = data.train.features.mean(axis=0)
        data = Data(*(part._replace(features=part.features - mean) for part in data[:3]))
        placed = on_devices(data, mesh)
        before = programs.count
        first = machine.seconds(lambda placed=placed: train_all(specs, placed, config, mesh))
        compiled = programs.count - before
        own = machine.seconds(lambda placed=placed: train_all(specs, placed, config, mesh), 2)
        part = [
            spec for spec in specs if spec.seed == 0
        ]  # scikit-learn takes its time: one seed stands for all
        start = time.perf_counter()
        theirs = dict(
            zip((spec.key for spec in part), peers.sklearn_fit(part, data, DUAL_PATH), strict=True)
        )
        peer = (time.perf_counter() - start) * len(specs) / len(part)
        worst = max(
            abs(outcome.val_loss / theirs[outcome.spec.key] - 1)
            for outcome in train_all(part, placed, config, mesh)
        )
        rows.append(
            {
                "dim": dim,
                "probes": len(specs),
                "compile_s": first - own,
                "cold_s": first,
                "programs": compiled,
                "fsprobe_s": own,
                "sklearn_s": peer,
                "val_loss_difference": worst,
            }
        )
    return rows


def scoring(num_rows: int) -> dict[str, float]:
    """Seconds for both metrics of `num_rows` tags on the whole test set, all cores."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((num_rows, corpus.CLIPS["test"]), dtype=np.float32)
    labels = np.resize(corpus.labels("test").T, scores.shape)
    mesh = device_mesh()
    arrays = jax.device_put((scores, labels), NamedSharding(mesh, P("probe")))
    both = jax.jit(
        jax.shard_map(
            jax.vmap(metrics.both),
            mesh=mesh,
            in_specs=P("probe"),
            out_specs=P("probe"),
            check_vma=False,
        )
    )
    mine = np.stack(jax.block_until_ready(both(*arrays)), 1)
    own = machine.seconds(lambda: jax.block_until_ready(both(*arrays)), 3)
    start = time.perf_counter()
    theirs = peers.sklearn_metrics(scores, labels)
    peer = time.perf_counter() - start
    return {
        "rows": num_rows,
        "fsprobe_s": own,
        "sklearn_s": peer,
        "max_difference": float(np.abs(mine - theirs).max()),
    }


def linearity(dim: int, epochs: int) -> dict[str, float]:
    """Seconds per probe with 4 and with 32 seeds."""
    mesh = device_mesh()
    config = SolverConfig(max_epochs=epochs, patience=epochs + 1)
    data = on_devices(corpus.data(dim), mesh)
    episodes = corpus.episodes(32, 50, 10)
    cost = {}
    for count in (4, 32):
        specs = grid(episodes[:count], (10, 50), (1, 10))
        train_all(specs, data, config, mesh)
        cost[count] = machine.seconds(
            lambda specs=specs: train_all(specs, data, config, mesh), 2
        ) / len(specs)
    return {"4_s": cost[4], "32_s": cost[32], "ratio": cost[32] / cost[4]}


def startup() -> dict[str, float]:
    """Seconds from the command line to a finished sweep of one probe at 2816 dimensions, without
    and with compiled programs at hand, and the memory that takes beyond a sweep of 2 dimensions: of
    one embedding, and of three and all combined, to as many.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        times, memory = {}, {}
        for dim in (2, 256, 1024, 1536, 2816):
            _write_store(root, dim)
        for name, dims in (
            ("cold", [2816]),
            ("warm", [2816]),
            ("compiling", [2]),
            ("bare", [2]),
            ("rehearsal", [256, 1024, 1536]),
            ("several", [256, 1024, 1536]),
        ):
            command = [
                sys.executable,
                "-m",
                "fsprobe.sweep",
                f"--manifest={root}/manifest.csv",
                f"--out={root}/{name}",
                *(f"--store=x{dim}={root}/{dim}" for dim in dims),
                "--n_way=50",
                "--k_shot=full",
                "--num_seeds=1",
                "--max_epochs=1",
            ]
            times[name], memory[name] = machine.run(
                command, JAX_COMPILATION_CACHE_DIR=f"{root}/cache"
            )
    features = 4 * 2816 * sum(corpus.CLIPS.values())
    ratio, several = ((memory[name] - memory["bare"]) / features for name in ("warm", "several"))
    return {
        "cold_s": times["cold"],
        "warm_s": times["warm"],
        "features_bytes": features,
        "memory_ratio": ratio,
        "memory_ratio_several": several,
    }


def _write_store(root: Path, dim: int) -> None:
    data = corpus.data(dim)
    ids = [f"{split}{i}" for split, count in corpus.CLIPS.items() for i in range(count)]
    lines = ["clip_id,path,split,tags"]
    for split in corpus.CLIPS:
        lines += [
            f"{split}{i},,{split},{'|'.join(f't{tag}' for tag in np.flatnonzero(row))}"
            for i, row in enumerate(corpus.labels(split))
        ]
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    (root / "ids.txt").write_text("\n".join(ids) + "\n")
    np.save(root / "x.npy", np.concatenate([part.features for part in data[:3]]))
    import_arrays(root / "x.npy", root / "ids.txt", "x", root / str(dim))


def _beside(row: dict[str, Any], peer: str) -> tuple[str, str]:
    return f"{row[peer]:.2f}", f"{row[peer] / row['fsprobe_s']:.1f}"


def main(_: list[str]) -> None:
    flops, bandwidth = (
        machine.peak_flops(),
        machine.copy_bandwidth(),
    )  # before BLAS is held to one thread
    with shell.computing():
        measure(flops, bandwidth)


def measure_converged(
    dims: list[int], n_ways: tuple[int, ...], k_shots: tuple[int, ...]
) -> list[dict[str, Any]]:
    converged = lbfgs(dims, n_ways, k_shots, FLAGS.seeds)
    print(
        f"\nRegularised to convergence, {converged[0]['probes']} probes, best of {len(DUAL_PATH)} "
        f"strengths: seconds"
    )
    head = [
        "dim",
        "fsprobe",
        "scikit-learn",
        "ratio",
        "cold",
        "programs",
        "probes/s",
        "largest difference of the loss",
    ]
    print(
        text_table(
            [
                head,
                *(
                    [
                        str(r["dim"]),
                        f"{r['fsprobe_s']:.2f}",
                        *_beside(r, "sklearn_s"),
                        f"{r['cold_s']:.2f}",
                        str(r["programs"]),
                        f"{r['probes'] / r['fsprobe_s']:.1f}",
                        f"{r['val_loss_difference']:.1e}",
                    ]
                    for r in converged
                ),
            ]
        )
    )
    return converged


def measure(flops: float, bandwidth: float) -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is timed
    n_ways, k_shots, dims, epochs = (
        ((2, 10, 50), (1, 5, 20), [256, 2816], 5)
        if FLAGS.quick
        else (N_WAYS, K_SHOTS, FLAGS.width, FLAGS.epochs)
    )
    print(
        f"{machine.describe()}; {flops / 1e9:.0f} GFLOP/s in matrix products, "
        f"{bandwidth / 1e9:.1f} GB/s copying"
    )
    if FLAGS.converged:
        converged = measure_converged(dims, n_ways, k_shots)
        ours, theirs = (sum(r[key] for r in converged) for key in ("fsprobe_s", "sklearn_s"))
        print(f"\nRatio: sklearn {theirs / ours:.1f}")
        return
    rows = adam(dims, n_ways, k_shots, FLAGS.seeds, epochs)
    print(f"\nTraining, {rows[0]['probes']} probes x {epochs} epochs: seconds")
    head = [
        "dim",
        "fsprobe",
        "torch vmap",
        "ratio",
        "torch loop",
        "ratio",
        "cold",
        "programs",
        "probes/s",
        "of peak FLOP/s",
    ]
    print(
        text_table(
            [
                head,
                *(
                    [
                        str(r["dim"]),
                        f"{r['fsprobe_s']:.2f}",
                        *_beside(r, "torch_vmap_s"),
                        *_beside(r, "torch_loop_s"),
                        f"{r['cold_s']:.2f}",
                        str(r["programs"]),
                        f"{r['probes'] / r['fsprobe_s']:.1f}",
                        f"{r['flops'] / r['fsprobe_s'] / flops:.2f}",
                    ]
                    for r in rows
                ),
            ]
        )
    )
    total = {
        key: sum(r[key] for r in rows)
        for key in ("fsprobe_s", "torch_vmap_s", "torch_loop_s", "flops", "bytes")
    }
    converged = measure_converged(dims, n_ways, k_shots)
    score, seeds, start = scoring(500 if FLAGS.quick else 2500), linearity(1024, 5), startup()
    figures = {
        "machine": machine.describe(),
        "peak_flops": flops,
        "copy_bandwidth": bandwidth,
        "devices": jax.device_count(),
        "ratios": {
            "torch_loop": total["torch_loop_s"] / total["fsprobe_s"],
            "torch_vmap": total["torch_vmap_s"] / total["fsprobe_s"],
            "sklearn": sum(r["sklearn_s"] for r in converged)
            / sum(r["fsprobe_s"] for r in converged),
            "metrics": score["sklearn_s"] / score["fsprobe_s"],
        },
        "limit_share": {
            "flops": total["flops"] / total["fsprobe_s"] / flops,
            "bandwidth": total["bytes"] / total["fsprobe_s"] / bandwidth,
        },
        "training": rows,
        "regularised": converged,
        "metrics": score,
        "seeds": seeds,
        "startup": start,
        "peak_memory_bytes": machine.peak_memory(),
    }
    print(
        f"\nRatios: {', '.join(f'{name} {ratio:.1f}' for name, ratio in figures['ratios'].items())}"
    )
    print(
        f"Shares of the machine's limits: {figures['limit_share']['flops']:.2f} of peak FLOP/s; "
        f"weights and moments "
        f"would take {figures['limit_share']['bandwidth']:.2f} of the copy bandwidth, were they "
        f"not kept in cache"
    )
    print(
        f"Metrics: {score['rows']} rows in {score['fsprobe_s']:.2f} s, scikit-learn "
        f"{score['sklearn_s']:.2f} s, "
        f"largest difference {score['max_difference']:.1e}"
    )
    print(f"Cost per probe, 32 seeds to 4: {seeds['ratio']:.2f}")
    print(
        f"First result: {start['cold_s']:.1f} s cold, {start['warm_s']:.1f} s with the compilation "
        f"cache; memory "
        f"{start['memory_ratio']:.2f} x the features, {start['memory_ratio_several']:.2f} x the "
        f"widest of four; this "
        f"process at most {machine.peak_memory() / 2**30:.1f} GiB"
    )
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
