"""Who runs the stages of a clip: worker processes of this machine, or Ray.

An engine is given all there is to do and yields (row, rows of the stores or a reason) for every
pending clip, in whatever order it likes; who asked writes them. So the stores do not depend on the
engine, and the rows pending in them are the only queue.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, Self

from extract.embeddings import Embedding
from extract.pipeline.aggregate import Extracted
from extract.pipeline.batches import clip_frames
from extract.pipeline.work import Work

NAMES = ("local", "ray")


class Engine(Protocol):
    """A context manager, which ends all that was started."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def adapted(self, embedding: Embedding) -> Embedding:
        """The embedding, whose provenance says what it will be computed on."""

    def run(self, work: Work, check: Callable[[], None]) -> Generator[tuple[int, Extracted]]:
        """check: called while the engine waits; raises to stop."""


@dataclass(frozen=True)
class LocalEngine:
    """num_workers: decoding processes. The model runs in this process."""

    num_workers: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def adapted(self, embedding: Embedding) -> Embedding:
        return embedding

    def run(self, work: Work, check: Callable[[], None]) -> Generator[tuple[int, Extracted]]:
        with closing(clip_frames(work, self.num_workers, check)) as stream:
            for row, result in stream:
                yield row, work.summarise(result)


def build(name: str, num_workers: int, ray_address: str = "") -> Engine:
    """The engine of that name. Raises InputError if the package that it needs is missing."""
    if name == "local":
        return LocalEngine(num_workers)
    from extract.pipeline import ray_engine

    ray_engine.prepare()
    return ray_engine.RayEngine(ray_address)
