"""The store: what its reader refuses, and that its writer may die between any two writes."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError
from extract.storage import files as store_files
from extract.storage import writer as store_writer
from extract.storage.check import verify
from extract.storage.files import AudioRecord, StoreSpec
from extract.storage.writer import StoreWriter
from extract.store import AUDIO_ARRAYS, DONE, FAILED, PENDING, open_store, shard_name

CLIPS = ("a", "b", "c", "d", "e")
PATHS = tuple(f"{clip}.wav" for clip in CLIPS)
SPEC = StoreSpec(
    embedding="toy",
    dim=3,
    sample_rate=8000,
    window=0.1,
    hop=0.05,
    keep_frames=True,
    clips_sha256="0" * 64,
    provenance={"package": "tests"},
)
ARRAYS = (
    *("features.npy", "features_framenorm.npy", "status.npy", "frames.npy", "frame_offsets.npy"),
    *(f"{name}.npy" for name in AUDIO_ARRAYS),
)
TEXTS = ("clip_ids.txt", "paths.txt")  # which have a checksum, as the arrays


def values(row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(row)
    return (
        rng.standard_normal(6).astype(np.float32),
        rng.standard_normal(6).astype(np.float32),
        rng.standard_normal((1 + row % 3, 3)).astype(np.float16),
    )


def record(row: int) -> AudioRecord:
    return AudioRecord(
        seconds=1 + row,
        promised=2 + row,
        decoder="PyAV",
        audio_sha256=bytes([row + 1] * 32),
        size=100 + row,
        mtime_ns=10**18 + row,
        source_sha256=bytes([row + 2] * 32),
        notes=("silence",) * (row == 3),
    )


def fill(path: Path, spec: StoreSpec = SPEC, clips: tuple[str, ...] = CLIPS) -> None:
    """Write what is pending; the second clip fails."""
    with StoreWriter(path, spec, clips, [f"{clip}.wav" for clip in clips]) as writer:
        for row in np.flatnonzero(writer.status == PENDING).tolist():
            if row == 1:
                writer.fail(row, "broken\nfile", AudioRecord(size=7, mtime_ns=8))
            else:
                writer.write(row, *values(row), record(row))
                writer.commit()
        writer.finish()


def contents(path: Path) -> dict[str, bytes]:
    return {
        name: (path / name).read_bytes() for name in (*ARRAYS, *TEXTS, "failures.csv", "notes.csv")
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "store")
    return tmp_path / "store"


def test_what_is_written_is_read(path: Path) -> None:
    store = open_store(path)
    assert (store.name, store.dim, store.clip_ids, len(store)) == ("toy", 3, CLIPS, 5)
    assert store.status.tolist() == [DONE, FAILED, DONE, DONE, DONE]
    assert isinstance(store.features, np.memmap)
    for row in (0, 2, 3, 4):
        for got, expected in zip(
            (store.features[row], store.features_framenorm[row], store.clip_frames(row)),
            values(row),
            strict=True,
        ):
            np.testing.assert_array_equal(got, expected)
    assert not store.features[1].any()
    assert len(store.clip_frames(1)) == 0
    np.testing.assert_array_equal(
        store.rows("features", [3, 0, 3]), [values(3)[0], values(0)[0], values(3)[0]]
    )
    assert (path / "failures.csv").read_text() == "clip_id,reason\nb,broken file\n"
    assert (path / "notes.csv").read_text() == "clip_id,note\nd,silence\n"
    assert store.seconds is not None
    assert store.seconds.tolist() == [1, 0, 3, 4, 5]
    assert store.audio["source"].tolist() == [[100, 10**18], [7, 8]] + [
        [100 + row, 10**18 + row] for row in (2, 3, 4)
    ]
    assert store.audio_hashes == {CLIPS[row]: f"{row + 1:02x}" * 32 for row in (0, 2, 3, 4)}
    assert store.paths == ("a.wav", "b.wav", "c.wav", "d.wav", "e.wav")
    assert set(store.meta["checksums"]) == {*ARRAYS, *TEXTS}
    for name in ARRAYS:  # plain .npy, as DESIGN.md promises
        np.load(path / name, mmap_mode="r", allow_pickle=False)


def test_the_view_cannot_be_written_through(path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_store(path).features[0] = 1  # type: ignore[index]


def save(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path / name, array, allow_pickle=True)


def edit_meta(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        meta = json.loads((path / "store.json").read_text())
        (path / "store.json").write_text(json.dumps({**meta, **changes}))

    return edit


def cut(name: str, keep: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(
        path / name, (path / name).stat().st_size + keep if keep < 0 else keep
    )


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(data)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch exploded",)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (cut("features.npy", 300), "features.npy"),
        (cut("features.npy", 100), "features.npy"),
        (cut("features_framenorm.npy", 0), "features_framenorm.npy"),
        (save("features.npy", np.zeros((4, 6), np.float32)), "features.npy"),
        (save("features.npy", np.zeros((6, 6), np.float32)), "features.npy"),
        (save("features.npy", np.zeros((5, 3), np.float32)), "features.npy"),
        (save("features.npy", np.zeros((5, 6), np.float64)), "features.npy"),
        (save("features.npy", np.zeros((5, 6), ">f4")), "features.npy"),
        (save("features.npy", np.full((5, 6), None)), "features.npy"),
        (save("features.npy", np.array([[Bomb()] * 6] * 5)), "features.npy"),
        (write("features.npy", pickle.dumps(Bomb())), "features.npy"),
        (write("features.npy", b"PK\x03\x04 not an npy"), "features.npy"),
        (save("status.npy", np.zeros(4, np.uint8)), "status.npy"),
        (save("status.npy", np.full(5, 7, np.uint8)), "status.npy"),
        (cut("frames.npy", -1), "frames.npy"),
        (save("frame_offsets.npy", np.zeros((5, 3), np.int64)), "frame_offsets.npy"),
        (write("clip_ids.txt", b"a\nb\nc\nd\n"), "features.npy"),
        (write("clip_ids.txt", b"a\nb\nc\nd\nd\n"), "clip_ids.txt.*'d' stands twice"),
        (write("clip_ids.txt", b"a\nb\n\nd\ne\n"), "clip_ids.txt, line 3"),
        (write("clip_ids.txt", b"\xff\xfe"), "clip_ids.txt"),
        (lambda path: (path / "features.npy").unlink(), "features.npy"),
        (lambda path: (path / "clip_ids.txt").unlink(), "clip_ids.txt"),
        (lambda path: (path / "store.json").unlink(), "store.json"),
        (write("store.json", b"{"), "store.json"),
        (write("store.json", b"[]"), "store.json"),
        (edit_meta(format_version=2), "store.json: format version 2"),
        (edit_meta(dim="3"), "store.json: dim"),
        (edit_meta(dim=0), "store.json"),
        (edit_meta(aggregation="max"), "store.json"),
    ],
)
def test_opening_is_strict(
    path: Path, damage: Callable[[Path], object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path)
    damage(path)
    with pytest.raises(InputError, match=named):
        open_store(path)
    assert not (path / "exploded").exists()


@settings(deadline=None, max_examples=150, derandomize=True)
@given(place=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_damaged_header_is_an_input_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "header"
    if not path.exists():
        fill(path)
    file = path / "features.npy"
    good = file.read_bytes()
    try:
        file.write_bytes(good[:place] + bytes([byte]) + good[place + 1 :])
        assert open_store(path).features.shape == (5, 6)
    except InputError:
        pass
    finally:
        file.write_bytes(good)


def test_no_store_at_all(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="is not a store"):
            open_store(missing)


# --- shards


def fill_shards(path: Path, total: int = 3) -> None:
    clips = tuple(f"c{i}" for i in range(10))
    for index in range(total):
        spec = StoreSpec(**{**vars(SPEC), "num_shards": total, "shard_index": index})
        fill(
            path / shard_name(index, total),
            spec,
            clips[index * 10 // total : (index + 1) * 10 // total],
        )


def test_shards_open_as_one(tmp_path: Path) -> None:
    fill_shards(tmp_path)
    store = open_store(tmp_path)
    parts = [open_store(tmp_path / shard_name(index, 3)) for index in range(3)]
    assert store.clip_ids == tuple(f"c{i}" for i in range(10))
    whole = np.concatenate([part.features for part in parts])
    assert store.features.shape == (10, 6)
    assert store.features.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(store.features), whole)
    for index in (0, -1, 5, slice(2, 8), slice(None, None, -1), [7, 0, 3, 3], whole[:, 0] > 0):
        np.testing.assert_array_equal(store.features[index], whole[index])
    np.testing.assert_array_equal(
        store.rows("features_framenorm", [9, 1]),
        [parts[2].features_framenorm[3], parts[0].features_framenorm[1]],
    )
    assert store.status.tolist() == [status for part in parts for status in part.status]
    np.testing.assert_array_equal(store.clip_frames(8), parts[2].clip_frames(2))
    assert len(store.meta["checksums"]) == 3 * 13


def test_shards_that_do_not_belong_together(tmp_path: Path) -> None:
    fill_shards(tmp_path)
    last = tmp_path / shard_name(2, 3)
    shutil.copytree(last, tmp_path / "aside")
    edit_meta(provenance={"package": "other"})(last)
    with pytest.raises(InputError, match="provenance"):
        open_store(tmp_path)
    shutil.rmtree(last)
    with pytest.raises(InputError, match="shard-00002-of-00003"):
        open_store(tmp_path)
    shutil.copytree(tmp_path / shard_name(1, 3), last)
    with pytest.raises(InputError, match="'c3' stands twice"):
        open_store(tmp_path)
    shutil.copytree(last, tmp_path / shard_name(0, 2))
    with pytest.raises(InputError, match="shards of 2 and of 3"):
        open_store(tmp_path)


# --- the writer


class Crash(BaseException):
    pass


def test_a_crash_before_any_write_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine stops at the k-th write, sync, truncation or renaming, for every k until none is
    left.
    """
    # what a killed process wrote is there without it; the calls are counted all the same
    monkeypatch.setattr(os, "fsync", lambda file: None)
    fill(tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    assert verify(tmp_path / "undisturbed").problems == ()
    names = [
        (os, "pwrite"),
        (os, "fsync"),
        (os, "truncate"),
        (os, "posix_fallocate"),
        (Path, "replace"),
    ]
    calls = 0
    for limit in range(1000):
        path, count = tmp_path / str(limit), 0
        with monkeypatch.context() as patch:

            def stop_at(function: Callable[..., object]) -> Callable[..., object]:
                def counted(*args: object) -> object:
                    nonlocal count
                    count += 1
                    if count > limit:  # noqa: B023
                        raise Crash
                    return function(*args)

                return counted

            for owner, name in names:
                patch.setattr(owner, name, stop_at(getattr(owner, name)))
            # a process that is killed cleans nothing up
            patch.setattr(Path, "unlink", lambda *args, **kwargs: None)
            try:
                fill(path)
            except Crash:
                pass
            else:
                calls = count
                break
        if (path / "store.json").exists():
            assert verify(path).problems == (), limit
        fill(path)
        assert contents(path) == expected, limit
        report = verify(path)
        assert (report.problems, report.done, report.failed, report.pending) == ((), 4, 1, 0)
        assert not list(path.glob(".*.tmp"))
    assert calls > 40  # the loop did meet them one by one


@pytest.mark.parametrize("reopened", [False, True])
def test_a_reason_that_a_kill_left_goes_where_the_clip_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reopened: bool
) -> None:
    """The reason was written, its status not yet; or the status was taken back, the reason not."""
    if reopened:
        fill(tmp_path)
    with monkeypatch.context() as patch, StoreWriter(tmp_path, SPEC, CLIPS, PATHS) as writer:
        if reopened:
            patch.setattr(store_files, "write_pairs", lambda *args: None)
            writer.reopen([1])
        else:
            patch.setattr(store_writer, "write_at", lambda *args: None)
            writer.fail(1, "broken", AudioRecord())
            writer.commit()
            writer.status[1] = PENDING
            writer.failures.clear()
    assert (tmp_path / "failures.csv").read_text().startswith("clip_id,reason\nb,broken")
    with StoreWriter(tmp_path, SPEC, CLIPS, PATHS) as writer:
        assert writer.status[1] == PENDING
        for row in np.flatnonzero(writer.status == PENDING).tolist():
            writer.write(row, *values(row), record(row))
        writer.finish()
    assert (verify(tmp_path).problems, verify(tmp_path).done) == ((), 5)
    assert (tmp_path / "failures.csv").read_text() == "clip_id,reason\n"


def test_a_store_begun_after_a_kill_has_its_own_paths(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "store.json").unlink()  # which comes last: the kill came before it
    others = [f"{clip}.flac" for clip in CLIPS[:3]]
    with StoreWriter(tmp_path, SPEC, CLIPS[:3], others) as writer:
        for row in range(3):
            writer.write(row, *values(row), record(row))
        writer.finish()
    assert open_store(tmp_path).paths == tuple(others)
    assert verify(tmp_path).problems == ()


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda file, data, offset: whole(file, bytes(data[:5]), offset)
    )
    fill(tmp_path / "store")
    monkeypatch.undo()
    fill(tmp_path / "other")
    assert contents(tmp_path / "store") == contents(tmp_path / "other")


def test_a_note_that_a_full_disk_kept_back_is_written_by_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with StoreWriter(tmp_path, SPEC, CLIPS, PATHS) as writer:
        writer.write(3, *values(3), record(3))
        with monkeypatch.context() as patch, pytest.raises(InputError, match="the disk is full"):
            patch.setattr(store_files, "write_pairs", full)
            writer.commit()
    assert open_store(tmp_path).status[3] == DONE
    assert (tmp_path / "notes.csv").read_text() == "clip_id,note\nd,silence\n"


def test_failed_rows_are_tried_again_on_request_only(path: Path) -> None:
    with StoreWriter(path, SPEC, CLIPS, PATHS) as writer:
        assert writer.status.tolist() == [1, 2, 1, 1, 1]
        writer.reopen([1])
    assert open_store(path).meta["checksums"] == {}
    assert verify(path).pending == 1
    with StoreWriter(path, SPEC, CLIPS, PATHS) as writer:
        writer.write(1, *values(1), record(1))
        writer.finish()
    report = verify(path)
    assert (report.problems, report.done, report.failed) == ((), 5, 0)
    np.testing.assert_array_equal(open_store(path).clip_frames(1), values(1)[2])
    assert (path / "failures.csv").read_text() == "clip_id,reason\n"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"embedding": "other"}, "embedding 'toy'"),
        ({"dim": 4}, "dim 3"),
        ({"keep_frames": False}, "keep_frames"),
        ({"provenance": {"package": "tests", "version": "2"}}, "provenance version None"),
        ({"clips_sha256": "1" * 64}, "another manifest"),
    ],
)
def test_another_spec_is_refused(path: Path, change: dict[str, object], named: str) -> None:
    before = contents(path)
    with (
        pytest.raises(InputError, match=named),
        StoreWriter(path, StoreSpec(**{**vars(SPEC), **change}), CLIPS, PATHS),
    ):
        pass
    assert contents(path) == before


@pytest.mark.parametrize(
    ("clips", "named"), [(CLIPS[:4], "5 clips → 4"), (("a", "b", "x", "d", "e"), "'c' → 'x'")]
)
def test_other_clips_are_refused(path: Path, clips: tuple[str, ...], named: str) -> None:
    with pytest.raises(InputError, match=named), StoreWriter(path, SPEC, clips, PATHS):
        pass


@pytest.mark.parametrize("name", ["thesis.tex", "features.npy"])
def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=name), StoreWriter(tmp_path, SPEC, CLIPS, PATHS):
        pass
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_second_writer_is_refused_and_a_killed_one_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "store"
    code = (
        f"import sys, time; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}; "
        f"import test_store as t; "
        f"w = t.StoreWriter({str(path)!r}, t.SPEC, t.CLIPS, t.PATHS).__enter__(); print('in', flush=True); "
        f"time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(InputError, match="another run is writing"):
            fill(path)
    finally:
        holder.kill()
        holder.wait()
    fill(path)
    assert verify(path).problems == ()


def test_a_full_disk_at_creation_leaves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        InputError, match=r"store: the disk is full; make room and run the same command again$"
    ):
        fill(tmp_path / "store")
    assert not list((tmp_path / "store").glob("*.npy"))
    monkeypatch.undo()
    fill(tmp_path / "store")
    assert verify(tmp_path / "store").problems == ()


def test_rows_are_committed_in_time_without_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writer, "COMMIT_SECONDS", 0.0)
    with StoreWriter(tmp_path, SPEC, CLIPS, PATHS) as writer:
        writer.write(0, *values(0), record(0))
        assert open_store(tmp_path).status[0] == DONE


def test_headers_have_room_for_growth() -> None:
    assert {
        len(store_files.npy_header(np.float16, (frames, 1024))) for frames in (0, 1, 10**12)
    } == {128}
