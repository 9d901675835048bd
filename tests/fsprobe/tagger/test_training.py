"""Training end to end on generated clips: what is promised, and what is never promised."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from extract.errors import InputError
from extract.manifest import Manifest
from fsprobe.tagger.judging.thresholds import Rule
from fsprobe.tagger.labelled import Labelled
from fsprobe.tagger.training import TrainConfig, tagger_of, train
from tests.support.plain_fit import fit_heads


def clips(count=300, dim=12, tags=4, per_track=3, seed=0, shares=(0.4, 0.3, 0.2, 0.1), **fields):
    """Labels by a linear model with noise; the clips of a track are near copies."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99).standard_normal((tags, dim))
    tracks = rng.standard_normal((count // per_track, dim))
    features = np.repeat(tracks, per_track, axis=0) + 0.1 * rng.standard_normal((count, dim))
    clean = np.repeat(tracks @ truth.T + rng.standard_normal((len(tracks), tags)) * 2, per_track, 0)
    bars = [np.quantile(clean[:, tag], 1 - shares[tag]) for tag in range(tags)]
    positive = (clean > bars).astype(np.float32)
    known = {
        "tags": tuple(f"t{i}" for i in range(tags)),
        "clip_ids": tuple(f"c{i}" for i in range(count)),
        "features": features.astype(np.float32),
        "positive": positive,
        "negative": 1 - positive,
        "units": np.repeat(np.arange(len(tracks)), per_track),
    }
    return Labelled(**(known | fields))


FAST = TrainConfig()


def probabilities(rows, features):
    z = features @ rows.kernel.T + rows.bias
    return expit(rows.calibration[:, 0] * z + rows.calibration[:, 1])


def test_what_is_promised_holds_on_new_tracks():
    rows = train(clips(), fit_heads, FAST)
    new = clips(30_000, seed=1)
    p = probabilities(rows, new.features)
    for tag, name in enumerate(rows.tags):
        record, labels = rows.training[name], new.positive[:, tag]
        low, high = record["roc_auc_interval"]
        assert low <= roc_auc_score(labels, p[:, tag]) <= high
        assert record["positives"] + record["negatives"] == 300
        assert record["tracks"] * 3 == record["positives"]
        # the share of positives is estimated from 100 tracks: ± 0.1 is two standard errors
        assert abs(p[:, tag].mean() - labels.mean()) < 0.1
        assert 0 < rows.threshold[tag] < 1 and rows.calibration[tag, 0] > 0
    json.dumps(rows.training, allow_nan=False)


def test_near_copies_are_no_evidence():
    """Random labels per track: judged by clip they look learnable, by track they do not."""
    rng = np.random.default_rng(3)
    labelled = clips(240, dim=80, per_track=4, tags=1, shares=(0.5,))
    random = np.repeat(rng.random(60) < 0.5, 4)[:, None].astype(np.float32)
    labelled = labelled._replace(positive=random, negative=1 - random)
    whole = train(labelled, fit_heads, FAST).training["t0"]["roc_auc"]
    split = train(labelled._replace(units=np.arange(240)), fit_heads, FAST).training["t0"]
    assert split["roc_auc"] > 0.9 and whole < 0.7


@pytest.mark.parametrize("prevalence", ["labels", 0.02, {"t0": 0.5}])
def test_one_positive_cannot_be_judged_and_is_never_sure(prevalence):
    labelled = clips(90, tags=1, shares=(0.5,))
    alone = np.zeros_like(labelled.positive)
    alone[7] = 1
    labelled = labelled._replace(positive=alone, negative=1 - alone)
    for rule in (Rule("f1"), Rule("precision", 0.9), Rule("rate")):
        rows = train(labelled, fit_heads, replace(FAST, prevalence=prevalence, rule=rule))
        record = rows.training["t0"]
        assert record["verdict"].startswith("cannot be judged: 1 yes")
        assert record["roc_auc"] is None and record["roc_auc_interval"] == [0, 1]
        assert record["highest_probability"] == 0.9
        assert probabilities(rows, labelled.features).max() <= 0.9
        if rule.kind == "precision":
            assert rows.threshold[0] >= 0.9


def test_a_slope_is_stored_only_if_a_tag_could_be_judged():
    labelled = clips(90, tags=2, shares=(0.5, 0.5))
    alone = np.zeros_like(labelled.positive)
    alone[7] = 1
    manifest = Manifest(labelled.clip_ids, ("",) * 90, ("train",) * 90, ((),) * 90)
    nobody = train(labelled._replace(positive=alone, negative=1 - alone), fit_heads, FAST)
    assert nobody.pooled_slope is None
    assert "pooled_slope" not in tagger_of(nobody, [], "mine", manifest).shared
    alone[:, 1] = labelled.positive[:, 1]
    one = train(labelled._replace(positive=alone, negative=1 - alone), fit_heads, FAST)
    assert one.pooled_slope > 0 and one.training["t0"]["roc_auc"] is None
    assert tagger_of(one, [], "mine", manifest).shared == {"pooled_slope": one.pooled_slope}
    given = train(labelled, fit_heads, FAST, pooled_slope=0.25)
    assert given.pooled_slope == 0.25


def test_many_clips_of_one_track_cannot_be_judged_either():
    labelled = clips(90, tags=1, shares=(0.5,))
    one_track = np.zeros_like(labelled.positive)
    one_track[:3] = 1
    rows = train(labelled._replace(positive=one_track, negative=1 - one_track), fit_heads, FAST)
    assert rows.training["t0"]["verdict"].startswith("cannot be judged: 3 yes of one track")


def test_few_examples_pool_the_slope_and_say_so():
    labelled = clips(shares=(0.4, 0.3, 0.2, 0.02))
    rows = train(labelled, fit_heads, FAST)
    few, many = rows.training["t3"], rows.training["t0"]
    assert few["slope"] == "pooled" and many["slope"] == "own"
    assert "needs more examples: 6 yes, interval" in few["verdict"]
    np.testing.assert_allclose(rows.calibration[3, 0], rows.pooled_slope, rtol=1e-6)


def test_unknown_labels_teach_nothing():
    """Clips unknown for a tag leave its row as if they were not there."""
    labelled = clips(tags=1, shares=(0.4,))
    unknown = labelled.units % 5 == 0
    masked = labelled._replace(
        positive=np.where(unknown[:, None], 0, labelled.positive),
        negative=np.where(unknown[:, None], 0, labelled.negative),
    )
    shown = Labelled(
        labelled.tags,
        tuple(np.array(labelled.clip_ids)[~unknown]),
        *(column[~unknown] for column in labelled[2:]),
    )
    config = replace(FAST, l2=0.5)
    a, b = train(masked, fit_heads, config), train(shown, fit_heads, config)
    np.testing.assert_allclose(a.kernel, b.kernel, rtol=1e-4, atol=1e-6)
    assert a.training["t0"]["positives"] == b.training["t0"]["positives"]


def test_prevalence_moves_probabilities_not_the_ranking():
    labelled = clips()
    of_labels = train(labelled, fit_heads, FAST)
    rare = train(labelled, fit_heads, replace(FAST, prevalence=0.01))
    common = train(labelled, fit_heads, replace(FAST, prevalence=dict.fromkeys(labelled.tags, 0.6)))
    np.testing.assert_array_equal(of_labels.kernel, rare.kernel)
    np.testing.assert_array_equal(of_labels.calibration[:, 0], rare.calibration[:, 0])
    p = [probabilities(rows, labelled.features).mean() for rows in (rare, of_labels, common)]
    assert p[0] < p[1] < p[2]
    assert rare.training["t0"]["prevalence_from"] == "given"
    assert rare.training["t0"]["average_precision"] < common.training["t0"]["average_precision"]
    assert rare.training["t0"]["roc_auc"] == common.training["t0"]["roc_auc"]
    with pytest.raises(InputError, match="'t1'"):
        train(labelled, fit_heads, replace(FAST, prevalence={"t0": 0.5}))


def test_a_tags_row_does_not_depend_on_the_others():
    labelled = clips()
    config = replace(FAST, l2=0.5)
    together = train(labelled, fit_heads, config)
    folds = together.held_out.folds
    alone = train(
        labelled._replace(
            tags=("t1",), positive=labelled.positive[:, 1:2], negative=labelled.negative[:, 1:2]
        ),
        fit_heads,
        config,
    )
    np.testing.assert_allclose(alone.kernel[0], together.kernel[1], rtol=1e-6)
    assert len(folds) == 300
