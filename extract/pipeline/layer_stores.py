"""The stores that one run fills: one as a rule, one per layer where an embedding has several.

Each is a store like any other, with a writer, a lock and a status of its own, so each of them
survives a kill at any moment. A clip is extracted as long as it is pending in any of them, and
written to those in which it is pending; so stores that a kill left at different clips end up with
the same clips.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from extract.audio.decoding import ACCEPTED
from extract.pipeline.aggregate import Extracted
from extract.pipeline.sources import Source, compare
from extract.storage.files import StoreSpec
from extract.storage.writer import StoreWriter
from extract.store import DONE, FAILED, PENDING


class LayerStores:
    """A context manager that opens every store. paths, specs: of the stores by the layer's name,
    in the order in which their parts lie side by side in a frame.

    Entering raises InputError as `StoreWriter` does, for any of them.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        specs: Mapping[str, StoreSpec],
        clip_ids: Sequence[str],
        clip_paths: Sequence[str],
    ):
        self._writers = [
            StoreWriter(paths[name], specs[name], clip_ids, clip_paths) for name in paths
        ]
        self.scratch = self._writers[0].scratch

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def status(self) -> np.ndarray:
        """uint8 `[clip]`: pending where any store waits for the clip, failed where it failed in
        any, else done.
        """
        every = np.stack([writer.status for writer in self._writers])
        failed = np.where((every == FAILED).any(0), FAILED, DONE)
        return np.where((every == PENDING).any(0), PENDING, failed).astype(np.uint8)

    @property
    def accepted(self) -> int:
        """Done clips of truncated files."""
        rows = {
            row
            for one in self._writers
            for row, notes in one.audio.notes.items()
            if any(note.startswith(ACCEPTED) for note in notes)
        }
        return int((self.status[sorted(rows)] == DONE).sum())

    @property
    def failures(self) -> Path:
        """The file of reasons of the store in which most clips failed."""
        writer = max(self._writers, key=lambda one: int((one.status == FAILED).sum()))
        return writer.path / "failures.csv"

    def take(self, row: int, clip: Extracted) -> bool:
        """A clip's rows, or the reasons why there are none. Returns whether it has failed."""
        for writer, values in zip(self._writers, clip.rows, strict=True):
            if writer.status[row] != PENDING:
                continue
            if isinstance(values, str):
                writer.fail(
                    row, values, replace(clip.audio, seconds=0.0, decoder="", audio_sha256=b"")
                )
            else:
                writer.write(row, *values, clip.audio)
        return any(isinstance(values, str) for values in clip.rows)

    def reopen(
        self, sources: Sequence[Source], check: str, retry_failed: bool
    ) -> tuple[int, int, int]:
        """Make rows pending again whose file has changed or was never read, in every store;
        retry_failed: all that failed, too. Returns how many have changed, how many done rows' files
        no longer exist, and how many were never read.
        """
        found = [compare(one.status, one.audio.arrays, sources, check) for one in self._writers]
        changed, unread, gone = set[int](), set[int](), set[int]()
        for writer, mine in zip(self._writers, found, strict=True):
            changed.update(mine.changed)
            unread.update(mine.unread)
            gone.update(row for row in mine.gone if writer.status[row] == DONE)
            failed = np.flatnonzero(writer.status == FAILED).tolist() if retry_failed else []
            writer.reopen({*mine.changed, *mine.unread, *failed})
        return len(changed), len(gone), len(unread - changed)

    def commit(self) -> None:
        for writer in self._writers:
            writer.commit()

    def finish(self) -> None:
        for writer in self._writers:
            writer.finish()
