"""The solver `lbfgs`: L2-regularised logistic regression, fitted to convergence.

A probe of few clips needs only their inner products, with each other and with the validation clips:
the same for every n_way, k_shot and strength of a seed. Many clips are fitted as they are, all tags
of the support set together.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from fsprobe.heads.cross_validation import FOLDS
from fsprobe.heads.data import (
    Data,
    Labelled,
    Task,
    balanced,
    bce,
    over_blocks,
    tags_from,
    with_tags,
)
from fsprobe.heads.descent import minimise
from fsprobe.heads.descent.objective import Problem, bias_shift, over_clips, tag_weights
from fsprobe.heads.head import Head
from fsprobe.heads.solvers.solver import Fitted, Path, Products, Settings, Solver
from fsprobe.heads.strengths import (
    DUAL_PATH,
    PRIMAL_PATH,
    cell_by_path,
    largest,
    least,
    strengths,
)
from fsprobe.heads.unlabelled import unlabelled_cell
from fsprobe.heads.words.prior import best_scale


def tag_losses(logits: Array, labels: Labelled, real: Array) -> Array:
    """Mean binary cross-entropy `[strength, tag]` of logits `[strength, clip, tag]`."""
    positive, known = balanced(labels.positive, labels.negative, real[:, None], 0)
    by_tag = jax.vmap(partial(bce, mask=real), in_axes=(1, 1, None if known is None else 1))
    return jax.vmap(by_tag, in_axes=(0, None, None))(logits, positive, known)


def held_out_losses(
    problem: Problem,
    labels: Labelled,
    real: Array,
    tag_mask: Array,
    folds: Array,
    l2s: Array,
    n_tags: Array | None = None,
) -> Array:
    """`[strength, tag]`: the mean loss of each support clip under fits that have not seen its fold.
    Clips of a negative fold are never held out, and have no part in the mean.

    The folds differ in their weights alone: they share the problem's features and curvature.
    """
    positive = labels.positive
    negative = ~positive if labels.negative is None else labels.negative

    def unseen(fold: Array, logits: Array) -> Array:
        seen = (folds != fold)[:, None]
        yes, no = (jnp.where(seen, part, part.dtype.type(0)) for part in (positive, negative))
        part = replace(problem, labels=tag_weights(yes, no, real, tag_mask))
        theta = minimise.minima(part, l2s, n_tags).theta
        return jnp.where(seen, logits, jax.vmap(part.logits)(theta))

    logits = lax.fori_loop(0, FOLDS, unseen, jnp.zeros((l2s.size, *positive.shape)))
    return tag_losses(logits, labels, real & (folds >= 0))


def validation_losses(
    clips: Array, coefs: Array, bias: Array, task: Task, labelled: Labelled, prior: Head | None
) -> Array:
    """`[strength, tag]`: the mean loss of the validation clips; 0 for padding.

    clips: `[clip, coef]`, what the coefficients `[strength, coef, tag]` are multiplied with.
    """
    offset = None if prior is None else prior.score(labelled.features)

    def block(start: Array, size: int, losses: Array) -> Array:
        weights, shift, tags, fixed = tags_from((coefs, bias, task.tags, offset), start, size)
        logits = jnp.einsum("vc,lct->lvt", clips, weights) + shift[:, None]
        logits += 0.0 if fixed is None else fixed
        mine = tag_losses(logits, labelled.of_tags(tags), jnp.ones(logits.shape[1], bool))
        return with_tags(losses, mine, start)

    return over_blocks(block, jnp.zeros(bias.shape), task.n_way, task.tags.size)


def cell(task: Task, products: Products | None, data: Data, settings: Settings) -> Fitted:
    """One probe; task.support are positions in the products. With more clips than dimensions,
    weights are fewer than coefficients, and the clips themselves serve better.
    """
    assert products is not None
    real, rows = task.clip_mask, products.rows[task.support]
    if data.priors is not None and settings.l2 is not None:
        return _of_given_strength(task._replace(support=rows), data, settings)
    labels = task._replace(support=rows).labelled_support(data.train)
    centre = real / jnp.maximum(task.num_support, 1).astype(jnp.float32)
    dual = task.support.size <= labels.features.shape[1]
    if dual:
        inner = products.train[task.support][:, task.support]
        mean = inner @ centre  # of the cell's clips, as inner products with each clip
        features = (inner - mean - mean[:, None] + centre @ mean) * real * real[:, None]
        curvature = features * centre
        valid = products.valid[:, task.support]
    else:
        mean = centre @ labels.features
        features = (labels.features - mean) * real[:, None]
        curvature = over_clips(features, features * centre[:, None])
        valid = data.valid.features
    weights = tag_weights(labels.positive, labels.negative, real, task.tag_mask)
    l2s = strengths(settings, DUAL_PATH, jnp.sum(jnp.diagonal(curvature)))

    def fit(prior: Head | None) -> Fitted:
        offset = None if prior is None else prior.score(labels.features)
        problem = Problem(features, curvature, centre, weights, dual, offset)
        fits = minimise.minima(problem, l2s, task.n_way)
        coefs = fits.theta[:, :-1]
        if dual:  # coefficients of clips that are not centred
            spare = jnp.sum(coefs, axis=1, keepdims=True)
            coefs = (coefs - spare * centre[:, None]) * real[:, None]
        bias = fits.theta[:, -1] - jnp.einsum("c,lct->lt", mean, coefs)
        if settings.validation == "valid":
            by_tag = validation_losses(valid, coefs, bias, task, data.valid, prior)
        elif settings.validation == "support":
            by_tag = held_out_losses(
                problem, labels, real, task.tag_mask, task.folds, l2s, task.n_way
            )
        else:
            by_tag = jnp.full(bias.shape, jnp.nan)
        losses = jnp.sum(by_tag * task.tag_mask, axis=1) / jnp.maximum(task.n_way, 1)
        best = least(losses)
        kernel = labels.features.T @ (coefs[best] * real[:, None]) if dual else coefs[best]
        head = Head(kernel.T, bias[best] + bias_shift(problem, fits.theta[best]))
        return Fitted(
            head if prior is None else Head(head.kernel + prior.kernel, head.bias + prior.bias),
            losses[best],
            l2s[best],
            largest(fits.gradient_norm[best], task.tag_mask),
            largest(fits.gap[best], task.tag_mask),
            jnp.sum(fits.iterations),
        )

    if data.priors is None:
        return fit(None)
    return best_scale(fit, task.starts(data.priors), settings)


def _of_given_strength(task: Task, data: Data, settings: Settings) -> Fitted:
    """`cell` with a prior and a strength that is given: inner products may not resolve it. Without
    a prior a batch takes such a probe out of the `path` of all that share its support set.
    """
    assert data.priors is not None

    def fit(prior: Head) -> Fitted:
        return cell_by_path(partial(path, prior=prior), task, None, data, settings)

    return best_scale(fit, task.starts(data.priors), settings)


def path(
    support: Labelled,
    real: Array,
    folds: Array,
    valid: Labelled,
    settings: Settings,
    prior: Head | None = None,
) -> Path:
    """All tags of one support set, whose clips are rows of `support` where `real`. prior: a head
    that the penalty pulls the weights to, instead of to zero.
    """
    clips, basis = support.features * real[:, None], None
    offset = None if prior is None else prior.score(support.features)
    count = jnp.maximum(jnp.sum(real), 1).astype(jnp.float32)
    if clips.shape[0] < clips.shape[1]:  # the clips span fewer dimensions than they have
        basis, triangle = jnp.linalg.qr(clips.T)
        clips = triangle.T
    tag_mask = jnp.ones(support.positive.shape[1], bool)
    weights = tag_weights(support.positive, support.negative, real, tag_mask)
    curvature = over_clips(clips, clips) / count
    problem = Problem(clips, curvature, real / count, weights, dual=False, offset=offset)
    l2s = strengths(settings, PRIMAL_PATH, jnp.sum(jnp.diagonal(curvature)))
    fits = minimise.minima(problem, l2s)
    coefs, bias = fits.theta[:, :-1], fits.theta[:, -1]
    shift = lax.map(partial(bias_shift, problem), fits.theta)
    if basis is not None:
        coefs = jnp.einsum("dc,lct->ldt", basis, coefs)
    if prior is not None:
        coefs, bias = coefs + prior.kernel.T, bias + prior.bias
    if settings.validation == "valid":
        logits = jnp.einsum("vd,ldt->lvt", valid.features, coefs) + bias[:, None]
        losses = tag_losses(logits, valid, jnp.ones(logits.shape[1], bool))
    elif settings.validation == "support":
        losses = held_out_losses(problem, support, real, tag_mask, folds, l2s)
    else:
        losses = jnp.full(bias.shape, jnp.nan)
    return Path(
        coefs.transpose(0, 2, 1),
        bias + shift,
        losses,
        l2s,
        fits.gradient_norm,
        fits.gap,
        fits.iterations,
    )


SOLVER = Solver(
    "lbfgs",
    "L2-regularised logistic regression, to convergence",
    cell=cell,
    path=path,
    unlabelled_cell=partial(unlabelled_cell, path),
    settings=frozenset(
        (
            "l2",
            "matmul_precision",
            "standardize",
            "unlabelled",
            "unlabelled_weight",
            "validation",
        )
    ),
    needs_products=True,
    own_strengths=True,
    takes_priors=True,
    shifts=True,
)
