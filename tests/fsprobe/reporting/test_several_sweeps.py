"""fsprobe.reporting.sections.several_sweeps: what compares is paired, what does not is said."""

import numpy as np

from fsprobe.pages.blocks import to_markdown
from fsprobe.reporting.reading import read_sweep
from tests.support import fake_results
from tests.support.report_blocks import blocks_of, draw, headings, names, tables, text_of


def test_folders_of_the_same_episodes_are_paired(tmp_path):
    a = fake_results.write(tmp_path / "adam")
    b = fake_results.write(
        tmp_path / "lbfgs", solver="lbfgs", quality={"good": 1.3, "combined": 1.4}
    )
    blocks = blocks_of(a, b)
    draw(blocks)
    (table,) = tables(blocks, "mAP of lbfgs less mAP of adam")
    row = next(row for row in table.rows if row[0] == "good (lbfgs)" and row[2:4] == ["10", "20"])
    assert row[4] == "6" and float(row[5].split()[0]) > 0.05
    assert "other solver settings" in to_markdown(blocks, str) and "Convergence" in headings(blocks)
    (side,) = tables(blocks, "mAP: mean [95% bootstrap-t interval of the mean over seeds]; 6 seeds")
    assert list(side.header) == ["embedding", "N", "K", "adam", "lbfgs"]


def test_other_seeds_share_no_pairs(tmp_path):
    a, b = fake_results.write(tmp_path / "a"), fake_results.write(tmp_path / "b", seed=3)
    (table,) = tables(blocks_of(a, b), "mAP of b less mAP of a")
    assert {row[4] for row in table.rows} == {"3"}
    c = fake_results.write(tmp_path / "c", seed=50)
    assert (
        "b and c share no episode" not in (text := text_of(a, c))
        and "c and a share no episode" in text
    )


def test_other_test_sets_and_manifests_are_not_paired(tmp_path):
    a = fake_results.write(tmp_path / "a")
    tagged = fake_results.write(tmp_path / "tagged", test_clips="tagged")
    other = fake_results.write(tmp_path / "other", manifest="c" * 64, dataset="other clips")
    blocks = blocks_of(a, tagged, other)
    text = to_markdown(blocks, str)
    assert "tagged does not compare with a: their test sets differ" in text
    assert "other does not compare with a: their manifests differ" in text
    assert not tables(blocks, "mAP of tagged less") and not tables(blocks, "mAP of other less")
    sides = tables(blocks, "mAP: mean [95% bootstrap-t interval of the mean over seeds]; ")
    assert [table.header[3:] for table in sides] == [["a", "tagged"], ["other"]]


def test_tail_beside_frequent_tags(tmp_path):
    common = {"n_way": (8,), "k_shot": (5, "full"), "num_seeds": 4, "num_tags": 10}
    tail = fake_results.write(tmp_path / "tail", ranks_from=51, tags="tail", **common)
    top = fake_results.write(tmp_path / "top", **common)
    blocks = blocks_of(tail, top)
    draw(blocks)
    assert {"long_tail_5", "long_tail_full"} <= names(blocks)
    (table,) = tables(blocks, "The tail against")
    groups = {(row[0], row[1], row[2]): float(row[5].split()[0]) for row in table.rows}
    assert groups["good", "full", "rank > 50"] < groups["good", "full", "rank ≤ 50"]
    assert "tags: tail and top50" in table.caption
    twice = blocks_of(
        top, fake_results.write(tmp_path / "again", **common)
    )  # the same tags twice are no tail and head
    assert not tables(twice, "The tail against")


def test_sweeps_that_dropped_other_clips_are_not_paired(tmp_path):
    a = fake_results.write(tmp_path / "a")
    b = fake_results.write(tmp_path / "b", clips={"train": 3000, "valid": 300, "test": 880})
    blocks = blocks_of(a, b)
    assert "b does not compare with a: their clips differ (--missing=drop" in to_markdown(
        blocks, str
    )
    assert not tables(blocks, "mAP of b less")


def test_two_pools_of_the_tail_share_their_seeds(tmp_path):
    common = {"n_way": (8,), "k_shot": (5,), "num_tags": 10, "quality": {"good": 1.0}}
    paths = [
        fake_results.write(
            tmp_path / pool, ranks_from=first, tags=f"file:{pool}", num_seeds=seeds, **common
        )
        for pool, first, seeds in (("first", 51, 3), ("second", 61, 4))
    ]
    (table,) = tables(blocks_of(*paths, each=False), "The tail against")
    assert "; 4 seeds;" in table.caption
    ((*_, number, value, _, _),) = table.rows
    first, second = (read_sweep(path, "x") for path in paths)
    by_seed = [
        [row.average_precision for sweep in (first, second) for row in rows(sweep, seed)]
        for seed in range(4)
    ]
    assert number == "4" and value.startswith(f"{np.mean([*map(np.mean, by_seed)]):.4f} [")


def rows(sweep, seed):
    return [row for key, mine in sweep.tags.items() if key.seed == seed for row in mine]
