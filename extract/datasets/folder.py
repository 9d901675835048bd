"""Any folder of audio with a CSV of its tags → a manifest.

The CSV (a header; separated by comma, semicolon or tab; UTF-8, or UTF-16 with a byte order mark)
has the columns
- `clip` (or `path`): a file below the audio root; its ending may be left out where only one file
  fits;
- `tags`: separated by `|` or what `TagStyle` says, possibly empty;
- `clip_id`, optional: the clip's name in manifest and store; the `clip` column as written if
  absent. A CSV with neither `clip` nor `path` has its files named by `clip_id`;
- `split`, optional: train, valid, test or empty. Without this column splits are drawn;
- `start`, `duration`, optional, in seconds: the clip is that part of the file. Several clips may
  then be parts of one file, each with its own `clip_id`;
- `track`, optional: what the clip is a part of, the file where the column is absent and `start` is
  given. Clips of one track share a split;
- `not_tags`, optional: tags known to be absent. Where the column exists, a tag in neither list is
  unknown for that clip;
- any other, such as `artist`, which `group_by` may name: clips of one group then share a split,
  and spellings that differ only in case, blanks, Unicode form or invisible characters are one.
"""

import collections
import itertools
import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from extract.audio.finding import Found, find_audio
from extract.datasets.splits import SplitConfig, check_splits, draw_splits
from extract.datasets.tags import TagStyle, clean, doubts, one_spelling, read_tags
from extract.errors import InputError
from extract.files import read_csv
from extract.manifest import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    Manifest,
    check_clip_id,
    check_not_tags,
    check_path,
    parse_seconds,
    resolve_audio,
)

# What soundfile and PyAV commonly decode; only consulted for names given without their ending.
SUFFIXES = frozenset(
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
CLIP_COLUMNS = ("clip", "path", "clip_id")


@dataclass(frozen=True)
class FolderConfig(SplitConfig):
    """How splits are drawn, and how the CSV's tags are written."""

    style: TagStyle = field(default_factory=TagStyle)


def folder_manifest(
    tags_csv: str | Path,
    audio_root: str | Path,
    config: FolderConfig,
    note: Callable[[str], None] = lambda text: None,
    arrange: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> Manifest:
    """The manifest of the CSV, in its order. Raises InputError on anything missing, repeated or
    outside the root.

    note: is told, a sentence each, what is hardly meant as it is written. arrange: changes clips or
    groups before splits are drawn or checked.
    """
    if not Path(audio_root).is_dir():
        raise InputError(f"--audio_root={audio_root}: no such folder")
    manifest, where, given = _read_rows(Path(tags_csv), audio_root, config, note)
    _unique(manifest.clip_ids, "clip_id", where)
    _unique_parts(manifest, audio_root, where)
    place = dict(zip(manifest.clip_ids, where, strict=True))
    manifest = arrange(manifest)
    if given:
        check_splits(manifest, [place[clip] for clip in manifest.clip_ids])
        return manifest
    try:
        splits = draw_splits(manifest.clip_ids, manifest.groups, config, manifest.tracks)
    except InputError as error:
        raise InputError(f"{tags_csv}: {error}") from None
    return replace(manifest, splits=tuple(splits))


def _read_rows(
    tags_csv: Path, audio_root: str | Path, config: FolderConfig, note: Callable[[str], None]
) -> tuple[Manifest, list[str], bool]:
    """The clips as the CSV has them, where each stands in it, and whether it gives splits."""
    rows = list(read_csv(tags_csv, ("tags", config.group_by) if config.group_by else ("tags",)))
    if not rows:
        raise InputError(f"{tags_csv}: no clips below the header")
    column = next((name for name in CLIP_COLUMNS if name in rows[0][1]), None)
    if column is None:
        raise InputError(
            f"{tags_csv}: column 'clip' is missing; it names the audio file of each row"
        )
    where = [f"{tags_csv}, line {line}" for line, _ in rows]
    table = {
        name: [row[name] for _, row in rows]
        for name in (*CLIP_COLUMNS, *COLUMNS, *OPTIONAL_COLUMNS, config.group_by)
        if name in rows[0][1]
    }
    ids = table.get("clip_id", table[column])
    for clip_id, place in zip(ids, where, strict=True):
        check_clip_id(clip_id, place)
    tell = partial(_tell, note, tags_csv)
    paths = _locate(table[column], audio_root, where, tell)
    files = [os.path.normpath(path) for path in paths]
    tracks = map(clean, table["track"]) if "track" in table else files if "start" in table else ()
    manifest = Manifest(
        clip_ids=tuple(ids),
        paths=tuple(paths),
        splits=tuple(table.get("split", [""] * len(ids))),
        tags=_parse(partial(read_tags, style=config.style), table["tags"], where),
        starts=_parse(partial(parse_seconds, "start"), table.get("start", ()), where),
        durations=_parse(partial(parse_seconds, "duration"), table.get("duration", ()), where),
        tracks=tuple(tracks),
        groups=one_spelling(table[config.group_by], tell) if config.group_by else (),
        not_tags=_parse(partial(read_tags, style=config.style), table["not_tags"], where)
        if "not_tags" in table
        else None,
    )
    for tags, absent, place in zip(manifest.tags, manifest.not_tags or (), where, strict=False):
        check_not_tags(tags, absent, place)
    columns = itertools.chain(manifest.tags, manifest.not_tags or ())
    for sentence in doubts(collections.Counter(itertools.chain(*columns)), config.style):
        tell(sentence)
    return manifest, where, "split" in table


def _tell(note: Callable[[str], None], tags_csv: Path, sentence: str) -> None:
    note(f"{tags_csv}: {sentence}")


Value = TypeVar("Value")


def _parse(
    parse: Callable[..., Value], texts: Sequence[str], where: Sequence[str]
) -> tuple[Value, ...]:
    """The parsed column; empty if it is absent."""
    return tuple(parse(text, where=place) for text, place in zip(texts, where, strict=False))


def _locate(
    names: Sequence[str],
    audio_root: str | Path,
    where: Sequence[str],
    tell: Callable[[str], None],
) -> list[str]:
    """Each file's path below the root. Raises InputError with the first that is missing and their
    number.

    tell: is told how many names are spelt otherwise on this disk, and the first.
    """
    root = Path(audio_root).resolve()
    stems: dict[str, list[str]] | None = None
    paths: list[str] = []
    missing: list[tuple[int, str]] = []
    respelt: list[str] = []
    for row, name in enumerate(names):
        check_path(name, where[row])
        try:
            full = resolve_audio(root, name)
        except InputError as error:
            raise InputError(f"{where[row]}: {error}") from None
        path = Path(name).as_posix()
        alike, hint = _alike(root, name) if not full.is_file() else (None, "")
        if alike is not None:
            path = alike.name
            respelt.append(alike.note)
        elif not full.is_file():
            stems = _audio_by_stem(root) if stems is None else stems
            found = stems.get(os.path.normpath(path), [])
            if len(found) > 1:
                raise InputError(
                    f"{where[row]}: {name!r} fits {' and '.join(found)}; write which is meant"
                )
            path = found[0] if found else path
            missing += [] if found else [(row, hint)]
        paths.append(path)
    if missing:
        row, hint = missing[0]
        hint = hint if stems else "; there is no audio at all below it"
        raise InputError(
            f"{where[row]}: no file {names[row]!r} below {audio_root}{hint} "
            f"({len(missing)} of {len(names)} clips have none)"
        )
    if respelt:
        tell(f"{len(respelt)} names are spelt otherwise on this disk; for one, {respelt[0]}")
    return paths


def _alike(root: Path, name: str) -> tuple[Found | None, str]:
    """The only file whose name is spelt a little otherwise, or what to say of the nearest."""
    try:
        found = find_audio(root, name)
    except InputError as error:
        return None, "".join(str(error).partition("; ")[1:])
    return (found, "") if found.path.is_file() else (None, "")


def _audio_by_stem(root: Path) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = collections.defaultdict(list)
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            relative = file.relative_to(root)
            stems[relative.with_suffix("").as_posix()].append(relative.as_posix())
    return stems


def _unique(values: Sequence[str], kind: str, where: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        if first.setdefault(value, row) != row:
            raise InputError(
                f"{where[row]}: {kind} {value!r} was named before ({where[first[value]]})"
            )


def _unique_parts(manifest: Manifest, audio_root: str | Path, where: Sequence[str]) -> None:
    """Raise InputError where two clips are the same part of the same file, however it is spelt."""
    files = [str(resolve_audio(audio_root, path)) for path in manifest.paths]
    parts = zip(manifest.starts, manifest.durations or [None] * len(files), strict=True)
    _unique(
        [
            f"{file} from {start or 0:g} s{f' for {duration:g} s' if duration else ''}"
            for file, (start, duration) in zip(files, parts, strict=True)
        ]
        if manifest.starts
        else files,
        "file",
        where,
    )
