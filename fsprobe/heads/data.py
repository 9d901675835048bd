"""What a head is fitted to and judged on: features with labels, and what makes a probe its own.

Everything in this folder is written for ONE probe; `fsprobe.batch` runs many. Ragged probes are
padded: a task's arrays may have more clips and tags than it uses, and `n_way` and `num_support` say
how many are real.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fsprobe.heads.head import Head

TAGS = 16  # taken at a time
_FEW = 256  # clips, for which a program has a branch of their own


class Labelled(NamedTuple):
    """Clips with labels. features: float32 `[clip, dim]`. positive, negative: `[clip, tag]`,
    weights ≥ 0, or bool where a label is yes or no: (1, 0) yes, (0, 1) no, (0, 0) not known, (q, 1
    − q) soft. negative None: whatever is not positive is negative.
    """

    features: Array
    positive: Array
    negative: Array | None = None

    @property
    def weights(self) -> tuple[Array, Array]:
        """(positive, negative), float32 `[clip, tag]`."""
        positive = self.positive.astype(jnp.float32)
        negative = 1.0 - positive if self.negative is None else self.negative.astype(jnp.float32)
        return positive, negative

    def of_tags(self, tags: Array) -> "Labelled":
        """With the given columns of the labels."""
        return Labelled(self.features, *jax.tree.map(lambda part: part[:, tags], self[1:]))

    def of_clips(self, rows: Any) -> "Labelled":
        """The given rows: indices or a slice."""
        return jax.tree.map(lambda part: part[rows], self)


class Data(NamedTuple):
    """What all probes of one embedding share. priors: kernel `[prior, position, dim]`, bias
    `[prior, position]`: of the tags of an episode in order, what their weights are pulled to; None
    where that is zero.
    """

    train: Labelled
    valid: Labelled
    test: Labelled
    priors: Head | None = None


class Task(NamedTuple):
    """What makes one probe its own. `[clip]` and `[tag]` are padded.

    seed: int32 `[]`. support: int32 `[clip]`, rows of Data.train. num_support: int32 `[]`. folds:
    int32 `[clip]`, the fold of each support clip in cross-validation. tags: int32 `[tag]`, columns
    of the labels, in episode order. n_way: int32 `[]`. prior: int32 `[]`, of Data.priors.
    """

    seed: Array
    support: Array
    num_support: Array
    folds: Array
    tags: Array
    n_way: Array
    prior: Array | int = 0

    @property
    def tag_mask(self) -> Array:
        """bool `[tag]`: is the column real."""
        return jnp.arange(self.tags.shape[0]) < self.n_way

    @property
    def clip_mask(self) -> Array:
        """bool `[clip]`: is the support clip real."""
        return jnp.arange(self.support.shape[0]) < self.num_support

    def labelled_support(self, train: Labelled) -> Labelled:
        """The support clips, `[clip, dim]`, with the labels of the task's tags, `[clip, tag]`."""
        return Labelled(train.features[self.support], *self.labels(train))

    def starts(self, priors: Head) -> Head:
        """What the weights of the task's tags are pulled to; zeros for padding."""
        n_tags = self.tags.shape[0]
        kernel, bias = (part[self.prior][:n_tags] for part in priors)
        head = Head(kernel, bias).padded(n_tags)
        return Head(head.kernel * self.tag_mask[:, None], head.bias * self.tag_mask)

    def labels(self, train: Labelled) -> tuple[Array, Array | None]:
        """(positive, negative) of the support clips and the task's tags, `[clip, tag]`."""
        return jax.tree.map(lambda part: part[self.support[:, None], self.tags], train[1:])


def bce(logits: Array, positive: Array, known: Array | None, mask: Array) -> Array:
    """Binary cross-entropy, averaged over the entries where mask is true.

    positive: the weight of the positive label; known: of both labels, scaled so that it is 1 on
    average, or None where it is 1.
    """
    rest = jnp.log1p(jnp.exp(-jnp.abs(logits)))
    if known is None:
        losses = jnp.maximum(logits, 0.0) - logits * positive + rest
    else:
        losses = known * (jnp.maximum(logits, 0.0) + rest) - logits * positive
    return jnp.sum(jnp.where(mask, losses, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def balanced(
    positive: Array, negative: Array | None, real: Array, axis: int
) -> tuple[Array, Array | None]:
    """(positive, known) for `bce`: each tag's weights are scaled so that they sum to its number of
    clips, along `axis`, however many of them are known.

    real: bool, False for padded clips; of a shape that broadcasts.
    """
    if negative is None:
        return positive, None
    known = jnp.where(real, positive.astype(jnp.float32) + negative, 0.0)
    count = jnp.sum(jnp.broadcast_to(real, known.shape), axis=axis, keepdims=True)
    total = jnp.sum(known, axis=axis, keepdims=True)
    scale = count / jnp.where(total > 0, total, 1.0)
    return positive * scale, known * scale


def on_real_clips(function: Callable[[int], Any], count: Array, padded: int) -> Any:
    """function(256) where that holds `count` clips, else function(padded): sorting padding takes
    time. What it returns has the same shapes for both.
    """
    if padded <= _FEW:
        return function(padded)
    return lax.cond(count <= _FEW, lambda: function(_FEW), lambda: function(padded))


def over_blocks(
    one: Callable[[Array, int, Any], Any], out: Any, real: Array, count: int, most: int = TAGS
) -> Any:
    """out = one(start, size, out) for each block of `size`, up to `most`, of `count` tags or clips,
    from `start` on, while there are real ones. The last block may repeat some of the others.

    So one program serves probes of every size at the cost of their own.
    """
    size = min(most, count)

    def block(i: Array, out: Any) -> Any:
        return one(jnp.minimum(i * size, count - size), size, out)

    return lax.fori_loop(0, (real + size - 1) // size, block, out)


def tags_from(tree: Any, start: Array, size: int) -> Any:
    """The columns of `size` tags, from `start` on; tags are the last axis."""
    return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size, a.ndim - 1), tree)


def with_tags(tree: Any, part: Any, start: Array) -> Any:
    """The tree with `part` for the columns from `start` on."""

    def put(old: Array, new: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(old, new, start, old.ndim - 1)

    return jax.tree.map(put, tree, part)
