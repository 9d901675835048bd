"""Converged probes whose support sets a Gram matrix does not suit: `full` above all.

They are solved on the features themselves, all tags that share a support set together, over all
strengths; a probe then looks up its own. So the full probes of every seed and n_way cost what one
of the whole pool costs.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fsprobe.batch import memory, processes
from fsprobe.batch.lanes import Outcome, ProbeSpec, multiple_of, score_tags
from fsprobe.batch.memory import Sizes
from fsprobe.heads import logistic as lbfgs
from fsprobe.heads.head import Data, Task, bce
from fsprobe.heads.strengths import (
    PRIMAL_PATH,
    Result,
    Settings,
    largest,
    least,
    outcome,
    strengths,
)

_PICKED = 64  # probes looked up at a time among the fits of one support set


class _Table(NamedTuple):
    """Fits of one support set. val_loss, gradient_norm: `[strength, tag]`; scores: `[strength,
    test, tag]`; weights: `[strength, dim, tag]`, absolute, or None; l2s: `[strength]`; iterations:
    `[strength, device]`.
    """

    val_loss: Array
    gradient_norm: Array
    scores: Array
    weights: Array | None
    l2s: Array
    iterations: Array


def plan(
    specs: Sequence[ProbeSpec], sizes: Sizes, settings: Settings, mesh: Mesh, room: int
) -> float:
    """Megabytes on a device, of the largest support set. Raises InputError if it does not fit."""
    num_devices = _sharing(mesh).size
    if num_devices == 1:  # the other CPU devices only hold features meanwhile
        room += (len(mesh.local_devices) - 1) * (room - sizes.data_bytes)
    strengths = len(PRIMAL_PATH) if settings.l2 is None else 1
    needs = []
    for group in _groups(specs):
        clips, tags = len(group[0].support), len(_union(group))
        need = memory.primal(sizes, clips, -(-tags // num_devices), strengths, settings.norms)
        memory.pack(need, f"a fit of {tags} tags on {clips} clips", sizes, room, 1, 1)
        needs.append(need.busy)
    return max(needs) / 1e6


def by_support(
    specs: Sequence[ProbeSpec],
    data: Data,
    settings: Settings,
    mesh: Mesh,
    done: Collection[Any] = (),
) -> Iterator[list[Outcome]]:
    """Train and test every probe; a list of outcomes per support set.

    done: keys of probes to leave out; the others come out as if they were in.
    """
    mesh = _sharing(mesh)
    if mesh.size == 1:
        data = jax.tree.map(
            lambda part: jax.device_put(jnp.asarray(part).addressable_data(0), mesh.devices[0]),
            data,
        )
    for group in _groups(specs):
        wanted = [i for i, spec in enumerate(group) if spec.key not in done]
        if not wanted:
            continue
        union = _union(group)
        tags = np.resize(union, multiple_of(mesh.size, len(union)))
        support, count = group[0].support, len(group[0].support)
        everything = np.array_equal(support, np.arange(data.train.shape[0]))
        if not everything:
            support = np.resize(support, multiple_of(256, count))
        table = processes.settled(
            _solve(
                support.astype(np.int32),
                np.int32(count),
                tags.astype(np.int32),
                data,
                settings,
                mesh,
                everything,
            )
        )
        found: list[Outcome] = []
        for start in range(0, len(group), _PICKED):
            part = group[start : start + _PICKED]
            columns = np.zeros((_PICKED, max(len(spec.tags) for spec in group)), np.int32)
            n_way = np.zeros(_PICKED, np.int32)
            for i, spec in enumerate(part):
                columns[i, : len(spec.tags)] = np.searchsorted(union, spec.tags)
                n_way[i] = len(spec.tags)
            results = processes.fetch(
                _pick(table, columns, n_way, tags.astype(np.int32), data, settings)
            )
            found += [
                outcome(spec, jax.tree.map(lambda leaf, i=i: leaf[i], results))
                for i, spec in enumerate(part)
            ]
        yield [found[i] for i in wanted]


def _sharing(mesh: Mesh) -> Mesh:
    """The devices that share the tags: all, but of CPUs one in each process, which uses every core.

    Under weak strengths the ranking shows how sums were rounded, and so how many shared them.
    """
    return (
        Mesh(np.array(mesh.local_devices[:1]), mesh.axis_names)
        if mesh.local_devices[0].platform == "cpu"
        else mesh
    )


def _groups(specs: Sequence[ProbeSpec]) -> list[list[ProbeSpec]]:
    """By support set."""
    groups: dict[bytes, list[ProbeSpec]] = {}
    for spec in specs:
        groups.setdefault(np.asarray(spec.support, np.int32).tobytes(), []).append(spec)
    return list(groups.values())


def _union(specs: Sequence[ProbeSpec]) -> np.ndarray:
    return np.unique(np.concatenate([spec.tags for spec in specs]))


@partial(jax.jit, static_argnames=("mesh", "everything"))
def _solve(
    support: Any,
    count: Any,
    tags: Any,
    data: Data,
    settings: Settings,
    mesh: Mesh,
    everything: bool,
) -> _Table:
    """All tags of one support set, sharded over the devices of `mesh`."""

    def on_device(
        tags: Array, support: Array, count: Array, data: Data, settings: Settings
    ) -> _Table:
        real = jnp.arange(support.size) < count
        clips = data.train if everything else data.train[support] * real[:, None]
        labels = data.train_labels[support][:, tags]
        basis = None
        if clips.shape[0] < clips.shape[1]:  # the clips span fewer dimensions than they have
            basis, triangle = jnp.linalg.qr(clips.T)
            clips = triangle.T
        problem = lbfgs.Problem(
            clips,
            _second_moment(clips, mesh) / count,
            jnp.where(labels, 1.0, -1.0),
            real / count.astype(jnp.float32),
            dual=False,
        )
        l2s = strengths(settings, PRIMAL_PATH, problem.curvature)
        fits = lbfgs.path(problem, l2s)
        weights = (
            fits.theta[:, :-1]
            if basis is None
            else jnp.einsum("dc,lct->ldt", basis, fits.theta[:, :-1])
        )
        logits = lambda x: jnp.einsum("xd,ldt->lxt", x, weights) + fits.theta[:, -1:]  # noqa: E731
        every = jnp.ones(data.valid.shape[0], bool)
        by_tag = jax.vmap(bce, in_axes=(1, 1, None))
        val_loss = jax.vmap(by_tag, in_axes=(0, None, None))(
            logits(data.valid), data.valid_labels[:, tags], every
        )
        return _Table(
            val_loss,
            fits.gradient_norm,
            logits(data.test),
            jnp.abs(weights) if settings.norms else None,
            l2s,
            fits.iterations[:, None],
        )

    flat, deep = P(None, "probe"), P(None, None, "probe")
    layout: Any = _Table(*(flat, flat, deep, deep if settings.norms else None, P(), flat))  # type: ignore[arg-type]
    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(P("probe"), P(), P(), P(), P()),
        out_specs=layout,
        check_vma=False,
    )(tags, support, count, data, settings)


@jax.jit
def _pick(
    table: _Table, columns: Any, n_way: Any, tags: Any, data: Data, settings: Settings
) -> Result:
    """Probes `[probe, …]` out of the fits of their support set."""

    def one(columns: Array, n_way: Array) -> Result:
        task = Task(jnp.int32(0), columns[:0], jnp.int32(0), tags[columns], n_way)
        losses = jnp.sum(table.val_loss[:, columns] * task.tag_mask, axis=1) / jnp.maximum(n_way, 1)
        best = least(losses)
        return Result(
            *score_tags(table.scores[best][:, columns], data, task, settings.tagged),
            losses[best],
            table.l2s[best],
            largest(table.gradient_norm[best][columns], task),
            jnp.sum(table.iterations.max(axis=1)),
            None
            if table.weights is None
            else jnp.sum(table.weights[best][:, columns] * task.tag_mask, axis=1),
        )

    return lax.map(lambda mine: one(*mine), (columns, n_way))


def _second_moment(clips: Array, mesh: Mesh) -> Array:
    """XᵀX, each device computing some columns."""
    dim = clips.shape[1]
    width = -(-dim // mesh.size)
    starts = np.minimum(np.arange(mesh.size) * width, dim - width)
    mine = lax.dynamic_slice_in_dim(
        clips, jnp.asarray(starts)[lax.axis_index("probe")], width, axis=1
    )
    columns = lax.all_gather(lbfgs.over_clips(clips, mine), "probe", axis=1, tiled=True)
    owner = np.arange(dim) // width
    return columns[:, owner * width + np.arange(dim) - starts[owner]]
