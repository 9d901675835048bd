"""Vectors of tracks or groups → of their clips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest

COLUMNS = ("track", "group")  # of a manifest


@dataclass(frozen=True)
class Spread:
    """by: `track` or `group`, a column of the manifest."""

    by: str
    manifest: Manifest

    def over_clips(
        self, array: np.ndarray, names: Sequence[str], note: Callable[[str], None]
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """(a row for each clip of the manifest that has one, their clip_ids); array `[name, dim]`.

        note: is told how many clips have none. Raises InputError where the manifest has no such
        column, or no clip has a row.
        """
        clips, column = self.manifest.clip_ids, self.manifest.optional().get(self.by, ())
        if not column:
            raise InputError(
                f"the manifest has no column {self.by}; extract.prepare writes one, or give "
                "vectors by clip"
            )
        rows = {name: row for row, name in enumerate(names)}
        found = [
            (clip, rows[name]) for clip, name in zip(clips, column, strict=True) if name in rows
        ]
        if not found:
            raise InputError(
                f"none of the {len(names)} rows is a {self.by} of the manifest (first: "
                f"{names[0]!r}; the manifest's first: {column[0]!r})"
            )
        if len(found) < len(clips):
            lacking = len({name for name in column if name and name not in rows})
            note(
                f"{len(clips) - len(found)} of {len(clips)} clips get no vector, of {lacking} "
                f"{self.by}s without one or of none; a sweep leaves them out with --missing=drop"
            )
        ids, places = zip(*found, strict=True)
        return array[list(places)], ids
