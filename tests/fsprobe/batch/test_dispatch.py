"""Portions that fit: the memory plan, what it does to the rows (nothing), and running out of memory
all the same.

Tolerance 1e-5, as in test_lanes. Probes that were left out as done change no bit.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsprobe
from extract.errors import InputError
from fsprobe.batch import by_seed, by_support, dispatch, lanes, memory
from fsprobe.batch.dispatch import plan
from fsprobe.batch.lanes import device_mesh
from fsprobe.batch.memory import Sizes
from fsprobe.batch.scoring import over_devices, test_tasks
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted, padded_tasks
from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.solvers.adam import adam
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.heads.solvers.solver import Products, Settings
from tests.support import probes

test_tasks.__test__ = False  # type: ignore[attr-defined]  # no test of ours, whatever its name says

ADAM = SolverConfig(learning_rate=0.01, max_epochs=12)
LBFGS = SolverConfig(name="lbfgs")


@pytest.fixture(scope="module")
def data() -> Data:
    return probes.directed((200, 30, 80), 40, 8)


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
    outcomes = dispatch.train(specs(), data, config, device_mesh(), **flags)  # type: ignore[arg-type]
    return {outcome.spec.key: outcome for part in outcomes for outcome in part}


def least_bytes(data: Data, config: SolverConfig) -> int:
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


def test_probes_of_one_support_set_keep_their_own_folds(data):
    """Two seeds draw the same clips, and share them out otherwise."""
    config = SolverConfig("lbfgs", l2=1e-6, validation="support")
    folds = (np.arange(30) % 5, np.arange(30) // 6)
    mine = [
        ProbeSpec(seed, seed, np.arange(30)[::-1], np.arange(3), folds=folds[seed])
        for seed in range(2)
    ]

    def losses(specs: list[ProbeSpec]) -> list[float]:
        found = dispatch.train(specs, data, config, device_mesh())
        return [outcome.val_loss for part in found for outcome in part]

    assert losses(mine) == [*losses(mine[:1]), *losses(mine[1:])]


@pytest.mark.parametrize("config", [ADAM, LBFGS])
def test_done_probes_change_no_bit_of_the_others(data, config):
    everything = train(data, config)
    done = {(0, 0), (3, 1), (5, 2), (4, 0), (4, 1), (4, 2)}
    rest = train(data, config, done=done)
    assert rest.keys() == everything.keys() - done
    for key, outcome in rest.items():
        np.testing.assert_array_equal(
            outcome.metrics.average_precision, everything[key].metrics.average_precision
        )
        assert (outcome.val_loss, outcome.epochs) == (
            everything[key].val_loss,
            everything[key].epochs,
        )


@pytest.mark.parametrize("name", [name for name, solver in SOLVERS.items() if solver.baseline])
def test_baselines_do_not_depend_on_how_many_devices_there_are(data, name):
    found = [
        {
            outcome.spec.key: outcome.metrics
            for part in dispatch.train(specs(), data, SolverConfig(name), probes.mesh_of(devices))
            for outcome in part
        }
        for devices in (1, 2)
    ]
    assert found[0].keys() == found[1].keys() == {spec.key for spec in specs()}
    for key, metrics in found[0].items():
        for one, two in zip(metrics, found[1][key], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)


def test_probes_of_one_support_set_are_tested_on_any_number_of_devices(data, monkeypatch):
    """As on accelerators, which share the tags of a support set; here two devices and 3 probes."""
    monkeypatch.setattr(by_support, "_sharing", lambda mesh: mesh)
    monkeypatch.setattr(by_support, "_LOOKED_UP", 3)
    full = [ProbeSpec(i, i, np.arange(200), np.array([i, 7]), full=True) for i in range(4)]
    found = []
    for devices in (1, 2):
        arguments = data, SOLVERS["lbfgs"], Settings(np.float32(0.1)), probes.mesh_of(devices)
        (outcomes,) = by_support.fit_by_support(full, *arguments)
        assert [outcome.spec for outcome in outcomes] == full
        found.append(outcomes)
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one.val_loss, two.val_loss, rtol=1e-4)


def test_unlabelled_clips_count_beside_a_large_support_set():
    """More clips than `cell` has an inner product for: the probe is the fit with those weights."""
    clips, labelled = 4300, 4200
    data = probes.directed((clips, 30, 200), 6, 3)
    support, tags = np.random.default_rng(2).permutation(clips)[:labelled], np.array([2, 0])
    large = [ProbeSpec(0, 0, support, tags), ProbeSpec(1, 0, np.arange(clips), tags, full=True)]
    config = SolverConfig(
        "lbfgs", l2=0.1, validation="none", unlabelled="weak_negatives", unlabelled_weight=2.0
    )
    portions = plan(large, Sizes.of(data), config, device_mesh(), 2**40)
    assert portions.cells == (large[0],) and portions.shared == (large[1],)
    ((found,),) = list(dispatch.train(large[:1], data, config, device_mesh()))
    labels = np.asarray(data.train.positive)[:, tags]
    positive, negative = np.zeros((2, clips, 2), np.float32)
    positive[support], negative[support] = labels[support], ~labels[support]
    negative[np.setdiff1d(np.arange(clips), support)] = 2.0 * labelled / (clips - labelled)
    head = fsprobe.fit(data.train.features, positive, negative, l2=0.1)
    test = data.test.of_tags(tags)
    expected = fsprobe.evaluate(fsprobe.score(head, test.features), test.positive)
    negative[np.setdiff1d(np.arange(clips), support)] = 0.0
    # weights count relative to each other; doubled they are no hard labels, and one program does
    plain = fsprobe.fit(data.train.features, 2 * positive, 2 * negative, l2=0.1)
    without = fsprobe.evaluate(fsprobe.score(plain, test.features), test.positive)
    precision = found.metrics.average_precision
    np.testing.assert_allclose(precision, expected["average_precision"], atol=1e-4)
    assert np.abs(precision - without["average_precision"]).max() > 1e-3


def test_the_least_memory_gives_the_same_rows(data):
    whole, small = train(data, ADAM), train(data, ADAM, device_bytes=least_bytes(data, ADAM))
    assert whole.keys() == small.keys()
    for key, outcome in small.items():
        np.testing.assert_allclose(
            outcome.metrics.average_precision, whole[key].metrics.average_precision, atol=1e-5
        )
        assert outcome.val_loss == pytest.approx(whole[key].val_loss, abs=1e-5)


@pytest.mark.parametrize("config", [ADAM, LBFGS])
def test_less_than_one_probe_is_refused_by_flag(data, config):
    with pytest.raises(
        InputError, match=r"`device_memory_gb`: .* needs .* MB beside .* MB of features"
    ):
        plan(specs(), Sizes.of(data), config, device_mesh(), least_bytes(data, config) - 1)


def test_the_plan_fills_the_memory_and_says_so(data):
    mesh, least = device_mesh(), least_bytes(data, ADAM)
    sizes = Sizes.of(data)
    for most in (least, 2 * least, 10 * least):
        portions = plan(specs(), Sizes.of(data), ADAM, mesh, most)
        for bucket in portions.buckets:
            need = memory.adam(sizes, bucket.n_tags, bucket.n_clips, ADAM, bucket.validate_every)
            taken = sizes.data_bytes + bucket.per_device * need.kept + bucket.lanes * need.busy
            assert taken <= most and bucket.per_device % bucket.lanes == 0
        assert len(portions.lines) == len(portions.buckets) == 1 and " MB" in portions.lines[0]
    assert plan(specs(), Sizes.of(data), ADAM, mesh, least).buckets[-1].per_device == 1
    assert plan(specs(), Sizes.of(data), ADAM, mesh, 2**40).buckets[0].per_device == -(
        -len(specs()) // mesh.size
    )


def asked_for(step: Any, static: tuple[object, ...], *arrays: Any) -> int:
    """Bytes of a step's own arguments (arrays; not the shared data), results and scratch space."""
    used = step.lower(*arrays, *static).compile().memory_analysis()
    own = sum(
        leaf.nbytes
        for leaf in jax.tree.leaves([part for part in arrays if not isinstance(part, Data)])
    )
    return own + used.output_size_in_bytes - used.alias_size_in_bytes + used.temp_size_in_bytes


def zeros(sizes: Sizes) -> Data:
    return Data(*(Labelled(jnp.zeros((n, sizes.dim)), jnp.zeros((n, 50), bool)) for n in sizes[:3]))


ONE = probes.mesh_of(1)


def stacked(count: int, n_clips: int, n_tags: int) -> Any:
    spec = ProbeSpec(0, 0, np.arange(n_clips), np.arange(n_tags))
    return jax.tree.map(
        jnp.asarray, padded_tasks([spec] * count, range(count), (count, n_clips, n_tags))
    )


@pytest.mark.parametrize(
    ("shape", "side_by_side", "every", "validation"),
    [
        ((256, 1, 128), 1, 10, "valid"),
        ((256, 9, 128), 1, 1, "support"),
        ((2816, 2, 128), 2, 1, "valid"),
        pytest.param((2816, 2, 128), 1, 1, "support", marks=pytest.mark.slow),
        pytest.param((1024, 50, 512), 1, 10, "valid", marks=pytest.mark.slow),
        pytest.param((1024, 50, 512), 2, 1, "valid", marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_what_xla_asks_for(shape, side_by_side, every, validation):
    """At least that, and at most four times as much."""
    dim, n_tags, n_clips = shape
    config = replace(ADAM, validation=validation)
    sizes, count, steps = Sizes(1500, 500, 2000, dim, 50), 4, adam(config, every)
    data, tasks = zeros(sizes), stacked(count, n_clips, n_tags)

    def over(function: Any, mapped: Any, shared: Any) -> Any:
        return over_devices(function, ONE, side_by_side, mapped, shared)

    state = jax.jit(lambda tasks, data: over(steps.init, (tasks,), (data,)))(tasks, data)

    def one(state: Any, task: Any, data: Any, epochs: Any) -> Any:
        state = steps.advance(state, task, data, epochs)
        return state, steps.head(state)

    advance = jax.jit(
        lambda state, tasks, data, epochs: over(one, (state, tasks), (data, epochs)),
        donate_argnums=0,
    )
    heads = jax.vmap(steps.head)(state)
    need = memory.adam(sizes, n_tags, n_clips, config, every)
    taken = max(
        asked_for(advance, (), state, tasks, data, jnp.int32(1)),
        asked_for(test_tasks, (ONE, side_by_side, Wanted()), heads, tasks, data),
    )
    assert taken <= count * need.kept + side_by_side * need.busy <= 4 * taken


@pytest.mark.parametrize(
    ("shape", "validation"),
    [
        ((256, 8, 128), "valid"),
        ((128, 20, 192), "support"),  # more clips than dimensions
        pytest.param((1024, 50, 768), "support", marks=pytest.mark.slow),
    ],
)
def test_the_estimate_of_a_gram_matrix_is_too(shape, validation):
    dim, n_tags, n_clips = shape
    sizes, side_by_side = Sizes(1500, 500, 2000, dim, 50), 2
    settings = Settings(None, validation)
    data, tasks = zeros(sizes), stacked(side_by_side, n_clips, n_tags)
    tasks = jax.tree.map(lambda leaf: leaf[:, None], tasks)  # one cell of each seed
    products = Products(
        jnp.zeros((side_by_side, n_clips, n_clips)),
        jnp.zeros((side_by_side, sizes.valid, n_clips)),
        jnp.zeros((side_by_side, n_clips), jnp.int32),
    )
    fit = SOLVERS["lbfgs"].cell
    assert fit is not None

    def one(task: Any, products: Any, data: Any) -> Any:
        return fit(task, products, data, settings)

    def one_seed(tasks: Any, products: Any, data: Any) -> Any:
        return jax.lax.map(lambda task: one(task, products, data), tasks)

    program = jax.jit(
        lambda tasks, products, data: over_devices(
            one_seed, ONE, side_by_side, (tasks, products), (data,)
        )
    )
    head = SOLVERS["lbfgs"].head_size(n_tags, dim)
    need = memory.by_seed(sizes, n_clips, {n_clips: n_tags}, 11, Wanted(), head, 1)
    taken = asked_for(program, (), tasks, products, data)
    assert taken <= side_by_side * sum(need) <= 4 * taken


@pytest.mark.parametrize("cells", [1, 6])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lc_protonets", (256, 9, 128)),
        ("lc_protonets", (1024, 20, 256)),
        ("prototypes", (1024, 50, 256)),
    ],
)
def test_the_estimate_of_heads_of_other_types_is_too(name, shape, cells):
    """Those of lc_protonets hold up to 8192 prototypes each, and a seed's heads of one size are
    all kept.
    """
    dim, n_tags, n_clips = shape
    sizes, solver = Sizes(1500, 500, 2000, dim, 50), SOLVERS[name]
    data, tasks = zeros(sizes), stacked(cells, n_clips, n_tags)
    fit = solver.cell
    assert fit is not None

    def one_by_one(tasks: Any, data: Any) -> list[Any]:
        heads = jax.lax.map(lambda task: fit(task, None, data, Settings(None)).head, tasks)
        return [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], heads) for i in range(cells)]

    program = jax.jit(one_by_one)
    taken = asked_for(program, (), tasks, data)
    heads = jax.eval_shape(program, tasks, data)
    one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), heads[0])
    first = jax.tree.map(lambda leaf: leaf[:1], tasks)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(heads))
    taken = max(taken, kept + asked_for(test_tasks, (ONE, 1, Wanted()), one, first, data))
    head = solver.head_size(n_tags, dim)
    need = memory.by_seed(sizes, 0, {n_clips: n_tags}, 0, Wanted(), head, cells)
    assert taken <= sum(need) <= 4 * taken


@pytest.mark.parametrize(
    "error", [MemoryError, lambda: jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_out_of_memory_halves_and_goes_on(data, error, monkeypatch):
    whole, notes, ticks, real = train(data, ADAM), [], [], lanes.train_chunk

    def small(chunk, *rest):
        if len(chunk.specs) > 4:
            rest[4](3)  # some epochs went well
            raise error()
        return real(chunk, *rest)

    monkeypatch.setattr(lanes, "train_chunk", small)
    outcomes = train(data, ADAM, note=notes.append, tick=ticks.append)
    halved = [text for text in notes if "out of memory: going on" in text]
    assert halved and len(notes) == len(halved) + len(halved) + 1, "one bucket, in every plan"
    assert sum(ticks) == pytest.approx(len(specs()))
    for key, outcome in outcomes.items():
        np.testing.assert_allclose(
            outcome.metrics.average_precision, whole[key].metrics.average_precision, atol=1e-5
        )


@pytest.mark.parametrize("config", [ADAM, LBFGS])
def test_out_of_memory_with_one_probe_is_the_users(data, config, monkeypatch):
    def none(*args, **flags):
        raise MemoryError

    monkeypatch.setattr(lanes, "train_chunk", none)
    monkeypatch.setattr(by_seed, "fit_by_seed", none)
    monkeypatch.setattr(by_support, "fit_by_support", none)
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
        for outcomes in dispatch.train(specs(), data, config, device_mesh(), stop):
            finished += outcomes
    assert finished and sum(told) == pytest.approx(len(finished))


def test_another_error_is_not_taken_for_it(data, monkeypatch):
    def broken(*args, **flags):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(lanes, "train_chunk", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(data, ADAM)


def test_a_solver_that_has_a_path_alone(data, monkeypatch):
    """Small support sets and large ones are fitted by it."""
    expected = train(data, SolverConfig("ridge"))
    monkeypatch.setitem(SOLVERS, "ridge", replace(SOLVERS["ridge"], cell=None))
    found = train(data, SolverConfig("ridge"))
    assert found.keys() == expected.keys()
    for key, outcome in found.items():
        np.testing.assert_allclose(outcome.l2, expected[key].l2, rtol=1e-5)
