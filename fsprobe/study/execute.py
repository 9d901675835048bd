"""A sweep from its configuration to its rows: loads, plans, trains, records, and stops cleanly."""

import contextlib
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest
from extract.shell import signals_deferred
from extract.store import Store
from fsprobe import features
from fsprobe.batch import dispatch as training
from fsprobe.batch import lanes as vectorize
from fsprobe.batch import memory, processes
from fsprobe.config import SweepConfig
from fsprobe.study import grid, provenance
from fsprobe.study.results import RUN, Given, read_probes
from fsprobe.study.shared_results import Follower, open_together
from fsprobe.study.tables import ProbeRow

OUT_OF_TIME = 75  # exit code of --timeout_minutes: EX_TEMPFAIL of sysexits.h, "try again later"
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} probes [{elapsed}<{remaining}]"


class OutOfTime(Exception):
    """--timeout_minutes are over."""

    exit_code = OUT_OF_TIME


def sweep(config: SweepConfig, about: dict[str, Any] | None = None) -> list[ProbeRow]:
    """Train every probe of the configuration that its --out does not hold yet; return all rows.

    about: flags for run.json. Raises OutOfTime, and InputError on bad input: before anything is
    written, but for values of the second embedding and further ones, which are read when their turn
    comes.
    """
    start = time.monotonic()
    manifest = read_manifest(config.manifest)
    stores = features.open_stores(
        {
            name: path
            for name, path in config.stores
            if name in config.embeddings or features.COMBINED in config.embeddings
        }
    )
    if config.missing == "drop":
        manifest = _drop_missing(manifest, stores)
    identity = provenance.identity(config, stores)
    processes.require_same(identity, "flags, manifest or stores")
    if (Path(config.out) / RUN).exists():
        provenance.check_unchanged(stores)
    features.require_clips(stores, manifest)
    probes = grid.build_grid(manifest, config.grid, config.manifest)
    if probes.scarce:
        fewest = min(probes.scarce, key=lambda pair: pair[1])
        _note(
            f"--on_scarce=fewer: {len(probes.scarce)} of "
            f"{len(probes.episodes) * max(config.grid.n_way)} supports "
            f"have fewer than K = {probes.max_shot} clips; the smallest is of {fewest[0]!r}, with "
            f"{fewest[1]}"
        )
    if probes.unscored:
        _note(
            f"{len(probes.unscored)} of {len(probes.pool)} tags have no positive or no negative "
            f"test clip: their "
            f"metrics stay empty and out of the means ({', '.join(probes.unscored)})"
        )
    keys = {
        embedding: grid.probe_keys(config.grid, embedding, config.solver.name)
        for embedding in config.embeddings
    }
    specs = {
        embedding: grid.probe_specs(probes, keys[embedding]) for embedding in config.embeddings
    }
    mesh = vectorize.device_mesh()
    room = int(processes.agreed(np.float32(memory.room(config.device_memory_gb))))
    for embedding in config.embeddings:  # whether all will fit
        sizes = grid.sizes(probes, features.width(stores, embedding))
        training.plan(specs[embedding], sizes, config.solver, mesh, room, norms=config.weight_norms)
    load = partial(_load, config, stores, manifest, probes)
    first = config.embeddings[
        0
    ]  # the others are loaded when their turn comes: one at a time is held
    resumed = processes.agreed(np.bool_((Path(config.out) / RUN).exists()))
    with processes.in_step():
        loaded = {} if resumed else {first: load(first)}
    given = Given(
        [key for part in keys.values() for key in part],
        grid.episode_rows(probes),
        grid.tag_count_rows(manifest, probes.pool),
        grid.pair_rows(manifest, probes.pool),
    )

    with (
        jax.default_matmul_precision(config.solver.matmul_precision),
        open_together(
            config.out, identity, provenance.about(config, stores, manifest, about or {}), given
        ) as results,
    ):
        total = len(given.keys)
        if results.done:
            _note(f"{config.out} holds {len(results.done)} of {total} probes already")
        bar = tqdm(
            total=total,
            initial=len(results.done),
            smoothing=0.05,
            disable=None if processes.leads() else True,
            bar_format=_BAR,
        )
        try:
            with signals_deferred() as stop_if_told, bar:

                def tick(trained: float) -> None:
                    bar.update(trained)
                    with processes.in_step():
                        stop_if_told()
                        if 0 < 60 * config.timeout_minutes < time.monotonic() - start:
                            raise OutOfTime

                for embedding in config.embeddings:
                    bar.set_description(embedding)
                    if not results.done.issuperset(keys[embedding]):
                        with processes.in_step():
                            matrix = (
                                loaded.pop(embedding) if embedding in loaded else load(embedding)
                            )
                        _train(probes, specs[embedding], matrix, config, mesh, room, results, tick)
                        del matrix
                        jax.clear_caches()  # thousands of memory mappings; Linux allows 65,530
                        gc.collect()  # features that JAX left in reference cycles
        except BaseException as error:
            with contextlib.suppress(
                OSError, InputError
            ):  # a full disk, say; what went wrong first matters more
                results.finish(time.monotonic() - start, complete=False)
            if isinstance(error, (KeyboardInterrupt, OutOfTime, SystemExit)):
                _note(
                    f"{len(results.done)} of {total} probes are in {config.out}; run the same "
                    f"command to go on"
                )
            raise
        results.finish(time.monotonic() - start, complete=True)
    rows = read_probes(config.out) if processes.leads() else []
    if diverged := sum(row.best_epoch == 0 for row in rows if row.solver == "adam"):
        _note(
            f"{diverged} probes never had a finite validation loss: their metrics are empty; lower "
            f"--learning_rate"
        )
    return rows


def _load(
    config: SweepConfig,
    stores: dict[str, Store],
    manifest: Manifest,
    probes: grid.Grid,
    embedding: str,
) -> np.ndarray:
    matrix = features.load_standardized(
        stores, manifest, probes.clips, embedding, config.solver.standardize
    )
    if (
        config.solver.name == "lbfgs"
    ):  # an unpenalised bias makes up for any shift, and float32 resolves more
        matrix -= matrix[probes.train].mean(axis=0, dtype=np.float64).astype(np.float32)
    return matrix


def _train(
    probes: grid.Grid,
    specs: list[vectorize.ProbeSpec],
    matrix: np.ndarray,
    config: SweepConfig,
    mesh: Mesh,
    room: int,
    results: Follower,
    tick: Callable[[float], None],
) -> None:
    parts = grid.probe_data(probes, matrix)
    with processes.in_step():
        try:
            data = jax.block_until_ready(processes.place(parts, NamedSharding(mesh, P())))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not processes.is_out_of_memory(error):
                raise
            raise InputError(
                f"the {matrix.nbytes / 1e6:,.1f} MB of features of {specs[0].key.embedding} do not "
                f"fit on "
                "a device; free its memory, or drop the embedding"
            ) from None
    del parts
    for outcomes in training.train(
        specs,
        data,
        config.solver,
        mesh,
        tick,
        norms=config.weight_norms,
        tagged=config.grid.test_clips == "tagged",
        done=results.done,
        room=room,
        note=lambda text: _note(f"{specs[0].key.embedding}: {text}"),
    ):
        results.append([grid.outcome_rows(probes, outcome) for outcome in outcomes])


def _drop_missing(manifest: Manifest, stores: dict[str, Store]) -> Manifest:
    absent = features.missing_clips(stores, manifest)
    if absent:
        first, name = next(iter(absent.items()))
        _note(
            f"{len(absent)} clips dropped: they are not in every store (first: {first!r}, not in "
            f"{name!r})"
        )
    return replace(
        manifest,
        splits=tuple(
            "" if clip in absent else split
            for clip, split in zip(manifest.clip_ids, manifest.splits, strict=True)
        ),
    )


def _note(text: str) -> None:
    if processes.leads():
        tqdm.write(f"fsprobe.sweep: {text}", file=sys.stderr)
