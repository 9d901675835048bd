"""Probes that share a large support set, above all `full` probes.

All tags of a support set are fitted together, at all strengths; each probe then picks its own tags
and strength. So the full probes of all seeds and n_way together cost as much as one probe of the
whole pool.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fsprobe.batch import memory, processes
from fsprobe.batch.by_seed import outcome
from fsprobe.batch.padding import multiple_of
from fsprobe.batch.scoring import test_tasks
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted, grouped, padded_tasks
from fsprobe.heads.data import Data
from fsprobe.heads.solvers.solver import Fitted, Path, Settings, Solver
from fsprobe.heads.strengths import PRIMAL_PATH, choose, num_strengths

_LOOKED_UP = 16  # probes looked up at a time among the fits of one support set


def plan_by_support(
    specs: Sequence[ProbeSpec],
    sizes: memory.Sizes,
    settings: Settings,
    mesh: Mesh,
    device_bytes: int,
) -> float:
    """Megabytes that the largest support set takes on a device. Raises InputError if it does not
    fit.
    """
    num_devices = _sharing(mesh).size
    if num_devices == 1:  # the other CPU devices only hold features meanwhile
        device_bytes += (len(mesh.local_devices) - 1) * (device_bytes - sizes.data_bytes)
    strengths, busy = num_strengths(settings, PRIMAL_PATH), []
    for group in _groups(specs):
        clips, tags = len(group[0].support), len(_union(group))
        footprint = memory.by_support(sizes, clips, -(-tags // num_devices), strengths)
        memory.pack(footprint, f"a fit of {tags} tags on {clips} clips", sizes, device_bytes, 1, 1)
        busy.append(footprint.busy)
    return max(busy) / 1e6


def fit_by_support(
    specs: Sequence[ProbeSpec],
    data: Data,
    solver: Solver,
    settings: Settings,
    mesh: Mesh,
    wanted: Wanted = Wanted(),
    done: Collection[Any] = (),
) -> Iterator[list[Outcome]]:
    """Fit and test every probe; a list of outcomes per support set.

    done: keys of probes to leave out, which changes nothing for the others.
    """
    mesh = _sharing(mesh)
    if mesh.size == 1:
        data = jax.tree.map(
            lambda part: jax.device_put(jnp.asarray(part).addressable_data(0), mesh.devices[0]),
            data,
        )
    places = multiple_of(mesh.size, _LOOKED_UP)
    for group in _groups(specs):
        wanted_specs = [i for i, spec in enumerate(group) if spec.key not in done]
        if not wanted_specs:
            continue
        union = _union(group)
        tags = np.resize(union, multiple_of(mesh.size, len(union))).astype(np.int32)
        support = _padded_support(group[0], data)
        path = processes.settled(_fit(*support, tags, data, solver, settings, mesh))
        widest = max(len(spec.tags) for spec in group)
        outcomes: list[Outcome] = []
        for start in range(0, len(group), _LOOKED_UP):
            part = group[start : start + _LOOKED_UP]
            tasks = padded_tasks(part, range(len(part)), (places, len(part[0].support), widest))
            columns = np.searchsorted(union, tasks.tags).astype(np.int32)
            fitted, heads = _look_up(path, columns, tasks.n_way)
            tested = test_tasks(heads, tasks, data, mesh, 1, wanted)
            numbers, judged = processes.fetch((fitted, tested))
            outcomes += [
                outcome(spec, numbers, i, judged.at(i, len(spec.tags)))
                for i, spec in enumerate(part)
            ]
        yield [outcomes[i] for i in wanted_specs]


def _padded_support(
    spec: ProbeSpec, data: Data
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """(rows, None where they are all training clips; how many are real; folds)."""
    count = len(spec.support)
    folds = np.zeros(count, np.int32) if spec.folds is None else spec.folds.astype(np.int32)
    if np.array_equal(spec.support, np.arange(data.train.features.shape[0])):
        return None, np.int32(count), folds  # type: ignore[return-value]
    size = multiple_of(256, count)
    rows = np.resize(spec.support, size).astype(np.int32)
    return rows, np.int32(count), np.resize(folds, size)  # type: ignore[return-value]


def _sharing(mesh: Mesh) -> Mesh:
    """The devices that share the tags: all of them; of CPU devices one in each process, which uses
    every core.

    With a weak penalty the ranking depends on how sums are rounded, and so on how many devices
    share them.
    """
    if mesh.local_devices[0].platform != "cpu":
        return mesh
    return Mesh(np.array(mesh.local_devices[:1]), mesh.axis_names)


def _groups(specs: Sequence[ProbeSpec]) -> list[list[ProbeSpec]]:
    """By support set, and by its folds: those are its seed's."""

    def key(spec: ProbeSpec) -> tuple[bytes, ...]:
        folds = () if spec.folds is None else spec.folds
        return tuple(np.asarray(part, np.int32).tobytes() for part in (spec.support, folds))

    return list(grouped(specs, key).values())


def _union(specs: Sequence[ProbeSpec]) -> np.ndarray:
    return np.unique(np.concatenate([spec.tags for spec in specs]))


@partial(jax.jit, static_argnames=("solver", "mesh"))
def _fit(
    rows: Any,
    count: Any,
    folds: Any,
    tags: Any,
    data: Data,
    solver: Solver,
    settings: Settings,
    mesh: Mesh,
) -> Path:
    """All tags of one support set, sharded over the devices of `mesh`."""
    fit = solver.path
    assert fit is not None

    def on_device(
        tags: Array, rows: Any, count: Array, folds: Array, data: Data, settings: Any
    ) -> Path:
        train = data.train
        clips = train if rows is None else train.of_clips(rows)
        real = jnp.arange(clips.features.shape[0]) < count
        fitted = fit(clips.of_tags(tags), real, folds, data.valid.of_tags(tags), settings)
        return fitted._replace(iterations=fitted.iterations[:, None])

    of_tags: Any = P(None, "probe")
    whole: Any = P()
    layout = Path(of_tags, of_tags, of_tags, whole, of_tags, of_tags, of_tags)
    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(P("probe"), P(), P(), P(), P(), P()),
        out_specs=layout,
        check_vma=False,
    )(tags, rows, count, folds, data, settings)


@jax.jit
def _look_up(path: Path, columns: Any, n_way: Any) -> tuple[Fitted, Any]:
    """Probes `[probe, …]` out of the fits of their support set: (numbers, heads). columns: int32
    `[probe, tag]`, where their tags are among those fitted.
    """
    shared = path._replace(iterations=path.iterations.max(axis=1))  # over the devices

    def one(columns: Array, n_way: Array) -> tuple[Fitted, Any]:
        fitted = choose(shared, columns, jnp.arange(columns.size) < n_way)
        return fitted._replace(head=None), fitted.head

    return lax.map(lambda mine: one(*mine), (columns, n_way))
