"""manifest.csv: which clips there are, where their audio is, their split and their tags.

Written by `extract.prepare`, read by `extract.run` and `fsprobe.sweep`. UTF-8, RFC 4180, header
`clip_id,path,split,tags`. Needs only the standard library, so that `fsprobe` may import it.
"""

import collections
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from extract.errors import InputError
from extract.files import atomic_write, read_csv

COLUMNS = ("clip_id", "path", "split", "tags")
SPLITS = ("train", "valid", "test", "")
# What a line of text cannot hold: control characters, line breaks, surrogates of undecodable file
# names.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Manifest:
    """One entry per clip in each field, in file order.

    clip_ids: unique, non-empty. paths: relative to the audio root, or empty where only features
    exist. splits: `train`, `valid`, `test` or empty (kept, never used). tags: tuples of tag names,
    possibly empty.
    """

    clip_ids: tuple[str, ...]
    paths: tuple[str, ...]
    splits: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, rows: Sequence[int]) -> "Manifest":
        """The manifest of the given rows, in the given order."""
        return Manifest(
            tuple(self.clip_ids[row] for row in rows),
            tuple(self.paths[row] for row in rows),
            tuple(self.splits[row] for row in rows),
            tuple(self.tags[row] for row in rows),
        )

    def used(self) -> "Manifest":
        """Without the clips of empty split."""
        return self.take([row for row, split in enumerate(self.splits) if split])


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest.csv. Raises InputError naming file, line and value."""
    rows: list[tuple[str, str, str, tuple[str, ...]]] = []
    seen: dict[str, int] = {}
    for line, row in read_csv(path, COLUMNS):
        clip_id, audio, split, tags = (row[column] for column in COLUMNS)
        where = f"{path}, line {line}"
        check_clip_id(clip_id, where)
        if clip_id in seen:
            raise InputError(
                f"{where}: clip_id {clip_id!r} stands already on line {seen[clip_id]}; "
                "a clip_id must be unique"
            )
        if split not in SPLITS:
            raise InputError(f"{where}: split {split!r} is not one of train, valid, test or empty")
        check_path(audio, where)
        seen[clip_id] = line
        rows.append((clip_id, audio, split, parse_tags(tags, where)))
    if not rows:
        raise InputError(f"{path}: no clips; a manifest needs at least one row below its header")
    return Manifest(*zip(*rows, strict=True))


def write_manifest(path: str | Path, manifest: Manifest) -> None:
    """Write a manifest.csv atomically. Raises InputError on what `read_manifest` would refuse or
    read otherwise.
    """
    if not manifest.clip_ids:
        raise InputError(f"{path}: not written, there are no clips")
    seen: set[str] = set()
    columns = (manifest.clip_ids, manifest.paths, manifest.splits, manifest.tags)
    for clip_id, audio, split, tags in zip(*columns, strict=True):
        where = f"{path}, clip {clip_id!r}"
        check_clip_id(clip_id, where)
        check_path(audio, where)
        if clip_id in seen:
            raise InputError(f"{where}: a clip_id must be unique")
        if split not in SPLITS:
            raise InputError(f"{where}: split {split!r} is not one of train, valid, test or empty")
        seen.add(clip_id)
        for tag in tags:
            if "|" in tag:
                raise InputError(
                    f"{where}: tag {tag!r} holds a '|', which separates tags; rename the tag"
                )
            if not tag:
                raise InputError(f"{where}: an empty tag")
        if parse_tags("|".join(tags), where) != tags:
            raise InputError(f"{where}: a tag stands twice in {'|'.join(tags)!r}")
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            zip(
                manifest.clip_ids,
                manifest.paths,
                manifest.splits,
                ("|".join(tags) for tags in manifest.tags),
                strict=True,
            )
        )


def apply_split_file(manifest: Manifest, path: str | Path) -> tuple[Manifest, int]:
    """Replace every split by that of a `clip_id,split` CSV; clips it does not name get an empty
    split.

    Returns the manifest and how many clips of the file the manifest does not have. Raises
    InputError on an unknown split, a repeated clip, or a file that shares no clip with the
    manifest.
    """
    splits: dict[str, str] = {}
    for line, row in read_csv(path, ("clip_id", "split")):
        clip_id, split = row["clip_id"], row["split"]
        if split not in SPLITS:
            raise InputError(
                f"{path}, line {line}: split {split!r} is not one of train, valid, test or empty"
            )
        if clip_id in splits:
            raise InputError(f"{path}, line {line}: clip_id {clip_id!r} is named twice")
        splits[clip_id] = split
    unknown = len(splits.keys() - set(manifest.clip_ids))
    if unknown == len(splits):
        raise InputError(
            f"{path}: none of its {len(splits)} clips is in the manifest; "
            "is it of another data set?"
        )
    return replace(
        manifest, splits=tuple(splits.get(clip, "") for clip in manifest.clip_ids)
    ), unknown


def rank_tags(manifest: Manifest) -> list[tuple[str, int]]:
    """(tag, count over all clips), most frequent first; ties by name."""
    counts = collections.Counter(tag for tags in manifest.tags for tag in tags)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def resolve_audio(audio_root: str | Path, path: str) -> Path:
    """The file of a manifest path. Raises InputError if it leads out of audio_root (symbolic links
    followed).
    """
    root = Path(audio_root).resolve()
    full = (root / path).resolve()
    if not path or not full.is_relative_to(root) or full == root:
        raise InputError(
            f"path {path!r} leads out of --audio_root {audio_root}; paths must lie below it"
            if path
            else "empty path: this clip has no audio"
        )
    return full


def check_clip_id(clip_id: str, where: str) -> None:
    """Raise InputError unless clip_id is non-empty and fits on one line of clip_ids.txt."""
    if not clip_id:
        raise InputError(f"{where}: empty clip_id")
    if clip_id != clip_id.strip() or _UNWRITABLE.search(clip_id):
        raise InputError(
            f"{where}: clip_id {clip_id!r} has outer blanks or control characters; remove them"
        )


def check_path(path: str, where: str) -> None:
    """Raise InputError unless the path can stand in a manifest."""
    if _UNWRITABLE.search(path):
        raise InputError(
            f"{where}: path {path!r} has control characters or is not UTF-8; rename the file"
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
