"""Training one probe: the optimiser step, early stopping, shuffling, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsprobe.config import SolverConfig
from fsprobe.heads.adam import adam, coupled_adam, shuffled
from fsprobe.heads.head import Data, LinearProbe, Task, bce, fit_probe, logits, module


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
    x = lambda n: jnp.array(rng.standard_normal((n, dim)), jnp.float32)  # noqa: E731
    y = lambda n: jnp.array(rng.random((n, 6)) < 0.4)  # noqa: E731
    data = Data(x(40), y(40), x(15), y(15), x(30), y(30))
    task = Task(
        jnp.int32(5),
        jnp.array(rng.permutation(40)[:num_clips], jnp.int32),
        jnp.int32(num_clips),
        jnp.array(rng.permutation(6)[:n_way], jnp.int32),
        jnp.int32(n_way),
    )
    return data, task


def numpy_fit(data: Data, task: Task, config: SolverConfig) -> tuple[list[float], np.ndarray]:
    """The protocol as a plain loop in float64: validation losses by epoch, and the weights of the
    best one.
    """
    solver = adam(config)
    start = solver.init(task, data).params["params"]["Dense_0"]
    theta = np.vstack([start["kernel"].T, start["bias"]]).astype(np.float64)
    first, second, t = np.zeros_like(theta), np.zeros_like(theta), 0
    support, tags = np.asarray(task.support), np.asarray(task.tags)
    train, labels = np.asarray(data.train)[support], np.asarray(data.train_labels)[support][:, tags]
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    one = lambda x: np.hstack([x, np.ones((len(x), 1))])  # noqa: E731
    losses, best = [], theta
    key = jax.random.fold_in(jax.random.key(task.seed), 1)
    for epoch in range(config.max_epochs):
        order = np.asarray(
            shuffled(
                jax.random.fold_in(key, epoch), jnp.arange(len(support)), jnp.int32(len(support))
            )
        )
        for i in range(0, len(support), config.batch_size):
            batch = order[i : i + config.batch_size]
            x, y = one(train[batch]), labels[batch]
            g = x.T @ (sigmoid(x @ theta) - y) / y.size + config.weight_decay * theta
            t += 1
            first = 0.9 * first + 0.1 * g
            second = 0.999 * second + 0.001 * g**2
            theta = theta - config.learning_rate * (first / (1 - 0.9**t)) / (
                np.sqrt(second / (1 - 0.999**t)) + 1e-8
            )
        p = sigmoid(one(np.asarray(data.valid)) @ theta)
        y = np.asarray(data.valid_labels)[:, tags]
        losses.append(float(-np.mean(np.where(y, np.log(p), np.log(1 - p)))))
        if losses[-1] == min(losses):
            best = theta
        if len(losses) - (int(np.argmin(losses)) + 1) >= config.patience:
            break
    return losses, best


@pytest.mark.parametrize("restore_best", [True, False])
@pytest.mark.parametrize("validate_every", [1, 3, 10])
def test_a_whole_fit_is_the_plain_loop(restore_best, validate_every):
    data, task = problem()
    config = SolverConfig(
        learning_rate=0.02, weight_decay=0.01, max_epochs=60, patience=4, restore_best=restore_best
    )
    losses, best = numpy_fit(data, task, config)
    assert 4 < len(losses) < 60, "the case must stop early to test stopping"
    params, progress = fit_probe(adam(config, validate_every), task, data, config.max_epochs)
    assert int(progress.epoch) == len(losses)
    assert int(progress.best_epoch) == int(np.argmin(losses)) + 1
    assert float(progress.loss) == pytest.approx(
        min(losses) if restore_best else losses[-1], abs=1e-5
    )
    if restore_best:  # float32 against float64 over some 100 steps
        np.testing.assert_allclose(params["params"]["Dense_0"]["kernel"], best[:-1].T, atol=1e-4)


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
    assert float(bce(scores, labels, mask)) == pytest.approx(expected, rel=1e-6)


def test_a_hidden_layer_learns_what_a_line_cannot():
    rng = np.random.default_rng(2)
    x = lambda n: jnp.array(rng.standard_normal((n, 4)), jnp.float32)  # noqa: E731
    parts = [x(400), x(100), x(400)]
    data = Data(
        *(array for part in parts for array in (part, part[:, :2] * part[:, 2:] > 0))
    )  # exclusive or, twice
    task = Task(jnp.int32(1), jnp.arange(400), jnp.int32(400), jnp.arange(2), jnp.int32(2))
    accuracy = {}
    for hidden in (0, 64):
        config = SolverConfig(learning_rate=0.01, max_epochs=60, patience=60, hidden=hidden)
        params, _ = fit_probe(adam(config), task, data, config.max_epochs)
        accuracy[hidden] = float(jnp.mean((logits(params, data.test) > 0) == data.test_labels))
    assert accuracy[0] < 0.6 < 0.85 < accuracy[64]


def test_dropout_is_of_training_alone_and_half():
    params = module(3, 1000).init(jax.random.key(0), jnp.zeros((1, 5)))
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
    params = module(3, hidden).init(jax.random.key(1), x)
    assert logits(params, x).shape == (6, 3)
    np.testing.assert_allclose(
        logits(params, x, by_tag=True), logits(params, x).T, atol=1e-6
    )  # sums in other orders


def test_padding_tags_changes_nothing_of_a_hidden_probe():
    data, task = problem()
    config = SolverConfig(learning_rate=0.01, max_epochs=5, hidden=8)
    wide = task._replace(tags=jnp.pad(task.tags, (0, 3)))
    narrow, padded = (fit_probe(adam(config), each, data, 5) for each in (task, wide))
    assert float(narrow[1].loss) == pytest.approx(float(padded[1].loss), abs=1e-6)
    np.testing.assert_allclose(
        logits(narrow[0], data.test), logits(padded[0], data.test)[:, :3], atol=1e-5
    )
