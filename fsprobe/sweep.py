"""Few-shot probes over a grid: every embedding × n_way × k_shot × seed, trained together, tested, recorded.

  python -m fsprobe.sweep --manifest=manifest.csv --store=vggish=stores/vggish --store=passt=stores/passt \\
      --n_way=5 --n_way=10 --k_shot=1 --k_shot=5 --k_shot=full --num_seeds=10 --out=results/mine

or, with the flags in a file, `python -m fsprobe.sweep --flagfile=launch/paper.cfg`. Repeat --store, --embedding,
--n_way and --k_shot to give several values. Writes probes.csv, per_tag.csv, episodes.csv and run.json to --out and
prints a table per embedding. Rerunning the same command finishes what is missing. The defaults are the paper's.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import platformdirs
from absl import flags
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

import fsprobe
from extract.errors import InputError, run
from extract.manifest import Manifest, read_manifest
from extract.store import Store
from fsprobe import features, grid, tables, vectorize
from fsprobe.config import FULL, GridConfig, KShot, SolverConfig, SweepConfig
from fsprobe.results import ProbeRow, ResultsWriter, open_results, read_probes

FLAGS = flags.FLAGS

flags.DEFINE_string("manifest", None, "manifest.csv of extract.prepare: clips, splits and tags. Required.")
flags.DEFINE_multi_string("store", [], "NAME=DIR: features by extract.run or extract.import_arrays. Repeatable; "
                          "`combined` concatenates stores in the order given.")
flags.DEFINE_multi_string("embedding", [], "A store's name, or `combined`. Repeatable. Default: every store and, "
                          "with two or more, `combined`.")
flags.DEFINE_multi_integer("n_way", list(GridConfig.n_way), "Tags per episode. Repeatable.", lower_bound=1)
flags.DEFINE_multi_string("k_shot", [str(k_shot) for k_shot in GridConfig.k_shot],
                          "Support clips per tag, or `full`: every training clip. Repeatable.")
flags.DEFINE_integer("num_seeds", GridConfig.num_seeds, "Seeds per cell: each draws its own episode.", lower_bound=1)
flags.DEFINE_integer("seed", GridConfig.seed, "The first seed; the others follow it.", lower_bound=0)
flags.DEFINE_string("tags", GridConfig.tags, "The pool episodes draw from: top50, top:N, tail (all below the 50 most "
                    "frequent), all, or file:PATH with one tag a line.")
flags.DEFINE_enum("on_scarce", GridConfig.on_scarce, ["error", "fewer", "drop_tag"],
                  "Where a tag has fewer than K training clips left: stop, train on those it has, or draw another tag.")
flags.DEFINE_enum("missing", SweepConfig.missing, ["error", "drop"],
                  "Where a store lacks a clip that has a split: stop, or drop the clip for every embedding.")
flags.DEFINE_string("out", None, "Directory of the results. Required.")
flags.DEFINE_float("learning_rate", SolverConfig.learning_rate, "Adam's step size.", lower_bound=0)
flags.DEFINE_float("weight_decay", SolverConfig.weight_decay, "L2 added to the gradient, weights and bias alike.",
                   lower_bound=0)
flags.DEFINE_integer("batch_size", SolverConfig.batch_size, "Clips per step.", lower_bound=1)
flags.DEFINE_integer("max_epochs", SolverConfig.max_epochs, "Epochs at most.", lower_bound=1)
flags.DEFINE_integer("patience", SolverConfig.patience, "Epochs without a lower validation loss before stopping.",
                     lower_bound=1)
flags.DEFINE_bool("restore_best", SolverConfig.restore_best,
                  "Test the weights of the best epoch; --norestore_best: the last, as the authors' code does.")


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
            raise InputError(f"--embedding={embedding}: unknown; there are {', '.join([*names, features.COMBINED])}")
    k_shot = sorted(dict.fromkeys(map(_parse_shot, FLAGS.k_shot)), key=tables.shot_order)
    if FLAGS.seed + FLAGS.num_seeds > 2**31:
        raise InputError(f"--seed={FLAGS.seed}: seeds must stay below 2147483648")
    return SweepConfig(
        manifest=FLAGS.manifest, stores=stores, embeddings=embeddings, out=FLAGS.out, missing=FLAGS.missing,
        grid=GridConfig(n_way=tuple(sorted(set(FLAGS.n_way))), k_shot=tuple(k_shot), num_seeds=FLAGS.num_seeds,
                        seed=FLAGS.seed, tags=FLAGS.tags, on_scarce=FLAGS.on_scarce),
        solver=SolverConfig(learning_rate=FLAGS.learning_rate, weight_decay=FLAGS.weight_decay,
                            batch_size=FLAGS.batch_size, max_epochs=FLAGS.max_epochs, patience=FLAGS.patience,
                            restore_best=FLAGS.restore_best))


def sweep(config: SweepConfig) -> list[ProbeRow]:
    """Train every probe of the configuration that its --out does not hold yet; return all rows."""
    start = time.monotonic()
    manifest = read_manifest(config.manifest)
    stores = features.open_stores(dict(config.stores))
    if config.missing == "drop":
        manifest = _drop_missing(manifest, stores)
    features.require_clips(stores, manifest)
    probes = grid.build_grid(manifest, config.grid)
    if probes.unscored:
        _note(f"{len(probes.unscored)} of {len(probes.pool)} tags have no positive or no negative test clip: their "
              f"metrics stay empty and out of the means ({', '.join(probes.unscored)})")
    loaded = {embedding: features.load_features(stores, probes.clips, embedding) for embedding in config.embeddings}

    with open_results(config.out, _identity(config, stores), _about(), grid.episode_rows(probes)) as results:
        keys = {embedding: grid.probe_keys(config.grid, embedding, config.solver.name)
                for embedding in config.embeddings}
        total = sum(map(len, keys.values()))
        if results.done:
            _note(f"{config.out} holds {len(results.done)} of {total} probes already")
        bar = tqdm(total=total * config.solver.max_epochs, initial=len(results.done) * config.solver.max_epochs,
                   unit="epoch", unit_scale=True, smoothing=0.05, disable=None)
        complete = False
        try:
            with bar:
                for embedding in config.embeddings:
                    specs = grid.probe_specs(probes, keys[embedding], results.done)
                    bar.set_description(embedding)
                    if specs:
                        _train(probes, specs, loaded.pop(embedding), config.solver, results, bar)
            complete = True
        except KeyboardInterrupt:
            _note(f"{len(results.done)} of {total} probes are in {config.out}; run the same command to go on")
            raise
        finally:
            results.finish([key for part in keys.values() for key in part], time.monotonic() - start, complete)
    return read_probes(config.out)


def _train(probes: grid.Grid, specs: list[vectorize.ProbeSpec], matrix: Any, config: SolverConfig,
           results: ResultsWriter, bar: tqdm) -> None:
    mesh = vectorize.device_mesh()
    data = jax.device_put(grid.probe_data(probes, matrix), NamedSharding(mesh, P()))
    for chunk in vectorize.plan(specs, matrix.shape[1], jax.default_backend(), mesh.size):
        outcomes = vectorize.train(chunk, data, config, mesh, bar.update)
        rows = [grid.outcome_rows(probes, outcome) for outcome in outcomes]
        results.append([row for row, _ in rows], [tag for _, tags in rows for tag in tags])


def _drop_missing(manifest: Manifest, stores: dict[str, Store]) -> Manifest:
    absent = features.missing_clips(stores, manifest)
    if absent:
        first, name = next(iter(absent.items()))
        _note(f"{len(absent)} clips dropped: they are not in every store (first: {first!r}, not in {name!r})")
    return manifest.take([row for row, clip in enumerate(manifest.clip_ids) if clip not in absent])


def _identity(config: SweepConfig, stores: dict[str, Store]) -> dict[str, Any]:
    """What determines the rows: files by content, not by place."""
    return {"manifest_sha256": hashlib.sha256(Path(config.manifest).read_bytes()).hexdigest(),
            "stores": [[name, _store_sha256(store)] for name, store in stores.items()],
            "embeddings": config.embeddings, "missing": config.missing,
            "grid": asdict(config.grid), "solver": asdict(config.solver)}


def _store_sha256(store: Store) -> str:
    """Of the recorded checksums of a complete store, else of the arrays themselves."""
    digest = hashlib.sha256()
    if checksums := store.meta.get("checksums"):
        digest.update(json.dumps(checksums, sort_keys=True).encode())
    else:
        for file in sorted(file for file in store.path.rglob("*") if file.suffix in (".npy", ".txt")):
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _about() -> dict[str, Any]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {"flags": {name: flag.value for name, flag in _own_flags().items()},
            "versions": {"fsprobe": fsprobe.__version__, "python": sys.version.split()[0],
                         **{name: version(name) for name in packages}},
            "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
            "git_commit": _git_commit()}


def _own_flags() -> dict[str, flags.Flag]:
    return {flag.name: flag for flag in FLAGS.flags_by_module_dict().get(sys.argv[0], [])}


def _git_commit() -> str | None:
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None


def _parse_store(text: str) -> tuple[str, str]:
    name, separator, directory = text.partition("=")
    if not (name and separator and directory):
        raise InputError(f"--store={text}: write it as --store=NAME=DIR")
    return name, directory


def _parse_shot(text: str) -> KShot:
    if text == FULL:
        return FULL
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--k_shot={text}: use a positive integer or `full`")
    return int(text)


def _note(text: str) -> None:
    tqdm.write(f"fsprobe.sweep: {text}", file=sys.stderr)


def _use_all_cores_and_cache() -> None:
    """One host device per core, so that probes train side by side; compiled programs kept between runs."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(platformdirs.user_cache_path("fsprobe") / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def main() -> None:
    config = config_from_flags()
    _use_all_cores_and_cache()
    rows = sweep(config)
    for embedding in config.embeddings:
        mine = [row for row in rows if row.embedding == embedding]
        print(f"\n{embedding}: mean ± standard deviation over {config.grid.num_seeds} seeds")
        for metric in ("mAP", "roc_auc"):
            print(tables.grid_table(mine, metric))
    print(f"\n{len(rows)} probes in {config.out}")


if __name__ == "__main__":
    run(main)
