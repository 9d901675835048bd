"""What a store keeps of its audio: lengths, decoders, notes, and whether a file is still the one."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from extract.embeddings import Embedding
from extract.errors import InputError
from extract.manifest import Manifest, write_manifest
from extract.pipeline.extract_clips import RunConfig, Summary, extract_clips
from extract.storage.check import verify
from extract.store import AUDIO_ARRAYS, DECODERS, DONE, open_store
from tests.support.commands import Commands
from tests.support.damaged_audio import encode, mp3_no_header

ONE = RunConfig(num_workers=1)


def first_samples(samples: np.ndarray) -> np.ndarray:
    return np.resize(samples[:300], (100, 3))


TOY = Embedding(name="toy", sample_rate=8000, dim=3, window=0.1, hop=0.1, clip_frames=first_samples)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(8000 * seconds))


def manifest_of(*paths: str, **columns: tuple) -> Manifest:
    ids = tuple(f"c{i}" for i in range(len(paths)))
    return Manifest(ids, paths, ("train",) * len(paths), ((),) * len(paths), **columns)


def make(root: Path, *names: str) -> Manifest:
    root.mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        soundfile.write(root / name, noise(1 + seed / 10, seed), 8000)
    return manifest_of(*names)


def extract(root: Path, manifest: Manifest, store: Path, **config: object) -> Summary:
    return extract_clips(manifest, root, TOY, store, replace(ONE, **config))


def counts(summary: Summary) -> tuple[int, int, int, int]:
    return summary.done, summary.failed, summary.changed, summary.gone


def failures(store: Path) -> str:
    return (store / "failures.csv").read_text()


def notes(store: Path) -> str:
    return (store / "notes.csv").read_text()


def test_what_the_rows_were_made_from_is_kept(tmp_path: Path) -> None:
    manifest = make(tmp_path, "a.wav", "b.flac")
    samples = noise(20)[:, None].astype(np.float32)
    (tmp_path / "c.mp3").write_bytes(
        mp3_no_header(encode("mp3", samples, 8000, variable=True), np.random.default_rng(0))
    )
    (tmp_path / "d.m4a").write_bytes(encode("m4a", samples[:16_000], 8000))
    manifest = manifest_of("a.wav", "b.flac", "c.mp3", "d.m4a", "none.wav")
    assert counts(extract(tmp_path, manifest, tmp_path / "s")) == (4, 1, 0, 0)
    store = open_store(tmp_path / "s")
    assert set(store.audio) == set(AUDIO_ARRAYS)
    assert store.seconds is not None
    np.testing.assert_allclose(store.seconds[:2], [1, 1.1], rtol=1e-6)
    np.testing.assert_allclose(store.seconds[2:4], [20, 2], atol=3 * 1152 / 8000)
    assert store.seconds[4] == 0
    assert [DECODERS[code] for code in store.audio["decoder"]][:1] == ["soundfile"]
    assert DECODERS[store.audio["decoder"][3]] == "PyAV"
    for row, name in enumerate(manifest.paths[:4]):
        stat = (tmp_path / name).stat()
        assert store.audio["source"][row].tolist() == [stat.st_size, stat.st_mtime_ns]
    assert store.paths == manifest.paths
    assert set(store.audio_hashes) == {"c0", "c1", "c2", "c3"}
    assert verify(tmp_path / "s").problems == ()


# --- files that change


def test_changed_files_are_extracted_again_and_counted(tmp_path: Path) -> None:
    root = tmp_path / "audio"
    manifest = make(root, *(f"{i}.wav" for i in range(6)))
    (root / "3.wav").write_bytes(b"broken")
    manifest = replace(manifest, paths=(*manifest.paths[:5], "later.wav"))
    assert extract(root, manifest, tmp_path / "s", keep_frames=True).failed == 2
    before = open_store(tmp_path / "s")
    rows = np.array(before.features)
    frames = [np.array(before.clip_frames(row)) for row in range(6)]

    soundfile.write(root / "1.wav", noise(2, seed=50), 8000)  # another length
    soundfile.write(root / "3.wav", noise(1, seed=51), 8000)  # mended
    soundfile.write(root / "later.wav", noise(1, seed=52), 8000)  # there now
    os.utime(root / "0.wav", ns=(1, 1))  # touched only
    (root / "4.wav").unlink()
    again = extract(root, manifest, tmp_path / "s", keep_frames=True)
    assert counts(again) == (6, 0, 2, 1)
    assert again.unread == 1
    after = open_store(tmp_path / "s")
    for row in (0, 2, 4):
        np.testing.assert_array_equal(after.features[row], rows[row])
        np.testing.assert_array_equal(after.clip_frames(row), frames[row])
    assert (after.features[1] != rows[1]).any()
    assert (after.status == DONE).all()
    assert len(after.clip_frames(1)) == len(after.clip_frames(3)) == 100
    assert verify(tmp_path / "s").problems == ()
    assert failures(tmp_path / "s") == "clip_id,reason\n"
    assert extract(root, manifest, tmp_path / "s", keep_frames=True).changed == 0


def test_of_a_file_that_failed_and_is_gone_nothing_is_kept(tmp_path: Path) -> None:
    manifest = make(tmp_path, "a.wav", "b.wav")
    (tmp_path / "b.wav").write_bytes(b"broken")
    assert counts(extract(tmp_path, manifest, tmp_path / "s")) == (1, 1, 0, 0)
    (tmp_path / "b.wav").unlink()
    assert counts(extract(tmp_path, manifest, tmp_path / "s")) == (1, 1, 0, 0)


def test_only_the_hash_finds_a_change_that_keeps_size_and_time(tmp_path: Path) -> None:
    root = tmp_path / "audio"
    manifest = make(root, "a.wav")
    extract(root, manifest, tmp_path / "s")
    stat = (root / "a.wav").stat()
    soundfile.write(root / "a.wav", noise(1, seed=9), 8000)
    os.utime(root / "a.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert extract(root, manifest, tmp_path / "s").changed == 0
    assert extract(root, manifest, tmp_path / "s", check="hash").changed == 1
    assert extract(root, manifest, tmp_path / "s", check="hash").changed == 0


# --- truncated files, names, parts


def test_a_file_of_the_far_future(tmp_path: Path) -> None:
    manifest = make(tmp_path, "a.wav", "b.wav")
    os.utime(tmp_path / "a.wav", (0, 13_000_000_000))  # in 2381; nanoseconds beyond 64 bits
    for _ in range(2):
        assert counts(extract(tmp_path, manifest, tmp_path / "s")) == (2, 0, 0, 0)


def test_truncated_files_fail_or_are_accepted_and_listed(tmp_path: Path) -> None:
    root = tmp_path / "audio"
    manifest = make(root, "a.wav", "b.wav")
    (root / "b.wav").write_bytes((root / "b.wav").read_bytes()[:9000])
    assert extract(root, manifest, tmp_path / "s").failed == 1
    assert "its header promises 1.10 s, it holds 0.56 s" in failures(tmp_path / "s")
    accepted = extract(root, manifest, tmp_path / "s", retry_failed=True, on_truncated="accept")
    assert (accepted.done, accepted.failed, accepted.accepted) == (2, 0, 1)
    assert extract(root, manifest, tmp_path / "s").accepted == 1
    assert 'c1,"truncated, accepted: 0.56 s; ' in notes(tmp_path / "s")
    (short,) = (text for text in verify(tmp_path / "s").remarks if "shorter" in text)
    assert short == "1 clips are shorter than promised: 'c1' 0.56 of 1.10 s"


def test_names_that_differ_get_a_note_and_missing_ones_the_nearest(tmp_path: Path) -> None:
    make(tmp_path, "a.WAV", "Sonata: I.wav", "-b.wav")
    manifest = manifest_of("a.wav", "Sonata: I.wav", "-b.wav", "c.wav", "")
    assert extract(tmp_path, manifest, tmp_path / "s").done == 3
    assert notes(tmp_path / "s").splitlines()[1:] == [
        "c0,\"its file is named 'a.WAV', not 'a.wav'\""
    ]
    assert "c3,No such file or directory: 'c.wav'; the nearest name there is " in failures(
        tmp_path / "s"
    )
    assert "c4,no path in the manifest" in failures(tmp_path / "s")


def test_parts_of_a_file_are_clips(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    manifest = manifest_of(
        "a.wav", "a.wav", "a.wav", starts=(None, 0.25, 0.9), durations=(0.5, None, 0.5)
    )
    assert extract(tmp_path, manifest, tmp_path / "s").failed == 1
    store = open_store(tmp_path / "s")
    np.testing.assert_allclose(store.audio["seconds"], [0.5, 0.75, 0])
    assert "the clip is 0.90 to 1.40 s, its file holds 1.00 s" in failures(tmp_path / "s")


def test_starts_are_not_the_same_numbers_as_durations(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    extract(tmp_path, manifest_of("a.wav", starts=(0.25,)), tmp_path / "s")
    with pytest.raises(InputError, match="begun with another manifest"):
        extract(tmp_path, manifest_of("a.wav", durations=(0.25,)), tmp_path / "s")


# --- stores of before


def age(store: Path) -> None:
    """As a store was before anything was kept of its audio."""
    for name in (*(f"{array}.npy" for array in AUDIO_ARRAYS), "paths.txt", "notes.csv"):
        (store / name).unlink()
    meta = json.loads((store / "store.json").read_text())
    decoding = meta["provenance"]["decoding"]
    del decoding["av"], decoding["libavcodec"]
    decoding["audioread"] = "3.1.0"
    kept = {name: value for name, value in meta["checksums"].items() if (store / name).exists()}
    (store / "store.json").write_text(json.dumps({**meta, "checksums": kept}))


def test_a_complete_store_of_before_opens_and_says_what_it_lacks(tmp_path: Path) -> None:
    root = tmp_path / "audio"
    manifest = make(root, "a.wav", "b.wav")
    extract(root, manifest, tmp_path / "s")
    age(tmp_path / "s")
    store = open_store(tmp_path / "s")
    assert (store.seconds, store.audio_hashes, store.paths) == (None, {}, None)
    report = verify(tmp_path / "s")
    assert report.problems == ()
    assert "lacks seconds.npy" in report.remarks[0]
    files = {path.name: path.read_bytes() for path in (tmp_path / "s").glob("*.*")}
    assert counts(extract(root, manifest, tmp_path / "s")) == (2, 0, 0, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").glob("*.*")} == files


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("name", [f"{name}.npy" for name in AUDIO_ARRAYS])
def test_a_lost_file_is_named(tmp_path: Path, name: str, complete: bool) -> None:
    manifest = make(tmp_path, "a.wav", "b.wav")
    extract(tmp_path, manifest, tmp_path / "s")
    if not complete:
        meta = json.loads((tmp_path / "s" / "store.json").read_text())
        (tmp_path / "s" / "store.json").write_text(json.dumps({**meta, "checksums": {}}))
    (tmp_path / "s" / name).unlink()
    report = verify(tmp_path / "s")
    assert name in " ".join((*report.problems, *report.remarks))
    assert bool(report.problems) == complete
    assert counts(extract(tmp_path, manifest, tmp_path / "s")) == (2, 0, 0, 0)


def test_a_store_of_before_goes_on_and_keeps_what_it_can(tmp_path: Path) -> None:
    root = tmp_path / "audio"
    manifest = make(root, "a.wav", "b.wav")
    (root / "b.wav").write_bytes(b"broken")
    extract(root, manifest, tmp_path / "s")
    age(tmp_path / "s")
    soundfile.write(root / "b.wav", noise(1), 8000)
    assert extract(root, manifest, tmp_path / "s", retry_failed=True).done == 2
    store = open_store(tmp_path / "s")
    assert store.audio["seconds"].tolist() == [0, 1]
    assert set(store.audio_hashes) == {"c1"}
    report = verify(tmp_path / "s")
    assert report.problems == ()
    assert "1 clips were made before their seconds were kept" in report.remarks


# --- verify


def test_duplicates_that_cross_splits_are_named(tmp_path: Path, commands: Commands) -> None:
    root = tmp_path / "audio"
    make(root, "a.wav", "b.wav", "c.wav")
    shutil.copy(root / "a.wav", root / "copy.wav")
    samples, rate = soundfile.read(root / "b.wav", dtype="int16")
    soundfile.write(root / "b.flac", samples, rate)
    manifest = manifest_of("a.wav", "b.wav", "c.wav", "copy.wav", "b.flac")
    extract(root, manifest, tmp_path / "s")

    def said(*splits: str) -> list[str]:
        write_manifest(tmp_path / "m.csv", replace(manifest, splits=splits))
        flags = (f"--store={tmp_path / 's'}", f"--manifest={tmp_path / 'm.csv'}")
        return commands.run("extract.verify", *flags).stdout.splitlines()[-2:]

    assert said("train", "train", "test", "test", "valid") == [
        f"{tmp_path / 's'}: the same audio crosses splits: 'c0' (train), 'c3' (test)",
        f"{tmp_path / 's'}: the same audio crosses splits: 'c1' (train), 'c4' (valid)",
    ]
    assert said(*["train"] * 5)[-1] == f"{tmp_path / 's'}: no audio is in two splits"
    assert said("train", "train", "test", "", "train")[-1].endswith("no audio is in two splits")


def test_the_commands(tmp_path: Path, commands: Commands) -> None:
    root, store = tmp_path / "audio", tmp_path / "s"
    manifest = make(root, "a.wav", "b.wav")
    write_manifest(tmp_path / "m.csv", replace(manifest, splits=("train", "test")))

    def call(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(f"extract.{module}", f"--store={store}", *arguments)

    files = (f"--manifest={tmp_path / 'm.csv'}", f"--audio_root={root}")
    run = (*files, "--embedding=logmel", "--num_workers=1")
    (root / "b.wav").rename(tmp_path / "b.wav")
    assert call("run", *run).returncode == 1
    (tmp_path / "b.wav").rename(root / "b.wav")
    checked = call("verify", f"--audio_root={root}")
    assert checked.returncode == 1
    assert "1 clips failed before their file was read, and it is there" in checked.stdout
    assert "changed" not in checked.stdout
    soundfile.write(root / "a.wav", noise(2), 8000)
    shutil.copy(root / "a.wav", root / "b.wav")
    checked = call("verify", f"--audio_root={root}")
    assert checked.returncode == 1
    assert "1 clips' files have changed since they were extracted" in checked.stdout
    again = call("run", *run)
    assert again.returncode == 0
    assert "1 clips' files had changed since they were extracted: extracted again" in again.stdout
    assert "1 clips had failed before their file was read: tried again" in again.stdout
    checked = call("verify", *files)
    assert checked.returncode == 0, checked.stderr
    assert "seconds of audio: 2.00 least" in checked.stdout
    assert "the same audio crosses splits: 'c0' (train), 'c1' (test)" in checked.stdout
    assert "are those it was made from" in checked.stdout
    assert call("verify", f"--audio_root={root}", "--check=hash").returncode == 0
