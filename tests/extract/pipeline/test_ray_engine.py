"""The engine on Ray without Ray: a cluster in this process that loses what a real one may lose."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.audio import samples
from extract.cluster import Lost, Node, Watchdog
from extract.embeddings import Embedding
from extract.errors import InputError
from extract.manifest import Manifest
from extract.pipeline import batches, ray_decoding, ray_engine
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.pipeline.ray_engine import RayEngine
from extract.pipeline.ray_models import how_many, kind_of, reserved
from extract.pipeline.ray_stages import Decoding, decode, own_versions, sources_digest
from extract.pipeline.workers import Job, Task
from extract.storage.check import verify
from extract.store import open_store
from tests.support import fake_embedding
from tests.support.clip_frames import mean_of_thousands
from tests.support.corpora import contents, failures, make_corpus
from tests.support.fake_cluster import FakeActor, FakeCluster, FakeRef

ROOT = Path(__file__).parents[3]
ONE = RunConfig(num_workers=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("corpus")
    return root, make_corpus(root, 40)


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "GROUP", 8)
    monkeypatch.setattr(ray_decoding, "CLIPS", 3)
    monkeypatch.setattr(ray_engine, "LOOK", 0.0)


def toy(in_workers: bool = True) -> Embedding:
    return Embedding(
        name="toy",
        sample_rate=8000,
        dim=3,
        window=0.1,
        hop=0.1,
        in_workers=in_workers,
        clip_frames=mean_of_thousands,
    )


KINDS = {"by windows": fake_embedding.build, "in workers": toy, "by clips": lambda: toy(False)}


def on(cluster: FakeCluster, **options: Any) -> RayEngine:
    return RayEngine(join=lambda address: cluster, **options)  # type: ignore[arg-type,return-value]


@pytest.fixture(scope="module")
def local(corpus: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of each kind by the local engine."""
    path = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "GROUP", 8)
        for name, build in KINDS.items():
            extract_clips(corpus[1], corpus[0], build(), path / name, ONE)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("nodes", "losses"), [(1, 0.0), (3, 0.0), (3, 0.3)])
def test_stores_are_the_local_engines_byte_for_byte(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path, kind: str, nodes: int, losses: float
) -> None:
    cluster = FakeCluster(nodes, losses=losses, seed=nodes)
    extract_clips(corpus[1], corpus[0], KINDS[kind](), tmp_path / "s", ONE, on(cluster))
    assert contents(tmp_path / "s") == contents(local / kind)
    assert verify(tmp_path / "s").problems == ()
    assert (cluster.lost > 2) == bool(losses)


@pytest.mark.parametrize("stops", [1, 7, 23])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path, stops: int
) -> None:
    class Stops(FakeCluster):
        def get(self, ref: FakeRef) -> Any:
            if self.count > 10 + stops:
                raise KeyboardInterrupt
            return super().get(ref)

    embedding = fake_embedding.build()
    with pytest.raises(KeyboardInterrupt):
        extract_clips(corpus[1], corpus[0], embedding, tmp_path / "s", ONE, on(Stops()))
    assert verify(tmp_path / "s").problems == ()
    extract_clips(corpus[1], corpus[0], embedding, tmp_path / "s", ONE, on(FakeCluster()))
    assert contents(tmp_path / "s") == contents(local / "by windows")


def test_frames_are_kept(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    config = replace(ONE, keep_frames=True)
    for store, engine in (("local", None), ("ray", on(FakeCluster()))):
        extract_clips(corpus[1], corpus[0], toy(), tmp_path / store, config, engine)
    one, other = open_store(tmp_path / "local"), open_store(tmp_path / "ray")
    for row in range(40):
        np.testing.assert_array_equal(one.clip_frames(row), other.clip_frames(row))
    assert verify(tmp_path / "ray").problems == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_that_costs_every_process_fails_alone_and_is_tried_by_the_next_run(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path, kind: str
) -> None:
    def deadly(arguments: tuple[Any, ...]) -> bool:
        tasks = arguments[-1] if arguments else ()
        return isinstance(tasks, list) and any(
            isinstance(task, Task) and task.path.name == "c006.wav" for task in tasks
        )

    extract_clips(
        corpus[1], corpus[0], KINDS[kind](), tmp_path / "s", ONE, on(FakeCluster(deadly=deadly))
    )
    new = failures(tmp_path / "s").keys() - failures(local / kind).keys()
    assert new == {"c006"}
    reason = failures(tmp_path / "s")["c006"]
    assert reason == "decoding was lost 3 times, at last because its process died"
    extract_clips(corpus[1], corpus[0], KINDS[kind](), tmp_path / "s", ONE, on(FakeCluster()))
    if kind != "by windows":  # its batches were others without it
        assert contents(tmp_path / "s") == contents(local / kind)
    assert failures(tmp_path / "s") == failures(local / kind)


def poison(*rows: int) -> Callable[[tuple[Any, ...]], bool]:
    """A model that is given one of these clips dies."""

    def deadly(arguments: tuple[Any, ...]) -> bool:
        return len(arguments) == 5 and any(clip.row in rows for clip in arguments[3])

    return deadly


@pytest.mark.parametrize(
    ("rows", "losses"),
    [((16,), 0.2), ((19,), 0.0), ((23,), 0.0), ((17, 18, 21), 0.2), ((1, 19), 0.0)],
)
def test_clips_that_cost_every_model_fail_alone_and_are_tried_by_the_next_run(
    corpus: tuple[Path, Manifest],
    local: Path,
    tmp_path: Path,
    rows: tuple[int, ...],
    losses: float,
) -> None:
    cluster = FakeCluster(deadly=poison(*rows), losses=losses)
    embedding = fake_embedding.build()
    extract_clips(corpus[1], corpus[0], embedding, tmp_path / "s", ONE, on(cluster))
    found, before = failures(tmp_path / "s"), failures(local / "by windows")
    assert found.keys() - before.keys() == {f"c{row:03}" for row in rows}
    for row in rows:
        assert found[f"c{row:03}"].startswith("embedding was lost 3 times, at last because")
    assert verify(tmp_path / "s").problems == ()
    whole = on(FakeCluster())
    again = extract_clips(corpus[1], corpus[0], embedding, tmp_path / "s", ONE, whole)
    assert (again.changed, again.unread) == (0, len(rows))
    assert contents(tmp_path / "s") == contents(local / "by windows")


def test_a_group_that_costs_models_whatever_is_left_out_ends(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(arguments: tuple[Any, ...]) -> bool:
        return len(arguments) == 5 and arguments[0][0] == 1

    monkeypatch.setattr(batches, "GROUP", 16)
    cluster = FakeCluster(deadly=deadly)
    embedding = fake_embedding.build()
    extract_clips(corpus[1], corpus[0], embedding, tmp_path / "s", ONE, on(cluster))
    found, before = failures(tmp_path / "s"), failures(local / "by windows")
    assert found.keys() == before.keys() | {f"c{row:03}" for row in range(16, 32)}
    assert found["c016"].startswith("embedding was lost 3 times")
    assert found["c030"].startswith("embedding was lost 20 times")
    assert len(cluster.actors) <= 2 + 20


def test_a_slow_clip_is_said_to_be_slow(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    def deadly(arguments: tuple[Any, ...]) -> bool:
        return isinstance(arguments[-1], list) and isinstance(arguments[-1][0], Task)

    cluster = FakeCluster(deadly=deadly)
    extract_clips(corpus[1].take([0]), corpus[0], toy(), tmp_path / "s", ONE, on(cluster, limit=0))
    assert failures(tmp_path / "s") == {"c000": "decoding took longer than 0 s"}


@pytest.mark.parametrize("what", ["numpy", "scipy", "librosa", "soxr", "fsprobe's source files"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_decodes_otherwise_ends_the_run(
    corpus: tuple[Path, Manifest], tmp_path: Path, what: str, kind: str
) -> None:
    class Asks(FakeCluster):
        """Asks its nodes for something that they do not have."""

        def put(self, value: Any) -> FakeRef:
            if isinstance(value, Decoding):
                assert what in value.versions
                value = replace(value, versions={**value.versions, what: "0.0.wanted"})
            return super().put(value)

    with pytest.raises(
        InputError, match=rf"node .*: has {what} \S+ instead of 0\.0\.wanted"
    ) as how:
        extract_clips(corpus[1], corpus[0], KINDS[kind](), tmp_path / "s", ONE, on(Asks()))
    assert len(str(how.value)) <= 300


@pytest.mark.parametrize("what", ["jax", "jaxlib", "flax", "platform", "numpy"])
def test_a_model_that_computes_otherwise_does_not_start(
    corpus: tuple[Path, Manifest], tmp_path: Path, what: str
) -> None:
    class Asks(FakeCluster):
        def start(self, kind: Any, *arguments: Any, **needs: Any) -> FakeActor:
            *most, versions, limit = arguments
            assert what in versions
            wanted = {**versions, what: "0.0.wanted"}
            return super().start(kind, *most, wanted, limit, **needs)

    embedding = replace(fake_embedding.build(), provenance={"platform": "cpu"})
    with pytest.raises(InputError, match=rf"has {what} \S+ instead of 0\.0\.wanted"):
        extract_clips(corpus[1], corpus[0], embedding, tmp_path / "s", ONE, on(Asks()))


def test_other_source_files_have_another_digest(tmp_path: Path) -> None:
    def digest(files: dict[str, str]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return sources_digest(folder)

    one = {"a.py": "x = 1", "sub/b.py": "y = 1"}
    others = [one | {"sub/b.py": "y = 2"}, one | {"c.py": ""}, {"a.py": "x = 1", "b.py": "y = 1"}]
    assert digest(one) == digest(one | {"sub/b.pyc": "compiled"})
    assert digest(one) not in {digest(other) for other in others}


def test_files_of_killed_decoders_are_removed(
    corpus: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long clip's scratch file is named after its process; the next task on its node removes it,
    and leaves those of others that live.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(samples, "IN_MEMORY", 10)
    folder = tmp_path / f"fsprobe-{os.getuid()}"
    job, path = Job(8000, tmp_path), corpus[0] / corpus[1].paths[0]
    child = (
        "import os, sys; from pathlib import Path; from extract.audio import decode, samples; "
        "samples.IN_MEMORY = 10; decode(Path(sys.argv[1]), 8000, Path(sys.argv[2])); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", child, str(path), str(folder)], cwd=ROOT)
    (left,) = folder.iterdir()
    others = {f"{os.getppid()}-samples-x", "notes"}
    for name in others:
        (folder / name).touch()
    decode(Decoding(job, own_versions(), 60.0), [Task(path), Task(path)])
    assert not left.exists()
    assert {file.name for file in folder.iterdir()} == others


def test_models_that_start_nowhere_end_the_run(
    corpus: tuple[Path, Manifest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = FakeCluster(starts=False)
    with pytest.raises(InputError, match=r"models do not start on node .* nor on any other"):
        extract_clips(
            corpus[1], corpus[0], fake_embedding.build(), tmp_path / "s", ONE, on(cluster)
        )
    assert "it only decodes" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_node_without_cpus_only_leads(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path, kind: str
) -> None:
    cluster = FakeCluster(nodes=1)
    cluster.alive = {"head": Node(0)} | cluster.alive
    extract_clips(corpus[1], corpus[0], KINDS[kind](), tmp_path / "s", ONE, on(cluster))
    assert contents(tmp_path / "s") == contents(local / kind)
    assert "head" not in {actor.node for actor in cluster.actors}


def test_a_model_without_a_cpu_anywhere_ends_with_what_it_waited_for(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    engine = on(FakeCluster(cpus=0), patience=0.1)
    with pytest.raises(InputError, match=r"0 models run.* 5 groups .* wait.*0 CPUs to decode on"):
        extract_clips(corpus[1], corpus[0], fake_embedding.build(), tmp_path / "s", ONE, engine)


def test_models_of_a_shard_end_before_those_of_the_next_start(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    class Counts(FakeCluster):
        most_models = 0

        def start(self, *arguments: Any, **needs: Any) -> FakeActor:
            actor = super().start(*arguments, **needs)
            alive = sum(not one.dead for one in self.actors)
            self.most_models = max(self.most_models, alive)
            return actor

    cluster = Counts(nodes=1)
    config = replace(ONE, num_shards=3, shard_index=-1)
    extract_clips(corpus[1], corpus[0], fake_embedding.build(), tmp_path / "s", config, on(cluster))
    assert (len(cluster.actors), cluster.most_models) == (3, 1)
    assert all(actor.dead for actor in cluster.actors)


def test_models_end_with_a_run_that_is_stopped(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    class Stops(FakeCluster):
        def get(self, ref: FakeRef) -> Any:
            if self.count > 20:
                raise KeyboardInterrupt
            return super().get(ref)

    cluster = Stops()
    with pytest.raises(KeyboardInterrupt):
        extract_clips(
            corpus[1], corpus[0], fake_embedding.build(), tmp_path / "s", ONE, on(cluster)
        )
    assert cluster.actors and all(actor.dead for actor in cluster.actors)


def test_what_is_under_way_is_bounded(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    cluster = FakeCluster(nodes=2, cpus=2)
    extract_clips(corpus[1], corpus[0], toy(), tmp_path / "s", ONE, on(cluster))
    assert cluster.most == 8


def test_what_is_decoded_waits_for_a_slow_model_in_a_bounded_number(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path
) -> None:
    class Slow(FakeCluster):
        """Model calls end when no decoding runs any more."""

        def __init__(self) -> None:
            super().__init__(nodes=1)
            self.decoding: set[FakeRef] = set()
            self.adding: set[FakeRef] = set()
            self.under_way = self.most_under_way = 0

        def submit(self, function: Any, *arguments: Any, returns: int = 1) -> list[FakeRef]:
            refs = super().submit(function, *arguments, returns=returns)
            self.decoding.add(refs[0])
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            return refs

        def call(self, actor: FakeActor, method: str, *arguments: Any) -> FakeRef:
            ref = super().call(actor, method, *arguments)
            self.adding |= {ref} if method == "add" else set()
            return ref

        def wait(self, refs: Any, seconds: float) -> list[FakeRef]:
            return [ref for ref in refs if ref in self.decoding] or list(refs)[:1]

        def get(self, ref: FakeRef) -> Any:
            self.under_way -= ref in self.adding
            return super().get(ref)

    cluster = Slow()
    extract_clips(corpus[1], corpus[0], fake_embedding.build(), tmp_path / "s", ONE, on(cluster))
    assert cluster.most_under_way == 2  # of two CPUs one decodes
    assert contents(tmp_path / "s") == contents(local / "by windows")


def test_a_model_that_waits_for_a_piece_gets_it_whatever_the_bound(
    corpus: tuple[Path, Manifest], local: Path, tmp_path: Path
) -> None:
    class FullAtFirst(FakeCluster):
        """The first piece does not fit: from then on there is room for one, the second."""

        def submit(self, function: Any, *arguments: Any, returns: int = 1) -> list[FakeRef]:
            refs = super().submit(function, *arguments, returns=returns)
            if self.first:
                self.first = False
                refs[0].value = Lost("Ray's object store is full", "space")
            return refs

        first = True

    cluster = FullAtFirst(nodes=1)
    engine = on(cluster, patience=10)
    extract_clips(corpus[1], corpus[0], fake_embedding.build(), tmp_path / "s", ONE, engine)
    assert contents(tmp_path / "s") == contents(local / "by windows")


def test_a_cluster_without_a_cpu_ends_with_what_it_waited_for(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    class Silent(FakeCluster):
        def wait(self, refs: Any, seconds: float) -> list[FakeRef]:
            return []

    with pytest.raises(InputError, match=r"nothing has finished for 0 s: 1 decoding task.*0 CPUs"):
        extract_clips(
            corpus[1], corpus[0], toy(), tmp_path / "s", ONE, on(Silent(cpus=0), patience=0.1)
        )


def test_the_watchdog_speaks_before_it_ends() -> None:
    now, said = [0.0], []
    dog = Watchdog(250, said.append, word=60, clock=lambda: now[0])
    for second, heard in ((30, False), (59, True), (100, False), (120, False), (180, False)):
        now[0] = second
        dog.look(heard, lambda: "a node")
    assert said == [f"nothing has finished for {second} s: a node" for second in (61, 121)]
    now[0] = 59 + 250
    with pytest.raises(InputError, match="nothing has finished for 250 s: a node; finished clips"):
        dog.look(False, lambda: "a node")


def test_pieces_are_of_few_clips_and_few_bytes(tmp_path: Path) -> None:
    sizes = [1, 1, 1, 1, 9 << 20, 5 << 20, 3 << 20, 1]
    tasks = []
    for row, size in enumerate(sizes):
        with (tmp_path / str(row)).open("wb") as file:
            file.truncate(size)
        tasks.append(Task(tmp_path / str(row)))
    assert list(ray_decoding.in_pieces(range(8), tasks)) == [(0, 1, 2), (3,), (4,), (5, 6), (7,)]


@pytest.mark.parametrize(
    ("node", "models", "cpus"),
    [(Node(16, 4, "GPU"), 4, 1), (Node(4, 4, "GPU"), 4, 0), (Node(2), 1, 1), (Node(1), 1, 0),
     (Node(64), 8, 4), (Node(9), 2, 2), (Node(0), 0, 0), (Node(0, 2, "GPU"), 2, 0)],
)  # fmt: skip
def test_a_model_per_accelerator_or_per_few_cores(node: Node, models: int, cpus: int) -> None:
    assert (how_many(node, node.kind), reserved(node, node.kind)) == (models, cpus)


def test_where_there_are_accelerators_models_run_on_them_alone() -> None:
    nodes = {"a": Node(64), "b": Node(8, 2, "GPU")}
    assert kind_of(nodes) == "GPU"
    assert how_many(nodes["a"], "GPU") == 0


def test_without_ray_one_line_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.modules['ray'] = None; sys.argv[1:] = ['--manifest=none.csv', "
        "'--audio_root=x', '--embedding=logmel', '--store=s', '--engine=ray']; "
        "runpy.run_module('extract.run', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'fsprobe[ray]'" in done.stderr


def test_an_address_needs_the_engine() -> None:
    with pytest.raises(InputError, match="--ray_address=auto: needs --engine=ray"):
        RunConfig(ray_address="auto")
    with pytest.raises(InputError, match="--engine=spark: must be local or ray"):
        RunConfig(engine="spark")
