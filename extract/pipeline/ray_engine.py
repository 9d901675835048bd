"""The engine on Ray: decoding as tasks on the CPUs of all nodes, a model as one actor per
accelerator, or per few cores where there is none.

The unit of work is a group of rows (`extract.pipeline.batches`): its clips are decoded in pieces
wherever there is a CPU, and one model takes the pieces in their order, so that what shares a batch
is what shares one on a single machine. Of pieces there are a bounded number under way, whatever the
corpus, and only the driver, which is who asked, writes.

Nodes may come and go. What was lost with a process is tried again: a piece clip by clip, a group
from its first piece, each a few times; then the clip that did it has failed, with the reason, and
the rest of its group goes on without it. Because nothing was recorded of its file the same command
tries it once more.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Self

from extract.cluster import Cluster, Ref, Watchdog
from extract.embeddings import Embedding
from extract.errors import InputError
from extract.pipeline import batches
from extract.pipeline.aggregate import Extracted
from extract.pipeline.batches import rows_to_decode
from extract.pipeline.ray_decoding import Decoders, Piece, in_pieces
from extract.pipeline.ray_models import Models, groups_of, how_many, kind_of, reserved
from extract.pipeline.ray_stages import (
    Decoding,
    decode,
    extract_rows,
    jax_versions,
    own_versions,
    with_numpy_weights,
)
from extract.pipeline.work import Work
from extract.pipeline.workers import LIMIT, Result
from extract.store import PENDING

_POLL = 0.2  # seconds
LOOK = 2.0  # seconds between looks at which nodes there are
PLATFORM = {"GPU": "gpu", "TPU": "tpu", "": "cpu"}  # what JAX calls them


def prepare() -> None:
    """Leave the accelerators to the models' processes."""
    import jax

    jax.config.update("jax_platforms", "cpu")


class RayEngine:
    """address: see `Cluster`. limit: seconds for a clip; patience: seconds in which something must
    finish. join: what makes the cluster.
    """

    def __init__(
        self,
        address: str = "",
        limit: float = LIMIT,
        patience: float = LIMIT + 60,
        join: Callable[[str], Cluster] = Cluster,
    ):
        self._cluster, self._limit, self._patience = join(address), limit, patience

    def __enter__(self) -> Self:
        # a cluster of its own forks, which must not happen once JAX has started
        self._cluster.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._cluster.__exit__(*exception)

    def adapted(self, embedding: Embedding) -> Embedding:
        """The embedding as the models' nodes compute it: on their platform, not the driver's."""
        if "platform" not in embedding.provenance:
            return embedding
        platform = PLATFORM[kind_of(self._cluster.nodes())]
        return replace(embedding, provenance={**embedding.provenance, "platform": platform})

    def run(self, work: Work, check: Callable[[], None]) -> Generator[tuple[int, Extracted]]:
        run = _Run(self._cluster, work, self._limit)
        yield from run.rows(check, Watchdog(self._patience))


class _Run:
    """All that is pending, once. Where frames need no model, decoding makes the rows as well."""

    def __init__(self, cluster: Cluster, work: Work, limit: float):
        self._cluster, self._work = cluster, work
        self._models: Models | None = None
        self._looked, self._room, self._nodes = 0.0, 1, ""
        how = cluster.put(Decoding(work.job, own_versions(), limit))
        if work.job.clip_frames is None:
            self._decoders = Decoders(
                cluster,
                lambda piece: cluster.submit(decode, how, work.tasks_of(piece.rows), returns=2),
                lambda reason: [Result(None, reason)],
                limit,
            )
            self._models = self._new_models(limit)
            return
        pending = [row for row, status in enumerate(work.status) if status == PENDING]
        self._decoders = Decoders(
            cluster,
            lambda piece: cluster.submit(
                extract_rows, how, work.summarise, work.tasks_of(piece.rows)
            ),
            lambda reason: [work.summarise(Result(None, reason))],
            limit,
            (Piece(rows) for rows in in_pieces(pending, work.tasks)),
        )

    def _new_models(self, limit: float) -> Models:
        work = self._work
        versions = own_versions()
        if platform := work.embedding.provenance.get("platform"):
            versions = versions | jax_versions() | {"platform": platform}
        try:
            embedding = self._cluster.put(with_numpy_weights(work.embedding))
        except TypeError as error:
            raise InputError(
                f"embedding {work.embedding.name} cannot travel to other processes "
                f"({str(error)[:80]}); backend=package needs --engine=local"
            ) from error
        arguments = [embedding, work.batch_size, work.summarise, versions, limit]
        groups = groups_of(work, rows_to_decode(work), batches.GROUP)
        return Models(self._cluster, work, groups, self._decoders, arguments)

    def rows(
        self, check: Callable[[], None], watchdog: Watchdog
    ) -> Iterator[tuple[int, Extracted]]:
        """(row, what it got) of every pending row. Its models end with it: as long as anybody holds
        them, Ray keeps their devices from whoever comes next.
        """
        models, left = self._models, int((self._work.status == PENDING).sum())
        try:
            while left:
                check()
                self._look_around()
                if models is not None:
                    models.hand_out()
                self._decoders.hand_out(self._room, models is not None and models.starved())
                calls = () if models is None else models.calls
                ready = self._cluster.wait([*self._decoders.running, *calls], _POLL)
                for ref in ready:
                    for row, clip in self._collect(ref):
                        left -= 1
                        yield row, clip
                watchdog.look(bool(ready), self._waits_for)
        finally:
            if models is not None:
                models.close()

    def _look_around(self) -> None:
        """Which nodes are there? New ones get models, and work for their CPUs."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        nodes = self._cluster.nodes()
        cpus = sum(node.cpus for node in nodes.values())
        if self._models is not None:
            self._models.start_missing(nodes)
            kind = self._models.kind
            cpus -= sum(how_many(node, kind) * reserved(node, kind) for node in nodes.values())
        self._nodes = f"{len(nodes)} nodes with {cpus} CPUs to decode on"
        self._room = 2 * cpus

    def _collect(self, ref: Ref) -> Iterator[tuple[int, Extracted]]:
        if self._models is not None and ref in self._models.calls:
            yield from self._models.collect(ref)
            return
        piece = self._decoders.collect(ref)
        if piece is not None and self._models is None:
            self._decoders.taken(piece)
            yield from zip(piece.rows, piece.value, strict=True)

    def _waits_for(self) -> str:
        models = "" if self._models is None else f", {self._models}"
        return f"{self._decoders}{models}; {self._nodes}"
