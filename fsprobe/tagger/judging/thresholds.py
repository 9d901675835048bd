"""From probabilities to yes or no: the threshold of a tag, and what it promises.

Everything is stated for a prevalence π, which the marked clips do not tell: with the share of
positives (recall r) and of negatives (f) that lie at or above a threshold,

    precision = r·π / (r·π + f·(1 − π))        rate = r·π + f·(1 − π)        F1 from both.

A tag is only given where r is at least twice f (a positive likelihood ratio of `LEAST_RATIO`):
where scores say nothing, the best F1 would be to give it to every clip.

r and f are counted on out-of-fold scores. That no negative lies above a threshold says little where
few negatives are known, so f is (count + ½) / (negatives + 1): half a clip is always wrong.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from extract.errors import InputError
from extract.files import is_number

LEAST_RATIO = 2.0
NEVER = 1.0  # no probability reaches it: they are below 1


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen. kind: `f1` (the best F1), `precision` (the lowest with at least
    `target`), `rate` (as many clips as the prevalence says).
    """

    kind: str = "f1"
    target: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.target:g}" if self.kind == "precision" else self.kind


class Promise(NamedTuple):
    """A threshold and what it gives at the prevalence. NaN: nothing lies above it."""

    threshold: float
    precision: float
    recall: float
    f1: float


def parse_rule(text: str) -> Rule:
    """Raises InputError on anything but f1, rate and precision:NUMBER."""
    if text in ("f1", "rate"):
        return Rule(text)
    kind, _, number = text.partition(":")
    target = float(number) if kind == "precision" and is_number(number) else math.nan
    if not 0 < target < 1:
        raise InputError(
            f"`threshold={text}`: use f1, rate, or precision:NUMBER with a number between 0 and 1"
        )
    return Rule(kind, target)


def choose(
    probabilities: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    prevalence: float,
    rule: Rule,
) -> Promise:
    """The threshold of one tag. probabilities: out of fold, `[clip]`; positive, negative: weights.

    Thresholds lie half-way between two probabilities that occur. Where no threshold will do, the
    tag is never given (threshold 1).
    """
    cuts, hits, misses = _counts(probabilities, positive, negative)
    cuts = np.append((cuts[1:] + cuts[:-1]) / 2, cuts[-1] / 2)
    recall, wrong, rate, precision, f1 = rates(
        hits, misses, positive.sum(), negative.sum(), prevalence
    )
    goal = {"f1": f1, "rate": -np.abs(rate - prevalence), "precision": recall}[rule.kind]
    allowed = recall >= LEAST_RATIO * wrong
    if rule.kind == "precision":
        allowed &= precision >= rule.target
    if not allowed.any():
        return Promise(NEVER, math.nan, 0.0, 0.0)
    best = int(np.argmax(np.where(allowed, goal, -np.inf)))
    return Promise(*(float(values[best]) for values in (cuts, precision, recall, f1)))


def rates(
    hits: Any, misses: Any, positives: float, negatives: float, prevalence: float
) -> tuple[Any, ...]:
    """(recall, f, rate, precision, F1) as above, at a threshold or at each of several. hits,
    misses: positives and negatives that lie at or above it.
    """
    recall = hits / positives
    wrong = (misses + 0.5) / (negatives + 1)
    rate = recall * prevalence + wrong * (1 - prevalence)
    precision = recall * prevalence / rate
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return recall, wrong, rate, precision, f1


def _counts(
    probabilities: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(probability, positives and negatives at or above it) for each one that occurs, falling."""
    order = np.argsort(-probabilities, kind="stable")
    p = probabilities[order]
    last = np.append(p[1:] < p[:-1], True)  # of clips with equal probability
    return p[last], np.cumsum(positive[order])[last], np.cumsum(negative[order])[last]


def without_judgement(rule: Rule) -> Promise:
    """The threshold of a tag of which nothing is known out of fold: by its probability alone."""
    threshold = rule.target if rule.kind == "precision" else 0.5
    return Promise(threshold, math.nan, math.nan, math.nan)


def average_precision(
    probabilities: np.ndarray, positive: np.ndarray, negative: np.ndarray, prevalence: float
) -> float:
    """Average precision, `[clip]` → a number, as if a share `prevalence` of clips had the tag.

    With the labels' own prevalence that is scikit-learn's average_precision_score. NaN where a
    class is absent.
    """
    if not (positive.sum() > 0 and negative.sum() > 0):
        return math.nan
    _, hits, misses = _counts(probabilities, positive, negative)
    recall, wrong = hits / positive.sum(), misses / negative.sum()
    mass = recall * prevalence + wrong * (1 - prevalence)
    precision = recall * prevalence / np.where(mass > 0, mass, 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())
