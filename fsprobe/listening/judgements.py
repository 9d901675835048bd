"""What people said of clips: an SQLite file, a row per judgement; only `withdrawn` ever changes.

    judgements(id, clip, tag, value, at, by, key, withdrawn)

value: yes, no or unknown (heard, but not to be said). at, withdrawn: UTC, ISO 8601. key: given by
whoever sends the judgement; sent twice, it stands once. The latest row of a clip and a tag that is
not withdrawn counts. The file is in WAL mode: what `add` returned from is on the disk, whatever
becomes of the process, and several processes may write.
"""

import datetime
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from extract.errors import InputError
from extract.files import make_directory

VALUES = ("yes", "no", "unknown")
LONGEST = 500  # characters of a clip_id, a tag or a name
_WAIT = 30.0  # seconds for another process to finish its writing
_FORMAT = 1  # user_version
_MARK = 0x66737062  # application_id
_TABLE = """
CREATE TABLE IF NOT EXISTS judgements (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  clip TEXT NOT NULL, tag TEXT NOT NULL,
  value TEXT NOT NULL CHECK (value IN ('yes', 'no', 'unknown')),
  at TEXT NOT NULL, by TEXT NOT NULL, key TEXT UNIQUE, withdrawn TEXT
)
"""


class New(NamedTuple):
    """A judgement to be added. key: unique, or None."""

    clip: str
    tag: str
    value: str
    key: str | None = None


class Judgement(NamedTuple):
    """A row that counts or counted."""

    id: int
    clip: str
    tag: str
    value: str
    at: str
    by: str


_COLUMNS = ", ".join(Judgement._fields)

Current = dict[tuple[str, str], str]  # (clip, tag) → value


class Judgements:
    """An open file of judgements; may be used from several threads."""

    def __init__(self, path: str | Path):
        """Opens the file, or makes it. Raises InputError if it is anything else."""
        self.path = Path(path)
        make_directory(self.path.parent)
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(
                self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            (mark,) = self._db.execute("PRAGMA application_id").fetchone()
            if tables and (mark, version) != (_MARK, _FORMAT):
                raise InputError(f"{path}: an SQLite file of something else; name another")
            self._write_ahead()
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA application_id = {_MARK}")
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")
            self._db.execute(_TABLE)
        except sqlite3.Error as error:
            raise InputError(f"{path}: no file for labels can be there ({error})") from None

    def _write_ahead(self) -> None:
        """SQLite waits for no other process that makes the file at the same moment."""
        until = time.monotonic() + _WAIT
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def close(self) -> None:
        self._db.close()

    def add(self, entries: Sequence[New], by: str) -> list[int]:
        """The rows' ids, all on the disk, or none and an InputError. An entry whose key is known
        already is not added again.
        """
        for entry in entries:
            check(entry)
        at = _now()
        with self._lock, self._db:  # which commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            return [self._put(entry, at, by) for entry in entries]

    def _put(self, entry: New, at: str, by: str, withdrawn: str | None = None) -> int:
        """The row's id. Of a row with the same key nothing changes but what is withdrawn."""
        (number,) = self._db.execute(
            "INSERT INTO judgements (clip, tag, value, key, at, by, withdrawn) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
            "SET withdrawn = coalesce(withdrawn, excluded.withdrawn) RETURNING id",
            (*entry, at, by, withdrawn),
        ).fetchone()
        return int(number)

    def withdraw(self, number: int) -> Judgement | None:
        """Take a judgement back: what stood before it counts again. None if it does not count."""
        rows = self._rows(
            "UPDATE judgements SET withdrawn = ? WHERE id = ? AND withdrawn IS NULL "
            f"RETURNING {_COLUMNS}",
            _now(),
            number,
        )
        return rows[0] if rows else None

    def withdraw_sent(self, entry: New, by: str) -> None:
        """Take back a judgement that its sender knows by its key alone: whether it has arrived, or
        arrives later, it does not count. Raises InputError if it could not be kept at all.
        """
        check(entry)
        at = _now()
        with self._lock:
            self._put(entry, at, by, withdrawn=at)

    def latest(self, by: str) -> Judgement | None:
        """The last judgement of somebody that counts."""
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM judgements "
            "WHERE by = ? AND withdrawn IS NULL ORDER BY id DESC LIMIT 1",
            by,
        )
        return rows[0] if rows else None

    def all(self) -> list[Judgement]:
        """Every row that is not withdrawn, oldest first."""
        return self._rows(f"SELECT {_COLUMNS} FROM judgements WHERE withdrawn IS NULL ORDER BY id")

    def _rows(self, statement: str, *values: Any) -> list[Judgement]:
        """What a statement about _COLUMNS gives."""
        with self._lock:
            return [Judgement(*row) for row in self._db.execute(statement, values).fetchall()]

    def current(self) -> Current:
        """What counts of each clip and tag."""
        return {(row.clip, row.tag): row.value for row in self.all()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def check(entry: New) -> None:
    """Raise InputError unless the judgement can be kept, and its tag can stand in a manifest."""
    if entry.value not in VALUES:
        raise InputError(f"value {entry.value!r:.60}: use yes, no or unknown")
    for name, text in (("clip", entry.clip), ("tag", entry.tag), ("key", entry.key or "-")):
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST:
            raise InputError(f"{name} {text!r:.60}: must have 1 to {LONGEST} characters")
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise InputError(f"{name} {text!r:.60}: is no text")
    check_tag(entry.tag)


def check_tag(tag: str) -> None:
    """Raise InputError unless the tag can stand in a manifest."""
    if not tag.isprintable() or tag != tag.strip() or "|" in tag or not 0 < len(tag) <= LONGEST:
        raise InputError(
            f"tag {tag!r:.60}: a name of at most {LONGEST} characters without '|', line breaks or "
            "outer blanks"
        )
