"""Models on the devices of a cluster, and the groups of clips that they embed."""

import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from extract.cluster import Actor, Cluster, Lost, Node, Ref
from extract.errors import InputError
from extract.pipeline.aggregate import Extracted
from extract.pipeline.ray_decoding import DEATHS, LOSSES, Decoders, Piece, in_pieces
from extract.pipeline.ray_stages import Clip, Model
from extract.pipeline.work import Work
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
    """Rows that share batches. left: those that are pending. attempt: how often it was begun."""

    number: int
    rows: tuple[int, ...]
    left: set[int]
    attempt: int = 0
    pieces: list[Piece] = field(default_factory=list)
    fed: int = 0  # pieces that the model was given
    deaths: int = 0
    losses: int = 0

    def begin(self, work: Work) -> list[Piece]:
        """From its first piece, whatever was under way."""
        for piece in self.pieces:
            piece.stale = True
        self.attempt, self.fed, self.pieces = self.attempt + 1, 0, []
        self.pieces += [Piece(rows, self.pieces) for rows in in_pieces(self.rows, work.tasks)]
        return list(self.pieces)


@dataclass(eq=False)
class _Running:
    actor: Actor
    node: str
    open: list[Group] = field(default_factory=list)
    started: bool = False


@dataclass(eq=False)
class _Call:
    model: _Running
    group: Group | None = None  # None: it starts
    attempt: int = 0
    piece: Piece | None = None
    last: bool = False


class Models:
    """Starts a model wherever there is a device for one, gives each whole groups, and starts again
    what was lost with it.

    arguments: of `Model`, but for the embedding's. environment: of their processes.
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
                self.calls[self._cluster.call(actor, "ready")] = _Call(model)

    def close(self) -> None:
        """End all of them: what they hold is free for whoever comes next."""
        for model in self._models:
            self._cluster.kill(model.actor)
        self._models.clear()
        self.calls.clear()

    def hand_out(self) -> None:
        """Whole groups to models that have few, and to each model the pieces that come next."""
        for _ in range(OPEN):
            for model in self._models:
                if len(model.open) < OPEN and self._groups:
                    group = self._groups.popleft()
                    model.open.append(group)
                    self._decoders.add(group.begin(self._work))
        for model in self._models:
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
                self.calls[ref] = _Call(model, group, group.attempt, piece, last)
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
        if call.model not in self._models:
            return
        group = call.group
        if isinstance(value, Lost):
            self._lost(call, value)
        elif group is None:
            call.model.started, self._failed_starts[call.model.node] = True, 0
        elif call.attempt == group.attempt:
            for row, clip in value:
                group.left.discard(row)
                yield row, clip
            if call.last and not group.left:
                call.model.open.remove(group)
            elif call.last:  # it passed pieces over
                self._again(call.model, group, Lost("a piece went astray", "object"))
        yield from self._given_up
        self._given_up.clear()

    def _lost(self, call: _Call, lost: Lost) -> None:
        if lost.cause == "space":
            self._decoders.store_is_full()
        if lost.cause in ("object", "space") and call.group is not None:
            if call.attempt == call.group.attempt:
                self._again(call.model, call.group, lost)
            return
        if not call.model.started:
            self._note_failed_start(call.model.node, lost)
            lost = lost._replace(cause="node")  # it had not come to any clip
        self._retire(call.model, lost)

    def _retire(self, model: _Running, lost: Lost) -> None:
        """End a model; its groups are the next that others get."""
        self._models.remove(model)
        self._cluster.kill(model.actor)
        for place, group in reversed(list(enumerate(model.open))):
            if self._may_try_again(group, lost if place == 0 else lost._replace(cause="node")):
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

    def _may_try_again(self, group: Group, lost: Lost) -> bool:
        group.deaths += lost.cause == "process"
        group.losses += lost.cause != "process"
        if group.deaths < DEATHS and group.losses < LOSSES:
            return True
        times = group.deaths + group.losses
        reason = f"embedding was lost {times} times, at last because {lost.reason}"
        self._given_up += [(row, Extracted((), reason)) for row in sorted(group.left)]
        group.left.clear()
        group.attempt += 1  # what models still answer is of no use
        return False

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
