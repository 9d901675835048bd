"""results/NAME/: the only writer and reader of what a sweep found.

    probes.csv        one row per trained probe
    per_tag.csv       one row per probe and tag
    solver.csv        one row per converged probe: the strength used, the gradient left
    weight_norms/     EMBEDDING.npy, float32 [probe, dim], probes in the order of the grid, NaN
                      where not trained yet: the L1 norm over the N tags of each feature's weights;
                      only if asked for
    episodes.csv      the support set of the largest episode of each seed
    unseen.csv        with words: the tags whose labels a seed may not learn of
    zero_shot.csv, zero_shot_tags.csv
                      with words and K = 0: retrieval and annotation, and what the map does
    tags.csv          clips per tag of the pool, by split
    cooccurrence.csv  clips per pair of tags of the pool; of very many pairs, the commonest
    heads/            EMBEDDING.safetensors, every head on the store's own features; only if asked
                      for
    run.json          all flags, versions, device, hashes; whether the grid is complete

Rows are appended as probes finish. A probe's row in probes.csv is written last, and only that row
marks the probe as done. Whatever else a crash leaves behind (a torn line, tag rows without their
probe) is removed when the directory is next opened, so a rerun finishes what is missing and repeats
nothing. An empty field is a metric without a value: a class was absent from the test set.
"""

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np

from extract.errors import InputError
from extract.files import atomic_write
from fsprobe.batch.processes import agreed, in_step, leads
from fsprobe.heads.head import Head
from fsprobe.study import saved_heads
from fsprobe.study.tables import (
    EpisodeRow,
    MapRow,
    PairRow,
    ProbeKey,
    ProbeRow,
    Row,
    SolverRow,
    TagCountRow,
    TagRow,
    UnseenRow,
    ZeroShotRow,
    append,
    columns_of,
    disk_full_explained,
    drop_torn_line,
    header,
    read_rows,
    write_rows,
)

RUN = "run.json"
PROBES, PER_TAG, SOLVER, EPISODES = "probes.csv", "per_tag.csv", "solver.csv", "episodes.csv"
TAGS, COOCCURRENCE, NORMS = "tags.csv", "cooccurrence.csv", "weight_norms"
UNSEEN, ZERO_SHOT, MAP = "unseen.csv", "zero_shot.csv", "zero_shot_tags.csv"
_APPENDED: dict[str, Any] = {
    PER_TAG: TagRow,
    SOLVER: SolverRow,
    ZERO_SHOT: ZeroShotRow,
    MAP: MapRow,
    PROBES: ProbeRow,
}  # in the order of writing
_OF_WORDS = (UNSEEN, ZERO_SHOT, MAP)  # in a sweep with words alone


class FinishedProbe(NamedTuple):
    """A finished probe. weight_norms: float32 `[dim]`."""

    probe: ProbeRow
    tags: list[TagRow]
    solver: SolverRow | None = None
    weight_norms: np.ndarray | None = None
    head: Head | None = None
    zero_shot: Sequence[ZeroShotRow] = ()
    map: Sequence[MapRow] = ()


class Planned(NamedTuple):
    """What is known before the first probe. keys: every probe, in the order of the grid. unseen:
    None in a sweep without words.
    """

    keys: Sequence[ProbeKey]
    episodes: Iterable[EpisodeRow] = ()
    tags: Iterable[TagCountRow] = ()
    pairs: Iterable[PairRow] = ()
    unseen: Iterable[UnseenRow] | None = None


class ResultsWriter:
    """An open results directory; `done` are the probes that need no more training. Of several
    processes the first one writes, and all know which probes are done.
    """

    def __init__(
        self, path: Path, run: dict[str, Any], keys: Sequence[ProbeKey], done: set[ProbeKey]
    ):
        self.path, self.run, self.keys, self.done = path, run, keys, done

    def append(self, finished: Sequence[FinishedProbe]) -> None:
        """Add finished probes of one embedding, all or nothing. Raises InputError where the disk is
        full; earlier rows stay.
        """
        with in_step():
            if leads():
                self._write(finished)
            self.done |= {item.probe.key for item in finished}

    def finish(self, wall_time: float, complete: bool) -> None:
        """Put the rows into the order of the grid; note the wall time (s, earlier runs included) in
        run.json.
        """
        if not leads():
            return
        if complete:
            rank = {key: i for i, key in enumerate(self.keys)}
            for name, kind in _appended(self.path).items():
                file = self.path / name
                ordered = sorted(read_rows(file, kind), key=lambda row: rank[row.key])
                write_rows(file, ordered, header(file))
        self.run["wall_time_s"] = round(self.run.get("wall_time_s", 0.0) + wall_time, 3)
        self.run["complete"] = complete
        _write_run(self.path, self.run)

    def _write(self, finished: Sequence[FinishedProbe]) -> None:
        norms = {p.probe.key: p.weight_norms for p in finished if p.weight_norms is not None}
        if norms:
            self._write_norms(norms)
        heads = {p.probe.key: p.head for p in finished if p.head}
        if heads:
            self._write_heads(heads)
        rows: dict[str, Sequence[Row]] = {
            PER_TAG: [row for item in finished for row in item.tags],
            SOLVER: [item.solver for item in finished if item.solver],
            ZERO_SHOT: [row for item in finished for row in item.zero_shot],
            MAP: [row for item in finished for row in item.map],
            PROBES: [item.probe for item in finished],  # last: these rows say what is done
        }
        for name, part in rows.items():
            if part:
                append(self.path / name, part)

    def _write_heads(self, heads: Mapping[ProbeKey, Head]) -> None:
        """Of one embedding."""
        (embedding,) = {key.embedding for key in heads}
        file = self.path / saved_heads.FOLDER / f"{embedding}.safetensors"
        with disk_full_explained(file):
            if not file.exists():
                keys = [key for key in self.keys if key.embedding == embedding and key.k_shot != 0]
                about = {
                    "embedding": embedding,
                    "configuration": json.dumps(self.run["configuration"]),
                }
                saved_heads.create(file, keys, next(iter(heads.values())).dim, about)
            saved_heads.fill(file, heads)

    def _write_norms(self, norms: Mapping[ProbeKey, np.ndarray]) -> None:
        """Of one embedding."""
        (embedding,) = {key.embedding for key in norms}
        keys = [key for key in self.keys if key.embedding == embedding]
        row = {key: i for i, key in enumerate(keys)}
        file = self.path / NORMS / f"{embedding}.npy"
        with disk_full_explained(file):
            if not file.exists():  # written out, so that a full disk says so now
                dim = next(iter(norms.values())).size
                with atomic_write(file, binary=True) as stream:
                    np.save(stream, np.full((len(keys), dim), np.nan, np.float32))
            array = np.load(file, mmap_mode="r+", allow_pickle=False)
            array[[row[key] for key in norms]] = list(norms.values())
            array.flush()


@contextlib.contextmanager
def open_results(
    path: str | Path, configuration: Mapping[str, Any], about: Mapping[str, Any], planned: Planned
) -> Iterator[ResultsWriter]:
    """Open or create a results directory, alone.

    configuration: what determines the rows (JSON values); about: what else run.json records. Raises
    InputError if the directory holds another configuration or other files, or if another sweep has
    it open.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"{path}: another sweep is writing here; wait for it or choose another `out`"
        ) from None
    try:
        run = {**about, "configuration": json.loads(json.dumps(configuration)), "complete": False}
        if (path / RUN).exists():
            old = read_run(path)
            _check_same(path, old.get("configuration"), run["configuration"])
            run["wall_time_s"] = old.get("wall_time_s", 0.0)
        elif foreign := sorted(
            entry.name for entry in path.iterdir() if not entry.name.startswith(".")
        ):
            raise InputError(
                f"{path}: holds {foreign[0]!r} but no {RUN}: not a results directory; "
                "choose another `out`"
            )
        _write_run(path, run)  # first: the other files are known by it
        files: dict[str, tuple[Any, Iterable[Row]]] = {
            EPISODES: (EpisodeRow, planned.episodes),
            TAGS: (TagCountRow, planned.tags),
            COOCCURRENCE: (PairRow, planned.pairs),
            UNSEEN: (UnseenRow, planned.unseen or ()),
            **{name: (kind, ()) for name, kind in _APPENDED.items()},
        }
        for name, (kind, rows) in files.items():
            if name in _OF_WORDS and planned.unseen is None:
                continue
            if not (path / name).exists() or (
                name not in _APPENDED and read_rows(path / name, kind) != list(rows)
            ):
                write_rows(path / name, rows, columns_of(kind, planned.unseen is not None))
        yield ResultsWriter(path, run, planned.keys, _repair(path, planned.keys))
    finally:
        lock.release()


@contextlib.contextmanager
def open_together(
    path: str, configuration: Mapping[str, Any], about: Mapping[str, Any], planned: Planned
) -> Iterator[ResultsWriter]:
    """open_results on the first process; the others get the keys of the probes that are done."""
    with contextlib.ExitStack() as stack:
        results = ResultsWriter(Path(path), {}, planned.keys, set())
        with in_step():
            if leads():
                results = stack.enter_context(open_results(path, configuration, about, planned))
        done = agreed(np.array([key in results.done for key in planned.keys]))
        results.done = set(itertools.compress(planned.keys, done))
        yield results


def read_probes(path: str | Path) -> list[ProbeRow]:
    """The rows of probes.csv. Raises InputError on a missing column or a malformed value."""
    return read_rows(Path(path) / PROBES, ProbeRow)


def read_per_tag(path: str | Path) -> list[TagRow]:
    """The rows of per_tag.csv of finished probes. Raises InputError on a missing column or a
    malformed value.
    """
    done = {row.key for row in read_probes(path)}
    return [row for row in read_rows(Path(path) / PER_TAG, TagRow) if row.key in done]


def read_run(path: str | Path) -> dict[str, Any]:
    """run.json. Raises InputError if it is missing or not a JSON object."""
    file = Path(path) / RUN
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; is {path} a results directory of fsprobe.sweep?"
        ) from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: not a JSON object")
    return value


def _repair(path: Path, keys: Collection[ProbeKey]) -> set[ProbeKey]:
    """Remove what a crash left unfinished, or somebody repeated; return the probes that are done.

    Raises InputError on a probe that is none of `keys`.
    """
    appended = _appended(path)
    for name in appended:
        drop_torn_line(path / name)
    rows = {name: read_rows(path / name, kind) for name, kind in appended.items()}
    known = set(keys)
    for row in rows[PROBES]:
        if row.key not in known:
            raise InputError(
                f"{path / PROBES}: the probe {tuple(row.key)} is not of this configuration; remove "
                f"its "
                "row, or choose another `out`"
            )
    tags = Counter(row.key for row in dict.fromkeys(rows[PER_TAG]))
    done = {row.key for row in rows[PROBES] if tags[row.key] == row.n_way}
    for name, kind in appended.items():
        kept = [row for row in dict.fromkeys(rows[name]) if row.key in done]
        columns = columns_of(kind, (path / UNSEEN).exists())
        older = not set(columns) <= set(header(path / name))
        if len(kept) < len(rows[name]) or older:
            write_rows(path / name, kept, columns)
    return done


def _appended(path: Path) -> dict[str, Any]:
    """The files that rows are appended to, those of words where there are any."""
    return {
        name: kind
        for name, kind in _APPENDED.items()
        if name not in _OF_WORDS or (path / name).exists()
    }


def _check_same(path: Path, old: Any, new: Mapping[str, Any]) -> None:
    if not isinstance(old, dict):
        raise InputError(
            f"{path / RUN}: 'configuration' is missing or no object; choose another `out`"
        )
    for key in [*new, *(key for key in old if key not in new)]:
        if old.get(key) != new.get(key):
            raise InputError(
                f"{path}: holds results of another configuration: {key} was "
                f"{json.dumps(old.get(key))}, now {json.dumps(new.get(key))}; choose another `out`"
            )


def _write_run(path: Path, run: Mapping[str, Any]) -> None:
    with disk_full_explained(path / RUN), atomic_write(path / RUN) as file:
        json.dump(run, file, indent=2, allow_nan=False)
        file.write("\n")
