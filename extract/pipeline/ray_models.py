"""Models on the devices of a cluster, and the groups of clips that they embed."""

import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from extract.cluster import Actor, Cluster, Lost, Node, Ref
from extract.errors import InputError
from extract.pipeline.aggregate import Extracted
from extract.pipeline.ray_decoding import DEATHS, LOSSES, Decoders, Piece, in_pieces
from extract.pipeline.ray_stages import Clip, Model
from extract.pipeline.work import Work
from extract.pipeline.workers import Result
from extract.store import PENDING

CORES = 8  # per model, where there is no accelerator
OPEN = 2  # groups per model: one is decoded while the other is embedded
_STARTS = 3  # failed ones in a row on one node


def kind_of(nodes: Mapping[str, Node]) -> str:
    """Where models run: on accelerators of one kind, if any node has one."""
    return next((node.kind for node in nodes.values() if node.kind), "")


def how_many(node: Node, kind: str) -> int:
    """Models on a node."""
    if kind:
        return node.accelerators if node.kind == kind else 0
    return -(-node.cpus // CORES)


def reserved(node: Node, kind: str) -> int:
    """CPUs that a model takes from decoding: of its share of the node, half; none of a node that
    gets no model.
    """
    models = how_many(node, kind)
    if not models:
        return 0
    if kind:
        return int(node.cpus > models)
    return node.cpus // models // 2


@dataclass(eq=False)
class Group:
    """Rows that share batches. left: those that are pending. attempt: how often it was begun.
    deaths: of models, by the rows of the piece that they had. losses: models lost in any way.
    """

    number: int
    rows: tuple[int, ...]
    left: set[int]
    attempt: int = 0
    pieces: list[Piece] = field(default_factory=list)
    fed: int = 0  # pieces that the model was given
    deaths: Counter[int] = field(default_factory=Counter)
    losses: int = 0

    def begin(self, work: Work) -> list[Piece]:
        """From its first piece, whatever was under way. What may cost a model for the last time
        goes clip by clip, so that only one is given up.
        """
        for piece in self.pieces:
            piece.stale = True
        self.attempt, self.fed, self.pieces = self.attempt + 1, 0, []
        for rows in in_pieces(self.rows, work.tasks):
            alone = any(self.deaths[row] == DEATHS - 1 for row in rows)
            parts = [(row,) for row in rows] if alone else [rows]
            self.pieces += [Piece(part, self.pieces) for part in parts]
        return list(self.pieces)

    def lose(self, lost: Lost, piece: Piece | None) -> dict[int, str]:
        """Count that a model was lost, by a piece of this group if one is given. The pending rows
        that are given up, and why; they leave the group, and so do others of such a piece.
        """
        self.losses += 1
        if piece is not None:
            self.deaths.update(piece.rows)
        times = {row: deaths for row, deaths in self.deaths.items() if deaths == DEATHS}
        if times:  # what was with them is no longer suspected
            self.deaths.clear()
        if self.losses >= LOSSES:
            times = dict.fromkeys(self.left, self.losses)
        self.rows = tuple(row for row in self.rows if row not in times)
        given_up = sorted(self.left & times.keys())
        self.left -= times.keys()
        why = f"at last because {lost.reason}"
        return {row: f"embedding was lost {times[row]} times, {why}" for row in given_up}


@dataclass(eq=False)
class _Running:
    actor: Actor
    node: str
    open: list[Group] = field(default_factory=list)
    started: bool = False
    lost: list[tuple["_Call", Lost]] = field(default_factory=list)  # calls, once it is dead


@dataclass(eq=False)
class _Call:
    """number: calls of a model are worked on in this order."""

    number: int
    model: _Running
    group: Group | None = None  # None: it starts
    attempt: int = 0
    piece: Piece | None = None
    last: bool = False


class Models:
    """Starts a model wherever there is a device for one, gives each whole groups, and starts again
    what was lost with it.

    arguments: of `Model`.
    """

    def __init__(
        self,
        cluster: Cluster,
        work: Work,
        groups: Sequence[Group],
        decoders: Decoders,
        arguments: Sequence[Any],
    ):
        self._cluster, self._work, self._decoders = cluster, work, decoders
        self._arguments = arguments
        self._groups = deque(groups)
        self._models: list[_Running] = []
        self._failed_starts: Counter[str] = Counter()
        self._given_up: list[tuple[int, Extracted]] = []
        self._numbers = count()
        self.calls: dict[Ref, _Call] = {}
        self.kind = kind_of(cluster.nodes())

    def start_missing(self, nodes: Mapping[str, Node]) -> None:
        """A model on every device that has none."""
        running = Counter(model.node for model in self._models)
        for name, node in nodes.items():
            if self._failed_starts[name] >= _STARTS:
                continue
            for _ in range(how_many(node, self.kind) - running[name]):
                share = node.cpus // how_many(node, self.kind)
                environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
                if not self.kind:
                    environment |= {"NPROC": str(share), "JAX_PLATFORMS": "cpu"}  # XLA's threads
                actor = self._cluster.start(
                    Model,
                    *self._arguments,
                    node=name,
                    cpus=reserved(node, self.kind),
                    accelerator=self.kind,
                    environment=environment,
                )
                model = _Running(actor, name)
                self._models.append(model)
                ref = self._cluster.call(actor, "ready")
                self.calls[ref] = _Call(next(self._numbers), model)

    def close(self) -> None:
        """End all of them: what they hold is free for whoever comes next."""
        for model in self._models:
            self._cluster.kill(model.actor)
        self._models.clear()
        self.calls.clear()

    def hand_out(self) -> None:
        """Whole groups to models that have few, and to each model the pieces that come next."""
        alive = [model for model in self._models if not model.lost]
        for _ in range(OPEN):
            for model in alive:
                if len(model.open) < OPEN and self._groups:
                    group = self._groups.popleft()
                    model.open.append(group)
                    self._decoders.add(group.begin(self._work))
        for model in alive:
            self._feed(model)

    def starved(self) -> bool:
        """Are there models, none of which computes, though one waits for a piece? A model that has
        not started does neither: it may have to wait for its device.
        """
        ready = [model for model in self._models if model.started]
        computing = any(call.group and call.model.started for call in self.calls.values())
        return not computing and any(model.open for model in ready)

    def _feed(self, model: _Running) -> None:
        for group in model.open:
            while group.fed < len(group.pieces) and group.pieces[group.fed].value is not None:
                piece, index = group.pieces[group.fed], group.fed
                group.fed += 1
                last = group.fed == len(group.pieces)
                (samples,) = piece.samples
                attempt = (group.number, group.attempt)
                ref = self._cluster.call(
                    model.actor, "add", attempt, index, last, self._clips(group, piece), samples
                )
                self.calls[ref] = _Call(
                    next(self._numbers), model, group, group.attempt, piece, last
                )
            if group.fed < len(group.pieces):  # groups follow each other
                return

    def _clips(self, group: Group, piece: Piece) -> list[Clip]:
        pairs = zip(piece.rows, piece.value, strict=True)
        return [Clip(row, row in group.left, result) for row, result in pairs]

    def collect(self, ref: Ref) -> Iterator[tuple[int, Extracted]]:
        """What a call that has ended brought."""
        call = self.calls.pop(ref)
        value = self._cluster.get(ref)
        if call.piece is not None:
            self._decoders.taken(call.piece)
        model, group = call.model, call.group
        if isinstance(value, Lost):
            self._lost(call, value)
        elif group is None:
            model.started, self._failed_starts[model.node] = True, 0
        elif call.attempt == group.attempt:
            for row, clip in value:
                group.left.discard(row)
                yield row, clip
            if call.last and not group.left:
                model.open.remove(group)
            elif call.last:  # it passed pieces over
                self._again(model, group, Lost("a piece went astray", "object"))
        if model.lost and not any(other.model is model for other in self.calls.values()):
            self._retire(model)
        yield from self._given_up
        self._given_up.clear()

    def _lost(self, call: _Call, lost: Lost) -> None:
        if lost.cause == "space":
            self._decoders.store_is_full()
        if lost.cause in ("object", "space") and call.group is not None:
            if call.attempt == call.group.attempt:
                self._again(call.model, call.group, lost)
            return
        call.model.lost.append((call, lost))
        self._cluster.kill(call.model.actor)

    def _retire(self, model: _Running) -> None:
        """All calls of a dead model have ended: the first that was lost is what it died of, and
        counts against that piece's group alone. Its groups are the next that others get.
        """
        call, lost = min(model.lost, key=lambda pair: pair[0].number)
        if call.group is None:
            self._note_failed_start(model.node, lost)
        self._models.remove(model)
        guilty = call.piece if lost.cause == "process" else None
        for group in reversed(model.open):
            innocent = guilty is not None and group is not call.group
            if innocent or self._may_try_again(group, lost, guilty):
                self._groups.appendleft(group)
            for piece in group.pieces:
                self._drop(piece)

    def _again(self, model: _Running, group: Group, lost: Lost) -> None:
        """The same model takes the group from its first piece, after the others that it has: their
        pieces may be all that there is room for.
        """
        for piece in group.pieces:
            self._drop(piece)
        model.open.remove(group)
        if self._may_try_again(group, lost):
            model.open.append(group)
            self._decoders.add(group.begin(self._work))

    def _drop(self, piece: Piece) -> None:
        """Nobody will take it: of those that are decoded and were not given to a model, say so."""
        fed = any(call.piece is piece for call in self.calls.values())
        if piece.value is not None and piece.samples is not None and not fed:
            self._decoders.taken(piece)
        piece.stale = True

    def _may_try_again(self, group: Group, lost: Lost, piece: Piece | None = None) -> bool:
        given_up = group.lose(lost, piece)
        self._given_up += [
            (row, self._work.summarise(Result(None, reason))) for row, reason in given_up.items()
        ]
        if not group.left:
            group.attempt += 1  # what models still answer is of no use
        return bool(group.left)

    def _note_failed_start(self, node: str, lost: Lost) -> None:
        """Raise InputError if models start nowhere."""
        self._failed_starts[node] += lost.cause == "process"
        if self._failed_starts[node] < _STARTS:
            return
        why = f"models do not start on node {node[:8]} ({lost.reason})"
        alive = [
            name
            for name, known in self._cluster.nodes().items()
            if how_many(known, self.kind) and self._failed_starts[name] < _STARTS
        ]
        if not alive:
            raise InputError(f"{why}, nor on any other; is memory short, or the device in use?")
        print(f"{why}: it only decodes", file=sys.stderr)

    def __str__(self) -> str:
        starting = sum(call.group is None for call in self.calls.values())
        waiting = len(self._groups) + sum(len(model.open) for model in self._models)
        return (
            f"{len(self._models) - starting} models run, {starting} start, {waiting} groups of "
            "clips wait for them"
        )


def groups_of(work: Work, rows: Sequence[int], size: int) -> list[Group]:
    """rows: all that must be decoded. size: rows of a group."""
    members: dict[int, list[int]] = {}
    for row in rows:
        members.setdefault(row // size, []).append(row)
    return [
        Group(number, tuple(found), {row for row in found if work.status[row] == PENDING})
        for number, found in members.items()
    ]
