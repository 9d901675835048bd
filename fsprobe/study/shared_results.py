"""A results directory among several processes: the first one writes, the others learn which probes
are done.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fsprobe.batch.processes import agreed, in_step, leads
from fsprobe.study.results import FinishedProbe, Planned, ResultsWriter, open_results
from fsprobe.study.tables import ProbeKey


class Follower:
    """Takes the place of ResultsWriter on the processes that do not write."""

    def __init__(self, done: set[ProbeKey]):
        self.done = done

    def append(self, finished: Sequence[FinishedProbe]) -> None:
        with in_step():
            self.done |= {item.probe.key for item in finished}

    def finish(self, wall_time: float, complete: bool) -> None:
        pass


class Leader(Follower):
    def __init__(self, writer: ResultsWriter):
        super().__init__(writer.done)
        self.writer = writer

    def append(self, finished: Sequence[FinishedProbe]) -> None:
        with in_step():
            self.writer.append(finished)

    def finish(self, wall_time: float, complete: bool) -> None:
        self.writer.finish(wall_time, complete)


@contextlib.contextmanager
def open_together(
    path: str, configuration: Mapping[str, Any], about: Mapping[str, Any], planned: Planned
) -> Iterator[Follower]:
    """open_results on the first process; the others get the keys of the probes that are done."""
    with contextlib.ExitStack() as stack:
        results = Follower(set())
        with in_step():
            if leads():
                results = Leader(
                    stack.enter_context(open_results(path, configuration, about, planned))
                )
        done = agreed(np.array([key in results.done for key in planned.keys]))
        if not leads():
            results.done = {key for key, is_done in zip(planned.keys, done, strict=True) if is_done}
        yield results
