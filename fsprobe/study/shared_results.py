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


class SharedResults:
    """A results directory on any of the processes. done: the probes that need no more training.
    writer: None on the processes that do not write.
    """

    def __init__(self, done: set[ProbeKey], writer: ResultsWriter | None):
        self.done, self.writer = done, writer

    def append(self, finished: Sequence[FinishedProbe]) -> None:
        with in_step():
            if self.writer:
                self.writer.append(finished)
            self.done |= {item.probe.key for item in finished}

    def finish(self, wall_time: float, complete: bool) -> None:
        if self.writer:
            self.writer.finish(wall_time, complete)


@contextlib.contextmanager
def open_together(
    path: str, configuration: Mapping[str, Any], about: Mapping[str, Any], planned: Planned
) -> Iterator[SharedResults]:
    """open_results on the first process; the others get the keys of the probes that are done."""
    with contextlib.ExitStack() as stack:
        writer = None
        with in_step():
            if leads():
                opened = open_results(path, configuration, about, planned)
                writer = stack.enter_context(opened)
        known = writer.done if writer else set()
        done = agreed(np.array([key in known for key in planned.keys]))
        yield SharedResults(
            {key for key, is_done in zip(planned.keys, done, strict=True) if is_done}, writer
        )
