"""Clips with labels and tasks for the tests of the solvers in closed form."""

import jax.numpy as jnp
import numpy as np

from fsprobe.heads.data import Task


def clips(n: int, dim: int, n_tags: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim)) * np.logspace(0, -1, dim)
    scores = x @ rng.standard_normal((dim, n_tags))
    noise = rng.standard_normal((n, n_tags))
    labels = scores / scores.std(axis=0) + noise > 0.7
    return (x + 3).astype(np.float32), labels


def task_of(n: int, real: int, n_tags: int, n_way: int) -> Task:
    numbers = [jnp.int32(value) for value in (0, real, n_way)]
    zeros = jnp.zeros(n, jnp.int32)
    tags = jnp.arange(n_tags) * (jnp.arange(n_tags) < n_way)
    return Task(numbers[0], jnp.arange(n), numbers[1], zeros, tags, numbers[2])
