"""Who runs the stages of a clip: worker processes of this machine, or Ray.

An engine is given all there is to do and yields (row, rows of the stores or a reason) for every
pending clip, in whatever order it likes; who asked writes them. So the stores do not depend on the
engine, and the rows pending in them are the only queue.
"""

import importlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from extract.embeddings import Embedding
from extract.pipeline.aggregate import Extracted, Summariser
from extract.pipeline.batches import clip_frames
from extract.pipeline.workers import Job, Task

NAMES = ("local", "ray")


@dataclass(frozen=True, eq=False)
class Work:
    """tasks: how to get each row's audio; None where there is no file, which no pending row lacks.
    status: uint8 `[row]`. job: how clips are decoded. batch_size: windows per batch. summarise:
    from a clip's frames to its rows.
    """

    embedding: Embedding
    tasks: Sequence[Task | None]
    status: np.ndarray
    job: Job
    batch_size: int
    summarise: Summariser


class Engine(Protocol):
    """check: called while the engine waits; raises to stop. Closing the generator ends all that was
    started.
    """

    def run(self, work: Work, check: Callable[[], None]) -> Generator[tuple[int, Extracted]]: ...


@dataclass(frozen=True)
class LocalEngine:
    """num_workers: decoding processes. The model runs in this process."""

    num_workers: int

    def run(self, work: Work, check: Callable[[], None]) -> Generator[tuple[int, Extracted]]:
        frames = clip_frames(
            work.embedding,
            work.tasks,
            work.status,
            work.job,
            self.num_workers,
            work.batch_size,
            check,
        )
        with closing(frames) as stream:
            for row, result in stream:
                yield row, work.summarise(result)


def build(name: str, num_workers: int, ray_address: str = "") -> Engine:
    """The engine of that name. Raises InputError if the package that it needs is missing."""
    if name == "local":
        return LocalEngine(num_workers)
    engine: Engine = importlib.import_module("extract.pipeline.ray_engine").RayEngine(ray_address)
    return engine
