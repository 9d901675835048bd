"""Any folder of audio with a CSV of its tags → a manifest.

The CSV (UTF-8, comma-separated, with a header) has the columns
- `clip` (or `path`): a file below the audio root; its ending may be left out where only one file
  fits;
- `tags`: separated by `|`, possibly empty;
- `clip_id`, optional: the clip's name in manifest and store; the `clip` column as written if
  absent. A CSV with neither `clip` nor `path` has its files named by `clip_id`;
- `split`, optional: train, valid, test or empty. Without this column splits are drawn;
- `start`, `duration`, optional, in seconds: the clip is that part of the file. Several clips may
  then be parts of one file, each with its own `clip_id`;
- `track`, optional: what the clip is a part of, the file where the column is absent and `start` is
  given. Clips of one track share a split;
- `not_tags`, optional: tags known to be absent. Where the column exists, a tag in neither list is
  unknown for that clip;
- any other, such as `artist`, which `group_by` may name: clips of one group then share a split.
"""

import collections
import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from extract.errors import InputError
from extract.files import read_csv
from extract.manifest import (
    SPLITS,
    Manifest,
    check_clip_id,
    check_not_tags,
    check_path,
    parse_seconds,
    parse_tags,
    resolve_audio,
)

# What soundfile and audioread commonly decode; only consulted for names given without their ending.
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
class FolderConfig:
    """How splits are drawn: shares of the clips, and the column (if any) whose groups stay
    together.
    """

    seed: int = 0
    valid_fraction: float = 0.15
    test_fraction: float = 0.15
    group_by: str = ""

    def __post_init__(self) -> None:
        if (
            min(self.valid_fraction, self.test_fraction) < 0
            or not self.valid_fraction + self.test_fraction < 1
        ):
            raise InputError(
                f"--valid_fraction={self.valid_fraction} and --test_fraction={self.test_fraction} "
                "must not be negative, and must leave something to train"
            )
        if self.seed < 0:
            raise InputError(f"--seed={self.seed}: a seed is not negative")


def folder_manifest(tags_csv: str | Path, audio_root: str | Path, config: FolderConfig) -> Manifest:
    """The manifest of the CSV, in its order. Raises InputError on anything missing, repeated or
    outside the root.
    """
    if not Path(audio_root).is_dir():
        raise InputError(f"--audio_root={audio_root}: no such folder")
    rows = list(read_csv(tags_csv, ("tags", config.group_by) if config.group_by else ("tags",)))
    if not rows:
        raise InputError(f"{tags_csv}: no clips below the header")
    column = next((name for name in CLIP_COLUMNS if name in rows[0][1]), None)
    if column is None:
        raise InputError(
            f"{tags_csv}: column 'clip' is missing; it names the audio file of each row"
        )
    where = [f"{tags_csv}, line {line}" for line, _ in rows]
    ids = [row.get("clip_id", row[column]) for _, row in rows]
    for clip_id, place in zip(ids, where, strict=True):
        check_clip_id(clip_id, place)
    paths = _locate([row[column] for _, row in rows], audio_root, where)
    _unique(ids, "clip_id", where)
    table = {name: [row[name] for _, row in rows] for name in rows[0][1]}
    manifest = Manifest(
        clip_ids=tuple(ids),
        paths=tuple(paths),
        splits=tuple(table.get("split", [""] * len(ids))),
        tags=_parse(parse_tags, table["tags"], where),
        starts=_parse(partial(parse_seconds, "start"), table.get("start", ()), where),
        durations=_parse(partial(parse_seconds, "duration"), table.get("duration", ()), where),
        tracks=tuple(table.get("track", map(os.path.normpath, paths) if "start" in table else ())),
        groups=tuple(table[config.group_by] if config.group_by else ()),
        not_tags=_parse(parse_tags, table["not_tags"], where) if "not_tags" in table else None,
    )
    for tags, absent, place in zip(manifest.tags, manifest.not_tags or (), where, strict=False):
        check_not_tags(tags, absent, place)
    _unique_parts(manifest, audio_root, where)
    if "split" in table:
        _check_splits(manifest, where)
        return manifest
    try:
        return replace(
            manifest, splits=tuple(draw_splits(ids, manifest.groups, config, manifest.tracks))
        )
    except InputError as error:
        raise InputError(f"{tags_csv}: {error}") from None


Value = TypeVar("Value")


def _parse(
    parse: Callable[[str, str], Value], texts: Sequence[str], where: Sequence[str]
) -> tuple[Value, ...]:
    """The parsed column; empty if it is absent."""
    return tuple(parse(text, place) for text, place in zip(texts, where, strict=False))


def draw_splits(
    clip_ids: Sequence[str],
    groups: Sequence[str],
    config: FolderConfig,
    tracks: Sequence[str] = (),
) -> list[str]:
    """The split of each clip, given its group and its track ("" for none, or no column at all).
    Clips of one group or one track share a split; a clip of neither stands alone. The order of the
    clips does not matter.

    Largest unit first, equals in the seed's order, each goes where it fills the share up least;
    every split asked for gets at least one unit. Raises InputError if there are too few units for
    that.
    """
    units = _units(clip_ids, groups, tracks)
    order = np.random.default_rng(config.seed).permutation(len(units))
    queue = sorted((units[i] for i in order), key=len, reverse=True)  # a stable sort
    shares = {
        "train": 1 - config.valid_fraction - config.test_fraction,
        "valid": config.valid_fraction,
        "test": config.test_fraction,
    }
    filled = {split: 0 for split, share in shares.items() if share > 0}
    if len(queue) < len(filled):
        what = f"groups of {config.group_by}" if config.group_by else "clips"
        raise InputError(
            f"{len(queue)} {what} cannot fill {', '.join(filled)}; "
            "give a split column, or set a fraction to 0"
        )
    splits = [""] * len(clip_ids)
    for place, rows in enumerate(queue):
        empty = [split for split, count in filled.items() if not count]
        choice = min(
            empty if len(queue) - place <= len(empty) else filled,
            key=lambda split: (filled[split] + len(rows)) / shares[split],
        )
        filled[choice] += len(rows)
        for row in rows:
            splits[row] = choice
    return splits


def _units(
    clip_ids: Sequence[str], groups: Sequence[str], tracks: Sequence[str]
) -> list[list[int]]:
    """The rows that must share a split, a list each, sorted by name: the connected components of
    "same group or same track".
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(name: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: list[tuple[str, str]] = []
    for row, clip_id in enumerate(clip_ids):
        columns = (("group", groups), ("track", tracks))
        names = [(kind, column[row]) for kind, column in columns if column and column[row]]
        first.append(names[0] if names else ("clip", clip_id))
        ends = sorted({root(name) for name in names})
        if len(ends) == 2:
            parent[ends[1]] = ends[0]
    members: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for row, name in enumerate(first):
        members[root(name)].append(row)
    return [members[name] for name in sorted(members)]


def _locate(names: Sequence[str], audio_root: str | Path, where: Sequence[str]) -> list[str]:
    """Each file's path below the root. Raises InputError with the first that is missing and their
    number.
    """
    root = Path(audio_root).resolve()
    stems: dict[str, list[str]] | None = None
    paths: list[str] = []
    missing: list[int] = []
    for row, name in enumerate(names):
        check_path(name, where[row])
        try:
            full = resolve_audio(root, name)
        except InputError as error:
            raise InputError(f"{where[row]}: {error}") from None
        path = Path(name).as_posix()
        if not full.is_file():
            stems = _audio_by_stem(root) if stems is None else stems
            found = stems.get(os.path.normpath(path), [])
            if len(found) > 1:
                raise InputError(
                    f"{where[row]}: {name!r} fits {' and '.join(found)}; write which is meant"
                )
            path = found[0] if found else path
            missing += [] if found else [row]
        paths.append(path)
    if missing:
        hint = "" if stems else "; there is no audio at all below it"
        raise InputError(
            f"{where[missing[0]]}: no file {names[missing[0]]!r} below {audio_root}{hint} "
            f"({len(missing)} of {len(names)} clips have none)"
        )
    return paths


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


def _check_splits(manifest: Manifest, where: Sequence[str]) -> None:
    for split, place in zip(manifest.splits, where, strict=True):
        if split not in SPLITS:
            raise InputError(f"{place}: split {split!r} is not one of train, valid, test or empty")
    for kind, column in (("group", manifest.groups), ("track", manifest.tracks)):
        first: dict[str, int] = {}
        for row, name in enumerate(column):
            split = manifest.splits[row]
            if name and split and manifest.splits[first.setdefault(name, row)] != split:
                before = first[name]
                raise InputError(
                    f"{where[row]}: {kind} {name!r} is in {split} here, in "
                    f"{manifest.splits[before]} before ({where[before]}); drop the split column "
                    f"to have splits drawn by {kind}"
                )
