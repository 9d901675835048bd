"""What a run of tagging has found so far, on the disk: a run that was stopped, in whatever way,
goes on after its last mark.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extract.files import atomic_write, make_directory

RECORD = np.dtype([("item", "<i4"), ("tag", "<i4"), ("probability", "<f4")])
_CHECKPOINT = 32  # blocks between two marks


class PartialFiles:
    """The partial files: records end to end, how far they go, and the scores."""

    def __init__(
        self,
        work: Path,
        fingerprint: Mapping[str, Any],
        all_scores: Path | None,
        shape: tuple[int, int],
    ):
        make_directory(work)
        self.fingerprint = dict(fingerprint)
        self.mark, self.path = work / "progress.json", work / "records.bin"
        self.all_scores = all_scores
        self.partial = None
        if all_scores:  # of one name in two runs: each has its own until it is whole
            mine = hashlib.sha256(os.fsencode(work.absolute())).hexdigest()[:8]
            self.partial = all_scores.with_name(f".{all_scores.name}.{mine}.partial")
        self.next_item, self.bytes = self._marked()
        if not self.next_item:  # a mark of other options must not fit what is written from here on
            self.mark.unlink(missing_ok=True)
        self.scores: np.memmap | None = None
        if self.partial and self.next_item < shape[0]:
            make_directory(self.partial.parent)
            mode = "r+" if self.next_item else "w+"
            self.scores = np.lib.format.open_memmap(self.partial, mode, np.float32, shape)
            self.scores[self.next_item :] = np.nan
        self.file = self.path.open("ab")
        self.file.truncate(self.bytes)
        self.since = 0

    def __enter__(self) -> "PartialFiles":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            with contextlib.suppress(OSError):  # what was marked before stays valid
                self._checkpoint()
        self.file.close()

    def add(self, records: np.ndarray, next_item: int) -> None:
        self.file.write(records.tobytes())
        self.bytes, self.next_item = self.bytes + records.nbytes, next_item
        self.since += 1
        if self.since >= _CHECKPOINT:
            self._checkpoint()

    def finish(self) -> np.ndarray:
        self._checkpoint()
        self.scores = None
        if self.all_scores and self.partial and self.partial.exists():
            self.partial.replace(self.all_scores)
        return np.fromfile(self.path, RECORD)

    def _marked(self) -> tuple[int, int]:
        """(next item, bytes of records) of a run before; zeros if it is of no use."""
        try:
            state = json.loads(self.mark.read_text("utf-8"))
            useful = (
                state["fingerprint"] == self.fingerprint
                and self.path.stat().st_size >= state["bytes"]
            )
            if self.partial and self.all_scores and not self.partial.exists():
                complete = state["next_item"] == self.fingerprint["items"]
                useful &= complete and self.all_scores.exists()
            return (state["next_item"], state["bytes"]) if useful else (0, 0)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0

    def _checkpoint(self) -> None:
        """First the data, then the mark."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.scores is not None:
            self.scores.flush()
        state = {"fingerprint": self.fingerprint, "next_item": self.next_item, "bytes": self.bytes}
        with atomic_write(self.mark) as file:
            json.dump(state, file)
        self.since = 0
