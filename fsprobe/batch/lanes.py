"""Probes that train in epochs, many as one jitted program: mapped over lanes, sharded over devices.

A chunk holds probes of similar size, padded to the same `[clip]` and `[tag]`. Its leading axis,
probe, is sharded over all devices; on each device `lax.map` walks the probes in groups of `lanes`,
and a group is vmapped. On a CPU one lane is fastest: a probe's weights and moments stay in cache
from step to step, and a probe that needs fewer steps takes less time. An accelerator wants all
lanes at once.

Training proceeds in blocks of epochs. Between blocks the host shows progress, stops cleanly if
asked to, and takes out the probes that are finished: in lockstep, a probe that has stopped early
would cost as much as one that still trains.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fsprobe.batch import processes
from fsprobe.batch.packing import Chunk
from fsprobe.batch.padding import multiple_of
from fsprobe.batch.scoring import Tested, over_devices, test_tasks
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted, padded_tasks
from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data, Task
from fsprobe.heads.early_stopping import Progress
from fsprobe.heads.evaluate import TagMetrics
from fsprobe.heads.solvers.solver import Steps

_SHRINK = 4  # once no more than a fourth of the lanes still train, the chunk goes on with a fourth
_BLOCK_SECONDS = 1.0  # what a block of epochs should take, if it can, for progress and Ctrl-C


def train_chunk(
    chunk: Chunk,
    data: Data,
    steps: Steps,
    config: SolverConfig,
    mesh: Mesh,
    tick: Callable[[int], None] = lambda epochs: None,
    wanted: Wanted = Wanted(),
    widest: int = 0,
    longest: int = 0,
) -> list[Outcome]:
    """Train a chunk's probes and test them. tick(epochs) is called with the epochs trained since
    the last call, after every block but the last, whose outcomes are returned first.

    A probe that stops early counts as max_epochs, so all of a chunk are probes × max_epochs.
    widest, longest: tags and support clips to pad to for testing, so that chunks share a program.
    """
    widest, longest, lanes = max(widest, chunk.n_tags), max(longest, chunk.n_clips), chunk.lanes
    places = _deal(chunk.size, mesh.size, lanes)[: len(chunk.specs)]
    count = multiple_of(mesh.size * lanes, chunk.size)
    host_tasks = padded_tasks(chunk.specs, places, (count, chunk.n_clips, chunk.n_tags))
    tasks = processes.place(host_tasks, NamedSharding(mesh, P("probe")))
    state = _start(tasks, data, steps, mesh)
    here = {spec: at for spec, at in zip(chunk.specs, places, strict=True) if spec is not None}
    finished: dict[ProbeSpec, Outcome] = {}
    behind, epochs = 0, 1
    while here:
        start = time.monotonic()
        count = processes.agreed(np.int32(epochs))
        state, heads = _advance(state, tasks, data, count, steps, mesh, lanes, widest)
        progress = processes.fetch(state.progress)
        spent = time.monotonic() - start
        now = _epochs_behind(progress, here, config.max_epochs) + config.max_epochs * len(finished)
        running = {spec: place for spec, place in here.items() if not progress.done[place]}
        if running:
            tick(now - behind)
        if behind:  # the first block may have compiled
            epochs = int(np.clip(epochs * _BLOCK_SECONDS / max(spent, 1e-3), 1, 2 * epochs + 8))
        behind = now
        fewer = lanes // _SHRINK
        if running and len(running) > fewer * mesh.size:
            continue
        tested = processes.fetch(
            test_tasks(heads, _padded(tasks, widest, longest), data, mesh, lanes, wanted)
        )
        finished |= {
            spec: _outcome(spec, place, progress, tested)
            for spec, place in here.items()
            if progress.done[place]
        }
        here = {}
        if running:
            lanes, places = fewer, _deal(len(running), mesh.size, fewer)
            # one that is done fills the other places
            origin = np.full(mesh.size * lanes, np.argmax(progress.done))
            origin[places] = list(running.values())
            origin = processes.place(origin, NamedSharding(mesh, P()))
            tasks, state = _take((tasks, state), origin, mesh)
            here = dict(zip(running, places, strict=True))
    return [finished[spec] for spec in chunk.specs if spec is not None]


def _epochs_behind(progress: Progress, here: dict[ProbeSpec, int], max_epochs: int) -> int:
    return sum(
        max_epochs if progress.done[place] else int(progress.epoch[place])
        for place in here.values()
    )


def _outcome(spec: ProbeSpec, place: int, progress: Progress, tested: Tested) -> Outcome:
    """What the probe at `place` came to; one that diverged has learnt nothing."""
    metrics, norms, head = tested.at(place, len(spec.tags))
    best_epoch = int(progress.best_epoch[place])
    if not best_epoch:
        nan, none = np.float32(np.nan), np.zeros(len(spec.tags), np.int32)
        metrics = TagMetrics(
            nan * metrics.average_precision, nan * metrics.roc_auc, none, none, metrics.true
        )
    return Outcome(
        spec,
        metrics,
        float(progress.loss[place]),
        best_epoch,
        int(progress.epoch[place]),
        weight_norms=norms,
        head=head,
    )


def device_mesh() -> Mesh:
    """All devices in a row; the probe axis is laid over them."""
    return Mesh(np.array(jax.devices()), ("probe",))


def _deal(count: int, num_devices: int, lanes: int) -> np.ndarray:
    """Places on the probe axis, int `[count]`: dealt to the devices like cards, for neighbours are
    of like size.
    """
    size = multiple_of(num_devices * lanes, count)
    return np.arange(size).reshape(num_devices, -1).T.ravel()[:count]


@partial(jax.jit, static_argnames=("mesh",))
def _take(tree: Any, origin: Array, mesh: Mesh) -> Any:
    """The places `origin` of the probe axis, laid over the devices anew."""
    over = NamedSharding(mesh, P("probe"))
    return jax.tree.map(lambda leaf: lax.with_sharding_constraint(leaf[origin], over), tree)


def _start(tasks: Task, data: Data, steps: Steps, mesh: Mesh) -> Any:
    """States of no epoch, which the first call of `_advance` fills."""
    state = jax.eval_shape(steps.init, jax.tree.map(lambda leaf: leaf[0], tasks), data)
    over, count = NamedSharding(mesh, P("probe")), tasks.seed.shape[0]
    return jax.tree.map(
        lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype, device=over), state
    )


@partial(jax.jit, static_argnames=("steps", "mesh", "lanes", "widest"), donate_argnames=("state",))
def _advance(
    state: Any,
    tasks: Task,
    data: Data,
    num_epochs: Array,
    steps: Steps,
    mesh: Mesh,
    lanes: int,
    widest: int,
) -> Any:
    """(states after so many epochs, heads padded to `widest` tags)."""

    def one(state: Any, task: Task, data: Data, num_epochs: Array) -> Any:
        unborn = (state.progress.epoch == 0) & ~state.progress.done
        state = lax.cond(unborn, lambda: steps.init(task, data), lambda: state)
        state = steps.advance(state, task, data, num_epochs)
        return state, steps.head(state).padded(widest)

    return over_devices(one, mesh, lanes, (state, tasks), (data, num_epochs))


def _padded(tasks: Task, n_tags: int, n_clips: int) -> Task:
    """The tasks padded to n_tags tags and n_clips clips: one program tests those of every chunk."""
    tags, clips = n_tags - tasks.tags.shape[1], n_clips - tasks.support.shape[1]
    return tasks._replace(
        tags=jnp.pad(tasks.tags, ((0, 0), (0, tags))),
        support=jnp.pad(tasks.support, ((0, 0), (0, clips))),
        folds=jnp.pad(tasks.folds, ((0, 0), (0, clips))),
    )
