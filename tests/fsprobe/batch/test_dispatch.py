"""Portions that fit: the memory plan, what it does to the rows (nothing), and running out of memory
all the same.

Tolerance 1e-5, as in test_vectorize. Probes that were left out as done change no bit.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extract.errors import InputError
from fsprobe.batch import dispatch as training
from fsprobe.batch import lanes as vectorize
from fsprobe.batch import memory
from fsprobe.batch.dispatch import plan
from fsprobe.batch.lanes import Chunk, Outcome, ProbeSpec, device_mesh
from fsprobe.batch.memory import Sizes
from fsprobe.config import SolverConfig
from fsprobe.heads import adam as solvers
from fsprobe.heads import dual as gram
from fsprobe.heads.head import Data
from fsprobe.heads.strengths import Settings

ADAM = SolverConfig(learning_rate=0.01, max_epochs=12)
LBFGS = SolverConfig(name="lbfgs")


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((8, 40))
    parts = []
    for n in (200, 30, 80):
        labels = rng.random((n, 8)) < 0.3
        parts += [
            jnp.array(labels @ mix + rng.standard_normal((n, 40)), jnp.float32),
            jnp.array(labels),
        ]
    return Data(*parts)


def specs() -> list[ProbeSpec]:
    rng = np.random.default_rng(1)
    return [
        ProbeSpec(
            (seed, i),
            seed,
            np.arange(200) if clips == 200 else rng.permutation(200)[:clips],
            rng.permutation(8)[:5],
        )
        for seed in range(6)
        for i, clips in enumerate((6, 7, 200))
    ]


def train(data: Data, config: SolverConfig, **flags: object) -> dict[object, Outcome]:
    outcomes = training.train(specs(), data, config, device_mesh(), **flags)  # type: ignore[arg-type]
    return {outcome.spec.key: outcome for part in outcomes for outcome in part}


def room_of(data: Data, config: SolverConfig) -> int:
    """The least in which everything still fits."""
    low, high = 0, 2**40
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan(specs(), Sizes.of(data), config, device_mesh(), middle)
            high = middle
        except InputError:
            low = middle
    return high


@pytest.mark.parametrize("config", [ADAM, LBFGS])
def test_done_probes_change_no_bit_of_the_others(data, config):
    everything = train(data, config)
    done = {(0, 0), (3, 1), (5, 2), (4, 0), (4, 1), (4, 2)}
    rest = train(data, config, done=done)
    assert rest.keys() == everything.keys() - done
    for key, outcome in rest.items():
        np.testing.assert_array_equal(outcome.average_precision, everything[key].average_precision)
        assert (outcome.val_loss, outcome.epochs) == (
            everything[key].val_loss,
            everything[key].epochs,
        )


def test_the_smallest_room_gives_the_same_rows(data):
    whole, small = train(data, ADAM), train(data, ADAM, room=room_of(data, ADAM))
    assert whole.keys() == small.keys()
    for key, outcome in small.items():
        np.testing.assert_allclose(
            outcome.average_precision, whole[key].average_precision, atol=1e-5
        )
        assert outcome.val_loss == pytest.approx(whole[key].val_loss, abs=1e-5)


@pytest.mark.parametrize("config", [ADAM, LBFGS])
def test_less_than_one_probe_is_refused_by_flag(data, config):
    with pytest.raises(
        InputError, match=r"--device_memory_gb: .* needs .* MB beside .* MB of features"
    ):
        plan(specs(), Sizes.of(data), config, device_mesh(), room_of(data, config) - 1)


def test_the_plan_fills_the_room_and_says_so(data):
    mesh, least = device_mesh(), room_of(data, ADAM)
    sizes = Sizes.of(data)
    for room in (least, 2 * least, 10 * least):
        portions = plan(specs(), Sizes.of(data), ADAM, mesh, room)
        for bucket in portions.buckets:
            need = memory.adam(sizes, bucket.n_tags, bucket.n_clips, 0, 8, bucket.validate_every)
            taken = sizes.data_bytes + bucket.per_device * need.kept + bucket.lanes * need.busy
            assert taken <= room and bucket.per_device % bucket.lanes == 0
        assert len(portions.lines) == len(portions.buckets) == 2 and " MB" in portions.lines[0]
    assert plan(specs(), Sizes.of(data), ADAM, mesh, least).buckets[-1].per_device == 1
    assert plan(specs(), Sizes.of(data), ADAM, mesh, 2**40).buckets[0].per_device == 16


def asked_for(step: Any, static: tuple[object, ...], *arrays: Any) -> int:
    """Bytes of a step's own arguments (arrays; not the shared data), results and scratch space."""
    used = step.lower(*arrays, *static).compile().memory_analysis()
    own = sum(
        leaf.nbytes
        for leaf in jax.tree.leaves([part for part in arrays if not isinstance(part, Data)])
    )
    return own + used.output_size_in_bytes - used.alias_size_in_bytes + used.temp_size_in_bytes


def zeros(sizes: Sizes) -> Data:
    return Data(
        *(
            array
            for n in sizes[:3]
            for array in (jnp.zeros((n, sizes.dim)), jnp.zeros((n, 50), bool))
        )
    )


ONE = jax.sharding.Mesh(jax.devices()[:1], ("probe",))


@pytest.mark.parametrize(("lanes", "every"), [(1, 10), (2, 1)])
@pytest.mark.parametrize("shape", [(256, 1, 128), (2816, 2, 128), (256, 9, 128), (1024, 50, 512)])
def test_the_estimate_is_what_xla_asks_for(shape, lanes, every):
    """At least that, and at most four times as much."""
    dim, n_tags, n_clips = shape
    sizes, count, solver = Sizes(1500, 500, 2000, dim, 50), 4, solvers.adam(ADAM, every)
    arrays, chunk = (
        zeros(sizes),
        Chunk(
            n_tags,
            n_clips,
            lanes,
            (ProbeSpec(0, 0, np.arange(n_clips), np.arange(n_tags)),) * count,
        ),
    )
    tasks = vectorize._stack(chunk, ONE, np.arange(count))
    state = vectorize._init(tasks, arrays, solver, ONE, lanes)
    need = memory.adam(sizes, n_tags, n_clips, 0, 8, every)
    taken = max(
        asked_for(vectorize._advance, (solver, ONE, lanes), state, tasks, arrays, jnp.int32(1)),
        asked_for(vectorize._test, (solver, ONE, lanes, False, False), state, tasks, arrays),
    )
    assert taken <= count * need.kept + lanes * need.busy <= 4 * taken


@pytest.mark.parametrize("shape", [(256, 8, 128), (1024, 50, 768), (128, 20, 192)])
def test_the_estimate_of_a_gram_matrix_is_too(shape):
    dim, n_tags, room = shape
    sizes, lanes, settings = Sizes(1500, 500, 2000, dim, 50), 2, Settings(None, False, False)
    arrays, seeds = zeros(sizes), range(lanes)
    tasks = gram._tasks(
        [[ProbeSpec(0, seed, np.arange(room), np.arange(n_tags))] for seed in seeds],
        {seed: np.arange(room) for seed in seeds},
        (lanes, 1, room, n_tags),
    )
    grams = gram._grams(np.zeros((lanes, room), np.int32), arrays, ONE, lanes)
    need = memory.gram(sizes, room, {room: n_tags}, 11, False)
    taken = asked_for(
        gram._solve_cells, (ONE, lanes), jax.tree.map(jnp.asarray, tasks), grams, arrays, settings
    )
    assert taken <= lanes * sum(need) <= 4 * taken


@pytest.mark.parametrize(
    "error", [MemoryError, lambda: jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_out_of_memory_halves_and_goes_on(data, error, monkeypatch):
    whole, notes, ticks, real = train(data, ADAM), [], [], vectorize.train

    def small(chunk, *rest):
        if len(chunk.specs) > 4:
            rest[3](3)  # some epochs went well
            raise error()
        return real(chunk, *rest)

    monkeypatch.setattr(vectorize, "train", small)
    outcomes = train(data, ADAM, note=notes.append, tick=ticks.append)
    halved = [text for text in notes if "out of memory: going on" in text]
    assert halved and len(notes) == len(halved) + 2 * (len(halved) + 1), (
        "two buckets, in every plan"
    )
    assert sum(ticks) == pytest.approx(len(specs()))
    for key, outcome in outcomes.items():
        np.testing.assert_allclose(
            outcome.average_precision, whole[key].average_precision, atol=1e-5
        )


@pytest.mark.parametrize("config", [ADAM, LBFGS])
def test_out_of_memory_with_one_probe_is_the_users(data, config, monkeypatch):
    def none(*args, **flags):
        raise MemoryError

    monkeypatch.setattr(vectorize, "_init", none)
    monkeypatch.setattr(gram, "_grams", none)
    with pytest.raises(InputError, match="out of memory, and a chunk can't be smaller"):
        train(data, config)


@pytest.mark.parametrize("config", [ADAM, LBFGS])
def test_what_is_finished_comes_before_a_tick_that_stops(data, config):
    """A tick in the middle of a chunk may stop it; one that follows its end must not take its
    outcomes away.
    """
    finished, told = [], []

    def stop(probes):
        told.append(probes)
        if sum(told) >= 1 and finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for outcomes in training.train(specs(), data, config, device_mesh(), stop):
            finished += outcomes
    assert finished and sum(told) == pytest.approx(len(finished))


def test_another_error_is_not_taken_for_it(data, monkeypatch):
    def broken(*args, **flags):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(vectorize, "_init", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(data, ADAM)
