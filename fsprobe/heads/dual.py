"""Converged probes of a few clips: every n_way, k_shot, iteration and strength served by one Gram
matrix.

All K-shot probes of one seed and embedding draw on the same few clips. Their inner products with
each other, with the validation and with the test clips are all that is needed: features are touched
once per seed. Seeds are sharded over devices; on a device `lax.map` walks seeds and, within one,
the cells of a size.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fsprobe.batch import memory, processes
from fsprobe.batch.lanes import Outcome, ProbeSpec, over_devices, score_tags
from fsprobe.batch.memory import Sizes
from fsprobe.heads import logistic as lbfgs
from fsprobe.heads.head import Data, Task, bce
from fsprobe.heads.strengths import DUAL_PATH, Result, Settings, largest, least, outcome, strengths


class Gram(NamedTuple):
    """Inner products of the clips of one seed, `room` of them: with each other `[room, room]`, with
    validation clips `[valid, room]` and with test clips `[test, room]`. rows: int32 `[room]`, rows
    of Data.train.
    """

    train: Array
    valid: Array
    test: Array
    rows: Array


def plan(
    specs: Sequence[ProbeSpec],
    sizes: Sizes,
    settings: Settings,
    platform: str,
    room: int,
    share: int = 1,
) -> tuple[int, float]:
    """(seeds side by side on a device, megabytes they take). share: take this many times fewer.

    Raises InputError if a single seed does not fit.
    """
    lanes = max(1, (1 if platform == "cpu" else 8) // share)
    strengths = len(DUAL_PATH) if settings.l2 is None else 1
    width = max(map(len, _unions(specs).values()))
    need = memory.gram(sizes, width, _widths(specs), strengths, settings.norms)
    lanes, _ = memory.pack(need, f"a Gram matrix of {width} clips", sizes, room, lanes, lanes)
    return lanes, lanes * sum(need) / 1e6


def by_seed(
    specs: Sequence[ProbeSpec],
    data: Data,
    settings: Settings,
    mesh: Mesh,
    lanes: int = 1,
    done: Collection[Any] = (),
) -> Iterator[list[Outcome]]:
    """Train and test every probe; lists of outcomes as they become ready, a block of seeds at a
    time.

    lanes: seeds side by side on a device. done: keys of probes to leave out; the others come out as
    if they were in.
    """
    unions, widths = _unions(specs), _widths(specs)
    seeds, width = sorted(unions), max(map(len, unions.values()), default=0)
    size = mesh.size * lanes
    by_probe = NamedSharding(mesh, P("probe"))
    for start in range(0, len(seeds), size):
        block = seeds[start : start + size]
        cells = {
            room: [
                [spec for spec in specs if spec.seed == seed and _room(spec) == room]
                for seed in block
            ]
            for room in widths
        }
        if all(spec.key in done for mine in cells.values() for of_seed in mine for spec in of_seed):
            continue
        rows = np.zeros((size, width), np.int32)
        for i, seed in enumerate(block):
            rows[i, : len(unions[seed])] = unions[seed]
        grams = _grams(processes.place(rows, by_probe), data, mesh, lanes)
        for room, n_tags in sorted(widths.items()):
            wanted = [
                (i, j, spec)
                for i, of_seed in enumerate(cells[room])
                for j, spec in enumerate(of_seed)
                if spec.key not in done
            ]
            if not wanted:
                continue
            tasks = _tasks(cells[room], unions, (size, max(map(len, cells[room])), room, n_tags))
            tasks = processes.place(tasks, by_probe)
            results = processes.fetch(_solve_cells(tasks, grams, data, settings, mesh, lanes))
            yield [
                outcome(spec, jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], results))
                for i, j, spec in wanted
            ]


def _unions(specs: Sequence[ProbeSpec]) -> dict[int, np.ndarray]:
    """Of each seed, the clips of all its support sets, in order."""
    supports: dict[int, list[np.ndarray]] = {}
    for spec in specs:
        supports.setdefault(spec.seed, []).append(spec.support)
    return {seed: np.unique(np.concatenate(parts)) for seed, parts in supports.items()}


def _widths(specs: Sequence[ProbeSpec]) -> dict[int, int]:
    """The most tags of a probe, by the room its support set has."""
    widths: dict[int, int] = {}
    for spec in specs:
        widths[_room(spec)] = max(widths.get(_room(spec), 0), len(spec.tags))
    return widths


def _room(spec: ProbeSpec) -> int:
    """Room for a support set: a power of two or one and a half of it, so that little of a Gram
    matrix is padding.
    """
    return next(
        size
        for power in range(6, 32)
        for size in (2**power, 3 * 2 ** (power - 1))
        if size >= len(spec.support)
    )


def _tasks(
    cells: Sequence[Sequence[ProbeSpec]], unions: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Task:
    """Tasks `[seed, cell, …]`, support sets as positions in the seed's union; padded with tasks
    without clips.
    """
    size, count, room, n_tags = shape
    support, tags = (
        np.zeros((size, count, room), np.int32),
        np.zeros((size, count, n_tags), np.int32),
    )
    seed, num_support, n_way = np.zeros((3, size, count), np.int32)
    for i, specs in enumerate(cells):
        for j, spec in enumerate(specs):
            support[i, j, : len(spec.support)] = np.searchsorted(unions[spec.seed], spec.support)
            tags[i, j, : len(spec.tags)] = spec.tags
            seed[i, j], num_support[i, j], n_way[i, j] = (
                spec.seed,
                len(spec.support),
                len(spec.tags),
            )
    return Task(seed, support, num_support, tags, n_way)  # type: ignore[arg-type]


@partial(jax.jit, static_argnames=("mesh", "lanes"))
def _grams(rows: Array, data: Data, mesh: Mesh, lanes: int) -> Gram:
    def one(rows: Array, data: Data) -> Gram:
        clips = data.train[rows]
        return Gram(clips @ clips.T, data.valid @ clips.T, data.test @ clips.T, rows)

    return over_devices(one, mesh, lanes, (rows,), (data,))


@partial(jax.jit, static_argnames=("mesh", "lanes"))
def _solve_cells(
    tasks: Task, grams: Gram, data: Data, settings: Settings, mesh: Mesh, lanes: int
) -> Result:
    """The cells `[seed, cell, …]` of a block of seeds."""

    def one_seed(tasks: Task, gram: Gram, data: Data, settings: Settings) -> Result:
        return lax.map(lambda task: _solve_cell(task, gram, data, settings), tasks)

    return over_devices(one_seed, mesh, lanes, (tasks, grams), (data, settings))


def _solve_cell(task: Task, gram: Gram, data: Data, settings: Settings) -> Result:
    """One probe; task.support are positions in the Gram matrix. With more clips than dimensions,
    weights are fewer than coefficients, and the clips themselves serve better.
    """
    real = jnp.arange(task.support.size) < task.num_support
    weight = real / jnp.maximum(task.num_support, 1).astype(jnp.float32)
    rows = gram.rows[task.support]
    dual = task.support.size <= data.train.shape[1]
    if dual:
        products = gram.train[task.support][:, task.support]
        mean = products @ weight  # of the cell's clips, as inner products with each clip
        features = (products - mean - mean[:, None] + weight @ mean) * real * real[:, None]
        curvature = features * weight
        valid, test = gram.valid[:, task.support], gram.test[:, task.support]
    else:
        mean = weight @ data.train[rows]
        features = (data.train[rows] - mean) * real[:, None]
        curvature = lbfgs.over_clips(features, features * weight[:, None])
        valid, test = data.valid, data.test
    labels = data.train_labels[rows][:, task.tags]
    sign = jnp.where(
        labels | ~task.tag_mask, 1.0, -1.0
    )  # a tag on every clip has no minimum to look for
    l2s = strengths(settings, DUAL_PATH, curvature)
    fits = lbfgs.path(lbfgs.Problem(features, curvature, sign, weight, dual), l2s)
    inner = fits.theta[:, :-1]
    if dual:  # coefficients of clips that are not centred
        inner = (inner - jnp.sum(inner, axis=1, keepdims=True) * weight[:, None]) * real[:, None]
    bias = fits.theta[:, -1] - jnp.einsum("c,lct->lt", mean, inner)
    logits = jnp.einsum("vc,lct->lvt", valid, inner) + bias[:, None]
    counted = jnp.broadcast_to(task.tag_mask, logits.shape[1:])
    losses = jax.vmap(bce, in_axes=(0, None, None))(
        logits, data.valid_labels[:, task.tags], counted
    )
    best = least(losses)
    norms = None
    if settings.norms:
        weights = data.train[rows].T @ inner[best] if dual else inner[best]
        norms = jnp.sum(jnp.abs(weights) * task.tag_mask, axis=1)
    return Result(
        *score_tags(test @ inner[best] + bias[best], data, task, settings.tagged),
        losses[best],
        l2s[best],
        largest(fits.gradient_norm[best], task),
        jnp.sum(fits.iterations),
        norms,
    )
