"""Audio in object storage, against a real S3 interface that is slow, fails and breaks off."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("moto")
pytest.importorskip("s3fs")

from extract.audio import remote
from extract.embeddings import Embedding
from extract.errors import InputError
from extract.manifest import Manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.pipeline.sources import compare, locate
from extract.pipeline.workers import Job, Task
from extract.storage.check import verify
from extract.store import DONE, open_store
from tests.support import object_store
from tests.support.clip_frames import mean_of_thousands
from tests.support.corpora import contents, failures, make_corpus
from tests.support.object_store import Proxy

ONE = RunConfig(num_workers=1)
TOY = Embedding(
    name="toy", sample_rate=8000, dim=3, window=0.1, hop=0.1, clip_frames=mean_of_thousands
)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with object_store.object_store() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def corpus(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Manifest]:
    root = tmp_path_factory.mktemp("audio")
    manifest = make_corpus(root, 8)
    return root, object_store.upload(proxy, root, "a/b"), manifest


@pytest.fixture(autouse=True)
def credentials(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    proxy.log.clear()
    proxy.fail, proxy.cut, proxy.short = [], [], []
    proxy.slow, proxy.dead = 0.0, False


def place_of(address: str, name: str) -> remote.Place:
    (source,) = locate(remote.named(address), [name])
    assert isinstance(source.path, remote.Place)
    return source.path


def test_stores_are_those_of_the_same_files_on_a_disk(
    corpus: tuple[Path, str, Manifest], tmp_path: Path
) -> None:
    root, address, manifest = corpus
    for where, store in ((root, "local"), (address, "s3"), (f"file://{root}", "file")):
        summary = extract_clips(manifest, where, TOY, tmp_path / store, ONE)
        assert summary[1:3] == (7, 1)
    assert contents(tmp_path / "s3") == contents(tmp_path / "local")
    assert contents(tmp_path / "file") == contents(tmp_path / "local")
    assert verify(tmp_path / "s3").problems == ()
    store = open_store(tmp_path / "s3")
    found = compare(store.status, store.audio, locate(remote.named(address), manifest.paths))
    assert found == ((), (), 0, ())
    assert store.audio["source"][store.status == DONE].all()  # sizes and times
    assert not list((tmp_path / "s3").glob(".scratch/*"))


def test_a_file_that_changed_there_is_extracted_again(
    corpus: tuple[Path, str, Manifest], proxy: Proxy, tmp_path: Path
) -> None:
    root, _, manifest = corpus
    folder = tmp_path / "audio"
    folder.mkdir()
    for name in manifest.paths[:3]:
        (folder / name).write_bytes((root / name).read_bytes())
    address = object_store.upload(proxy, folder, "changing")
    manifest = manifest.take(range(3))
    extract_clips(manifest, address, TOY, tmp_path / "s", ONE)
    (folder / "c001.wav").write_bytes((root / "c002.wav").read_bytes())
    object_store.upload(proxy, folder, "changing")
    assert extract_clips(manifest, address, TOY, tmp_path / "s", ONE).changed == 1
    features = open_store(tmp_path / "s").features
    np.testing.assert_array_equal(np.asarray(features[1]), np.asarray(features[2]))


def test_reads_by_ranges(
    corpus: tuple[Path, str, Manifest],
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, address, _ = corpus
    monkeypatch.setattr(remote, "BLOCK", 1000)
    place = place_of(address, "c000.wav")
    copy = remote.local_copy(place, tmp_path)
    whole = (root / "c000.wav").read_bytes()
    assert copy.read_bytes() == whole
    asked = [wanted for _, wanted in proxy.log if wanted]
    assert asked == [
        f"bytes={start}-{min(start + 1000, len(whole)) - 1}" for start in range(0, len(whole), 1000)
    ]
    proxy.log.clear()
    assert remote.local_copy(place, tmp_path) == copy  # parts of a file follow each other
    assert proxy.log == []
    other = remote.local_copy(place_of(address, "c001.wav"), tmp_path)
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
    "trouble", [{"fail": [503, 500]}, {"cut": [700, 10]}, {"short": [700, 0]}, {"slow": 0.3}]
)
def test_answers_that_fail_break_off_or_are_late(
    corpus: tuple[Path, str, Manifest],
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: dict[str, object],
) -> None:
    root, address, _ = corpus
    place = place_of(address, "c000.wav")
    pauses: list[float] = []
    monkeypatch.setattr(remote, "sleep", pauses.append)
    for name, value in trouble.items():
        setattr(proxy, name, value)
    assert remote.local_copy(place, tmp_path).read_bytes() == (root / "c000.wav").read_bytes()
    assert not (proxy.fail or proxy.cut or proxy.short)
    assert pauses == [0.01 * 2**i for i in range(len(pauses))]
    if "short" in trouble:  # the library itself asks again where an answer fails or breaks off
        assert len(pauses) == 2


def test_what_stays_broken_fails_with_the_reason_and_is_tried_by_the_next_run(
    corpus: tuple[Path, str, Manifest],
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, address, manifest = corpus
    place = place_of(address, "c000.wav")
    monkeypatch.setattr(remote, "TRIES", 2)
    proxy.short = [100] * 2
    result = Job(8000, tmp_path / "scratch")(Task(place))
    assert result.array is None
    assert "not read, 2 tries: 100 of the bytes 0 to" in result.reason
    assert result.audio.size == 0  # nothing known of it: the same command tries it again
    assert not list((tmp_path / "scratch").iterdir())
    gone = place._replace(address=f"{address}/gone.wav")
    assert Job(8000, tmp_path)(Task(gone)).reason == "No such file or directory"
    missing = replace(manifest.take(range(2)), paths=("c000.wav", "gone.wav"))
    extract_clips(missing, address, TOY, tmp_path / "s", ONE)
    reasons = failures(tmp_path / "s")
    assert list(reasons) == ["c001"]
    assert reasons["c001"].startswith("No such file or directory: 'gone.wav'")


def test_names_are_found_as_on_a_disk(proxy: Proxy, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    (folder / "sub dir").mkdir(parents=True)
    for name in ("sub dir/A #1?.WAV", "sub dir/50%.wav", "sub dir/[b]*.wav"):
        (folder / name).write_bytes(b"x")
    address = object_store.upload(proxy, folder, "names")
    asked = ["sub dir\\A #1?.wav", "sub dir/50%.wav", "sub dir/./[b]*.wav", "sub dir", "../a/b"]
    found = locate(remote.named(address), asked)
    assert [str(source.path) for source in found[:3]] == [
        f"{address}/sub dir/{name}" for name in ("A #1?.WAV", "50%.wav", "[b]*.wav")
    ]
    assert found[0].note == "its file is named 'sub dir/A #1?.WAV', not 'sub dir\\\\A #1?.wav'"
    assert found[3].path is None
    assert "leads out of --audio_root" in found[4].reason


@pytest.mark.parametrize("path", ["../outside.wav", "/etc/passwd", "sub/../../x.wav"])
def test_path_rules_are_the_same(
    corpus: tuple[Path, str, Manifest], tmp_path: Path, path: str
) -> None:
    _, address, manifest = corpus
    paths = (*manifest.paths[:-1], path)
    with pytest.raises(InputError, match=r"clip 'c007': path .* leads out of --audio_root s3://"):
        extract_clips(replace(manifest, paths=paths), address, TOY, tmp_path / "s", ONE)


def test_what_cannot_be_read_is_refused(
    corpus: tuple[Path, str, Manifest],
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    manifest = corpus[2]
    monkeypatch.setattr(remote, "TRIES", 1)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for root, named in (
        ("s3://nobucket/x", "nothing is there"),
        ("s3://music/elsewhere", "nothing is there"),
        ("ftp://host/x", "addresses begin with s3://, gs://, hf:// or file://"),
        ("s3://key:secret@music/a", "leave credentials out of the address"),
        ("gs://bucket/x", r"needs: pip install 'fsprobe\[remote\]'"),
        ("file:///nowhere", "no such directory"),
    ):
        with pytest.raises(InputError, match=named) as refused:
            extract_clips(manifest, root, TOY, tmp_path / "s", ONE)
        assert "secret" not in str(refused.value)
    assert not (tmp_path / "s").exists()
