"""Few-shot heads that start from what the words say: the penalty pulls the weights to w₀, the word
head's times a scale, instead of to zero.

    loss + l2/2 ‖w − scale · w₀‖²

Scale and strength are chosen together, as the strength alone is without a prior. A scale of 0 is no
prior, so that words that mislead can be left.
"""

import jax
import jax.numpy as jnp
from jax import Array

from fsprobe.heads.data import Labelled
from fsprobe.heads.head import Head
from fsprobe.heads.logistic import path
from fsprobe.heads.solver import Path, Settings

SCALES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


def unit_prior(head: Head, features: Array) -> Head:
    """The head scaled tag by tag so that its logits have a deviation of 1 over the clips `[clip,
    dim]`, and without a bias: that is fitted, not penalised. Of a head of zeros, zeros.
    """
    deviation = jnp.std(head.score(features), axis=0)
    scale = jnp.where(deviation > 0, 1.0 / jnp.where(deviation > 0, deviation, 1.0), 0.0)
    return Head(head.kernel * scale[:, None], jnp.zeros_like(head.bias))


def scaled(prior: Head, scale: Array) -> Head:
    """w₀ times a scale `[]`."""
    return Head(scale * prior.kernel, scale * prior.bias)


def path_from_prior(
    support: Labelled,
    real: Array,
    folds: Array,
    valid: Labelled,
    settings: Settings,
    prior: Head,
    scales: Array,
) -> Path:
    """As `logistic.path`, over scales `[scale]` and strengths: every array of the Path has a
    leading axis `[scale]`. prior: of `unit_prior`.
    """

    def one(scale: Array) -> Path:
        return path(support, real, folds, valid, settings, scaled(prior, scale))

    return jax.lax.map(one, scales)


def choose(fits: Path, tag_mask: Array) -> tuple[Head, Array, Array]:
    """(head, index of the scale, index of the strength) with the least loss over the tags where
    tag_mask `[tag]`, of a Path with a leading axis `[scale]`; the first of equals, so that no prior
    comes first.
    """
    counted = jnp.where(jnp.isnan(fits.loss), 0.0, fits.loss) * tag_mask
    losses = jnp.sum(counted, axis=-1)
    scale, strength = jnp.unravel_index(jnp.argmin(losses), losses.shape)
    return Head(fits.kernel[scale, strength], fits.bias[scale, strength]), scale, strength
