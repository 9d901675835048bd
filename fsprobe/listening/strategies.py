"""Which clips to ask about next: five ways to choose among clips by what a head says of them.

Each is written for one tag. `probability` is NaN for all clips of a tag that has no head yet; then
every strategy draws at random, for nothing else is known.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from extract.errors import InputError

STRATEGIES = ("uncertain", "top", "diverse", "balanced", "random")
UNCERTAIN, TOP, DIVERSE, BALANCED, RANDOM = STRATEGIES
DEFAULT = UNCERTAIN
BINS = 10  # of the probability, for `balanced`
_UNSURE = 5  # for `diverse`: so many times more candidates than clips asked for, the most unsure
_EXAMPLES = 1000  # labelled clips that `diverse` keeps away from

# places of clips → float32 `[clip, dim]`, standardised, of length 1
Directions = Callable[[np.ndarray], np.ndarray]


class Choice(NamedTuple):
    """place: of the clip. reason: why it is asked about, in words."""

    place: int
    reason: str


def choose(
    strategy: str,
    probability: np.ndarray,
    known: np.ndarray,
    count: int,
    rng: np.random.Generator,
    directions: Directions,
) -> list[Choice]:
    """At most `count` clips to ask about, the most wanted first.

    probability: float32 `[clip]`. known: bool `[clip]`, has the tag been judged there? directions:
    of clips' features, for `diverse`. Raises InputError on an unknown strategy.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"strategy={strategy!r:.60}: use one of {', '.join(STRATEGIES)}")
    places = rng.permutation(np.flatnonzero(~known))  # equals come in random order
    p = probability[places]
    if np.isnan(p).any() or strategy == RANDOM:
        why = "drawn at random" if strategy == RANDOM else "no head yet: drawn at random"
        return [Choice(place, why) for place in places[:count].tolist()]
    if strategy == TOP:
        return [Choice(int(places[i]), "among the most probable") for i in _least(-p, count)]
    if strategy == BALANCED:
        return _balanced(places, p, count)
    doubt = np.abs(p - 0.5)
    if strategy == UNCERTAIN:
        return [Choice(int(places[i]), "nearest to 0.5") for i in _least(doubt, count)]
    unsure = places[_least(doubt, _UNSURE * count)]
    judged = rng.permutation(np.flatnonzero(known))[:_EXAMPLES]
    return _diverse(unsure, judged, count, directions)


def _least(keys: np.ndarray, count: int) -> np.ndarray:
    """Places of the smallest keys, smallest first."""
    if count < len(keys):
        near = np.argpartition(keys, count)[:count]
        return near[np.argsort(keys[near], kind="stable")]
    return np.argsort(keys, kind="stable")


def _balanced(places: np.ndarray, p: np.ndarray, count: int) -> list[Choice]:
    """From the bins in turn, the highest first, as long as they have clips."""
    number = np.minimum((p * BINS).astype(int), BINS - 1)
    bins = []
    for one in range(BINS - 1, -1, -1):
        why = f"from the probabilities {one / BINS:.1f} to {(one + 1) / BINS:.1f}"
        bins.append([Choice(place, why) for place in places[number == one][:count].tolist()])
    turns = itertools.zip_longest(*bins)
    return [choice for turn in turns for choice in turn if choice][:count]


def _diverse(
    unsure: np.ndarray, judged: np.ndarray, count: int, directions: Directions
) -> list[Choice]:
    """Of the unsure clips the one least like all that are judged or chosen, again and again
    (farthest first); if nothing is judged, the most unsure to begin with.
    """
    candidates = directions(unsure)
    nearest = np.full(len(unsure), -1.0, np.float32)
    if len(judged):
        nearest = (candidates @ directions(judged).T).max(axis=1)
    found: list[Choice] = []
    for _ in range(min(count, len(unsure))):
        pick = int(nearest.argmin())
        like = float(nearest[pick])
        why = "unsure, and least like what is judged" if len(judged) or found else "the most unsure"
        found.append(Choice(int(unsure[pick]), f"{why} (cosine {like:.2f})" if found else why))
        nearest = np.maximum(nearest, candidates @ candidates[pick])
        nearest[pick] = np.inf
    return found


class Suggestion(NamedTuple):
    """Ask whether the clip at `place` has the tag of column `tag`. score: the probability, or
    NaN.
    """

    place: int
    tag: int
    score: float
    reason: str


def suggest(
    strategy: str,
    probability: np.ndarray,
    known: np.ndarray,
    count: int,
    rng: np.random.Generator,
    directions: Directions,
    each: bool = False,
) -> list[Suggestion]:
    """`count` clips, each once: the tags take turns, those of which the fewest clips are known
    first, and take their most wanted clip that is left. So where there are more tags than `count`,
    the next call asks about the others. each: `count` clips for every tag instead, tag after tag.

    probability, known: `[clip, tag]`.
    """
    tags, wanted = range(known.shape[1]), {}
    for tag in tags:
        of_tag = (probability[:, tag], known[:, tag], count, rng, directions)
        wanted[tag] = [
            Suggestion(place, tag, float(probability[place, tag]), reason)
            for place, reason in choose(strategy, *of_tag)
        ]
    if each:
        return [one for tag in tags for one in wanted[tag]]
    found: list[Suggestion] = []
    taken: set[int] = set()
    queues = [iter(wanted[tag]) for tag in sorted(tags, key=known.sum(axis=0).__getitem__)]
    while queues and len(found) < count:
        for queue in list(queues):
            one = next((one for one in queue if one.place not in taken), None)
            if one is None:
                queues.remove(queue)
            elif len(found) < count:
                taken.add(one.place)
                found.append(one)
    return found
