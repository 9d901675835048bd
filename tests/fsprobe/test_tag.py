"""fsprobe.tag as people run it: outputs, refusals, a stopped run, audio straight to tags."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from extract.manifest import Manifest, write_manifest
from extract.store import open_store
from fsprobe.tagger.file import write_tagger
from fsprobe.tagger.matching import parts_of
from tests.support.fake_tagger import HOSTILE, make, random_tagger, write_store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tag(commands):
    """fsprobe.tag, or another module, with some flags."""

    def run(*flags: object, module: str = "fsprobe.tag") -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = commands.run(module, *map(str, flags))
        return done

    return run


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result
    assert len(result.stderr) <= 301
    return result.stderr


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.fixture
def trained(tmp_path):
    """(flags of tagger and store, tagger, float64 [clip, tag] probabilities by hand)."""
    tagger, (part,) = make(tmp_path / "mine", HOSTILE)
    write_tagger(tmp_path / "t.safetensors", tagger)
    z = np.asarray(part.store.features, np.float64) @ tagger.kernel.T + tagger.bias
    p = expit(tagger.calibration[:, 0] * z + tagger.calibration[:, 1])
    flags = [f"--tagger={tmp_path / 't.safetensors'}", f"--store=mine={tmp_path / 'mine'}"]
    return flags, tagger, p


def test_every_output_of_one_run(tag, tmp_path, trained):
    flags, tagger, p = trained
    ids = open_store(tmp_path / "mine").clip_ids
    clips = Manifest(
        ids,
        tuple(f"{i // 2}.ogg" for i in range(50)),
        ("test",) * 50,
        ((),) * 50,
        starts=tuple(10.0 * (i % 2) for i in range(50)),
        durations=(10.0,) * 50,
    )
    write_manifest(tmp_path / "m.csv", clips)
    out = tmp_path / "new folder" / "tags.csv"
    outputs = {"all_scores": "s.npy", "jsonl": "t.jsonl", "m3u8": "lists", "audacity": "labels"}
    said = succeeded(
        tag(
            *flags,
            f"--out={out}",
            f"--manifest={tmp_path / 'm.csv'}",
            *(f"--{name}={tmp_path / path}" for name, path in outputs.items()),
        )
    )
    expected = {(ids[i], HOSTILE[t]) for i, t in np.argwhere(p >= tagger.threshold)}
    assert {(row["clip_id"], row["tag"]) for row in rows(out)} == expected
    assert f"{len(expected)} tags of 50 clips" in said
    np.testing.assert_allclose(np.load(tmp_path / "s.npy"), p, rtol=1e-5)
    lines = (tmp_path / "t.jsonl").read_text("utf-8").splitlines()
    assert sum(len(json.loads(line)["tags"]) for line in lines) == len(expected)
    assert len(list((tmp_path / "lists").iterdir())) == len({t for _, t in expected})
    assert len(list((tmp_path / "labels").iterdir())) == 25
    assert sorted(path.name for path in out.parent.iterdir()) == ["tags.csv"]  # no partial files


def test_clips_without_a_file_are_counted(tag, tmp_path, trained):
    (tmp_path / "m.csv").write_text("clip_id,path,split,tags\nc0001,x.ogg,test,\nc0002,,test,\n")
    more = [f"--manifest={tmp_path / 'm.csv'}", f"--out={tmp_path / 'o.csv'}"]
    said = succeeded(tag(*trained[0], *more, "--top=1", f"--m3u8={tmp_path / 'lists'}"))
    assert "49 clips have no file in the manifest" in said
    assert "no file" not in succeeded(tag(*trained[0], *more, "--top=1"))


def test_top_and_tracks(tag, tmp_path, trained):
    flags, _, p = trained
    ids = open_store(tmp_path / "mine").clip_ids
    clips = Manifest(
        ids,
        ("",) * 50,
        ("test",) * 50,
        ((),) * 50,
        tracks=tuple(f"track {i // 5}" for i in range(50)),
    )
    write_manifest(tmp_path / "m.csv", clips)
    more = [
        "--by=track",
        f"--manifest={tmp_path / 'm.csv'}",
        "--top=3",
        f"--out={tmp_path / 'o.csv'}",
    ]
    assert "of 10 tracks" in succeeded(tag(*flags, *more))
    pooled = p.reshape(10, 5, -1).mean(axis=1)
    best = [(f"track {i}", HOSTILE[t]) for i in range(10) for t in np.argsort(-pooled[i])[:3]]
    assert [(row["track"], row["tag"]) for row in rows(tmp_path / "o.csv")] == best


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--store=NAME=DIR or --audio"),
        (["--store=x"], "NAME=DIR"),
        (["--store=mine={root}/mine", "--audio={root}"], "either"),
        (["--store=mine={root}/none"], "not a store"),
        (["--store=mine={root}/other"], "weights"),
        (["--store=mine={root}/mine", "--by=track"], "--manifest"),
        (
            ["--store=mine={root}/mine", "--segment_seconds=5"],
            "--segment_seconds is for extracting",
        ),
        (["--store=mine={root}/mine", "--write_tags=genre"], "--manifest"),
        (["--store=mine={root}/mine", "--all_scores={root}/x.csv"], ".npy"),
        (["--store=mine={root}/mine", "--tagger={root}/pickle"], "safetensors"),
        (["--store=mine={root}/mine", "--tagger={root}/missing"], "no such file"),
        (["--audio={root}/missing"], "no such file"),
        (["--audio={root}/mine"], "no audio"),
        (["--audio={root}/a.wav"], "imported"),
        (["--audio={root}/a.wav", "--by=track"], "give --segment_seconds"),
    ],
)
def test_refusals_are_one_line(tag, tmp_path, trained, flags, words):
    import pickle

    (tmp_path / "pickle").write_bytes(pickle.dumps([1] * 100))
    (tmp_path / "a.wav").write_bytes(b"")
    provenance = {"weights": {"a": "12" * 32}}
    write_store(tmp_path / "other", np.ones((3, 7)), embedding="mine", provenance=provenance)
    common = [f"--tagger={tmp_path / 't.safetensors'}", f"--out={tmp_path / 'o.csv'}"]
    message = refused(tag(*common, *(flag.format(root=tmp_path) for flag in flags)))
    assert words in message and not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("more", "flag"),
    [
        (["--jsonl={root}/x/../o.csv"], "jsonl"),
        (["--all_scores={root}/a.npy", "--jsonl={root}/a.npy"], "jsonl"),
        (["--jsonl={root}/t.safetensors"], "jsonl"),
        (["--manifest={root}/m.csv", "--jsonl={root}/m.csv"], "jsonl"),
        (["--audio_root={root}", "--manifest={root}/m.csv", "--write_tags=genre",
          "--jsonl={root}/o.csv.undo.jsonl"], "write_tags"),
    ],
)  # fmt: skip
def test_two_outputs_or_an_output_and_an_input_are_not_one_file(tag, tmp_path, trained, more, flag):
    ids = open_store(tmp_path / "mine").clip_ids
    write_manifest(tmp_path / "m.csv", Manifest(ids, ("a.ogg",) * 50, ("test",) * 50, ((),) * 50))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    given = [f.format(root=tmp_path) for f in more]
    message = refused(tag(*trained[0], f"--out={tmp_path / 'o.csv'}", *given))
    assert f"--{flag}: " in message and "is the file of --" in message
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("of_tagger", [True, False])
def test_files_are_not_cut_into_millions_of_clips(tag, tmp_path, of_tagger):
    _, parts = make(tmp_path / "mine", HOSTILE)
    shared = {"clip_seconds": 1e-6} if of_tagger else {}
    write_tagger(tmp_path / "t.safetensors", random_tagger(HOSTILE, parts, shared=shared))
    (tmp_path / "a.wav").write_bytes(b"")
    flags = [f"--tagger={tmp_path / 't.safetensors'}", f"--audio={tmp_path / 'a.wav'}"]
    flags += [f"--out={tmp_path / 'o.csv'}", *([] if of_tagger else ["--segment_seconds=1e-6"])]
    message = refused(tag(*flags))
    assert "--segment_seconds=1e-06" in message and "less than 0.1 s" in message
    assert ("t.safetensors was trained on" in message) == of_tagger


@pytest.mark.slow
def test_a_killed_run_goes_on(tag, tmp_path):
    """kill -9 at a mark; the same command gives the file of a run that was not killed."""
    import signal
    import time

    features = np.random.default_rng(0).standard_normal((400_000, 16)).astype(np.float32)
    write_store(tmp_path / "big", features)
    parts = parts_of({"big": open_store(tmp_path / "big")}, "big")
    write_tagger(tmp_path / "t.safetensors", random_tagger(tuple("abcdefgh"), parts))
    flags = [f"--tagger={tmp_path / 't.safetensors'}", f"--store=big={tmp_path / 'big'}", "--top=2"]
    command = [sys.executable, "-m", "fsprobe.tag", *flags, f"--out={tmp_path / 'a.csv'}"]
    mark = tmp_path / ".a.csv.partial" / "progress.json"
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not mark.exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "a.csv").exists()
    assert 0 < json.loads(mark.read_text())["next_item"] < 400_000
    succeeded(tag(*flags, f"--out={tmp_path / 'a.csv'}"))
    succeeded(tag(*flags, f"--out={tmp_path / 'b.csv'}"))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.slow
def test_audio_straight_to_tags_and_into_the_files(tag, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("mutagen")
    pytest.importorskip("librosa")
    music = tmp_path / "music" / "sub folder"
    music.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        soundfile.write(music / f"{name}.flac", 0.2 * rng.standard_normal(22_050), 22_050)
    clips = Manifest(("a",), ("sub folder/one.flac",), ("train",), ((),))
    write_manifest(tmp_path / "m.csv", clips)
    extract = ["--embedding=logmel", f"--audio_root={tmp_path / 'music'}", "--num_workers=1"]
    extract += [f"--manifest={tmp_path / 'm.csv'}", f"--store={tmp_path / 'logmel'}"]
    succeeded(tag(*extract, module="extract.run"))
    parts = parts_of({"logmel": open_store(tmp_path / "logmel")}, "logmel")
    tagger = random_tagger(("calm", "loud"), parts)
    write_tagger(tmp_path / "t.safetensors", tagger)
    (music / "broken.mp3").write_bytes(b"nothing" * 50)
    (music / "cover.jpg").write_bytes(b"picture")
    out = tmp_path / "tags.csv"
    flags = [f"--tagger={tmp_path / 't.safetensors'}", f"--audio={tmp_path / 'music'}"]
    flags += [f"--out={out}", "--top=1", "--num_workers=1", "--write_tags=genre"]
    result = tag(*flags)
    assert result.returncode == 1  # one file could not be decoded
    assert "1 clips have no finished row" in result.stdout
    assert "not tagged: sub folder/broken.mp3: " in result.stderr
    assert [row["clip_id"] for row in rows(out)] == ["sub folder/one.flac", "sub folder/two.flac"]
    z = np.asarray(parts[0].store.features) @ tagger.kernel.T + tagger.bias
    p = expit(tagger.calibration[:, 0] * z + tagger.calibration[:, 1])[0]
    np.testing.assert_allclose(float(rows(out)[0]["probability"]), p.max(), atol=1e-3)
    from fsprobe.tagger.audio_files.file_tags import read_field

    assert "2 files would change; nothing was written" in result.stdout
    assert read_field(music / "one.flac", "genre") == []
    assert "2 files changed" in tag(*flags, "--yes").stdout
    assert read_field(music / "one.flac", "genre") == [rows(out)[0]["tag"]]
    alone = [flags[0], f"--audio={music / 'broken.mp3'}", f"--out={tmp_path / 'none.csv'}"]
    result = tag(*alone, "--num_workers=1")
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert "0 tags of 0 clips" in result.stdout and rows(tmp_path / "none.csv") == []
    said = succeeded(tag(f"--undo_tags={out}.undo.jsonl"))
    assert "2 files are as they were" in said and read_field(music / "one.flac", "genre") == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_audio_is_extracted_in_the_tagger_s_precision(tag, tmp_path, precision):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("librosa")
    (tmp_path / "music").mkdir()
    sound = 0.2 * np.random.default_rng(0).standard_normal(3 * 16_000)
    soundfile.write(tmp_path / "music" / "one.flac", sound, 16_000)
    write_manifest(tmp_path / "m.csv", Manifest(("one.flac",), ("one.flac",), ("train",), ((),)))
    extracted = ["--embedding=musicnn", "--random_weights=0", f"--precision={precision}"]
    extracted += ["--musicnn_model=MSD_vgg"]  # on CPUs too its numbers depend on the precision
    extracted += [f"--audio_root={tmp_path / 'music'}", f"--manifest={tmp_path / 'm.csv'}"]
    extracted += [f"--store={tmp_path / 'rounded'}", "--num_workers=1"]
    succeeded(tag(*extracted, module="extract.run"))
    parts = parts_of({"musicnn": open_store(tmp_path / "rounded")}, "musicnn")
    write_tagger(tmp_path / "t.safetensors", random_tagger(("calm", "loud"), parts))
    common = [f"--tagger={tmp_path / 't.safetensors'}", f"--out={tmp_path / 'o.csv'}"]
    kept = [f"--features_dir={tmp_path / 'kept'}", "--num_workers=1"]
    succeeded(tag(*common, f"--audio={tmp_path / 'music'}", *kept))
    features = [open_store(tmp_path / path).features for path in ("rounded", "kept/musicnn")]
    np.testing.assert_array_equal(*features)


@pytest.mark.slow
def test_whole_tracks_are_cut_as_the_tagger_learnt_and_pooled(tag, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    (tmp_path / "music").mkdir()
    for name in ("one", "two"):
        soundfile.write(
            tmp_path / "music" / f"{name}.flac", 0.2 * rng.standard_normal(44_100), 22_050
        )
    extracted = ["--embedding=logmel", f"--audio_root={tmp_path / 'music'}", "--num_workers=1"]
    write_manifest(tmp_path / "m.csv", Manifest(("a",), ("one.flac",), ("train",), ((),)))
    extracted += [f"--manifest={tmp_path / 'm.csv'}", f"--store={tmp_path / 'real'}"]
    succeeded(tag(*extracted, module="extract.run"))
    parts = parts_of({"logmel": open_store(tmp_path / "real")}, "logmel")
    tagger = random_tagger(("calm", "loud"), parts, shared={"clip_seconds": 0.5})
    write_tagger(tmp_path / "t.safetensors", tagger)
    flags = [f"--tagger={tmp_path / 't.safetensors'}", f"--audio={tmp_path / 'music'}", "--top=1"]
    flags += ["--num_workers=1", f"--features_dir={tmp_path / 'kept'}"]
    succeeded(tag(*flags, f"--out={tmp_path / 'clips.csv'}", f"--audacity={tmp_path / 'labels'}"))
    clips = [row["clip_id"] for row in rows(tmp_path / "clips.csv")]
    assert clips == [
        f"{name}.flac@{at}" for name in ("one", "two") for at in ("0", "0.5", "1", "1.5")
    ]
    labels = sorted((tmp_path / "labels").iterdir())
    assert len(labels) == 2 and labels[0].read_text().startswith("0.000000\t0.500000\t")
    succeeded(tag(*flags, "--by=track", f"--out={tmp_path / 'tracks.csv'}"))
    assert [row["track"] for row in rows(tmp_path / "tracks.csv")] == ["one.flac", "two.flac"]
    succeeded(
        tag(*flags[:3], "--num_workers=1", "--segment_seconds=0", f"--out={tmp_path / 'w.csv'}")
    )
    assert [row["clip_id"] for row in rows(tmp_path / "w.csv")] == ["one.flac", "two.flac"]
