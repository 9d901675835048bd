"""cooccurrence.csv: every pair of a few tags, the commonest of very many."""

import itertools

import numpy as np

from extract.manifest import Manifest
from fsprobe.study.records import MOST_PAIRS, pair_rows
from tests.support import tiny


def counted(clips: Manifest, pool: tuple[str, ...]) -> dict[tuple[str, str], int]:
    """By plain loops: clips with a split that carry both tags."""
    found = {
        (a, b): sum(
            bool(split) and a in tags and b in tags
            for split, tags in zip(clips.splits, clips.tags, strict=True)
        )
        for a, b in itertools.combinations(pool, 2)
    }
    return {pair: count for pair, count in found.items() if count}


def test_every_pair_of_a_few_tags_in_the_order_of_the_pool():
    clips = tiny.manifest()
    pool = ("t3", "t0", "t5", "t1")
    rows = pair_rows(clips, pool)
    assert {(row.tag_a, row.tag_b): row.clips for row in rows} == counted(clips, pool)
    pairs = list(itertools.combinations(pool, 2))
    assert [(row.tag_a, row.tag_b) for row in rows] == [
        pair for pair in pairs if pair in counted(clips, pool)
    ]


def test_of_too_many_pairs_those_above_a_count():
    clips = tiny.manifest()
    pool = tuple(f"t{i}" for i in range(6))
    counts = counted(clips, pool)
    for most in range(len(counts) + 1):
        kept = {(row.tag_a, row.tag_b): row.clips for row in pair_rows(clips, pool, most)}
        assert len(kept) <= most
        bound = min(kept.values(), default=np.inf)
        assert kept == {pair: count for pair, count in counts.items() if count >= bound}
        # with the next lower count there would be too many
        lower = max((count for count in counts.values() if count < bound), default=0)
        assert not lower or sum(count >= lower for count in counts.values()) > most


def test_ten_thousand_tags():
    rng = np.random.default_rng(0)
    tags = [tuple(f"t{i}" for i in set(row)) for row in rng.integers(0, 10_000, (2000, 40))]
    clips = Manifest(tuple(map(str, range(2000))), ("",) * 2000, ("train",) * 2000, tuple(tags))
    rows = pair_rows(clips, tuple(f"t{i}" for i in range(10_000)))
    assert 0 < len(rows) <= MOST_PAIRS
    assert min(row.clips for row in rows) >= 2  # a million and a half pairs stand together once
