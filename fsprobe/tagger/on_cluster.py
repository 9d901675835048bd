"""A store of many shards to tags on a Ray cluster: blocks are scored as tasks on the CPUs of all
nodes, which see the store under the same path; who asked writes.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from extract.cluster import Cluster, Lost, Ref, Watchdog
from extract.errors import InputError
from extract.store import Stacked, Store, find_shards, open_store, shard_name
from fsprobe.tagger.matching import Part
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.tagging import Block, Scored, Scorer, score_block

TRIES = 5  # of a block: processes and nodes may go
PATIENCE = 3600.0  # seconds
_POLL = 0.2  # seconds
_scorers: dict[str, Scorer] = {}  # of this process: the last one


class NodePart:
    """A part as a node sees it: its features and nothing else, for a store of millions of clips has
    gigabytes of names.
    """

    def __init__(self, name: str, path: Path, array: str):
        self.name, self.path, self.array = name, path, array
        shards = [path / shard_name(*shard) for shard in find_shards(path)]
        files = [folder / f"{array}.npy" for folder in shards or [path]]
        self._features = Stacked([np.load(file, "r", allow_pickle=False) for file in files])

    @property
    def width(self) -> int:
        return int(self._features.shape[1])

    @property
    def store(self) -> Store:
        """All of it, to say what is wrong with a clip."""
        return open_store(self.path)

    def rows(self, rows: np.ndarray | slice) -> np.ndarray:
        return self._features[rows]


@dataclass(frozen=True)
class Setup:
    """key: of one run, whose blocks have one scorer. parts: name, path and array of each."""

    key: str
    tagger: Tagger
    parts: tuple[tuple[str, Path, str], ...]


def score_on_node(setup: Setup, block: Block, top: int, all_scores: bool) -> Scored:
    """A task. Raises InputError on a node that cannot read the stores."""
    try:
        if setup.key not in _scorers:
            _scorers.clear()
            parts = [NodePart(*part) for part in setup.parts]
            _scorers[setup.key] = Scorer(setup.tagger, parts)  # type: ignore[arg-type]
        return score_block(_scorers[setup.key], block, top, all_scores)
    except OSError as error:
        file = error.filename or setup.parts[0][1]
        raise InputError(
            f"node {os.uname().nodename}: {file}: {error.strerror or error}; "
            "every node must see the stores under the same paths as the command"
        ) from error


@dataclass(frozen=True)
class ScoreOnCluster:
    """Scores blocks in order, a bounded number of them at a time. patience: seconds in which a
    block must be finished.
    """

    cluster: Cluster
    patience: float = PATIENCE

    def __call__(
        self,
        tagger: Tagger,
        parts: Sequence[Part],
        blocks: Sequence[Block],
        top: int,
        all_scores: bool,
    ) -> Iterator[Scored]:
        named = tuple((part.name, part.store.path.absolute(), part.array) for part in parts)
        setup = self.cluster.put(Setup(str(uuid.uuid4()), tagger, named))
        running: dict[Ref, int] = {}

        def start(place: int) -> None:
            (ref,) = self.cluster.submit(score_on_node, setup, blocks[place], top, all_scores)
            running[ref] = place

        done: dict[int, Scored] = {}
        tries = [0] * len(blocks)
        next_block = 0
        watchdog = Watchdog(self.patience)
        for wanted in range(len(blocks)):
            while wanted not in done:
                cpus = sum(node.cpus for node in self.cluster.nodes().values())
                most = wanted + 2 * max(1, cpus)
                while next_block < min(len(blocks), most):
                    start(next_block)
                    next_block += 1
                ready = self.cluster.wait(list(running), _POLL)
                for ref in ready:
                    place, value = running.pop(ref), self.cluster.get(ref)
                    if not isinstance(value, Lost):
                        done[place] = value
                        continue
                    tries[place] += 1
                    if tries[place] == TRIES:
                        raise InputError(
                            f"a block of clips was lost {TRIES} times, at last because "
                            f"{value.reason}; what is done is kept, the same command goes on"
                        )
                    start(place)
                waits = f"{len(running)} blocks of clips for {cpus} CPUs"
                watchdog.look(bool(ready), partial(str, waits))
            yield done.pop(wanted)
