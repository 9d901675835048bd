"""The files of a store that say what its rows were made from: `extract.store.AUDIO_ARRAYS`,
paths.txt and notes.csv. `extract.storage.writer` says when they are written.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from extract.files import made_whole
from extract.storage import files
from extract.storage.files import AudioRecord, write_rows
from extract.storage.reading import load_array
from extract.store import AUDIO_ARRAYS


class AudioFiles:
    """arrays: what the disk has, by name; empty of a complete store from before there were any."""

    def __init__(self, path: Path, clip_ids: Sequence[str], paths: Sequence[str]):
        self.path, self.clip_ids, self.paths = path, tuple(clip_ids), tuple(paths)
        self.arrays: dict[str, np.ndarray] = {}
        self.notes: dict[int, tuple[str, ...]] = {}
        self._taken: list[tuple[int, AudioRecord]] = []

    def shapes(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """name → dtype and shape."""
        return {
            name: (dtype, (len(self.clip_ids), *rest))
            for name, (dtype, rest) in AUDIO_ARRAYS.items()
        }

    def add_missing(self) -> None:
        """The files that are not there yet, all zeros."""
        for name, (dtype, shape) in self.shapes().items():
            if not self._file(name).exists():
                with made_whole(self._file(name)) as scratch:
                    files.allocate(scratch, dtype, shape)
            self.arrays.setdefault(name, np.zeros(shape, dtype))
        if not (self.path / "paths.txt").exists():
            files.write_lines(self.path / "paths.txt", self.paths)
        if not (self.path / "notes.csv").exists():
            self._write_notes(self.notes)

    def resume(self, unfinished: bool) -> None:
        """Load what is there; of an unfinished store that lacks it, begin it now."""
        notes = files.read_notes(self.path)
        self.notes = {row: notes[clip] for row, clip in enumerate(self.clip_ids) if clip in notes}
        if unfinished:
            self.add_missing()
        for name, (dtype, shape) in self.shapes().items():
            if self._file(name).exists():
                self.arrays[name] = np.array(load_array(self._file(name), dtype, shape))

    def take(self, row: int, record: AudioRecord) -> None:
        self._taken.append((row, record))

    def write(self) -> None:
        """Bring what was taken to the disk. Doing it twice is harmless."""
        for name in AUDIO_ARRAYS if self._taken else ():
            rows = [(row, record.row(name)) for row, record in self._taken]
            write_rows(self._file(name), rows)
            for row, values in rows:
                self.arrays[name][row] = values
        self._set_notes({row: record.notes for row, record in self._taken})
        self._taken.clear()

    def forget(self, rows: Collection[int]) -> None:
        """Drop the notes of rows that are made again."""
        self.add_missing()
        self._set_notes(dict.fromkeys(rows, ()))

    def _set_notes(self, notes: Mapping[int, tuple[str, ...]]) -> None:
        """Of these rows, if they are others than before: first on the disk, which may be full."""
        wanted = {row: said for row, said in {**self.notes, **notes}.items() if said}
        if wanted != self.notes:
            self._write_notes(wanted)
            self.notes = wanted

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    def _write_notes(self, notes: Mapping[int, tuple[str, ...]]) -> None:
        pairs = (
            (self.clip_ids[row], " ".join(note.split()))
            for row in sorted(notes)
            for note in notes[row]
        )
        files.write_pairs(self.path / "notes.csv", "note", pairs)
