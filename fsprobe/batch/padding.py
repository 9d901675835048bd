"""Padded sizes: each needs a program to be compiled, and padding is wasted work."""

from collections.abc import Callable, Mapping


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
    # best[count][i]: (cost, where the last group begins) of the first i sizes in `count` groups
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for count in range(1, most + 1):
        row: dict[int, tuple[float, int]] = {}
        for end in range(count, len(sizes) + 1):
            work = 0.0
            for begin in range(end - 1, -1, -1):
                work += needed[sizes[begin]]
                if begin in best[count - 1]:
                    total = best[count - 1][begin][0] + work * cost(padded[end - 1])
                    if end not in row or total < row[end][0]:
                        row[end] = (total, begin)
        best.append(row)
    result: dict[int, int] = {}
    end = len(sizes)
    possible = [count for count in range(1, most + 1) if end in best[count]]
    count = min(possible, key=lambda count: best[count][end][0])  # of equal ones the fewest
    while end:
        begin = best[count][end][1]
        result |= dict.fromkeys(sizes[begin:end], padded[end - 1])
        end, count = begin, count - 1
    return result


def multiple_of(step: int, least: int) -> int:
    """The least multiple of `step` that is not below `least`."""
    return -(-least // step) * step
