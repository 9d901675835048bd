import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from extract.storage.check import verify
from extract.storage.files import HEADER, AudioRecord, StoreSpec
from extract.storage.writer import StoreWriter
from extract.store import open_store, shard_name
from tests.support.commands import Commands

CLIPS = ("a", "b", "c")


def make(path: Path, pending: bool = False, clips: tuple[str, ...] = CLIPS, **spec: int) -> Path:
    """`a` is done, `b` failed, `c` done or pending."""
    with StoreWriter(
        path, StoreSpec(embedding="toy", dim=2, keep_frames=True, **spec), clips, clips
    ) as writer:
        for row, clip in enumerate(clips):
            if clip == "b":
                writer.fail(row, "broken", AudioRecord())
            elif clip == "a" or not pending:
                writer.write(
                    row,
                    np.ones(4, np.float32),
                    np.ones(4, np.float32),
                    np.ones((2, 2), np.float16),
                    AudioRecord(),
                )
        writer.finish()
    return path


def test_a_sound_store(tmp_path: Path) -> None:
    report = verify(make(tmp_path))
    assert (report.done, report.failed, report.pending, report.checksums, report.problems) == (
        2,
        1,
        0,
        13,
        (),
    )


def test_an_unfinished_store_is_sound_as_far_as_it_goes(tmp_path: Path) -> None:
    report = verify(make(tmp_path, pending=True))
    assert (report.done, report.failed, report.pending, report.checksums, report.problems) == (
        1,
        1,
        1,
        0,
        (),
    )


def poke(name: str, offset: int, data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with (path / name).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return write


NAN = np.array(np.nan, np.float32).tobytes()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (poke("features.npy", HEADER + 4, NAN), "features.npy: NaN or Inf in clip 'a'"),
        (
            poke("features_framenorm.npy", HEADER + 2 * 16, NAN),
            "features_framenorm.npy: NaN or Inf in clip 'c'",
        ),
        (
            poke("frames.npy", HEADER, np.array(np.inf, np.float16).tobytes()),
            "clip 'a' has NaN or Inf in its frames",
        ),
        (
            poke("frame_offsets.npy", HEADER + 8, np.int64(3).tobytes()),
            "clip 'c' has frames 2 to 4",
        ),
        (
            poke("frame_offsets.npy", HEADER + 8, np.int64(9).tobytes()),
            "clip 'a' has frames 0 to 9 of 4",
        ),
        (poke("frame_offsets.npy", HEADER, np.int64(-1).tobytes()), "clip 'a' has frames -1 to 2"),
        (
            poke("features.npy", HEADER, b"\x01"),
            "features.npy: is not what store.json has the checksum of",
        ),
        (poke("clip_ids.txt", 0, b"z"), "clip_ids.txt: is not what"),
        (poke("status.npy", HEADER + 1, b"\x01"), "failures.csv names 'b', which did not fail"),
        (poke("status.npy", HEADER + 2, b"\x00"), "as if complete, but pending"),
        (poke("status.npy", HEADER, b"\x02"), "clip 'a' failed, but failures.csv has no reason"),
        (poke("failures.csv", 15, b"q"), "names 'q'"),
    ],
)
def test_every_kind_of_damage_is_found(
    tmp_path: Path, damage: Callable[[Path], None], named: str
) -> None:
    damage(make(tmp_path))
    assert any(named in problem for problem in verify(tmp_path).problems)


def test_every_single_byte_of_the_arrays_counts(tmp_path: Path) -> None:
    make(tmp_path)
    rng = np.random.default_rng(0)
    for name in open_store(tmp_path).meta["checksums"]:
        data = (tmp_path / name).read_bytes()
        for place in rng.integers(0, len(data), 20):
            (tmp_path / name).write_bytes(
                data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            )
            with contextlib.suppress(InputError):
                assert verify(tmp_path).problems
        (tmp_path / name).write_bytes(data)
    assert not verify(tmp_path).problems


def test_problems_in_any_shard_are_found(tmp_path: Path) -> None:
    for index, clips in enumerate((("a", "b"), ("c", "d"))):
        make(tmp_path / shard_name(index, 2), clips=clips, num_shards=2, shard_index=index)
    report = verify(tmp_path)
    assert (report.done, report.failed, report.checksums, report.problems) == (3, 1, 26, ())
    poke("features.npy", HEADER, b"\x01")(tmp_path / shard_name(1, 2))
    (problem,) = verify(tmp_path).problems
    assert shard_name(1, 2) in problem


def test_the_command(tmp_path: Path, commands: Commands) -> None:
    def call() -> subprocess.CompletedProcess[str]:
        return commands.run("extract.verify", f"--store={tmp_path}")

    make(tmp_path, pending=True)
    good = call()
    assert good.returncode == 0
    assert "1 clips done and finite, 1 failed with a reason, 1 pending" in good.stdout
    poke("features.npy", HEADER, NAN)(tmp_path)
    poke("features_framenorm.npy", HEADER, NAN)(tmp_path)
    bad = call()
    assert bad.returncode == 2
    assert "features.npy: NaN or Inf in clip 'a' (and 1 more" in bad.stderr
    assert bad.stderr.strip().count("\n") == 0
