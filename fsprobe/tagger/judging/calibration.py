"""From logits to probabilities: Platt scaling, and the prevalence that a probability is stated for.

A tag's probability is sigmoid(a · logit + b). Platt (1999) fits a and b by logistic regression on
out-of-fold logits, with targets that a Bayesian with a uniform prior would have, so that a few
examples never give certainty:

    (positives + 1) / (positives + 2) for a clip that has the tag,
    1 / (negatives + 2)               for one that does not.

A slope takes more examples than an intercept. A tag with fewer than `TOO_FEW` of either kind takes
the slope that all tags together have (each with an intercept of its own), and fits its intercept.
For the slope of all tags, positives and negatives are those of all of them: targets smoothed as if
each tag stood alone would flatten it.

Marked clips say nothing of how common a tag is. Probabilities that hold where a share π₀ of clips
has the tag become those for π by Bayes' rule: b + logit(π) − logit(π₀).

Sources: J. Platt, "Probabilistic outputs for support vector machines" (1999); H.-T. Lin, C.-J. Lin,
R. Weng, "A note on Platt's probabilistic outputs" (2007), whose Newton steps these are;
M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the outputs of a classifier to new a priori
probabilities" (2002).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_expit, logit

TOO_FEW = 20  # of positives or negatives: the slope is pooled
_FLATTEST = 1e-3  # least slope, per standard deviation of the logits
_STEPS = 100


class Line(NamedTuple):
    """probability = sigmoid(slope · logit + intercept). Floats."""

    slope: float
    intercept: float


class Judged(NamedTuple):
    """Scores of one tag on clips whose label is known. All float64 `[clip]`.

    positive, negative: the labels' weights, (1, 0) for yes and (0, 1) for no.
    """

    logits: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @property
    def base_rate(self) -> float:
        """The share of positives among these clips."""
        known = float(self.positive.sum() + self.negative.sum())
        return float(self.positive.sum()) / known if known else 0.5


def calibrate(judged: Judged, shared_slope: float) -> tuple[Line, bool]:
    """(line, is the slope pooled) of one tag, for the prevalence its labels have."""
    pooled = min(judged.positive.sum(), judged.negative.sum()) < TOO_FEW
    return fit_lines([judged], shared_slope if pooled else None)[0], pooled


def fit_lines(tags: list[Judged], slope: float | None = None) -> list[Line]:
    """The line of each tag, all of one slope, with the least logistic loss to Platt's smoothed
    targets.

    slope: where it is given only the intercepts are fitted. The one found is positive: where the
    best one is not, scores say nothing about the tags, and the flattest stands for that. Newton's
    method with backtracking; the Hessian is an arrow (one slope, independent intercepts), so a step
    costs one pass.
    """
    logits, positive, negative = map(np.concatenate, zip(*tags, strict=True))
    positives, negatives, weight = positive.sum(), negative.sum(), positive + negative
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    target = (positive * high + negative * low) / np.where(weight > 0, weight, 1)
    tag = np.repeat(np.arange(len(tags)), [len(judged.logits) for judged in tags])
    spread = float(logits.std()) or 1.0

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(tag, values, len(tags))

    def loss(a: float, b: np.ndarray) -> float:
        z = a * logits + b[tag]
        return float(-(weight * (target * log_expit(z) + (1 - target) * log_expit(-z))).sum())

    a = 1 / spread if slope is None else slope
    b = logit(total(weight * target) / total(weight)) - a * (total(weight * logits) / total(weight))
    now = loss(a, b)
    for _ in range(_STEPS):
        p = expit(a * logits + b[tag])
        residual, curvature = weight * (p - target), weight * p * (1 - p)
        grad_b, hess_b = total(residual), total(curvature) + 1e-12
        cross = total(curvature * logits)
        step_a = 0.0
        if slope is None:
            rest = float((curvature * logits**2).sum()) - float((cross**2 / hess_b).sum())
            step_a = float((residual * logits).sum()) - float((cross * grad_b / hess_b).sum())
            step_a /= rest + 1e-12 * spread**2
        step_b = (grad_b - cross * step_a) / hess_b
        scale = 1.0
        while (new := loss(a - scale * step_a, b - scale * step_b)) > now and scale > 1e-10:
            scale /= 2
        if not new < now:
            break
        a, b = a - scale * step_a, b - scale * step_b
        done, now = now - new <= 1e-12 * abs(now), new
        if done:
            break
    if slope is None and a < _FLATTEST / spread:
        return fit_lines(tags, _FLATTEST / spread)
    return [Line(a, intercept) for intercept in b.tolist()]


def shift(line: Line, before: float, after: float) -> Line:
    """The line for another prevalence. before: the share of positives that it was fitted to. Both
    lie between 0 and 1, neither of them included.
    """
    return Line(line.slope, line.intercept + float(logit(after) - logit(before)))


def probability(line: Line, logits: np.ndarray) -> np.ndarray:
    return expit(line.slope * logits + line.intercept)


def by_fold(
    judged: Judged, folds: np.ndarray, shared_slope: float
) -> Iterator[tuple[np.ndarray, Judged, Line]]:
    """(which clips are in it, bool `[clip]`; the other folds' clips; the line fitted to these) of
    each fold. Without those whose other folds lack a positive or a negative.
    """
    for fold in np.unique(folds):
        here = folds == fold
        others = Judged(*(column[~here] for column in judged))
        if others.positive.sum() > 0 and others.negative.sum() > 0:
            yield here, others, calibrate(others, shared_slope)[0]


def cross_fitted(judged: Judged, folds: np.ndarray, shared_slope: float) -> np.ndarray:
    """Probabilities of one tag `[clip]`, each fold's by the line of the others: how good calibrated
    probabilities are is not told by those that the line was fitted to. NaN where there is none.
    """
    out = np.full(len(folds), np.nan)
    for here, _, line in by_fold(judged, folds, shared_slope):
        out[here] = probability(line, judged.logits[here])
    return out


def at_most(line: Line, highest: float, largest_logit: float) -> Line:
    """The line lowered, then flattened, until no logit up to the largest has a probability above
    `highest`.
    """
    top = float(logit(highest))
    low = min(line.intercept, top)
    if largest_logit <= 0 or line.slope * largest_logit + low <= top:
        return Line(line.slope, low)
    return Line(max((top - low) / largest_logit, 1e-6), min(low, top - 1e-6 * largest_logit))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean probability, share of positives, number of clips) of each non-empty bin of equal width.

    probabilities, labels (0 or 1): `[clip]`.
    """
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        (float(probabilities[here].mean()), float(labels[here].mean()), int(here.sum()))
        for here in (place == number for number in np.unique(place))
    ]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error: the mean over clips of |mean probability − share of positives| of
    their bin, of equal widths. M. P. Naeini, G. Cooper, M. Hauskrecht (2015).
    """
    rows = reliability(probabilities, labels)
    return sum(abs(mean - share) * count for mean, share, count in rows) / len(labels)
