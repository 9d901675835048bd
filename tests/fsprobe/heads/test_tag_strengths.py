"""Which tags of a fit have a strength of their own, and which share one."""

from dataclasses import replace

import numpy as np
import pytest

import fsprobe
from fsprobe.heads.cross_validation import num_positive
from fsprobe.heads.fitting import fit_tags
from fsprobe.heads.solvers.registry import SOLVERS
from tests.support.probes import objective, scikit_learn

CLIPS, DIM = 60, 8


def many_tags() -> tuple[np.ndarray, np.ndarray]:
    """256 tags: half are told by the features, which asks for a weak penalty, half are noise; the
    first and the last have two positives.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((CLIPS, DIM)).astype(np.float32)
    told = x @ rng.standard_normal((DIM, 128)) > 0
    y = np.concatenate([told, rng.random((CLIPS, 128)) < 0.5], axis=1)
    y[:, [0, -1]] = False
    y[[3, 40], 0] = y[[3, 40], -1] = True
    return x, y


def test_scarce_tags_share_one_strength_however_many_tags_there_are():
    x, y = many_tags()
    fits = fit_tags(x, y)
    assert fits.l2[0] == fits.l2[-1]
    assert np.unique(fits.l2[1:-1]).size > 1
    for tag in (0, -1):  # and are fitted at it
        labels = y[:, tag] * 1.0, ~y[:, tag] * 1.0
        theirs = objective(x, *labels, fits.l2[tag], *scikit_learn(x, *labels, fits.l2[tag]))
        mine = objective(x, *labels, fits.l2[tag], fits.head.kernel[tag], fits.head.bias[tag])
        assert mine <= theirs * (1 + 1e-5)


def test_the_shared_strength_is_chosen_by_all_tags():
    """With given clips to choose by, the order of the tags says nothing: both scarce tags beside
    the told ones, beside the noise, and one beside each.
    """
    x, y = many_tags()
    shared = []
    for order in (np.arange(256), np.roll(np.arange(256), 1), np.roll(np.arange(256), 128)):
        part = y[:, order]
        l2 = fit_tags(x[:50], part[:50], validation=(x[30:], part[30:], None)).l2
        shared += l2[np.isin(order, (0, 255))].tolist()
    assert len(shared) == 6 and len(set(shared)) == 1


def test_a_solver_with_own_strengths_is_fitted_by_its_own_path(monkeypatch):
    def path(support, real, folds, valid, settings, prior=None):
        fits = SOLVERS["lbfgs"].path(support, real, folds, valid, settings, prior)
        return fits._replace(kernel=2 * fits.kernel)

    monkeypatch.setitem(SOLVERS, "mine", replace(SOLVERS["lbfgs"], name="mine", path=path))
    x, y = many_tags()
    mine, theirs = (fsprobe.fit(x, y[:, :3], solver=name) for name in ("mine", "lbfgs"))
    np.testing.assert_allclose(mine.kernel, 2 * np.asarray(theirs.kernel), rtol=1e-5)


def test_a_solver_without_own_strengths_has_none_to_tell():
    x, y = many_tags()
    with pytest.raises(ValueError, match="solver='adam': use one of lbfgs"):
        fit_tags(x, y, solver="adam")


def test_positives_of_one_group_are_one_positive():
    """Four clips of one track are held out together: the tag shares a strength, as one of two
    clips does; of four tracks it has its own.
    """
    x, y = many_tags()
    y = y[:, [0, 1, 200, 201, 202]]  # of two clips; told by the features; three of noise
    y[:, 1] = False
    four = np.argsort(x[:, 0])[-4:]
    y[four, 1] = True
    groups = np.arange(CLIPS)
    groups[four] = four[0]
    assert list(num_positive(y, groups)[:2]) == [2, 1]
    assert list(num_positive(y, None)[:2]) == [2, 4]
    apart, together = fit_tags(x, y), fit_tags(x, y, groups=groups)
    assert apart.l2[1] != apart.l2[0]
    assert together.l2[1] == together.l2[0]
