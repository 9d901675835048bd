"""Small probes in memory: data, tasks, one fit without batching, and scikit-learn's answers."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from sklearn.linear_model import LogisticRegression

from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data, Labelled, Task
from fsprobe.heads.solvers.adam import AdamState, adam

WHOLE = float(np.log(1.9999 / 0.0001))  # the bias where a class is absent: the clipped prevalence


def mesh_of(num_devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:num_devices]), ("probe",))


def directed(sizes: tuple[int, ...], dim: int, n_tags: int, seed: int = 0) -> Data:
    """A direction per tag, summed over a clip's tags, plus noise; `sizes` clips of each split."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((n_tags, dim))
    parts = []
    for n in sizes:
        labels = rng.random((n, n_tags)) < 0.3
        features = labels @ mix + rng.standard_normal((n, dim))
        parts.append(Labelled(jnp.array(features, jnp.float32), jnp.array(labels)))
    return Data(*parts)


def task(support: np.ndarray, tags: np.ndarray, seed: int, folds: np.ndarray | None = None) -> Task:
    """Without padding."""
    folds = np.zeros(len(support), np.int32) if folds is None else folds
    parts = (seed, support, len(support), folds, tags, len(tags))
    return Task(*(jnp.asarray(part, jnp.int32) for part in parts))


def fit(config: SolverConfig, task: Task, data: Data, validate_every: int = 1) -> AdamState:
    """One probe by Adam until it is done, alone."""
    steps = adam(config, validate_every)
    state: AdamState = jax.jit(steps.advance)(steps.init(task, data), task, data, config.max_epochs)
    return state


def logistic_loss(
    x: np.ndarray, positive: np.ndarray, negative: np.ndarray, w: np.ndarray, b: float
) -> float:
    """Of one tag, in float64: weights [clip] of both labels, divided by their sum."""
    z = x.astype(np.float64) @ np.asarray(w, np.float64) + float(b)
    each = positive * np.logaddexp(0, -z) + negative * np.logaddexp(0, z)
    return float(each.sum() / (positive + negative).sum())


def objective(
    x: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    l2: float,
    w: np.ndarray,
    b: float,
    prior: np.ndarray | float = 0.0,
) -> float:
    """`fsprobe.fit`'s, in float64."""
    away = np.asarray(w, np.float64) - prior
    return logistic_loss(x, positive, negative, w, b) + l2 / 2 * float(away @ away)


def scikit_learn(
    x: np.ndarray, positive: np.ndarray, negative: np.ndarray, l2: float
) -> tuple[np.ndarray, float]:
    """(w, b) of one tag by LogisticRegression: each clip twice, with the weights of both labels.

    Without a positive or a negative clip, which scikit-learn refuses, there is no minimum: zero
    weights, and the clipped prevalence.
    """
    if not positive.any() or not negative.any():
        return np.zeros(x.shape[1]), WHOLE if positive.any() else -WHOLE
    total = float((positive + negative).sum())
    model = LogisticRegression(C=1 / (total * l2), tol=1e-10, max_iter=20_000)
    # near separable problems with weak penalties: Newton's method reaches 1e-10, lbfgs does not
    model.set_params(solver="newton-cholesky" if x.shape[1] <= 300 else "lbfgs")
    model.fit(
        np.vstack([x, x]).astype(np.float64),
        np.repeat([1, 0], len(x)),
        np.concatenate([positive, negative]).astype(np.float64),
    )
    return model.coef_[0], float(model.intercept_[0])
