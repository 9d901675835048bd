"""The solver `prototypes`: a tag's score is the cosine-like product of a clip with the mean of its
positives less the mean of the others.

Clips are set to unit length first, support and query alike, so that a loud or long clip counts no
more than another. Labels are weights: a mean is Σ weight·x / Σ weight, and 0 without clips. Because
of the query's length the score is not linear in the features: the head is of its own type.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fsprobe.heads.data import Data, Task
from fsprobe.heads.solvers.solver import Fitted, Products, Settings, Solver


def unit(features: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    return features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-30)


class PrototypeHead(NamedTuple):
    """kernel: `[tag, dim]`, the difference of the two prototypes."""

    kernel: Array

    @property
    def dim(self) -> int:
        return self.kernel.shape[1]

    def score(self, features: Array) -> Array:
        """`[clip, dim]` → `[clip, tag]`, between −2 and 2."""
        return unit(features) @ self.kernel.T

    def block(self, start: Array, size: int) -> "PrototypeHead":
        """The head of `size` tags from `start` on."""
        return PrototypeHead(lax.dynamic_slice_in_dim(self.kernel, start, size))

    def padded(self, n_tags: int) -> "PrototypeHead":
        """With rows of zeros up to n_tags tags."""
        return PrototypeHead(jnp.pad(self.kernel, ((0, n_tags - len(self.kernel)), (0, 0))))


def cell(task: Task, products: Products | None, data: Data, settings: Settings) -> Fitted:
    """One probe; see `fsprobe.heads.solvers.solver.Solver`."""
    support = task.labelled_support(data.train)
    positive, negative = support.weights
    clips = unit(support.features)

    def mean(weights: Array) -> Array:
        weights = weights * task.clip_mask[:, None]
        return (weights.T @ clips) / jnp.maximum(jnp.sum(weights, axis=0), 1e-30)[:, None]

    return Fitted(PrototypeHead(mean(positive) - mean(negative)))


SOLVER = Solver(
    "prototypes",
    "the mean of a tag's clips less that of the others",
    settings=frozenset(("matmul_precision", "standardize")),
    cell=cell,
    linear=False,
    baseline=True,
)
