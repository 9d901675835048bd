"""Probes that are fitted one by one, not in epochs: a block of seeds at a time.

All K-shot probes of one seed and embedding draw on the same few clips. Where a solver works on
inner products, those of a seed's clips are computed once, for every n_way, k_shot and strength:
features are touched once per seed. Seeds are sharded over devices; on a device `lax.map` walks
seeds and, within one, the cells of a size.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fsprobe.batch import memory, processes
from fsprobe.batch.padding import padded_sizes
from fsprobe.batch.scoring import Tested, over_devices, test_tasks
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted, grouped, padded_tasks
from fsprobe.heads.data import Data, Task
from fsprobe.heads.solvers.solver import Fitted, Products, Settings, Solver
from fsprobe.heads.strengths import DUAL_PATH, num_strengths

_PROGRAMS = 4  # padded sizes of support sets
_OTHER_WORK = 256.0  # on a clip and tag, in units of a product with one clip


def plan_by_seed(
    specs: Sequence[ProbeSpec],
    sizes: memory.Sizes,
    solver: Solver,
    settings: Settings,
    wanted: Wanted,
    platform: str,
    device_bytes: int,
    divisor: int = 1,
) -> tuple[int, float]:
    """How many seeds a device fits side by side, and the megabytes that they take. divisor: fit
    this many times fewer.

    Raises InputError if a single seed does not fit.
    """
    lanes = max(1, (1 if platform == "cpu" else 8) // divisor)
    width = max(map(len, _unions(specs).values())) if solver.needs_products else 0
    strengths = num_strengths(settings, DUAL_PATH) if "l2" in solver.settings else 0
    n_clips_of, seeds = _padded(specs, sizes.dim), sorted({spec.seed for spec in specs})
    widths = _widths(specs, n_clips_of)
    if settings.unlabelled != "none":  # each probe sees all training clips
        widths = {sizes.train: max(widths.values())}
    cells = max(len(mine) for part in _cells(specs, n_clips_of, seeds).values() for mine in part)
    head = solver.head_size(max(widths.values()), sizes.dim)
    footprint = memory.by_seed(sizes, width, widths, strengths, wanted, head, cells)
    what = f"a Gram matrix of {width} clips" if width else f"a probe of {max(widths)} clips"
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
    n_clips_of = _padded(specs, data.train.features.shape[1])
    unions, widths = _unions(specs), _widths(specs, n_clips_of)
    seeds, width = sorted(unions), max(map(len, unions.values()), default=0)
    widest, longest = max(widths.values(), default=0), max(widths, default=0)
    size, by_probe = mesh.size * lanes, NamedSharding(mesh, P("probe"))
    in_products = unions if solver.needs_products else None
    for start in range(0, len(seeds), size):
        block = seeds[start : start + size]
        cells = {
            n_clips: of_seeds
            for n_clips, of_seeds in _cells(specs, n_clips_of, block).items()
            if any(spec.key not in done for of_seed in of_seeds for spec in of_seed)
        }
        if not cells:
            continue
        products = None
        if solver.needs_products:
            rows = np.zeros((size, width), np.int32)
            for i, seed in enumerate(block):
                rows[i, : len(unions[seed])] = unions[seed]
            products = _products(processes.place(rows, by_probe), data, mesh, lanes)
        for n_clips, of_seeds in sorted(cells.items()):
            host_tasks = _tasks(of_seeds, in_products, (size, n_clips, widths[n_clips]))
            tasks = processes.place(host_tasks, by_probe)
            fitted, heads = _fit_cells(tasks, products, data, settings, solver, mesh, lanes, widest)
            plain = _tasks(of_seeds, None, (size, longest, widest))
            yield _tested(of_seeds, fitted, heads, plain, data, mesh, lanes, wanted, done)


def _tested(
    of_seeds: Sequence[Sequence[ProbeSpec]],
    fitted: Fitted,
    heads: list[Any],
    tasks: Task,
    data: Data,
    mesh: Mesh,
    lanes: int,
    wanted: Wanted,
    done: Collection[Any],
) -> list[Outcome]:
    """Outcomes of fits `[seed, cell, …]`, cell by cell: one program tests cells of every size.
    heads: of each cell, `[seed, …]`. tasks: of NumPy arrays, padded alike for every size.
    """
    by_probe, tested = NamedSharding(mesh, P("probe")), []
    for i, head in enumerate(heads):
        column = processes.place(jax.tree.map(lambda leaf, i=i: leaf[:, i], tasks), by_probe)
        tested.append(test_tasks(head, column, data, mesh, lanes, wanted))
    numbers, judged = processes.fetch((fitted, tested))
    return [
        outcome(spec, numbers, (i, j), judged[j].at(i, len(spec.tags)))
        for i, of_seed in enumerate(of_seeds)
        for j, spec in enumerate(of_seed)
        if spec.key not in done
    ]


def outcome(spec: ProbeSpec, fitted: Fitted, place: Any, tested: Tested) -> Outcome:
    """The outcome of one probe, from what many were fitted to (NumPy arrays), its place among them,
    and its own test.
    """
    fitted = jax.tree.map(lambda leaf: leaf[place].item(), fitted)
    return Outcome(
        spec,
        tested.metrics,
        fitted.val_loss,
        fitted.iterations,
        fitted.iterations,
        fitted.l2,
        fitted.gradient_norm,
        fitted.gap,
        tested.weight_norms,
        tested.head,
        fitted.clips_cut,
        fitted.scale,
    )


def _unions(specs: Sequence[ProbeSpec]) -> dict[int, np.ndarray]:
    """Of each seed, the clips of all its support sets, in order."""
    return {
        seed: np.unique(np.concatenate([spec.support for spec in mine]))
        for seed, mine in grouped(specs, lambda spec: spec.seed).items()
    }


def _widths(specs: Sequence[ProbeSpec], n_clips_of: Mapping[int, int]) -> dict[int, int]:
    """The most tags of a probe, by the padded size of its support set."""
    by_size = grouped(specs, lambda spec: n_clips_of[len(spec.support)])
    return {n_clips: max(len(spec.tags) for spec in mine) for n_clips, mine in by_size.items()}


def _padded(specs: Sequence[ProbeSpec], dim: int) -> dict[int, int]:
    """By size of the support set, what it is padded to: few sizes, for each is a program. A clip
    costs a product with all clips or dimensions, whichever are fewer, and what has no product.
    """
    by_size = grouped(specs, lambda spec: len(spec.support))
    tags = {size: sum(len(spec.tags) for spec in mine) for size, mine in by_size.items()}
    return padded_sizes(tags, _PROGRAMS, 32, lambda size: size * (min(size, dim) + _OTHER_WORK))


def _cells(
    specs: Sequence[ProbeSpec], n_clips_of: Mapping[int, int], seeds: Sequence[int]
) -> dict[int, list[list[ProbeSpec]]]:
    """By padded size, the probes of each seed."""
    by_size = grouped(specs, lambda spec: n_clips_of[len(spec.support)])
    return {
        n_clips: [[spec for spec in mine if spec.seed == seed] for seed in seeds]
        for n_clips, mine in by_size.items()
    }


def _tasks(
    cells: Sequence[Sequence[ProbeSpec]],
    unions: dict[int, np.ndarray] | None,
    shape: tuple[int, int, int],
) -> Task:
    """Tasks `[seed, cell, …]`, padded with tasks without clips. shape: seeds, clips, tags."""
    size, n_clips, n_tags = shape
    count = max(map(len, cells))
    parts = [
        padded_tasks(specs, range(len(specs)), (count, n_clips, n_tags), unions)
        for specs in [*cells, *([[]] * (size - len(cells)))]
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


@partial(jax.jit, static_argnames=("mesh", "lanes"))
def _products(rows: Array, data: Data, mesh: Mesh, lanes: int) -> Products:
    def one(rows: Array, data: Data) -> Products:
        clips = data.train.features[rows]
        return Products(clips @ clips.T, data.valid.features @ clips.T, rows)

    return over_devices(one, mesh, lanes, (rows,), (data,))


@partial(jax.jit, static_argnames=("solver", "mesh", "lanes", "widest"))
def _fit_cells(
    tasks: Task,
    products: Products | None,
    data: Data,
    settings: Settings,
    solver: Solver,
    mesh: Mesh,
    lanes: int,
    widest: int,
) -> tuple[Fitted, list[Any]]:
    """The cells `[seed, cell, …]` of a block of seeds: (numbers, of each cell the heads
    `[seed, …]`, padded to `widest` tags).
    """
    fit = solver.cell
    assert fit is not None

    def one(task: Task, products: Products | None, data: Data, settings: Settings) -> Any:
        fitted = fit(task, products, data, settings)
        return fitted._replace(head=None), fitted.head.padded(widest)

    def one_seed(tasks: Task, products: Any, data: Data, settings: Settings) -> Any:
        return lax.map(lambda task: one(task, products, data, settings), tasks)

    fitted, heads = over_devices(one_seed, mesh, lanes, (tasks, products), (data, settings))
    return fitted, [
        jax.tree.map(lambda leaf, at=cell: leaf[:, at], heads)
        for cell in range(tasks.seed.shape[1])
    ]
