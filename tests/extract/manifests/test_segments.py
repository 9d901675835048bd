"""extract.manifests.segments: whole tracks → clips; and the tags of files, through the command."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.audio import decode
from extract.errors import InputError
from extract.manifest import Manifest, read_manifest
from extract.manifests.segments import SegmentConfig, cut_tracks, segment_starts

soundfile = pytest.importorskip("soundfile")
RATE = 8000


@pytest.mark.parametrize(
    ("total", "seconds", "count", "starts"),
    [
        (95.0, 30, None, [0, 30, 60]),
        (90.0, 30, None, [0, 30, 60]),
        (89.99, 30, None, [0, 30]),
        (30.0, 30, None, [0]),
        (12.0, 30, None, [0]),
        (12.0, 30, 3, [0]),
        (200.0, 30, 1, [85]),
        (200.0, 30, 2, [35, 135]),
        (90.0, 30, 3, [0, 30, 60]),
        (70.0, 30, 3, [2.5, 37.5]),  # only two fit
        (1.0, 0.1, None, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
    ],
)
def test_where_clips_begin(total, seconds, count, starts):
    assert segment_starts(total, SegmentConfig(seconds, count)) == pytest.approx(starts)


@given(st.floats(0.5, 5000), st.floats(1, 60), st.none() | st.integers(1, 9))
def test_clips_lie_in_the_track_and_never_overlap(total, seconds, count):
    starts = segment_starts(total, SegmentConfig(seconds, count))
    assert 1 <= len(starts) <= (count or total / seconds + 1)
    assert starts[0] >= 0
    if total > seconds:
        assert starts[-1] + seconds <= total + 1e-6
        # rounding down to 0.01 s may bring two clips that close
        assert np.all(np.diff(starts) >= seconds - 0.0101)


@pytest.mark.parametrize(("seconds", "count"), [(0, 1), (-1, 1), (float("nan"), 1), (30, 0)])
def test_no_segments(seconds, count):
    with pytest.raises(InputError, match="--segment"):
        SegmentConfig(seconds, count)


def music(folder, **seconds):
    """Files of noise, NAME.wav or NAME.flac, of so many seconds."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name, length in seconds.items():
        path = folder / f"{name}.{'flac' if name == 'b' else 'wav'}"
        soundfile.write(path, rng.uniform(-0.5, 0.5, int(length * RATE)), RATE)
    return folder


def test_clips_of_tracks(tmp_path):
    root = music(tmp_path / "music", a=7, b=2)
    (root / "broken.wav").write_bytes(b"RIFF nothing")
    whole = Manifest(
        ("a", "b", "c"),
        ("a.wav", "b.flac", "broken.wav"),
        ("train", "test", ""),
        (("x",), (), ("y",)),
        groups=("Bach", "", "Can"),
        not_tags=(("y",), ("x",), ()),
    )
    notes = []
    clips = cut_tracks(whole, root, SegmentConfig(3), notes.append)
    assert clips.clip_ids == ("a@0", "a@3", "b@0", "c@0")
    assert clips.paths == ("a.wav", "a.wav", "b.flac", "broken.wav")
    assert (clips.starts, clips.durations) == ((0, 3, 0, 0), (3, 3, None, None))
    assert clips.tracks == ("a", "a", "b", "c")
    assert clips.splits == ("train", "train", "test", "")
    assert clips.groups == ("Bach", "Bach", "", "Can")
    assert clips.tags == (("x",), ("x",), (), ("y",))
    assert clips.not_tags == (("y",), ("y",), ("x",), ())
    assert len(notes) == 1 and "the length of 1 of 3 files cannot be read" in notes[0]
    # a clip that is a part of a file is cut within it, and keeps its track
    parts = replace(
        whole, starts=(2.0, None, None), durations=(4.5, 1.0, None), tracks=("t", "", "")
    )
    clips = cut_tracks(parts, root, SegmentConfig(2, 2))
    assert clips.clip_ids == ("a@2.12", "a@4.37", "b@0", "c@0")
    assert clips.durations == (2, 2, 1, None)
    assert clips.tracks == ("t", "t", "b", "c")
    assert len(decode(root / "a.wav", RATE, start=4.37, duration=2.0)) == 2 * RATE


@pytest.fixture
def prepare(tmp_path, commands):
    """extract.prepare with these flags, in tmp_path, of the folder music."""
    given = ("--dataset=folder", "--audio_root=music")
    return lambda *flags: commands.run("extract.prepare", *given, *flags, cwd=tmp_path)


def table(path, header, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_the_command_keeps_tracks_whole(tmp_path, prepare):
    music(tmp_path / "music", **{f"t{i}": 4 + i % 3 for i in range(12)})
    rows = [(f"t{i}.wav", "x|y" if i % 2 else "x", f"artist {i // 2}") for i in range(12)]
    table(tmp_path / "tags.csv", ("clip", "tags", "artist"), *rows)
    done = prepare("--tags=tags.csv", "--segment_seconds=2", "--out=m.csv")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "m.csv")
    assert len(manifest) == sum((4 + i % 3) // 2 for i in range(12))
    assert set(manifest.splits) == {"train", "valid", "test"}
    by_track = {
        track: {s for s, t in zip(manifest.splits, manifest.tracks, strict=True) if t == track}
        for track in manifest.tracks
    }
    assert len(by_track) == 12 and all(len(splits) == 1 for splits in by_track.values())
    # with groups, too; and a split file may name tracks
    args = ("--tags=tags.csv", "--segment_seconds=2", "--segments=1", "--group_by=artist")
    assert prepare(*args, "--out=m.csv").returncode == 0
    manifest = read_manifest(tmp_path / "m.csv")
    assert len(manifest) == 12
    for artist in set(manifest.groups):
        rows = zip(manifest.splits, manifest.groups, strict=True)
        assert len({split for split, group in rows if group == artist}) == 1
    table(tmp_path / "s.csv", ("clip_id", "split"), ("t0.wav", "test"), ("t1.wav", "train"))
    done = prepare(*args, "--split_file=s.csv", "--out=m.csv")
    assert read_manifest(tmp_path / "m.csv").splits[:3] == ("test", "train", "")
    assert "1 groups lie in several splits, such as 'artist 0'" in done.stderr
    for wrong, complaint in (
        (("--segments=2",), "--segments=2 needs --segment_seconds"),
        (("--segment_seconds=2", "--segments=some"), "--segments=some"),
    ):
        done = prepare("--tags=tags.csv", *wrong)
        assert done.returncode == 2 and complaint in done.stderr


def test_tags_of_files_and_of_a_csv(tmp_path, prepare):
    mutagen = pytest.importorskip("mutagen")
    root = music(tmp_path / "music", **dict.fromkeys("abcdefgh", 1))
    for name, genres in {"a": ["Rock"], "b": ["Jazz", "rock"], "c": ["Folk; Live"]}.items():
        file = mutagen.File(next(root.glob(f"{name}.*")))
        if file.tags is None:
            file.add_tags()
        if name == "b":
            file["genre"] = genres
        else:
            file.tags.add(mutagen.id3.TCON(encoding=3, text=genres))
        file.save()
    (root / "broken.mp3").write_bytes(b"no audio")
    done = prepare("--tags_from=genre", "--out=m.csv")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "m.csv")
    assert manifest.clip_ids == ("a.wav", "b.flac", "broken.mp3", *(f"{x}.wav" for x in "cdefgh"))
    assert manifest.tags[:4] == (("Rock",), ("Jazz", "rock"), (), ("Folk; Live",))
    assert [bool(split) for split in manifest.splits] == [True, True, False, True] + [False] * 5
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert "the tags of 1 of 9 files cannot be read" in lines[0] and "broken.mp3" in lines[0]
    assert "--tag_separator=';'" in lines[1] and "--normalize_tags" in lines[2]
    assert "6 of 9 files have no tag and no row of a CSV: their split is empty" in lines[3]
    # merged with a CSV: its tags first, what it denies left out
    header = ("clip", "tags", "not_tags")
    table(tmp_path / "tags.csv", header, ("b", "slow", "rock"), ("d.wav", "", "Rock"))
    args = ("--tags=tags.csv", "--tags_from=genre", "--tag_separator=;", "--normalize_tags")
    done = prepare(*args, "--valid_fraction=0", "--out=m.csv")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "m.csv")
    rows = dict(
        zip(manifest.clip_ids, zip(manifest.tags, manifest.not_tags, strict=True), strict=True)
    )
    assert manifest.clip_ids[:2] == ("b", "d.wav") and len(rows) == 9
    assert rows["b"] == (("slow", "jazz"), ("rock",))
    assert rows["c.wav"] == (("folk", "live"), ())
    assert rows["d.wav"] == ((), ("rock",))
    split = dict(zip(manifest.clip_ids, manifest.splits, strict=True))
    assert split["d.wav"] and not split["e.wav"]  # a row of the CSV is known, if only to be empty
    done = prepare("--tags_from=artist")
    assert done.returncode == 2 and "give genre, grouping, txxx" in done.stderr
    done = prepare("--tags_from=genre", "--group_by=artist")
    assert done.returncode == 2 and "a column of --tags" in done.stderr
