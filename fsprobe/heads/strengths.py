"""What converged probes have in common, `--solver=lbfgs`: strengths, the choice among them, the
record.

The strength is chosen per probe, by the validation loss averaged over its tags. Strengths are in
units of the clips' mean squared distance from their mean, so that the scale of the features does
not matter.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fsprobe.batch.lanes import Outcome, ProbeSpec
from fsprobe.heads.head import Task

DUAL_PATH = tuple(np.logspace(1, -4, 11).tolist())  # strengths to choose from: of a few clips,
PRIMAL_PATH = tuple(np.logspace(0, -7, 15).tolist())  # and of many, which can use weaker ones


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Settings:
    """l2: float32 `[]`, a strength, or None to choose one. tagged, norms: as in
    fsprobe.batch.dispatch.train.
    """

    l2: Array | None
    tagged: bool = field(metadata={"static": True})
    norms: bool = field(metadata={"static": True})


class Result(NamedTuple):
    """One probe. average_precision, roc_auc: `[tag]`; the others `[]`. weight_norms: `[dim]`, or
    None.
    """

    average_precision: Array
    roc_auc: Array
    val_loss: Array
    l2: Array
    gradient_norm: Array
    iterations: Array
    weight_norms: Array | None


def strengths(settings: Settings, path: tuple[float, ...], curvature: Array) -> Array:
    """`[strength]`, strongest first. curvature: as in lbfgs.Problem; its trace is the clips' mean
    squared distance from their mean, however many threads add it up.
    """
    if settings.l2 is not None:
        return settings.l2[None]
    return jnp.asarray(path, jnp.float32) * jnp.maximum(jnp.sum(jnp.diagonal(curvature)), 1e-20)


def least(losses: Array) -> Array:
    """Index of the least loss, the first of equals; NaN is never least."""
    return jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses))


def largest(gradient_norm: Array, task: Task) -> Array:
    """Over the probe's tags; tags without a positive or a negative clip have none."""
    return jnp.nanmax(jnp.where(task.tag_mask, gradient_norm, jnp.nan), initial=0.0)


def outcome(spec: ProbeSpec, result: Any) -> Outcome:
    """From a Result of NumPy arrays."""
    n_way, count = len(spec.tags), int(result.iterations)
    return Outcome(
        spec,
        result.average_precision[:n_way],
        result.roc_auc[:n_way],
        float(result.val_loss),
        count,
        count,
        float(result.l2),
        float(result.gradient_norm),
        result.weight_norms,
    )
