"""The solver `ridge`: least squares with a penalty, in closed form.

    f(w, b) = ½ Σ_clip share·(y − x·w − b)²  +  (l2 / 2)·‖w‖²    for each tag

y is 1 for yes, −1 for no and 2q − 1 for a soft label q; the shares, positive + negative over its
sum, add up to 1. The bias is not penalised: scikit-learn's Ridge with alpha = clips·l2. One
eigendecomposition, of the clips' products or of the dimensions', whichever are fewer, serves every
strength, and every tag where all know the same clips; else there is one for each tag.

With --validation=support the strength is the one of least leave-one-out error over all tags of a
probe: the residual of a clip that is left out is its residual in the fit to all clips, divided by
1 − leverage (scikit-learn's RidgeCV). Near copies of a clip are not left out with it.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fsprobe.heads.data import Labelled
from fsprobe.heads.solvers.solver import Path, Settings, Solver
from fsprobe.heads.strengths import cell_by_path, strengths

STRENGTHS = tuple(np.logspace(1, -5, 13).tolist())  # float32 judges no weaker ones


def fits(features: Array, known: Array, targets: Array, l2s: Array) -> tuple[Array, ...]:
    """For each of l2s: kernel `[strength, tag, dim]`; and `[strength, tag]`: bias, mean squared
    leave-one-out error, gradient norm, and a bound on the gap as a share of f.

    known: `[clip]`, how much each clip counts, 0 for padding. targets: y, `[clip, tag]`.
    """
    share = known / jnp.maximum(jnp.sum(known), 1e-30)
    root, centre, mean = jnp.sqrt(share)[:, None], share @ features, share @ targets
    clips, wanted = root * (features - centre), root * (targets - mean)
    dual = clips.shape[0] <= clips.shape[1]
    # kernels are basis·coefs
    if dual:
        values, rows = jnp.linalg.eigh(clips @ clips.T)
        basis = clips.T @ rows
        # of the smallest ones float32 leaves noise
        kept = jnp.where(values > 1e-6 * values[-1], values, 0.0)
        without_bias = rows - root * (root.T @ rows)
    else:
        values, basis = jnp.linalg.eigh(clips.T @ clips)
        rows = clips @ basis

    def fit(l2: Array) -> tuple[Array, ...]:
        shrunk = 1 / (jnp.maximum(values, 0.0) + l2)
        coefs = jnp.zeros((values.size, wanted.shape[1]))
        for _ in range(3):  # the second step undoes what float32 loses in the first
            kernel = basis @ coefs
            residuals = wanted - clips @ kernel
            coefs += shrunk[:, None] * (rows.T @ residuals - l2 * coefs)
        if dual:  # few clips are fitted closely: 1 − leverage and residuals as no differences
            left = without_bias**2 @ (l2 / (kept + l2))
            missed = l2 * (without_bias @ coefs)
        else:
            left, missed = 1.0 - share - rows**2 @ shrunk, residuals
        errors = (missed / jnp.maximum(left, 1e-6)[:, None]) ** 2  # 0 of a lone clip
        squares = jnp.sum((l2 * kernel - clips.T @ residuals) ** 2, axis=0)
        value = (jnp.sum(residuals**2, axis=0) + l2 * jnp.sum(kernel**2, axis=0)) / 2
        gap = squares / (2 * l2) / jnp.maximum(value, 1e-30)  # f curves at least as l2 does
        return kernel.T, mean - centre @ kernel, jnp.sum(errors, axis=0), jnp.sqrt(squares), gap

    return lax.map(fit, l2s)


def targets_of(labels: Labelled) -> tuple[Array, Array]:
    """(y, positive + negative), `[clip, tag]`; y is 0 where nothing is known."""
    positive, negative = labels.weights
    known = positive + negative
    return (positive - negative) / jnp.where(known > 0, known, 1.0), known


def path(support: Labelled, real: Array, folds: Array, valid: Labelled, settings: Settings) -> Path:
    """All tags of one support set; see `fsprobe.heads.solvers.solver.Solver`."""
    targets, known = targets_of(support)
    spread = jnp.sum(jnp.var(support.features, axis=0, where=real[:, None]))
    l2s = strengths(settings, STRENGTHS, jnp.nan_to_num(spread))
    if support.negative is None:
        kernel, bias, losses, norm, gap = fits(support.features, real, targets, l2s)
    else:
        by_tag = lax.map(
            lambda tag: fits(support.features, real * tag[0], tag[1][:, None], l2s),
            (known.T, targets.T),
        )
        kernel, bias, losses, norm, gap = (part[:, :, 0].swapaxes(0, 1) for part in by_tag)
    if settings.validation == "valid":
        targets, known = targets_of(valid)
        squares = (targets - valid.features @ kernel.swapaxes(1, 2) - bias[:, None]) ** 2
        losses = jnp.sum(known * squares, axis=1) / jnp.maximum(jnp.sum(known, axis=0), 1e-30)
    elif settings.validation == "none":
        losses = jnp.full(bias.shape, jnp.nan)
    return Path(kernel, bias, losses, l2s, norm, gap, jnp.zeros_like(l2s, jnp.int32))


SOLVER = Solver(
    "ridge",
    "least squares in closed form, leave-one-out",
    settings=frozenset(("l2", "matmul_precision", "standardize", "validation")),
    cell=partial(cell_by_path, path),
    path=path,
    shifts=True,
    baseline=True,
)
