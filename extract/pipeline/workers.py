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
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.audio.decoding import AudioError, decode_clip
from extract.audio.samples import discard
from extract.errors import InputError
from extract.files import is_disk_full
from extract.pipeline.sources import fingerprint
from extract.shell import ONE_THREAD, environment
from extract.storage.files import AudioRecord

_ATTEMPTS = 2  # a worker may die of something else than its clip: of too little memory, say
_STARTS = 3  # failed ones in a row
_POLL = 0.2  # seconds


class Task(NamedTuple):
    """A clip to decode. start, duration: seconds of the file, None for all of it. note: about its
    name, kept with what is found out about its audio.
    """

    path: Path
    start: float | None = None
    duration: float | None = None
    note: str = ""


class Result(NamedTuple):
    """array: samples or frames, float32; None if there are none, for `reason`. audio: what they
    were made from.
    """

    array: np.ndarray | None
    reason: str = ""
    audio: AudioRecord = AudioRecord()


class _Message(NamedTuple):
    """A Result on its way from worker to parent; a long clip travels as the name of a scratch
    file.
    """

    result: Result
    scratch: str | None = None


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
        size, mtime_ns, digest = fingerprint(task.path)
        notes = (task.note,) if task.note else ()
        record = AudioRecord(size=size, mtime_ns=mtime_ns, source_sha256=digest, notes=notes)
        try:
            clip = decode_clip(
                task.path,
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


def outcomes(
    tasks: Sequence[Task], job: Job, num_workers: int, check: Callable[[], None] = lambda: None
) -> Generator[Result]:
    """job(task) for every task, in order, computed by num_workers processes at most 2·num_workers
    files ahead.

    check: called while waiting; raises to stop. Close the generator to stop the processes. Raises
    InputError if they do not start, OSError on a full disk, RuntimeError on a bug in a worker.
    """
    workers: list[_Worker] = []
    stillborn = 0
    waiting, attempts = deque(range(len(tasks))), [0] * len(tasks)
    results: dict[int, _Message] = {}
    try:
        workers += [_start(job) for _ in range(min(num_workers, len(tasks)))]
        for wanted in range(len(tasks)):
            while wanted not in results:
                check()
                _hand_out(workers, tasks, waiting, attempts, wanted + 2 * num_workers)
                for connection in wait([worker.connection for worker in workers], _POLL):
                    index = next(
                        i for i, worker in enumerate(workers) if worker.connection is connection
                    )
                    worker = workers[index]
                    try:
                        message = worker.connection.recv()
                    except (EOFError, OSError):
                        cause = _bury(worker)
                        stillborn += not worker.ready
                        if stillborn == _STARTS:
                            raise InputError(
                                f"decoding processes do not start ({cause}); is memory short? try "
                                "a smaller --num_workers"
                            ) from None
                        workers[index] = _start(job)
                        if worker.task is not None and attempts[worker.task] < _ATTEMPTS:
                            waiting.appendleft(worker.task)
                        elif worker.task is not None:
                            results[worker.task] = _Message(
                                Result(None, f"the decoding process died ({cause})")
                            )
                        continue
                    if isinstance(message, Exception):
                        raise message
                    if worker.task is not None:
                        results[worker.task] = message
                    worker.ready, worker.task, stillborn = True, None, 0
            yield _fetch(results.pop(wanted))
    finally:
        for worker in workers:
            worker.process.kill()
            _bury(worker)


def _hand_out(
    workers: Sequence[_Worker],
    tasks: Sequence[Task],
    waiting: deque[int],
    attempts: list[int],
    end: int,
) -> None:
    """Give each worker that has none the next task, of those before `end`."""
    for worker in workers:
        if worker.ready and worker.task is None and waiting and waiting[0] < end:
            worker.task = waiting.popleft()
            attempts[worker.task] += 1
            with contextlib.suppress(OSError):  # it died; its end of file will say so
                worker.connection.send(tasks[worker.task])


def _fetch(message: _Message) -> Result:
    if message.scratch is None:
        return message.result
    array = np.memmap(message.scratch, np.float32, mode="r")
    Path(message.scratch).unlink()  # its space is freed with the map
    return message.result._replace(array=array)


def _message(result: Result) -> _Message:
    if isinstance(result.array, np.memmap):
        return _Message(result._replace(array=None), str(result.array.filename))
    return _Message(result)


def _start(job: Job) -> _Worker:
    context = multiprocessing.get_context("spawn")  # a fork would inherit JAX's threads and locks
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job), daemon=True)
    # Workers share the cores: with a thread per core in each of them, their linear algebra waits
    # for cores more than it computes (36 ms instead of 4 for the log-mel of a clip of 4 s). And on
    # one thread a frame is the same whatever the number of cores.
    with _signals_ignored(), environment(ONE_THREAD):
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _bury(worker: _Worker) -> str:
    """Wait for the end of a dead process; what it died of."""
    worker.connection.close()
    worker.process.join()
    code = worker.process.exitcode or 0
    return f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """What is ignored here stays ignored in a process started here: Ctrl-C and a terminated job
    reach the whole process group, and it is the parent who decides.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _work(connection: Connection, job: Job) -> None:
    sys.stderr = os.fdopen(
        os.dup(2), "w"
    )  # Python may speak; decoders' warnings would tear the progress bar
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone: so are we
        connection.send(None)
        while True:
            task = connection.recv()
            try:
                message: _Message | Exception = _message(job(task))
            except Exception as error:
                full = is_disk_full(error)
                message = error if full else RuntimeError(f"{task.path}:\n{traceback.format_exc()}")
            connection.send(message)
