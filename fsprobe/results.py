"""results/NAME/: the only writer and reader of what a sweep found.

    probes.csv    one row per trained probe
    per_tag.csv   one row per probe and tag
    episodes.csv  the support set of the largest episode of each seed
    run.json      all flags, versions, device, hashes; whether the grid is complete

Rows are appended as probes finish: first a probe's per_tag rows, then its row in probes.csv, which alone says that
the probe is done. Whatever a crash leaves behind beyond that (a torn line, tag rows without their probe) is removed
when the directory is next opened, so a rerun finishes what is missing and repeats nothing.
An empty field is a metric without a value: a class was absent from the test set.
"""

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np

from extract.errors import InputError
from extract.manifest import atomic_write, read_csv
from fsprobe.config import FULL, KShot


class ProbeKey(NamedTuple):
    """What names a probe within a results directory."""

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int


class ProbeRow(NamedTuple):
    """A row of probes.csv. mAP, roc_auc: means over the tags that have a value. chance_mAP: their mean prevalence."""

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int
    num_train: int
    mAP: float
    roc_auc: float
    chance_mAP: float
    val_loss: float
    best_epoch: int
    epochs: int

    @property
    def key(self) -> ProbeKey:
        return ProbeKey(*self[:5])


class TagRow(NamedTuple):
    """A row of per_tag.csv."""

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int
    tag: str
    average_precision: float
    roc_auc: float
    test_positives: int

    @property
    def key(self) -> ProbeKey:
        return ProbeKey(*self[:5])


class EpisodeRow(NamedTuple):
    """A row of episodes.csv: the N-way K-shot cell is position < N and shot < K."""

    seed: int
    position: int
    tag: str
    shot: int
    clip_id: str


Row = ProbeRow | TagRow | EpisodeRow
PROBES, PER_TAG, EPISODES, RUN = "probes.csv", "per_tag.csv", "episodes.csv", "run.json"


class ResultsWriter:
    """An open results directory; `done` are the probes that need no more training."""

    def __init__(self, path: Path, run: dict[str, Any], done: set[ProbeKey]):
        self.path, self.run, self.done = path, run, done

    def append(self, probes: Sequence[ProbeRow], tags: Sequence[TagRow]) -> None:
        """Add finished probes, all or nothing. Raises InputError where the disk is full; earlier rows stay."""
        _append(self.path / PER_TAG, tags)
        _append(self.path / PROBES, probes)
        self.done |= {row.key for row in probes}

    def finish(self, order: Sequence[ProbeKey], wall_time: float, complete: bool) -> None:
        """Put the rows into the order of the grid; note the wall time (s, earlier runs included) in run.json."""
        if complete:
            rank = {key: i for i, key in enumerate(order)}
            for name, kind in ((PER_TAG, TagRow), (PROBES, ProbeRow)):
                rows = sorted(_read(self.path / name, kind), key=lambda row: rank[row.key])
                _rewrite(self.path / name, kind, rows)
        self.run["wall_time_s"] = round(self.run.get("wall_time_s", 0.0) + wall_time, 3)
        self.run["complete"] = complete
        _write_json(self.path / RUN, self.run)


@contextlib.contextmanager
def open_results(path: str | Path, configuration: Mapping[str, Any], about: Mapping[str, Any],
                 episodes: Iterable[EpisodeRow]) -> Iterator[ResultsWriter]:
    """Open or create a results directory, alone.

    configuration: what determines the rows (JSON values); about: what else run.json records.
    Raises InputError if the directory holds another configuration or other files, or if another sweep has it open.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(f"{path}: another sweep is writing here; wait for it or choose another --out") from None
    try:
        run = {**about, "configuration": json.loads(json.dumps(configuration)), "complete": False}
        if (path / RUN).exists():
            old = _read_json(path / RUN)
            _check_same(path, old.get("configuration", {}), run["configuration"])
            run["wall_time_s"] = old.get("wall_time_s", 0.0)
        elif foreign := sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".")):
            raise InputError(f"{path}: holds {foreign[0]!r} but no {RUN}: not a results directory; "
                             "choose another --out")
        _write_json(path / RUN, run)  # first: the other files are known by it
        for name, kind, rows in ((EPISODES, EpisodeRow, episodes), (PER_TAG, TagRow, ()), (PROBES, ProbeRow, ())):
            if not (path / name).exists():
                _rewrite(path / name, kind, rows)
        yield ResultsWriter(path, run, _repair(path))
    finally:
        lock.release()


def read_probes(path: str | Path) -> list[ProbeRow]:
    """The rows of probes.csv. Raises InputError on a missing column or a malformed value."""
    return _read(Path(path) / PROBES, ProbeRow)


def read_per_tag(path: str | Path) -> list[TagRow]:
    """The rows of per_tag.csv of finished probes. Raises InputError on a missing column or a malformed value."""
    done = {row.key for row in read_probes(path)}
    return [row for row in _read(Path(path) / PER_TAG, TagRow) if row.key in done]


def read_run(path: str | Path) -> dict[str, Any]:
    """run.json. Raises InputError if it is missing or not JSON."""
    return _read_json(Path(path) / RUN)


def _read(path: Path, kind: Any) -> list[Any]:
    columns = kind._fields
    parse = [_PARSERS[name] for name in columns]
    rows = []
    if not path.exists():
        raise InputError(f"{path}: no such file; is {path.parent} a results directory of fsprobe.sweep?")
    for line, fields in read_csv(path, columns):
        try:
            rows.append(kind(*(convert(fields[name]) for convert, name in zip(parse, columns, strict=True))))
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
    return rows


def _repair(path: Path) -> set[ProbeKey]:
    """Remove what a crash left unfinished; return the probes that are done."""
    for name in (PER_TAG, PROBES):
        _drop_torn_line(path / name)
    done = {row.key for row in _read(path / PROBES, ProbeRow)}
    tags = _read(path / PER_TAG, TagRow)
    kept = [row for row in tags if row.key in done]
    if len(kept) < len(tags):
        _rewrite(path / PER_TAG, TagRow, kept)
    return done


def _drop_torn_line(path: Path) -> None:
    with open(path, "r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _append(path: Path, rows: Sequence[Row]) -> None:
    """Append whole lines in one write; on a failed write, take back what got through."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_fields, rows))
    with open(path, "ab", buffering=0) as file:
        start = file.tell()
        try:
            data = text.getvalue().encode()
            while data:
                data = data[file.write(data):]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(start)
            raise InputError(f"{path}: {error.strerror}; make room and rerun the same command to go on") from error


def _rewrite(path: Path, kind: Any, rows: Iterable[Row]) -> None:
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(kind._fields)
        writer.writerows(map(_fields, rows))


def _fields(row: Row) -> list[str]:
    return [_number(value) if isinstance(value, float) else str(value) for value in row]


def _number(value: float) -> str:
    """Shortest text that reads back as the same float32; empty for NaN."""
    return "" if math.isnan(value) else str(np.float32(value))


def _check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for key in [*new, *(key for key in old if key not in new)]:
        if old.get(key) != new.get(key):
            raise InputError(f"{path}: holds results of another configuration: {key} was "
                             f"{json.dumps(old.get(key))}, now {json.dumps(new.get(key))}; choose another --out")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is {path.parent} a results directory of fsprobe.sweep?") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def _k_shot(text: str) -> KShot:
    return FULL if text == FULL else int(text)


def _float(text: str) -> float:
    return float(text) if text else math.nan


_PARSERS: dict[str, Any] = {
    **dict.fromkeys(("embedding", "solver", "tag", "clip_id"), str),
    **dict.fromkeys(("n_way", "seed", "num_train", "best_epoch", "epochs", "test_positives", "position", "shot"), int),
    **dict.fromkeys(("mAP", "roc_auc", "chance_mAP", "val_loss", "average_precision"), _float),
    "k_shot": _k_shot,
}
