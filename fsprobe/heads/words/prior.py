"""Few-shot heads that start from what the words say: the penalty pulls the weights to w₀, the word
head's times a scale, instead of to zero.

    loss + l2/2 ‖w − scale · w₀‖²

Scale and strength are chosen together, as the strength alone is without a prior. A scale of 0 is no
prior, so that words that mislead can be left. Where nothing chooses, the scale is 1.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fsprobe.heads.head import Head
from fsprobe.heads.solvers.solver import Fitted, Settings
from fsprobe.heads.strengths import least


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


def over_scales(fit: Callable[[Head], Any], prior: Head, scales: Array) -> Any:
    """fit(w₀ times a scale) for each of scales `[scale]`, with a leading axis `[scale]`."""
    return jax.lax.map(lambda scale: fit(scaled(prior, scale)), scales)


def best_scale(fit: Callable[[Head], Fitted], prior: Head, settings: Settings) -> Fitted:
    """The fit of least loss over the scales; the first of equals, so that no prior comes first."""
    scales = jnp.asarray((1.0,) if settings.validation == "none" else settings.scales)
    fits = over_scales(fit, prior, scales)
    best = least(fits.val_loss)
    chosen: Fitted = jax.tree.map(lambda leaf: leaf[best], fits)
    return chosen._replace(scale=scales[best], iterations=jnp.sum(fits.iterations))
