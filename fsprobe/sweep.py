"""Few-shot probes over a grid: every embedding × n_way × k_shot × seed, trained together, tested,
recorded.

  python -m fsprobe.sweep --manifest=manifest.csv --store=vggish=stores/vggish
  --store=passt=stores/passt \\
      --n_way=5 --n_way=10 --k_shot=1 --k_shot=5 --k_shot=full --num_seeds=10 --out=results/mine

or, with the flags in a file, `python -m fsprobe.sweep --flagfile=launch/paper.cfg`. Repeat --store,
--embedding, --n_way and --k_shot to give several values. Writes probes.csv, per_tag.csv,
episodes.csv, run.json and what else fsprobe.report reads to --out, and prints a table per
embedding. Rerunning the same command finishes what is missing. The defaults are the paper's.
"""

import importlib
import math
import os
import re
import sys

import jax
import threadpoolctl
from absl import flags

from extract.errors import InputError
from extract.files import cache_folder
from extract.shell import run
from fsprobe import features
from fsprobe.batch import processes
from fsprobe.config import AUTO, FULL, GridConfig, KShot, SolverConfig, SweepConfig
from fsprobe.reporting import grid_table as tables
from fsprobe.study.execute import OUT_OF_TIME, OutOfTime, sweep

_INT32 = 2**31 - 1

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "manifest", None, "manifest.csv of extract.prepare: clips, splits and tags. Required."
)
flags.DEFINE_multi_string(
    "store",
    [],
    "NAME=DIR: features by extract.run or extract.import_arrays. Repeatable; "
    "`combined` concatenates stores in the order given.",
)
flags.DEFINE_multi_string(
    "embedding",
    [],
    "A store's name, or `combined`. Repeatable. Default: every store and, "
    "with two or more, `combined`.",
)
flags.DEFINE_multi_integer(
    "n_way", list(GridConfig.n_way), "Tags per episode. Repeatable.", lower_bound=1
)
flags.DEFINE_multi_string(
    "k_shot",
    [str(k_shot) for k_shot in GridConfig.k_shot],
    "Support clips per tag, or `full`: every training clip. Repeatable.",
)
flags.DEFINE_integer(
    "num_seeds", GridConfig.num_seeds, "Seeds per cell: each draws its own episode.", lower_bound=1
)
flags.DEFINE_integer(
    "seed", GridConfig.seed, "The first seed; the others follow it.", lower_bound=0
)
flags.DEFINE_string(
    "tags",
    GridConfig.tags,
    "The pool episodes draw from: top50, top:N, tail (all below the 50 most "
    "frequent), all, or file:PATH with one tag a line.",
)
flags.DEFINE_enum(
    "on_scarce",
    GridConfig.on_scarce,
    ["error", "fewer", "drop_tag"],
    "Where a tag has fewer than K training clips left: stop, train on those it has, or draw "
    "another tag.",
)
flags.DEFINE_enum(
    "missing",
    SweepConfig.missing,
    ["error", "drop"],
    "Where a store lacks a clip that has a split: stop, or drop the clip for every embedding.",
)
flags.DEFINE_enum(
    "test_clips",
    GridConfig.test_clips,
    ["all", "tagged"],
    "Test on all test clips, or on those with at least one of the N tags, as the authors' code "
    "does.",
)
flags.DEFINE_string("out", None, "Directory of the results. Required.")
flags.DEFINE_string(
    "dataset", SweepConfig.dataset, "Name of the data set, for the captions of fsprobe.report."
)
flags.DEFINE_bool(
    "weight_norms",
    SweepConfig.weight_norms,
    "Write the weights' L1 norm per feature, for the report's weight shares and correlations.",
)
flags.DEFINE_float(
    "timeout_minutes",
    SweepConfig.timeout_minutes,
    f"Stop cleanly after this long, with exit code {OUT_OF_TIME}; the same command goes on. 0: "
    f"never.",
    lower_bound=0,
)
flags.DEFINE_float(
    "device_memory_gb",
    SweepConfig.device_memory_gb,
    "Memory that a device may use, GB; probes are packed into it. 0: measured: what an accelerator "
    "offers, or half of the host's available memory over its CPU devices.",
    lower_bound=0,
)
flags.DEFINE_string(
    "coordinator",
    "",
    "HOST:PORT of the first process, to sweep with several: start the same command "
    "on every host with --num_processes and its own --process_id. The first one writes --out.",
)
flags.DEFINE_integer(
    "num_processes", 1, "With --coordinator: how many processes there are.", lower_bound=1
)
flags.DEFINE_integer("process_id", 0, "With --coordinator: this process, from 0.", lower_bound=0)
flags.DEFINE_bool(
    "distributed", False, "Find the other processes by the environment: under Slurm, on a TPU pod."
)
flags.DEFINE_enum(
    "solver",
    SolverConfig.name,
    ["adam", "lbfgs"],
    "adam: the paper's. lbfgs: L2-regularised logistic regression to convergence.",
)
flags.DEFINE_string(
    "l2",
    str(SolverConfig.l2),
    "lbfgs: strength of the penalty l2/2 |w|^2, or `auto`: chosen for each "
    "probe by the validation loss. scikit-learn's C is 1 / (clips * l2).",
)
flags.DEFINE_enum(
    "standardize",
    SolverConfig.standardize,
    ["none", "train", "frame"],
    "Features as they are; each dimension by its mean and deviation over all training clips; or "
    "the "
    "statistics of standardised frames, which `combined` always has.",
)
flags.DEFINE_integer(
    "hidden",
    SolverConfig.hidden,
    "adam: units of a hidden layer with ReLU and dropout 0.5; 0: none.",
    lower_bound=0,
)
flags.DEFINE_enum(
    "matmul_precision",
    SolverConfig.matmul_precision,
    ["float32", "tensorfloat32", "bfloat16"],
    "Precision of matrix products, where the device has a faster one. A CPU computes in float32.",
)
flags.DEFINE_float("learning_rate", SolverConfig.learning_rate, "Adam's step size.", lower_bound=0)
flags.DEFINE_float(
    "weight_decay",
    SolverConfig.weight_decay,
    "L2 added to the gradient, weights and bias alike.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "batch_size", SolverConfig.batch_size, "Clips per step.", lower_bound=1, upper_bound=_INT32
)
flags.DEFINE_integer(
    "max_epochs", SolverConfig.max_epochs, "Epochs at most.", lower_bound=1, upper_bound=_INT32
)
flags.DEFINE_integer(
    "patience",
    SolverConfig.patience,
    "Epochs without a lower validation loss before stopping.",
    lower_bound=1,
    upper_bound=_INT32,
)
flags.DEFINE_bool(
    "restore_best",
    SolverConfig.restore_best,
    "Test the weights of the best epoch; --norestore_best: the last, as the authors' code does.",
)


def config_from_flags() -> SweepConfig:
    """The flags as a SweepConfig. Raises InputError on what a flag's type does not catch."""
    for name in ("manifest", "out"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is required; see --help")
    stores = tuple(_parse_store(text) for text in FLAGS.store)
    if not stores:
        raise InputError("--store=NAME=DIR is required at least once; see --help")
    names = [name for name, _ in stores]
    if len(set(names)) < len(names):
        raise InputError(f"--store: the name {max(names, key=names.count)!r} is given twice")
    defaults = [*names, features.COMBINED] if len(names) > 1 else names
    embeddings = tuple(dict.fromkeys(FLAGS.embedding or defaults))
    for embedding in embeddings:
        if embedding not in (*names, features.COMBINED):
            raise InputError(
                f"--embedding={embedding}: unknown; there are "
                f"{', '.join([*names, features.COMBINED])}"
            )
    k_shot = sorted(dict.fromkeys(map(_parse_shot, FLAGS.k_shot)), key=tables.shot_order)
    if FLAGS.seed + FLAGS.num_seeds - 1 > _INT32:
        raise InputError(f"--seed={FLAGS.seed}: seeds must stay below {_INT32 + 1}")
    for name in ("learning_rate", "weight_decay", "timeout_minutes", "device_memory_gb"):
        if not math.isfinite(value := float(FLAGS[name].value or 0)):
            raise InputError(f"--{name}={value}: use a finite number")
    if FLAGS.process_id >= FLAGS.num_processes:
        raise InputError(
            f"--process_id={FLAGS.process_id}: it must be below "
            f"--num_processes={FLAGS.num_processes}"
        )
    if FLAGS.num_processes > 1 and not FLAGS.coordinator:
        raise InputError(
            f"--num_processes={FLAGS.num_processes}: --coordinator=HOST:PORT must say where they "
            f"meet"
        )
    if FLAGS.distributed and FLAGS.coordinator:
        raise InputError("--distributed finds the coordinator by itself; leave out --coordinator")
    if FLAGS.hidden and FLAGS.solver != "adam":
        raise InputError(f"--hidden={FLAGS.hidden}: only --solver=adam trains a hidden layer")
    if FLAGS.hidden and FLAGS.weight_norms:
        raise InputError(
            f"--weight_norms: a probe with --hidden={FLAGS.hidden} has no weight per feature and "
            f"tag"
        )
    return SweepConfig(
        manifest=FLAGS.manifest,
        stores=stores,
        embeddings=embeddings,
        out=FLAGS.out,
        missing=FLAGS.missing,
        weight_norms=FLAGS.weight_norms,
        dataset=FLAGS.dataset,
        timeout_minutes=FLAGS.timeout_minutes,
        device_memory_gb=FLAGS.device_memory_gb,
        grid=GridConfig(
            n_way=tuple(sorted(set(FLAGS.n_way))),
            k_shot=tuple(k_shot),
            num_seeds=FLAGS.num_seeds,
            seed=FLAGS.seed,
            tags=FLAGS.tags,
            on_scarce=FLAGS.on_scarce,
            test_clips=FLAGS.test_clips,
        ),
        solver=SolverConfig(
            name=FLAGS.solver,
            learning_rate=FLAGS.learning_rate,
            weight_decay=FLAGS.weight_decay,
            batch_size=FLAGS.batch_size,
            max_epochs=FLAGS.max_epochs,
            patience=FLAGS.patience,
            restore_best=FLAGS.restore_best,
            hidden=FLAGS.hidden,
            l2=_parse_l2(FLAGS.l2),
            standardize=FLAGS.standardize,
            matmul_precision=FLAGS.matmul_precision,
        ),
    )


def _own_flags() -> dict[str, flags.Flag]:
    return {flag.name: flag for flag in FLAGS.flags_by_module_dict().get(sys.argv[0], [])}


def _parse_store(text: str) -> tuple[str, str]:
    name, separator, directory = text.partition("=")
    if not (name and separator and directory):
        raise InputError(f"--store={text}: write it as --store=NAME=DIR")
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError(f"--store={text}: a name is letters, digits, '_', '.', '+' and '-'")
    return name, directory


def _parse_shot(text: str) -> KShot:
    if text == FULL:
        return FULL
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise InputError(f"--k_shot={text}: use a positive integer or `full`")
    return int(text)


def _parse_l2(text: str) -> float | str:
    if text == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"--l2={text}: use a positive number or `auto`")
    return value


def _use_all_cores_and_cache() -> None:
    """One host device per core, so that probes train side by side; compiled programs kept between
    runs.

    Each device calls SciPy's LAPACK by itself: more threads below it would wait for each other, at
    twice the time.
    """
    importlib.import_module("scipy.linalg.cython_lapack")
    threadpoolctl.threadpool_limits(1, "blas")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(folder / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _require_devices() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX_PLATFORMS asks for what is not there
        raise InputError(
            f"JAX finds no device ({error}); check "
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')} "
            "and the installed extra, gpu or tpu"
        ) from error


def main() -> int:
    config = config_from_flags()
    _use_all_cores_and_cache()
    try:
        with processes.joined(
            FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id, FLAGS.distributed
        ):
            _require_devices()
            processes.require_devices_alike()
            rows = sweep(config, {name: flag.value for name, flag in _own_flags().items()})
    except OutOfTime:
        return OUT_OF_TIME
    if not processes.leads():
        return 0
    for embedding in config.embeddings:
        mine = [row for row in rows if row.embedding == embedding]
        print(f"\n{embedding}: mean ± standard deviation over {config.grid.num_seeds} seeds")
        for metric in ("mAP", "roc_auc"):
            print(tables.grid_table(mine, metric))
    print(f"\n{len(rows)} probes in {config.out}")
    return 0


if __name__ == "__main__":
    run(main)
