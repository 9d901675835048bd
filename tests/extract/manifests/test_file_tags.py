"""extract.manifests.file_tags: what players and taggers write into files is read back."""

import shutil
import subprocess
import wave

import numpy as np
import pytest

from extract.errors import InputError
from extract.manifests.file_tags import check_field, file_tags

mutagen = pytest.importorskip("mutagen")
soundfile = pytest.importorskip("soundfile")


def silence(path):
    """A short file of the kind its name says."""
    if path.suffix == ".wav":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(1600))
    elif path.suffix in (".m4a", ".wma"):
        if not shutil.which("ffmpeg"):
            pytest.skip("ffmpeg makes m4a and wma, and is not here")
        source = "anullsrc=sample_rate=44100"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-t", "0.2", "-i", source, str(path)]
        subprocess.run(command, check=True)
    else:
        kind = {".ogg": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS"), ".mp3": ("MP3", None)}
        form, subtype = kind.get(path.suffix, (path.suffix[1:].upper(), None))
        soundfile.write(path, np.zeros(4800, "f4"), 48_000, subtype, format=form)
    return path


def write(path, genre, grouping, own):
    """Tags as mutagen writes them into each kind of file."""
    from mutagen import id3

    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if isinstance(file.tags, id3.ID3):
        file.tags.add(id3.TCON(encoding=3, text=genre))
        file.tags.add(id3.TIT1(encoding=3, text=grouping))
        file.tags.add(id3.TXXX(encoding=3, desc="Tags", text=own))
        file.tags.add(id3.TXXX(encoding=3, desc="MOOD", text=["sad"]))
    elif path.suffix == ".m4a":
        file.tags["\xa9gen"], file.tags["\xa9grp"] = genre, grouping
        file.tags["----:com.apple.iTunes:TAGS"] = [text.encode() for text in own]
        file.tags["----:com.apple.iTunes:MOOD"] = [b"sad"]
    else:
        names = ("WM/Genre", "WM/ContentGroupDescription") if path.suffix == ".wma" else None
        for key, value in zip(
            (*(names or ("GENRE", "grouping")), "TAGS", "mood"),
            (genre, grouping, own, ["sad"]),
            strict=True,
        ):
            file.tags[key] = value
    file.save()


@pytest.mark.parametrize(
    "suffix", [".mp3", ".flac", ".ogg", ".opus", ".wav", ".aiff", ".m4a", ".wma"]
)
def test_every_kind_of_file(tmp_path, suffix):
    path = silence(tmp_path / f"a{suffix}")
    for field in ("genre", "grouping", "txxx"):
        assert file_tags(path, field) == []
    write(path, ["Rock", "Björk-like"], ["live; 1998"], ["piano", "slow", "piano"])
    assert file_tags(path, "genre") == ["Rock", "Björk-like"]
    assert file_tags(path, "grouping") == ["live; 1998"]
    assert file_tags(path, "txxx") == ["piano", "slow"]
    assert file_tags(path, "txxx:Mood") == ["sad"]
    assert file_tags(path, "txxx:other") == []


def test_numbers_of_genres_and_lists_in_one_value(tmp_path):
    from mutagen import id3

    path = silence(tmp_path / "a.mp3")
    tags = id3.ID3()
    tags.add(id3.TCON(encoding=0, text=["(17)(4)"]))  # as ID3v1 numbers them
    tags.add(id3.TXXX(encoding=3, desc="TAGS", text=["a\nb\r\n\nc", " "]))
    tags.save(path)
    assert file_tags(path, "genre") == ["Rock", "Disco"]
    assert file_tags(path, "txxx") == ["a", "b", "c"]


@pytest.mark.parametrize("data", [b"", b"no audio", b"ID3\x04\x00\x00\x00\x00\x0f\x7fxx", b"fLaC"])
def test_what_is_no_audio(tmp_path, data):
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.flac: its tags cannot be read"):
        file_tags(path, "genre")


def test_fields():
    for field in ("genre", "grouping", "txxx", "txxx:MOOD"):
        check_field(field)
    for field in ("", "artist", "genre:x"):
        with pytest.raises(InputError, match="--tags_from"):
            check_field(field)
