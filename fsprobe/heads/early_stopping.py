"""Early stopping: which epoch has the least validation loss, without validating every one.

The validation loss of a linear probe is convex in the weights, so it lies nowhere below its
tangents: for weights u, v loss(u) >= loss(v) + <loss'(v), u - v>. A block of epochs too few to end
the training is trained first. Then only the last of them is validated, with its gradient; that
bounds the loss of each epoch before it from below. An epoch whose bound lies above the least loss
so far cannot be the best, and is not validated. While the loss still falls, that is nearly every
epoch. The epoch chosen is the one that validating all would choose, unless two losses are equal up
to rounding.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fsprobe.config import SolverConfig
from fsprobe.heads.neural import Params

_ROUNDING = 1e-5  # of the loss and of the tangent's terms: many times what float32 sums lose


class Progress(NamedTuple):
    """Where training stands; scalars. loss is the validation loss of the weights that would be
    tested now.
    """

    epoch: Array
    loss: Array
    best_loss: Array
    best_epoch: Array
    done: Array

    @classmethod
    def start(cls, done: Array) -> "Progress":
        """Before the first epoch."""
        inf, zero = jnp.float32(jnp.inf), jnp.int32(0)
        return cls(zero, inf, inf, zero, done)


def all_epochs(progress: Progress, count: Array | int, config: SolverConfig) -> Progress:
    """`count` epochs later, where nothing is validated: the last epoch counts as the best."""
    epoch, nan = progress.epoch + count, jnp.float32(jnp.nan)
    return Progress(epoch, nan, nan, epoch, epoch >= config.max_epochs)


def next_progress(progress: Progress, loss: Array, config: SolverConfig) -> Progress:
    """Early stopping after one more epoch of the given validation loss.

    An epoch improves if its loss is strictly lower than every one before; training ends after
    `patience` epochs without improvement, or at `max_epochs`. A NaN loss never improves.
    """
    epoch = progress.epoch + 1
    improved = loss < progress.best_loss
    best_epoch = jnp.where(improved, epoch, progress.best_epoch)
    best_loss = jnp.where(improved, loss, progress.best_loss)
    done = (epoch - best_epoch >= config.patience) | (epoch >= config.max_epochs)
    return Progress(epoch, best_loss if config.restore_best else loss, best_loss, best_epoch, done)


def epochs_ahead(progress: Progress, config: SolverConfig, most: int) -> Array:
    """How many epochs, up to `most`, will be trained whatever their losses are; int32 `[]`, at
    least 1 until done.
    """
    patience = progress.best_epoch + config.patience - progress.epoch
    return jnp.minimum(most, jnp.minimum(patience, config.max_epochs - progress.epoch))


def progress_after(
    loss: Callable[[Params], Array],
    trail: Params,
    count: Array | int,
    progress: Progress,
    config: SolverConfig,
) -> Progress:
    """`next_progress` over the last `count` epochs, at most `epochs_ahead`.

    trail: the weights after each of them, params with a leading axis `[epoch]`. loss: of
    validation, convex if the trail is longer than one.
    """
    losses = losses_that_matter(loss, trail, count, progress.best_loss)
    return lax.fori_loop(0, count, lambda i, now: next_progress(now, losses[i], config), progress)


def losses_that_matter(
    loss: Callable[[Params], Array], trail: Params, count: Array | int, best_loss: Array
) -> Array:
    """`[epoch]`: the loss after each of the first `count`; inf for some that are neither the least
    nor the last.
    """
    size = jax.tree.leaves(trail)[0].shape[0]

    def after(i: Array | int) -> Params:
        return jax.tree.map(lambda leaf: leaf[i], trail)

    if size == 1:
        return loss(after(0))[None]
    last = after(count - 1)
    last_loss, slope = jax.value_and_grad(loss)(last)
    least = jnp.minimum(best_loss, last_loss)

    def judge(i: Array, losses: Array) -> Array:
        params = after(i)
        rises = jax.tree.leaves(jax.tree.map(lambda s, u, v: s * (u - v), slope, params, last))
        tangent = last_loss + sum(map(jnp.sum, rises))
        rounding = _ROUNDING * (last_loss + sum(jnp.sum(jnp.abs(leaf)) for leaf in rises))
        too_high = tangent - rounding > least
        return losses.at[i].set(
            lax.cond(too_high, lambda: jnp.float32(jnp.inf), lambda: loss(params))
        )

    losses = jnp.full(size, jnp.inf, jnp.float32).at[count - 1].set(last_loss)
    return lax.fori_loop(0, count - 1, judge, losses)
