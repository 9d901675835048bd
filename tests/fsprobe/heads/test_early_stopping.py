"""Early stopping: by hand, and without validating every epoch, against validating every one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fsprobe.config import SolverConfig
from fsprobe.heads.data import bce
from fsprobe.heads.early_stopping import (
    Progress,
    all_epochs,
    epochs_ahead,
    losses_that_matter,
    next_progress,
    progress_after,
)

START = Progress.start(jnp.bool_(False))


def test_early_stopping_on_a_hand_worked_curve():
    config = SolverConfig(patience=3, max_epochs=100)
    curve = [
        0.9,
        0.8,
        0.85,
        0.8,
        0.79,
        0.9,
        0.79,
        0.80,
        0.1,
    ]  # 0.8 again is no improvement; 0.79 at 5; stop at 8
    progress, seen = START, []
    for loss in curve:
        progress = next_progress(progress, jnp.float32(loss), config)
        seen.append((int(progress.epoch), int(progress.best_epoch)))
        if progress.done:
            break
    assert seen == [(1, 1), (2, 2), (3, 2), (4, 2), (5, 5), (6, 5), (7, 5), (8, 5)]
    assert float(progress.best_loss) == float(progress.loss) == pytest.approx(0.79)


def test_a_loss_of_nan_never_improves():
    config, progress = SolverConfig(patience=2), START
    for _ in range(2):
        progress = next_progress(progress, jnp.float32(jnp.nan), config)
    assert bool(progress.done) and int(progress.best_epoch) == 0


def test_epochs_ahead_are_those_that_no_loss_can_prevent():
    config = SolverConfig(patience=4, max_epochs=20)
    at = lambda epoch, best: START._replace(epoch=jnp.int32(epoch), best_epoch=jnp.int32(best))  # noqa: E731
    assert [
        int(epochs_ahead(at(*now), config, 10))
        for now in ((0, 0), (7, 7), (7, 5), (7, 4), (18, 18))
    ] == [4, 4, 2, 1, 2]
    assert int(epochs_ahead(at(0, 0), config, 3)) == 3


def examples(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((40, 6)).astype(np.float32), rng.random((40, 3)) < 0.4, rng


def plain_loss(x, y, w) -> float:
    return np.logaddexp(0, np.where(y, -1.0, 1.0) * (x.astype(float) @ np.asarray(w, float))).mean()


@partial(jax.jit, static_argnames=("config", "size"))
def stopped(x, y, weights, config, size):
    """Progress when training by `weights` `[epoch, dim, tag]` has ended, up to `size` epochs at a
    time.
    """
    loss = lambda w: bce(x @ w, y, None, jnp.ones(y.shape, bool))  # noqa: E731

    def interval(progress):
        count = epochs_ahead(progress, config, size)
        trail = lax.dynamic_slice_in_dim(
            jnp.pad(weights, ((0, size), (0, 0), (0, 0))), progress.epoch, size
        )
        return progress_after(loss, trail, count, progress, config)

    return lax.while_loop(lambda progress: ~progress.done, interval, START)


@jax.jit
def validated(x, y, trail, best_loss):
    """`[epoch]`."""
    loss = lambda w: bce(x @ w, y, None, jnp.ones(y.shape, bool))  # noqa: E731
    return losses_that_matter(loss, trail, len(trail), jnp.asarray(best_loss, jnp.float32))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**16),
    size=st.sampled_from([2, 5, 10]),
    stride=st.floats(1e-4, 1.0),
    drift=st.floats(-1.0, 1.0),
)
def test_no_improvement_is_missed(seed, size, stride, drift):
    """Random walks with a drift: epochs and best epoch as if each had been validated."""
    x, y, rng = examples(seed)
    config = SolverConfig(patience=6, max_epochs=30)
    steps = stride * (drift * rng.standard_normal((6, 3)) + rng.standard_normal((30, 6, 3)))
    weights = (rng.standard_normal((6, 3)) + steps.cumsum(axis=0)).astype(np.float32)
    every, some = (stopped(x, y, weights, config, size) for size in (1, size))
    losses = np.array([plain_loss(x, y, w) for w in weights[: int(every.epoch)]])
    if np.partition(losses, 1)[1] > losses.min() * (1 + 1e-5):  # float32 can tell them apart
        assert int(some.best_epoch) == int(every.best_epoch) == losses.argmin() + 1
        assert int(some.epoch) == int(every.epoch)
    assert float(some.loss) == pytest.approx(losses.min(), rel=1e-5)


def test_downhill_the_last_is_validated_alone_and_uphill_the_nearest_are_not():
    x, y, rng = examples(0)
    start, way = rng.standard_normal((2, 6, 3))
    along = np.linspace(-20, 20, 4001)
    turn = along[np.argmin([plain_loss(x, y, start + t * way) for t in along])]
    assert abs(turn) < 15, "there must be a least loss on the line"
    line = lambda t: (start + t[:, None, None] * way).astype(np.float32)  # noqa: E731
    downhill = validated(x, y, line(turn + np.linspace(-4, -0.1, 10)), np.inf)
    assert list(np.isfinite(downhill)) == 9 * [False] + [True]
    uphill = validated(
        x, y, line(turn + np.linspace(0.1, 4, 10)), plain_loss(x, y, start + turn * way)
    )
    assert list(np.isfinite(uphill[6:])) == [False, False, False, True]


def test_what_rounding_could_hide_is_validated():
    x, y, rng = examples(1)
    trail = np.repeat(rng.standard_normal((1, 6, 3)).astype(np.float32), 10, axis=0)
    np.testing.assert_allclose(
        validated(x, y, trail, np.inf), plain_loss(x, y, trail[0]), rtol=1e-6
    )


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_diverged_end_hides_no_earlier_epoch(lost):
    x, y, rng = examples(2)
    trail = rng.standard_normal((4, 6, 3)).astype(np.float32)
    trail[3] = lost
    np.testing.assert_allclose(
        validated(x, y, trail, np.inf)[:3], [plain_loss(x, y, w) for w in trail[:3]], rtol=1e-6
    )


def test_where_nothing_is_validated_the_last_epoch_is_the_best():
    config = SolverConfig(max_epochs=9, patience=2)
    progress = all_epochs(all_epochs(START, 4, config), 1, config)
    assert (int(progress.epoch), int(progress.best_epoch), bool(progress.done)) == (5, 5, False)
    assert bool(all_epochs(progress, 4, config).done) and np.isnan(float(progress.loss))
