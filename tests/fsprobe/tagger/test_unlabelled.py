"""Unlabelled clips in a tagger's training: which they are, their weights, what is held out."""

from dataclasses import replace

import numpy as np
import pytest

from extract.manifest import Manifest, write_manifest
from extract.store import open_store
from fsprobe.heads.cross_validation import FOLDS, assign_folds
from fsprobe.heads.fitting import STRENGTHS
from fsprobe.listening import refit
from fsprobe.tagger.file import read_tagger
from fsprobe.tagger.fitting import fit_heads
from fsprobe.tagger.judging.out_of_fold import Fitted
from fsprobe.tagger.labelled import clips_to_train_on, load, without_missing
from fsprobe.tagger.matching import parts_of
from fsprobe.tagger.unlabelled import NEVER_HELD_OUT, load_rest, with_unlabelled
from tests.support.fake_tagger import write_store
from tests.support.plain_fit import fit_heads as plain_fit

COUNT = 40


@pytest.fixture
def catalogue(tmp_path):
    """(manifest, parts): 24 clips of split train, 8 of test, 8 of none; tracks of two clips; of
    the first two nothing is known.
    """
    rng = np.random.default_rng(0)
    ids = tuple(f"c{row:04}" for row in range(COUNT))
    yes = rng.random(COUNT) < 0.5
    x = rng.standard_normal((COUNT, 4)) + 2 * yes[:, None]
    status = np.ones(COUNT, np.uint8)
    status[39] = 0  # not extracted
    write_store(tmp_path / "a", x, ids, status)
    write_store(tmp_path / "b", x[:, ::-1], ids, status)
    known = [2 <= row < 32 for row in range(COUNT)]
    manifest = Manifest(
        ids,
        ("",) * COUNT,
        ("train",) * 24 + ("test",) * 8 + ("",) * 8,
        tuple(("rock",) if y and k else () for y, k in zip(yes, known, strict=True)),
        tracks=tuple(f"t{row // 2}" for row in range(COUNT)),
        not_tags=tuple(("rock",) if k and not y else () for y, k in zip(yes, known, strict=True)),
    )
    write_manifest(tmp_path / "m.csv", manifest)
    stores = {name: open_store(tmp_path / name) for name in "ab"}
    return manifest, parts_of(stores, "a")


def test_which_clips_are_unlabelled(catalogue):
    manifest, parts = catalogue
    for split, more in (("train", ()), ("all", ())):
        data = load(clips_to_train_on(manifest, split), parts, ["rock"])
        rest = load_rest(manifest, split, data, parts)
        assert rest.clip_ids == ("c0000", "c0001", *(f"c{row:04}" for row in range(32, 39)), *more)
        assert rest.features.shape == (9, 4) and len(rest.labelled_units) == len(data.clip_ids)


def recording():
    """A fit that notes what it is given."""
    calls = []

    def fit(features, positive, negative, units, l2):
        calls.append((features, positive, negative, units))
        kernel = np.array([[9.0, 0, 0, 0]], np.float32)
        return Fitted(kernel, np.zeros(1, np.float32), np.ones(1))

    return fit, calls


def test_clips_of_tracks_that_are_held_out_are_left_out(catalogue):
    manifest, parts = catalogue
    manifest = Manifest(
        manifest.clip_ids,
        manifest.paths,
        manifest.splits,
        manifest.tags,
        tracks=tuple("shared" if row in (5, 35) else t for row, t in enumerate(manifest.tracks)),
        not_tags=manifest.not_tags,
    )
    data = load(clips_to_train_on(manifest, "train"), parts, ["rock"])
    rest = load_rest(manifest, "train", data, parts)
    fit, calls = recording()
    more = with_unlabelled(fit, rest, "weak_negatives", 0.5)
    place = data.clip_ids.index("c0005")
    positive, negative = data.positive.copy(), data.negative.copy()
    positive[place] = negative[place] = 0  # as out_of_fold holds it out
    more(data.features, positive, negative, data.units, "auto")
    features, _, no, units = calls[0]
    count = len(data.clip_ids)
    assert features.shape == (count + 9, 4) and len(units) == count + 9
    expected = np.full(9, 0.5 * (count - 1) / 8)
    expected[rest.clip_ids.index("c0035")] = 0
    np.testing.assert_allclose(no[count:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(no[:count], negative)


def test_strengths_are_chosen_by_the_labelled_clips_alone():
    """By hand: folds over the labelled clips, the unlabelled ones in every fit. The second tag has
    two labelled positives: with pseudo-positives too it has no strength of its own.
    """
    rng = np.random.default_rng(1)
    labelled, count, dim = 30, 90, 5
    x = rng.standard_normal((count, dim)).astype(np.float32)
    yes = np.stack([x[:, 0] + rng.standard_normal(count) > 0.3, x[:, 1] > 0.5], axis=1)
    yes = yes.astype(np.float32)
    yes[:labelled, 1] = np.arange(labelled) % 15 == 0
    weight = np.where(np.arange(count) < labelled, 1.0, 0.5)[:, None].astype(np.float32)
    yes, no = weight * yes, weight * (1 - yes)
    units = np.where(np.arange(count) < labelled, np.arange(count) // 2, NEVER_HELD_OUT)
    folds = np.full(count, -1)
    folds[:labelled] = assign_folds(yes[:labelled], units[:labelled])
    spread = x.var(axis=0).sum()
    losses = np.zeros((len(STRENGTHS), 2))
    for row, strength in enumerate(STRENGTHS):
        for fold in range(FOLDS):
            seen, held = (folds != fold)[:, None], folds == fold
            part = plain_fit(x, yes * seen, no * seen, l2=strength * spread)
            z = x[held] @ part.kernel.T + part.bias
            losses[row] += np.sum(np.logaddexp(0, z) - yes[held] * z, axis=0)
    best = [losses[:, 0].argmin(), losses.sum(axis=1).argmin()]
    found = fit_heads(x, yes, no, units, "auto").strengths
    np.testing.assert_allclose(found, np.array(STRENGTHS)[best] * spread, rtol=1e-4)
    assert losses[:, 1].argmin() != best[1]  # its own choice would show


def test_unlabelled_clips_are_never_held_out(catalogue):
    manifest, parts = catalogue
    data = load(clips_to_train_on(manifest, "train"), parts, ["rock"])
    rest = load_rest(manifest, "train", data, parts)
    fit, calls = recording()
    with_unlabelled(fit, rest, "weak_negatives", 1.0)(
        data.features, data.positive, data.negative, data.units, "auto"
    )
    units, count = calls[0][3], len(data.clip_ids)
    np.testing.assert_array_equal(units[:count], rest.labelled_units)
    assert (units[count:] == NEVER_HELD_OUT).all()


def test_a_teacher_may_learn_on_other_features(catalogue):
    manifest, parts = catalogue
    data = load(clips_to_train_on(manifest, "train"), parts, ["rock"])
    rest = load_rest(manifest, "train", data, parts)
    fit, calls = recording()
    theirs = np.linspace(-1, 1, 9)[:, None] * np.ones((9, 4))
    teacher = (np.zeros((len(data.clip_ids), 4)), theirs)
    with_unlabelled(fit, rest, "self_training", 1.0, teacher)(
        data.features, data.positive, data.negative, data.units, "auto"
    )
    assert calls[0][0] is teacher[0]
    yes, no = calls[1][1][-9:, 0], calls[1][2][-9:, 0]
    p = 1 / (1 + np.exp(-9 * theirs[:, 0]))
    np.testing.assert_array_equal(yes > 0, p >= 0.9)
    np.testing.assert_array_equal(no > 0, p <= 0.1)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("weak_negatives",), marks=pytest.mark.slow),
        pytest.param(("self_training",), marks=pytest.mark.slow),
        ("self_training", "--teacher=b"),
    ],
)
def test_by_the_command(commands, tmp_path, catalogue, flags):
    out = tmp_path / "t.safetensors"
    done = commands.run(
        *("fsprobe.train", f"--manifest={tmp_path / 'm.csv'}"),
        *(f"--store=a={tmp_path / 'a'}", f"--store=b={tmp_path / 'b'}", "--embedding=a"),
        *(f"--out={out}", f"--unlabelled={flags[0]}", *flags[1:], "--l2=0.1"),
    )
    assert done.returncode == 0, done.stderr
    assert f"9 unlabelled clips: {flags[0]}" in done.stdout
    record = read_tagger(out).training["rock"]
    assert record["positives"] + record["negatives"] == 30


def test_a_clip_of_which_nothing_is_known_still_joins_two_tracks(catalogue):
    """Clip 1 is of the group of clip 5: neither side of a judgement may have their tracks apart."""
    manifest, parts = catalogue
    tracks = ("t", "t1", "t1", *(f"t{row}" for row in range(3, COUNT)))
    groups = tuple("g" if row in (1, 5) else "" for row in range(COUNT))
    data = load(
        clips_to_train_on(replace(manifest, tracks=tracks, groups=groups), "all"), parts, ["rock"]
    )
    units = dict(zip(data.clip_ids, data.units.tolist(), strict=True))
    assert "c0001" not in units and units["c0002"] == units["c0005"]
    assert sorted(set(units.values())) == list(range(len(units) - 1))


@pytest.mark.parametrize("lost", ["split", "features"])
def test_a_clip_that_is_not_trained_on_still_joins_two_tracks(catalogue, lost):
    """Clip 3, of the track of clip 2, is of the group of clip 5, and without a split or features."""
    manifest, parts = catalogue
    groups = tuple("g" if row in (3, 5) else "" for row in range(COUNT))
    splits = tuple("" if (row, lost) == (3, "split") else "train" for row in range(COUNT))
    if lost == "features":
        parts[0].store.status[3] = 0
    clips = clips_to_train_on(replace(manifest, groups=groups, splits=splits), "all")
    data = load(without_missing(clips, parts, drop=True)[0], parts, ["rock"])
    units = dict(zip(data.clip_ids, data.units.tolist(), strict=True))
    assert "c0003" not in units and units["c0002"] == units["c0005"]


def test_heads_fitted_again_keep_them_together_too(catalogue, monkeypatch):
    """Of the tags asked about nothing is known of clip 1, nor of any tag."""
    manifest, parts = catalogue
    groups = tuple("g" if row in (1, 5) else "" for row in range(COUNT))
    tracks = ("t", "t1", "t1", *(f"t{row}" for row in range(3, COUNT)))
    seen = []
    monkeypatch.setattr(refit, "train", lambda data, *_: seen.append(data))
    monkeypatch.setattr(refit, "tagger_of", lambda *_: None)
    refit.refit(replace(manifest, tracks=tracks, groups=groups), parts, {}, ["rock"])
    units = dict(zip(seen[0].clip_ids, seen[0].units.tolist(), strict=True))
    assert "c0001" not in units and units["c0002"] == units["c0005"]
