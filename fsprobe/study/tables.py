"""The rows of a results directory: what their columns are, and how they stand in CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.errors import InputError
from extract.files import atomic_write, read_csv
from fsprobe.config import FULL, KShot


class ProbeKey(NamedTuple):
    """What names a probe within a results directory."""

    embedding: str
    solver: str
    n_way: int
    k_shot: KShot
    seed: int


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


class SolverRow(NamedTuple):
    """A row of solver.csv, of a probe with a penalty: the strength used, and how flat the objective
    is at the end. gap: a bound on how far it lies above its minimum, as a share of it, the largest
    over the tags. converged: 1, or 0 where that bound is too large.

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

    @property
    def key(self) -> ProbeKey:
        return ProbeKey(*self[:5])


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

Row = ProbeRow | TagRow | EpisodeRow | SolverRow | TagCountRow | PairRow


def read_rows(path: Path, kind: Any) -> list[Any]:
    """Every row of a file. Raises InputError if it is missing, lacks a column or holds a malformed
    value.
    """
    columns = kind._fields
    parse = {name: _PARSERS[name] for name in columns}
    rows = []
    if not path.exists():
        raise InputError(
            f"{path}: no such file; is {path.parent} a results directory of fsprobe.sweep?"
        )
    required = [name for name in columns if name not in kind._field_defaults]
    for line, fields in read_csv(path, required):
        try:
            rows.append(
                kind(**{name: parse[name](fields[name]) for name in columns if name in fields})
            )
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
    return rows


def write_rows(path: Path, kind: Any, rows: Iterable[Row]) -> None:
    """Replace a file, atomically."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(kind._fields)
        writer.writerows(map(_fields, rows))


def to_csv(rows: Sequence[Row]) -> bytes:
    """Lines to append to a file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_fields, rows))
    return text.getvalue().encode()


def _fields(row: Row) -> list[str]:
    texts = [_number(value) if isinstance(value, float) else str(value) for value in row]
    if isinstance(row, ProbeRow) and not row.epochs:
        texts = [
            "" if name in _EPOCHS else text for name, text in zip(row._fields, texts, strict=True)
        ]
    return texts


def _number(value: float) -> str:
    """Shortest text that reads back as the same float32; empty for NaN."""
    return "" if math.isnan(value) else str(np.float32(value))


def _k_shot(text: str) -> KShot:
    return FULL if text == FULL else int(text)


def _count(text: str) -> int:
    return int(text) if text else 0


def _float(text: str) -> float:
    return float(text) if text else math.nan


_PARSERS: dict[str, Any] = {
    **dict.fromkeys(("embedding", "solver", "tag", "clip_id", "tag_a", "tag_b", "validation"), str),
    **dict.fromkeys(
        (
            "n_way",
            "seed",
            "num_train",
            "test_positives",
            "position",
            "shot",
            "iterations",
            "rank",
            "train",
            "valid",
            "test",
            "clips",
            "converged",
            "clips_cut",
        ),
        int,
    ),
    **dict.fromkeys(
        (
            "mAP",
            "roc_auc",
            "chance_mAP",
            "val_loss",
            "average_precision",
            "l2",
            "gradient_norm",
            "gap",
            "macro_f1",
            "micro_f1",
        ),
        _float,
    ),
    **dict.fromkeys(_EPOCHS, _count),
    "k_shot": _k_shot,
}
