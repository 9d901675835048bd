"""`fit`: a head from features and labels in memory, with a strength for each tag as far as its
labels go.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fsprobe.config import AUTO, SolverConfig
from fsprobe.heads.cross_validation import assign_folds
from fsprobe.heads.data import Data, Labelled, Task
from fsprobe.heads.evaluate import label_weights
from fsprobe.heads.head import Head, on_raw_features
from fsprobe.heads.precision import in_float32
from fsprobe.heads.solvers import logistic
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.heads.solvers.solver import Path, Products, Settings, Solver
from fsprobe.heads.words.prior import over_scales

STRENGTHS = tuple(np.logspace(1, -7, 17).tolist())  # to choose from, as `fsprobe.heads.strengths`
OWN_STRENGTH = 3  # positives from which on a tag can be held out, and has a strength of its own
_TAGS = 128  # fitted at a time
STANDARDIZE = ("none", "train")

Validation = str | tuple[ArrayLike, ArrayLike, ArrayLike | None]


class TagFits(NamedTuple):
    """head: on the features as they were given. l2: `[tag]`, the strength used. gap: `[tag]`, a
    bound on how far the objective lies above its minimum, as a share of it; NaN for a tag without a
    positive or a negative clip, which has no minimum. scale: `[tag]`, of the prior.
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
    l2: float | str = AUTO,
    validation: Validation = "support",
    prior: Head | None = None,
    scales: Sequence[float] = (1.0,),
    standardize: str = "none",
    groups: np.ndarray | None = None,
) -> TagFits:
    """`fit` with the solver lbfgs, which also returns each tag's strength and gap. groups: int
    `[clip]`: clips of one group are in one fold. scales: of the prior, chosen with the strength; 1
    where nothing chooses.
    """
    _require_strength(l2)
    clips, scaling = _standardized(features, standardize)
    labels = _labelled(clips, positive, negative)
    held_out, name = _held_out(validation, scaling, labels)
    folds = np.zeros(len(clips), np.int32)
    if name == "support":
        folds = assign_folds(np.asarray(labels.positive), groups)
    strength = None if l2 == AUTO else np.float32(float(l2) / scaling.scale**2)
    settings = Settings(strength, name, STRENGTHS)  # type: ignore[arg-type]
    tried = np.array((1.0,) if prior is None or name == "none" else scales, np.float32)
    n_tags = labels.positive.shape[1]
    started = None if prior is None else scaling.inside(prior, n_tags)
    parts = []
    for start in range(0, n_tags, _TAGS):
        tags: Any = np.arange(start, min(start + _TAGS, n_tags))
        mine = None if started is None else Head(started.kernel[tags], started.bias[tags])
        path = _path(labels.of_tags(tags), folds, held_out.of_tags(tags), settings, mine, tried)
        # a scale and a strength are one choice
        path = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), path)
        chosen = _choose(path.loss, _positives(labels, held_out, name, tags))
        rows = np.arange(len(tags))
        kernel, bias, gap = (part[chosen, rows] for part in (path.kernel, path.bias, path.gap))
        scale = tried[chosen // (len(path.l2s) // len(tried))]
        parts.append((kernel, bias, path.l2s[chosen], gap, scale))
    columns: Any = (np.concatenate(part) for part in zip(*parts, strict=True))
    kernel, bias, l2s, gap, scale = columns
    head = on_raw_features(Head(kernel, bias), scaling.mean, scaling.deviation)
    return TagFits(head, l2s * scaling.scale**2, gap, scale)


def _require_strength(l2: float | str) -> None:
    if l2 != AUTO and (isinstance(l2, str) or not 0 < l2 < np.inf):
        raise ValueError(f"l2={l2!r}: use a positive number or {AUTO!r}")


class _Scaling(NamedTuple):
    """Inside a fit x is (x − mean) / deviation. scale: that deviation, where it is one for all."""

    mean: np.ndarray
    deviation: np.ndarray
    scale: float

    def inside(self, head: Head, n_tags: int) -> Head:
        """A head on the features as given, for those inside. Raises ValueError on its shape."""
        kernel = np.asarray(head.kernel, np.float64)
        if kernel.shape != (n_tags, self.mean.size):
            raise ValueError(f"prior {kernel.shape} must be [tag, dim], {(n_tags, self.mean.size)}")
        bias = np.asarray(head.bias, np.float64) + kernel @ self.mean
        return Head((kernel * self.deviation).astype(np.float32), bias.astype(np.float32))


def _standardized(features: ArrayLike, standardize: str) -> tuple[np.ndarray, _Scaling]:
    """(centred clips of mean squared value 1, or of deviation 1 in each dimension; how)."""
    clips = np.asarray(features, np.float32)
    if clips.ndim != 2 or not clips.size:
        raise ValueError(f"features {clips.shape} must be [clip, dim]")
    if not np.isfinite(clips).all():
        raise ValueError("features hold NaN or Inf")
    if standardize not in STANDARDIZE:
        raise ValueError(f"standardize={standardize!r}: use one of {', '.join(STANDARDIZE)}")
    mean = clips.mean(axis=0, dtype=np.float64)
    centred = clips - mean
    if standardize == "train":
        deviation = centred.std(axis=0)
        deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, 0)  # else it is rounding
        scaling = _Scaling(mean, deviation, 1.0)
        return (centred * (deviation > 0) / np.where(deviation > 0, deviation, 1)).astype(
            np.float32
        ), scaling
    scale = float(np.sqrt(np.mean(centred**2))) or 1.0
    scaling = _Scaling(mean, np.full(mean.size, scale), scale)
    return (centred / scale).astype(np.float32), scaling


def _labelled(clips: np.ndarray, positive: ArrayLike, negative: ArrayLike | None) -> Labelled:
    """Hard labels as bool. Raises ValueError on shapes that do not fit."""
    yes, no = label_weights(positive, negative)
    if len(yes) != len(clips):
        raise ValueError(f"{len(clips)} clips, but labels of {len(yes)}")
    if np.isin(yes, (0, 1)).all() and np.isin(no, (0, 1)).all() and not (yes * no).any():
        every = negative is None or (yes + no == 1).all()
        return Labelled(clips, yes > 0, None if every else no > 0)  # type: ignore[arg-type]
    return Labelled(clips, yes, no)  # type: ignore[arg-type]


def _held_out(validation: Validation, scaling: _Scaling, labels: Labelled) -> tuple[Labelled, str]:
    """(the clips to choose by, none if there are none; the name of the way to choose)."""
    if isinstance(validation, str):
        if validation not in ("support", "none"):
            raise ValueError(f"validation={validation!r}: use 'support', 'none' or arrays")
        return jax.tree.map(lambda part: part[:0], labels), validation
    features, positive, negative = validation
    clips = np.asarray(features, np.float64)
    if clips.ndim != 2 or clips.shape[1] != scaling.mean.size:
        raise ValueError(f"validation features {clips.shape} must be [clip, {scaling.mean.size}]")
    inside = (clips - scaling.mean) / np.where(scaling.deviation > 0, scaling.deviation, np.inf)
    return _labelled(inside.astype(np.float32), positive, negative), "valid"


def _positives(labels: Labelled, held_out: Labelled, name: str, tags: np.ndarray) -> np.ndarray:
    """`[tag]`: the positives that a tag's own strength could be chosen by."""
    judged = held_out if name == "valid" else labels
    return np.sum(np.asarray(judged.positive)[:, tags] > 0, axis=0)


def _choose(losses: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """int `[tag]`: the strength of each tag, from losses `[strength, tag]`."""
    usable = np.where(np.isnan(losses), np.inf, losses)
    own, few = usable.argmin(axis=0), positives < OWN_STRENGTH
    pooled = np.sum(np.where(np.isfinite(losses), losses, 0), axis=1)
    return np.where(few, pooled.argmin(), own)


@jax.jit
def _path(
    labels: Labelled,
    folds: Array,
    held_out: Labelled,
    settings: Settings,
    prior: Head | None,
    scales: Array,
) -> Path:
    """Every array has a leading axis `[scale]`, of length 1 without a prior."""
    real = jnp.ones(labels.features.shape[0], bool)

    def fit(prior: Head | None) -> Path:
        return logistic.path(labels, real, folds, held_out, settings, prior)

    if prior is None:
        return jax.tree.map(lambda leaf: leaf[None], fit(None))
    fits: Path = over_scales(fit, prior, scales)
    return fits


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
        takes = ", ".join(solver.name for solver in SOLVERS.values() if solver.own_strengths)
        raise ValueError(f"prior: the solver {name!r} takes none, {takes} does")
    _require_strength(l2)
    solver = SOLVERS[name]
    clips, scaling = _standardized(features, standardize)
    if not solver.shifts and standardize == "none":  # what it makes of a shift is its own affair
        clips = np.asarray(features, np.float32)
        scaling = _Scaling(np.zeros(clips.shape[1]), np.ones(clips.shape[1]), 1.0)
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
        text = f"the labels {solver.cut}; this concerns {clips_cut:,} of {count:,} clips"
        warnings.warn(text, stacklevel=4)  # of fit's caller
    return on_raw_features(head, scaling.mean, scaling.deviation)


def _one_probe(task: Task, data: Data, config: SolverConfig, solver: Solver) -> tuple[Any, int]:
    """The head, and the number of clips that the solver had to simplify."""
    if solver.steps is not None:
        steps = solver.steps(config, 1)
        advance = jax.jit(steps.advance)
        state = advance(steps.init(task, data), task, data, config.max_epochs)
        return steps.head(state), 0
    assert solver.cell is not None
    products = None
    if solver.needs_products:
        clips = jnp.asarray(data.train.features)
        products = Products(clips @ clips.T, data.valid.features @ clips.T, task.support)
    strength = None if isinstance(config.l2, str) else jnp.float32(config.l2)
    fitted = jax.jit(solver.cell)(task, products, data, Settings(strength, config.validation))
    return fitted.head, int(fitted.clips_cut)
