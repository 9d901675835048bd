"""Many probes as one jitted program: packed by size, mapped over lanes, sharded over devices.

A chunk holds probes of similar size, padded to the same `[clip]` and `[tag]` room. Its leading
axis, probe, is sharded over all devices; on each device `lax.map` walks the probes in groups of
`lanes`, and a group is vmapped. On a CPU one lane is fastest: a probe's weights and moments stay in
cache from step to step, and a probe that needs fewer steps takes less time. An accelerator wants
all lanes at once.

Training proceeds in blocks of epochs, so that the host can show progress and stop cleanly in
between, and retire what is done: in lockstep, a probe that has stopped early costs as much as one
that has not.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fsprobe import metrics
from fsprobe.batch import memory, processes
from fsprobe.batch.memory import Sizes
from fsprobe.config import SolverConfig
from fsprobe.heads import adam as solvers
from fsprobe.heads import head as probe
from fsprobe.heads.head import Data, Progress, Solver, Task

_SHRINK = 4  # once no more than a fourth of the lanes still train, the chunk goes on with a fourth
_CPU_CHUNK = 16  # probes of a chunk on a CPU device, fewer
_CPU_LABELS = 2**20  # where they have more support clips × tags: what is not finished may be lost
_CPU_EPOCHS = 10  # that a CPU trains before it validates, unless there is room for more than
_LONG_EPOCH = 2048  # support clips: their epoch takes far longer than a validation
_BLOCK_SECONDS = 1.0  # what a block of epochs should take, if more than _CPU_EPOCHS, for Ctrl-C


@dataclass(frozen=True, eq=False)
class ProbeSpec:
    """One probe to train, on the host. support: rows of Data.train; tags: columns of the labels.
    full: support is every training clip there is.
    """

    key: Any  # the caller's name for it, handed back with the result
    seed: int
    support: np.ndarray
    tags: np.ndarray
    full: bool = False


@dataclass(frozen=True)
class Chunk:
    """Probes that train together, padded to n_tags tags and n_clips support clips, `lanes` of them
    vmapped.

    None holds the place of a probe that is done already, so that the others come out as if it
    trained beside them. validate_every: as in fsprobe.heads.adam.adam.
    """

    n_tags: int
    n_clips: int
    lanes: int
    specs: tuple[ProbeSpec | None, ...]
    validate_every: int = 1

    def without(self, done: Collection[Any]) -> "Chunk":
        """The chunk with places held for probes whose key is done."""
        return replace(
            self,
            specs=tuple(None if spec is None or spec.key in done else spec for spec in self.specs),
        )


class Outcome(NamedTuple):
    """What became of one probe. average_precision, roc_auc: float32 `[n_way]`, NaN where a class is
    absent.

    l2, gradient_norm: of a converged probe. weight_norms: float32 `[dim]`, the L1 norm over tags of
    each feature's weights, or None if not asked for.
    """

    spec: ProbeSpec
    average_precision: np.ndarray
    roc_auc: np.ndarray
    val_loss: float
    best_epoch: int
    epochs: int
    l2: float = float("nan")
    gradient_norm: float = float("nan")
    weight_norms: np.ndarray | None = None


class Bucket(NamedTuple):
    """Probes of like size, and how they fit a device: `lanes` vmapped, `per_device` in a chunk of
    so many megabytes.
    """

    n_tags: int
    n_clips: int
    specs: tuple[ProbeSpec, ...]
    lanes: int
    per_device: int
    megabytes: float
    validate_every: int

    def chunks(self, num_devices: int) -> list[Chunk]:
        size = num_devices * self.per_device
        return [
            Chunk(
                self.n_tags, self.n_clips, self.lanes, self.specs[i : i + size], self.validate_every
            )
            for i in range(0, len(self.specs), size)
        ]


def plan(
    specs: Sequence[ProbeSpec],
    sizes: Sizes,
    platform: str,
    num_devices: int,
    config: SolverConfig,
    room: int = 2**62,
    share: int = 1,
) -> list[Bucket]:
    """Pack probes by size, smallest first. A pure function of its arguments.

    room: bytes of a device. share: make chunks this many times smaller. Raises InputError if a
    probe does not fit.
    """
    lockstep = platform != "cpu"  # where one must be validated, all are
    buckets: dict[tuple[int, int], list[ProbeSpec]] = {}
    widest = max((len(spec.tags) for spec in specs), default=0)
    for spec in specs:
        shape = (
            min(_room_for_tags(len(spec.tags)), widest),
            _room_for_clips(len(spec.support), lockstep),
        )
        buckets.setdefault(shape, []).append(spec)
    plan = []
    for (n_tags, n_clips), bucket in sorted(
        buckets.items(), key=lambda item: item[0][0] * item[0][1]
    ):
        bucket.sort(key=lambda spec: len(spec.support))
        every = 1 if lockstep or config.hidden or n_clips > _LONG_EPOCH else _CPU_EPOCHS
        need = memory.adam(sizes, n_tags, n_clips, config.hidden, config.batch_size, every)
        whole = 256 if lockstep else int(np.clip(_CPU_LABELS // (n_tags * n_clips), 1, _CPU_CHUNK))
        most = max(1, whole // share)
        lanes, count = memory.pack(
            need,
            f"a probe of {n_tags} tags and {n_clips} clips",
            sizes,
            room,
            most if lockstep else 1,
            most,
        )
        plan.append(
            Bucket(
                n_tags,
                n_clips,
                tuple(bucket),
                lanes,
                count,
                (count * need.kept + lanes * need.busy) / 1e6,
                every,
            )
        )
    return plan


def train(
    chunk: Chunk,
    data: Data,
    config: SolverConfig,
    mesh: Mesh,
    tick: Callable[[int], None] = lambda epochs: None,
    tagged: bool = False,
    norms: bool = False,
) -> Iterator[Outcome]:
    """Train a chunk's probes and test them. `tick` is told how many more epochs are behind us,
    after every block but the last, whose outcomes are handed back first.

    A probe that stops early counts as max_epochs, so all of a chunk are probes × max_epochs.
    tagged: test on clips with one of the probe's tags. norms: hand back weight_norms.
    """
    solver, lanes = solvers.adam(config, chunk.validate_every), chunk.lanes
    places = _deal(len(chunk.specs), mesh.size, lanes)
    tasks = _stack(chunk, mesh, places)
    state = _init(_without_clips(tasks), data, solver, mesh, lanes)
    # who trains, and where
    here = {
        spec: place for spec, place in zip(chunk.specs, places, strict=True) if spec is not None
    }
    found: dict[ProbeSpec, Outcome] = {}
    behind, epochs = 0, 1
    while here:
        start = time.monotonic()
        state = _advance(
            state, tasks, data, processes.agreed(np.int32(epochs)), solver, mesh, lanes
        )
        progress = processes.fetch(state.progress)
        spent = time.monotonic() - start
        now = config.max_epochs * len(found) + sum(
            config.max_epochs if progress.done[place] else int(progress.epoch[place])
            for place in here.values()
        )
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
            _test(state, _without_clips(tasks), data, solver, mesh, lanes, tagged, norms)
        )
        found |= {
            spec: _outcome(spec, place, progress, *tested)
            for spec, place in here.items()
            if progress.done[place]
        }
        here = {}
        if running:
            lanes, places = fewer, _deal(len(running), mesh.size, fewer)
            origin = np.full(
                mesh.size * lanes, np.argmax(progress.done)
            )  # one that is done fills the other places
            origin[places] = list(running.values())
            tasks, state = _take(
                (tasks, state), processes.place(origin, NamedSharding(mesh, P())), mesh
            )
            here = dict(zip(running, places, strict=True))
    yield from (found[spec] for spec in chunk.specs if spec is not None)


def _outcome(
    spec: ProbeSpec,
    place: int,
    progress: Progress,
    precision: np.ndarray,
    auc: np.ndarray,
    weights: np.ndarray | None,
) -> Outcome:
    """What the probe at `place` came to; one that diverged has learnt nothing."""
    n_way, learnt = len(spec.tags), 1.0 if progress.best_epoch[place] else np.float32(np.nan)
    return Outcome(
        spec,
        learnt * precision[place, :n_way],
        learnt * auc[place, :n_way],
        float(progress.loss[place]),
        int(progress.best_epoch[place]),
        int(progress.epoch[place]),
        weight_norms=None if weights is None else weights[place],
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


def _stack(chunk: Chunk, mesh: Mesh, places: np.ndarray) -> Task:
    """The chunk's tasks with a leading probe axis, filled up with tasks that have no clips."""
    count = multiple_of(mesh.size * chunk.lanes, len(chunk.specs))
    support = np.zeros((count, chunk.n_clips), np.int32)
    tags = np.zeros((count, chunk.n_tags), np.int32)
    seed, num_support, n_way = np.zeros((3, count), np.int32)
    for i, spec in zip(places, chunk.specs, strict=True):
        if spec is None:
            continue
        support[i, : len(spec.support)] = spec.support
        tags[i, : len(spec.tags)] = spec.tags
        seed[i], num_support[i], n_way[i] = spec.seed, len(spec.support), len(spec.tags)
    tasks = Task(seed, support, num_support, tags, n_way)  # type: ignore[arg-type]
    return processes.place(tasks, NamedSharding(mesh, P("probe")))


def _without_clips(tasks: Task) -> Task:
    """The tasks for what looks at no support clip: one program serves chunks of any room for
    them.
    """
    return tasks._replace(support=tasks.support[:, :0])


@partial(jax.jit, static_argnames=("mesh",))
def _take(tree: Any, origin: Array, mesh: Mesh) -> Any:
    """The places `origin` of the probe axis, laid over the devices anew."""
    over = NamedSharding(mesh, P("probe"))
    return jax.tree.map(lambda leaf: lax.with_sharding_constraint(leaf[origin], over), tree)


def over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    lanes: int,
    mapped: tuple[Any, ...],
    shared: tuple[Any, ...],
) -> Any:
    """function(*one's mapped, *shared) along the leading axis of mapped: sharded, then mapped, then
    vmapped.
    """

    def on_device(mapped: tuple[Any, ...], shared: tuple[Any, ...]) -> Any:
        one = lambda mine: function(*mine, *shared)  # noqa: E731
        return lax.map(one, mapped, batch_size=lanes if lanes > 1 else None)

    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(P("probe"), P()), out_specs=P("probe"), check_vma=False
    )(mapped, shared)


@partial(jax.jit, static_argnames=("solver", "mesh", "lanes"))
def _init(tasks: Task, data: Data, solver: Solver, mesh: Mesh, lanes: int) -> Any:
    return over_devices(solver.init, mesh, lanes, (tasks,), (data,))


@partial(jax.jit, static_argnames=("solver", "mesh", "lanes"), donate_argnames=("state",))
def _advance(
    state: Any, tasks: Task, data: Data, num_epochs: Array, solver: Solver, mesh: Mesh, lanes: int
) -> Any:
    return over_devices(solver.advance, mesh, lanes, (state, tasks), (data, num_epochs))


@partial(jax.jit, static_argnames=("solver", "mesh", "lanes", "tagged", "norms"))
def _test(
    state: Any,
    tasks: Task,
    data: Data,
    solver: Solver,
    mesh: Mesh,
    lanes: int,
    tagged: bool,
    norms: bool,
) -> tuple[Array, Array, Array | None]:
    """(average precision `[probe, tag]`, ROC-AUC `[probe, tag]`, weight norms `[probe, dim]` or
    None).
    """

    def one(state: Any, task: Task, data: Data) -> tuple[Array, Array, Array | None]:
        params = solver.weights(state)
        weights = (
            jnp.abs(params["params"]["Dense_0"]["kernel"]) * task.tag_mask[:, None]
            if norms
            else None
        )
        return (
            *score_tags(probe.logits(params, data.test), data, task, tagged),
            None if weights is None else jnp.sum(weights, axis=0),
        )

    return over_devices(one, mesh, lanes, (state, tasks), (data,))


def score_tags(scores: Array, data: Data, task: Task, tagged: bool) -> tuple[Array, Array]:
    """(average precision, ROC-AUC) `[tag]` of one probe's test scores `[clip, tag]`, logits: a
    sigmoid makes ties.

    tagged: on the clips with at least one of the probe's tags, as the authors' code does; else on
    all.
    """
    labels = data.test_labels[:, task.tags]
    counted = jnp.any(labels & task.tag_mask, axis=1) if tagged else jnp.ones(labels.shape[0], bool)
    return jax.vmap(metrics.both, in_axes=(1, 1, None))(scores, labels, counted)


def _room_for_tags(n_tags: int) -> int:
    """A multiple of eight; above 64, of a quarter of a power of two: few shapes, little padding."""
    step = 8
    while 8 * step < n_tags:
        step *= 2
    return multiple_of(step, n_tags)


def _room_for_clips(count: int, lockstep: bool) -> int:
    """In lockstep a power of four: a small probe pays for the largest beside it. One by one, few
    shapes.
    """
    if not lockstep:
        return next((room for room in (128, 512) if count <= room), multiple_of(2048, count))
    power = 32
    while power < count:
        power *= 4
    return power


def multiple_of(step: int, least: int) -> int:
    return -(-least // step) * step
