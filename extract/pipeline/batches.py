"""Decoded clips → frames, in row order, by either of an Embedding's two ways.

Bit for bit, a row must not depend on where a run was killed and resumed. Yet XLA does not promise
the same bits for a row that stands at another place in its batch. So clips are taken in groups of
consecutive rows, the windows of a group fill batches one after the other, and no batch spans two
groups: what shares a batch is fixed by the manifest and what its files decode to. A group that was
cut short is cut into windows again, finished and failed clips too, and only batches with a pending
clip are embedded.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Self

import numpy as np

from extract.embeddings import Embedding
from extract.errors import InputError
from extract.pipeline.work import Work
from extract.pipeline.workers import Result, outcomes
from extract.shell import signals_deferred
from extract.store import PENDING

GROUP = 64  # rows
_IN_FLIGHT = 2  # batches on the device at a time: it computes one while the next is filled


def clip_frames(
    work: Work, num_workers: int, check: Callable[[], None]
) -> Generator[tuple[int, Result]]:
    """(row, frames or reason) for every pending row, in row order but for failures, which may come
    earlier.

    check: called between batches and while waiting; raises to stop (`signals_deferred`).
    """
    embedding = work.embedding
    if embedding.windows is not None:
        yield from _by_windows(work, num_workers, check)
        return
    assert embedding.clip_frames is not None
    rows = np.flatnonzero(work.status == PENDING).tolist()
    with closing(outcomes(work.tasks_of(rows), work.job, num_workers, check)) as stream:
        for row, result in zip(rows, stream, strict=True):
            check()
            if work.job.clip_frames is None and result.array is not None:
                result = result._replace(array=embedding.clip_frames(result.array))
            yield row, result


def _by_windows(
    work: Work, num_workers: int, check: Callable[[], None]
) -> Iterator[tuple[int, Result]]:
    rows = rows_to_decode(work)
    with (
        Batcher(work.embedding, work.batch_size, check) as batcher,
        closing(outcomes(work.tasks_of(rows), work.job, num_workers, check)) as stream,
    ):
        clips = zip(rows, stream, strict=True)
        for _, group in itertools.groupby(clips, lambda clip: clip[0] // GROUP):
            for row, result in group:
                yield from batcher.add(row, result, pending=bool(work.status[row] == PENDING))
            yield from batcher.flush()


def rows_to_decode(work: Work) -> list[int]:
    """The rows of every group that has a pending one. Failed rows too: one may have failed by its
    frames, and then its windows had a place in the batches.
    """
    touched = {int(row) // GROUP for row in np.flatnonzero(work.status == PENDING)}
    return [
        row for row, task in enumerate(work.tasks) if row // GROUP in touched and task is not None
    ]


@dataclass
class _Clip:
    row: int
    result: Result  # its array: the frames so far, None if nobody waits for them
    missing: int  # windows


class Batcher:
    """Decoded clips → their frames: windows of many clips in batches of one size, `[batch_size,
    sample]`, by one compiled program.

    A context manager, which waits for what is in flight on the way out: an interpreter that exits
    while a device computes may crash. check: called before every batch; raises to stop.
    """

    def __init__(
        self, embedding: Embedding, batch_size: int, check: Callable[[], None] = lambda: None
    ):
        import jax

        assert embedding.windows is not None and embedding.embed is not None
        self._windows = embedding.windows
        self._embed = jax.jit(embedding.embed)
        self._params = jax.device_put(embedding.params)
        self._dim, self._size, self._check = embedding.dim, batch_size, check
        self._clips: deque[_Clip] = deque()
        self._batch: np.ndarray | None = None
        self._pieces: list[tuple[_Clip, slice, slice]] = []  # of a clip's frames, of the batch
        self._running: deque = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        import jax

        with signals_deferred():
            jax.block_until_ready([embedded for embedded, _ in self._running])

    def add(self, row: int, result: Result, pending: bool) -> Iterator[tuple[int, Result]]:
        """Take a decoded clip, or the reason why there is none; yield (row, frames or reason) of
        pending clips that are finished by now, in the order in which they came, but for those that
        have no windows, which come at once.
        """
        windows = None
        if result.array is not None:
            try:
                windows = self._windows(result.array)
            except InputError as error:
                result = result._replace(array=None, reason=str(error))
        if windows is None:
            if pending:
                yield row, result
            return
        frames = np.empty((len(windows), self._dim), np.float32) if pending else None
        clip = _Clip(row, result._replace(array=frames), len(windows))
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

    def flush(self) -> Iterator[tuple[int, Result]]:
        """End the group: embed what is left, in a batch padded with zeros; yield (row, frames) of
        all pending clips not yet yielded.
        """
        if self._batch is not None:
            self._submit()
        yield from self._collect(0)

    def _submit(self) -> None:
        self._check()
        wanted = any(clip.result.array is not None for clip, _, _ in self._pieces)
        self._running.append(
            (self._embed(self._params, self._batch) if wanted else None, self._pieces)
        )
        self._batch, self._pieces = None, []

    def _collect(self, leave: int) -> Iterator[tuple[int, Result]]:
        while len(self._running) > leave:
            embedded, pieces = self._running[0]
            values = None if embedded is None else np.asarray(embedded)
            self._running.popleft()
            for clip, part, place in pieces:
                if clip.result.array is not None:
                    assert values is not None
                    clip.result.array[part] = values[place]
                clip.missing -= part.stop - part.start
            while self._clips and self._clips[0].missing == 0:
                clip = self._clips.popleft()
                if clip.result.array is not None:
                    yield clip.row, clip.result
