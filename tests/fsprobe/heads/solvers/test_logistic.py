"""Converged probes against scikit-learn's LogisticRegression, alone and in the grid.

Objectives agree to 1e-5 relative and mAP to 1e-3: float32 resolves an objective to 1e-7 and a
ranking to few swaps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from sklearn.metrics import average_precision_score

from fsprobe.batch import by_seed, dispatch
from fsprobe.batch.lanes import device_mesh
from fsprobe.batch.spec import Outcome, ProbeSpec, Wanted
from fsprobe.config import SolverConfig
from fsprobe.heads.cross_validation import FOLDS, assign_folds
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.descent import minimise
from fsprobe.heads.descent.objective import (
    Problem,
    TagWeights,
    bias_shift,
    over_clips,
    tag_weights,
)
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.heads.solvers.solver import Settings
from fsprobe.heads.strengths import DUAL_PATH, PRIMAL_PATH
from tests.support.probes import logistic_loss, mesh_of, objective, scikit_learn

MINIMA = jax.jit(minimise.minima)


def minimum(task, l2: float) -> minimise.Fit:
    """At one strength."""
    return jax.tree.map(lambda leaf: leaf[0], MINIMA(task, jnp.asarray([l2], jnp.float32)))


def clips(
    seed: int, n: int, dim: int, n_tags: int, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Features whose dimensions differ in scale by e^spread, and labels that they tell in part."""
    mix = np.random.default_rng(0).standard_normal((n_tags, dim)) / np.sqrt(dim) * 4
    rng = np.random.default_rng(seed)
    labels = rng.random((n, n_tags)) < np.linspace(0.08, 0.4, n_tags)
    labels[0], labels[1] = True, False  # every tag has both classes
    scale = np.exp(spread * np.random.default_rng(1).standard_normal(dim))
    return ((rng.standard_normal((n, dim)) + labels @ mix) * scale).astype(np.float32), labels


def problem(
    x: np.ndarray,
    labels: np.ndarray,
    dual: bool,
    padding: int = 0,
    negative: np.ndarray | None = None,
) -> Problem:
    n = len(x)
    x, labels = np.pad(x, ((0, padding), (0, 0))), np.pad(labels, ((0, padding), (0, 0)))
    features = x @ x.T if dual else x
    real = jnp.arange(n + padding) < n
    weights: TagWeights = tag_weights(
        jnp.asarray(labels),
        None if negative is None else jnp.asarray(np.pad(negative, ((0, padding), (0, 0)))),
        real,
        jnp.ones(labels.shape[1], bool),
    )
    return Problem(
        jnp.asarray(features),
        jnp.asarray((features if dual else x.T @ x) / n),
        jnp.where(real, 1 / n, 0.0),
        weights,
        dual,
    )


@pytest.mark.parametrize("dual", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_the_bias_ends_where_its_slope_is_nothing(soft, dual):
    """The mean of σ(z) is then that of the labels; a tag without a negative stays where it is."""
    x, labels = clips(5, 60, 80, 3)
    labels[:, 2] = True
    yes = np.where(labels, 0.9, 0.2) if soft else labels
    task = problem(x - x.mean(axis=0), yes, dual, padding=4, negative=1 - yes if soft else None)
    theta = minimise.origin(task).at[:-1].set(0.01).at[-1].add(0.3)
    moved = theta.at[-1].add(bias_shift(task, theta))
    chance = (1 / (1 + np.exp(-np.asarray(task.logits(moved)))))[:60].mean(axis=0)
    judged = slice(0, 3 if soft else 2)
    np.testing.assert_allclose(chance[judged], np.mean(yes, axis=0)[judged], atol=1e-5)
    assert soft or moved[-1, 2] == theta[-1, 2]


# with more clips than dimensions, never the dual
@pytest.mark.parametrize(
    ("n", "dim", "dual", "spread"),
    [
        (10, 64, True, 0.0),
        (60, 200, True, 1.5),
        (60, 200, False, 1.5),
        (200, 20, False, 1.5),
    ],
)
@pytest.mark.parametrize("n_tags", [None, 3])
def test_the_optimum_is_scikit_learns(n_tags, n, dim, dual, spread):
    x, labels = clips(2, n, dim, 3, spread)
    x -= x.mean(axis=0)
    scale = float(np.mean(np.sum(x**2, axis=1)))
    path = np.array([1e1, 1e-1, 1e-2, 1e-3, minimise.WEAKEST_DUAL]) * scale
    fits = MINIMA(problem(x, labels, dual), jnp.asarray(path, jnp.float32), n_tags)
    for i, l2 in enumerate(path):
        for tag in range(3):
            y = labels[:, tag] * 1.0
            theta = np.asarray(fits.theta[i, :, tag], np.float64)
            mine = x.T @ theta[:-1] if dual else theta[:-1]
            least = objective(x, y, 1 - y, l2, *scikit_learn(x, y, 1 - y, l2))
            assert objective(x, y, 1 - y, l2, mine, theta[-1]) <= least * (1 + 1e-5)
            assert float(fits.value[i, tag]) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("dual", [True, False])
def test_unknown_and_soft_labels_are_weights(dual):
    x, labels = clips(9, 40, 64, 3)
    x -= x.mean(axis=0)
    rng = np.random.default_rng(10)
    chance = np.where(rng.random(labels.shape) < 0.3, rng.random(labels.shape), labels)
    known = rng.random(labels.shape) < 0.6
    yes, no = (
        (part * known * rng.uniform(0.5, 3, labels.shape)).astype(np.float32)
        for part in (chance, 1 - chance)
    )
    l2 = 1e-2 * float(np.mean(np.sum(x**2, axis=1)))
    task = problem(x, yes, dual, padding=5, negative=no)
    fit = minimum(task, l2)
    for tag in range(3):
        pair = yes[:, tag].astype(np.float64), no[:, tag].astype(np.float64)
        theta = np.asarray(fit.theta[:, tag], np.float64)
        mine = x.T @ theta[: len(x)] if dual else theta[:-1]
        least = objective(x, *pair, l2, *scikit_learn(x, *pair, l2))
        assert objective(x, *pair, l2, mine, theta[-1]) <= least * (1 + 1e-5)
        assert float(fit.value[tag]) == pytest.approx(least, rel=1e-5)


def test_the_gradient_norm_is_the_gradients():
    x, labels = clips(3, 24, 60, 3)
    x -= x.mean(axis=0)
    l2 = 0.01 * float(np.mean(np.sum(x**2, axis=1)))
    for dual in (True, False):
        task = problem(x, labels, dual)
        fit = minimum(task, l2)
        w = np.asarray(fit.theta[:-1], np.float64)
        w = x.T @ w if dual else w
        error = (1 / (1 + np.exp(-(x @ w + np.asarray(fit.theta[-1])))) - labels) / len(x)
        norm = np.linalg.norm(np.vstack([x.T @ error + l2 * w, error.sum(axis=0)]), axis=0)
        start = np.linalg.norm(x.T @ (labels.mean(axis=0) - labels) / len(x), axis=0)
        assert (norm < 1e-3 * start).all()
        np.testing.assert_allclose(
            fit.gradient_norm, norm, atol=1e-5 * start.max()
        )  # both are all but zero


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_sums_over_clips(count):
    left, right = np.random.default_rng(8).standard_normal((2, count, 5)).astype(np.float32)
    expected = left.T.astype(np.float64) @ right
    np.testing.assert_allclose(
        over_clips(left, right), expected, atol=1e-6 * count
    )  # a rounding for each clip


def test_padding_is_inert_and_a_class_that_is_absent_stays_put():
    x, labels = clips(4, 24, 60, 3)
    labels[:, 2] = True
    l2 = 1.0
    tight, loose = (
        minimum(task, l2)
        for task in (problem(x, labels, True), problem(x, labels, True, padding=9))
    )
    np.testing.assert_allclose(tight.theta[:24], loose.theta[:24], atol=1e-5)
    np.testing.assert_array_equal(loose.theta[24:-1], 0)
    assert not np.asarray(tight.theta[:-1, 2]).any() and np.isnan(tight.gradient_norm[2])


DIM, TAGS = 100, 20  # of the clips of every probe, whose mean square is about 130
L2 = 1.0


@pytest.fixture(scope="module")
def data() -> Data:
    parts = [clips(seed, n, DIM, TAGS, 0.5) for seed, n in ((5, 500), (6, 60), (7, 200))]
    mean = parts[0][0].mean(axis=0)
    return Data(*(Labelled(jnp.asarray(x - mean), jnp.asarray(y)) for x, y in parts))


def spec(data: Data, n_way: int, k_shot: int | None, seed: int, folds: bool = False) -> ProbeSpec:
    """k_shot clips of each tag, or (None) every training clip."""
    rng = np.random.default_rng([seed, n_way])
    tags = rng.permutation(TAGS)[:n_way]
    labels, taken = np.asarray(data.train.positive), []
    for tag in tags if k_shot else ():
        free = np.setdiff1d(np.flatnonzero(labels[:, tag]), taken)
        taken += rng.permutation(free)[:k_shot].tolist()
    support = np.array(taken) if k_shot else np.arange(len(labels))
    return ProbeSpec(
        (n_way, k_shot, seed),
        seed,
        support,
        tags,
        full=k_shot is None,
        folds=assign_folds(labels[support][:, tags]) if folds else None,
    )


def train(
    specs: list[ProbeSpec],
    data: Data,
    mesh: Mesh,
    wanted: Wanted = Wanted(),
    **solver: object,
) -> dict[object, Outcome]:
    config = SolverConfig(name="lbfgs", **solver)  # type: ignore[arg-type]
    return {
        outcome.spec.key: outcome
        for outcomes in dispatch.train(specs, data, config, mesh, wanted=wanted)
        for outcome in outcomes
    }


def known(part: Labelled, rows: np.ndarray | slice, tag: int) -> tuple[np.ndarray, np.ndarray]:
    """(features, positive weights, negative weights) of the clips known for a tag."""
    yes = np.asarray(part.positive)[rows][:, tag] * 1.0
    no = 1 - yes if part.negative is None else np.asarray(part.negative)[rows][:, tag] * 1.0
    kept = yes + no > 0
    return np.asarray(part.features)[rows][kept], yes[kept], no[kept]


def expected(spec: ProbeSpec, data: Data, l2: float) -> tuple[float, float]:
    """(mAP, validation loss) of the same episode, by scikit-learn on each tag's known clips."""
    precision, losses = [], []
    for tag in spec.tags:
        w, b = scikit_learn(*known(data.train, spec.support, tag), l2)
        test, yes, _ = known(data.test, slice(None), tag)
        precision.append(average_precision_score(yes, test @ w + b))
        losses.append(logistic_loss(*known(data.valid, slice(None), tag), w, b))
    return float(np.mean(precision)), float(np.mean(losses))


@pytest.mark.parametrize("half", [False, True])
def test_in_the_grid_as_scikit_learn_on_the_same_episodes(data, half):
    """half: of the labels unknown, at random, in every split. The heads reach scikit-learn's
    objective to 1e-5, and rank as their metrics say."""
    l2 = L2
    if half:
        rng = np.random.default_rng(11)
        seen = [jnp.asarray(rng.random(part.positive.shape) < 0.5) for part in data[:3]]
        data = Data(
            *(
                Labelled(part.features, part.positive & mine, ~part.positive & mine)
                for part, mine in zip(data[:3], seen, strict=True)
            )
        )
    cells = [(5, 10), (10, None)] if half else [(2, 1), (5, 10), (10, None)]
    specs = [spec(data, n_way, k_shot, seed=n_way + 1) for n_way, k_shot in cells]
    outcomes = train(specs, data, device_mesh(), Wanted(heads=True), l2=l2)
    assert set(outcomes) == {one.key for one in specs}
    for one in specs:
        outcome = outcomes[one.key]
        assert outcome.l2 == l2 and outcome.head is not None
        losses = []
        for i, tag in enumerate(one.tags):
            w, b = (np.asarray(part[i], np.float64) for part in outcome.head)
            mine = known(data.train, one.support, tag)
            if mine[1].any() and mine[2].any():
                least = objective(*mine, l2, *scikit_learn(*mine, l2))
                assert objective(*mine, l2, w, float(b)) <= least * (1 + 1e-5)
            test, yes, _ = known(data.test, slice(None), tag)
            # a few float32 scores may tie or swap
            assert outcome.metrics.average_precision[i] == pytest.approx(
                average_precision_score(yes, test @ w + b), abs=1e-4
            )
            losses.append(logistic_loss(*known(data.valid, slice(None), tag), w, float(b)))
        assert outcome.val_loss == pytest.approx(np.mean(losses), rel=1e-4)
        if not half:
            precision, loss = expected(one, data, l2)
            assert np.mean(outcome.metrics.average_precision) == pytest.approx(precision, abs=1e-3)
            assert outcome.val_loss == pytest.approx(loss, rel=1e-3)


def test_a_strength_beyond_a_gram_matrix(data):
    """Whose inner products would leave a gap of 0.7 here."""
    one, l2 = spec(data, 10, 5, 0), 1e-7
    outcome = train([one], data, device_mesh(), l2=l2)[one.key]
    precision, loss = expected(one, data, l2)
    assert np.mean(outcome.metrics.average_precision) == pytest.approx(precision, abs=1e-3)
    # logits of 10 and more, where the support has no say
    assert outcome.val_loss == pytest.approx(loss, rel=5e-3) and outcome.gap < 1e-5


@pytest.mark.parametrize("k_shot", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_cross_validation_inside_the_support_is_scikit_learns_folds(data, k_shot):
    """The strength of least loss of clips held out, and the probe with it on the whole support."""
    one = spec(data, 5, k_shot, 0, folds=True)
    if k_shot is None:  # a pool that scikit-learn gets through
        one = spec_of(one, np.arange(0, 500, 2), data)
    support = np.asarray(data.train.features)[one.support]
    scale = np.mean(np.sum((support - support.mean(axis=0)) ** 2, axis=1))
    path = DUAL_PATH if k_shot else PRIMAL_PATH[:10]
    losses = [held_out_loss(one, data, ratio * scale) for ratio in path]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1, "the least must be among the strengths compared"
    found = train([one], data, device_mesh(), validation="support")[one.key]
    # strengths are in units of the clips' mean square, which centred features have about here
    assert found.l2 == pytest.approx(path[best] * scale, rel=5e-3)
    # fits are within a thousandth of their objective, and a loss of clips held out follows
    assert found.val_loss == pytest.approx(losses[best], rel=5e-3)
    precision, _ = expected(one, data, path[best] * scale)
    assert np.mean(found.metrics.average_precision) == pytest.approx(precision, abs=1e-3)


def spec_of(one: ProbeSpec, support: np.ndarray, data: Data) -> ProbeSpec:
    """The same probe on another support set, as one that is shared."""
    labels = np.asarray(data.train.positive)[support][:, one.tags]
    return ProbeSpec(one.key, one.seed, support, one.tags, True, assign_folds(labels))


def held_out_loss(one: ProbeSpec, data: Data, l2: float) -> float:
    """Mean over tags of the loss of each support clip under a fit without its fold."""
    losses = []
    for tag in one.tags:
        x, yes, no = known(data.train, one.support, tag)
        each = np.empty(len(x))
        for fold in range(FOLDS):
            held = one.folds == fold
            w, b = scikit_learn(x[~held], yes[~held], no[~held], l2)
            z = x[held] @ w + b
            each[held] = yes[held] * np.logaddexp(0, -z) + no[held] * np.logaddexp(0, z)
        losses.append(each.mean())
    return float(np.mean(losses))


def test_a_fixed_strength_where_nothing_validates(data):
    one = spec(data, 5, 4, 0)
    outcome = train([one], data, device_mesh(), validation="none", l2=L2)[one.key]
    assert np.isnan(outcome.val_loss) and outcome.l2 == L2
    assert np.mean(outcome.metrics.average_precision) == pytest.approx(
        expected(one, data, L2)[0], abs=1e-3
    )
    chosen = train([one], data, device_mesh(), validation="none")[one.key]
    assert 0 < chosen.l2 < np.inf and np.isnan(chosen.val_loss)


@pytest.mark.slow
def test_together_as_alone_on_any_devices(data):
    specs = [
        spec(data, n_way, k_shot, seed)
        for seed in range(2)
        for n_way, k_shot in ((2, 1), (10, 5), (5, None))
    ]
    meshes = [mesh_of(count) for count in (1, 2)]
    together = [train(specs, data, mesh) for mesh in meshes]
    for one in specs[1:3]:
        alone = train([one], data, meshes[0])[one.key]
        for outcomes in together:
            np.testing.assert_allclose(
                outcomes[one.key].metrics.average_precision,
                alone.metrics.average_precision,
                atol=1e-3,
            )
            assert outcomes[one.key].l2 == pytest.approx(alone.l2, rel=1e-5)
            assert outcomes[one.key].val_loss == pytest.approx(alone.val_loss, rel=1e-3)
    for one in specs:
        first, second = (outcomes[one.key] for outcomes in together)
        assert first.val_loss == (
            second.val_loss if one.full else pytest.approx(second.val_loss, rel=1e-3)
        )


def test_seeds_side_by_side_as_one_by_one(data):
    """As an accelerator runs them."""
    specs = [spec(data, 5, 4, seed) for seed in range(3)]
    settings = Settings(np.float32(L2))
    one, four = (
        [
            outcome
            for part in by_seed.fit_by_seed(
                specs, data, SOLVERS["lbfgs"], settings, mesh_of(1), lanes=lanes
            )
            for outcome in part
        ]
        for lanes in (1, 4)
    )
    for mine, theirs in zip(four, one, strict=True):
        assert mine.spec is theirs.spec and mine.val_loss == pytest.approx(
            theirs.val_loss, abs=1e-5
        )
        np.testing.assert_allclose(
            mine.metrics.average_precision, theirs.metrics.average_precision, atol=1e-5
        )


@pytest.mark.parametrize("k_shot", [4, None])
def test_auto_is_the_strength_of_least_validation_loss(data, k_shot):
    one, path = spec(data, 5, k_shot, 0), PRIMAL_PATH if k_shot is None else DUAL_PATH
    chosen = train([one], data, device_mesh())[one.key]
    support = np.asarray(data.train.features)[one.support]
    scale = np.mean(np.sum((support - support.mean(axis=0)) ** 2, axis=1))
    losses = [
        train([one], data, device_mesh(), l2=float(ratio * scale))[one.key].val_loss
        for ratio in path[:12]
    ]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1, "the least must be among the strengths compared"
    assert chosen.val_loss == pytest.approx(losses[best], rel=1e-3)
    assert chosen.l2 == pytest.approx(path[best] * scale, rel=1e-3)


def test_one_way_one_shot_has_a_single_class(data):
    one = ProbeSpec(
        "x", 0, np.flatnonzero(np.asarray(data.train.positive)[:, 3])[:1], np.array([3])
    )
    outcome = train([one], data, device_mesh())["x"]
    assert outcome.metrics.roc_auc[0] == 0.5 and outcome.epochs == 0
