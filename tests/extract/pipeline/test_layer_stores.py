"""Several layers, a store each, in one pass: each as it would be alone, whatever stops the run."""

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from extract.embeddings import Embedding, Layer
from extract.errors import InputError
from extract.manifest import Manifest, write_manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.storage.check import verify
from extract.store import DONE, FAILED, find_layers, open_store
from tests.support import fake_embedding
from tests.support.small_disk import leave, small_disk

REPO = Path(__file__).parents[3]
ONE = RunConfig(num_workers=1)
WIDTHS = {"low": 8, "high": 16}
KILLS = int(os.environ.get("FSPROBE_KILLS", "3"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Twelve clips of noise, one of them broken."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    names = tuple(f"c{i:02}" for i in range(12))
    for name in names:
        soundfile.write(
            root / f"{name}.wav", 0.3 * rng.standard_normal(rng.integers(500, 8000)), 8000
        )
    (root / "c04.wav").write_bytes(b"")
    manifest = Manifest(names, tuple(f"{n}.wav" for n in names), ("train",) * 12, ((),) * 12)
    write_manifest(root / "manifest.csv", manifest)
    return root, manifest


def layered() -> Embedding:
    layers = tuple(Layer(name, width, {"layer": name}) for name, width in WIDTHS.items())
    return replace(fake_embedding.build(), layers=layers)


def alone(name: str) -> Embedding:
    """The same values in a frame of one layer."""
    fake = fake_embedding.build()
    start = 0 if name == "low" else WIDTHS["low"]
    part = slice(start, start + WIDTHS[name])
    return replace(
        fake,
        dim=WIDTHS[name],
        embed=lambda params, batch: fake.embed(params, batch)[:, part],
        provenance={**fake.provenance, "layer": name},
    )


def contents(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in store.iterdir() if file.suffix == ".npy"}


@pytest.fixture(scope="module")
def undisturbed(
    corpus: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    root, manifest = corpus
    path = tmp_path_factory.mktemp("alone")
    config = replace(ONE, keep_frames=True)
    for name in WIDTHS:
        extract_clips(manifest, root, alone(name), path / name, config)
    return {name: contents(path / name) for name in WIDTHS}


def test_each_layer_is_as_it_would_be_alone(
    corpus: tuple[Path, Manifest], undisturbed: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    root, manifest = corpus
    config = replace(ONE, keep_frames=True)
    summary = extract_clips(manifest, root, layered(), tmp_path / "s", config)
    assert (summary.done, summary.failed, summary.path) == (11, 1, tmp_path / "s")
    assert "empty file" in summary.failures.read_text()
    assert find_layers(tmp_path / "s") == ["high", "low"]
    for name, width in WIDTHS.items():
        assert contents(tmp_path / "s" / name) == undisturbed[name]
        store = open_store(tmp_path / "s" / name)
        assert (store.dim, store.meta["provenance"]["layer"]) == (width, name)
        assert verify(tmp_path / "s" / name).problems == ()
    # and either goes on with the other's store
    assert extract_clips(manifest, root, alone("low"), tmp_path / "s" / "low", config).done == 11


def test_layers_that_stopped_at_different_clips_meet_again(
    corpus: tuple[Path, Manifest], undisturbed: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """One store is whole, one is not begun, as a kill between two commits may leave them."""
    root, manifest = corpus
    config = replace(ONE, keep_frames=True)
    extract_clips(manifest, root, alone("low"), tmp_path / "low", config)
    before = contents(tmp_path / "low")
    extract_clips(manifest, root, layered(), tmp_path, config)
    assert contents(tmp_path / "low") == before == undisturbed["low"]
    high = open_store(tmp_path / "high")
    assert (high.status == DONE).sum() == 11
    np.testing.assert_array_equal(high.status, open_store(tmp_path / "low").status)


def test_shards(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    for index in (1, 0):
        config = RunConfig(num_workers=1, num_shards=2, shard_index=index)
        extract_clips(manifest, root, layered(), tmp_path / "s", config)
    extract_clips(manifest, root, layered(), tmp_path / "whole", ONE)
    for name in WIDTHS:
        two, one = open_store(tmp_path / "s" / name), open_store(tmp_path / "whole" / name)
        assert two.clip_ids == one.clip_ids
        np.testing.assert_allclose(np.asarray(two.features), one.features, atol=1e-6)


def test_a_layer_may_fail_by_itself(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    embedding = layered()

    def embed(params, batch):  # type: ignore[no-untyped-def]
        return embedding.embed(params, batch).at[:, 20].set(np.inf)  # type: ignore[misc]

    summary = extract_clips(manifest, root, replace(embedding, embed=embed), tmp_path / "s", ONE)
    assert (summary.done, summary.failed) == (0, 12)
    assert (open_store(tmp_path / "s" / "low").status == DONE).sum() == 11
    assert (open_store(tmp_path / "s" / "high").status == FAILED).all()
    config = replace(ONE, retry_failed=True)
    again = extract_clips(manifest, root, embedding, tmp_path / "s", config)
    assert (again.done, again.failed) == (11, 1)


def test_a_store_is_not_a_directory_of_stores(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    root, manifest = corpus
    extract_clips(manifest, root, alone("low"), tmp_path / "one", ONE)
    with pytest.raises(InputError, match="several layers need a directory that holds a store for"):
        extract_clips(manifest, root, layered(), tmp_path / "one", ONE)
    extract_clips(manifest, root, layered(), tmp_path / "two", ONE)
    with pytest.raises(InputError, match="not a store, but holds"):
        extract_clips(manifest, root, alone("low"), tmp_path / "two", ONE)
    with pytest.raises(InputError, match=r"store for each of 2 layers \(high, low\); name one of"):
        open_store(tmp_path / "two")


@pytest.mark.parametrize(
    ("room", "begun"), [(40, []), (96, ["low"]), (132, ["high", "low"])], ids=["0", "1", "2"]
)
def test_a_disk_that_fills_up(
    corpus: tuple[Path, Manifest],
    undisturbed: dict[str, dict[str, bytes]],
    tmp_path: Path,
    room: int,
    begun: list[str],
) -> None:
    """room (KiB): for no store, for one of two, for both but not for their frames."""
    root, manifest = corpus
    config = replace(ONE, keep_frames=True)
    with small_disk(tmp_path / "disk", 256 << 10) as disk:
        ballast = leave(disk, room << 10)
        with pytest.raises(InputError, match="the disk is full"):
            extract_clips(manifest, root, layered(), disk / "s", config)
        assert find_layers(disk / "s") == begun
        for name in begun:
            assert verify(disk / "s" / name).problems == ()
        ballast.unlink()
        extract_clips(manifest, root, layered(), disk / "s", config)
        for name in WIDTHS:
            assert contents(disk / "s" / name) == undisturbed[name]
            assert verify(disk / "s" / name).problems == ()


SCRIPT = """
import sys, time
from dataclasses import replace
from tests.extract.pipeline.test_layer_stores import layered
from extract.manifest import read_manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.storage import writer

writer.COMMIT_SECONDS = 0.02
embedding = layered()

def slow(audio):
    time.sleep(0.05)
    return embedding.windows(audio)

root, store = sys.argv[1:]
if __name__ == "__main__":
    extract_clips(read_manifest(root + "/manifest.csv"), root, replace(embedding, windows=slow), store,
                  RunConfig(num_workers=1, keep_frames=True))
"""


@pytest.mark.slow  # faster: layers that stopped at different clips
def test_killed_at_random_moments(
    corpus: tuple[Path, Manifest], undisturbed: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    root, _ = corpus
    script, store, rng = tmp_path / "run.py", tmp_path / "s", random.Random(0)
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, str(script), str(root), str(store)]
    for _ in range(KILLS):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (store / "high" / "store.json").exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 3))
        process.kill()
        process.wait()
        for name in WIDTHS:
            if (store / name / "store.json").exists():
                assert verify(store / name).problems == ()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    for name in WIDTHS:
        assert contents(store / name) == undisturbed[name]
        assert verify(store / name).pending == 0
