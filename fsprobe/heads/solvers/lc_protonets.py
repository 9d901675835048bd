"""The solver `lc_protonets`: prototypes of label combinations (Papaioannou, Benetos & Potamianos,
"LC-Protonets: Multi-Label Few-Shot Learning for World Music Audio Tagging", 2024).

Every non-empty subset of a support clip's labels, within the episode's tags, is a combination; its
prototype is the mean of the support clips that carry all of it. A tag's score is the best cosine of
the clip with a prototype whose combination holds the tag. A soft label counts as its likelier side;
a clip that a tag is unknown for does not carry it. F1 is taken at thresholds on these scores, as
for every solver; the paper instead gives a clip the labels of its nearest prototype.

A clip of 19 labels has half a million subsets, but two combinations that the same clips carry have
one prototype, and only the larger one of them matters to the scores. So it is enough to go through
the closed combinations: those to which no tag can be added without losing a clip. Their number is
small (`fsprobe.heads.solvers.closed_sets`), and nothing is left out.

The cap: where there are more than MOST of them, as on thousands of clips, the single tags and the
commonest pairs of tags are taken instead, MOST in all, each extended by the tags that all of its
clips carry. A sweep, its report and a warning of `fsprobe.fit` say so, with the number of clips of
three tags or more, which it concerns.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fsprobe.heads.data import Data, Task
from fsprobe.heads.solvers.closed_sets import closed_sets
from fsprobe.heads.solvers.prototypes import unit
from fsprobe.heads.solvers.solver import Fitted, Products, Settings, Solver

MOST = 8192  # combinations
_BLOCK = 128  # prototypes made, or compared with clips, at a time


class CombinationHead(NamedTuple):
    """prototypes: `[combination, dim]`, of length 1. members: bool `[combination, tag]`. number:
    `[]`, how many are real; they come first.
    """

    prototypes: Array
    members: Array
    number: Array

    @property
    def dim(self) -> int:
        return self.prototypes.shape[1]

    def score(self, features: Array) -> Array:
        """`[clip, dim]` → `[clip, tag]`, a cosine; −1 for a tag that no support clip carries."""
        clips = unit(features).T

        def block(i: Array, best: Array) -> Array:
            cosines = lax.dynamic_slice_in_dim(self.prototypes, i * _BLOCK, _BLOCK) @ clips
            members = lax.dynamic_slice_in_dim(self.members, i * _BLOCK, _BLOCK)

            def one(j: Array, best: Array) -> Array:
                return jnp.maximum(best, jnp.where(members[j][:, None], cosines[j], -1.0))

            return lax.fori_loop(0, _BLOCK, one, best)

        worst = jnp.full((self.members.shape[1], clips.shape[1]), -1.0)
        return lax.fori_loop(0, -(-self.number // _BLOCK), block, worst).T

    def block(self, start: Array, size: int) -> "CombinationHead":
        """The head of `size` tags from `start` on."""
        return self._replace(members=lax.dynamic_slice_in_dim(self.members, start, size, 1))

    def padded(self, n_tags: int) -> "CombinationHead":
        """With tags that no combination holds up to n_tags tags."""
        spare = n_tags - self.members.shape[1]
        return self._replace(members=jnp.pad(self.members, ((0, 0), (0, spare))))


def cell(task: Task, products: Products | None, data: Data, settings: Settings) -> Fitted:
    """One probe; see `fsprobe.heads.solvers.solver.Solver`."""
    support = task.labelled_support(data.train)
    positive, negative = support.weights
    carries = (positive > negative) & task.tag_mask & task.clip_mask[:, None]
    most = _most(task.tags.size)
    members, count, capped = closed_sets(carries, task.clip_mask, most)

    def mean(i: Array, means: Array) -> Array:
        block = lax.dynamic_slice_in_dim(members, i * _BLOCK, _BLOCK).astype(jnp.float32)
        carried = (block @ ~carries.T == 0) & task.clip_mask
        return lax.dynamic_update_slice_in_dim(means, carried @ support.features, i * _BLOCK, 0)

    sums = jnp.zeros((most, support.features.shape[1]))
    sums = lax.fori_loop(0, -(-count // _BLOCK), mean, sums)  # of one direction with the means
    head = CombinationHead(unit(sums), members & (jnp.arange(most) < count)[:, None], count)
    concerned = jnp.sum(jnp.sum(carries, axis=1) > 2)
    return Fitted(head, clips_cut=jnp.where(capped, concerned, 0))


def _most(n_tags: int) -> int:
    """Combinations that there is room for, in whole blocks."""
    return -(-min(MOST, 2 ** min(n_tags, 20)) // _BLOCK) * _BLOCK


SOLVER = Solver(
    "lc_protonets",
    "prototypes of label combinations, the nearest by cosine",
    settings=frozenset(("matmul_precision", "standardize")),
    cell=cell,
    linear=False,
    head_size=lambda n_tags, dim: _most(n_tags) * (dim + n_tags),
    baseline=True,
    cut=f"have more than {MOST:,} label combinations: single tags and the commonest pairs of tags "
    "stand for all",
)
