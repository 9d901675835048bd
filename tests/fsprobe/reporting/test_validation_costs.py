"""fsprobe.reporting.sections.validation: sweeps that differ in --validation alone, side by side."""

import numpy as np
import pytest

from fsprobe.reporting import statistics
from fsprobe.reporting.reading import read_sweep
from tests.support import fake_results
from tests.support.report_blocks import blocks_of, draw, headings, names, tables, text_of

WORSE = {name: level - 0.2 for name, level in fake_results.QUALITY.items()}
WORST = {name: level - 0.4 for name, level in fake_results.QUALITY.items()}
TITLE = "What each --validation costs"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """valid, support and none of one solver, ever worse, named otherwise."""
    path = tmp_path_factory.mktemp("validation")
    return [
        fake_results.write(path / "c", fake_results.QUALITY, validation="valid"),
        fake_results.write(path / "a", WORSE, validation="support", noise=0.03),
        fake_results.write(path / "b", WORST, validation="none", noise=0.04),
    ]


def test_every_embedding_n_and_k_has_each_way_and_its_paired_difference(folders):
    none_first = [folders[2], folders[0], folders[1]]  # the order of folders does not matter
    blocks = blocks_of(*none_first)
    draw(blocks)
    assert TITLE in headings(blocks) and "validation_1_adam" in names(blocks)
    (table,) = tables(blocks, "mAP by --validation, solver adam")
    assert list(table.header) == [
        *("embedding", "N", "K", "valid", "support", "none"),
        *("support − valid", "Holm p", "none − valid", "Holm p"),
    ]
    assert len(table.rows) == 3 * 2 * 5  # embeddings, N, K
    assert "valid: c; support: a" in table.caption and "6 seeds" in table.caption
    results = [read_sweep(path, "x") for path in folders]
    row = next(row for row in table.rows if row[:3] == ["good", "10", "5"])
    valid, support, none = (sweep.values("good", 10, 5) for sweep in results)
    assert row[3].startswith(f"{np.mean(list(valid.values())):.4f} [")
    assert row[5].startswith(f"{np.mean(list(none.values())):.4f} [")
    gaps = np.array([support[seed] - valid[seed] for seed in range(6)])
    gap = statistics.summarise(gaps)
    assert row[6] == f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]" and gap.mean < -0.01
    # all six signs agree: 2 / 2^6, over six differences in this N and K
    assert row[7] == f"{6 * 2 / 2**6:.4f}"


def test_each_solver_has_a_table_of_its_own(tmp_path):
    grid = {"n_way": (5,), "k_shot": (1, 5), "num_seeds": 3}
    folders = [
        fake_results.write(tmp_path / f"{solver}_{way}", solver=solver, validation=way, **grid)
        for solver, ways in (("adam", ("valid", "none")), ("lbfgs", ("valid", "support")))
        for way in ways
    ]
    blocks = blocks_of(*folders)
    adam, lbfgs = tables(blocks, "mAP by --validation")
    assert "solver adam" in adam.caption
    assert list(adam.header[3:6]) == ["valid", "none", "none − valid"]
    assert "solver lbfgs" in lbfgs.caption and list(lbfgs.header[3:5]) == ["valid", "support"]
    assert {"validation_1_adam", "validation_2_lbfgs"} <= names(blocks)


def test_only_what_both_have_is_compared(tmp_path):
    valid = fake_results.write(tmp_path / "valid", k_shot=(1, 5), num_seeds=4)
    support = fake_results.write(
        tmp_path / "support", k_shot=(5, 10), num_seeds=3, validation="support"
    )
    (table,) = tables(blocks_of(valid, support), "mAP by --validation")
    assert {row[2] for row in table.rows} == {"5"} and "3–4 of 4 seeds" in table.caption


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"validation": "support"}, {"validation": "none"}),  # nothing to compare with
        ({}, {"solver": "lbfgs", "validation": "support"}),  # another solver
        ({}, {"validation": "support", "manifest": "c" * 64}),  # other clips
        ({"solver": "prototypes"}, {"solver": "prototypes", "validation": "none"}),  # heeds neither
    ],
)
def test_nothing_is_said_where_more_differs_or_valid_is_missing(tmp_path, first, second):
    grid = {"n_way": (5,), "k_shot": (1,), "num_seeds": 2}
    a = fake_results.write(tmp_path / "a", **grid, **first)
    b = fake_results.write(tmp_path / "b", **grid, **second)
    assert TITLE not in headings(blocks_of(a, b))


def test_a_caption_counts_the_seeds_of_every_sweep(tmp_path):
    paths = [
        fake_results.write(
            tmp_path / way, {"good": 1.0}, (5,), (1, 5), num_seeds=seeds, validation=way
        )
        for way, seeds in (("valid", 3), ("support", 7))
    ]
    (table,) = tables(blocks_of(*paths, each=False), "mAP by --validation")
    assert "3–7 of 7 seeds" in table.caption


def test_pools_are_compared_each_by_itself(tmp_path):
    paths = [
        fake_results.write(
            tmp_path / f"{pool[:4]}_{way}",
            {"good": 1.0},
            (5,),
            (1, 5),
            3,
            tags=pool,
            validation=way,
        )
        for pool, way in (("top:12", "valid"), ("tail", "valid"), ("tail", "support"))
    ]
    (table,) = tables(blocks_of(*paths, each=False), "mAP by --validation")
    assert "Folders: valid: tail_valid; support: tail_support." in table.caption


def test_validation_clips_are_counted_only_where_all_have_as_many(tmp_path):
    paths = [
        fake_results.write(
            tmp_path / f"{valid}_{way}",
            {"good": 1.0},
            (5,),
            (1, 5),
            num_seeds=3,
            validation=way,
            manifest=f"{valid:064}",
            clips={"train": 3000, "valid": valid, "test": 900},
        )
        for valid in (300, 40)
        for way in ("valid", "support")
    ]
    assert "epochs on 300 labelled validation clips" in text_of(*paths[:2], each=False)
    assert "epochs on the labelled validation clips" in text_of(*paths, each=False)
