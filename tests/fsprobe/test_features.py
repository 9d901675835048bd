"""Features found by clip_id, and everything that can be wrong with them."""

from dataclasses import replace

import numpy as np
import pytest

from extract.errors import InputError
from fsprobe.features import (
    load_features,
    load_standardized,
    missing_clips,
    open_stores,
    stores_of,
    width,
)
from fsprobe.labels import tag_labels, tag_pool, track_codes
from tests.support import tiny


@pytest.fixture
def data(tmp_path):
    clips = tiny.write_data(tmp_path)
    return clips, {"good": tmp_path / "good", "poor": tmp_path / "poor"}


def test_rows_follow_the_manifest(data):
    clips, stores = data
    shuffled = clips.take(np.random.default_rng(0).permutation(len(clips)).tolist())
    expected = dict(zip(clips.clip_ids, tiny.features(clips), strict=True))
    got = load_features(stores, shuffled, "good")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [expected[clip] for clip in shuffled.clip_ids])


def test_combined_concatenates_standardised_rows_in_order(data):
    clips, stores = data
    got = load_features(stores, clips, "combined")
    parts = [tiny.features(clips), tiny.features(clips, dim=5, noise=2.0, seed=1)]
    expected = [(part - part.mean(1, keepdims=True)) / part.std(1, keepdims=True) for part in parts]
    np.testing.assert_allclose(got, np.hstack(expected), rtol=1e-5, atol=1e-6)  # float32 division
    swapped = load_features(dict(reversed(stores.items())), clips, "combined")
    np.testing.assert_array_equal(swapped, np.hstack([got[:, 12:], got[:, :12]]))


def test_standardised_by_all_training_clips_or_by_frame(data):
    clips, paths = data
    stores = open_stores(paths)
    used = clips.take(
        range(0, len(clips), 2)
    )  # what some grid needs; the statistics are of all training clips
    train = tiny.features(clips)[[split == "train" for split in clips.splits]].astype(np.float64)
    expected = (tiny.features(clips)[::2] - train.mean(axis=0)) / train.std(axis=0)
    np.testing.assert_allclose(
        load_standardized(stores, clips, used, "good", "train").features, expected, atol=1e-5
    )
    np.testing.assert_array_equal(
        load_standardized(stores, clips, used, "good", "frame").features,
        load_features(stores, used, "good", framenorm=True),
    )
    np.testing.assert_array_equal(
        load_standardized(stores, clips, used, "good", "none").features,
        load_features(stores, used, "good"),
    )


def test_a_constant_dimension_becomes_zero(tmp_path):
    clips = tiny.manifest()
    array = tiny.features(clips)
    array[:, 3] = 0.1  # in the training clips
    array[np.array(clips.splits) != "train", 3] = np.arange(60)
    stores = open_stores({"x": tiny.write_store(tmp_path / "x", clips.clip_ids, array)})
    got = load_standardized(stores, clips, clips, "x", "train").features
    np.testing.assert_allclose(got[:, 3], 0, atol=1e-6)
    np.testing.assert_allclose(got[:, [0, 5]].std(axis=0), 1, atol=0.2)


def test_a_manifest_by_its_path(data, tmp_path):
    clips, stores = data
    np.testing.assert_array_equal(
        load_features(stores, tmp_path / "manifest.csv", "good"),
        load_features(stores, clips, "good"),
    )


def test_clips_without_a_split_are_not_looked_for(data):
    clips, stores = data
    unknown = replace(
        clips, clip_ids=("elsewhere", *clips.clip_ids[1:]), splits=("", *clips.splits[1:])
    )
    got = load_features(stores, unknown, "good")
    assert np.isnan(got[0]).all() and np.isfinite(got[1:]).all()


def test_absent_and_unfinished_clips(data, tmp_path):
    clips, stores = data
    status = np.ones(len(clips) - 1, np.uint8)
    status[3] = 2
    tiny.write_store(tmp_path / "short", clips.clip_ids[:-1], tiny.features(clips)[:-1], status)
    stores["short"] = tmp_path / "short"
    with pytest.raises(
        InputError, match=r"'short'.*clip 'c003' has no finished row in it \(2 such clips of 120\)"
    ):
        load_features(stores, clips, "short")
    assert missing_clips(open_stores(stores), clips) == {"c003": "short", "c119": "short"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(data, tmp_path, value):
    clips, _ = data
    array = tiny.features(clips)
    array[[7, 9], 2] = value
    tiny.write_store(tmp_path / "bad", clips.clip_ids, array)
    with pytest.raises(InputError, match=r"'bad'.*clip 'c007'"):
        load_features({"bad": tmp_path / "bad"}, clips, "bad")


def test_names(data):
    clips, stores = data
    with pytest.raises(
        InputError, match=r"`embedding=best`: unknown; there are good, poor, combined, and A[+]B"
    ):
        load_features(stores, clips, "best")
    with pytest.raises(InputError, match="'combined' is taken"):
        open_stores({"combined": stores["good"]})


def test_tag_pools(data, tmp_path):
    clips, _ = data
    everything = tag_pool(clips, "all")
    counts = tag_labels(clips, everything)[0].sum(axis=0)
    assert len(everything) == 6 and (np.diff(counts) <= 0).all()
    assert tag_pool(clips, "top:2") == tag_pool(clips, "top2") == everything[:2]
    assert tag_pool(clips, "top50") == everything
    (tmp_path / "tags.txt").write_text("t3\nt1\n\nt3\n")
    assert set(tag_pool(clips, f"file:{tmp_path / 'tags.txt'}")) == {"t1", "t3"}
    for bad in ("tail", "top:7", "top:0", "best", "top:x", "all:2", "tail:2", "top50:2", "topaz:2"):
        with pytest.raises(InputError, match=f"`tags={bad}`"):
            tag_pool(clips, bad)
    (tmp_path / "tags.txt").write_text("t9\n")
    with pytest.raises(InputError, match=r"tags\.txt: tag 't9' is not in the manifest"):
        tag_pool(clips, f"file:{tmp_path / 'tags.txt'}")


def test_stores_side_by_side(data, tmp_path):
    """A+B: the frame-standardised arrays of A and B, in that order."""
    clips, stores = data
    tiny.write_store(tmp_path / "third", clips.clip_ids, tiny.features(clips, dim=7, seed=2))
    stores["third"] = tmp_path / "third"
    parts = [load_features(stores, clips, name, framenorm=True) for name in ("third", "good")]
    np.testing.assert_array_equal(load_features(stores, clips, "third+good"), np.hstack(parts))
    np.testing.assert_array_equal(
        load_features(stores, clips, "good+poor+third"), load_features(stores, clips, "combined")
    )
    assert width(open_stores(stores), "third+good") == 19
    assert stores_of(list(stores), "third+good") == ["third", "good"]
    for wrong, message in (("good+best", "unknown"), ("good+good", "stands in it twice")):
        with pytest.raises(InputError, match=message):
            load_features(stores, clips, wrong)


def test_standardised_features_know_how_to_go_back(data):
    """x = standardised * deviation + mean, centred as well or not."""
    clips, paths = data
    stores = open_stores(paths)
    raw = load_features(stores, clips, "good")
    train = slice(10, 70)
    for how in ("none", "train"):
        for centre in (False, True):
            loaded = load_standardized(stores, clips, clips, "good", how)
            if centre:
                loaded = loaded.centred(train)
                np.testing.assert_allclose(loaded.features[train].mean(axis=0), 0, atol=1e-6)
            back = loaded.features * loaded.deviation + loaded.mean
            np.testing.assert_allclose(back, raw, atol=1e-5)


def test_what_is_known_of_each_clip(data):
    """Without `not_tags`, a tag that is not listed is absent; with it, unknown."""
    clips, _ = data
    pool = ("t1", "t0")
    positive, negative = tag_labels(clips, pool)
    assert negative is None
    np.testing.assert_array_equal(positive, [[tag in tags for tag in pool] for tags in clips.tags])
    absent = tuple(
        tuple(sorted({"t0", "t1"} - set(tags)))[: i % 3] for i, tags in enumerate(clips.tags)
    )
    same, negative = tag_labels(replace(clips, not_tags=absent), pool)
    np.testing.assert_array_equal(same, positive)
    np.testing.assert_array_equal(negative, [[tag in tags for tag in pool] for tags in absent])
    assert not (positive | negative).all() and not (positive & negative).any()


def test_clips_of_one_track_share_a_code(data):
    clips, _ = data
    assert track_codes(clips) is None
    names = tuple(f"{i // 4}" if i < 40 else "" for i in range(len(clips)))
    for given in (replace(clips, tracks=names), replace(clips, groups=names)):
        codes = track_codes(given)
        np.testing.assert_array_equal(codes[:40], np.repeat(codes[:40:4], 4))
        assert len(np.unique(codes)) == 10 + len(clips) - 40, "without a track: one of its own"
