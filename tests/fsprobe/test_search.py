"""fsprobe.search as people run it: like a clip, a tag, a text; tables, playlists, refusals."""

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from extract.manifest import Manifest, write_manifest
from extract.store import open_store
from fsprobe.tagger.file import write_tagger
from tests.support.fake_tagger import HOSTILE, make, write_store
from tests.support.word_data import word_data
from tests.support.word_sweeps import write_words


@pytest.fixture
def search(commands):
    """fsprobe.search with some flags."""

    def run(*flags: object) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = commands.run("fsprobe.search", *map(str, flags))
        return done

    return run


@pytest.fixture
def store(tmp_path):
    """(flags of store and tagger, the tagger, its part)."""
    tagger, (part,) = make(tmp_path / "mine", HOSTILE)
    write_tagger(tmp_path / "t.safetensors", tagger)
    flags = [f"--store=mine={tmp_path / 'mine'}", f"--tagger={tmp_path / 't.safetensors'}"]
    return flags, tagger, part


def with_files(tmp_path: Path, ids: tuple[str, ...]) -> str:
    paths = tuple(f"#{clip}.ogg" for clip in ids)
    write_manifest(tmp_path / "m.csv", Manifest(ids, paths, ("test",) * len(ids), ((),) * len(ids)))
    return f"--manifest={tmp_path / 'm.csv'}"


def test_a_tag_as_a_table_and_as_a_csv(search, tmp_path, store):
    flags, tagger, part = store
    x = np.asarray(part.store.features, np.float64)
    number, out = HOSTILE.index("../../etc/passwd"), tmp_path / "found.csv"
    done = search(*flags, f"--tag={HOSTILE[number]}", "--count=4", f"--out={out}")
    assert done.returncode == 0, done.stderr
    a, b = tagger.calibration[number]
    p = expit(a * (x @ tagger.kernel[number] + tagger.bias[number]) + b)
    order = np.argsort(-p)[:4]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip_id"] for row in rows] == [part.store.clip_ids[i] for i in order]
    np.testing.assert_allclose([float(row["score"]) for row in rows], p[order], atol=1e-5)
    assert done.stdout.count("\n") == 6


def test_like_a_clip_as_a_playlist(search, tmp_path, store):
    flags, _, part = store
    ids = part.store.clip_ids
    out = tmp_path / "lists" / "near.m3u8"
    manifest = with_files(tmp_path, ids)
    done = search(flags[0], "--like=c0003", "--count=3", manifest, f"--out={out}")
    assert done.returncode == 0, done.stderr
    lines = out.read_text("utf-8").splitlines()
    assert lines[:2] == ["#EXTM3U", "#PLAYLIST:like c0003"]
    files = [line for line in lines[2:] if not line.startswith("#EXTINF")]
    assert len(files) == 3 and all(line.startswith("./#c") for line in files)
    assert "./#c0003.ogg" not in files and "no file" not in done.stdout
    with_files(tmp_path, ids[:4])
    done = search(flags[0], "--like=c0003", "--count=49", manifest, f"--out={out}")
    assert "46 clips have no file in " in done.stdout and out.read_text().count("#EXTINF") == 3


def test_a_text_finds_the_clips_of_its_tag(commands, search, tmp_path):
    """The tag is taken out of the labels: by its words alone it is found again."""
    data = word_data(clips=400, tags=40)
    names = tuple(f"w{i}" for i in range(40))
    ids = tuple(f"c{i:03}" for i in range(400))
    hidden = int(data.labels.sum(axis=0).argmax())
    write_store(tmp_path / "x", data.features, ids)
    tags = tuple(tuple(names[t] for t in np.flatnonzero(row) if t != hidden) for row in data.labels)
    write_manifest(tmp_path / "m.csv", Manifest(ids, ("",) * 400, ("train",) * 400, tags))
    vectors = tmp_path / "vectors.csv"
    vectors.write_text(
        "tag,"
        + ",".join(f"v{i}" for i in range(data.words.shape[1]))
        + "\n"
        + "".join(f"{n},{','.join(map(str, v))}\n" for n, v in zip(names, data.words, strict=True))
    )
    made = commands.run(
        *("extract.words", f"--vectors={vectors}"),
        *(f"--manifest={tmp_path / 'm.csv'}", f"--out={tmp_path / 'words'}"),
    )
    assert made.returncode == 0, made.stderr
    out = tmp_path / "found.csv"
    done = search(
        f"--store=x={tmp_path / 'x'}", f"--manifest={tmp_path / 'm.csv'}",
        f"--words={tmp_path / 'words'}", f"--query={names[hidden]}", "--count=20", f"--out={out}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        rows = [ids.index(row["clip_id"]) for row in csv.DictReader(file)]
    assert data.labels[rows, hidden].mean() > 3 * data.labels[:, hidden].mean()


def test_the_nearest_tags_are_named_though_none_is_near(search, tmp_path):
    """Six tags without a vector took the places of those that point the other way."""
    names, ids = "abcdefgh", tuple(f"c{i}" for i in range(40))
    rng = np.random.default_rng(0)
    write_store(tmp_path / "x", rng.standard_normal((40, 3)), ids)
    tags = tuple(tuple(name for name in names if rng.random() < 0.5) for _ in ids)
    write_manifest(tmp_path / "m.csv", Manifest(ids, ("",) * 40, ("train",) * 40, tags))
    write_words(tmp_path / "words", ["g", "h", "q"], np.array([[1, 0], [4, 3], [-1, 0]]))
    done = search(
        f"--store=x={tmp_path / 'x'}", f"--manifest={tmp_path / 'm.csv'}",
        f"--words={tmp_path / 'words'}", "--query=q",
    )  # fmt: skip
    assert "(nearest tags: h -0.80, g -1.00)" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "give one of --like"),
        (("--like=c0001", "--tag=a"), "give one of --like"),
        (("--like=nowhere",), "name a clip_id"),
        (("--tag=rock",), "--tag needs --tagger"),
        (("--query=slow",), "--query needs --words"),
        (("--like=c0001", "--out=x.txt"), "name a .m3u8 or a .csv"),
        (("--like=c0001", "--out=x.m3u8"), "give --manifest"),
        (("--like=c0001", "--manifest=m.csv", "--out=./m.csv"), "is the file of --manifest too"),
        (("--like=c0001", "--embedding=other"), "--embedding=other"),
    ],
)
def test_refusals_in_one_line(search, tmp_path, flags, says):
    write_store(tmp_path / "mine", np.random.default_rng(0).standard_normal((5, 3)))
    done = search(f"--store=mine={tmp_path / 'mine'}", *flags)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert says in done.stderr and len(done.stderr) <= 301


def test_the_store_that_lacks_the_clip_is_named(search, tmp_path):
    status = np.array([1, 1, 0], np.uint8)
    for name, done in (("one", None), ("two", status), ("three", None)):
        write_store(tmp_path / name, np.eye(3), status=done)
    stores = [f"--store={name}={tmp_path / name}" for name in ("one", "two", "three")]
    done = search(*stores, "--like=c0002")
    assert done.returncode == 2 and f"that clip in {tmp_path / 'two'};" in done.stderr


def test_an_unknown_tag_lists_those_there_are(search, store):
    flags, *_ = store
    done = search(*flags, "--tag=nothing")
    assert done.returncode == 2 and "--tag=nothing" in done.stderr and "CON" in done.stderr


def test_another_embedding_than_the_tagger_s_is_refused(search, store):
    flags, *_ = store
    done = search(*flags, "--tag=CON", "--embedding=combined")
    assert done.returncode == 2 and "--embedding=combined: " in done.stderr
    assert search(*flags, "--tag=CON", "--embedding=mine").returncode == 0


def test_unfinished_clips_are_not_found(search, tmp_path):
    status = np.ones(6, np.uint8)
    status[[1, 4]] = 0
    write_store(tmp_path / "mine", np.random.default_rng(0).standard_normal((6, 3)), status=status)
    done = search(f"--store=mine={tmp_path / 'mine'}", "--like=c0000")
    assert done.returncode == 0 and "of 4 clips" in done.stdout
    assert "c0001" not in done.stdout and "c0004" not in done.stdout
    assert open_store(tmp_path / "mine").status.sum() == 4
