"""What there is to do for one store, as an engine is given it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.embeddings import Embedding
from extract.pipeline.aggregate import Summariser
from extract.pipeline.workers import Job, Task


@dataclass(frozen=True, eq=False)
class Work:
    """tasks: how to get each row's audio; None where there is no file, which no pending row lacks.
    status: uint8 `[row]`. job: what decoding does with a clip; frames that need no model are made
    there. batch_size: windows per batch. summarise: from a clip's frames to its rows.
    """

    embedding: Embedding
    tasks: Sequence[Task | None]
    status: np.ndarray
    job: Job
    batch_size: int
    summarise: Summariser

    def tasks_of(self, rows: Sequence[int]) -> list[Task]:
        """Those of rows that have one."""
        return [task for row in rows if (task := self.tasks[row]) is not None]
