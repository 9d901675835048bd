"""A cluster in this process that loses what a real one may lose: tasks, models, nodes, objects, room
in the store, at random and often. It does what it is asked in any order that Ray allows.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from extract.cluster import Lost, Node

KINDS = {
    "process": "its process died",
    "node": "its node left the cluster",
    "object": "the node that held its audio left the cluster",
    "space": "Ray's object store is full",
}


class FakeRef:
    def __init__(self, value: Any) -> None:
        self.value = value


class FakeActor:
    def __init__(self, instance: Any, node: str) -> None:
        self.instance, self.node, self.dead = instance, node, False


class FakeCluster:
    """losses: of all tasks and calls, the share that comes to nothing. deadly: arguments of a task
    or a call for which its process always dies. most: the most tasks that ever were under way.
    """

    def __init__(
        self,
        nodes: int = 2,
        cpus: int = 2,
        losses: float = 0.0,
        seed: int = 0,
        deadly: Callable[[tuple[Any, ...]], bool] = lambda arguments: False,
        starts: bool = True,
    ) -> None:
        self.alive = {f"node{i}": Node(cpus) for i in range(nodes)}
        self.losses, self.deadly, self.starts = losses, deadly, starts
        self.cpus, self.random = cpus, random.Random(seed)
        self.pending: set[FakeRef] = set()
        self.actors: list[FakeActor] = []
        self.count, self.most, self.lost = 0, 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def nodes(self) -> dict[str, Node]:
        return dict(self.alive)

    def put(self, value: Any) -> FakeRef:
        return self._ref(value)

    def _ref(self, value: Any) -> FakeRef:
        self.count += 1
        return FakeRef(value)

    def _resolve(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(one.value if isinstance(one, FakeRef) else one for one in arguments)

    def _loss(self, *causes: str) -> Lost | None:
        if self.random.random() >= self.losses:
            return None
        self.lost += 1
        cause = self.random.choice(causes)
        return Lost(KINDS[cause], cause)

    def submit(self, function: Any, *arguments: Any, returns: int = 1) -> list[FakeRef]:
        given = self._resolve(arguments)
        lost = self._loss("process", "node", "space")
        if self.deadly(given):
            lost = Lost(KINDS["process"], "process")
        values = lost or function(*given)
        parts = [lost] * returns if lost else list(values) if returns > 1 else [values]
        refs = [self._ref(part) for part in parts]
        self.pending.add(refs[0])
        self.most = max(self.most, len(self.pending))
        return refs

    def start(
        self, kind: Any, *arguments: Any, node: str, environment: Mapping[str, str], **needs: Any
    ) -> FakeActor:
        actor = FakeActor(kind(*self._resolve(arguments)), node)
        actor.dead = not self.starts
        self.actors.append(actor)
        return actor

    def call(self, actor: FakeActor, method: str, *arguments: Any) -> FakeRef:
        lost = self._loss("process", "node", "object") if method != "ready" else None
        if self.deadly(arguments):
            lost = Lost(KINDS["process"], "process")
        if lost and lost.cause != "object":
            actor.dead = True
            if lost.cause == "node":  # another joins in its place
                self.alive.pop(actor.node, None)
                self.alive[f"node{self.count}"] = Node(self.cpus)
        if actor.dead:
            lost = lost or Lost(KINDS["process"], "process")
        value = lost or getattr(actor.instance, method)(*self._resolve(arguments))
        ref = self._ref(value)
        self.pending.add(ref)
        return ref

    def kill(self, actor: FakeActor) -> None:
        actor.dead = True

    def wait(self, refs: Sequence[FakeRef], seconds: float) -> list[FakeRef]:
        return self.random.sample(list(refs), self.random.randint(0, len(refs)))

    def get(self, ref: FakeRef) -> Any:
        self.pending.discard(ref)
        return ref.value
