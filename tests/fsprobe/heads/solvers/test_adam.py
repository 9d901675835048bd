"""Training one probe: the optimiser step, early stopping, shuffling, against plain NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsprobe.config import SolverConfig
from fsprobe.heads.cross_validation import FOLDS, assign_folds
from fsprobe.heads.data import Data, Labelled, Task, balanced, bce
from fsprobe.heads.neural import LinearProbe, logits, probe_module, to_head
from fsprobe.heads.solvers.adam import adam, coupled_adam, shuffled
from tests.support import probes


def test_step_is_adam_with_coupled_l2():
    """The algorithm box of torch.optim.Adam (torch 2.x documentation): g ← g + λθ before the
    moments.
    """
    rng = np.random.default_rng(0)
    weight, lr, decay = rng.standard_normal(7).astype(np.float32), 0.01, 0.1
    gradients = rng.standard_normal((20, 7)).astype(np.float32)
    optimizer = coupled_adam(lr, decay)
    params, state = jnp.array(weight), optimizer.init(jnp.array(weight))
    first = second = np.zeros(7)
    theta = weight.astype(np.float64)
    for t, raw in enumerate(gradients, start=1):
        updates, state = optimizer.update(jnp.array(raw), state, params)
        params = optax.apply_updates(params, updates)
        g = raw + decay * theta
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        theta = theta - lr * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(
        params, theta, rtol=1e-5, atol=1e-6
    )  # 20 float32 steps against float64


def problem(num_clips: int = 21, dim: int = 5, n_way: int = 3) -> tuple[Data, Task]:
    rng = np.random.default_rng(1)

    mix = rng.standard_normal((dim, 6))

    def part(n: int) -> Labelled:  # labels that the features tell in part
        x = rng.standard_normal((n, dim))
        marks = x @ mix + 2 * rng.standard_normal((n, 6)) > 0.5
        return Labelled(jnp.array(x, jnp.float32), jnp.array(marks))

    data = Data(part(40), part(15), part(30))
    support = rng.permutation(40)[:num_clips]
    tags = rng.permutation(6)[:n_way]
    folds = assign_folds(np.asarray(data.train.positive)[support][:, tags])
    return data, probes.task(support, tags, 5, folds)


class PlainModel:
    """A linear probe and Adam with coupled L2, in float64."""

    def __init__(self, theta: np.ndarray) -> None:
        self.theta = theta
        self.first, self.second, self.t = np.zeros_like(theta), np.zeros_like(theta), 0

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.hstack([x, np.ones((len(x), 1))]) @ self.theta

    def step(self, x: np.ndarray, yes: np.ndarray, no: np.ndarray, config: SolverConfig) -> None:
        """Labels are weights; the loss is a mean over clips and tags."""
        z = self.logits(x)
        error = no / (1 + np.exp(-z)) - yes / (1 + np.exp(z))
        x = np.hstack([x, np.ones((len(x), 1))])
        g = x.T @ error / error.size + config.weight_decay * self.theta
        self.t += 1
        self.first = 0.9 * self.first + 0.1 * g
        self.second = 0.999 * self.second + 0.001 * g**2
        self.theta = self.theta - config.learning_rate * (self.first / (1 - 0.9**self.t)) / (
            np.sqrt(self.second / (1 - 0.999**self.t)) + 1e-8
        )


def mean_loss(z: np.ndarray, yes: np.ndarray, no: np.ndarray) -> float:
    return float(np.mean(yes * np.logaddexp(0, -z) + no * np.logaddexp(0, z)))


def scaled(yes: np.ndarray, no: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So that each tag's weights sum to its number of clips."""
    scale = len(yes) / np.maximum((yes + no).sum(axis=0), 1e-9)
    return yes * scale, no * scale


def numpy_fit(data: Data, task: Task, config: SolverConfig) -> tuple[list[float], list[np.ndarray]]:
    """The protocol as a plain loop in float64: validation losses and the tested model's weights,
    by epoch.

    validation=support: a model per fold is trained on the other folds in the same batches, with
    the left-out clips' weights 0; the loss is that of each clip under the model that has not seen
    it. What is tested is a last model, trained on all clips.
    """
    start = adam(config).init(task, data).params["params"]["Dense_0"]
    cross = config.validation == "support"
    kernel, bias = (np.asarray(start[name]) for name in ("kernel", "bias"))
    if cross:
        kernel, bias = kernel[0], bias[0]
    begin = np.vstack([kernel.T, bias]).astype(np.float64)
    support, tags, folds = (np.asarray(part) for part in (task.support, task.tags, task.folds))

    def labels(part: Labelled) -> tuple[np.ndarray, np.ndarray]:
        yes = np.asarray(part.positive, np.float64)[:, tags]
        return yes, 1 - yes if part.negative is None else np.asarray(part.negative)[:, tags] * 1.0

    train = np.asarray(data.train.features)[support]
    yes, no = (array[support] for array in labels(data.train))
    seen = [folds != fold for fold in range(FOLDS if cross else 0)] + [np.ones(len(support), bool)]
    weights = [scaled(yes * mine[:, None], no * mine[:, None]) for mine in seen]
    models = [PlainModel(begin.copy()) for _ in seen]
    losses: list[float] = []
    trail: list[np.ndarray] = []
    key = jax.random.fold_in(jax.random.key(task.seed), 1)
    for epoch in range(config.max_epochs):
        order = np.asarray(
            shuffled(
                jax.random.fold_in(key, epoch), jnp.arange(len(support)), jnp.int32(len(support))
            )
        )
        for i in range(0, len(support), config.batch_size):
            batch = order[i : i + config.batch_size]
            for model, (w_yes, w_no) in zip(models, weights, strict=True):
                model.step(train[batch], w_yes[batch], w_no[batch], config)
        trail.append(models[-1].theta)
        if cross:
            z = np.zeros(yes.shape)
            for fold, model in enumerate(models[:-1]):
                z[folds == fold] = model.logits(train)[folds == fold]
            losses.append(mean_loss(z, *scaled(yes, no)))
        elif config.validation == "valid":
            z = models[-1].logits(np.asarray(data.valid.features))
            losses.append(mean_loss(z, *scaled(*labels(data.valid))))
        if losses and len(losses) - (int(np.argmin(losses)) + 1) >= config.patience:
            break
    return losses, trail


CONFIG = SolverConfig(learning_rate=0.02, weight_decay=0.01, max_epochs=60, patience=4)


def assert_kernel(state, theta: np.ndarray, config: SolverConfig) -> None:
    """float32 against float64 over some hundred steps."""
    head = adam(config).head(state)
    np.testing.assert_allclose(head.kernel, theta[:-1].T, atol=1e-4)
    np.testing.assert_allclose(head.bias, theta[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("validate_every", "restore_best"), [(1, True), (1, False), (3, True), (10, False)]
)
def test_a_whole_fit_is_the_plain_loop(restore_best, validate_every):
    data, task = problem()
    config = replace(CONFIG, restore_best=restore_best)
    losses, trail = numpy_fit(data, task, config)
    assert 4 < len(losses) < 60, "the case must stop early to test stopping"
    state = probes.fit(config, task, data, validate_every)
    best = int(np.argmin(losses))
    assert int(state.progress.epoch) == len(losses)
    assert int(state.progress.best_epoch) == best + 1
    tested = best if restore_best else -1
    assert float(state.progress.loss) == pytest.approx(losses[tested], abs=1e-5)
    assert_kernel(state, trail[tested], config)


@pytest.mark.parametrize("unknown", [False, True])
def test_cross_validation_is_the_plain_loop_of_folds(unknown):
    data, task = problem()
    if unknown:
        data = with_unknown(data)
    config = replace(CONFIG, validation="support")
    losses, trail = numpy_fit(data, task, config)
    best = int(np.argmin(losses))
    assert 2 < best + 1 < len(losses) < 60, "the case must stop early to test stopping"
    state = probes.fit(config, task, data)
    assert int(state.progress.epoch) == len(losses)
    assert int(state.progress.best_epoch) == best + 1
    assert float(state.progress.loss) == pytest.approx(losses[best], abs=1e-5)
    assert_kernel(state, trail[best], config)


def test_without_validation_all_epochs_are_trained():
    data, task = problem()
    config = replace(CONFIG, validation="none", max_epochs=7)
    _, trail = numpy_fit(data, task, config)
    state = probes.fit(config, task, data)
    assert (int(state.progress.epoch), int(state.progress.best_epoch)) == (7, 7)
    assert np.isnan(float(state.progress.loss))
    assert_kernel(state, trail[-1], config)


def with_unknown(data: Data) -> Data:
    """A third of the labels unknown, some of the rest soft."""
    rng = np.random.default_rng(7)

    def part(given: Labelled) -> Labelled:
        yes = np.asarray(given.positive, np.float32)
        chance = np.where(rng.random(yes.shape) < 0.2, rng.random(yes.shape), yes)
        known = rng.random(yes.shape) < 0.67
        return Labelled(
            given.features,
            jnp.array(chance * known, jnp.float32),
            jnp.array((1 - chance) * known, jnp.float32),
        )

    return Data(*map(part, data[:3]))


def test_unknown_and_soft_labels_are_weights():
    data, task = problem()
    data = with_unknown(data)
    losses, trail = numpy_fit(data, task, CONFIG)
    state = probes.fit(CONFIG, task, data, 10)
    best = int(np.argmin(losses))
    assert int(state.progress.best_epoch) == best + 1
    assert float(state.progress.loss) == pytest.approx(losses[best], abs=1e-5)
    assert_kernel(state, trail[best], CONFIG)


@pytest.mark.parametrize("validation", ["valid", "support"])
def test_labels_all_known_as_weights_change_nothing(validation):
    data, task = problem()
    explicit = Data(*(part._replace(negative=~part.positive) for part in data[:3]))
    config = replace(CONFIG, validation=validation)
    implied, given = (probes.fit(config, task, each) for each in (data, explicit))
    assert int(implied.progress.epoch) == int(given.progress.epoch)
    for mine, other in zip(adam(config).head(implied), adam(config).head(given), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_shuffling_permutes_the_real_and_padding_changes_nothing():
    key = jax.random.key(3)
    order = np.asarray(shuffled(key, jnp.arange(10), jnp.int32(10)))
    assert sorted(order) == list(range(10)) and list(order) != list(range(10))
    padded = np.asarray(shuffled(key, jnp.arange(32), jnp.int32(10)))
    np.testing.assert_array_equal(padded[:10], order)


def test_initialisation_is_torchs_and_tag_by_tag():
    narrow = LinearProbe(3).init(jax.random.key(0), jnp.zeros((1, 100)))["params"]["Dense_0"]
    wide = LinearProbe(50).init(jax.random.key(0), jnp.zeros((1, 100)))["params"]["Dense_0"]
    np.testing.assert_array_equal(narrow["kernel"], wide["kernel"][:3])
    np.testing.assert_array_equal(narrow["bias"], wide["bias"][:3])
    for leaf in (
        wide["kernel"],
        wide["bias"],
    ):  # U(−0.1, 0.1): nothing outside, and it fills the range
        assert (
            float(jnp.abs(leaf).max()) <= 0.1
            and float(leaf.max()) > 0.08
            and float(leaf.min()) < -0.08
        )


def test_bce_is_the_mean_over_the_mask():
    scores, labels = jnp.array([[2.0, -1.0], [0.5, 9.0]]), jnp.array([[True, False], [False, True]])
    mask = jnp.array([[True, True], [True, False]])
    expected = np.mean([np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), np.log1p(np.exp(0.5))])
    assert float(bce(scores, labels, None, mask)) == pytest.approx(expected, rel=1e-6)


def test_bce_of_weights_by_hand():
    """(1, 0), (0, 0), (0.25, 0.75): two clips known of three, so each counts 1.5 times."""
    scores = jnp.array([[2.0], [5.0], [-1.0]])
    positive, negative = jnp.array([[1.0], [0.0], [0.25]]), jnp.array([[0.0], [0.0], [0.75]])
    weights = balanced(positive, negative, jnp.ones((3, 1), bool), 0)
    z, each = np.array([2.0, -1.0]), [1.0, 0.0, 0.25, 0.75]
    expected = (
        each[0] * np.logaddexp(0, -z[0])
        + each[2] * np.logaddexp(0, -z[1])
        + each[3] * np.logaddexp(0, z[1])
    ) / 2
    assert float(bce(scores, *weights, jnp.ones((3, 1), bool))) == pytest.approx(expected, rel=1e-6)


def test_a_hidden_layer_learns_what_a_line_cannot():
    rng = np.random.default_rng(2)
    parts = [jnp.array(rng.standard_normal((n, 4)), jnp.float32) for n in (400, 100, 400)]
    # exclusive or, twice
    data = Data(*(Labelled(part, part[:, :2] * part[:, 2:] > 0) for part in parts))
    task = probes.task(np.arange(400), np.arange(2), 1)
    accuracy = {}
    for hidden in (0, 64):
        config = SolverConfig(learning_rate=0.01, max_epochs=60, patience=60, hidden=hidden)
        head = adam(config).head(probes.fit(config, task, data))
        accuracy[hidden] = float(
            jnp.mean((head.score(data.test.features) > 0) == data.test.positive)
        )
    assert accuracy[0] < 0.6 < 0.85 < accuracy[64]


def test_dropout_is_of_training_alone_and_half():
    params = probe_module(3, 1000).init(jax.random.key(0), jnp.zeros((1, 5)))
    x = jnp.ones((1, 5))
    kept, dropped = logits(params, x), logits(params, x, dropout=jax.random.key(1))
    np.testing.assert_array_equal(kept, logits(params, x))
    assert np.abs(kept - dropped).max() > 1e-3
    # survivors count double: the mean over 200 masks of 1000 units is the whole, to some standard
    # errors
    many = jax.vmap(lambda key: logits(params, x, dropout=key))(
        jax.random.split(jax.random.key(2), 200)
    )
    np.testing.assert_allclose(
        many.mean(axis=0), kept, atol=4 * float(many.std(axis=0).max()) / 200**0.5
    )


@pytest.mark.parametrize("hidden", [0, 7])
def test_logits_by_tag_are_the_same(hidden):
    x = jax.random.normal(jax.random.key(0), (6, 5))
    params = probe_module(3, hidden).init(jax.random.key(1), x)
    assert logits(params, x).shape == (6, 3)
    np.testing.assert_allclose(
        logits(params, x, by_tag=True), logits(params, x).T, atol=1e-6
    )  # sums in other orders


@pytest.mark.parametrize("hidden", [0, 7])
def test_the_head_scores_as_the_network(hidden):
    x = jax.random.normal(jax.random.key(0), (6, 5))
    params = probe_module(3, hidden).init(jax.random.key(1), x)
    np.testing.assert_allclose(to_head(params).score(x), logits(params, x), atol=1e-6)


def test_padding_tags_changes_nothing_of_a_hidden_probe():
    data, task = problem()
    config = SolverConfig(learning_rate=0.01, max_epochs=5, hidden=8)
    wide = task._replace(tags=jnp.pad(task.tags, (0, 3)))
    narrow, padded = (probes.fit(config, each, data) for each in (task, wide))
    assert float(narrow.progress.loss) == pytest.approx(float(padded.progress.loss), abs=1e-6)
    np.testing.assert_allclose(
        adam(config).head(narrow).score(data.test.features),
        adam(config).head(padded).score(data.test.features)[:, :3],
        atol=1e-5,
    )
