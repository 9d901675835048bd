"""Padded sizes: each needs a program to be compiled, and padding is wasted work."""

import itertools
import math
from collections.abc import Callable, Mapping
from operator import itemgetter


def padded_sizes(
    needed: Mapping[int, float], most: int, step: int, cost: Callable[[int], float] = float
) -> dict[int, int]:
    """The size that each of the needed sizes is padded to.

    needed: the sizes that occur, with how much work there is at each. most: how many padded sizes
    there may be. step: padded sizes are multiples of it, except the largest, which is padded no
    further than needed. cost(size): cost of a unit of work at that padded size; it grows with the
    size. The padded sizes are those of least total cost, found by dynamic programming over the
    largest one.
    """
    if not needed:
        return {}
    sizes = sorted(needed)
    padded = [min(multiple_of(step, size), sizes[-1]) for size in sizes]
    work = [0.0, *itertools.accumulate(needed[size] for size in sizes)]
    # (cost, where each group ends) of the first 0, 1, … sizes in so many groups
    cheapest: list[tuple[float, tuple[int, ...]]] = [(0.0, ()), *[(math.inf, ())] * len(sizes)]
    plans = []
    for _ in range(most):  # one group more
        candidates = (
            [
                (
                    cheapest[begin][0] + (work[end] - work[begin]) * cost(padded[end - 1]),
                    (*cheapest[begin][1], end),
                )
                for begin in reversed(range(end))
            ]
            for end in range(1, len(sizes) + 1)
        )
        cheapest = [(math.inf, ()), *(min(plan, key=itemgetter(0)) for plan in candidates)]
        plans.append(cheapest[-1])
    ends = min(plans, key=itemgetter(0))[1]  # of equal ones the fewest
    return {size: padded[next(end for end in ends if end > i) - 1] for i, size in enumerate(sizes)}


def multiple_of(step: int, least: int) -> int:
    """The least multiple of `step` that is not below `least`."""
    return -(-least // step) * step
