"""Clips on their way through the CPUs of a cluster, in pieces of a few."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from extract.cluster import Cluster, Lost, Ref
from extract.pipeline.workers import Task

CLIPS, BYTES = 8, 8 << 20  # of a piece, at most: its files together, unless one alone is larger
DEATHS = 3  # processes that a clip may cost, alone
LOSSES = 20  # times that a node or its memory may be gone: not the clip's fault


@dataclass(eq=False)
class Piece:
    """Consecutive clips. beside: the list in which it stands, where it may be split. value: what
    the task returned first; samples: what it returned next, on the node that has it. stale: nobody
    waits for it any more.
    """

    rows: tuple[int, ...]
    beside: list["Piece"] = field(default_factory=list)
    value: Any = None
    samples: Any = None
    stale: bool = False
    deaths: int = 0
    losses: int = 0
    since: float = 0.0

    def split(self) -> list["Piece"]:
        """A piece for each clip, in its place."""
        parts = [Piece((row,), self.beside, losses=self.losses) for row in self.rows]
        if self in self.beside:
            place = self.beside.index(self)
            self.beside[place : place + 1] = parts
        return parts


def in_pieces(rows: Sequence[int], tasks: Sequence[Task | None]) -> Iterator[tuple[int, ...]]:
    """The rows, in order, in pieces of at most CLIPS clips and BYTES bytes."""
    piece: list[int] = []
    bytes_left = 0
    for row in rows:
        task = tasks[row]
        assert task is not None
        size = task.size()
        if piece and (len(piece) == CLIPS or size > bytes_left):
            yield tuple(piece)
            piece = []
        bytes_left = (bytes_left if piece else BYTES) - size
        piece.append(row)
    if piece:
        yield tuple(piece)


class Decoders:
    """Hands pieces out, a bounded number of them at a time, and again what was lost.

    submit: starts a piece's task. failed: what stands in the place of its value for a clip that is
    given up, from the reason. more: the pieces that nobody has asked for yet.
    """

    def __init__(
        self,
        cluster: Cluster,
        submit: Callable[[Piece], list[Ref]],
        failed: Callable[[str], Any],
        limit: float,
        more: Iterable[Piece] = (),
    ):
        self._cluster, self._submit, self._failed = cluster, submit, failed
        self._limit, self._more = limit, iter(more)
        self._waiting: deque[Piece] = deque()
        self._full = 1 << 30  # pieces under way that were too many for the object store
        self.running: dict[Ref, Piece] = {}
        self.under_way = 0  # being decoded, or decoded and not yet taken

    def add(self, pieces: Sequence[Piece]) -> None:
        self._waiting.extend(pieces)

    def hand_out(self, most: int, starved: bool = False) -> None:
        """Start tasks until so many pieces are under way, and one at least. starved: whoever takes
        pieces has nothing to do; then one task runs all the same, since what is under way may wait
        for it.
        """
        while self.under_way < min(most, self._full) or (
            not self.running and (starved or not self.under_way)
        ):
            piece = self._waiting.popleft() if self._waiting else next(self._more, None)
            if piece is None:
                return
            if piece.stale:
                continue
            refs = self._submit(piece)
            piece.since, piece.samples = time.monotonic(), refs[1:]
            self.running[refs[0]] = piece
            self.under_way += 1

    def collect(self, ref: Ref) -> Piece | None:
        """The piece of a task that has ended, if it is decoded or given up: say `taken` of it."""
        piece = self.running.pop(ref)
        value = self._cluster.get(ref)
        if not isinstance(value, Lost) and not piece.stale:
            piece.value = value
            return piece
        self.taken(piece)
        if isinstance(value, Lost) and not piece.stale and not self._tried_again(piece, value):
            self.under_way += 1
            return piece
        return None

    def taken(self, piece: Piece) -> None:
        """Its samples are not needed any more."""
        piece.samples = None
        self.under_way -= 1

    def _tried_again(self, piece: Piece, lost: Lost) -> bool:
        """Put it back in the queue, in front; or give it a value that says why it failed."""
        if lost.cause == "space":
            self.store_is_full()
        piece.losses += lost.cause != "process"
        if len(piece.rows) > 1:
            self._waiting.extendleft(reversed(piece.split()))
            return True
        piece.deaths += lost.cause == "process"
        slow = time.monotonic() - piece.since >= self._limit
        if lost.cause == "process" and slow:
            reason = f"decoding took longer than {self._limit:g} s"
        elif piece.deaths == DEATHS or piece.losses >= LOSSES:
            times = piece.deaths + piece.losses
            reason = f"decoding was lost {times} times, at last because {lost.reason}"
        else:
            self._waiting.appendleft(piece)
            return True
        piece.value, piece.samples = self._failed(reason), [[None]]
        return False

    def store_is_full(self) -> None:
        """From now on, less at a time."""
        self._full = max(1, self.under_way // 2)

    def __str__(self) -> str:
        first = next(iter(self.running.values()), None)
        since = "" if first is None else f", the first for {time.monotonic() - first.since:.0f} s"
        waiting = self.under_way - len(self.running)
        return (
            f"{len(self.running)} decoding tasks run or wait for a CPU{since}, {waiting} are done"
        )
