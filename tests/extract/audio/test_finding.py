import unicodedata
from pathlib import Path

import pytest

from extract.audio.finding import find_audio
from extract.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_names_that_are_there_are_taken_as_they_are(tmp_path: Path) -> None:
    names = ("Sonata: I.m4a", "-rf.wav", "sub/é.ogg", "back\\slash.mp3", "a.WAV", "a.wav")
    touch(tmp_path, *names)
    for name in names:
        found = find_audio(tmp_path, name)
        assert (found.path, found.note) == (tmp_path / name, "")


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("a.WAV", "a.wav"),
        ("a.wav", "a.WAV"),
        (unicodedata.normalize("NFD", "Café/é.ogg"), "Café/é.ogg"),
        ("é.ogg", unicodedata.normalize("NFD", "é.ogg")),
        ("sub/deep/a.wav", "sub\\deep\\a.wav"),
        ("Sonata_ I.m4a", "Sonata: I.m4a"),
    ],
)
def test_other_spellings_are_found_with_a_note(tmp_path: Path, there: str, asked: str) -> None:
    touch(tmp_path, there, "other.wav")
    found = find_audio(tmp_path, asked)
    assert found.path == tmp_path / there
    assert found.name == there
    assert repr(there) in found.note


def test_what_is_not_found_names_the_nearest_or_the_candidates(tmp_path: Path) -> None:
    touch(tmp_path, "track_01.wav", "b.Wav", "b.WAV")
    with pytest.raises(InputError, match=r"No such file.*nearest name there is 'track_01.wav'"):
        find_audio(tmp_path, "Track_1.wav")
    with pytest.raises(InputError, match=r"may be 'b.WAV' or 'b.Wav'"):
        find_audio(tmp_path, "b.wav")
    with pytest.raises(InputError, match="No such file"):
        find_audio(tmp_path, "quite/another.flac")


def test_links_may_lead_anywhere_but_paths_may_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "blobs/h0")
    root.mkdir()
    (root / "s0.wav").symlink_to("../blobs/h0")
    (root / "all").symlink_to(tmp_path / "blobs")
    assert find_audio(root, "s0.wav").path.read_bytes() == b"x"
    assert find_audio(root, "all/h0").path.read_bytes() == b"x"
    for path in ("../blobs/h0", str(tmp_path / "blobs/h0"), "all/../../blobs/h0", "..\\blobs\\h0"):
        with pytest.raises(InputError, match="leads out"):
            find_audio(root, path)
