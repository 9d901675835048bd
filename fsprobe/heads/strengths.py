"""The strength of a penalty: which there are to choose from, and the choice.

One strength is chosen for all tags of a probe, by their mean loss: a tag with fewer than three
positives cannot be held out by itself. Strengths are in units of the clips' mean squared distance
from their mean, so that the scale of the features does not matter.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array

from fsprobe.heads.data import Data, Task
from fsprobe.heads.head import Head
from fsprobe.heads.solvers.solver import Fitted, Path, Products, Settings

DUAL_PATH = tuple(np.logspace(1, -4, 11).tolist())  # strengths to choose from: of a few clips,
PRIMAL_PATH = tuple(np.logspace(0, -7, 15).tolist())  # and of many, which can use weaker ones
UNCHOSEN = 0.1  # the strength where nothing is held out to choose one by


def strengths(settings: Settings, path: tuple[float, ...], spread: Array) -> Array:
    """`[strength]`, strongest first. spread: `[]`, the clips' mean squared distance from their
    mean.
    """
    if settings.l2 is not None:
        return jnp.asarray(settings.l2, jnp.float32)[None]
    relative = (UNCHOSEN,) if settings.validation == "none" else settings.path or path
    return jnp.asarray(relative, jnp.float32) * jnp.maximum(spread, 1e-20)


def least(losses: Array) -> Array:
    """Index of the least loss, the first of equals; NaN is never least."""
    return jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses))


def choose(path: Path, columns: Array, tag_mask: Array) -> Fitted:
    """From a path, the probe of the tags at `columns`, int32 `[tag]`, at the strength that suits
    them best. tag_mask: bool `[tag]`, False for padding.
    """
    losses = jnp.sum(path.loss[:, columns] * tag_mask, axis=1) / jnp.maximum(jnp.sum(tag_mask), 1)
    best = least(losses)
    return Fitted(
        Head(path.kernel[best][columns], path.bias[best][columns]),
        losses[best],
        path.l2s[best],
        largest(path.gradient_norm[best][columns], tag_mask),
        largest(path.gap[best][columns], tag_mask),
        jnp.sum(path.iterations),
    )


def cell_by_path(
    path: Callable[..., Path],
    task: Task,
    products: Products | None,
    data: Data,
    settings: Settings,
) -> Fitted:
    """A solver's `cell`, given its `path`: see `fsprobe.heads.solvers.solver.Solver`."""
    support, valid = task.labelled_support(data.train), data.valid.of_tags(task.tags)
    fits = path(support, task.clip_mask, task.folds, valid, settings)
    return choose(fits, jnp.arange(task.tags.size), task.tag_mask)


def largest(values: Array, tag_mask: Array) -> Array:
    """The largest of values `[tag]` over the probe's tags; those without a minimum, NaN, do not
    count.
    """
    return jnp.nanmax(jnp.where(tag_mask, values, jnp.nan), initial=0.0)


def num_strengths(settings: Settings, path: tuple[float, ...]) -> int:
    """How many strengths `strengths` gives."""
    return strengths(settings, path, jnp.ones(())).size
