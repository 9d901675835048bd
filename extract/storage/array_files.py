"""Files of features that somebody already has, and which of their columns are no features.

A data frame's index and a column of ids look like features and ruin them: they are recognised by an
empty header, by values that count the rows, and by values equal to the ids.
"""

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from extract.errors import InputError
from extract.files import is_number, text_encoding

ID_COLUMNS = ("auto", "keep", "drop")
CLIP_ID = "clip_id"
_SURE = 10  # rows from which on counting them is no coincidence
_INDEX_NAMES = ("", "index", "id", "idx", "row", "rownames", "clip", "file", "filename", "path")


@dataclass(frozen=True)
class Columns:
    """A table of features as it was read.

    values: `[clip, column]` numbers. header: the names of all columns of the file; empty if it has
    none. texts: by place in the file, from 0, the columns that hold no numbers. id_name: of the
    column that names the rows.
    """

    values: np.ndarray
    header: tuple[str, ...] = ()
    texts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    id_name: str = CLIP_ID

    @property
    def clip_ids(self) -> tuple[str, ...] | None:
        """The column headed clip_id (or id_name), if there is one."""
        found = (texts for place, texts in self.texts.items() if self.name(place) == self.id_name)
        return next(found, None)

    @property
    def places(self) -> list[int]:
        """Where each column of numbers stands in the file."""
        width = self.values.shape[1] + len(self.texts)
        return [place for place in range(width) if place not in self.texts]

    def name(self, place: int) -> str | None:
        """In the header; None if there is no header."""
        return self.header[place] if self.header else None

    def title(self, place: int) -> str:
        name = self.name(place)
        return f"column {place + 1} ({name})" if name else f"column {place + 1}"


def read_array_file(path: Path, key: str | None, id_name: str = CLIP_ID) -> Columns:
    """Read a .npy, .npz or .csv. Raises InputError on anything that is no table of numbers."""
    if key is not None and path.suffix != ".npz":
        raise InputError(f"{path}: `key={key}` is for an .npz, which holds arrays by name")
    if path.suffix.lower() == ".csv":
        return _read_csv(path, id_name)
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: is it .npy, .npz or .csv? its name must end in that")
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Columns(loaded)
        with loaded:
            if key is None and len(loaded.files) != 1:
                raise InputError(
                    f"{path}: holds {', '.join(loaded.files) or 'no array'}; choose one by --key"
                )
            if key is not None and key not in loaded.files:
                raise InputError(
                    f"{path}: has no array {key!r}; --key may be {', '.join(loaded.files)}"
                )
            return Columns(loaded[key or loaded.files[0]])
    except Exception as error:  # whatever a damaged file makes NumPy, zipfile and zlib raise
        if isinstance(error, InputError | FileNotFoundError):
            raise
        raise InputError(f"{path}: truncated, or not an array of numbers ({error})") from None


def without_id_columns(
    columns: Columns,
    clip_ids: Sequence[str],
    path: Path,
    id_columns: str,
    note: Callable[[str], None],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The features, and what was left out. id_columns: `auto` leaves out what is surely an index or
    ids, passes a sentence about it to `note`, and raises InputError where in doubt; `drop` leaves
    out doubtful columns too; `keep` leaves out nothing that is a number. Raises InputError on other
    text.
    """
    texts = (_text_column(columns, place, clip_ids, path) for place in columns.texts)
    left_out = [title for title in texts if title]
    array = columns.values
    if id_columns == "keep" or array.ndim != 2 or array.dtype.kind not in "fiu":
        return array, tuple(left_out)
    kept = np.ones(array.shape[1], bool)
    for column, (why, sure) in _suspects(columns, clip_ids).items():
        name = columns.title(columns.places[column])
        if not sure and id_columns == "auto":
            raise InputError(
                f"{path}: {name} {why}: is it a feature? pass --id_columns=keep, or "
                "--id_columns=drop to leave it out"
            )
        kept[column] = False
        left_out.append(name)
        note(f"{path}: {name} {why}, and is left out; --id_columns=keep makes it a feature")
    return (array if kept.all() else array[:, kept]), tuple(left_out)


def _text_column(columns: Columns, place: int, clip_ids: Sequence[str], path: Path) -> str:
    """What to call a column of text that is left out; empty for clip_id. Raises InputError unless
    it holds the ids.
    """
    title, texts = columns.title(place), columns.texts[place]
    if columns.name(place) == columns.id_name:
        return ""
    if texts == tuple(clip_ids):
        return title
    if sorted(texts) == sorted(clip_ids):
        raise InputError(
            f"{path}: {title} names the clips in another order than the clip ids; which is the "
            "rows'? leave out one of them"
        )
    example = texts[0] if len(texts[0]) <= 40 else f"{texts[0][:40]}…"
    raise InputError(
        f"{path}: {title} holds text ({example!r}); only numbers are expected. If it names the "
        f"rows, head it {columns.id_name}; else take it out"
    )


def _suspects(columns: Columns, clip_ids: Sequence[str]) -> dict[int, tuple[str, bool]]:
    """The columns of numbers that may be an index or ids → (why, is it sure). Never the only one,
    and none of fewer than three rows that has no name.
    """
    array, rows = columns.values, len(columns.values)
    found: dict[int, tuple[str, bool]] = {}
    if rows != len(clip_ids) or not rows or array.shape[1] < 2:
        return found
    numbers = _as_numbers(clip_ids)
    start = np.asarray(array[:3], np.float64)
    counting = np.isin(start[0], (0, 1)) & (start == start[0] + np.arange(len(start))[:, None]).all(
        0
    )
    as_ids = (numbers[:3] == start.T).all(axis=1) if numbers is not None else counting & False
    for column, place in enumerate(columns.places):
        name = columns.name(place)
        named = name is not None and _is_index_name(name)
        if not (named or (rows >= 3 and (counting[column] or as_ids[column]))):
            continue
        values = np.asarray(array[:, column], np.float64)
        distinct_integers = (values == np.round(values)).all() and len(np.unique(values)) == rows
        if as_ids[column] and (values == numbers).all():
            found[column] = "equals the clip ids", rows >= 3
        elif counting[column] and (values == values[0] + np.arange(rows)).all():
            found[column] = "counts the rows", named or rows >= _SURE
        elif name == "":
            found[column] = "has no name", bool(distinct_integers)
        elif named and distinct_integers:
            found[column] = "holds a different integer in every row", False
    return found


def _is_index_name(name: str) -> bool:
    name = name.strip().lower()
    return name in _INDEX_NAMES or name.startswith("unnamed:") or name.endswith(("_id", " id"))


def _as_numbers(texts: Sequence[str]) -> np.ndarray | None:
    try:
        return np.array(texts, np.float64)
    except ValueError:
        return None


def _read_csv(path: Path, id_name: str) -> Columns:
    """Numbers separated by comma, semicolon or tab, with a header or without."""
    lines = _lines(path)
    first = list(itertools.islice(lines, 2))
    if not first:
        raise InputError(f"{path}: holds no numbers")
    (top, cells), (_, last) = first[0], first[-1]
    if len(last) == 1 and len(last[0].split()) > 1:
        raise InputError(
            f"{path}: values are separated by blanks; separate them by comma, semicolon or tab "
            "(numpy.savetxt: delimiter=',')"
        )
    for number, row in first:
        if commas := [cell for cell in row if _has_decimal_comma(cell)]:
            raise InputError(
                f"{path}, line {number}: {commas[0]!r}: write decimal points, not commas"
            )
    header: list[str] = []
    if _has_header([row for _, row in first]):
        header = [name.strip().removeprefix("# ") for name in first.pop(0)[1]]
    if not first:
        raise InputError(f"{path}: no row below its header")
    texts: dict[int, list[str]] = {
        place: []
        for place, cell in enumerate(first[0][1])
        if header[place : place + 1] == [id_name] or not is_number(cell)
    }
    width = len(cells)
    numeric = [place for place in range(width) if place not in texts]
    rows = []
    for number, row in itertools.chain(first, lines):
        if len(row) != width:
            raise InputError(f"{path}, line {number}: {len(row)} fields, but {width} on line {top}")
        for place, column in texts.items():
            column.append(row[place])
        rows.append(_numbers([row[place] for place in numeric], f"{path}, line {number}"))
    columns = {place: tuple(column) for place, column in texts.items()}
    return Columns(np.array(rows), tuple(header), columns, id_name)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not empty."""
    encoding = text_encoding(path)
    with path.open(newline="", encoding=encoding) as file:
        try:
            first = file.readline()
            delimiter = next((mark for mark in "\t;" if mark in first), ",")
            reader = csv.reader(itertools.chain([first], file), strict=True, delimiter=delimiter)
            for row in reader:
                if row:
                    yield reader.line_num, row
        except (csv.Error, UnicodeError) as error:
            raise InputError(f"{path}: not readable as UTF-8 CSV ({error})") from None


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Is the first of the first two rows a header? It is if it names clip_id, begins with an empty
    cell, holds no number, holds text above a number, or numbers its columns beside some text.
    """
    first, second = rows[0], rows[-1]
    numbers = [float(cell) for cell in first if is_number(cell)]
    if CLIP_ID in first or first[0] == "" or not numbers:
        return True
    text_above_number = any(
        is_number(below) and not is_number(above)
        for above, below in zip(first, second, strict=False)
    )
    numbered = len(numbers) > 1 and all(value == numbers[0] + i for i, value in enumerate(numbers))
    return len(rows) > 1 and (
        text_above_number or (numbered and len(numbers) < len(first) and numbers[0] in (0, 1))
    )


def _numbers(cells: list[str], where: str) -> np.ndarray:
    try:
        values = np.array(cells, np.float64)
    except ValueError:
        values = None
    if values is None or "_" in "".join(cells):
        bad = next(cell for cell in cells if not is_number(cell))
        shown = bad if len(bad) <= 40 else f"{bad[:40]}…"
        hint = "; write decimal points, not commas" if _has_decimal_comma(bad) else ""
        raise InputError(f"{where}: {shown!r} is no number, and only numbers are expected{hint}")
    return values


def _has_decimal_comma(cell: str) -> bool:
    return "," in cell and is_number(cell.replace(",", ".", 1))
