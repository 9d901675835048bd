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
- `track`, optional: what the clip is a part of, the file where none is named and there is a column
  `start`. Clips of one track share a split;
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
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from extract.errors import InputError
from extract.files import read_csv
from extract.manifest import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    Manifest,
    audio_files,
    check_clip_id,
    check_not_tags,
    parse_seconds,
    resolve_audio,
)
from extract.manifests.file_tags import check_field, file_tags
from extract.manifests.locating import locate
from extract.manifests.splits import SplitConfig, check_splits, draw_splits
from extract.manifests.tags import TagStyle, clean, doubts, one_spelling, read_tags

CLIP_COLUMNS = ("clip", "path", "clip_id")


@dataclass(frozen=True)
class FolderConfig(SplitConfig):
    """How splits are drawn, and how tags are written. tags_from: also read them out of the files,
    from this field (`file_tags`).
    """

    style: TagStyle = field(default_factory=TagStyle)
    tags_from: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tags_from:
            check_field(self.tags_from)


def folder_manifest(
    tags_csv: str | Path | None,
    audio_root: str | Path,
    config: FolderConfig,
    note: Callable[[str], None] = lambda text: None,
    arrange: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> Manifest:
    """The manifest of the CSV, in its order. Raises InputError on anything missing, repeated or
    outside the root.

    With `tags_from` every other audio file below the root follows, and without a CSV (None) there
    are only these. Those that have no tag get an empty split: nothing is known of them. With
    neither, nothing is known of any: all get a split, and an empty `not_tags` says so.
    note(sentence) is called for each thing that was probably not meant as written. arrange: changes
    clips or groups before splits are drawn or checked.
    """
    if not Path(audio_root).is_dir():
        raise InputError(f"--audio_root={audio_root}: no such folder")
    rows = _read_table(tags_csv, config)
    if config.group_by and config.group_by not in rows.table:
        raise InputError(f"--group_by={config.group_by}: a column of --tags, which is not given")
    source = str(tags_csv or audio_root)
    manifest, where = _manifest_of(rows, audio_root, config, lambda text: note(f"{source}: {text}"))
    _unique(manifest.clip_ids, "clip_id", where)
    _unique_parts(manifest, audio_root, where)
    given = "split" in rows.table
    if given:
        check_splits(manifest, where)
    manifest = arrange(manifest)
    if given:
        check_splits(manifest, [f"clip {clip!r}" for clip in manifest.clip_ids])
        return manifest
    used = manifest.used()
    try:
        drawn = iter(draw_splits(used.clip_ids, used.groups, config, used.tracks))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return replace(
        manifest, splits=tuple(next(drawn) if split else "" for split in manifest.splits)
    )


class _Rows(NamedTuple):
    """The columns of a CSV that matter, by name; where each row stands; the column of files."""

    table: dict[str, list[str]]
    where: list[str]
    column: str


def _read_table(tags_csv: str | Path | None, config: FolderConfig) -> _Rows:
    if tags_csv is None:
        return _Rows({"clip": [], "tags": []}, [], "clip")
    rows = list(read_csv(tags_csv, ("tags", config.group_by) if config.group_by else ("tags",)))
    if not rows:
        raise InputError(f"{tags_csv}: no clips below the header")
    column = next((name for name in CLIP_COLUMNS if name in rows[0][1]), None)
    if column is None:
        raise InputError(
            f"{tags_csv}: column 'clip' is missing; it names the audio file of each row"
        )
    table = {
        name: [row[name] for _, row in rows]
        for name in (*CLIP_COLUMNS, *COLUMNS, *OPTIONAL_COLUMNS, config.group_by)
        if name in rows[0][1]
    }
    return _Rows(table, [f"{tags_csv}, line {line}" for line, _ in rows], column)


def _manifest_of(
    rows: _Rows, audio_root: str | Path, config: FolderConfig, tell: Callable[[str], None]
) -> tuple[Manifest, list[str]]:
    """The clips, and where each stands. Without a split column the split of every clip that is to
    get one is `train`, for now.
    """
    paths = locate(rows.table[rows.column], audio_root, rows.where, tell)
    given, bare = len(paths), not rows.table["tags"] and not config.tags_from
    if config.tags_from or bare:
        rows, paths = _with_other_files(rows, paths, audio_root)
    table, where, column = rows
    if not paths:
        raise InputError(f"--audio_root={audio_root}: there is no audio at all below it")
    ids = table.get("clip_id", table[column])
    for clip_id, place in zip(ids, where, strict=True):
        check_clip_id(clip_id, place)
    files = [os.path.normpath(path) for path in paths]
    tracks = list(map(clean, table.get("track", [""] * len(ids) if "start" in table else ())))
    if "start" in table:
        tracks = [track or file for track, file in zip(tracks, files, strict=True)]
    parse = partial(read_tags, style=config.style)
    not_tags = _parse(parse, table["not_tags"], where) if "not_tags" in table else None
    not_tags = ((),) * len(ids) if bare else not_tags
    tags = _parse(parse, table["tags"], where)
    if config.tags_from:
        tags = _with_file_tags(tags, not_tags, files, audio_root, config, tell)
    _check_tags(tags, not_tags, where, config, tell)
    splits = ["train" if bare or row < given or tags[row] else "" for row in range(len(ids))]
    if unknown := splits.count(""):
        tell(f"{unknown} of {len(ids)} files have no tag and no row of a CSV: their split is empty")
    return Manifest(
        clip_ids=tuple(ids),
        paths=tuple(paths),
        splits=tuple(table.get("split", splits)),
        tags=tags,
        starts=_parse(partial(parse_seconds, "start"), table.get("start", ()), where),
        durations=_parse(partial(parse_seconds, "duration"), table.get("duration", ()), where),
        tracks=tuple(tracks),
        groups=one_spelling(table[config.group_by], tell) if config.group_by else (),
        not_tags=not_tags,
    ), where


def _with_other_files(
    rows: _Rows, paths: Sequence[str], audio_root: str | Path
) -> tuple[_Rows, list[str]]:
    """The rows, then one of empty cells for each audio file that they do not name; and the paths of
    all.
    """
    others = sorted({*audio_files(audio_root)}.difference(map(os.path.normpath, paths)))
    table = {
        name: [*cells, *(others if name in CLIP_COLUMNS else [""] * len(others))]
        for name, cells in rows.table.items()
    }
    where = [*rows.where, *(f"{audio_root}/{path}" for path in others)]
    return _Rows(table, where, rows.column), [*paths, *others]


def _check_tags(
    tags: Sequence[tuple[str, ...]],
    not_tags: Sequence[tuple[str, ...]] | None,
    where: Sequence[str],
    config: FolderConfig,
    tell: Callable[[str], None],
) -> None:
    """Raise InputError on a tag that a clip has and is also said not to have; pass to `tell` what
    was probably not meant as written.
    """
    for present, absent, place in zip(tags, not_tags or (), where, strict=False):
        check_not_tags(present, absent, place)
    columns = itertools.chain(tags, not_tags or ())
    for sentence in doubts(collections.Counter(itertools.chain(*columns)), config.style):
        tell(sentence)


def _with_file_tags(
    tags: Sequence[tuple[str, ...]],
    not_tags: Sequence[tuple[str, ...]] | None,
    files: Sequence[str],
    audio_root: str | Path,
    config: FolderConfig,
    tell: Callable[[str], None],
) -> tuple[tuple[str, ...], ...]:
    """The tags of the CSV, then those of the files that it neither has nor says to be absent."""
    merged: list[tuple[str, ...]] = []
    faults: list[str] = []
    for row, path in enumerate(tqdm(files, desc="tags", unit=" files", disable=None)):
        absent = not_tags[row] if not_tags else ()
        try:
            texts = file_tags(resolve_audio(audio_root, path), config.tags_from)
        except InputError as error:
            faults.append(str(error))
            texts = []
        found = [tag for text in texts for tag in read_tags(text, config.style, path)]
        merged.append(
            tuple(dict.fromkeys([*tags[row], *(tag for tag in found if tag not in absent)]))
        )
    if faults:
        tell(f"the tags of {len(faults)} of {len(files)} files cannot be read: {faults[0]}")
    return tuple(merged)


Value = TypeVar("Value")


def _parse(
    parse: Callable[..., Value], texts: Sequence[str], where: Sequence[str]
) -> tuple[Value, ...]:
    """The parsed column; empty if it is absent."""
    return tuple(parse(text, where=place) for text, place in zip(texts, where, strict=False))


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
            f"{file} from {start or 0:.12g} s{f' for {duration:.12g} s' if duration else ''}"
            for file, (start, duration) in zip(files, parts, strict=True)
        ]
        if manifest.starts
        else files,
        "file",
        where,
    )
