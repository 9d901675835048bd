"""manifest.csv: which clips there are, where their audio is, their split and their tags. And the
audio files below a folder.

Written by `extract.prepare`, read by `extract.run` and `fsprobe.sweep`. UTF-8, RFC 4180, header
`clip_id,path,split,tags`, then any of `start,duration,track,group,not_tags`. Needs only the
standard library, so that `fsprobe` may import it.
"""

import collections
import csv
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from extract.errors import InputError
from extract.files import atomic_write, folders_below, read_csv

COLUMNS = ("clip_id", "path", "split", "tags")
OPTIONAL_COLUMNS = ("start", "duration", "track", "group", "not_tags")
SPLITS = ("train", "valid", "test", "")
# Endings of the files that are looked for in a folder: what soundfile and PyAV commonly decode.
AUDIO_SUFFIXES = frozenset(
    (
        ".aac",
        ".aif",
        ".aiff",
        ".au",
        ".flac",
        ".m4a",
        ".mkv",
        ".mov",
        ".mp3",
        ".mp4",
        ".oga",
        ".ogg",
        ".opus",
        ".wav",
        ".webm",
        ".wma",
    )
)
# What a line of text cannot hold: control characters, line breaks, surrogates of undecodable file
# names.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Manifest:
    """One entry per clip in each field, in file order; an optional column's field is empty (None
    for not_tags) where the manifest does not have the column.

    clip_ids: unique, non-empty. paths: relative to the audio root, or empty where only features
    exist. splits: `train`, `valid`, `test` or empty (kept, never used). tags: tuples of tag names,
    possibly empty.

    starts, durations: seconds, the part of the file that the clip is; None: from the beginning, to
    the end. tracks: what the clip is a part of. groups: what may not cross splits. Both may be
    empty strings: nothing is known. not_tags: tags known to be absent; a tag in neither list is
    unknown for that clip. Without the column every tag that is not listed is absent.
    """

    clip_ids: tuple[str, ...]
    paths: tuple[str, ...]
    splits: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    starts: tuple[float | None, ...] = ()
    durations: tuple[float | None, ...] = ()
    tracks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    not_tags: tuple[tuple[str, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, rows: Sequence[int]) -> "Manifest":
        """The manifest of the given rows, in the given order."""
        columns = [getattr(self, field.name) for field in fields(self)]
        return Manifest(*(column and tuple(column[row] for row in rows) for column in columns))

    def used(self) -> "Manifest":
        """Without the clips of empty split."""
        return self.take([row for row, split in enumerate(self.splits) if split])

    def optional(self) -> dict[str, tuple[Any, ...]]:
        """The optional columns that this manifest has, by name, in the file's order."""
        columns = {name: getattr(self, _FIELDS[name]) for name in OPTIONAL_COLUMNS}
        return {name: column for name, column in columns.items() if column}


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest.csv. Raises InputError naming file, line and value."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    seen: dict[str, int] = {}
    for line, row in read_csv(path, COLUMNS):
        where = f"{path}, line {line}"
        if not seen:
            columns |= {name: [] for name in OPTIONAL_COLUMNS if name in row}
        values = {name: _PARSE[name](row[name], where) for name in columns}
        clip_id = values["clip_id"]
        if clip_id in seen:
            raise InputError(
                f"{where}: clip_id {clip_id!r} stands already on line {seen[clip_id]}; "
                "a clip_id must be unique"
            )
        check_not_tags(values["tags"], values.get("not_tags", ()), where)
        seen[clip_id] = line
        for name, values_so_far in columns.items():
            values_so_far.append(values[name])
    if not seen:
        raise InputError(f"{path}: no clips; a manifest needs at least one row below its header")
    return Manifest(**{_FIELDS[name]: tuple(column) for name, column in columns.items()})


def write_manifest(path: str | Path, manifest: Manifest) -> None:
    """Write a manifest.csv atomically, with those optional columns that the manifest has. Raises
    InputError on what `read_manifest` would refuse or read otherwise.
    """
    if not manifest.clip_ids:
        raise InputError(f"{path}: not written, there are no clips")
    columns = {name: getattr(manifest, _FIELDS[name]) for name in COLUMNS} | manifest.optional()
    seen: set[str] = set()
    rows = []
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        where = f"{path}, clip {row['clip_id']!r}"
        if row["clip_id"] in seen:
            raise InputError(f"{where}: a clip_id must be unique")
        seen.add(row["clip_id"])
        check_not_tags(row["tags"], row.get("not_tags", ()), where)
        rows.append([_write_field(name, value, where) for name, value in row.items()])
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _write_field(name: str, value: Any, where: str) -> str:
    """The field's text. Raises InputError unless it is read back as `value`."""
    text = _field_text(value)
    if _PARSE[name](text, where) != value:
        raise InputError(f"{where}: {name} {text!r} would not be read back as it is; mend it")
    return text


def _field_text(value: str | tuple[str, ...] | float | None) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "|".join(value)
    return "" if value is None else repr(float(value)).removesuffix(".0")


def apply_split_file(manifest: Manifest, path: str | Path) -> tuple[Manifest, int]:
    """Replace every split by that of a `clip_id,split` CSV, which may name a track for all of its
    clips; clips it does not name get an empty split.

    Returns the manifest and how many clips of the file the manifest does not have. Raises
    InputError on an unknown split, a repeated clip, or a file that shares no clip with the
    manifest.
    """
    splits: dict[str, str] = {}
    for line, row in read_csv(path, ("clip_id", "split")):
        clip_id, split = row["clip_id"], check_split(row["split"], f"{path}, line {line}")
        if clip_id in splits:
            raise InputError(f"{path}, line {line}: clip_id {clip_id!r} is named twice")
        splits[clip_id] = split
    unknown = len(splits.keys() - set(manifest.clip_ids) - set(manifest.tracks))
    if unknown == len(splits):
        raise InputError(
            f"{path}: none of its {len(splits)} clips is in the manifest; "
            "is it of another data set?"
        )
    tracks = manifest.tracks or manifest.clip_ids
    named = [
        splits.get(clip, splits.get(track, ""))
        for clip, track in zip(manifest.clip_ids, tracks, strict=True)
    ]
    return replace(manifest, splits=tuple(named)), unknown


def rank_tags(manifest: Manifest) -> list[tuple[str, int]]:
    """(tag, count over all clips), most frequent first; ties by name."""
    counts = collections.Counter(tag for tags in manifest.tags for tag in tags)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def audio_files(audio_root: str | Path) -> list[str]:
    """The paths of all files below the root whose ending is one of AUDIO_SUFFIXES, sorted; none
    that is hidden.
    """
    paths = audio_below(Path(audio_root))
    return sorted(
        path.as_posix() for path in paths if not any(part[0] == "." for part in path.parts)
    )


def audio_below(root: Path) -> list[Path]:
    """Relative to the root, also what is hidden; no link that leads nowhere."""
    files = (folder / name for folder, names in folders_below(root) for name in names)
    return [
        file.relative_to(root)
        for file in files
        if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file()
    ]


def resolve_audio(audio_root: str | Path, path: str) -> Path:
    """The place of a manifest path. Raises InputError if it is absolute or leads out of audio_root
    by `..`.

    A symbolic link inside the root may lead anywhere: that is how caches and git-annex keep files.
    """
    return Path(audio_root).resolve() / check_inside(audio_root, path)


def check_inside(audio_root: object, path: str) -> Path:
    """A manifest path without detours. Raises InputError unless it stays below audio_root."""
    normal = Path(os.path.normpath(path))
    if not path or normal == Path() or normal.parts[0] == ".." or normal.is_absolute():
        raise InputError(
            f"path {path!r} leads out of --audio_root {audio_root}; paths must lie below it"
            if path
            else "empty path: this clip has no audio"
        )
    return normal


def check_clip_id(clip_id: str, where: str) -> str:
    """The clip_id. Raises InputError unless it is non-empty and fits on one line of
    clip_ids.txt.
    """
    if not clip_id:
        raise InputError(f"{where}: empty clip_id")
    return _parse_name("clip_id", clip_id, where)


def check_path(path: str, where: str) -> str:
    """The path. Raises InputError unless it can stand in a manifest."""
    if _UNWRITABLE.search(path):
        raise InputError(
            f"{where}: path {path!r} has control characters or is not UTF-8; rename the file"
        )
    return path


def check_split(split: str, where: str) -> str:
    """The split. Raises InputError unless it is one of SPLITS."""
    if split not in SPLITS:
        raise InputError(f"{where}: split {split!r} is not one of train, valid, test or empty")
    return split


def check_not_tags(tags: Sequence[str], not_tags: Sequence[str], where: str) -> None:
    """Raise InputError if a tag is said to be there and not to be there."""
    both = set(tags).intersection(not_tags) if not_tags else ()
    if both:
        raise InputError(
            f"{where}: tag {min(both)!r} stands in tags and in not_tags; take it out of one"
        )


def parse_tags(text: str, where: str) -> tuple[str, ...]:
    """The tags of a `|`-separated list, in order, without repeats. Raises InputError on an empty
    tag.
    """
    if not text:
        return ()
    tags = tuple(dict.fromkeys(text.split("|")))
    for tag in tags:
        if not tag or tag != tag.strip() or _UNWRITABLE.search(tag):
            raise InputError(
                f"{where}: tag {tag!r} in {text!r} is empty, "
                "or has outer blanks or control characters"
            )
    return tags


def parse_seconds(name: str, text: str, where: str) -> float | None:
    """A `start` (not negative) or a `duration` (above 0) in seconds; None where nothing is said.
    Raises InputError on anything else.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0 or (name == "duration" and not seconds):
        least = "0 or more" if name == "start" else "more than 0"
        raise InputError(f"{where}: {name} {text!r} is not a number of seconds, {least}")
    return seconds


def _parse_name(name: str, text: str, where: str) -> str:
    if text != text.strip() or _UNWRITABLE.search(text):
        raise InputError(
            f"{where}: {name} {text!r} has outer blanks or control characters; remove them"
        )
    return text


# A column's field in Manifest, and how its text is read: (text, where) → value.
_FIELDS = {
    "clip_id": "clip_ids",
    "path": "paths",
    "split": "splits",
    "tags": "tags",
    "start": "starts",
    "duration": "durations",
    "track": "tracks",
    "group": "groups",
    "not_tags": "not_tags",
}
_PARSE: dict[str, Callable[[str, str], Any]] = {
    "clip_id": check_clip_id,
    "path": check_path,
    "split": check_split,
    "tags": parse_tags,
    "start": partial(parse_seconds, "start"),
    "duration": partial(parse_seconds, "duration"),
    "track": partial(_parse_name, "track"),
    "group": partial(_parse_name, "group"),
    "not_tags": parse_tags,
}
