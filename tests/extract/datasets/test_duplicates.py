"""extract.datasets.duplicates: the same audio under several ids."""

import pytest

from extract.datasets.duplicates import (
    audio_hashes,
    crossing,
    describe,
    drop_duplicates,
    group_duplicates,
    same_audio,
)
from extract.datasets.splits import SplitConfig, draw_splits
from extract.errors import InputError
from extract.manifest import Manifest
from tests.support import tiny

IDS = ("a", "b", "c", "d", "e", "f")
SPLITS = ("", "train", "test", "train", "train", "")
HASHES = {"a": "1", "b": "1", "c": "2", "d": "3", "e": "2", "z": "3"}
SAME = [[0, 1], [2, 4]]


def clips(groups=()):
    return Manifest(IDS, ("",) * 6, SPLITS, (("x",),) * 6, groups=groups)


def test_found_by_their_hashes():
    assert same_audio(clips(), HASHES) == SAME
    assert same_audio(clips(), {}) == []
    assert crossing(clips(), SAME) == [[2, 4]]
    sentence = describe(clips(), SAME)
    assert sentence == (
        "4 clips have the same audio as another, 1 times across splits: 'c' (test) and 'e' (train)"
    )
    assert describe(clips(), []) == ""


def test_one_of_each_stays():
    assert drop_duplicates(clips(), SAME).clip_ids == ("b", "c", "d", "f")  # b has a split
    assert drop_duplicates(clips(), []) == clips()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((), ("same audio as a",) * 2 + ("same audio as c", "", "same audio as c", "")),
        (
            ("Bach", "", "", "Bach", "", "Can"),
            ("Bach", "Bach", "same audio as c", "Bach", "same audio as c", "Can"),
        ),
        # groups that share audio are one, with all their clips
        (("Q", "P", "Q", "Can", "", "P"), ("P", "P", "P", "Can", "P", "P")),
    ],
)
def test_the_same_audio_is_one_group(groups, expected):
    assert group_duplicates(clips(groups), SAME).groups == expected
    assert group_duplicates(clips(groups), []) == clips(groups)


def test_what_is_grouped_never_crosses_drawn_splits():
    ids = tuple(f"c{i}" for i in range(60))
    manifest = Manifest(ids, ("",) * 60, ("",) * 60, ((),) * 60)
    same = [[i, 59 - i] for i in range(25)]
    grouped = group_duplicates(manifest, same)
    for seed in range(10):
        splits = draw_splits(ids, grouped.groups, SplitConfig(seed))
        assert all(splits[a] == splits[b] for a, b in same)


def test_a_store_without_hashes_says_so(tmp_path):
    tiny.write_data(tmp_path)
    with pytest.raises(InputError, match="good: keeps no hashes of its clips' audio"):
        audio_hashes(tmp_path / "good")
