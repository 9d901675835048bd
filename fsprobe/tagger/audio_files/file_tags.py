"""Tags written into audio files, with mutagen: merged with what is there, undone at will, and never
a byte of audio touched.

A file is changed in a copy beside it. Only if the copy's audio is the same, byte for byte, does it
take the file's place; what stood in the field before is on the disk by then, in the undo file.

    field      ID3 (mp3, wav, aiff)   Vorbis comments (flac, ogg, opus)   MP4 (m4a)
    genre      TCON                   GENRE                               ©gen
    grouping   TIT1                   GROUPING                            ©grp
    txxx       TXXX:TAGS              TAGS                                ----:…iTunes:TAGS
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from extract.errors import InputError
from extract.files import read_text
from fsprobe.tagger.audio_files.audio_bytes import audio_sha256
from fsprobe.tagger.outputs import one_line

FIELDS = ("genre", "grouping", "txxx")
_ID3 = {"genre": "TCON", "grouping": "TIT1", "txxx": "TXXX:TAGS"}
_VORBIS = {"genre": "genre", "grouping": "grouping", "txxx": "tags"}
_MP4 = {"genre": "\xa9gen", "grouping": "\xa9grp", "txxx": "----:com.apple.iTunes:TAGS"}
_BEGINNING = '{"path": "'  # of a line of an undo file


class Change(NamedTuple):
    """What a field of a file holds and is to hold."""

    path: Path
    field: str
    before: list[str]
    after: list[str]


def plan(files: Sequence[tuple[Path, Sequence[str]]], field: str) -> tuple[list[Change], list[str]]:
    """(changes, a line on each file that cannot be changed). files: (path, tags to add).

    Tags that a file has already, in whatever case, are not added again.
    """
    changes, refused = [], []
    for path, tags in tqdm(files, desc="reading tags", dynamic_ncols=True, delay=2):
        try:
            before = read_field(path, field)
        except InputError as error:
            refused.append(str(error))
            continue
        known = {tag.casefold() for tag in before}
        wanted = dict.fromkeys(one_line(tag) for tag in tags)
        after = before + [tag for tag in wanted if tag and tag.casefold() not in known]
        if after != before:
            changes.append(Change(path, field, before, after))
    return changes, refused


def describe(changes: Sequence[Change], most: int = 20) -> str:
    """What would be done, the first `most` files by name."""
    lines = [
        f"{one_line(str(change.path))}: {change.field} {_shown(change.before)} → "
        f"{_shown(change.after)}"
        for change in changes[:most]
    ]
    if len(changes) > most:
        lines.append(f"… and {len(changes) - most} more files")
    return "\n".join(lines)


def apply(changes: Sequence[Change], undo: Path) -> None:
    """Write them. Each is added to `undo` (JSON lines) before its file changes.

    Raises InputError if a file's audio would change: that file stays as it is.
    """
    with undo.open("a", encoding="utf-8") as log:
        for change in tqdm(changes, desc="writing tags", dynamic_ncols=True, delay=2):
            entry = change._asdict() | {"path": str(change.path.absolute())}
            log.write(json.dumps(entry, ensure_ascii=True) + "\n")
            log.flush()
            os.fsync(log.fileno())
            write_field(change.path, change.field, change.after)


def revert(undo: Path) -> tuple[int, list[str]]:
    """(fields put back as they were, a line on each that somebody has changed since). Last written,
    first undone.
    """
    done, refused = 0, []
    for change in tqdm(list(reversed(list(read_undo(undo)))), desc="undoing", delay=2):
        try:
            now = read_field(change.path, change.field)
        except InputError as error:
            refused.append(str(error))
            continue
        if now == change.before:
            continue
        if now != change.after:
            refused.append(
                f"{change.path}: {change.field} is {_shown(now)}, no longer "
                f"{_shown(change.after)}; left as it is"
            )
            continue
        write_field(change.path, change.field, change.before)
        done += 1
    return done, refused


def read_undo(path: Path) -> Iterator[Change]:
    """The changes of an undo file. Raises InputError on anything else."""
    lines = read_text(path).split("\n")
    for number, line in enumerate(lines, 1):
        if not line and number == len(lines):
            continue
        try:
            entry = json.loads(line)
            change = Change(Path(entry["path"]), entry["field"], entry["before"], entry["after"])
            texts = [*change.before, *change.after]
            if change.field not in FIELDS or not all(isinstance(text, str) for text in texts):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            if number == len(lines) and line.startswith(_BEGINNING[: len(line)]):
                continue  # the run was killed while it wrote this line, not the file
            raise InputError(
                f"{path}, line {number}: no entry of an undo file; name one that fsprobe.tag wrote"
            ) from None
        yield change


def read_field(path: Path, field: str) -> list[str]:
    """The values of a field. Raises InputError if the file is not one whose tags can be written."""
    opened = _open(path)
    tags = opened.tags
    if tags is None:
        return []
    key = _key(opened, path, field)
    if key == _ID3[field]:
        frame = tags.get(key)
        values = [] if frame is None else (frame.genres if field == "genre" else frame.text)
        return [str(value) for value in values]
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in tags.get(key, [])
    ]


def write_field(path: Path, field: str, values: Sequence[str]) -> None:
    """Set a field, or take it away if there are no values. Raises InputError, and leaves the file
    as it is, if its audio would change.
    """
    scratch = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        shutil.copy2(path, scratch)
        opened = _open(scratch)
        if opened.tags is None:
            opened.add_tags()
        _set(opened, _key(opened, path, field), field, list(values))
        with _complaining(path):
            opened.save()
        if audio_sha256(scratch) != audio_sha256(path):
            raise InputError(f"{path}: its audio would change; tags not written")
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _set(opened: Any, key: str, field: str, values: list[str]) -> None:
    tags = opened.tags
    if key != _ID3[field]:
        if values:
            as_bytes = key.startswith("----")
            tags[key] = [value.encode() for value in values] if as_bytes else values
        elif key in tags:
            del tags[key]
        return
    from mutagen import id3

    tags.delall(key)
    if values:
        if field == "txxx":
            frame = id3.TXXX(encoding=id3.Encoding.UTF8, desc="TAGS", text=values)
        else:
            frame = getattr(id3, key)(encoding=id3.Encoding.UTF8, text=values)
        tags.add(frame)


def _key(opened: Any, path: Path, field: str) -> str:
    """The field's name in the kind of tags that the file has."""
    kinds = {base.__name__ for part in (opened, opened.tags) for base in type(part).__mro__}
    for names, of in (
        (_ID3, {"ID3", "ID3Tags", "MP3", "WAVE", "AIFF"}),
        (_VORBIS, {"VComment", "VCommentDict", "FLAC"}),
        (_MP4, {"MP4"}),
    ):
        if kinds & of:
            return names[field]
    raise InputError(f"{path}: tags of this kind of file ({type(opened).__name__}) are not written")


def _open(path: Path) -> Any:
    try:
        import mutagen
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; writing tags needs: pip install mutagen") from None
    if path.is_symlink():  # a copy would take the link's place, for good
        raise InputError(f"{path}: is a link; write the tags of the file that it leads to")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with _complaining(path):
        opened = mutagen.File(path)
    if opened is None:
        raise InputError(f"{path}: not an audio file whose tags can be read")
    return opened


@contextlib.contextmanager
def _complaining(path: Path) -> Iterator[None]:
    """mutagen's errors as one line."""
    import mutagen

    try:
        yield
    except mutagen.MutagenError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError):
            raise cause from None
        raise InputError(f"{path}: its tags cannot be read or written ({error})") from None


def _shown(values: Sequence[str]) -> str:
    return "[" + ", ".join(map(one_line, values)) + "]"
