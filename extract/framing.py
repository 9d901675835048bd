"""Decoded clips → frames, in row order, by either of an Embedding's two ways.

Bit for bit, a row must not depend on where a run was killed and resumed, yet XLA does not promise that a row of
a batch comes out the same in another place of it. So clips are taken in groups of consecutive rows, the windows
of a group fill batches one after the other, and no batch spans two groups: what shares a batch is fixed by the
manifest. A group that was cut short is cut into windows again, and only batches with a pending clip are embedded.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.embeddings import Embedding
from extract.store import FAILED, PENDING
from extract.workers import Job, Result, outcomes

GROUP = 64      # rows
_IN_FLIGHT = 2  # batches on the device at a time: it computes one while the next is filled


def clip_frames(embedding: Embedding, paths: Sequence[Path], status: np.ndarray, scratch: Path,
                num_workers: int, batch_size: int) -> Iterator[tuple[int, Result]]:
    """(row, frames or reason) for every pending row, in row order but for failures, which may come earlier."""
    if embedding.windows is not None:
        yield from _by_windows(embedding, paths, status, scratch, num_workers, batch_size)
        return
    assert embedding.clip_frames is not None
    job = Job(embedding.sample_rate, scratch, embedding.clip_frames if embedding.in_workers else None)
    rows = np.flatnonzero(status == PENDING).tolist()
    with closing(outcomes([paths[row] for row in rows], job, num_workers)) as stream:
        for row, result in zip(rows, stream, strict=True):
            if not embedding.in_workers and not isinstance(result, str):
                result = embedding.clip_frames(result)
            yield row, result


def _by_windows(embedding: Embedding, paths: Sequence[Path], status: np.ndarray, scratch: Path,
                num_workers: int, batch_size: int) -> Iterator[tuple[int, Result]]:
    assert embedding.windows is not None
    touched = {int(row) // GROUP for row in np.flatnonzero(status == PENDING)}
    rows = [row for row in range(len(paths)) if row // GROUP in touched and status[row] != FAILED]
    batcher = Batcher(embedding, batch_size)
    group = -1
    with closing(outcomes([paths[row] for row in rows], Job(embedding.sample_rate, scratch), num_workers)) as stream:
        for row, result in zip(rows, stream, strict=True):
            if row // GROUP != group:
                yield from batcher.flush()
                group = row // GROUP
            pending = bool(status[row] == PENDING)
            if not isinstance(result, str):
                yield from batcher.add(row, embedding.windows(result), pending)
            elif pending:
                yield row, result
    yield from batcher.flush()


@dataclass
class _Clip:
    row: int
    frames: np.ndarray | None  # None if nobody waits for them
    missing: int


class Batcher:
    """Windows of many clips in batches of one size, `[batch_size, sample]`: one compiled program."""

    def __init__(self, embedding: Embedding, batch_size: int):
        import jax

        assert embedding.embed is not None
        self._embed = jax.jit(embedding.embed)
        self._params = jax.device_put(embedding.params)
        self._dim, self._size = embedding.dim, batch_size
        self._clips: deque[_Clip] = deque()
        self._batch: np.ndarray | None = None
        self._pieces: list[tuple[_Clip, slice, slice]] = []  # of a clip's frames, of the batch
        self._running: deque = deque()

    def add(self, row: int, windows: np.ndarray, pending: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Take a clip's windows `[window, sample]`; yield (row, frames) of clips that are finished by now."""
        clip = _Clip(row, np.empty((len(windows), self._dim), np.float32) if pending else None, len(windows))
        self._clips.append(clip)
        start = 0
        while start < len(windows):
            if self._batch is None:
                self._batch, filled = np.zeros((self._size, windows.shape[1]), np.float32), 0
            else:
                filled = self._pieces[-1][2].stop
            stop = min(len(windows), start + self._size - filled)
            place = slice(filled, filled + stop - start)
            self._batch[place] = windows[start:stop]
            self._pieces.append((clip, slice(start, stop), place))
            start = stop
            if place.stop == self._size:
                self._submit()
                yield from self._collect(_IN_FLIGHT)

    def flush(self) -> Iterator[tuple[int, np.ndarray]]:
        """Embed what is left, in a batch padded with zeros; yield (row, frames) of all clips not yet yielded."""
        if self._batch is not None:
            self._submit()
        yield from self._collect(0)

    def _submit(self) -> None:
        wanted = any(clip.frames is not None for clip, _, _ in self._pieces)
        self._running.append((self._embed(self._params, self._batch) if wanted else None, self._pieces))
        self._batch, self._pieces = None, []

    def _collect(self, leave: int) -> Iterator[tuple[int, np.ndarray]]:
        while len(self._running) > leave:
            embedded, pieces = self._running.popleft()
            values = None if embedded is None else np.asarray(embedded)
            for clip, part, place in pieces:
                if clip.frames is not None:
                    assert values is not None
                    clip.frames[part] = values[place]
                clip.missing -= part.stop - part.start
            while self._clips and self._clips[0].missing == 0:
                clip = self._clips.popleft()
                if clip.frames is not None:
                    yield clip.row, clip.frames
