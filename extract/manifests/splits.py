"""Splits that keep together what belongs together: clips of one group, clips of one track."""

import collections
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.errors import InputError
from extract.manifest import Manifest, check_split


@dataclass(frozen=True)
class SplitConfig:
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


def draw_splits(
    clip_ids: Sequence[str],
    groups: Sequence[str],
    config: SplitConfig,
    tracks: Sequence[str] = (),
) -> list[str]:
    """The split of each clip, given its group and its track ("" for none, or no column at all).
    Clips of one group or one track share a split; a clip of neither stands alone. The order of the
    clips does not matter.

    Largest unit first, equals in the seed's order, each goes where it fills the share up least;
    every split asked for gets at least one unit. Of two units none is for validation, which
    --validation=support does without. Raises InputError if there are too few units for that.
    """
    together = units(clip_ids, groups, tracks)
    order = np.random.default_rng(config.seed).permutation(len(together))
    queue = sorted((together[i] for i in order), key=len, reverse=True)  # a stable sort
    shares = {
        "train": 1 - config.valid_fraction - config.test_fraction,
        "valid": config.valid_fraction,
        "test": config.test_fraction,
    }
    filled = {split: 0 for split, share in shares.items() if share > 0}
    if len(queue) == 2 and len(filled) == 3:
        del filled["valid"]
    if len(queue) < len(filled):
        kinds = (("groups", any(groups)), ("tracks", any(tracks)))
        what = " or ".join(kind for kind, there in kinds if there) or "clips"
        what = f"groups of {config.group_by}" if config.group_by else what
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


def units(clip_ids: Sequence[str], groups: Sequence[str], tracks: Sequence[str]) -> list[list[int]]:
    """The rows that must share a split, a list each, sorted by name: the connected components of
    "same group or same track".
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(name: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    columns = (("group", groups), ("track", tracks))
    names = [
        [(kind, column[row]) for kind, column in columns if column and column[row]]
        or [("clip", clip_id)]
        for row, clip_id in enumerate(clip_ids)
    ]
    for own in names:
        first, last = sorted((root(own[0]), root(own[-1])))
        parent[last] = first
    members: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for row, own in enumerate(names):
        members[root(own[0])].append(row)
    return [members[name] for name in sorted(members)]


def check_splits(manifest: Manifest, where: Sequence[str]) -> None:
    """Raise InputError on an unknown split, or a group or track that crosses splits. where: names
    each clip.
    """
    for split, place in zip(manifest.splits, where, strict=True):
        check_split(split, place)
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


def torn(manifest: Manifest) -> dict[str, list[str]]:
    """The groups and the tracks that lie in several splits, by kind; no kind of which there are
    none.
    """
    found: dict[str, list[str]] = {}
    for kind, column in (("group", manifest.groups), ("track", manifest.tracks)):
        pairs = dict.fromkeys(zip(column, manifest.splits, strict=False))
        splits = collections.Counter(name for name, split in pairs if name and split)
        if names := [name for name, count in splits.items() if count > 1]:
            found[kind] = names
    return found
