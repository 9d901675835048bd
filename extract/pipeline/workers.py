"""Decoding in parallel processes.

A damaged file may crash a decoder: then the clip that did it must be known and the other clips go
on. Workers must not outlive a parent that was killed. Hence no library: in concurrent.futures and
loky one crash fails every clip that waits, too; in pebble the workers share a pipe and its lock, so
one that is killed while it sends (memory is short) leaves the others waiting for ever, and one that
is killed while it starts ends the pool.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.audio.decoding import AudioError, decode_clip
from extract.audio.remote import Place, local_copy
from extract.audio.samples import discard
from extract.errors import InputError
from extract.files import is_disk_full
from extract.pipeline.sources import File, fingerprint
from extract.shell import ONE_THREAD, environment, handling
from extract.storage.files import AudioRecord

_ATTEMPTS = 2  # a worker may die of something else than its clip: of too little memory, say
_STARTS = 3  # failed ones in a row
_POLL = 0.2  # seconds
LIMIT = 3600.0  # seconds for a clip: a decoder that needs more hangs


class Task(NamedTuple):
    """A clip to decode. start, duration: seconds of the file, None for all of it. note: about its
    name, kept with what is found out about its audio.
    """

    path: File
    start: float | None = None
    duration: float | None = None
    note: str = ""

    def size(self) -> int:
        """Bytes of the file; 0 if nobody can say."""
        try:
            return self.path.size if isinstance(self.path, Place) else self.path.stat().st_size
        except OSError:
            return 0


class Result(NamedTuple):
    """array: samples or frames, float32; None if there are none, for `reason`. audio: what they
    were made from.
    """

    array: np.ndarray | None
    reason: str = ""
    audio: AudioRecord = AudioRecord()


@dataclass(frozen=True)
class Job:
    """What a worker does with a clip: decode it at sample_rate (Hz) and, if clip_frames is given,
    apply that.
    """

    sample_rate: int
    scratch: Path
    clip_frames: Callable[[np.ndarray], np.ndarray] | None = None
    on_truncated: str = "fail"

    def __call__(self, task: Task) -> Result:
        """A long clip's samples are a memory map of a file in `scratch`, for the caller to
        delete.
        """
        try:
            path = local_copy(task.path, self.scratch)
        except AudioError as error:
            return Result(None, str(error))
        size, mtime_ns, digest = fingerprint(task.path, path)
        notes = (task.note,) if task.note else ()
        record = AudioRecord(size=size, mtime_ns=mtime_ns, source_sha256=digest, notes=notes)
        try:
            clip = decode_clip(
                path,
                self.sample_rate,
                self.scratch,
                task.start,
                task.duration,
                self.on_truncated,
            )
        except AudioError as error:
            return Result(None, str(error), record)
        record = replace(
            record,
            seconds=clip.seconds,
            promised=clip.promised,
            decoder=clip.decoder,
            audio_sha256=clip.digest,
            notes=(*notes, *clip.notes),
        )
        if self.clip_frames is None:
            return Result(clip.samples, "", record)
        frames = self.clip_frames(clip.samples)
        discard(clip.samples)
        return Result(frames, "", record)


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    ready: bool = False
    task: int | None = None
    since: float = 0.0  # when it got the task


def outcomes(
    tasks: Sequence[Task],
    job: Job,
    num_workers: int,
    check: Callable[[], None] = lambda: None,
    limit: float = LIMIT,
) -> Generator[Result]:
    """job(task) for every task, in order, computed by num_workers processes at most 2·num_workers
    files ahead. A task that takes longer than limit (seconds) or crashes has no result.

    check: called while waiting; raises to stop. Close the generator to stop the processes. Raises
    InputError if they do not start, OSError on a full disk, RuntimeError on a bug in a worker.
    """
    pool = _Pool(tasks, job, limit)
    try:
        for _ in range(min(num_workers, len(tasks))):
            pool.workers.append(_start(job))
        for wanted in range(len(tasks)):
            while wanted not in pool.results:
                check()
                pool.hand_out(wanted + 2 * num_workers)
                pool.collect()
            yield pool.results.pop(wanted)
    finally:
        for worker in pool.workers:
            worker.process.kill()
            _bury(worker)


class _Pool:
    """Worker processes, and which tasks wait, run (`_Worker.task`) and have results."""

    def __init__(self, tasks: Sequence[Task], job: Job, limit: float):
        self.tasks, self.job, self.limit = tasks, job, limit
        self.workers: list[_Worker] = []
        self.waiting, self.attempts = deque(range(len(tasks))), [0] * len(tasks)
        self.results: dict[int, Result] = {}
        self.failed_starts = 0  # in a row

    def hand_out(self, end: int) -> None:
        """Give idle workers the next tasks before number `end`."""
        for worker in self.workers:
            idle = worker.ready and worker.task is None
            if idle and self.waiting and self.waiting[0] < end:
                try:
                    worker.connection.send(self.tasks[self.waiting[0]])
                except OSError:  # it died idle, which costs no task an attempt; collect hears of it
                    continue
                worker.task, worker.since = self.waiting.popleft(), time.monotonic()
                self.attempts[worker.task] += 1

    def collect(self) -> None:
        """Wait a moment for messages and deaths; end what takes too long."""
        heard = wait([worker.connection for worker in self.workers], _POLL)
        for index, worker in enumerate(self.workers):
            if worker.connection in heard:
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(index)
                    continue
                if isinstance(message, Exception):
                    raise message
                if worker.task is not None:
                    self.results[worker.task] = _received(*message)
                worker.ready, worker.task, self.failed_starts = True, None, 0
            elif worker.task is not None and time.monotonic() - worker.since > self.limit:
                reason = f"decoding took longer than {self.limit:g} s"
                self.results[worker.task] = Result(None, reason)
                worker.task = None
                worker.process.kill()
                self._replace(index)  # at once, lest the next task goes to a dead worker

    def _replace(self, index: int) -> None:
        """Start a worker in the place of a dead one, and try its task again or give it up."""
        worker = self.workers[index]
        cause = _bury(worker)
        self.failed_starts += not worker.ready
        if self.failed_starts == _STARTS:
            raise InputError(
                f"decoding processes do not start ({cause}); is memory short? try a smaller "
                "--num_workers"
            )
        self.workers[index] = _start(self.job)
        if worker.task is not None and self.attempts[worker.task] < _ATTEMPTS:
            self.waiting.appendleft(worker.task)
        elif worker.task is not None:
            self.results[worker.task] = Result(None, f"the decoding process died ({cause})")


def _received(result: Result, scratch: str) -> Result:
    """What a worker has sent: a long clip's samples lie in a scratch file of that name."""
    if not scratch:
        return result
    array = np.memmap(scratch, np.float32, mode="r")
    Path(scratch).unlink()  # its space is freed with the map
    return result._replace(array=array)


def _start(job: Job) -> _Worker:
    context = multiprocessing.get_context("spawn")  # a fork would inherit JAX's threads and locks
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job), daemon=True)
    # Workers share the cores: with a thread per core in each of them, their linear algebra waits
    # for cores more than it computes (36 ms instead of 4 for the log-mel of a clip of 4 s). And on
    # one thread a frame is the same whatever the number of cores.
    # What is ignored here stays ignored there: Ctrl-C and a terminated job reach the whole process
    # group, and it is the parent who decides.
    with (
        handling(dict.fromkeys((signal.SIGINT, signal.SIGTERM), signal.SIG_IGN)),
        environment(ONE_THREAD),
    ):
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _bury(worker: _Worker) -> str:
    """Wait for the end of a dead process; what it died of."""
    worker.connection.close()
    worker.process.join()
    code = worker.process.exitcode or 0
    return f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"


def _work(connection: Connection, job: Job) -> None:
    # Python may speak; decoders' warnings would tear the progress bar.
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone: so are we
        connection.send(None)
        while True:
            task = connection.recv()
            message: tuple[Result, str] | Exception
            try:
                result = job(task)
                message = result, ""
                if isinstance(result.array, np.memmap):
                    message = result._replace(array=None), str(result.array.filename)
            except Exception as error:
                full = is_disk_full(error)
                message = error if full else RuntimeError(f"{task.path}:\n{traceback.format_exc()}")
            connection.send(message)
