from dataclasses import replace

import numpy as np
import pytest

from extract.errors import InputError
from fsprobe.tagger.changes import compare, remove, rename, slope_for, update
from fsprobe.tagger.file import TENSORS
from fsprobe.tagger.judging.out_of_fold import OutOfFold
from fsprobe.tagger.options import parse_renames
from fsprobe.tagger.training import Rows
from tests.support.fake_tagger import make


@pytest.fixture
def tagger_and_stores(tmp_path):
    tagger, (part,) = make(tmp_path / "s", tuple("abcd"))
    return tagger, {"s": part.store}


def rows_of(tagger, tags, seed=9, pooled_slope=1.0):
    rng = np.random.default_rng(seed)
    new = {
        "kernel": rng.standard_normal((len(tags), tagger.kernel.shape[1])).astype(np.float32),
        "bias": rng.standard_normal(len(tags)).astype(np.float32),
        "calibration": np.tile(np.float32([1, 0]), (len(tags), 1)),
        "threshold": np.full(len(tags), 0.5, np.float32),
    }
    nothing = OutOfFold(np.empty((0, 0)), np.empty(0))
    return Rows(
        tuple(tags),
        **new,
        training={t: {"positives": 8} for t in tags},
        pooled_slope=pooled_slope,
        held_out=nothing,
    )


def same_rows(one, other, tags):
    return all(
        getattr(one, name)[one.tags.index(tag)].tobytes()
        == getattr(other, name)[other.tags.index(tag)].tobytes()
        for name in TENSORS
        for tag in tags
    )


def test_update_leaves_every_other_row_byte_for_byte_the_same(tagger_and_stores):
    tagger, _ = tagger_and_stores
    rows = rows_of(tagger, ("new", "b"))
    grown = update(tagger, rows)
    assert grown.tags == ("a", "b", "c", "d", "new")
    assert same_rows(tagger, grown, "acd")
    np.testing.assert_array_equal(grown.kernel[[4, 1]], rows.kernel)
    assert grown.training["b"] == {"positives": 8} and grown.training["a"] == {"positives": 3}


def test_a_pooled_slope_stays_as_long_as_a_row_that_has_it(tagger_and_stores):
    tagger, _ = tagger_and_stores
    assert slope_for(tagger, ("new",)) is None  # the tagger has none: the rows' own is stored
    judged = update(tagger, rows_of(tagger, ("new",), pooled_slope=3.0))
    assert judged.shared == {"pooled_slope": 3.0}
    assert slope_for(judged, ("a", "b", "c", "new")) == 3.0
    assert slope_for(judged, (*judged.tags, "newer")) is None
    for found, stored in ((2.0, {"pooled_slope": 2.0}), (None, {})):
        again = update(judged, rows_of(judged, judged.tags, pooled_slope=found))
        assert again.shared == stored


def test_remove_and_rename(tagger_and_stores):
    tagger, _ = tagger_and_stores
    less = remove(tagger, ["b"])
    assert less.tags == tuple("acd") and same_rows(tagger, less, "acd") and "b" not in less.training
    named = rename(tagger, {"a": "b", "b": "a"})
    assert named.tags == tuple("bacd")
    np.testing.assert_array_equal(named.kernel, tagger.kernel)
    for wrong in (lambda: remove(tagger, ["z"]), lambda: remove(tagger, list("abcd"))):
        with pytest.raises(InputError):
            wrong()
    for name in ("b", "", " ", "x|y", " x", "x\n", "x||"):
        with pytest.raises(InputError):
            rename(tagger, {"a": name})
    for wrong in (["z=y"], ["a"], ["a=x", "a=y"]):
        with pytest.raises(InputError, match="--rename="):
            parse_renames(wrong, tagger.tags)


def test_compare_says_which_tags_changed_and_by_how_much(tagger_and_stores):
    tagger, stores = tagger_and_stores
    other = update(remove(tagger, ["d"]), rows_of(tagger, ("new",)))
    bias = other.bias.copy()
    bias[1] += 1
    other = replace(other, bias=bias)
    found = {d.tag: d for d in compare(tagger, other, stores)}
    assert {tag: d.state for tag, d in found.items()} == {
        "a": "same",
        "b": "changed",
        "c": "same",
        "new": "added",
        "d": "removed",
    }
    x = np.asarray(stores["s"].features)
    z = x @ tagger.kernel[1] + tagger.bias[1]
    a, b = tagger.calibration[1]
    p, q = (1 / (1 + np.exp(-(a * v + b))) for v in (z, z + 1))
    np.testing.assert_allclose(found["b"][2:4], (abs(p - q).mean(), abs(p - q).max()), rtol=1e-4)
    cut = tagger.threshold[1]
    np.testing.assert_allclose(found["b"].flipped, ((p >= cut) != (q >= cut)).mean())
    assert np.isnan(compare(tagger, other)[1].mean)
