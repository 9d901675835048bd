"""The engine on real Ray: clusters of several nodes on this machine, and real kills."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.errors import InputError
from extract.manifest import Manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.pipeline.ray_engine import RayEngine
from extract.storage.check import verify
from extract.store import PENDING, open_store
from tests.support import ray_run
from tests.support.corpora import contents, failures, make_corpus

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow  # faster: test_ray_engine, without Ray
KILLS = int(os.environ.get("FSPROBE_KILLS", "4"))
STORE = 80 << 20  # bytes of a node's object store
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("corpus")
    return root, make_corpus(root, 60)


@pytest.fixture(scope="module")
def local(corpus: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of both kinds by the local engine."""
    path = tmp_path_factory.mktemp("local")
    with ray_run.small_groups():
        for kind in ray_run.KINDS:
            extract_clips(
                corpus[1], corpus[0], ray_run.KINDS[kind](), path / kind, RunConfig(num_workers=2)
            )
    return path


@contextmanager
def nodes(count: int, cpus: int = 1) -> Iterator[Any]:
    """A cluster of so many nodes, the first of which is the driver's."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=cpus, object_store_memory=STORE, include_dashboard=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def extract_on(address: str, corpus: tuple[Path, Manifest], kind: str, store: Path) -> None:
    with ray_run.small_groups():
        extract_clips(
            corpus[1],
            corpus[0],
            ray_run.KINDS[kind](),
            store,
            RunConfig(engine="ray", ray_address=address),
        )


def assert_equal(store: Path, local: Path) -> None:
    """Features to 1e-6 of their scale; all else byte for byte."""
    assert verify(store).problems == ()
    one, other = open_store(store), open_store(local)
    for name in ("features", "features_framenorm"):
        wanted = np.asarray(getattr(other, name)[:])
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(np.asarray(getattr(one, name)[:]), wanted, atol=1e-6 * scale)
    rest = [contents(path) for path in (store, local)]
    for files in rest:
        del files["features.npy"], files["features_framenorm.npy"]
    assert rest[0] == rest[1]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_equal_stores_on_nodes(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path, count: int
) -> None:
    with nodes(count) as cluster:
        for kind in ray_run.KINDS:
            extract_on(cluster.address, corpus, kind, tmp_path / kind)
    for kind in ray_run.KINDS:
        assert_equal(tmp_path / kind, local / kind)
    assert contents(tmp_path / "by clips") == contents(local / "by clips")  # no model: every bit


def processes(name: str) -> list[int]:
    """Of this test's own clusters: those whose command line begins so."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(name.encode()) and _ours(int(folder.name)):
            found.append(int(folder.name))
    return found


def _ours(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(stat.rpartition(")")[2].split()[1])
    return False


def spawn(address: str, root: Path, store: Path, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.ray_run", address, root, store, kind, "0.05"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def num_pending(store: Path) -> int:
    if not (store / "store.json").exists():
        return 1 << 30
    return int((open_store(store).status == PENDING).sum())


def kill_one(name: str, driver: subprocess.Popen[str]) -> bool:
    """Kill a process of that name as soon as there is one; whether there was, before the driver
    came to its end.
    """
    deadline = time.monotonic() + 60
    while driver.poll() is None:
        for pid in processes(name)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        assert time.monotonic() < deadline, f"no process {name} for a minute"
        time.sleep(0.002)  # a piece is decoded in some hundredths of a second
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("kind", ["by windows"])
def test_kills_of_worker_model_node_and_driver(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path, kind: str
) -> None:
    if KILLS > 4:  # a corpus that outlasts them
        corpus = (tmp_path / "audio", make_corpus(tmp_path / "audio", 15 * KILLS))
        local = tmp_path / "local"
        with ray_run.small_groups():
            extract_clips(
                corpus[1], corpus[0], ray_run.KINDS[kind](), local / kind, RunConfig(num_workers=2)
            )
    rng = random.Random(0)
    store = tmp_path / "s"
    done: list[str] = []
    with nodes(1) as cluster:
        others = [cluster.add_node(num_cpus=1, object_store_memory=STORE)]
        driver = spawn(cluster.address, corpus[0], store, kind)
        try:
            while len(done) < KILLS:
                before = num_pending(store)
                assert before, f"all is done after {len(done)} kills: {done}"
                deadline = time.monotonic() + 60
                while num_pending(store) >= before and driver.poll() is None:
                    assert time.monotonic() < deadline, "nothing goes on"
                    time.sleep(0.05)
                time.sleep(rng.uniform(0, 0.3))
                what = ("worker", "model", "node", "driver")[len(done) % 4]
                killed = True
                if what == "driver":
                    killed = driver.poll() is None
                    driver.kill()
                    driver.communicate()
                elif what == "node":
                    cluster.remove_node(others.pop(), allow_graceful=False)
                    others.append(cluster.add_node(num_cpus=1, object_store_memory=STORE))
                else:
                    name = "ray::decode" if what == "worker" else "ray::Model"
                    killed = kill_one(name, driver)
                done += [what] if killed else []
                assert verify(store).problems == ()
                if driver.poll() is not None:
                    driver = spawn(cluster.address, corpus[0], store, kind)
            errors = driver.communicate(timeout=120)[1]
            assert driver.returncode == 0, errors[-2000:]
        finally:
            driver.kill()
            driver.communicate()
        while failures(store) != failures(local / kind):  # by chance one clip lost all its tries
            extract_on(cluster.address, corpus, kind, store)
    assert_equal(store, local / kind)


def test_a_full_object_store(tmp_path: Path) -> None:
    """Clips of 30 MB each: the four that are under way are more than the store holds."""
    root = tmp_path / "audio"
    manifest = ray_run.long_clips(root, 6, seconds=940)
    stores = [tmp_path / "local", tmp_path / "ray"]
    with ray_run.small_groups():
        extract_clips(
            manifest, root, ray_run.KINDS["by windows"](), stores[0], RunConfig(num_workers=2)
        )
    with nodes(1, cpus=4) as cluster:
        extract_on(cluster.address, (root, manifest), "by windows", stores[1])
    assert_equal(stores[1], stores[0])


def test_a_cluster_without_a_cpu_ends(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    with (
        nodes(1, cpus=0) as cluster,
        pytest.raises(InputError, match=r"nothing has finished for \d s: 1 decoding task"),
        RayEngine(cluster.address, patience=4) as engine,
    ):
        extract_clips(
            corpus[1],
            corpus[0],
            ray_run.KINDS["by clips"](),
            tmp_path / "s",
            RunConfig(num_workers=1),
            engine,
        )
    assert num_pending(tmp_path / "s") > 0
    assert verify(tmp_path / "s").problems == ()


def test_no_cluster_there(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    for address in ("127.0.0.1:9", "nonsense", "ray://127.0.0.1:10001"):
        with pytest.raises(InputError, match="ray_address"):
            extract_on(address, corpus, "by clips", tmp_path / "s")


@pytest.mark.parametrize("embedding", [["logmel"], ["vggish", "--random_weights=0"]])
def test_the_command_with_a_cluster_of_its_own(
    corpus: tuple[Path, Manifest], tmp_path: Path, embedding: list[str]
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "extract.run", f"--manifest={corpus[0] / 'manifest.csv'}"),
            *(f"--audio_root={corpus[0]}", f"--store={tmp_path / 's'}", "--engine=ray"),
            *(f"--embedding={embedding[0]}", *embedding[1:]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_ADDRESS": ""},
    )
    assert done.returncode == 1  # broken files, as in the corpus
    assert f"{embedding[0]}: 53 clips" in done.stdout
    assert "7 failed" in done.stderr  # the bar
    assert "fork" not in done.stderr  # JAX says so if one happens after it has started
    assert verify(tmp_path / "s").problems == ()
    assert not processes("ray::")
