"""extract.download against a local server that misbehaves on request."""

import io
import os
import zipfile

import filelock
import numpy as np
import pytest

from extract.download import extract_zip, fetch, open_joined
from extract.errors import InputError
from tests.support.http_server import DATA, SHA256, server

__all__ = ["server"]  # a fixture


def leftovers(folder):
    """What lies in the folder, locks aside."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], ""])
def test_fresh(server, tmp_path, sha256):
    path = fetch(server.url + "/file", tmp_path / "deep" / "file", sha256=sha256)
    assert path.read_bytes() == DATA
    assert leftovers(path.parent) == ["file"]
    fetch(server.url + "/file", path, sha256=sha256)
    assert server.log == [None]  # the second call only checked


@pytest.mark.parametrize("sha256", [SHA256, ""])
def test_broken_transfers_go_on_where_they_stopped(server, tmp_path, sha256):
    server.cut = [300_000, 0, 100_000]
    path = fetch(server.url + "/file", tmp_path / "file", sha256=sha256, pause=0)
    assert path.read_bytes() == DATA
    assert server.log == [None, "bytes=300000-", "bytes=300000-", "bytes=400000-"]


def test_second_call_goes_on_after_the_first_gave_up(server, tmp_path):
    server.cut = [300_000, 0]
    with pytest.raises(InputError, match="300000 bytes are kept"):
        fetch(server.url + "/file", tmp_path / "file", sha256=SHA256, attempts=1, pause=0)
    assert leftovers(tmp_path) == ["file.part", "file.part.version"]
    server.log.clear()
    assert fetch(server.url + "/file", tmp_path / "file", sha256=SHA256).read_bytes() == DATA
    assert server.log == ["bytes=300000-"]
    assert leftovers(tmp_path) == ["file"]


def test_part_file_that_is_already_whole(server, tmp_path):
    (tmp_path / "file.part").write_bytes(DATA)
    assert fetch(server.url + "/file", tmp_path / "file", sha256=SHA256).read_bytes() == DATA


def test_part_file_that_is_too_long_is_begun_anew(server, tmp_path):
    (tmp_path / "file.part").write_bytes(DATA + b"more")
    assert (
        fetch(server.url + "/file", tmp_path / "file", sha256=SHA256, pause=0).read_bytes() == DATA
    )


def test_server_that_ignores_ranges(server, tmp_path):
    server.ranges, server.cut = False, [300_000]
    assert (
        fetch(server.url + "/file", tmp_path / "file", sha256=SHA256, pause=0).read_bytes() == DATA
    )
    assert server.log == [None, "bytes=300000-"]


def test_file_that_changed_between_two_calls_is_not_glued(server, tmp_path):
    server.cut = [300_000, 0]
    with pytest.raises(InputError):
        fetch(server.url + "/file", tmp_path / "file", attempts=1, pause=0)
    server.files["/file"], server.etag = DATA[::-1], '"two"'
    assert fetch(server.url + "/file", tmp_path / "file").read_bytes() == DATA[::-1]


def test_without_hash_and_version_nothing_is_resumed(server, tmp_path):
    server.etag, server.cut = "", [300_000]
    assert fetch(server.url + "/file", tmp_path / "file", pause=0).read_bytes() == DATA
    assert server.log == [None, None]


def test_wrong_checksum_removes_the_download(server, tmp_path):
    with pytest.raises(InputError, match=f"SHA-256 {SHA256} instead of 0000.*removed"):
        fetch(server.url + "/file", tmp_path / "file", sha256="0" * 64)
    assert leftovers(tmp_path) == []


def test_wrong_part_file_is_found_out_and_the_next_call_succeeds(server, tmp_path):
    (tmp_path / "file.part").write_bytes(bytes(1000))
    with pytest.raises(InputError, match="SHA-256"):
        fetch(server.url + "/file", tmp_path / "file", sha256=SHA256)
    assert fetch(server.url + "/file", tmp_path / "file", sha256=SHA256).read_bytes() == DATA


def test_wrong_file_already_there_is_named_and_kept(server, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match="delete the file"):
        fetch(server.url + "/file", tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert server.log == []


def test_server_errors(server, tmp_path):
    with pytest.raises(InputError, match="404 Not Found"):
        fetch(server.url + "/other", tmp_path / "file")
    assert len(server.log) == 1  # a refusal is final
    server.fail = [503, 429]
    assert fetch(server.url + "/file", tmp_path / "file", pause=0).read_bytes() == DATA


def test_no_server_and_no_such_scheme(tmp_path):
    with pytest.raises(InputError, match="no connection"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file", attempts=2, pause=0)
    with pytest.raises(InputError, match="not an http"):
        fetch("file:///etc/passwd", tmp_path / "file")
    assert leftovers(tmp_path) == []


def test_two_downloads_of_one_file(server, tmp_path):
    with (
        filelock.FileLock(tmp_path / ".file.lock"),
        pytest.raises(InputError, match="another process"),
    ):
        fetch(server.url + "/file", tmp_path / "file")


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parts_of(data, folder, count=3):
    """The data cut into `count` files."""
    folder.mkdir(exist_ok=True)
    edges = np.linspace(0, len(data), count + 1).astype(int)
    paths = [folder / f"zip.{k:03d}" for k in range(count)]
    for path, start, end in zip(paths, edges, edges[1:], strict=False):
        path.write_bytes(data[start:end])
    return paths


def test_joined_parts_read_as_one_file(tmp_path):
    rng = np.random.default_rng(1)
    with open_joined(parts_of(DATA, tmp_path, 4)) as file:
        assert file.read() == DATA
        for _ in range(50):
            start, length = rng.integers(len(DATA)), rng.integers(400_000)
            file.seek(start)
            assert file.read(length) == DATA[start : start + length]
            assert file.tell() == min(start + length, len(DATA))
        assert file.seek(-5, io.SEEK_END) == len(DATA) - 5
        assert file.read() == DATA[-5:]


def test_unpacking_goes_on_where_it_stopped(tmp_path):
    parts = parts_of(
        zip_of(**{"0/a.mp3": DATA, "f/b.mp3": b"", "f/c.mp3": DATA[:9]}), tmp_path / "parts"
    )
    root = tmp_path / "root"
    extract_zip(parts, root)
    assert (root / "0/a.mp3").read_bytes() == DATA
    (root / "0/a.mp3").write_bytes(b"cut")
    os.utime(root / "f/c.mp3", (0, 0))
    extract_zip(parts, root)
    assert (root / "0/a.mp3").read_bytes() == DATA
    assert (root / "f/c.mp3").stat().st_mtime == 0  # it was passed over
    assert leftovers(root / "f") == ["b.mp3", "c.mp3"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "0/../../evil", "link/evil"])
def test_member_that_escapes_stops_everything(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    parts = parts_of(zip_of(**{"good": b"good", name: b"evil"}), tmp_path / "parts")
    with pytest.raises(InputError, match="would leave"):
        extract_zip(parts, root)
    assert not (root / "good").exists()
    assert not (tmp_path / "evil").exists()


def test_damaged_archives(tmp_path):
    data = zip_of(a=DATA)
    with pytest.raises(InputError, match="not a zip"):
        extract_zip(parts_of(data[:-100], tmp_path / "cut"), tmp_path)
    flipped = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
    with pytest.raises(InputError, match="damaged"):
        extract_zip(parts_of(flipped, tmp_path / "flipped"), tmp_path)
    assert not (tmp_path / "a").exists()
