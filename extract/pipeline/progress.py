"""One bar for a whole run: clips per second, failures so far, an estimate of what is left."""

import sys
from typing import Self


class Progress:
    """A context manager. total: clips of all shards of the run."""

    def __init__(self, name: str, total: int):
        from tqdm import tqdm

        self.failed = 0
        self._bar = tqdm(
            total=total,
            desc=name,
            unit=" clips",
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def found(self, done: int, failed: int) -> None:
        """Clips that an earlier run finished: they count, but not for this one's speed."""
        self._bar.initial += done + failed
        self._bar.n += done + failed
        self._count(failed)

    def add(self, failed: bool) -> None:
        """A clip is finished."""
        self._count(int(failed))
        self._bar.update()

    def _count(self, failed: int) -> None:
        self.failed += failed
        self._bar.set_postfix_str(f"{self.failed} failed", refresh=False)
