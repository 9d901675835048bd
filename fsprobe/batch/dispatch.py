"""From specs to outcomes: passes every probe to the module that fits probes of its kind, in
portions that fit into the device's memory.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from extract.errors import InputError
from fsprobe.batch import by_seed, by_support, lanes, memory, processes
from fsprobe.batch.packing import CPU_CLIPS, Bucket, pack_probes
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted
from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data
from fsprobe.heads.descent.minimise import WEAKEST_DUAL
from fsprobe.heads.solvers.registry import settings_of, solver_of
from fsprobe.heads.solvers.solver import Settings, Solver

_LARGEST_CELL = 4096  # support clips: a Gram matrix of 64 MiB


class Plan(NamedTuple):
    """The portions. buckets: of probes that train in epochs. cells, lanes: probes that are fitted
    seed by seed, and how many seeds run side by side. shared: probes that are fitted by support
    set. lines: the plan in words.
    """

    buckets: tuple[Bucket, ...] = ()
    cells: tuple[ProbeSpec, ...] = ()
    lanes: int = 1
    shared: tuple[ProbeSpec, ...] = ()
    lines: tuple[str, ...] = ()


def plan(
    specs: Sequence[ProbeSpec],
    sizes: memory.Sizes,
    config: SolverConfig,
    mesh: Mesh,
    device_bytes: int,
    *,
    squares: np.ndarray | None = None,
    wanted: Wanted = Wanted(),
    divisor: int = 1,
) -> Plan:
    """Which probes are fitted together. A pure function of its arguments.

    device_bytes: the memory that a device may use. squares: float `[clip]`, squared norms of the
    training clips, needed to fit probes of a given strength on inner products. Without squares such
    probes are planned on the clips themselves, which takes less memory. divisor: make portions this
    many times smaller. Raises InputError if one probe does not fit.
    """
    if solver_of(config).steps is None:
        return _plan_fits(specs, sizes, config, mesh, device_bytes, squares, wanted, divisor)
    platform = mesh.devices.flat[0].platform
    buckets = pack_probes(specs, sizes, platform, mesh.size, config, device_bytes, divisor)
    lines = [
        f"{len(bucket.specs)} probes of up to {bucket.n_tags} tags, {bucket.n_clips} clips: "
        f"{len(bucket.chunks(mesh.size))} chunks, {bucket.per_device} a device, {bucket.lanes} in "
        f"lockstep, {bucket.megabytes:,.1f} MB"
        for bucket in buckets
    ]
    return Plan(tuple(buckets), lines=tuple(lines))


def train(
    specs: Sequence[ProbeSpec],
    data: Data,
    config: SolverConfig,
    mesh: Mesh,
    tick: Callable[[float], None] = lambda probes: None,
    *,
    wanted: Wanted = Wanted(),
    done: Collection[Any] = (),
    device_bytes: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Outcome]]:
    """Train and test every probe; lists of outcomes as they become ready.

    tick(probes) is called with how much more has been trained, in probes; note(line) with each line
    of the plan. done: keys of probes to leave out, which changes no bit of the others.
    device_bytes: None: measured. Where memory runs out all the same, portions are halved and `note`
    says so; InputError where they cannot be halved.
    """
    finished, divisor, told = set(done), 1, 0.0
    strength_given = solver_of(config).needs_products and not isinstance(config.l2, str)
    train_features = data.train.features
    planned = partial(
        plan,
        specs,
        memory.Sizes.of(data),
        config,
        mesh,
        memory.device_bytes(0) if device_bytes is None else device_bytes,
        wanted=wanted,
        squares=np.einsum("cd,cd->c", train_features, train_features) if strength_given else None,
    )

    def count(trained: float) -> None:
        nonlocal told
        told += trained
        tick(trained)

    while True:
        portions = planned(divisor=divisor)
        for line in portions.lines:
            note(line)
        try:
            for outcomes in _train(portions, data, config, mesh, count, wanted, finished):
                finished |= {outcome.spec.key for outcome in outcomes}
                yield outcomes  # before a tick, which may raise
                tick(len(outcomes) - told)
                told = 0.0
            return
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not processes.ran_out(error):
                raise
        tick(-told)
        told, divisor = 0.0, 2 * divisor
        if planned(divisor=divisor)[:4] == portions[:4]:
            raise InputError(
                "`device_memory_gb`: the device is out of memory, and a chunk can't be smaller; "
                "drop the largest `n_way`, `k_shot` or `embedding`"
            )
        note(f"out of memory: going on with chunks of 1/{divisor} the size")


def _train(
    portions: Plan,
    data: Data,
    config: SolverConfig,
    mesh: Mesh,
    tick: Callable[[float], None],
    wanted: Wanted,
    done: Collection[Any],
) -> Iterator[list[Outcome]]:
    solver = solver_of(config)
    widest = max((bucket.n_tags for bucket in portions.buckets), default=0)
    longest = max((b.n_clips for b in portions.buckets if b.n_clips <= CPU_CLIPS), default=0)
    for bucket in portions.buckets:
        assert solver.steps is not None
        steps = solver.steps(config, bucket.validate_every)
        for chunk in bucket.chunks(mesh.size):
            chunk = chunk.without(done)
            if any(chunk.specs):
                yield lanes.train_chunk(
                    chunk,
                    data,
                    steps,
                    config,
                    mesh,
                    lambda epochs: tick(epochs / config.max_epochs),
                    wanted,
                    widest,
                    longest,
                )
    settings = settings_of(config)
    yield from by_seed.fit_by_seed(
        portions.cells, data, solver, settings, mesh, wanted, portions.lanes, done
    )
    yield from by_support.fit_by_support(
        portions.shared, data, solver, settings, mesh, wanted, done
    )


def _plan_fits(
    specs: Sequence[ProbeSpec],
    sizes: memory.Sizes,
    config: SolverConfig,
    mesh: Mesh,
    device_bytes: int,
    squares: np.ndarray | None,
    wanted: Wanted,
    divisor: int,
) -> Plan:
    solver, settings = solver_of(config), settings_of(config)
    apart = {spec.key: _suits_cell(spec, solver, settings, squares) for spec in specs}
    cells = tuple(spec for spec in specs if apart[spec.key])
    shared = tuple(spec for spec in specs if not apart[spec.key])
    platform, side_by_side, lines = mesh.devices.flat[0].platform, 1, []
    if cells:
        side_by_side, size = by_seed.plan_by_seed(
            cells, sizes, solver, settings, wanted, platform, device_bytes, divisor
        )
        lines.append(
            f"{len(cells)} probes, {side_by_side} seeds a device at a time, {size:,.1f} MB"
        )
    if shared:
        size = by_support.plan_by_support(shared, sizes, settings, mesh, device_bytes)
        lines.append(f"{len(shared)} probes that share support sets: {size:,.1f} MB a device")
    return Plan((), cells, side_by_side, shared, tuple(lines))


def _suits_cell(
    spec: ProbeSpec, solver: Solver, settings: Settings, squares: np.ndarray | None
) -> bool:
    """Is the probe fitted by itself, and not with all that share its support set?"""
    if solver.path is None or solver.cell is None or spec.prior is not None:
        return solver.cell is not None
    if settings.unlabelled != "none":  # `path` sees the support alone; `full` leaves no clip over
        return not spec.full
    if spec.full or len(spec.support) > _LARGEST_CELL:
        return False
    if settings.l2 is None or not solver.needs_products:
        return True
    # inner products resolve no weaker a strength
    return squares is not None and bool(
        float(settings.l2) >= WEAKEST_DUAL * squares[spec.support].mean()
    )
