"""The extraction run, end to end: real files, real worker processes, real kills."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from extract.audio import decoding as audio
from extract.audio import samples
from extract.embeddings import Embedding, build
from extract.errors import InputError
from extract.manifest import Manifest, write_manifest
from extract.pipeline import batches as framing
from extract.pipeline import workers
from extract.pipeline.aggregate import standardise, summarise
from extract.pipeline.extract_clips import RunConfig, extract_clips
from extract.pipeline.workers import Result
from extract.storage.check import verify
from extract.store import DONE, PENDING, open_store, shard_name
from tests.support import fake_embedding
from tests.support.clip_frames import (
    dies_on_long_clips,
    has_a_bug,
    mean_of_thousands,
    not_finite,
)
from tests.support.commands import Commands
from tests.support.corpora import contents, failures, make_corpus
from tests.support.small_disk import leave, small_disk

ONE = RunConfig(num_workers=1)
REPO = Path(__file__).parents[2]
KILLS = int(
    os.environ.get("FSPROBE_KILLS", "3")
)  # issue 3 asks for twenty; the ordinary suite is short
LARGE = KILLS >= 20


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("corpus")
    return root, make_corpus(root, 20)


@pytest.fixture(scope="session")
def undisturbed(corpus: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed")
    extract_clips(
        corpus[1],
        corpus[0],
        fake_embedding.build(),
        path,
        RunConfig(num_workers=2, keep_frames=True),
    )
    return path


# --- what is computed


def test_rows_are_mean_and_population_standard_deviation() -> None:
    frames = np.random.default_rng(0).normal(3, 2, (70, 5)).astype(np.float32)
    raw, norm = summarise(frames)
    np.testing.assert_allclose(raw, np.concatenate([frames.mean(0), frames.std(0)]), rtol=1e-5)
    scaled = (frames - frames.mean(1, keepdims=True)) / frames.std(1, keepdims=True)
    np.testing.assert_allclose(norm, np.concatenate([scaled.mean(0), scaled.std(0)]), atol=1e-5)
    assert raw.dtype == norm.dtype == np.float32


def test_constant_frames_standardise_to_zeros() -> None:
    rows = standardise(np.array([[0.1] * 7, [-100.00001] * 7, [0, 1, 0, 0, 0, 0, 0]], np.float32))
    assert not rows[:2].any()
    assert rows[2].std() == pytest.approx(1)


def test_a_large_offset_does_not_spoil_the_deviation() -> None:
    frames = (1e4 + np.tile([[1.0], [-1.0]], (5000, 4))).astype(np.float32)
    np.testing.assert_allclose(summarise(frames)[0], [1e4] * 4 + [1] * 4, rtol=1e-6)


def by_hand(samples: np.ndarray, most: int = 64) -> np.ndarray:
    """Frames of one clip. All clips are filled up to as many windows, for one compilation."""
    cut = fake_embedding.windows(samples)
    filled = np.zeros((most, fake_embedding.WINDOW), np.float32)
    filled[: len(cut)] = cut
    return np.asarray(jax.jit(fake_embedding.embed)(fake_embedding.build().params, filled))[
        : len(cut)
    ]


def test_windows_of_many_clips_share_batches_and_nothing_else(
    corpus: tuple[Path, Manifest], undisturbed: Path
) -> None:
    root, manifest = corpus
    store = open_store(undisturbed)
    assert store.clip_ids == manifest.clip_ids
    for row, name in enumerate(manifest.paths):
        if store.status[row] == DONE:
            expected = by_hand(audio.decode(root / name, fake_embedding.RATE))
            # float32 sums in another order; float16 has 11 bits
            np.testing.assert_allclose(store.features[row], summarise(expected)[0], atol=1e-5)
            np.testing.assert_allclose(
                store.features_framenorm[row], summarise(expected)[1], atol=1e-3
            )
            np.testing.assert_allclose(store.clip_frames(row), expected, rtol=1e-3, atol=1e-4)
    reasons = failures(undisturbed)
    assert reasons == {"c004": reasons["c004"], "c013": "empty file (0 bytes)"}
    assert "no decoder reads it" in reasons["c004"]
    assert verify(undisturbed).problems == ()


def test_one_compilation_whatever_the_lengths(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    root, manifest = corpus
    shapes = []
    embedding = fake_embedding.build()

    def traced(params: jax.Array, batch: jax.Array) -> jax.Array:
        shapes.append(batch.shape)  # runs when traced, so once per compilation
        return embedding.embed(params, batch)  # type: ignore[misc]

    extract_clips(manifest, root, replace(embedding, embed=traced), tmp_path / "s", ONE)
    assert shapes == [(16, fake_embedding.WINDOW)]


def test_number_of_workers_does_not_show(
    corpus: tuple[Path, Manifest], undisturbed: Path, tmp_path: Path
) -> None:
    """One; the other store is of two."""
    root, manifest = corpus
    config = replace(ONE, keep_frames=True)
    summary = extract_clips(manifest, root, fake_embedding.build(), tmp_path / "s", config)
    assert summary[:5] == (tmp_path / "s", 18, 2, 0, 0)
    assert contents(tmp_path / "s") == contents(undisturbed)


def test_clip_frames_in_workers_or_here(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    for place in (True, False):
        embedding = Embedding(
            name="toy",
            sample_rate=8000,
            dim=3,
            window=0.1,
            hop=0.1,
            in_workers=place,
            clip_frames=mean_of_thousands,
        )
        extract_clips(manifest, root, embedding, tmp_path / str(place), ONE)
    assert contents(tmp_path / "True") == contents(tmp_path / "False")


def test_a_long_clip_comes_through_a_scratch_file(
    corpus: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = corpus
    job = workers.Job(8000, tmp_path / "scratch")
    task = workers.Task(root / "c000.wav")
    whole = job(task)
    monkeypatch.setattr(samples, "IN_MEMORY", 100)
    mapped = job(task)
    assert isinstance(mapped.array, np.memmap)
    np.testing.assert_array_equal(mapped.array, whole.array)
    Path(str(mapped.array.filename)).unlink()
    framed = replace(job, clip_frames=mean_of_thousands)(task)
    np.testing.assert_array_equal(framed.array, mean_of_thousands(whole.array))  # type: ignore[arg-type]
    assert not list((tmp_path / "scratch").iterdir())


# --- what goes wrong


def test_useless_frames_are_failures(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    embedding = Embedding(
        name="toy", sample_rate=8000, dim=3, window=0.1, hop=0.1, clip_frames=not_finite
    )
    assert (
        extract_clips(
            manifest, root, embedding, tmp_path / "s", replace(ONE, keep_frames=True)
        ).done
        == 0
    )
    assert {reason.split(" ")[0] for clip, reason in failures(tmp_path / "s").items()} >= {
        "the",
        "a",
    }
    assert extract_clips(manifest, root, embedding, tmp_path / "t", ONE).done > 0


def test_a_worker_that_dies_costs_its_clip_only(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    root, manifest = corpus
    embedding = Embedding(
        name="toy", sample_rate=8000, dim=3, window=0.1, hop=0.1, clip_frames=dies_on_long_clips
    )
    extract_clips(manifest, root, embedding, tmp_path / "s", RunConfig(num_workers=2))
    long = {
        clip
        for clip, name in zip(manifest.clip_ids, manifest.paths, strict=True)
        if clip not in ("c004", "c013") and len(soundfile.read(root / name)[0]) > 7000
    }
    assert long
    reasons = failures(tmp_path / "s")
    assert {clip for clip, reason in reasons.items() if "died (signal 11" in reason} == long
    assert set(reasons) == long | {"c004", "c013"}


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_worker_killed_while_it_starts(
    corpus: tuple[Path, Manifest], tmp_path: Path, deaths: int
) -> None:
    killed: set[int | None] = set()

    def kill_the_first() -> None:
        """Runs right after a worker was started, long before it is ready."""
        for child in multiprocessing.active_children():
            if child.pid not in killed and len(killed) < deaths:
                killed.add(child.pid)
                child.kill()

    tasks, job = [workers.Task(corpus[0] / "c000.wav")], workers.Job(8000, tmp_path)
    stream = workers.outcomes(tasks, job, 1, kill_the_first)
    if deaths < 3:
        assert [type(result.array) for result in stream] == [np.ndarray]
    else:
        with pytest.raises(InputError, match=r"do not start \(signal 9, Killed\)"):
            list(stream)
    assert len(killed) == deaths


def test_a_bug_is_not_a_broken_file(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    embedding = Embedding(
        name="toy", sample_rate=8000, dim=3, window=0.1, hop=0.1, clip_frames=has_a_bug
    )
    with pytest.raises(RuntimeError, match="KeyError: 'bug'"):
        extract_clips(manifest, root, embedding, tmp_path / "s", ONE)
    assert open_store(tmp_path / "s").status[0] == PENDING


@pytest.mark.parametrize("name", ["../outside.wav", "/etc/passwd", "sub/../../x.wav"])
def test_a_path_that_leaves_the_root_stops_everything(
    corpus: tuple[Path, Manifest], tmp_path: Path, name: str
) -> None:
    root, manifest = corpus
    paths = (*manifest.paths[:-1], name)
    with pytest.raises(InputError, match=r"clip 'c019': path .* leads out of --audio_root"):
        extract_clips(
            replace(manifest, paths=paths), root, fake_embedding.build(), tmp_path / "s", ONE
        )
    assert not (tmp_path / "s").exists()


def test_unused_and_pathless_clips(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    manifest = replace(
        manifest.take(range(4)),
        splits=("train", "", "valid", "test"),
        paths=(*manifest.paths[:3], ""),
    )
    extract_clips(manifest, root, fake_embedding.build(), tmp_path / "s", ONE)
    assert open_store(tmp_path / "s").clip_ids == ("c000", "c002", "c003")
    assert failures(tmp_path / "s") == {"c003": "no path in the manifest"}


def test_what_cannot_be_meant_is_refused(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    embedding, store = fake_embedding.build(), tmp_path / "s"
    nothing = replace(manifest, splits=("",) * len(manifest))
    for bad, where, config, named in (
        (manifest, tmp_path / "none", ONE, "no such directory"),
        (manifest, tmp_path, ONE, "none of the 20 files"),
        (nothing, root, ONE, "no clip a split"),
        (replace(manifest, paths=("",) * 20), root, ONE, "no audio paths"),
        (manifest, root, replace(ONE, num_shards=30, shard_index=0), "without a clip"),
    ):
        with pytest.raises(InputError, match=named):
            extract_clips(bad, where, embedding, store, config)
    with pytest.raises(InputError, match="--batch_size=8: logmel takes no batches"):
        extract_clips(manifest, root, build("logmel"), store, replace(ONE, batch_size=8))
    for broken in (
        {"num_workers": 0},
        {"batch_size": -1},
        {"batch_size": 10**9},
        {"num_shards": 2, "shard_index": 2},
    ):
        with pytest.raises(InputError):
            RunConfig(**broken)
    assert not store.exists()


# --- resuming


def stopped_after(embedding: Embedding, clips: int) -> Embedding:
    """The same embedding, interrupted after that many clips."""
    seen = 0

    def windows(samples: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += 1
        if seen > clips:
            raise KeyboardInterrupt
        return embedding.windows(samples)  # type: ignore[misc]

    return replace(embedding, windows=windows)


@pytest.fixture(scope="module")
def in_fours(corpus: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as `undisturbed`, of groups of four rows."""
    path = tmp_path_factory.mktemp("in_fours")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "GROUP", 4)
        config = replace(ONE, keep_frames=True)
        extract_clips(corpus[1], corpus[0], fake_embedding.build(), path, config)
    return path


@pytest.mark.parametrize(("clips", "group"), [(17, 64), (5, 4)])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    corpus: tuple[Path, Manifest],
    undisturbed: Path,
    in_fours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clips: int,
    group: int,
) -> None:
    root, manifest = corpus
    monkeypatch.setattr(framing, "GROUP", group)
    config = replace(ONE, keep_frames=True)
    embedding = fake_embedding.build()
    with pytest.raises(KeyboardInterrupt):
        extract_clips(manifest, root, stopped_after(embedding, clips), tmp_path / "s", config)
    report = verify(tmp_path / "s")
    assert report.problems == ()
    assert report.done > 0
    assert report.pending > 0
    extract_clips(manifest, root, embedding, tmp_path / "s", config)
    assert contents(tmp_path / "s") == contents(undisturbed if group == 64 else in_fours)
    assert verify(tmp_path / "s").checksums == 13


def test_batches_without_a_pending_clip_are_not_embedded_again(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    embedding = replace(fake_embedding.build(batch_size=4), windows=lambda clip: clip)
    calls: list[int] = []

    class Counting(framing.Batcher):
        def __init__(self) -> None:
            super().__init__(embedding, 4)
            embed = self._embed
            self._embed = lambda *args: (calls.append(1), embed(*args))[1]  # type: ignore[assignment]

    rng = np.random.default_rng(0)
    clips = [
        rng.standard_normal((n, fake_embedding.WINDOW)).astype(np.float32) for n in (3, 5, 9, 2, 1)
    ]

    def frames(pending: set[int]) -> dict[int, np.ndarray]:
        batcher = Counting()
        calls.clear()
        out = [
            item
            for row, clip in enumerate(clips)
            for item in batcher.add(row, Result(clip), row in pending)
        ]
        return {row: result.array for row, result in [*out, *batcher.flush()]}

    whole = frames({0, 1, 2, 3, 4})
    assert len(calls) == 5  # 20 windows
    assert list(whole) == [0, 1, 2, 3, 4]
    for row, needed in ((0, 1), (1, 2), (2, 3), (3, 1), (4, 1)):
        alone = frames({row})
        assert len(calls) == needed
        np.testing.assert_array_equal(alone[row], whole[row])


@pytest.mark.parametrize("keep_frames", [False, True])
def test_a_finished_store_is_left_as_it_is_and_failures_can_be_retried(
    tmp_path: Path, keep_frames: bool
) -> None:
    root, store = tmp_path / "audio", tmp_path / "s"
    manifest, config = make_corpus(root, 8), replace(ONE, keep_frames=keep_frames)
    extract_clips(manifest, root, fake_embedding.build(), store, config)
    before = {
        file.name: file.stat().st_mtime_ns
        for file in store.iterdir()
        if not file.name.startswith(".")
    }
    assert extract_clips(manifest, root, fake_embedding.build(), store, config).failed == 1
    assert before == {
        file.name: file.stat().st_mtime_ns
        for file in store.iterdir()
        if not file.name.startswith(".")
    }
    soundfile.write(root / "c004.wav", np.ones(3000) / 2, 8000)
    whole = open_store(store)
    frames = [np.array(whole.clip_frames(row)) if keep_frames else None for row in range(8)]
    assert (
        extract_clips(
            manifest, root, fake_embedding.build(), store, replace(config, retry_failed=True)
        ).failed
        == 0
    )
    assert verify(store).problems == ()
    retried = open_store(store)
    for row, before_retry in enumerate(frames):
        if before_retry is not None and row != 4:
            np.testing.assert_array_equal(retried.clip_frames(row), before_retry)
    if keep_frames:
        expected = by_hand(audio.decode(root / "c004.wav", fake_embedding.RATE))
        np.testing.assert_allclose(retried.clip_frames(4), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="another manifest"):
        extract_clips(manifest.take(range(7)), root, fake_embedding.build(), store, config)
    with pytest.raises(InputError, match="other paths"):
        extract_clips(
            replace(manifest, paths=manifest.paths[::-1]),
            root,
            fake_embedding.build(),
            store,
            config,
        )
    for change, key in (
        ({"batch_size": 8}, "batch_size 16, now it is 8"),
        ({"keep_frames": not keep_frames}, "keep"),
    ):
        with pytest.raises(InputError, match=key):
            extract_clips(manifest, root, fake_embedding.build(), store, replace(config, **change))


def test_a_clip_with_useless_frames_keeps_its_place_in_the_batches(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    """The fake embedding of a batch depends on all of it, so that a shifted window shows."""
    root, manifest = corpus
    lengths = {
        len(audio.decode(root / name, 8000)) for i, name in enumerate(manifest.paths) if i in (1, 6)
    }
    fake = fake_embedding.build()

    def windows(samples: np.ndarray) -> np.ndarray:
        cut = np.array(fake.windows(samples))  # type: ignore[misc]
        return np.where(len(samples) in lengths, np.float32(np.nan), cut)

    def embed(params: jax.Array, batch: jax.Array) -> jax.Array:
        whole = jax.numpy.nansum(batch * jax.numpy.arange(1, len(batch) + 1)[:, None])
        return fake.embed(params, batch) + whole  # type: ignore[misc]

    embedding = replace(fake, windows=windows, embed=embed)
    assert extract_clips(manifest, root, embedding, tmp_path / "whole", ONE).failed == 4
    with pytest.raises(KeyboardInterrupt):
        extract_clips(manifest, root, stopped_after(embedding, 17), tmp_path / "s", ONE)
    assert (open_store(tmp_path / "s").status == PENDING).any()
    extract_clips(manifest, root, embedding, tmp_path / "s", ONE)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


# --- shards


def test_shards_hold_the_clips_of_the_whole(
    corpus: tuple[Path, Manifest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = corpus
    config = RunConfig(num_workers=1, num_shards=3)
    embedding = Embedding(
        name="toy", sample_rate=8000, dim=3, window=0.1, hop=0.1, clip_frames=mean_of_thousands
    )
    extract_clips(manifest, root, embedding, tmp_path / "one", ONE)
    for index in (2, 0):
        summary = extract_clips(
            manifest, root, embedding, tmp_path / "three", replace(config, shard_index=index)
        )
        assert summary.path == tmp_path / "three" / shard_name(index, 3)
    with pytest.raises(InputError, match="shard-00001-of-00003"):
        open_store(tmp_path / "three")
    summary = extract_clips(
        manifest, root, embedding, tmp_path / "three", replace(config, shard_index=-1)
    )
    assert summary[:3] == (tmp_path / "three", 18, 2)  # what is missing, under one bar
    shown = capsys.readouterr().err.splitlines()[-1]
    assert "20/20" in shown and "2 failed" in shown
    one, three = open_store(tmp_path / "one"), open_store(tmp_path / "three")
    assert one.clip_ids == three.clip_ids
    for name in ("features", "features_framenorm", "status"):
        np.testing.assert_array_equal(np.asarray(getattr(three, name)), getattr(one, name))
    assert verify(tmp_path / "three").problems == ()
    for store, shards in (("one", 3), ("three", 1), ("three", 2)):
        with pytest.raises(InputError, match="holds a store in"):
            extract_clips(
                manifest,
                root,
                embedding,
                tmp_path / store,
                RunConfig(num_workers=1, num_shards=shards),
            )


# --- as a process


def spawn(root: Path, store: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.fake_embedding",
            root / "manifest.csv",
            root,
            store,
            str(pause),
        ],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stderr=subprocess.PIPE,
        text=True,
    )


def num_done(store: Path) -> int:
    return int((open_store(store).status == DONE).sum()) if (store / "store.json").exists() else 0


def wait_until_under_way(process: subprocess.Popen[str], store: Path) -> None:
    before = num_done(store)
    while process.poll() is None:
        if num_done(store) > before:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate())


@pytest.mark.slow  # faster: an interrupted run resumes to the same bytes; workers of a killed run
def test_killed_at_random_moments(
    corpus: tuple[Path, Manifest], undisturbed: Path, tmp_path: Path
) -> None:
    root, manifest = corpus
    if LARGE:
        root, undisturbed = tmp_path / "audio", tmp_path / "undisturbed"
        manifest = make_corpus(root, 200)
        extract_clips(
            manifest,
            root,
            fake_embedding.build(),
            undisturbed,
            RunConfig(num_workers=2, keep_frames=True),
        )
    rng = random.Random(0)
    store = tmp_path / "s"
    counts = [0]
    for kill in range(KILLS):
        process = spawn(root, store, pause=0.02)
        try:
            if kill % 4 == 3:
                time.sleep(rng.uniform(0, 1.5))  # while it starts, perhaps
            else:
                wait_until_under_way(process, store)
                time.sleep(rng.uniform(0, 0.1))
        finally:
            process.kill()
            process.communicate()
        assert verify(store).problems == ()
        counts.append(num_done(store))
    assert counts == sorted(counts)
    assert len(set(counts)) > KILLS // 2  # most of them came in the middle of the work
    assert counts[-1] < num_done(undisturbed)
    process = spawn(root, store)
    assert process.communicate()[1] is not None
    assert process.returncode == 0
    report = verify(store)
    assert (report.problems, report.pending) == ((), 0)
    assert contents(store) == contents(undisturbed)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_do_not_outlive_a_killed_run_and_the_second_run_is_refused(
    corpus: tuple[Path, Manifest], tmp_path: Path
) -> None:
    root, manifest = corpus
    process = spawn(root, tmp_path / "s", pause=0.1)
    try:
        wait_until_under_way(process, tmp_path / "s")
        alive = children(process.pid)
        assert len(alive) >= 2
        with pytest.raises(InputError, match="another run is writing this store"):
            extract_clips(
                manifest,
                root,
                fake_embedding.build(),
                tmp_path / "s",
                RunConfig(num_workers=1, keep_frames=True),
            )
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 20
    while any(
        Path(f"/proc/{pid}").exists()
        and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
        for pid in alive
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def flags(root: Path, store: Path, *more: str) -> list[str]:
    return [
        f"--manifest={root / 'manifest.csv'}",
        f"--audio_root={root}",
        "--embedding=logmel",
        f"--store={store}",
        "--num_workers=1",
        *more,
    ]


def test_the_command(corpus: tuple[Path, Manifest], tmp_path: Path, commands: Commands) -> None:
    root, _ = corpus
    done = commands.run("extract.run", *flags(root, tmp_path / "s"))
    assert done.returncode == 1
    assert "18 clips" in done.stdout
    assert "2 of 20 clips failed" in done.stderr
    assert "failures.csv" in done.stderr
    for more, named in (
        (["--passt_hop=0.1"], "--passt_hop is no option of --embedding=logmel"),
        (["--embedding=nobody"], "unknown embedding 'nobody'"),
        (["--store="], "--store"),
        (["--shard_index=3"], "--shard_index=3"),
        (["stray"], "stray"),
        ([f"--store={root / 'c000.wav'}"], "c000.wav is a file, not a directory"),
        (["--keep_frames"], "keep_frames False, now it is True"),
    ):
        wrong = commands.run("extract.run", *flags(root, tmp_path / "s"), *more)
        assert wrong.returncode == 2, more
        assert named in wrong.stderr
        assert wrong.stderr.count("\n") == 1, wrong.stderr


def test_help_names_the_models_defaults(commands: Commands) -> None:
    from extract.embeddings import passt
    from extract.embeddings.pretrained import Source

    text = " ".join(commands.run("extract.run", "--help").stdout.split())
    for named in (
        f"PaSST's window in seconds; by default {passt.WINDOW}.",
        f"PaSST's hop in seconds; by default {passt.HOP}.",
        "OpenL3's front end; by default openl3.",
        f"{Source.backend}, the default",
    ):
        assert named in text


def test_a_signal_to_the_whole_group_ends_cleanly(tmp_path: Path) -> None:
    root = tmp_path / "audio"
    few = make_corpus(root, 4)
    names = tuple(f"c{i}" for i in range(20_000))  # more than it can do before it is stopped
    write_manifest(
        root / "manifest.csv", Manifest(names, few.paths * 5000, few.splits * 5000, few.tags * 5000)
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "extract.run", *flags(root, tmp_path / "s")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=REPO,
    )
    wait_until_under_way(process, tmp_path / "s")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    report = verify(tmp_path / "s")
    assert report.problems == ()
    assert report.done > 0
    assert report.pending > 0


BUSY = """
import sys
from dataclasses import replace
import jax
from extract.shell import run
from extract.manifest import read_manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from tests.support import fake_embedding

root, store = sys.argv[1:]
del sys.argv[1:]
fake = fake_embedding.build()

def embed(params, batch):  # a second or so of many threads at work
    matrix = jax.random.normal(jax.random.key(0), (1024, 1024)) / 32
    heat = jax.lax.fori_loop(0, 20, lambda i, x: x @ matrix, matrix)
    return fake.embed(params, batch) + 1e-9 * heat[0, 0]

if __name__ == "__main__":
    run(lambda: extract_clips(read_manifest(root + "/manifest.csv"), root, replace(fake, embed=embed), store,
                              RunConfig(num_workers=1)) and None)
"""


@pytest.mark.slow  # faster: a signal to the whole group
@pytest.mark.parametrize(("number", "at_once"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_while_a_device_computes_ends_cleanly(
    corpus: tuple[Path, Manifest], tmp_path: Path, number: signal.Signals, at_once: bool
) -> None:
    """In the middle of a batch the interpreter could die of SIGSEGV as it exited; while compiling,
    JAX could lose the exception, and the run went on.
    """
    root, _ = corpus
    paths = {"PYTHONPATH": os.pathsep.join((str(REPO), str(REPO / "tests")))}
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(root), str(tmp_path / "s")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **paths},
    )
    if at_once:
        while not (tmp_path / "s" / "store.json").exists():
            time.sleep(0.01)
        time.sleep(1)  # while the first batch compiles, or so
    else:
        wait_until_under_way(process, tmp_path / "s")
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert open_store(tmp_path / "s").status[-1] == PENDING


# --- a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as path:
        yield path


def test_a_disk_that_fills_up(corpus: tuple[Path, Manifest], undisturbed: Path, disk: Path) -> None:
    root, manifest = corpus
    config = RunConfig(num_workers=1, keep_frames=True)
    ballast = leave(disk, 72 << 10)  # room for everything but the frames
    with pytest.raises(
        InputError, match=r"the disk is full; .*run the same command again: finished clips are kept"
    ):
        extract_clips(manifest, root, fake_embedding.build(), disk / "s", config)
    assert verify(disk / "s").problems == ()
    ballast.unlink()
    extract_clips(manifest, root, fake_embedding.build(), disk / "s", config)
    assert contents(disk / "s") == contents(undisturbed)


@pytest.mark.slow  # faster: a disk that fills up
def test_a_file_size_limit_is_a_full_disk(corpus: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = corpus
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (25_000, 25_000)); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )  # the frames grow beyond it
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            limited,
            sys.executable,
            "-m",
            "extract.run",
            *flags(root, tmp_path / "s", "--keep_frames"),
        ],
        capture_output=True,
        text=True,
        cwd=REPO,
    )
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert verify(tmp_path / "s").problems == ()
    assert (
        extract_clips(
            manifest, root, build("logmel"), tmp_path / "s", replace(ONE, keep_frames=True)
        ).done
        == 18
    )
