"""extract.manifests.duplicates: the same audio under several ids."""

import numpy as np
import pytest

from extract.errors import InputError
from extract.manifest import Manifest, read_manifest
from extract.manifests.duplicates import (
    audio_hashes,
    crossing,
    describe,
    drop_duplicates,
    group_duplicates,
    same_audio,
)
from extract.manifests.splits import SplitConfig, draw_splits
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


def test_from_audio_to_the_manifest(tmp_path, commands):
    """The same sound as WAV and as FLAC, under two ids: found in the store, and acted on."""
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "music").mkdir()
    rng = np.random.default_rng(0)
    sounds = [np.round(rng.uniform(-9999, 9999, 8000)).astype("i2") for _ in range(6)]
    for i, sound in enumerate(sounds):
        soundfile.write(tmp_path / "music" / f"s{i}.wav", sound, 8000)
    soundfile.write(tmp_path / "music" / "copy.flac", sounds[0], 8000)
    names = [*(f"s{i}.wav" for i in range(6)), "copy.flac"]
    splits = ["train", "train", "train", "valid", "test", "test", "test"]
    rows = [f"{name},x,{split}\n" for name, split in zip(names, splits, strict=True)]
    (tmp_path / "given.csv").write_text("clip,tags,split\n" + "".join(rows))
    (tmp_path / "tags.csv").write_text("clip,tags\n" + "".join(f"{name},x\n" for name in names))

    def command(module, *args):
        return commands.run(f"extract.{module}", "--audio_root=music", *args, cwd=tmp_path)

    def prepare(tags, *args):
        return command("prepare", "--dataset=folder", f"--tags={tags}.csv", "--out=m.csv", *args)

    assert prepare("given").returncode == 0
    done = command("run", "--manifest=m.csv", "--embedding=logmel", "--store=s", "--num_workers=1")
    assert done.returncode == 0, done.stderr
    done = prepare("given", "--store=s")
    assert done.returncode == 0
    assert (
        "2 clips have the same audio as another, 1 times across splits: 's0.wav' (train) and 'copy.flac' (test); --on_duplicate=drop"
        in done.stderr
    )
    assert len(read_manifest(tmp_path / "m.csv")) == 7
    done = prepare("given", "--store=s", "--on_duplicate=group")
    assert (
        done.returncode == 2 and "these splits are given" in done.stderr
    ) or "is in" in done.stderr
    done = prepare("given", "--store=s", "--on_duplicate=drop")
    assert "1 of 7 clips are dropped" in done.stderr and "'s0.wav' and 'copy.flac'" in done.stderr
    assert read_manifest(tmp_path / "m.csv").clip_ids == tuple(names[:6])
    for seed in range(4):
        done = prepare("tags", "--store=s", "--on_duplicate=group", f"--seed={seed}")
        assert (done.returncode, done.stderr) == (0, "")
        manifest = read_manifest(tmp_path / "m.csv")
        assert manifest.splits[0] == manifest.splits[6]
        assert manifest.groups == ("same audio as s0.wav", *[""] * 5, "same audio as s0.wav")
    done = prepare("tags", "--on_duplicate=drop")
    assert done.returncode == 2 and "needs --store=DIR" in done.stderr
