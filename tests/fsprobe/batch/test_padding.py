"""Padded sizes against every way to choose them."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from fsprobe.batch.padding import multiple_of, padded_sizes


def least_cost(needed: dict[int, float], most: int, step: int, power: int) -> float:
    """Trying every set of largest sizes of groups."""
    sizes, top = sorted(needed), max(needed)
    padded = [min(multiple_of(step, size), top) for size in sizes]
    best = float("inf")
    for count in range(1, most + 1):
        for ends in itertools.combinations(range(len(sizes) - 1), min(count, len(sizes)) - 1):
            largest = [padded[end] for end in (*ends, len(sizes) - 1)]
            bounds = [-1, *ends, len(sizes) - 1]
            cost = 0.0
            for group, size in enumerate(largest):
                for i in range(bounds[group] + 1, bounds[group + 1] + 1):
                    cost += needed[sizes[i]] * float(size) ** power
            best = min(best, cost)
    return best


@settings(max_examples=100, deadline=None)
@given(
    needed=st.dictionaries(
        st.integers(1, 60), st.integers(1, 50).map(float), min_size=1, max_size=7
    ),
    most=st.integers(1, 4),
    step=st.sampled_from([1, 8]),
    power=st.sampled_from([1, 2]),
)
def test_the_cost_is_the_least_of_few_sizes_that_hold_everything(needed, most, step, power):
    found = padded_sizes(needed, most, step, lambda size: float(size) ** power)
    assert found.keys() == needed.keys() and len(set(found.values())) <= most
    for size, padded in found.items():
        assert padded >= size and (padded % step == 0 or padded == max(needed))
    cost = sum(work * float(found[size]) ** power for size, work in needed.items())
    assert cost <= least_cost(needed, most, step, power) * (1 + 1e-9)


def test_nothing_needs_nothing():
    assert padded_sizes({}, 4, 8) == {}
