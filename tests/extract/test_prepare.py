"""extract.prepare and its datasets, through the functions and through the command line."""

import collections
import csv
import functools
import gzip
import hashlib
import http.server
import threading
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.datasets import magnatagatune
from extract.datasets.folder import FolderConfig, draw_splits, folder_manifest
from extract.errors import InputError
from extract.manifest import read_manifest


@pytest.fixture
def prepare(tmp_path, commands):
    """extract.prepare with these flags, in tmp_path."""
    return lambda *flags: commands.run("extract.prepare", *flags, cwd=tmp_path)


@pytest.fixture
def refused(tmp_path, prepare):
    """The one line of a refusal; nothing may have been written."""

    def run(*flags):
        before = sorted(tmp_path.rglob("*"))
        done = prepare(*flags)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return done.stderr

    return run


# --- MagnaTagATune, in small: clip 1 in train, 2 in valid, 3 in test, 4 untagged, 55753 empty

TAGS = ("no voice", "guitar", "rock")
CLIPS = {
    "1": ("0/a.mp3", "011"),
    "2": ("c/b.mp3", "010"),
    "3": ("f/c.mp3", "111"),
    "4": ("b/d.mp3", "000"),
    "55753": ("8/e.mp3", "010"),
}


def official(path, header, rows):
    """A file as the data set's authors wrote theirs: tabs, every field quoted, CRLF."""
    lines = ["\t".join(f'"{field}"' for field in row) + "\r\n" for row in (header, *rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(lines).encode())
    return path


def annotations(path, clips=CLIPS):
    return official(
        path,
        ("clip_id", *TAGS, "mp3_path"),
        ((c, *marks, mp3) for c, (mp3, marks) in clips.items()),
    )


def clip_info(path, clips=CLIPS):
    rows = ((clip, "Bach – é", mp3) for clip, (mp3, _) in clips.items())
    return official(path, ("clip_id", "artist", "mp3_path"), rows)


def test_magnatagatune_rows(tmp_path):
    manifest = magnatagatune.read_annotations(annotations(tmp_path / "a.csv"))
    assert manifest.clip_ids == tuple(CLIPS)
    assert manifest.paths == tuple(mp3 for mp3, _ in CLIPS.values())
    assert manifest.splits == ("train", "valid", "test", "train", "train")
    assert manifest.tags == (("guitar", "rock"), ("guitar",), TAGS, (), ("guitar",))
    zipped = tmp_path / "named_plainly"  # gzip is known by its first bytes, not by its name
    zipped.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert magnatagatune.read_annotations(zipped) == manifest


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_magnatagatune_as_a_spreadsheet_saves_it(tmp_path, delimiter, encoding):
    expected = magnatagatune.read_annotations(annotations(tmp_path / "a.csv"))
    text = (tmp_path / "a.csv").read_text().replace("\t", delimiter)
    (tmp_path / "b.csv").write_text(text, encoding=encoding)
    assert magnatagatune.read_annotations(tmp_path / "b.csv") == expected


def test_magnatagatune_splits(tmp_path, monkeypatch):
    manifest = magnatagatune.read_annotations(annotations(tmp_path / "a.csv"))
    clean, everything = (magnatagatune.select(manifest, split) for split in magnatagatune.SPLITS)
    assert clean.clip_ids == ("1", "2", "3")
    assert everything.clip_ids == manifest.clip_ids
    assert everything.splits == ("train", "valid", "test", "train", "")
    monkeypatch.setattr(magnatagatune, "NUM_TOP", 1)  # guitar 4; rock 2 and no voice 1 are the tail
    only_tail = annotations(tmp_path / "b.csv", {**CLIPS, "5": ("0/f.mp3", "101")})
    clean = magnatagatune.select(magnatagatune.read_annotations(only_tail), "clean")
    assert clean.clip_ids == ("1", "2", "3")
    assert clean.tags[2] == TAGS  # tail tags stay


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"clip_id"', '"id"', "the header must be"),
        ('"0/a.mp3"', '"g/a.mp3"', "line 2: mp3_path 'g/a.mp3'"),
        ('"2"\t"0"', '"2"\t"x"', "line 3: a tag is marked 'x'"),
        ('"2"\t"0"', '"1"\t"0"', "line 3: clip_id '1' stands there twice"),
        ('"2"\t"0"', '"2"', "line 3: 4 fields"),
        ('"guitar"', '"gui|tar"', "tag 'gui|tar'"),
        ('"guitar"', '"rock"', "tag 'rock' stands twice in the header"),
        ('"c/b.mp3"', '"c/b.mp3', "damaged"),
    ],
)
def test_magnatagatune_malformed(tmp_path, old, new, complaint):
    path = annotations(tmp_path / "a.csv")
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(InputError) as caught:
        magnatagatune.read_annotations(path)
    assert complaint in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", gzip.compress(b"x" * 100, mtime=0)[:-9], b"\x1f\x8bnot gzip at all", b"\xff\xfe\x00"],
)
def test_magnatagatune_not_even_a_csv(tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.csv"):
        magnatagatune.read_annotations(path)


def test_clip_info_must_agree(tmp_path):
    manifest = magnatagatune.read_annotations(annotations(tmp_path / "a.csv"))
    magnatagatune.check_clip_info(clip_info(tmp_path / "i.csv"), manifest)
    with pytest.raises(InputError, match=r"clip 2 has mp3_path 'c/x\.mp3'"):
        magnatagatune.check_clip_info(
            clip_info(tmp_path / "i.csv", {**CLIPS, "2": ("c/x.mp3", "")}), manifest
        )
    del (fewer := dict(CLIPS))["3"]
    with pytest.raises(InputError, match="clip 3 is missing"):
        magnatagatune.check_clip_info(clip_info(tmp_path / "i.csv", fewer), manifest)


def test_magnatagatune_command(tmp_path, prepare):
    annotations(tmp_path / "a.csv"), clip_info(tmp_path / "i.csv")
    (tmp_path / "audio/0").mkdir(parents=True)
    (tmp_path / "audio/0/a.mp3").touch()
    (tmp_path / "split.csv").write_text("clip_id,split\n3,train\n9,test\n")
    done = prepare(
        "--dataset=magnatagatune",
        "--annotations=a.csv",
        "--clip_info=i.csv",
        "--audio_root=audio",
        "--split_file=split.csv",
        "--out=new/m.csv",
    )
    assert done.returncode == 0
    assert read_manifest(tmp_path / "new/m.csv").splits == ("", "", "train")
    assert "2 of 3 clips have no file" in done.stderr and "c/b.mp3" in done.stderr
    assert "names 1 clips that the manifest does not have" in done.stderr
    assert "3 clips: 1 train, 0 valid, 0 test, 2 unused; 3 tags" in done.stdout


def test_download_proceeds_to_the_manifest(tmp_path, prepare):
    site, music = tmp_path / "site", tmp_path / "music"
    annotations(site / magnatagatune.ANNOTATIONS), clip_info(site / magnatagatune.CLIP_INFO)
    with zipfile.ZipFile(tmp_path / "mp3.zip", "w") as archive:
        for mp3, _ in CLIPS.values():
            archive.writestr(mp3, mp3 * 1000)
    data = (tmp_path / "mp3.zip").read_bytes()
    for k, name in enumerate(magnatagatune.ARCHIVE):
        (site / name).write_bytes(data[k * 9000 : (k + 1) * 9000 if k < 2 else None])
    sha256 = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in site.iterdir()}

    class Quiet(http.server.SimpleHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012 - shared on purpose

        def log_message(self, *args):
            self.asked.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=site)
    ) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        first, second = magnatagatune.download(tmp_path / "files", music, url, sha256)
        assert (first.name, second.name) == (magnatagatune.ANNOTATIONS, magnatagatune.CLIP_INFO)
        assert (music / "c/b.mp3").read_text() == "c/b.mp3" * 1000
        for name in magnatagatune.ARCHIVE:
            (tmp_path / "files" / name).unlink()
        Quiet.asked.clear()
        magnatagatune.download(tmp_path / "files", music, url, sha256)
        assert Quiet.asked == []  # everything is there, the archive need not be kept
        # The command itself insists on the official hashes.
        done = prepare(
            "--dataset=magnatagatune", "--download", "--audio_root=d", f"--base_url={url}"
        )
        server.shutdown()
    assert done.returncode == 2
    assert magnatagatune.SHA256[magnatagatune.ANNOTATIONS] in done.stderr
    assert not (tmp_path / "manifest.csv").exists()


# --- a folder


def tagged_folder(
    tmp_path, rows, header=("clip", "tags"), audio=("a.wav", "b/c.mp3", "b/c.wav", "d.flac")
):
    root = tmp_path / "music"
    for name in audio:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    with (tmp_path / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path / "tags.csv", root


NO_DRAW = FolderConfig(valid_fraction=0, test_fraction=0)


@pytest.mark.parametrize(
    ("header", "row", "clip_id", "path"),
    [
        (("clip", "tags"), ("a.wav", "x|y"), "a.wav", "a.wav"),
        (("path", "tags"), ("./b/c.mp3", "x|y"), "./b/c.mp3", "b/c.mp3"),
        (("clip", "tags"), ("d", "x|y"), "d", "d.flac"),
        (("clip_id", "tags"), ("d", "x|y"), "d", "d.flac"),
        (("clip_id", "path", "tags"), ("17", "d.flac", "x|y"), "17", "d.flac"),
    ],
)
def test_folder_columns(tmp_path, header, row, clip_id, path):
    manifest = folder_manifest(*tagged_folder(tmp_path, [row], header), NO_DRAW)
    assert (manifest.clip_ids, manifest.paths, manifest.tags) == (
        (clip_id,),
        (path,),
        (("x", "y"),),
    )
    assert manifest.splits == ("train",)


@pytest.mark.parametrize(
    ("header", "rows", "complaint"),
    [
        (("clip", "label"), [("a.wav", "x")], "column 'tags' is missing"),
        (("file", "tags"), [("a.wav", "x")], "column 'clip' is missing"),
        (("clip", "tags"), [], "no clips"),
        (
            ("clip", "tags"),
            [("a.wav", "x"), ("e.wav", "x"), ("f.wav", "")],
            "line 3: no file 'e.wav' .*2 of 3",
        ),
        (("clip", "tags"), [("../a.wav", "x")], "line 2: path '../a.wav' leads out"),
        (("clip", "tags"), [("a.wav", "x"), ("a\0.wav", "x")], "line 3: .* control characters"),
        (("clip", "tags"), [("b/c", "x")], "fits b/c.mp3 and b/c.wav"),
        (
            ("clip", "tags"),
            [("a.wav", "x"), ("./a.wav", "y")],
            "line 3: file '.*a.wav' was named before .*line 2",
        ),
        (
            ("clip", "tags"),
            [("a.wav", "x"), ("b/../a.wav", "y")],
            "line 3: file '.*a.wav' was named before .*line 2",
        ),
        (
            ("clip", "tags"),
            [("a.wav", "x"), ("b/../a", "y")],
            "line 3: file '.*a.wav' was named before .*line 2",
        ),
        (
            ("clip_id", "clip", "tags"),
            [("1", "a.wav", "x"), ("1", "d.flac", "x")],
            "line 3: clip_id '1' was named",
        ),
        (("clip", "tags"), [("a.wav", "x| y")], "tag ' y'"),
        (("clip", "tags", "split"), [("a.wav", "x", "dev")], "split 'dev'"),
    ],
)
def test_folder_refuses(tmp_path, header, rows, complaint):
    with pytest.raises(InputError, match=complaint):
        folder_manifest(*tagged_folder(tmp_path, rows, header), NO_DRAW)


def test_too_few_clips_name_the_csv(tmp_path):
    with pytest.raises(InputError, match=r"tags\.csv: 1 clips cannot fill train, valid, test"):
        folder_manifest(*tagged_folder(tmp_path, [("a.wav", "x")]), FolderConfig())


@pytest.mark.parametrize(
    ("groups", "tracks", "what"),
    [((), ("t", "t"), "tracks"), (("g", "g"), ("", ""), "groups")],
)
def test_what_is_too_few_is_what_must_stay_together(groups, tracks, what):
    with pytest.raises(InputError, match=f"1 {what} cannot fill train, valid, test"):
        draw_splits(("a", "b"), groups, FolderConfig(), tracks)


def test_folder_without_audio_or_without_folder(tmp_path):
    tags, root = tagged_folder(tmp_path, [("a.wav", "x")], audio=("readme.txt",))
    with pytest.raises(InputError, match="no audio at all"):
        folder_manifest(tags, root, NO_DRAW)
    with pytest.raises(InputError, match="no such folder"):
        folder_manifest(tags, root / "nowhere", NO_DRAW)


def test_given_splits_are_kept_and_checked_against_groups(tmp_path):
    rows = [
        ("a.wav", "x", "test", "Bach"),
        ("b/c.mp3", "x", "", "Bach"),
        ("d.flac", "x", "train", "Bach"),
    ]
    given_splits = tagged_folder(tmp_path, rows, ("clip", "tags", "split", "artist"))
    assert folder_manifest(*given_splits, FolderConfig()).splits == ("test", "", "train")
    with pytest.raises(InputError, match="line 4: group 'Bach' is in train here, in test before"):
        folder_manifest(*given_splits, FolderConfig(group_by="artist"))


def test_groups_tracks_parts_and_absent_tags_reach_the_manifest(tmp_path):
    header = ("clip_id", "clip", "tags", "artist", "track", "start", "duration", "not_tags")
    rows = [
        ("1", "a.wav", "x", "Bach", "t", "0", "2.5", "y"),
        ("2", "a.wav", "", "Bach", "t", "2.5", "", ""),
        ("3", "d.flac", "y", "", "u", "", "", "x"),
    ]
    tags, root = tagged_folder(tmp_path, rows, header)
    manifest = folder_manifest(tags, root, FolderConfig(0, 0, 0, "artist"))
    assert manifest.optional() == {
        "start": (0.0, 2.5, None),
        "duration": (2.5, None, None),
        "track": ("t", "t", "u"),
        "group": ("Bach", "Bach", ""),
        "not_tags": (("y",), (), ("x",)),
    }
    # a file of which there are parts is their track
    tags, _ = tagged_folder(
        tmp_path, [(*row[:4], *row[5:]) for row in rows], header[:4] + header[5:]
    )
    assert folder_manifest(tags, root, NO_DRAW).tracks == ("a.wav", "a.wav", "d.flac")
    assert folder_manifest(tags, root, NO_DRAW).groups == ()
    # also where the column is there and not filled in
    unfilled = [
        (*row[:4], track, *row[5:]) for row, track in zip(rows, ("", " ", "u"), strict=True)
    ]
    found = folder_manifest(*tagged_folder(tmp_path, unfilled, header), NO_DRAW)
    assert found.tracks == ("a.wav", "a.wav", "u")
    clash = [*rows, ("4", "./a.wav", "x", "", "", "2.5", "", "x")]
    with pytest.raises(InputError, match="line 5: tag 'x' stands in tags and in not_tags"):
        folder_manifest(*tagged_folder(tmp_path, clash, header), NO_DRAW)
    clash[-1] = (*clash[-1][:-1], "")
    with pytest.raises(InputError, match=r"line 5: file '.*a\.wav from 2\.5 s' was named before"):
        folder_manifest(*tagged_folder(tmp_path, clash, header), NO_DRAW)
    late = ["123456.70", "123456.75"]  # hours into a file, and told apart all the same
    hours = [(*row[:5], start, "0.05", "") for row, start in zip(rows, late, strict=False)]
    found = folder_manifest(*tagged_folder(tmp_path, hours, header), NO_DRAW)
    assert found.starts == (123456.70, 123456.75)


def test_given_splits_are_checked_against_tracks(tmp_path):
    rows = [("a.wav", "x", "test", "t"), ("d.flac", "x", "train", "t")]
    with pytest.raises(InputError, match="line 3: track 't' is in train here, in test before"):
        folder_manifest(*tagged_folder(tmp_path, rows, ("clip", "tags", "split", "track")), NO_DRAW)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["", "a", "t", "u"])),
        min_size=12,
        max_size=40,
    )
)
def test_drawn_splits_keep_groups_and_tracks_whole(rows):
    groups, tracks = zip(*rows, strict=True)
    ids = [f"clip {k}" for k in range(len(rows))] + ["p", "q", "r"]  # three stand alone
    groups, tracks = (*groups, "", "", ""), (*tracks, "", "", "")
    splits = draw_splits(ids, groups, FolderConfig(), tracks)
    assert set(splits) == {"train", "valid", "test"}
    for column in (groups, tracks):
        for name in set(column) - {""}:
            assert len({s for s, value in zip(splits, column, strict=True) if value == name}) == 1


@given(
    groups=st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=3, max_size=60),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_drawn_splits(groups, seed, data):
    config = FolderConfig(seed=seed, group_by="artist")
    ids = [f"clip {k}" for k in range(len(groups))]
    count = len({group or clip for group, clip in zip(groups, ids, strict=True)})
    if count < 2:
        with pytest.raises(InputError, match="groups of artist cannot fill"):
            draw_splits(ids, groups, config)
        return
    splits = draw_splits(ids, groups, config)
    assert set(splits) == ({"train", "test"} if count == 2 else {"train", "valid", "test"})
    assert all(
        len({s for s, g in zip(splits, groups, strict=True) if g == group}) == 1
        for group in set(groups) - {""}
    )
    order = data.draw(st.permutations(range(len(ids))))
    moved = draw_splits([ids[k] for k in order], [groups[k] for k in order], config)
    assert moved == [splits[k] for k in order]


def test_drawn_splits_have_their_shares_and_depend_on_the_seed():
    ids = [str(k) for k in range(200)]
    config = FolderConfig(valid_fraction=0.1, test_fraction=0.25)
    splits = draw_splits(ids, [""] * 200, config)
    counts = collections.Counter(splits)
    for split, share in (("train", 130), ("valid", 20), ("test", 50)):
        assert abs(counts[split] - share) <= 1
    assert splits != draw_splits(ids, [""] * 200, FolderConfig(1, 0.1, 0.25))
    # Groups of 1 to 9 clips: each split is at most one group off.
    sizes = np.random.default_rng(0).integers(1, 10, 60)
    groups = [f"artist {k}" for k, size in enumerate(sizes) for _ in range(size)]
    counts = collections.Counter(
        draw_splits([str(k) for k in range(len(groups))], groups, FolderConfig())
    )
    for split, share in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        assert abs(counts[split] - share * len(groups)) <= 9


@pytest.mark.parametrize("fractions", [(-0.1, 0.2), (0.5, 0.5), (float("nan"), 0.1)])
def test_bad_fractions(fractions):
    with pytest.raises(InputError, match="fraction"):
        FolderConfig(0, *fractions)


# --- the command


def test_demo_command_twice(tmp_path, prepare):
    args = ("--dataset=demo", "--num_clips=20", "--audio_root=audio", "--out=m.csv")
    assert prepare(*args).returncode == 0
    manifest, text = read_manifest(tmp_path / "m.csv"), (tmp_path / "m.csv").read_bytes()
    times = [(tmp_path / "audio" / path).stat().st_mtime_ns for path in manifest.paths]
    done = prepare(*args)
    assert "20 clips: 14 train, 2 valid, 4 test" in done.stdout
    assert (tmp_path / "m.csv").read_bytes() == text
    assert [(tmp_path / "audio" / path).stat().st_mtime_ns for path in manifest.paths] == times


def test_folder_command(tmp_path, prepare):
    tagged_folder(tmp_path, [("a.wav", "x"), ("b/c.mp3", "y"), ("d", "")])
    assert prepare("--dataset=folder", "--audio_root=music", "--tags=tags.csv").returncode == 0
    assert sorted(read_manifest(tmp_path / "manifest.csv").splits) == ["test", "train", "valid"]


def test_a_folder_without_any_label(tmp_path, prepare):
    """Every file gets a split, and the manifest says that nothing is known of any."""
    tagged_folder(tmp_path, [("a.wav", "x")])
    done = prepare("--dataset=folder", "--audio_root=music")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert sorted(manifest.clip_ids) == ["a.wav", "b/c.mp3", "b/c.wav", "d.flac"]
    assert set(manifest.splits) == {"test", "train", "valid"}
    assert manifest.tags == manifest.not_tags == ((),) * 4


def test_bad_flags_write_nothing(tmp_path, refused):
    annotations(tmp_path / "a.csv")
    assert "--dataset" in refused()
    assert "--annotations" in refused("--dataset=magnatagatune")
    assert "nope.csv" in refused("--dataset=magnatagatune", "--annotations=nope.csv")
    assert "s.csv" in refused(
        "--dataset=magnatagatune", "--annotations=a.csv", "--split_file=s.csv"
    )
    assert "no audio at all" in refused("--dataset=folder", "--audio_root=.")
    assert "--annotations is for" in refused("--dataset=demo", "--annotations=a.csv")
    assert "--seed: its splits are given" in refused("--dataset=magnatagatune", "--seed=1")
    assert "--num_clips=3" in refused("--dataset=demo", "--num_clips=3")
    for out in ("", ".", "a.csv/m.csv"):  # before anything is synthesised
        assert f"--out={out}: " in refused("--dataset=demo", "--num_clips=20", f"--out={out}")


def test_an_artist_of_several_spellings_stays_in_one_split(tmp_path, prepare):
    artists = ["Queen", "Queen ", "queen", "Bj\u00f6rk", "Bjo\u0308rk", "NINA", "Nina\u200b", "Can"]
    names = [f"s{i}.wav" for i in range(40)]
    rows = [(name, "x", artists[i % 8]) for i, name in enumerate(names)]
    tagged_folder(tmp_path, rows, ("clip", "tags", "artist"), names)
    args = ("--dataset=folder", "--audio_root=music", "--tags=tags.csv", "--group_by=artist")
    done = prepare(*args, "--out=m.csv")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "3 groups" in done.stderr
    manifest = read_manifest(tmp_path / "m.csv")
    assert set(manifest.groups) == {"Queen", "Björk", "NINA", "Can"}
    for same in ((0, 1, 2), (3, 4), (5, 6)):
        splits = {manifest.splits[i] for i in range(40) if i % 8 in same}
        assert len(splits) == 1


@pytest.mark.parametrize(
    ("cell", "mended", "flag"),
    [
        ("rock, jazz", ("rock", "jazz"), "--tag_separator=,"),
        ("rock;jazz", ("rock", "jazz"), "--tag_separator=;"),
        ("['rock', 'jazz']", ("rock", "jazz"), "--tag_separator=list"),
        ("rock\tjazz", ("rock", "jazz"), r"--tag_separator=\t"),
        ("nan", (), "--normalize_tags"),
        ("Rock", ("rock",), "--normalize_tags"),
    ],
)
def test_the_flag_that_a_warning_names_mends_the_tags(tmp_path, cell, mended, flag, prepare):
    names = [f"s{i}.wav" for i in range(4)]
    rows = [(name, cell if i else "rock") for i, name in enumerate(names)]
    tagged_folder(tmp_path, rows, audio=names)
    args = ("--dataset=folder", "--audio_root=music", "--tags=tags.csv", "--out=m.csv")
    done = prepare(*args)
    if "\t" in cell:
        assert done.returncode == 2 and "control characters" in done.stderr
    else:
        assert done.stderr.count("\n") == 1 and flag.replace("=;", "=';'") in done.stderr
        assert done.returncode == 0
        assert read_manifest(tmp_path / "m.csv").tags == (("rock",), *((cell,),) * 3)
    done = prepare(*args, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_manifest(tmp_path / "m.csv").tags == (("rock",), *((mended,) * 3))
