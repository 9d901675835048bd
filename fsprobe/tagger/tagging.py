"""A whole store to tags: block after block over the memory-mapped features, whatever their number.

What a tag's logit becomes is a line and a sigmoid, and both fold away: with kernel a·w and bias
a·b + c the product gives the logit of the probability itself, and which tags are best, or above
their thresholds, shows without a sigmoid. Several cores take a block each.

The results go into a folder of partial files beside the output; a run that was stopped goes on
after the last block that is on the disk. Only one block a core is in memory.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import threadpoolctl
from scipy.special import logit
from tqdm import tqdm

from extract.errors import InputError
from extract.shell import num_cores
from extract.store import DONE
from fsprobe.tagger.matching import Part
from fsprobe.tagger.partial_files import RECORD, PartialFiles
from fsprobe.tagger.tagger import Tagger

_Result = TypeVar("_Result")
_LARGEST = np.float32(np.nextafter(np.float32(1), np.float32(0)))  # probabilities are below 1
BLOCK = 4096  # clips


class Items(NamedTuple):
    """What is tagged: clips, or tracks as the mean of their clips' probabilities.

    names: one per item, in the order of the output. rows: per part int64 `[clip]`, the store rows
    of all items end to end. ends: int64 `[item]`, where each item's clips end; an item without a
    clip has no scores.
    """

    names: Sequence[str]
    rows: tuple[np.ndarray, ...]
    ends: np.ndarray

    def block(self, first: int, last: int) -> "Block":
        """The items from first to last."""
        begin, end = (int(self.ends[item - 1]) if item else 0 for item in (first, last))
        counts = np.diff(self.ends[first:last], prepend=begin)
        return Block(first, tuple(as_slice(rows[begin:end]) for rows in self.rows), counts)


class Block(NamedTuple):
    """Consecutive items to score, from `first` on. rows: for each part, the store rows of all their
    clips end to end. counts: int64 `[item]`, clips of each.
    """

    first: int
    rows: tuple[np.ndarray | slice, ...]
    counts: np.ndarray


class Scored(NamedTuple):
    """records: RECORD of a block's items. present: those that have clips; probabilities: float32
    `[present, tag]`, None where nobody asked for them.
    """

    records: np.ndarray
    present: np.ndarray
    probabilities: np.ndarray | None


def items_by_clip(parts: Sequence[Part]) -> Items:
    """Every clip of the first store, in its order. Clips without a finished row everywhere have no
    scores.
    """
    return _items(parts, parts[0].store.clip_ids, np.arange(len(parts[0].store.clip_ids)))


def items_by_track(parts: Sequence[Part], tracks: Mapping[str, str]) -> Items:
    """Tracks in the order of their first clip. tracks: clip_id → track; a clip without one stands
    alone, under its own name. Raises InputError where that is a track's name, too.
    """
    number: dict[tuple[bool, str], int] = {}
    place = np.empty(len(parts[0].store.clip_ids), np.int64)
    for row, clip in enumerate(parts[0].store.clip_ids):
        track = tracks.get(clip, "")
        place[row] = number.setdefault((bool(track), track or clip), len(number))
    names = [name for _, name in number]
    if len(set(names)) < len(names):
        twice = next(name for of_track, name in number if (not of_track, name) in number)
        raise InputError(
            f"`by=track`: {twice!r} is a track, and a clip without a track; give the clip's track "
            "in the manifest"
        )
    return _items(parts, names, place)


def _items(parts: Sequence[Part], names: Sequence[str], place: np.ndarray) -> Items:
    """place: int64 `[clip of the first store]`, the item that each belongs to."""
    first = parts[0].store
    done = first.status == DONE
    located = [np.arange(len(first.clip_ids))]
    for part in parts[1:]:
        index = {clip: row for row, clip in enumerate(part.store.clip_ids)}
        rows = np.array([index.get(clip, -1) for clip in first.clip_ids], np.int64)
        done &= (rows >= 0) & (part.store.status[rows] == DONE)
        located.append(rows)
    order = np.argsort(place, kind="stable")
    order = order[done[order]]
    counts = np.bincount(place[order], minlength=len(names))
    return Items(names, tuple(rows[order] for rows in located), np.cumsum(counts))


class Scorer:
    """A tagger's probabilities on blocks of rows; kernel and bias hold the calibration."""

    def __init__(self, tagger: Tagger, parts: Sequence[Part]):
        slope, shift = tagger.calibration.astype(np.float64).T
        kernel = (tagger.kernel.astype(np.float64).T * slope).astype(np.float32)
        edges = np.cumsum([part.width for part in parts])[:-1]
        self.parts = tuple(parts)
        self.kernels = [np.ascontiguousarray(k) for k in np.split(kernel, edges)]
        self.bias = (tagger.bias * slope + shift).astype(np.float32)
        self.threshold, self.highest = tagger.threshold, np.minimum(tagger.highest, _LARGEST)
        self.capped = bool((self.highest < _LARGEST).any())
        with np.errstate(divide="ignore"):  # of thresholds 0 and 1
            self.ceiling, self.threshold_logit = (
                logit(p.astype(np.float64)).astype(np.float32)
                for p in (self.highest, self.threshold)
            )

    def logits(self, rows: Sequence[np.ndarray | slice]) -> np.ndarray:
        """float32 `[clip, tag]`, of the probabilities. rows: for each part.

        Raises InputError on NaN or Inf in the features.
        """
        z = self.bias
        for part, kernel, wanted in zip(self.parts, self.kernels, rows, strict=True):
            product = part.rows(wanted) @ kernel
            product += z
            z = product
        if not np.isfinite(z).all():
            refuse_features(self.parts, rows)
        if self.capped:
            np.minimum(z, self.ceiling, out=z)
        return z

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """Of logits, in place."""
        with np.errstate(over="ignore"):
            np.exp(np.negative(z, out=z), out=z)
        z += 1
        np.reciprocal(z, out=z)
        return np.minimum(z, self.highest, out=z)


def refuse_features(parts: Sequence[Part], rows: Sequence[np.ndarray | slice]) -> NoReturn:
    """Raise InputError on the first clip of these rows whose features are NaN or Inf."""
    for part, wanted in zip(parts, rows, strict=True):
        bad = np.flatnonzero(~np.isfinite(part.rows(wanted)).all(axis=1))
        if bad.size:
            here = bad[0] + wanted.start if isinstance(wanted, slice) else wanted[bad[0]]
            raise InputError(
                f"{part.store.path}: NaN or Inf in the features of clip "
                f"{part.store.clip_ids[here]!r}; extract or import it anew"
            )
    raise InputError(
        f"{parts[0].store.path}: features so large that scores overflow; check the store "
        "with extract.verify"
    )


def score_block(scorer: Scorer, block: Block, top: int, all_scores: bool) -> Scored:
    """A block's records, and with all_scores its probabilities. top: as in `tag_items`."""
    present = block.first + np.flatnonzero(block.counts)
    counts = block.counts[block.counts > 0]
    z, threshold = scorer.logits(block.rows), scorer.threshold_logit
    pooled = counts.max(initial=0) > 1
    if pooled or all_scores:
        z, threshold = scorer.probabilities(z), scorer.threshold
    if pooled:
        z = np.add.reduceat(z, np.cumsum(counts) - counts)
        z /= counts[:, None]
    item, tag = _best(z, top) if top else np.nonzero(z >= threshold)
    values = z[item, tag]
    if not top:
        order = np.lexsort((tag, -values, item))
        item, tag, values = item[order], tag[order], values[order]
    if not (pooled or all_scores):
        values = np.minimum(1 / (1 + np.exp(-values.astype(np.float64))), scorer.highest[tag])
    records = np.empty(len(item), RECORD)
    records["item"], records["tag"], records["probability"] = present[item], tag, values
    return Scored(records, present, z if all_scores else None)


# How blocks are scored, in order: (tagger, parts, blocks, top, all_scores) as of `score_here`.
Score = Callable[[Tagger, Sequence[Part], Sequence[Block], int, bool], Iterator[Scored]]


def score_here(
    tagger: Tagger,
    parts: Sequence[Part],
    blocks: Sequence[Block],
    top: int,
    all_scores: bool,
) -> Iterator[Scored]:
    """On all cores of this machine."""
    scorer = Scorer(tagger, parts)
    return in_order(
        lambda place: score_block(scorer, blocks[place], top, all_scores), range(len(blocks))
    )


def tag_items(
    tagger: Tagger,
    parts: Sequence[Part],
    items: Items,
    top: int,
    work: Path,
    fingerprint: Mapping[str, Any],
    all_scores: Path | None = None,
    score: Score = score_here,
) -> np.ndarray:
    """RECORD `[chosen]`: items in order, each one's tags from the most probable down: the `top`
    best, or where it is 0 those at or above their threshold.

    work: the folder of partial files, which the caller removes when all is written. all_scores: a
    float32 .npy `[item, tag]` to write too, NaN where an item has no scores. fingerprint: what must
    be equal for the partial files to be of use. score: who scores the blocks.
    """
    wanted = {**fingerprint, "items": len(items.names), "scores": str(all_scores or "")}
    with PartialFiles(work, wanted, all_scores, (len(items.names), len(tagger.tags))) as progress:
        firsts = range(progress.next_item, len(items.names), BLOCK)
        blocks = [items.block(first, min(first + BLOCK, len(items.names))) for first in firsts]
        found = score(tagger, parts, blocks, top, progress.scores is not None)
        with tqdm(
            total=len(items.names),
            initial=progress.next_item,
            desc="tagging",
            unit=" clips" if len(items.rows[0]) == len(items.names) else " items",
            dynamic_ncols=True,
            delay=2,
        ) as bar:
            for block, scored in zip(blocks, found, strict=True):
                if progress.scores is not None:
                    progress.scores[scored.present] = scored.probabilities
                last = block.first + len(block.counts)
                progress.add(scored.records, last)
                bar.update(last - bar.n)
        return progress.finish()


def _best(z: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) of the `top` largest of each row, largest first; the first of equals."""
    top = min(top, z.shape[1])
    rows = np.arange(len(z))
    if top > 16:
        columns = np.argsort(-z, axis=1, kind="stable")[:, :top]
    else:
        left, columns = z.copy(), np.empty((len(z), top), np.int64)
        for place in range(top):
            columns[:, place] = left.argmax(axis=1)
            left[rows, columns[:, place]] = -np.inf
    return np.repeat(rows, top), columns.ravel()


def as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Consecutive rows, and no rows, as a slice, which is read without a copy."""
    if not len(rows):
        return slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and (np.diff(rows) == 1).all():
        return slice(first, last + 1)
    return rows


def in_order(function: Callable[[int], _Result], arguments: Sequence[int]) -> Iterator[_Result]:
    """function of each argument, in order, on all cores; few results wait to be taken."""
    cores = num_cores()
    waiting: deque[Future[_Result]] = deque()
    with threadpoolctl.threadpool_limits(1, "blas"), ThreadPoolExecutor(cores) as pool:
        try:
            for argument in arguments:
                waiting.append(pool.submit(function, argument))
                if len(waiting) > 2 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
