"""A sweep from its configuration to its rows: loads, plans, trains, records, and stops cleanly."""

import contextlib
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
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
from fsprobe.batch import dispatch, memory, processes
from fsprobe.batch.lanes import device_mesh
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted
from fsprobe.config import SweepConfig
from fsprobe.heads.data import Data
from fsprobe.heads.head import on_raw_features
from fsprobe.heads.solvers.registry import SOLVERS, solver_of, solvers_with, validation_of
from fsprobe.study import grid, provenance, records, word_probes
from fsprobe.study.notes import note, note_gaps, note_shortcomings
from fsprobe.study.results import (
    RUN,
    FinishedProbe,
    Planned,
    ResultsWriter,
    open_together,
    read_probes,
)
from fsprobe.study.seen_tags import SeenTags, words_of
from fsprobe.study.tables import ProbeRow
from fsprobe.words.config import NONE

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} probes [{elapsed}<{remaining}]"


class OutOfTime(Exception):
    """The time of --timeout_minutes is over."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, "try again later"


@dataclass(frozen=True, eq=False)
class _Sweep:
    """A sweep that is ready to train. specs: by embedding. words: None without. test_stores: of
    another corpus, if the test clips are of one.
    """

    config: SweepConfig
    manifest: Manifest
    stores: dict[str, Store]
    grid: grid.Grid
    words: SeenTags | None
    test_stores: dict[str, Store]
    specs: dict[str, list[ProbeSpec]]
    mesh: Mesh
    device_bytes: int
    start: float

    @property
    def wanted(self) -> Wanted:
        tagged = self.config.grid.test_clips == "tagged"
        return Wanted(tagged, self.config.weight_norms, self.config.save_heads)

    def load(self, embedding: str) -> features.Standardized:
        """Features of the grid's clips."""
        solver, clips, test = self.config.solver, self.grid.clips, self.grid.test
        rows = range(test.start if self.test_stores else test.stop)
        loaded = features.load_standardized(
            self.stores, self.manifest, clips.take(rows), embedding, solver.standardize
        )
        if self.test_stores:
            others, framenorm = clips.take(range(len(clips))[test]), solver.standardize == "frame"
            loaded = loaded.followed_by(
                features.load_features(self.test_stores, others, embedding, framenorm)
            )
        # float32 resolves more of features that are centred
        return loaded.centred(self.grid.train) if SOLVERS[solver.name].shifts else loaded


def sweep(config: SweepConfig, about: dict[str, Any] | None = None) -> list[ProbeRow]:
    """Train every probe of the configuration that its `out` does not hold yet; return all rows.

    about: flags for run.json. Raises OutOfTime, and InputError on bad input: before anything is
    written, except for the features of the second and later embeddings, which are read when their
    turn comes.
    """
    ready, identity = _prepare(config)
    # the other embeddings are loaded when their turn comes: one at a time is held
    resumed = processes.agreed(np.bool_((Path(config.out) / RUN).exists()))
    first = config.embeddings[0]
    with processes.in_step():
        loaded = {} if resumed else {first: ready.load(first)}
    planned = Planned(
        [spec.key for part in ready.specs.values() for spec in part],
        records.episode_rows(ready.grid),
        records.tag_count_rows(ready.manifest, ready.grid.pool),
        records.pair_rows(ready.manifest, ready.grid.pool),
        records.unseen_rows(ready.grid),
    )
    said = provenance.about(config, ready.stores, ready.manifest, about or {})
    with (
        jax.default_matmul_precision(config.solver.matmul_precision),
        open_together(config.out, identity, said, planned) as results,
    ):
        try:
            _train_all(ready, loaded, results)
        except BaseException as error:
            # a full disk, say; what went wrong first matters more
            with contextlib.suppress(OSError, InputError):
                results.finish(time.monotonic() - ready.start, complete=False)
            if isinstance(error, (KeyboardInterrupt, OutOfTime, SystemExit)):
                note(
                    f"{len(results.done)} of {len(planned.keys)} probes are in {config.out}; run "
                    "the same command to go on"
                )
            raise
        results.finish(time.monotonic() - ready.start, complete=True)
    rows = read_probes(config.out) if processes.leads() else []
    note_shortcomings(rows, config)
    return rows


def _prepare(config: SweepConfig) -> tuple[_Sweep, dict[str, Any]]:
    """(the sweep, what determines its rows). Nothing is written, no features are read."""
    start = time.monotonic()
    _require_served(config)
    manifest = read_manifest(config.manifest)
    names = [name for name, _ in config.stores]
    used = {name for part in config.embeddings for name in features.stores_of(names, part)}
    stores = features.open_stores({name: path for name, path in config.stores if name in used})
    if config.missing == "drop":
        manifest = _drop_missing(manifest, stores)
    identity = provenance.identity(config, stores, manifest)
    processes.require_same(identity, "flags, manifest or stores")
    features.require_clips(stores, manifest)
    solver = config.solver
    validation = validation_of(solver.name, solver.validation)
    words, manifest, test_stores = words_of(config, manifest, stores)
    if (Path(config.out) / RUN).exists():
        provenance.check_unchanged([*stores.values(), *test_stores.values()])
    drawn = grid.build_grid(
        manifest, config.grid, config.manifest, validation, words, solver.unlabelled != "none"
    )
    note_gaps(drawn, words, validation)
    specs = {
        embedding: grid.probe_specs(
            drawn,
            grid.probe_keys(config.grid, embedding, solver.name, config.words),
            validation,
        )
        for embedding in config.embeddings
    }
    mesh = device_mesh()
    device_bytes = int(processes.agreed(np.float32(memory.device_bytes(config.device_memory_gb))))
    ready = _Sweep(
        config,
        manifest,
        stores,
        drawn,
        words,
        test_stores,
        specs,
        mesh,
        device_bytes,
        start,
    )
    for embedding in config.embeddings:  # whether all will fit
        sizes = grid.sizes(drawn, features.width(stores, embedding))
        shots = [spec for spec in specs[embedding] if not word_probes.by_words(spec)]
        dispatch.plan(shots, sizes, solver, mesh, device_bytes, wanted=ready.wanted)
    return ready, identity


def _require_served(config: SweepConfig) -> None:
    """Raise InputError on settings that the solver would ignore, or that its heads cannot serve."""
    settings = config.solver
    if settings.name not in SOLVERS:
        raise InputError(f"`solver={settings.name}`: use one of {', '.join(SOLVERS)}")
    solver = SOLVERS[settings.name]
    for item in fields(settings):
        value, heeding = getattr(settings, item.name), solvers_with(item.name)
        if item.name != "name" and value != item.default and solver.name not in heeding:
            raise InputError(f"`{item.name}={value}`: only `solver={'|'.join(heeding)}` heeds it")
    for prior in config.words.prior:
        if prior != NONE and not solver_of(settings).takes_priors:
            takes = "|".join(other.name for other in SOLVERS.values() if other.takes_priors)
            raise InputError(
                f"`prior={prior}`: `solver={settings.name}` with "
                f"`unlabelled={settings.unlabelled}` takes none; use `solver={takes}` with "
                "`unlabelled=none`"
            )
    what = f"hidden={settings.hidden}" if solver.linear else f"solver={solver.name}"
    for name in ("weight_norms", "save_heads"):
        if getattr(config, name) and (settings.hidden or not solver.linear):
            raise InputError(f"`{name}`: with `{what}` a head has no weight per feature and tag")


def _train_all(
    ready: _Sweep, loaded: dict[str, features.Standardized], results: ResultsWriter
) -> None:
    """Every embedding in turn. loaded: those at hand."""
    config, total = ready.config, sum(map(len, ready.specs.values()))
    if results.done:
        note(f"{config.out} holds {len(results.done)} of {total} probes already")
    bar = tqdm(
        total=total,
        initial=len(results.done),
        smoothing=0.05,
        disable=None if processes.leads() else True,
        bar_format=_BAR,
    )
    with signals_deferred() as stop_if_told, bar:

        def tick(trained: float) -> None:
            bar.update(trained)
            with processes.in_step():
                stop_if_told()
                if 0 < 60 * config.timeout_minutes < time.monotonic() - ready.start:
                    raise OutOfTime

        for embedding in config.embeddings:
            bar.set_description(embedding)
            if results.done.issuperset(spec.key for spec in ready.specs[embedding]):
                continue
            with processes.in_step():
                mine = loaded.pop(embedding) if embedding in loaded else ready.load(embedding)
            _train(ready, embedding, mine, results, tick)
            del mine
            jax.clear_caches()  # thousands of memory mappings; Linux allows 65,530
            gc.collect()  # features that JAX left in reference cycles


def _train(
    ready: _Sweep,
    embedding: str,
    loaded: features.Standardized,
    results: ResultsWriter,
    tick: Callable[[float], None],
) -> None:
    """One embedding."""
    config, specs = ready.config, ready.specs[embedding]
    parts = grid.probe_data(ready.grid, loaded.features)
    if ready.words is not None:
        mine = [spec for spec in specs if word_probes.by_words(spec)]
        for found in word_probes.zero_shot(mine, ready.grid, ready.words, parts, results.done):
            results.append(found)
            tick(len(found))
    with processes.in_step():
        try:
            data = jax.block_until_ready(processes.place(parts, NamedSharding(ready.mesh, P())))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not processes.is_out_of_memory(error):
                raise
            raise InputError(
                f"the {loaded.features.nbytes / 1e6:,.1f} MB of features of {embedding} do not fit "
                "on a device; free its memory, or drop the embedding"
            ) from None

    chooses = config.solver.name in solvers_with("validation")
    validation = config.solver.validation if chooses else ""

    def finished(outcome: Outcome) -> FinishedProbe:
        if outcome.head is not None:
            outcome = outcome._replace(
                head=on_raw_features(outcome.head, loaded.mean, loaded.deviation)
            )
        return records.finished_probe(ready.grid, outcome, validation)

    def train(specs: list[ProbeSpec], data: Data) -> None:
        for outcomes in dispatch.train(
            specs,
            data,
            config.solver,
            ready.mesh,
            tick,
            wanted=ready.wanted,
            done=results.done,
            device_bytes=ready.device_bytes,
            note=lambda text: note(f"{embedding}: {text}"),
        ):
            results.append([finished(outcome) for outcome in outcomes])

    plain, pulled = word_probes.few_shots(specs)
    if plain:
        train(plain, data)
    if pulled and not results.done.issuperset(spec.key for spec in pulled):
        assert ready.words is not None
        starts, pulled = word_probes.priors(pulled, ready.grid, ready.words, parts)
        everywhere = NamedSharding(ready.mesh, P())
        train(pulled, data._replace(priors=processes.place(starts, everywhere)))


def _drop_missing(manifest: Manifest, stores: Mapping[str, Store]) -> Manifest:
    absent = features.missing_clips(stores, manifest)
    if absent:
        first, name = next(iter(absent.items()))
        note(
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
