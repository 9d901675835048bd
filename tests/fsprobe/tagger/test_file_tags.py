"""Tags in audio files: merged, undone, hostile ones as text, and no byte of audio touched."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from fsprobe.tagger.audio_files import file_tags
from fsprobe.tagger.audio_files.audio_bytes import audio_sha256
from fsprobe.tagger.audio_files.file_tags import FIELDS, plan, read_field, revert, write_field
from tests.support.fake_tagger import HOSTILE

mutagen = pytest.importorskip("mutagen")
soundfile = pytest.importorskip("soundfile")
KINDS = ("mp3", "flac", "ogg", "opus", "wav", "aiff", "m4a")


def make(folder: Path, kind: str) -> Path:
    """Two seconds of noise."""
    path = folder / f"clip.{kind}"
    if kind == "m4a":
        if not shutil.which("ffmpeg"):
            pytest.skip("m4a files are made with ffmpeg, which is not installed")
        make(folder, "wav").rename(folder / "noise.wav")
        command = ["ffmpeg", "-loglevel", "error", "-i", folder / "noise.wav", path]
        subprocess.run(command, check=True)
        (folder / "noise.wav").unlink()
        return path
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 48_000).astype(np.float32)
    subtype = "OPUS" if kind == "opus" else None
    form = {"opus": "OGG"}.get(kind, kind.upper())
    soundfile.write(path, noise, 24_000, format=form, subtype=subtype)
    return path


@pytest.fixture(params=KINDS)
def audio(request, tmp_path):
    return make(tmp_path, request.param)


def decoded(path: Path) -> str:
    if path.suffix == ".m4a":
        command = ["ffmpeg", "-loglevel", "error", "-i", path, "-f", "f32le", "-"]
        return hashlib.sha256(
            subprocess.run(command, capture_output=True, check=True).stdout
        ).hexdigest()
    samples, _ = soundfile.read(path, dtype="float32")
    return hashlib.sha256(samples.tobytes()).hexdigest()


@pytest.mark.parametrize("field", FIELDS)
def test_written_merged_and_undone(audio, field, tmp_path):
    sound, heard = audio_sha256(audio), decoded(audio)
    write_field(audio, field, ["Rock", "calm"])
    before = audio.read_bytes()
    changes, refused = plan([(audio, ["rock", "new", "new", 'x "y"'])], field)
    assert not refused and changes[0].after == ["Rock", "calm", "new", 'x "y"']
    assert audio.read_bytes() == before  # a plan changes nothing
    assert "[Rock, calm] → [Rock, calm, new" in file_tags.describe(changes)
    file_tags.apply(changes, tmp_path / "undo.jsonl")
    assert read_field(audio, field) == ["Rock", "calm", "new", 'x "y"']
    assert (audio_sha256(audio), decoded(audio)) == (sound, heard)
    assert plan([(audio, ["ROCK", "new"])], field) == ([], [])
    assert revert(tmp_path / "undo.jsonl") == (1, [])
    assert read_field(audio, field) == ["Rock", "calm"]
    assert (audio_sha256(audio), decoded(audio)) == (sound, heard)
    assert {p.name for p in tmp_path.iterdir()} == {audio.name, "undo.jsonl"}


def test_a_file_without_tags_gets_some_and_loses_them_again(audio, tmp_path):
    sound = audio_sha256(audio)
    assert read_field(audio, "grouping") == []
    changes, _ = plan([(audio, ["x" * 100 for _ in range(3)] + ["long " * 3000])], "grouping")
    file_tags.apply(changes, tmp_path / "undo.jsonl")
    assert len(read_field(audio, "grouping")) == 2 and audio_sha256(audio) == sound
    revert(tmp_path / "undo.jsonl")
    assert read_field(audio, "grouping") == [] and audio_sha256(audio) == sound


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_tags_are_text(audio, field, tmp_path):
    changes, _ = plan([(audio, HOSTILE)], field)
    file_tags.apply(changes, tmp_path / "undo.jsonl")
    assert read_field(audio, field) == [" ".join(tag.split()) for tag in HOSTILE]


def test_other_fields_are_left_alone(audio):
    write_field(audio, "txxx", ["mine"])
    write_field(audio, "genre", ["Rock"])
    write_field(audio, "genre", [])
    assert read_field(audio, "txxx") == ["mine"] and read_field(audio, "genre") == []


def test_what_somebody_changed_since_is_not_undone(tmp_path):
    path = make(tmp_path, "flac")
    changes, _ = plan([(path, ["a"])], "genre")
    file_tags.apply(changes, tmp_path / "undo.jsonl")
    write_field(path, "genre", ["a", "by hand"])
    done, refused = revert(tmp_path / "undo.jsonl")
    assert done == 0 and len(refused) == 1 and "by hand" in refused[0]
    assert read_field(path, "genre") == ["a", "by hand"]


def test_what_is_no_audio_is_named_and_left_as_it_is(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"not audio at all" * 100)
    (tmp_path / "b.txt").write_text("text")
    files = [(tmp_path / name, ["x"]) for name in ("a.mp3", "b.txt", "missing.flac")]
    changes, refused = plan(files, "genre")
    assert not changes and len(refused) == 3
    for line, (path, _) in zip(refused, files, strict=True):
        assert str(path) in line and "\n" not in line
    assert (tmp_path / "b.txt").read_text() == "text"


def test_a_link_stays_a_link(tmp_path):
    """git-annex has all files as links; undoing could not bring them back."""
    link = tmp_path / "link.flac"
    link.symlink_to(make(tmp_path, "flac"))
    changes, refused = plan([(link, ["a"])], "genre")
    assert not changes and "is a link" in refused[0] and link.is_symlink()


def test_a_damaged_undo_file_is_refused(tmp_path):
    undo = tmp_path / "undo.jsonl"
    entry = {"path": "/x", "field": "genre", "before": [], "after": ["a"]}
    for text in ("[]\n", json.dumps(entry | {"field": "rm -rf"}) + "\n", "{\n" + json.dumps(entry)):
        undo.write_text(text)
        with pytest.raises(InputError, match="line 1"):
            revert(undo)
    for other in (b"ID3\x04\xff\xfb\x90", b"one line"):
        undo.write_bytes(other)
        with pytest.raises(InputError):
            revert(undo)
    undo.write_text(json.dumps(entry) + '\n{"path": "/y", "fi')  # killed while writing
    assert len(list(file_tags.read_undo(undo))) == 1


def test_audio_bytes_see_a_changed_sample(tmp_path):
    for kind in KINDS[:-1]:
        path = make(tmp_path, kind)
        before = audio_sha256(path)
        data = bytearray(path.read_bytes())
        data[-len(data) // 4] ^= 1
        path.write_bytes(data)
        try:
            assert audio_sha256(path) != before, kind
        except InputError:
            assert kind in ("ogg", "opus")


def test_a_file_without_audio_is_refused(tmp_path):
    for number, data in enumerate((b"", b"RIFX" + bytes(40), b"text")):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(data)
        with pytest.raises(InputError, match=str(path)):
            audio_sha256(path)


def test_a_real_catalogue_keeps_its_sound(real_data, tmp_path):
    for number, source in enumerate(
        sorted((real_data / "catalogue" / "audio").rglob("*.ogg"))[::40]
    ):
        path = tmp_path / f"{number}.ogg"
        path.write_bytes(source.read_bytes())
        write_field(path, "genre", ["a" * 5000])
        assert decoded(path) == decoded(source)
