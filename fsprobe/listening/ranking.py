"""Which clips of a store score highest, whatever their number: block after block over the
memory-mapped features, of which one block a core is in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from fsprobe.heads.head import Head
from fsprobe.tagger.matching import Part
from fsprobe.tagger.tagging import BLOCK, as_slice, in_order, refuse_features

_Result = TypeVar("_Result")
_SAMPLE = 20_000  # clips that tell a dimension's mean and deviation

# rows of each part → float32 `[clip]`; NaN where the features are no numbers
Score = Callable[[Sequence[np.ndarray | slice]], np.ndarray]


class Ranked(NamedTuple):
    """place: int64 `[found]`, into the rows that were scored; score: float32 `[found]`."""

    place: np.ndarray
    score: np.ndarray


class Standard(NamedTuple):
    """Each dimension's mean and 1 / deviation, 0 where it has none; per part float32 `[width]`."""

    means: tuple[np.ndarray, ...]
    scales: tuple[np.ndarray, ...]


def best(
    score: Score, parts: Sequence[Part], rows: Sequence[np.ndarray], count: int, title: str
) -> Ranked:
    """The `count` clips with the highest score, highest first, the first of equals.

    rows: per part int64 `[clip]`. Raises InputError on NaN or Inf in the features.
    """

    def of_block(block: Sequence[np.ndarray | slice]) -> Ranked:
        scores = score(block)
        if not np.isfinite(scores).all():
            refuse_features(parts, block)
        place = _highest(scores, count)
        return Ranked(place, scores[place])

    found = [(start + part.place, part.score) for start, part in by_block(of_block, rows, title)]
    place, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    chosen = _highest(scores, count)
    return Ranked(place[chosen], scores[chosen])


def by_block(
    function: Callable[[Sequence[np.ndarray | slice]], _Result],
    rows: Sequence[np.ndarray],
    title: str,
) -> Iterator[tuple[int, _Result]]:
    """(where a block begins, the function of its rows) of every block, with a progress bar. rows:
    per part int64 `[clip]`.
    """
    total = len(rows[0])
    starts = range(0, total, BLOCK)
    results = in_order(
        lambda start: function([as_slice(mine[start : start + BLOCK]) for mine in rows]), starts
    )
    with tqdm(total=total, desc=title, unit=" clips", dynamic_ncols=True, delay=2) as bar:
        for start, result in zip(starts, results, strict=True):
            yield start, result
            bar.update(min(BLOCK, total - start))


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the highest, highest first, the first of equals."""
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
        places = np.concatenate([above, equal[: count - len(above)]])
        places.sort()
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")]


def standard_of(parts: Sequence[Part], rows: Sequence[np.ndarray]) -> Standard:
    """Mean and deviation of the features of these rows, from at most 20,000 spread evenly."""
    means, scales = [], []
    for part, mine in zip(parts, rows, strict=True):
        spread = np.linspace(0, len(mine) - 1, min(len(mine), _SAMPLE)).astype(np.int64)
        sample = part.rows(mine[spread])
        mean, deviation = sample.mean(axis=0, dtype=np.float64), sample.std(axis=0)
        varied = deviation > 1e-6 * np.abs(mean)  # else it is rounding
        means.append(mean.astype(np.float32))
        scales.append(np.where(varied, 1 / np.where(varied, deviation, 1), 0).astype(np.float32))
    return Standard(tuple(means), tuple(scales))


def standardized(
    parts: Sequence[Part], standard: Standard, rows: Sequence[np.ndarray | slice]
) -> list[np.ndarray]:
    """Per part float32 `[clip, width]`: each dimension with mean 0 and deviation 1."""
    return [
        (part.rows(wanted) - mean) * scale
        for part, wanted, mean, scale in zip(parts, rows, *standard, strict=True)
    ]


def directions(
    parts: Sequence[Part], standard: Standard, rows: Sequence[np.ndarray | slice]
) -> np.ndarray:
    """float32 `[clip, dim]`: the standardised features, scaled to length 1; 0 where a clip is the
    mean itself.
    """
    x = np.concatenate(standardized(parts, standard, rows), axis=1)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1))


def cosine_to(
    parts: Sequence[Part], standard: Standard, query: Sequence[np.ndarray | slice]
) -> Score:
    """The cosine of standardised features to the mean of the query clips' directions; 0 where a
    clip is the mean itself. query: rows of each part.
    """
    direction = directions(parts, standard, query).sum(axis=0)
    direction /= np.linalg.norm(direction) or 1.0
    pieces = np.split(direction, np.cumsum([part.width for part in parts])[:-1])

    def score(rows: Sequence[np.ndarray | slice]) -> np.ndarray:
        product = squares = np.float32(0)
        for x, piece in zip(standardized(parts, standard, rows), pieces, strict=True):
            product = product + x @ piece
            squares = squares + np.einsum("cd,cd->c", x, x)
        length = np.sqrt(squares)
        return np.asarray(product / np.where(length > 0, length, 1))

    return score


def logit_of(parts: Sequence[Part], head: Head) -> Score:
    """The logit of a head of one tag: kernel `[1, dim]`."""
    edges = np.cumsum([part.width for part in parts])[:-1]
    kernels = np.split(np.asarray(head.kernel, np.float32)[0], edges)
    bias = np.asarray(head.bias, np.float32)[0]

    def score(rows: Sequence[np.ndarray | slice]) -> np.ndarray:
        logits = bias
        for part, wanted, kernel in zip(parts, rows, kernels, strict=True):
            logits = logits + part.rows(wanted) @ kernel
        return np.asarray(logits)

    return score
