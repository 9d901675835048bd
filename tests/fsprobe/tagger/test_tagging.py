"""Scores of a whole store against plain NumPy; resumed runs equal uninterrupted ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from extract.errors import InputError
from extract.store import open_store
from fsprobe.tagger.matching import parts_of
from fsprobe.tagger.partial_files import RECORD, PartialFiles
from fsprobe.tagger.tagging import BLOCK, items_by_clip, items_by_track, tag_items
from tests.support.fake_tagger import make, random_tagger, write_store


def by_hand(tagger, features):
    """float64 `[clip, tag]`: sigmoid(a · logit + b), as the file's contract says."""
    logits = features.astype(np.float64) @ tagger.kernel.T.astype(np.float64) + tagger.bias
    a, b = tagger.calibration.astype(np.float64).T
    return np.minimum(expit(a * logits + b), tagger.highest)


def triples(records):
    return [(int(r["item"]), int(r["tag"])) for r in records]


def test_thresholds_are_applied_and_the_best_tag_comes_first(tmp_path):
    tagger, parts = make(tmp_path / "s", tuple("abcdef"))
    p = by_hand(tagger, np.asarray(parts[0].store.features))
    found = tag_items(tagger, parts, items_by_clip(parts), 0, tmp_path / "w", {})
    expected = [
        (i, t) for i in range(50) for t in np.argsort(-p[i]) if p[i, t] >= tagger.threshold[t]
    ]
    assert triples(found) == expected
    np.testing.assert_allclose(found["probability"], [p[i, t] for i, t in expected], rtol=1e-5)


@pytest.mark.parametrize("top", [1, 3, 100])
def test_top(tmp_path, top):
    tags = tuple(f"t{i}" for i in range(20))
    tagger, parts = make(tmp_path / "s", tags)
    p = by_hand(tagger, np.asarray(parts[0].store.features))
    found = tag_items(tagger, parts, items_by_clip(parts), top, tmp_path / "w", {})
    best = np.argsort(-p, axis=1)[:, :top]
    assert triples(found) == [(i, t) for i in range(50) for t in best[i]]


def test_all_scores_in_the_stores_and_the_taggers_order(tmp_path):
    features = np.random.default_rng(0).standard_normal((40, 5))
    status = np.ones(40, np.uint8)
    status[[3, 39]] = 0, 2
    features[3] = np.nan
    stores = {"s": open_store(write_store(tmp_path / "s", features, status=status))}
    parts = parts_of(stores, "s")
    tagger = random_tagger(tuple("abc"), parts)
    path = tmp_path / "scores.npy"
    found = tag_items(tagger, parts, items_by_clip(parts), 0, tmp_path / "w", {}, path)
    scores = np.load(path)
    assert scores.dtype == np.float32 and scores.shape == (40, 3)
    assert np.isnan(scores[[3, 39]]).all() and not {3, 39} & set(found["item"].tolist())
    done = status == 1
    np.testing.assert_allclose(
        scores[done], by_hand(tagger, features[done].astype(np.float32)), rtol=1e-5
    )


@pytest.mark.parametrize("by", ["clip", "track"])
@pytest.mark.parametrize("unfinished", [slice(0, BLOCK), slice(BLOCK, None), slice(None)])
def test_a_block_without_a_finished_clip_has_no_tags(tmp_path, by, unfinished):
    features = np.random.default_rng(0).standard_normal((2 * BLOCK, 2))
    status = np.ones(len(features), np.uint8)
    status[unfinished] = 2
    stores = {"s": open_store(write_store(tmp_path / "s", features, status=status))}
    parts = parts_of(stores, "s")
    tagger = random_tagger(tuple("abc"), parts)
    items = items_by_clip(parts) if by == "clip" else items_by_track(parts, {})
    path = tmp_path / "scores.npy"
    found = tag_items(tagger, parts, items, 1, tmp_path / "w", {}, path)
    done = np.flatnonzero(status == 1)
    np.testing.assert_array_equal(found["item"], done)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(np.load(path)).all(axis=1)), done)


def test_several_stores_are_joined_by_clip_id(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    ids = tuple(f"c{i}" for i in range(30))
    order = rng.permutation(30)[:-1]
    stores = {
        "x": open_store(write_store(tmp_path / "x", x, ids)),
        "y": open_store(write_store(tmp_path / "y", y[order], tuple(ids[i] for i in order))),
    }
    parts = parts_of(stores, "combined")
    tagger = random_tagger(tuple("abc"), parts)
    path = tmp_path / "scores.npy"
    tag_items(tagger, parts, items_by_clip(parts), 0, tmp_path / "w", {}, path)
    # the stand-in's framenorm array is the negated features
    expected = by_hand(tagger, -np.concatenate([x, y], axis=1).astype(np.float32))
    expected[np.setdiff1d(np.arange(30), order)] = np.nan
    np.testing.assert_allclose(np.load(path), expected, rtol=1e-5)


def test_tracks_pool_the_probabilities_of_their_clips(tmp_path):
    tagger, parts = make(tmp_path / "s", tuple("abcd"), clips=30)
    ids = parts[0].store.clip_ids
    tracks = {clip: ("", "red", "blue")[i % 3] for i, clip in enumerate(ids)}
    items = items_by_track(parts, tracks)
    p = by_hand(tagger, np.asarray(parts[0].store.features))
    names = [ids[0], "red", "blue", *(ids[i] for i in range(3, 30, 3))]
    assert list(items.names) == names
    path = tmp_path / "scores.npy"
    tag_items(tagger, parts, items, 2, tmp_path / "w", {}, path)
    rows = [
        p[[i for i, clip in enumerate(ids) if (tracks[clip] or clip) == name]].mean(axis=0)
        for name in names
    ]
    np.testing.assert_allclose(np.load(path), rows, rtol=1e-5)


def test_a_clip_alone_is_not_called_as_a_track(tmp_path):
    _, parts = make(tmp_path / "s", clips=3)
    with pytest.raises(InputError, match="'c0001' is a track, and a clip without"):
        items_by_track(parts, {"c0000": "c0001", "c0001": "", "c0002": "c0001"})
    assert items_by_track(parts, {"c0000": "c0001", "c0001": "c0001"}).names == ["c0001", "c0002"]


def test_what_a_killed_run_of_other_options_left_is_not_taken_for_one_s_own(tmp_path):
    """It had cut the records, and was killed before its first mark: the older mark fitted again."""

    def begin(top):
        return PartialFiles(tmp_path / "w", {"top": top, "items": 10}, None, (10, 2))

    with pytest.raises(InputError), begin(1) as first:
        first.add(np.zeros(3, RECORD), 3)
        raise InputError("stopped")
    assert begin(1).next_item == 3
    killed = begin(2)
    assert killed.next_item == 0
    killed.add(np.ones(4, RECORD), 2)
    killed.file.flush()
    assert begin(1).next_item == 0


def test_two_runs_that_are_to_write_the_same_scores_keep_their_rows_apart(tmp_path):
    """The second overwrote the rows of the first, which was stopped and went on after it."""
    path = tmp_path / "s.npy"

    def begin(work, value, first, last):
        with PartialFiles(tmp_path / work, {"items": 10}, path, (10, 2)) as run:
            assert run.next_item == first and run.scores is not None
            run.scores[first:last] = value
            run.add(np.zeros(0, RECORD), last)
            if last < 10:
                raise InputError("stopped")
            run.finish()

    for work, value in (("a", 1.0), ("b", 2.0)):
        with pytest.raises(InputError):
            begin(work, value, 0, 5)
    begin("a", 1.0, 5, 10)
    np.testing.assert_array_equal(np.load(path), 1.0)


def test_no_probability_above_what_the_tagger_allows(tmp_path):
    tagger, parts = make(tmp_path / "s", tuple("ab"))
    tagger = replace(
        tagger,
        bias=tagger.bias + 30,
        training={"a": {"highest_probability": 0.9}, "b": {}},
    )
    path = tmp_path / "scores.npy"
    found = tag_items(tagger, parts, items_by_clip(parts), 2, tmp_path / "w", {}, path)
    scores = np.load(path)
    assert scores[:, 0].max() <= np.float32(0.9) and 0.9 < scores[:, 1].max() < 1
    assert found["probability"][found["tag"] == 0].max() <= np.float32(0.9)
    again = tag_items(tagger, parts, items_by_clip(parts), 2, tmp_path / "w2", {})
    np.testing.assert_allclose(again["probability"], found["probability"], rtol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("highest", [1.0, 0.9])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_names_the_clip(tmp_path, value, highest):
    features = np.random.default_rng(0).standard_normal((9000, 5))
    features[8123, 2] = value
    stores = {"s": open_store(write_store(tmp_path / "s", features))}
    parts = parts_of(stores, "s")
    training = {"a": {"highest_probability": highest}}
    with pytest.raises(InputError, match="'c8123'"):
        tag_items(
            random_tagger(("a",), parts, training=training),
            parts,
            items_by_clip(parts),
            0,
            tmp_path / "w",
            {},
        )


@pytest.mark.parametrize("by", ["clip", "track"])
def test_a_stopped_run_goes_on_and_equals_one_that_was_not(tmp_path, by):
    """A NaN stops the run at its block; mended, the run goes on after the marked blocks."""
    count = 300_000
    features = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)
    path = write_store(tmp_path / "s", features)
    broken = features.copy()
    broken[250_000] = np.nan
    np.save(path / "features.npy", broken)

    def run(work, fingerprint=None):
        parts = parts_of({"s": open_store(path)}, "s")
        tagger = random_tagger(tuple("abc"), parts)
        tracks = {clip: clip[:-1] for clip in parts[0].store.clip_ids}
        items = items_by_clip(parts) if by == "clip" else items_by_track(parts, tracks)
        scores = tmp_path / f"{work}.npy"
        found = tag_items(tagger, parts, items, 0, tmp_path / work, fingerprint or {}, scores)
        return found, np.load(scores)

    with pytest.raises(InputError):
        run("stopped")
    assert not (tmp_path / "stopped.npy").exists()
    mark = json.loads((tmp_path / "stopped" / "progress.json").read_text())
    assert mark["next_item"] > 10_000
    # what lies after the mark is of no use, and what lies before is not read again
    with (tmp_path / "stopped" / "records.bin").open("ab") as file:
        file.write(b"half a rec")
    mended = features.copy()
    mended[:100] = np.nan
    np.save(path / "features.npy", mended)
    resumed = run("stopped")
    np.save(path / "features.npy", features)
    straight = run("straight")
    np.testing.assert_array_equal(resumed[0], straight[0])
    np.testing.assert_array_equal(resumed[1], straight[1])


def test_partial_files_of_another_run_are_not_used(tmp_path):
    tagger, parts = make(tmp_path / "s")
    items = items_by_clip(parts)
    first = tag_items(tagger, parts, items, 1, tmp_path / "w", {"run": 1})
    again = tag_items(tagger, parts, items, 1, tmp_path / "w", {"run": 1})
    np.testing.assert_array_equal(first, again)
    other = replace(tagger, bias=tagger.bias[::-1].copy() * 9)
    kept = tag_items(other, parts, items, 1, tmp_path / "w", {"run": 1})
    np.testing.assert_array_equal(first, kept)  # all had been done
    anew = tag_items(other, parts, items, 1, tmp_path / "w", {"run": 2})
    assert not np.array_equal(anew, first)
