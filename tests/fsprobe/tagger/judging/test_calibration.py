"""Platt scaling against scikit-learn, prevalence by Bayes' rule, calibration error by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.calibration import _SigmoidCalibration

from fsprobe.tagger.judging.calibration import (
    TOO_FEW,
    Judged,
    Line,
    at_most,
    calibrate,
    calibration_error,
    fit_lines,
    probability,
    shift,
)


def judged(positives, negatives, gap=2.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.r_[np.ones(positives), np.zeros(negatives)]
    return Judged(rng.standard_normal(len(labels)) * 2 + gap * labels - 1, labels, 1 - labels)


@pytest.mark.parametrize(("positives", "negatives"), [(12, 40), (300, 300), (15, 2000)])
def test_platt_is_scikit_learns(positives, negatives):
    data = judged(positives, negatives)
    theirs = _SigmoidCalibration().fit(data.logits, data.positive)
    (ours,) = fit_lines([data])
    # scikit-learn's probability is 1 / (1 + exp(a·z + b)); its L-BFGS stops at a gradient of 1e-5
    np.testing.assert_allclose(ours, (-theirs.a_, -theirs.b_), atol=2e-3)


def test_separable_scores_get_no_certainty():
    scores, labels = np.array([-3.0, -2.0, 2.0, 3.0]), np.array([0, 0, 1, 1.0])
    (line,) = fit_lines([Judged(scores, labels, 1 - labels)])
    p = probability(line, np.array([-3.0, 3.0]))
    # three quarters: (2 positives + 1) / (2 + 2)
    assert 0.15 < p[0] < 0.3 and 0.7 < p[1] < 0.85


@pytest.mark.parametrize("gap", [-3.0, -0.5, 0.0])
def test_the_slope_is_positive_whatever_the_scores(gap):
    (line,) = fit_lines([judged(50, 80, gap)])
    assert line.slope > 0
    flat = probability(line, np.array([-5.0, 5.0]))
    if gap < 0:  # the flattest: both close to the share of positives
        np.testing.assert_allclose(flat, 50 / 130, atol=0.02)


def test_pooled_slope_is_the_minimum_over_all_tags():
    """Targets smoothed by 15 positives and 59 negatives, all that there are."""
    tags = [judged(4, 20, 2.0, 1), judged(3, 9, 3.0, 2), judged(8, 30, 1.0, 3)]

    def loss(parameters):
        total = 0.0
        for data, b in zip(tags, parameters[1:], strict=True):
            target = np.where(data.positive > 0, 16 / 17, 1 / 61)
            z = parameters[0] * data.logits + b
            total += (np.logaddexp(0, z) - target * z).sum()
        return total

    found = minimize(loss, np.zeros(4), tol=1e-12).x
    lines = np.array(fit_lines(tags))
    np.testing.assert_allclose(lines[:, 0], found[0], rtol=1e-4)
    np.testing.assert_allclose(lines[:, 1], found[1:], rtol=1e-3)


def test_an_intercept_is_the_minimum_for_its_slope():
    data = judged(3, 9, 3.0, 2)

    def loss(b):
        z = 0.7 * data.logits + b
        return (np.logaddexp(0, z) - np.where(data.positive > 0, 4 / 5, 1 / 11) * z).sum()

    (line,) = fit_lines([data], 0.7)
    assert line.slope == 0.7
    np.testing.assert_allclose(line.intercept, minimize(loss, 0.0, tol=1e-12).x[0], rtol=1e-3)


def test_a_tag_with_too_few_takes_the_pooled_slope():
    few, enough = judged(TOO_FEW - 1, 100), judged(TOO_FEW, 100)
    line, pooled = calibrate(few, 0.123)
    assert pooled and line.slope == 0.123
    line, pooled = calibrate(enough, 0.123)
    assert not pooled and [line] == fit_lines([enough])


def test_weights_are_counts():
    data = judged(20, 30)
    twice = Judged(*(np.concatenate([part, part]) for part in data))
    heavy = Judged(data.logits, 2 * data.positive, 2 * data.negative)
    np.testing.assert_allclose(fit_lines([heavy]), fit_lines([twice]), rtol=1e-5)


@pytest.mark.parametrize(("before", "after"), [(0.2, 0.01), (5e-6, 0.01), (0.2, 1e-6)])
def test_prevalence_shift_is_bayes_rule(before, after):
    p = probability(shift(Line(1.0, 0.3), before, after), np.array([0.7]))[0]
    fitted = expit(0.7 + 0.3)
    likelihood_ratio = fitted / (1 - fitted) / (before / (1 - before))
    odds = likelihood_ratio * after / (1 - after)
    np.testing.assert_allclose(p, odds / (1 + odds))


@pytest.mark.parametrize(
    ("line", "largest"), [(Line(3.0, 1.0), 40.0), (Line(0.1, 5.0), 2.0), (Line(2.0, -1.0), -3.0)]
)
def test_at_most(line, largest):
    capped = at_most(line, 0.9, largest)
    assert capped.slope > 0
    assert probability(capped, np.linspace(-50, largest, 100)).max() <= 0.9 + 1e-12
    if largest < 0:
        assert capped == line


def test_calibration_error_by_hand():
    p = np.array([0.05, 0.05, 0.95, 1.0])
    y = np.array([0.0, 1.0, 1.0, 1.0])
    # bins: two clips of mean 0.05 and share 0.5, two of mean 0.975 and share 1
    np.testing.assert_allclose(calibration_error(p, y), (0.45 + 0.025) / 2)


def test_calibrated_scores_of_a_known_model_have_the_right_slope():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(20_000) * 3
    y = (rng.random(z.size) < expit(0.5 * z - 1)).astype(float)
    # standard errors of the two are about 0.01 and 0.03 at 20,000 clips
    np.testing.assert_allclose(fit_lines([Judged(z, y, 1 - y)]), [(0.5, -1)], atol=0.09)
