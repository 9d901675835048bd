"""One bar for a whole run: clips per second, failures so far, an estimate of what is left."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """To be closed. total: clips of all shards of the run. Nothing is shown before the first of
    them is opened.
    """

    def __init__(self, name: str, total: int):
        self._name, self._total = name, total
        self._failed = 0
        self._bar: Any = None

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def found(self, done: int, failed: int) -> None:
        """Clips that an earlier run finished: they count, but not for this one's speed."""
        if self._bar is None:
            self._bar = tqdm(
                total=self._total,
                desc=self._name,
                unit=" clips",
                dynamic_ncols=True,
                mininterval=0.5 if sys.stderr.isatty() else 30,
            )
        self._bar.initial += done + failed
        self._bar.n += done + failed
        self._count(failed)

    def add(self, failed: bool) -> None:
        """A clip is finished."""
        self._count(int(failed))
        self._bar.update()

    def _count(self, failed: int) -> None:
        self._failed += failed
        self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
