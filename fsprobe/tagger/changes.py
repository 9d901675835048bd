"""A tagger that changes: tags added, refitted, removed or renamed, every other row byte for byte
the same; and what the difference between two taggers is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from extract.errors import InputError
from extract.manifest import parse_tags
from extract.store import Store
from fsprobe.tagger.file import TENSORS
from fsprobe.tagger.matching import match
from fsprobe.tagger.tagger import Tagger
from fsprobe.tagger.tagging import BLOCK, Scorer, items_by_clip
from fsprobe.tagger.training import Rows


def update(tagger: Tagger, rows: Rows) -> Tagger:
    """The tagger with these rows and their pooled slope: a tag it has is replaced where it stands,
    a new one comes last.
    """
    place = {tag: row for row, tag in enumerate(tagger.tags)}
    tags = [*tagger.tags, *(tag for tag in rows.tags if tag not in place)]
    where = [tags.index(tag) for tag in rows.tags]
    tensors: dict[str, Any] = {}
    for name in TENSORS:
        old = getattr(tagger, name)
        new = np.empty((len(tags), *old.shape[1:]), np.float32)
        new[: len(old)] = old
        new[where] = getattr(rows, name)
        tensors[name] = new
    shared = dict(tagger.shared)
    if slope_for(tagger, rows.tags) is None:
        shared.pop("pooled_slope", None)
    if rows.pooled_slope is not None:
        shared["pooled_slope"] = rows.pooled_slope
    return replace(
        tagger,
        shared=shared,
        tags=tuple(tags),
        training={**tagger.training, **rows.training},
        **tensors,
    )


def slope_for(tagger: Tagger, tags: Sequence[str]) -> float | None:
    """The pooled slope for rows of these tags: the tagger's, as long as it keeps a row that has it;
    None: theirs to find, as where no tag of the tagger could be judged.
    """
    kept: float | None = tagger.shared.get("pooled_slope")
    return kept if set(tagger.tags) - set(tags) else None


def remove(tagger: Tagger, tags: Sequence[str]) -> Tagger:
    """Without these tags. Raises InputError on one it does not have, or if none is left."""
    for tag in tags:
        if tag not in tagger.tags:
            known = ", ".join(map(repr, tagger.tags[:5])) + "…" * (len(tagger.tags) > 5)
            raise InputError(f"tag {tag!r} is not in the tagger; it has {known}")
    kept = [row for row, tag in enumerate(tagger.tags) if tag not in tags]
    if not kept:
        raise InputError("removing every tag leaves no tagger; keep one")
    return tagger.take(kept)


def rename(tagger: Tagger, names: Mapping[str, str]) -> Tagger:
    """names: old → new. Raises InputError on a name that is taken, or one that a manifest cannot
    hold.
    """
    for old, new in names.items():
        if parse_tags(new, "`rename`") != (new,):
            raise InputError(
                f"tag {old!r} cannot be renamed to {new!r}: a name is not empty, and '|' separates "
                "tags"
            )
    tags = tuple(names.get(tag, tag) for tag in tagger.tags)
    if len(set(tags)) < len(tags):
        twice = next(tag for tag in tags if tags.count(tag) > 1)
        raise InputError(f"two tags would be called {twice!r}; rename to another name")
    training = {names.get(tag, tag): record for tag, record in tagger.training.items()}
    return replace(tagger, tags=tags, training=training)


class Difference(NamedTuple):
    """Of one tag between two taggers. state: `same` (equal bytes), `changed`, `added`, `removed`.
    On a store, NaN without one: the mean and the largest absolute difference of the probabilities,
    and the share of clips that get the tag from one of the two only.
    """

    tag: str
    state: str
    mean: float = float("nan")
    largest: float = float("nan")
    flipped: float = float("nan")


def compare(
    old: Tagger, new: Tagger, stores: Mapping[str, Store] | None = None
) -> list[Difference]:
    """Every tag of either tagger: new's in its order, then those that only old has.

    stores: with them, how much the tags in both differ on all finished clips of the first store.
    Raises InputError if a tagger does not fit the stores.
    """
    before, after = _rows(old), _rows(new)
    states = {
        tag: "added" if tag not in before else "same" if row == before[tag] else "changed"
        for tag, row in after.items()
    }
    states |= {tag: "removed" for tag in old.tags if tag not in after}
    changed = [tag for tag, state in states.items() if state == "changed"]
    amounts = _on_stores(old, new, changed, stores) if stores and changed else {}
    return [Difference(tag, state, *amounts.get(tag, ())) for tag, state in states.items()]


def _rows(tagger: Tagger) -> dict[str, list[bytes]]:
    """Tag → its row of every tensor."""
    return {
        tag: [getattr(tagger, name)[row].tobytes() for name in TENSORS]
        for row, tag in enumerate(tagger.tags)
    }


def _on_stores(
    old: Tagger, new: Tagger, tags: Sequence[str], stores: Mapping[str, Store]
) -> dict[str, tuple[float, float, float]]:
    pair = [tagger.take([tagger.tags.index(tag) for tag in tags]) for tagger in (old, new)]
    parts = [match(tagger, stores) for tagger in pair]
    scorers = [Scorer(tagger, found) for tagger, found in zip(pair, parts, strict=True)]
    used = {part.name: part for found in parts for part in found}
    clips = dict(zip(used, items_by_clip(list(used.values())).rows, strict=True))
    count = len(next(iter(clips.values())))
    if not count:
        raise InputError(f"{parts[0][0].store.path}: no finished clip to compare on")
    mean, largest, flipped = (np.zeros(len(tags)) for _ in range(3))
    for start in tqdm(range(0, count, BLOCK), desc="comparing", dynamic_ncols=True, delay=2):
        p = []
        for scorer, found in zip(scorers, parts, strict=True):
            rows = [clips[part.name][start : start + BLOCK] for part in found]
            p.append(scorer.probabilities(scorer.logits(rows)))
        gap = np.abs(p[0] - p[1])
        mean += gap.sum(axis=0)
        largest = np.maximum(largest, gap.max(axis=0))
        flipped += ((p[0] >= pair[0].threshold) != (p[1] >= pair[1].threshold)).sum(axis=0)
    return {
        tag: (float(mean[i] / count), float(largest[i]), float(flipped[i] / count))
        for i, tag in enumerate(tags)
    }
