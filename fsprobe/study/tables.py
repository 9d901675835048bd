"""The rows of a results directory: what their columns are, and how they stand in CSV. Files grow by
whole lines, whatever interrupts; a full disk says so.
"""

import contextlib
import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from extract.errors import InputError
from extract.files import atomic_write, is_disk_full, read_csv
from fsprobe.config import FULL, KShot


class ProbeKey(NamedTuple):
    """What names a probe within a results directory. zero_shot: how words became its heads, where K
    is 0. prior: whose words made them, or what its weights were pulled to: of
    `fsprobe.words.config.PRIORS`. Both are empty in a sweep without words.
    """

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int
    zero_shot: str = ""
    prior: str = ""


class ProbeRow(NamedTuple):
    """A row of probes.csv. mAP, roc_auc: means over the tags that have a value. chance_mAP: their
    mean prevalence. best_epoch, epochs: 0 for a solver without epochs, empty in the file. macro_f1,
    micro_f1: at the thresholds that are best on the support set. Columns with a default are missing
    in files of older versions.
    """

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
    validation: str = ""
    macro_f1: float = math.nan
    micro_f1: float = math.nan
    zero_shot: str = ""
    prior: str = ""

    @property
    def key(self) -> ProbeKey:
        return _key(self)

    @property
    def diverged(self) -> bool:
        """Had no epoch a finite validation loss? Its metrics are empty."""
        return self.best_epoch == 0 and self.epochs > 0


class TagRow(NamedTuple):
    """A row of per_tag.csv. precision_at_10: of the ten test clips that score highest, where K is
    0.
    """

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int
    tag: str
    average_precision: float
    roc_auc: float
    test_positives: int
    zero_shot: str = ""
    prior: str = ""
    precision_at_10: float = math.nan

    @property
    def key(self) -> ProbeKey:
        return _key(self)


class EpisodeRow(NamedTuple):
    """A row of episodes.csv: the N-way K-shot cell is position < N and shot < K. Where no K draws
    clips, shot is None and clip_id empty.
    """

    seed: int
    position: int
    tag: str
    shot: int | None
    clip_id: str


class SolverRow(NamedTuple):
    """A row of solver.csv, of a probe with a penalty: the strength used, and how flat the objective
    is at the end. gap: an estimate of how far it lies above its minimum, as a share of it, the
    largest over the tags. converged: 1, or 0 where that is too large. prior_scale: chosen with l2.

    clips_cut: the support clips that the solver had to simplify (`Solver.cut`). A probe without a
    penalty has a row where there are any.
    """

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int
    l2: float
    gradient_norm: float
    iterations: int
    gap: float = math.nan
    converged: int = 1
    clips_cut: int = 0
    zero_shot: str = ""
    prior: str = ""
    prior_scale: float = math.nan

    @property
    def key(self) -> ProbeKey:
        return _key(self)


class UnseenRow(NamedTuple):
    """A row of unseen.csv: a tag whose labels a seed may not learn of. near_synonym: a seen tag
    that is the same word by its letters (`fsprobe.words.vectors.near_synonyms`), or empty.
    """

    seed: int
    tag: str
    near_synonym: str


class ZeroShotRow(NamedTuple):
    """A row of zero_shot.csv, of a probe without examples: the means that
    `fsprobe.annotation_metrics.evaluate_zero_shot` calls TASK/TAGS/CLIPS. chosen: the settings that
    held-out seen tags chose.
    """

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int
    zero_shot: str
    prior: str
    task: str
    tags: str
    clip_kind: str
    mAP: float
    roc_auc: float
    precision_at_10: float
    hit_at_10: float
    chosen: str

    @property
    def key(self) -> ProbeKey:
        return _key(self)


class MapRow(NamedTuple):
    """A row of zero_shot_tags.csv: of an unseen tag, the tags whose words are nearest to where the
    map puts its test clips, and the seen tags whose words its own lean on, as TAG=WEIGHT|….
    """

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int
    zero_shot: str
    prior: str
    tag: str
    nearest: str
    leans_on: str

    @property
    def key(self) -> ProbeKey:
        return _key(self)


def _key(row: Any) -> ProbeKey:
    return ProbeKey(*(getattr(row, name) for name in ProbeKey._fields))


class TagCountRow(NamedTuple):
    """A row of tags.csv: clips that carry a tag of the pool, by split. rank: over the whole
    manifest, from 1.
    """

    tag: str
    rank: int
    train: int
    valid: int
    test: int


class PairRow(NamedTuple):
    """A row of cooccurrence.csv: clips with a split that carry both tags (`records.pair_rows`)."""

    tag_a: str
    tag_b: str
    clips: int


_EPOCHS = ("best_epoch", "epochs")
_OF_WORDS = ("zero_shot", "prior", "precision_at_10", "prior_scale")

Row = (
    ProbeRow
    | TagRow
    | EpisodeRow
    | SolverRow
    | TagCountRow
    | PairRow
    | UnseenRow
    | ZeroShotRow
    | MapRow
)


def read_rows(path: Path, kind: Any) -> list[Any]:
    """Every row of a file. Raises InputError if it is missing, lacks a column or holds a malformed
    value.
    """
    if not path.exists():
        raise InputError(
            f"{path}: no such file; is {path.parent} a results directory of fsprobe.sweep?"
        )
    parse = {name: _PARSERS[hint] for name, hint in get_type_hints(kind).items()}
    parse |= dict.fromkeys(_EPOCHS, lambda text: int(text or 0))
    required = [name for name in kind._fields if name not in kind._field_defaults]
    rows = []
    for line, fields in read_csv(path, required):
        try:
            rows.append(
                kind(**{name: parse[name](fields[name]) for name in kind._fields if name in fields})
            )
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
    return rows


def columns_of(kind: Any, with_words: bool) -> tuple[str, ...]:
    """The columns of a file of such rows, those of words only in a sweep with words."""
    return tuple(name for name in kind._fields if with_words or name not in _OF_WORDS)


def write_rows(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Replace a file, atomically, by one of these columns."""
    with disk_full_explained(path), atomic_write(path, binary=True) as file:
        file.write(",".join(columns).encode() + b"\n")
        file.write(to_csv(rows, columns))


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append whole lines; on a failed write, take back what got through."""
    with disk_full_explained(path), open(path, "ab", buffering=0) as file:
        start = file.tell()
        try:
            data = to_csv(rows, header(path))
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(start)
            raise


def drop_torn_line(path: Path) -> None:
    """Take back a last line that has no end."""
    with open(path, "r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def header(path: Path) -> tuple[str, ...]:
    """A file's columns; an older version's has fewer."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(file.readline().rstrip("\r\n").split(","))


@contextlib.contextmanager
def disk_full_explained(path: Path) -> Iterator[None]:
    """OSErrors of writing to `path` as InputErrors that say how to go on."""
    try:
        yield
    except OSError as error:
        remedy = "make room" if is_disk_full(error) else "mend that"
        raise InputError(
            f"{path}: {error.strerror}; {remedy} and rerun the same command to go on"
        ) from error


def to_csv(rows: Iterable[Row], columns: Sequence[str]) -> bytes:
    """The lines of a file of these columns, below its header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_fields(row, columns) for row in rows)
    return text.getvalue().encode()


def _fields(row: Row, columns: Sequence[str]) -> list[str]:
    unset = _EPOCHS if isinstance(row, ProbeRow) and not row.epochs else ()
    return ["" if name in unset else _text(getattr(row, name)) for name in columns]


def _text(value: Any) -> str:
    """Of a float the shortest that reads back as the same float32; empty for None and NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else str(np.float32(value))
    return "" if value is None else str(value)


# how a column's text is read, by its type
_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: lambda text: float(text) if text else math.nan,  # one NaN: rows that hold it are equal
    KShot: lambda text: FULL if text == FULL else int(text),
    int | None: lambda text: int(text) if text else None,
}
