"""From specs to outcomes: hands every probe to what trains its kind, in portions that fit the
device.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from extract.errors import InputError
from fsprobe.batch import lanes as vectorize
from fsprobe.batch import memory, processes
from fsprobe.batch.lanes import Bucket, Outcome, ProbeSpec
from fsprobe.batch.memory import Sizes
from fsprobe.config import SolverConfig
from fsprobe.heads import dual as gram
from fsprobe.heads import logistic as lbfgs
from fsprobe.heads import primal
from fsprobe.heads.head import Data
from fsprobe.heads.strengths import Settings

_GRAM_CLIPS = 4096  # a Gram matrix of 64 MiB


class Plan(NamedTuple):
    """Portions. buckets: of adam. on_gram, lanes: probes solved by Gram matrices, and seeds side by
    side; on_clips: probes solved on the clips. lines: the same for a reader.
    """

    buckets: tuple[Bucket, ...] = ()
    on_gram: tuple[ProbeSpec, ...] = ()
    lanes: int = 1
    on_clips: tuple[ProbeSpec, ...] = ()
    lines: tuple[str, ...] = ()


def plan(
    specs: Sequence[ProbeSpec],
    sizes: Sizes,
    config: SolverConfig,
    mesh: Mesh,
    room: int,
    *,
    squares: np.ndarray | None = None,
    norms: bool = False,
    share: int = 1,
) -> Plan:
    """What trains together. A pure function of its arguments.

    room: bytes of a device. squares: float `[clip]`, squared norms of the training clips, for
    converged probes of a given strength; without, they are planned on the clips themselves, which
    takes less than a Gram matrix. share: make portions this many times smaller. Raises InputError
    if one probe does not fit.
    """
    platform = mesh.devices.flat[0].platform
    if config.name == "lbfgs":
        return _plan_converged(
            specs, squares, sizes, _settings(config, False, norms), mesh, room, share
        )
    buckets = vectorize.plan(specs, sizes, platform, mesh.size, config, room, share)
    lines = (
        f"{len(bucket.specs)} probes of up to {bucket.n_tags} tags, {bucket.n_clips} clips: "
        f"{len(bucket.chunks(mesh.size))} chunks, {bucket.per_device} a device, {bucket.lanes} in "
        f"lockstep, "
        f"{bucket.megabytes:,.1f} MB"
        for bucket in buckets
    )
    return Plan(tuple(buckets), lines=tuple(lines))


def train(
    specs: Sequence[ProbeSpec],
    data: Data,
    config: SolverConfig,
    mesh: Mesh,
    tick: Callable[[float], None] = lambda probes: None,
    *,
    tagged: bool = False,
    norms: bool = False,
    done: Collection[Any] = (),
    room: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Outcome]]:
    """Train and test every probe; lists of outcomes as they become ready.

    tick is told how much more was done, in probes, and `note` the plan. tagged: test on clips with
    one of the probe's tags. norms: hand back weight_norms. done: keys of probes to leave out; the
    others come out as if they were in, bit for bit. room: bytes of a device; None: measured. Where
    memory runs out all the same, portions are halved, and `note` is told; InputError where they
    can't be.
    """
    finished, share, told = set(done), 1, 0.0
    given = config.name == "lbfgs" and not isinstance(config.l2, str)
    planned = partial(
        plan,
        specs,
        Sizes.of(data),
        config,
        mesh,
        memory.room(0) if room is None else room,
        norms=norms,
        squares=np.einsum("cd,cd->c", data.train, data.train) if given else None,
    )

    def count(trained: float) -> None:
        nonlocal told
        told += trained
        tick(trained)

    while True:
        portions = planned(share=share)
        for line in portions.lines:
            note(line)
        try:
            for outcomes in _train(portions, data, config, mesh, count, tagged, norms, finished):
                finished |= {outcome.spec.key for outcome in outcomes}
                yield outcomes  # before a tick, which may raise
                tick(len(outcomes) - told)
                told = 0.0
            return
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not processes.ran_out(error):
                raise
        tick(-told)
        told, share = 0.0, 2 * share
        if planned(share=share)[:4] == portions[:4]:
            raise InputError(
                "--device_memory_gb: the device is out of memory, and a chunk can't be smaller; "
                "drop the "
                "largest --n_way, --k_shot or --embedding"
            )
        note(f"out of memory: going on with chunks of 1/{share} the size")


def _train(
    portions: Plan,
    data: Data,
    config: SolverConfig,
    mesh: Mesh,
    tick: Callable[[float], None],
    tagged: bool,
    norms: bool,
    done: Collection[Any],
) -> Iterator[list[Outcome]]:
    for bucket in portions.buckets:
        for chunk in bucket.chunks(mesh.size):
            chunk = chunk.without(done)
            if any(chunk.specs):
                yield list(
                    vectorize.train(
                        chunk,
                        data,
                        config,
                        mesh,
                        lambda epochs: tick(epochs / config.max_epochs),
                        tagged,
                        norms,
                    )
                )
    if config.name == "lbfgs":
        settings = _settings(config, tagged, norms)
        yield from gram.by_seed(portions.on_gram, data, settings, mesh, portions.lanes, done)
        yield from primal.by_support(portions.on_clips, data, settings, mesh, done)


def _plan_converged(
    specs: Sequence[ProbeSpec],
    squares: np.ndarray | None,
    sizes: Sizes,
    settings: Settings,
    mesh: Mesh,
    room: int,
    share: int,
) -> Plan:
    def suits_gram(spec: ProbeSpec) -> bool:  # full probes share their support set
        strong = settings.l2 is None or (
            squares is not None
            and float(settings.l2) >= lbfgs.WEAKEST_DUAL * squares[spec.support].mean()
        )
        return bool(strong) and not spec.full and len(spec.support) <= _GRAM_CLIPS

    on_gram = tuple(spec for spec in specs if suits_gram(spec))
    on_clips = tuple(spec for spec in specs if not suits_gram(spec))
    lanes, lines = 1, []
    if on_gram:
        lanes, size = gram.plan(
            on_gram, sizes, settings, mesh.devices.flat[0].platform, room, share
        )
        lines.append(
            f"{len(on_gram)} probes on Gram matrices: {lanes} seeds a device at a time, "
            f"{size:,.1f} MB"
        )
    if on_clips:
        size = primal.plan(on_clips, sizes, settings, mesh, room)
        lines.append(f"{len(on_clips)} probes on the clips themselves: {size:,.1f} MB a device")
    return Plan((), on_gram, lanes, on_clips, tuple(lines))


def _settings(config: SolverConfig, tagged: bool, norms: bool) -> Settings:
    l2 = None if isinstance(config.l2, str) else np.float32(config.l2)
    return Settings(l2, tagged, norms)  # type: ignore[arg-type]
