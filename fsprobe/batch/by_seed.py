"""Probes that are fitted one by one, not in epochs: a block of seeds at a time.

All K-shot probes of one seed and embedding draw on the same few clips. Where a solver works on
inner products, those of a seed's clips are computed once, for every n_way, k_shot and strength:
features are touched once per seed. Seeds are sharded over devices; on a device `lax.map` walks
seeds and, within one, the cells of a size.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fsprobe.batch import memory, processes
from fsprobe.batch.memory import Sizes
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted, padded_tasks
from fsprobe.batch.testing import Tested, over_devices, test_task
from fsprobe.heads.data import Data, Task
from fsprobe.heads.solver import Fitted, Products, Settings, Solver
from fsprobe.heads.strengths import DUAL_PATH, num_strengths


def plan(
    specs: Sequence[ProbeSpec],
    sizes: Sizes,
    solver: Solver,
    settings: Settings,
    wanted: Wanted,
    platform: str,
    device_bytes: int,
    divisor: int = 1,
) -> tuple[int, float]:
    """(seeds side by side on a device, megabytes they take). divisor: take this many times fewer.

    Raises InputError if a single seed does not fit.
    """
    lanes = max(1, (1 if platform == "cpu" else 8) // divisor)
    width = max(map(len, _unions(specs).values())) if solver.needs_products else 0
    strengths = num_strengths(settings, DUAL_PATH)
    footprint = memory.by_seed(sizes, width, _widths(specs), strengths, wanted)
    what = f"a Gram matrix of {width} clips" if width else f"a probe of {max(_widths(specs))} clips"
    lanes, _ = memory.pack(footprint, what, sizes, device_bytes, lanes, lanes)
    return lanes, lanes * sum(footprint) / 1e6


def fit_by_seed(
    specs: Sequence[ProbeSpec],
    data: Data,
    solver: Solver,
    settings: Settings,
    mesh: Mesh,
    wanted: Wanted = Wanted(),
    lanes: int = 1,
    done: Collection[Any] = (),
) -> Iterator[list[Outcome]]:
    """Fit and test every probe; lists of outcomes as they become ready, a block of seeds at a time.

    lanes: seeds side by side on a device. done: keys of probes to leave out, which changes nothing
    for the others.
    """
    unions, widths = _unions(specs), _widths(specs)
    seeds, width = sorted(unions), max(map(len, unions.values()), default=0)
    size = mesh.size * lanes
    by_probe = NamedSharding(mesh, P("probe"))
    for start in range(0, len(seeds), size):
        block = seeds[start : start + size]
        cells = {n_clips: _cells(specs, block, n_clips) for n_clips in widths}
        if all(spec.key in done for mine in cells.values() for of_seed in mine for spec in of_seed):
            continue
        products = None
        if solver.needs_products:
            rows = np.zeros((size, width), np.int32)
            for i, seed in enumerate(block):
                rows[i, : len(unions[seed])] = unions[seed]
            products = _products(processes.place(rows, by_probe), data, mesh, lanes)
        for n_clips, n_tags in sorted(widths.items()):
            wanted_specs = [
                (i, j, spec)
                for i, of_seed in enumerate(cells[n_clips])
                for j, spec in enumerate(of_seed)
                if spec.key not in done
            ]
            if not wanted_specs:
                continue
            where = unions if solver.needs_products else None
            tasks = processes.place(_tasks(cells[n_clips], where, size, n_clips, n_tags), by_probe)
            fitted, tested = processes.fetch(
                _fit_cells(tasks, products, data, settings, solver, mesh, lanes, wanted)
            )
            yield [
                outcome(spec, _at(fitted, (i, j)), tested.at((i, j), len(spec.tags)))
                for i, j, spec in wanted_specs
            ]


def outcome(spec: ProbeSpec, fitted: Fitted, tested: Tested) -> Outcome:
    """From a Fitted and a Tested of one probe, of NumPy arrays."""
    count = int(fitted.iterations)
    return Outcome(
        spec,
        tested.metrics,
        float(fitted.val_loss),
        count,
        count,
        float(fitted.l2),
        float(fitted.gradient_norm),
        float(fitted.gap),
        tested.weight_norms,
        tested.head,
    )


def _at(fitted: Fitted, place: Any) -> Fitted:
    return Fitted(None, *(leaf[place] for leaf in fitted[1:]))


def _unions(specs: Sequence[ProbeSpec]) -> dict[int, np.ndarray]:
    """Of each seed, the clips of all its support sets, in order."""
    supports: dict[int, list[np.ndarray]] = {}
    for spec in specs:
        supports.setdefault(spec.seed, []).append(spec.support)
    return {seed: np.unique(np.concatenate(parts)) for seed, parts in supports.items()}


def _widths(specs: Sequence[ProbeSpec]) -> dict[int, int]:
    """The most tags of a probe, by the padded size of its support set."""
    widths: dict[int, int] = {}
    for spec in specs:
        n_clips = _padded_clips(spec)
        widths[n_clips] = max(widths.get(n_clips, 0), len(spec.tags))
    return widths


def _padded_clips(spec: ProbeSpec) -> int:
    """A power of two or one and a half of it, so that little of a Gram matrix is padding."""
    return next(
        size
        for power in range(6, 32)
        for size in (2**power, 3 * 2 ** (power - 1))
        if size >= len(spec.support)
    )


def _cells(specs: Sequence[ProbeSpec], seeds: Sequence[int], n_clips: int) -> list[list[ProbeSpec]]:
    """Of each seed, the probes of one padded size."""
    mine = [spec for spec in specs if _padded_clips(spec) == n_clips]
    return [[spec for spec in mine if spec.seed == seed] for seed in seeds]


def _tasks(
    cells: Sequence[Sequence[ProbeSpec]],
    unions: dict[int, np.ndarray] | None,
    size: int,
    n_clips: int,
    n_tags: int,
) -> Task:
    """Tasks `[seed, cell, …]`, padded with tasks without clips."""
    count = max(map(len, cells))
    parts = [
        padded_tasks(specs, range(len(specs)), (count, n_clips, n_tags), unions)
        for specs in [*cells, *([[]] * (size - len(cells)))]
    ]
    return Task(*(np.stack(leaves) for leaves in zip(*parts, strict=True)))  # type: ignore[arg-type]


@partial(jax.jit, static_argnames=("mesh", "lanes"))
def _products(rows: Array, data: Data, mesh: Mesh, lanes: int) -> Products:
    def one(rows: Array, data: Data) -> Products:
        clips = data.train.features[rows]
        return Products(clips @ clips.T, data.valid.features @ clips.T, rows)

    return over_devices(one, mesh, lanes, (rows,), (data,))


@partial(jax.jit, static_argnames=("solver", "mesh", "lanes", "wanted"))
def _fit_cells(
    tasks: Task,
    products: Products | None,
    data: Data,
    settings: Settings,
    solver: Solver,
    mesh: Mesh,
    lanes: int,
    wanted: Wanted,
) -> tuple[Fitted, Tested]:
    """The cells `[seed, cell, …]` of a block of seeds."""
    fit = solver.cell
    assert fit is not None

    def one(task: Task, products: Products | None, data: Data, settings: Settings) -> Any:
        fitted = fit(task, products, data, settings)
        rows = task.support if products is None else products.rows[task.support]
        tested = test_task(fitted.head, task._replace(support=rows), data, wanted)
        return fitted._replace(head=None), tested

    def one_seed(tasks: Task, products: Any, data: Data, settings: Settings) -> Any:
        return lax.map(lambda task: one(task, products, data, settings), tasks)

    return over_devices(one_seed, mesh, lanes, (tasks, products), (data, settings))
