"""Write a store so that a crash, a kill -9 or a full disk at any moment leaves one that resumes and
verifies.

Everything depends on the order of writes. Space for every row is claimed at creation; store.json
comes last, so a directory without one holds nothing yet. A row's values reach the disk before its
status says done, and a reason before its status says failed. Rows are written with pwrite, never
through a memory map: on a full disk a write to a map ends the program (SIGBUS). Checksums enter
store.json, atomically, once no row is pending.
"""

import os
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from extract.errors import InputError
from extract.files import make_directory
from extract.storage import files
from extract.storage.audio_files import AudioFiles
from extract.storage.files import (
    HEADER,
    AudioRecord,
    StoreSpec,
    disk_full_explained,
    write_at,
    write_rows,
)
from extract.storage.reading import load_array
from extract.store import (
    AUDIO_ARRAYS,
    DONE,
    FAILED,
    PENDING,
    read_meta,
)

COMMIT_SECONDS = 1.0
_OWN = {
    "features.npy",
    "features_framenorm.npy",
    "status.npy",
    "frames.npy",
    "frame_offsets.npy",
    "clip_ids.txt",
    "failures.csv",
    *(f"{name}.npy" for name in AUDIO_ARRAYS),
    "paths.txt",
    "notes.csv",
    ".lock",
    ".scratch",
}


class StoreWriter:
    """The one writer of a store directory, a context manager: creates the store, or resumes what is
    there.

    Entering raises InputError if another run holds the store, if it was begun with another spec or
    other clips (naming the difference), or if the directory holds something else. Leaving commits.
    `status`: uint8 `[clip]`, and `audio`: what the disk has. paths: of the clips' files.
    """

    def __init__(
        self,
        path: str | Path,
        spec: StoreSpec,
        clip_ids: Sequence[str],
        paths: Sequence[str],
    ):
        self.path, self.spec, self.clip_ids = Path(path), spec, tuple(clip_ids)
        self.audio = AudioFiles(self.path, self.clip_ids, paths)
        self.scratch = self.path / ".scratch"  # for audio too long for memory
        self.status = np.zeros(len(clip_ids), np.uint8)
        self.failures: dict[int, str] = {}
        self._rows: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._frames: list[tuple[int, np.ndarray]] = []  # (first frame, frames)
        self._offsets = np.zeros((len(clip_ids), 2), np.int64)
        self._num_frames = 0
        self._committed = time.monotonic()

    def __enter__(self) -> Self:
        if self.path.is_dir() and not (self.path / "store.json").exists():
            locked = (self.path / ".lock").exists()  # else a features.npy is somebody's own
            own = {name for name in _OWN if locked or not name.endswith(".npy")}
            foreign = [
                entry.name
                for entry in self.path.iterdir()
                if entry.name not in own and entry.suffix != ".tmp"
            ]
            if foreign:
                raise InputError(
                    f"{self.path}: not a store, but holds {min(foreign)!r}; name a new --store"
                )
        make_directory(self.path)
        self._lock = FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"{self.path}: another run is writing this store; wait for it, or stop it "
                "and run again"
            ) from None
        try:
            begun = (self.path / "store.json").exists()
            with disk_full_explained(self.path, kept=begun):
                self._remove_leftovers()
                if begun:
                    self._resume()
                else:
                    self._create()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.commit()
        finally:
            self._remove_leftovers()
            self._lock.release()

    def write(
        self,
        row: int,
        features: np.ndarray,
        framenorm: np.ndarray,
        frames: np.ndarray | None,
        audio: AudioRecord,
    ) -> None:
        """Take a clip's rows, float32 `[width]`, with keep_frames its frames, float16 `[frame,
        dim]`, and what it was made from.
        """
        self.audio.take(row, audio)
        if self.spec.keep_frames:
            assert frames is not None
            self._frames.append((self._num_frames, frames))
            self._offsets[row] = self._num_frames, self._num_frames + len(frames)
            self._num_frames += len(frames)
        self._rows.append((row, features, framenorm))
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def fail(self, row: int, reason: str, audio: AudioRecord) -> None:
        """Mark a clip as failed; its rows are zero. audio: what is known of its file."""
        self.failures[row] = " ".join(reason.split())
        self.audio.take(row, audio)

    def commit(self) -> None:
        """Bring everything taken so far to the disk: values first, then the status that vouches for
        them.

        Doing it twice is harmless: an interrupt may come between any two steps.
        """
        done, failed = (
            [row for row, *_ in self._rows],
            [row for row in self.failures if not self.status[row]],
        )
        zeros = np.zeros(self.spec.width, np.float32)
        with disk_full_explained(self.path):
            blank = [(row, zeros) for row in failed]
            write_rows(self._file("features"), [(row, raw) for row, raw, _ in self._rows] + blank)
            write_rows(
                self._file("features_framenorm"),
                [(row, norm) for row, _, norm in self._rows] + blank,
            )
            if self._frames:
                self._write_frames()
                write_rows(self._file("frame_offsets"), [(row, self._offsets[row]) for row in done])
            self.audio.write()
            if failed:
                self._write_failures()
            self._set_status(done, DONE)
            self._set_status(failed, FAILED)
        self._rows.clear()
        self._frames.clear()
        self._committed = time.monotonic()

    def reopen(self, rows: Collection[int]) -> None:
        """Make rows pending again, done or failed; a complete store is incomplete from then on.

        Frames of a done row stay in frames.npy, but nothing refers to them any more.
        """
        if not rows:
            return
        with disk_full_explained(self.path):
            self._write_meta({})
            self._set_status(sorted(rows), PENDING)
            for row in rows:
                self.failures.pop(row, None)
            self._write_failures()
            self.audio.forget(rows)
            if self.spec.keep_frames:
                self._drop_unvouched_frames()

    def finish(self) -> None:
        """Commit and, if no row is pending, record the checksums that say the store is complete."""
        self.commit()
        if not (self.status == PENDING).any() and not self._meta["checksums"]:
            with disk_full_explained(self.path):
                self._write_meta(files.checksums(self.path))

    def _create(self) -> None:
        clips, width = len(self.clip_ids), self.spec.width
        arrays: dict[str, tuple[Any, tuple[int, ...]]] = {
            "features": (np.float32, (clips, width)),
            "features_framenorm": (np.float32, (clips, width)),
            "status": (np.uint8, (clips,)),
            **self.audio.shapes(),
        }
        if self.spec.keep_frames:
            arrays |= {
                "frames": (np.float16, (0, self.spec.dim)),
                "frame_offsets": (np.int64, (clips, 2)),
            }
        try:
            for name, (dtype, shape) in arrays.items():
                files.allocate(self._file(name), dtype, shape)
            self._write_failures()
            files.write_lines(self.path / "clip_ids.txt", self.clip_ids)
            (self.path / "paths.txt").unlink(missing_ok=True)  # of one that was killed on its way
            self.audio.add_missing()
            self._meta = files.new_meta(self.spec, clips)
            self._write_meta({})
        except BaseException:  # give a full disk its space back
            if not (self.path / "store.json").exists():
                for name in arrays:
                    self._file(name).unlink(missing_ok=True)
            raise

    def _resume(self) -> None:
        self._meta = read_meta(self.path)
        files.check_same(self.path, self._meta, self.spec, self.clip_ids)
        clips = len(self.clip_ids)
        for name in ("features", "features_framenorm"):
            load_array(self._file(name), np.float32, (clips, self.spec.width))
        self.status = np.array(load_array(self._file("status"), np.uint8, (clips,)))
        reasons = files.read_failures(self.path)
        self.failures = {
            row: reasons.get(self.clip_ids[row], "unknown")
            for row in np.flatnonzero(self.status == FAILED).tolist()
        }
        if reasons.keys() - {self.clip_ids[row] for row in self.failures}:
            self._write_failures()  # a kill kept back a status: the clip may succeed this time
        if self.spec.keep_frames:
            load_array(self._file("frames"), np.float16, (None, self.spec.dim), growing=True)
            self._offsets = np.array(load_array(self._file("frame_offsets"), np.int64, (clips, 2)))
            self._num_frames = int(self._offsets.max(initial=0))
            if not self._meta["checksums"]:
                self._drop_unvouched_frames()
        self.audio.resume(unfinished=bool((self.status == PENDING).any()))

    def _drop_unvouched_frames(self) -> None:
        """Cut off frames that a crash kept from being vouched for by a status."""
        done = self.status == DONE
        stray = np.flatnonzero(~done & self._offsets.any(axis=1)).tolist()
        self._offsets[stray] = 0
        write_rows(self._file("frame_offsets"), [(row, self._offsets[row]) for row in stray])
        self._num_frames = int(self._offsets.max(initial=0))
        self._write_frames()  # the header first: who reads meanwhile finds as much as it states
        os.truncate(self._file("frames"), HEADER + 2 * self.spec.dim * self._num_frames)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    def _write_frames(self) -> None:
        size = 2 * self.spec.dim
        file, header = (
            self._file("frames"),
            files.npy_header(np.float16, (self._num_frames, self.spec.dim)),
        )
        write_at(
            file, [(HEADER + start * size, frames.tobytes()) for start, frames in self._frames]
        )
        write_at(file, [(0, header)])

    def _set_status(self, rows: Sequence[int], status: int) -> None:
        write_at(self._file("status"), [(HEADER + row, bytes([status])) for row in rows])
        self.status[rows] = status

    def _write_failures(self) -> None:
        files.write_pairs(
            self.path / "failures.csv",
            "reason",
            ((self.clip_ids[row], self.failures[row]) for row in sorted(self.failures)),
        )

    def _write_meta(self, sums: dict[str, str]) -> None:
        self._meta["checksums"] = sums
        files.write_meta(self.path, self._meta)

    def _remove_leftovers(self) -> None:
        for scratch in self.path.glob(".*.tmp"):
            scratch.unlink()
        shutil.rmtree(self.scratch, ignore_errors=True)
