"""`fit`: a head from features and labels in memory, with a strength for each tag as far as its
labels go.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fsprobe.config import AUTO, SolverConfig
from fsprobe.heads.cross_validation import assign_folds, num_positive
from fsprobe.heads.data import Data, Labelled, Task
from fsprobe.heads.evaluate import label_weights
from fsprobe.heads.head import Head, on_raw_features
from fsprobe.heads.precision import in_float32
from fsprobe.heads.scaling import Scaling, standardized
from fsprobe.heads.solvers.registry import SOLVERS, settings_of, solvers_with
from fsprobe.heads.solvers.solver import Path, Settings, Solver
from fsprobe.heads.words.prior import over_scales

STRENGTHS = tuple(np.logspace(1, -7, 17).tolist())  # to choose from, as `fsprobe.heads.strengths`
# positives, of different groups, from which on a tag can be held out and has its own strength
OWN_STRENGTH = 3
_TAGS = 128  # fitted at a time

Validation = str | tuple[ArrayLike, ArrayLike, ArrayLike | None]


class TagFits(NamedTuple):
    """head: on the features as they were given. l2: `[tag]`, the strength used. gap: `[tag]`, an
    estimate of how far the objective lies above its minimum, as a share of it; NaN for a tag
    without a positive or a negative clip, which has no minimum. scale: `[tag]`, of the prior.
    """

    head: Head
    l2: np.ndarray
    gap: np.ndarray
    scale: np.ndarray


@in_float32
def fit(
    features: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike | None = None,
    *,
    solver: str = "lbfgs",
    l2: float | str = AUTO,
    validation: Validation = "support",
    prior: Head | None = None,
    standardize: str = "none",
) -> Head:
    """A head for features `[clip, dim]` and labels `[clip, tag]`.

    positive, negative: weights ≥ 0: (1, 0) yes, (0, 1) no, (0, 0) not known, (q, 1 − q) soft.
    negative=None: whatever is not positive is negative.

    solver: one of `fsprobe.heads.solvers`, whose modules say what they minimise, if anything. With
    lbfgs the loss of a tag is
    Σ_clip (positive·softplus(−z) + negative·softplus(z)) / Σ_clip (positive + negative)
    + l2/2 ‖w − w₀‖², the bias unpenalised; with every label known that is scikit-learn's
    LogisticRegression with C = 1 / (clips · l2).

    l2: a strength, of lbfgs and ridge, or "auto": chosen as `validation` says: "support", inside
    the clips; "none", a fixed one; or (features, positive, negative) to choose by. Inside the clips
    lbfgs cross-validates, and a tag with three positives or more has a strength of its own, the
    others share one; ridge takes one for all tags, by leave-one-out; adam, which has no l2, chooses
    its epochs by cross-validation. prior: of lbfgs, the head with w₀, else 0. standardize: "none",
    or "train": each dimension by its mean and deviation over the clips; the head is on the features
    as given all the same.

    Raises ValueError on shapes that do not fit and on values that are not finite; warns where the
    solver has to simplify the labels (`lc_protonets`).
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver={solver!r}: use one of {', '.join(SOLVERS)}")
    if not SOLVERS[solver].own_strengths:
        return _fit_any(features, positive, negative, solver, l2, validation, prior, standardize)
    return fit_tags(
        features,
        positive,
        negative,
        solver=solver,
        l2=l2,
        validation=validation,
        prior=prior,
        standardize=standardize,
    ).head


@in_float32
def fit_tags(
    features: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike | None = None,
    *,
    solver: str = "lbfgs",
    l2: float | str = AUTO,
    validation: Validation = "support",
    prior: Head | None = None,
    scales: Sequence[float] = (1.0,),
    standardize: str = "none",
    groups: np.ndarray | None = None,
) -> TagFits:
    """`fit` which also returns each tag's strength and gap. solver: one with `own_strengths`.
    groups: int `[clip]`: clips of one group are in one fold; those of a negative number are never
    held out, and their positives do not count towards a strength of a tag's own. scales: of the
    prior, chosen with the strength; 1 where nothing chooses.
    """
    if not SOLVERS[solver].own_strengths:
        raise ValueError(f"solver={solver!r}: use one of {', '.join(_own_strengths())}")
    _require_strength(l2)
    clips, scaling = standardized(features, standardize)
    labels = _labelled(clips, positive, negative)
    held_out, name = _held_out(validation, scaling, labels)
    groups = np.arange(len(clips)) if groups is None else np.asarray(groups)
    told = groups >= 0
    positives, groups = np.asarray(labels.positive)[told], groups[told]
    folds = np.full(len(clips), -1, np.int32)
    if name == "support":
        folds[told] = assign_folds(positives, groups)
    strength = None if l2 == AUTO else np.float32(float(l2) / scaling.scale**2)
    settings = Settings(strength, name, STRENGTHS)  # type: ignore[arg-type]
    tried = np.array((1.0,) if prior is None or name == "none" else scales, np.float32)
    started = None if prior is None else scaling.inside(prior, labels.positive.shape[1])

    def fit(tags: Any, settings: Settings, scales: np.ndarray) -> _Choices:
        mine = None if started is None else Head(started.kernel[tags], started.bias[tags])
        support, valid = labels.of_tags(tags), held_out.of_tags(tags)
        path = _path(SOLVERS[solver], support, folds, valid, settings, mine, scales)
        path = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), path)
        return _Choices(path, np.repeat(scales, path.l2s.size // scales.size))

    judged = (np.asarray(held_out.positive), None) if name == "valid" else (positives, groups)
    scarce = num_positive(*judged) < OWN_STRENGTH
    fits = _in_blocks(fit, settings, tried, scarce)
    return fits._replace(
        head=on_raw_features(fits.head, scaling.mean, scaling.deviation),
        l2=fits.l2 * scaling.scale**2,
    )


class _Choices(NamedTuple):
    """Fits to choose from: a path of NumPy arrays `[choice, …]` in place of `[strength, …]`, and
    the scale of each, `[choice]`.
    """

    path: Any
    scales: np.ndarray

    def pick(self, chosen: np.ndarray, columns: np.ndarray) -> TagFits:
        """Of the tags at `columns` the choices `chosen`, int `[tag]` both."""
        path = self.path
        kernel, bias, gap = (part[chosen, columns] for part in (path.kernel, path.bias, path.gap))
        return TagFits(Head(kernel, bias), path.l2s[chosen], gap, self.scales[chosen])


def _in_blocks(
    fit: Callable[[np.ndarray, Settings, np.ndarray], _Choices],
    settings: Settings,
    scales: np.ndarray,
    scarce: np.ndarray,
) -> TagFits:
    """Every tag at its own choice, and the scarce ones, bool `[tag]`, at the one choice of least
    loss over all tags. fit(tags, settings, scales): those tags at each strength and scale.

    Of one block of tags at a time all fits are held. So of several blocks the scarce tags are
    fitted again, at the choice that all blocks have led to.
    """
    parts, losses = [], []
    for tags in np.split(np.arange(scarce.size), range(_TAGS, scarce.size, _TAGS)):
        choices = fit(tags, settings, scales)
        loss = choices.path.loss
        best = np.where(np.isnan(loss), np.inf, loss).argmin(axis=0)
        parts.append(choices.pick(best, np.arange(tags.size)))
        losses.append(np.where(np.isfinite(loss), loss, 0).sum(axis=1))
    fits, shared, few = _joined(parts), np.sum(losses, axis=0).argmin(), np.flatnonzero(scarce)
    if not few.size or len(losses[0]) == 1:
        return fits
    if len(parts) == 1:
        again = choices.pick(np.full(few.size, shared), few)
    else:
        fixed = Settings(choices.path.l2s[shared], "none")
        scale = choices.scales[[shared]]
        again = _joined(
            [
                fit(tags, fixed, scale).pick(np.zeros(tags.size, int), np.arange(tags.size))
                for tags in np.split(few, range(_TAGS, few.size, _TAGS))
            ]
        )
    for every, part in zip(jax.tree.leaves(fits), jax.tree.leaves(again), strict=True):
        every[few] = part
    return fits


def _joined(parts: Sequence[TagFits]) -> TagFits:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _require_strength(l2: float | str) -> None:
    if l2 != AUTO and (isinstance(l2, str) or not 0 < l2 < np.inf):
        raise ValueError(f"l2={l2!r}: use a positive number or {AUTO!r}")


def _labelled(clips: np.ndarray, positive: ArrayLike, negative: ArrayLike | None) -> Labelled:
    """Hard labels as bool. Raises ValueError on shapes that do not fit."""
    yes, no = label_weights(positive, negative)
    if not yes.shape[1]:
        raise ValueError(f"labels {yes.shape} of no tag")
    if len(yes) != len(clips):
        raise ValueError(f"{len(clips)} clips, but labels of {len(yes)}")
    if np.isin(yes, (0, 1)).all() and np.isin(no, (0, 1)).all() and not (yes * no).any():
        every = negative is None or (yes + no == 1).all()
        return Labelled(clips, yes > 0, None if every else no > 0)  # type: ignore[arg-type]
    return Labelled(clips, yes, no)  # type: ignore[arg-type]


def _held_out(validation: Validation, scaling: Scaling, labels: Labelled) -> tuple[Labelled, str]:
    """(the clips to choose by, none if there are none; the name of the way to choose)."""
    if isinstance(validation, str):
        if validation not in ("support", "none"):
            raise ValueError(f"validation={validation!r}: use 'support', 'none' or arrays")
        return labels.of_clips(slice(0)), validation
    features, positive, negative = validation
    clips = np.asarray(features, np.float32)
    if clips.ndim != 2 or clips.shape[1] != scaling.mean.size:
        raise ValueError(f"validation features {clips.shape} must be [clip, {scaling.mean.size}]")
    if not np.isfinite(clips).all():
        raise ValueError("validation features hold NaN or Inf")
    held_out = _labelled(scaling.applied(clips), positive, negative)
    shape, n_tags = held_out.positive.shape, labels.positive.shape[1]
    if shape[1] != n_tags:
        raise ValueError(f"validation labels {shape} must be [clip, {n_tags}]")
    if not any(np.any(part) for part in held_out.weights):
        raise ValueError("validation holds no clip with a label: nothing to choose by")
    return held_out, "valid"


def _own_strengths() -> list[str]:
    """The solvers that choose a strength for each tag."""
    return [solver.name for solver in SOLVERS.values() if solver.own_strengths]


@partial(jax.jit, static_argnames=("solver",))
def _path(
    solver: Solver,
    labels: Labelled,
    folds: Array,
    held_out: Labelled,
    settings: Settings,
    prior: Head | None,
    scales: Array,
) -> Path:
    """Every array has a leading axis `[scale]`, of length 1 without a prior."""
    assert solver.path is not None
    one, real = solver.path, jnp.ones(labels.features.shape[0], bool)

    def fit(prior: Head | None) -> Path:
        return one(labels, real, folds, held_out, settings, prior)

    if prior is None:
        return jax.tree.map(lambda leaf: leaf[None], fit(None))
    return over_scales(fit, prior, scales)


def _fit_any(
    features: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike | None,
    name: str,
    l2: float | str,
    validation: Validation,
    prior: Head | None,
    standardize: str,
) -> Any:
    """With any solver of the registry, all tags as one probe."""
    if prior is not None:
        raise ValueError(f"prior: the solver {name!r} takes none, {_own_strengths()[0]} does")
    _require_strength(l2)
    solver = SOLVERS[name]
    if l2 != AUTO and "l2" not in solver.settings:
        raise ValueError(
            f"l2={l2!r}: the solver {name!r} has no strength; "
            f"use one of {', '.join(solvers_with('l2'))}"
        )
    clips, scaling = standardized(features, standardize)
    if not solver.shifts and standardize == "none":  # what it makes of a shift is its own affair
        clips = np.asarray(features, np.float32)
        scaling = Scaling(np.zeros(clips.shape[1]), np.ones(clips.shape[1]), 1.0)
    labels = _labelled(clips, positive, negative)
    held_out, how = _held_out(validation, scaling, labels)
    count, n_tags = labels.positive.shape
    folds = np.zeros(count, np.int32)
    if how == "support":
        folds = assign_folds(np.asarray(labels.positive))
    seed, num_support, n_way = (jnp.int32(number) for number in (0, count, n_tags))
    rows, tags = jnp.arange(count), jnp.arange(n_tags)
    task = Task(seed, rows, num_support, jnp.asarray(folds), tags, n_way)
    data = Data(labels, held_out, held_out)
    strength = l2 if l2 == AUTO else float(l2) / scaling.scale**2
    config = SolverConfig(name, l2=strength, validation=how)
    head, clips_cut = _one_probe(task, data, config, solver)
    if clips_cut:
        warnings.warn(
            f"the labels {solver.cut}; this concerns {clips_cut:,} of {count:,} clips",
            stacklevel=4,  # of fit's caller
        )
    return on_raw_features(head, scaling.mean, scaling.deviation)


def _one_probe(task: Task, data: Data, config: SolverConfig, solver: Solver) -> tuple[Any, int]:
    """The head, and the number of clips that the solver had to simplify. The one solver that needs
    products has strengths of its own, and is fitted by its path.
    """
    if solver.steps is not None:
        steps = solver.steps(config, 1)
        advance = jax.jit(steps.advance)
        state = advance(steps.init(task, data), task, data, config.max_epochs)
        return steps.head(state), 0
    assert solver.cell is not None and not solver.needs_products
    fitted = jax.jit(solver.cell)(task, None, data, settings_of(config))
    return fitted.head, int(fitted.clips_cut)
