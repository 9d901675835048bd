"""What runs on the nodes of a Ray cluster: decoding, as tasks, and a model, as an actor.

Nothing here knows Ray. A long clip's samples travel through the object store, not through a scratch
file that another node could not read.
"""

import contextlib
import faulthandler
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import extract
from extract.audio import decoding
from extract.audio.scratch import remove
from extract.embeddings import Embedding
from extract.errors import InputError
from extract.files import sha256_of, version_of
from extract.pipeline.aggregate import Extracted, Summariser
from extract.pipeline.batches import Batcher
from extract.pipeline.workers import Job, Result, Task

PACKAGE = Path(extract.__file__).parent
SOURCES = "fsprobe's source files"


class Clip(NamedTuple):
    """A decoded clip on its way to a model. result: its samples travel beside it. pending: its
    frames are wanted; otherwise it only keeps its place in the batches.
    """

    row: int
    pending: bool
    result: Result


@dataclass(frozen=True)
class Decoding:
    """How a node decodes. versions: what its libraries must be, `own_versions()` of who asks.
    limit: seconds for a clip.
    """

    job: Job
    versions: Mapping[str, Any]
    limit: float

    def __call__(self, task: Task) -> Result:
        _check(self.versions, own_versions())
        scratch = Path(tempfile.gettempdir()) / f"fsprobe-{os.getuid()}"
        remove(scratch)  # a decoder that was killed could not
        with ends_after(self.limit):
            return replace(self.job, scratch=scratch)(task)


def decode(
    decoding: Decoding, tasks: Sequence[Task]
) -> tuple[list[Result], list[np.ndarray | None]]:
    """Results without their arrays, and the arrays: samples of each clip, None of failed ones."""
    results = [decoding(task) for task in tasks]
    return [result._replace(array=None) for result in results], [
        _without_file(result.array) for result in results
    ]


def extract_rows(
    decoding: Decoding, summarise: Summariser, tasks: Sequence[Task]
) -> list[Extracted]:
    """The rows of clips whose frames need no model."""
    return [summarise(decoding(task)) for task in tasks]


class Model:
    """An embedding on one device. versions: what must be the same here, `own_versions()` of who
    asks, and, where the embedding is JAX's, `jax_versions()` and the `platform` too. It takes the
    pieces of a group in their order; groups follow each other, and one that is begun again starts
    from its first piece.
    """

    def __init__(
        self,
        embedding: Embedding,
        batch_size: int,
        summarise: Summariser,
        versions: Mapping[str, Any],
        limit: float,
    ):
        self._embedding, self._batch_size = embedding, batch_size
        self._summarise, self._versions, self._limit = summarise, versions, limit
        self._batcher: Batcher | None = None
        self._next: tuple[Any, int] = (None, 0)

    def ready(self) -> None:
        """Says that this process has started. Raises InputError where the numbers would be
        others.
        """
        import jax

        here = own_versions() | jax_versions() | {"platform": jax.default_backend()}
        _check(self._versions, here)

    def add(
        self,
        attempt: tuple[int, int],
        index: int,
        last: bool,
        clips: Sequence[Clip],
        arrays: Sequence[np.ndarray | None],
    ) -> list[tuple[int, Extracted]]:
        """Take piece `index` of a group; (row, its rows) of pending clips that are finished by now.

        attempt: the group, and how often it was begun. A piece that does not follow the one before
        belongs to an attempt that was given up, and is passed over.
        """
        if index == 0:
            self._next = (attempt, 0)
            self._batcher = None  # what the group before it left, if it was given up
        if self._next != (attempt, index):
            return []
        self._next = (attempt, index + 1)
        decoded = [
            clip._replace(result=clip.result._replace(array=array))
            for clip, array in zip(clips, arrays, strict=True)
        ]
        with ends_after(self._limit * len(clips)):
            return [(row, self._summarise(result)) for row, result in self._frames(decoded, last)]

    def _frames(self, clips: Sequence[Clip], last: bool) -> Iterator[tuple[int, Result]]:
        if self._embedding.windows is None:
            for row, _, result in (clip for clip in clips if clip.pending):
                if result.array is not None:
                    assert self._embedding.clip_frames is not None
                    result = result._replace(array=self._embedding.clip_frames(result.array))
                yield row, result
            return
        if self._batcher is None:
            self._batcher = Batcher(self._embedding, self._batch_size)
        for row, pending, result in clips:
            yield from self._batcher.add(row, result, pending)
        if last:
            yield from self._batcher.flush()


def with_numpy_weights(embedding: Embedding) -> Embedding:
    """The embedding with its weights on no device, so that it can travel."""
    import jax

    return replace(embedding, params=jax.tree.map(np.asarray, embedding.params))


@contextlib.contextmanager
def ends_after(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer: a decoder that hangs in C hears nothing else."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _without_file(array: np.ndarray | None) -> np.ndarray | None:
    """A scratch file's space is freed with the map."""
    if isinstance(array, np.memmap):
        Path(str(array.filename)).unlink()
        return np.asarray(array)
    return array


@functools.cache
def own_versions() -> dict[str, Any]:
    """Of all that a row comes from but JAX and the weights: decoders, packages, this package."""
    packages = {name: version_of(name) for name in ("numpy", "scipy", "librosa")}
    return {SOURCES: sources_digest(PACKAGE), **packages, **decoding.provenance()}


def jax_versions() -> dict[str, Any]:
    return {name: version_of(name) for name in ("jax", "jaxlib", "flax")}


def sources_digest(folder: Path) -> str:
    """Of the source files below a folder, by their names and contents."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()[:12]


def _check(wanted: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    others = [
        f"{name} {here.get(name)} instead of {version}"
        for name, version in wanted.items()
        if here.get(name) != version
    ]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise InputError(
            f"node {os.uname().nodename}: has {', '.join(others[:3])}{more}, as where the command "
            "runs; install the same on every node"
        )
