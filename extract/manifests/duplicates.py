"""The same audio under several ids: found by the hash of the decoded samples that stores keep."""

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from extract.errors import InputError
from extract.manifest import Manifest
from extract.manifests.splits import units
from extract.store import open_store

ACTIONS = ("warn", "drop", "group")


def audio_hashes(store: str | Path) -> dict[str, str]:
    """clip_id → hash of its decoded samples. Raises InputError if the store keeps none."""
    hashes = open_store(store).audio_hashes
    if not hashes:
        raise InputError(
            f"{store}: keeps no hashes of its clips' audio: it is imported, or older than they "
            "are; extract again to find the same audio under two ids"
        )
    return hashes


def same_audio(manifest: Manifest, hashes: Mapping[str, str]) -> list[list[int]]:
    """The rows of every audio that several clips have, in the manifest's order."""
    rows: dict[str, list[int]] = collections.defaultdict(list)
    for row, clip in enumerate(manifest.clip_ids):
        if clip in hashes:
            rows[hashes[clip]].append(row)
    return [same for same in rows.values() if len(same) > 1]


def drop_duplicates(
    manifest: Manifest,
    same: Sequence[Sequence[int]],
    note: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Of each audio one clip: the first that has a split, else the first. note(sentence) is called
    with how many are dropped.
    """
    dropped: set[int] = set()
    for rows in same:
        kept = min(rows, key=lambda row: (not manifest.splits[row], row))
        dropped |= {*rows} - {kept}
    if dropped:
        first = " and ".join(repr(manifest.clip_ids[row]) for row in same[0][:2])
        note(
            f"{len(dropped)} of {len(manifest)} clips are dropped: their audio is that of another "
            f"({first})"
        )
    return manifest.take([row for row in range(len(manifest)) if row not in dropped])


def group_duplicates(manifest: Manifest, same: Sequence[Sequence[int]]) -> Manifest:
    """With clips of the same audio in one group. Groups that share audio become one: the first of
    their names stands for all.
    """
    first_of = {row: manifest.clip_ids[rows[0]] for rows in same for row in rows}
    audio = [first_of.get(row, "") for row in range(len(manifest))]
    groups = list(manifest.groups or audio)
    for rows in units(manifest.clip_ids, manifest.groups, audio):
        first = next((audio[row] for row in rows if audio[row]), None)
        if first is not None:
            named = sorted({groups[row] for row in rows if manifest.groups and groups[row]})
            name = named[0] if named else f"same audio as {first}"
            for row in rows:
                groups[row] = name
    return replace(manifest, groups=tuple(groups)) if same else manifest


def crossing(manifest: Manifest, same: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Those that lie in several splits."""
    return [rows for rows in same if len({manifest.splits[row] for row in rows} - {""}) > 1]


def describe(manifest: Manifest, same: Sequence[Sequence[int]]) -> str:
    """A sentence on the same audio in this manifest, of which there is some."""
    across = crossing(manifest, same)
    rows = (across or same)[0]
    example = " and ".join(
        f"{manifest.clip_ids[row]!r} ({manifest.splits[row] or 'no split'})" for row in rows[:2]
    )
    return (
        f"{sum(map(len, same))} clips have the same audio as another, {len(across)} times across "
        f"splits: {example}"
    )
