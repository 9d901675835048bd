"""fsprobe.reporting.sections.solvers: linear heads beside the baselines, paired by seed."""

from pathlib import Path

import numpy as np
import pytest

from fsprobe.pages.blocks import Figure, to_markdown
from fsprobe.reporting import statistics
from fsprobe.reporting.reading import read_sweep
from tests.support import fake_results
from tests.support.report_blocks import blocks_of, draw, headings, names, tables

HEADING = "Linear heads and baselines"
GRID = {"n_way": (5, 10), "k_shot": (1, 5), "num_seeds": 6}
LEVEL = {"ridge": 0.9, "lbfgs": 1.3, "adam": 1.2, "prototypes": 0.7, "lc_protonets": 0.6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """A sweep per solver, each with its own noise; a baseline comes first."""
    root = tmp_path_factory.mktemp("solvers")
    return [
        fake_results.write(
            root / f"of_{name}",
            solver=name,
            quality={"good": level, "poor": level / 2},
            noise=0.02 * level,
            **GRID,
        )
        for name, level in LEVEL.items()
    ]


def test_every_metric_of_every_solver_is_that_of_the_rows(folders):
    blocks = blocks_of(*folders)
    draw(blocks)
    assert headings(blocks)[1] == HEADING and {"solvers_good", "solvers_poor"} <= names(blocks)
    (table,) = tables(blocks, "Linear heads and baselines: mean [")
    metrics = ["mAP", "ROC-AUC", "macro F1", "micro F1"]
    assert list(table.header) == ["embedding", "solver", "N", "K", *metrics]
    assert "6 seeds" in table.caption and "made-up clips" in table.caption
    order = ["lbfgs", "ridge", "adam", "prototypes", "lc_protonets"]
    assert [row[1] for row in table.rows] == order * 8, "the first linear head, then as given"
    row = next(row for row in table.rows if row[:4] == ["poor", "prototypes", "10", "5"])
    sweep = read_sweep(folders[3], "x")
    for text, metric in zip(row[4:], ("mAP", "roc_auc", "macro_f1", "micro_f1"), strict=True):
        found = statistics.summarise(list(sweep.values("poor", 10, 5, metric).values()))
        assert text == f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def test_the_comparison_says_which_solvers_saw_validation_clips(tmp_path, folders):
    own = fake_results.write(
        tmp_path / "own", solver="adam", validation="support", **GRID, quality={"good": 1.0}
    )
    fake_results.edit_run(
        own, lambda run: run["configuration"]["solver"].update(standardize="train")
    )
    (table,) = tables(blocks_of(*folders, own), "Linear heads and baselines: mean [")
    assert (
        "chosen on 300 labelled validation clips): lbfgs: validation valid, standardize none; "
        "ridge: validation valid, standardize none; adam (of_adam): validation valid, standardize "
        "none; prototypes: validation none, standardize none; lc_protonets: validation none, "
        "standardize none; adam (own): validation support, standardize train."
    ) in table.caption
    alone = [
        fake_results.write(tmp_path / name, solver=name, validation="support", **GRID)
        for name in ("ridge", "lbfgs")
    ]
    (table,) = tables(blocks_of(*alone), "Linear heads and baselines: mean [")
    assert "lbfgs: validation support" in table.caption and "valid:" not in table.caption


def test_differences_are_paired_with_the_first_linear_head(folders):
    (table,) = tables(blocks_of(*folders), "Each solver less lbfgs")
    assert [row[1] for row in table.rows[:4]] == ["ridge", "adam", "prototypes", "lc_protonets"]
    ours, theirs = (read_sweep(folders[i], "x").values("good", 5, 1, "roc_auc") for i in (3, 1))
    expected = np.array([ours[seed] - theirs[seed] for seed in range(6)])
    row = next(row for row in table.rows if row[:4] == ["good", "prototypes", "5", "1"])
    place = list(table.header).index("ROC-AUC")
    assert row[4] == "6" and row[place].startswith(f"{expected.mean():+.4f} [")
    cell = [row for row in table.rows if row[2:4] == ["5", "1"]]
    by_hand = []
    for embedding, _, n_way, k_shot in (row[:4] for row in cell):
        i = len(by_hand) % 4
        pair = [
            read_sweep(folders[j], "x").values(embedding, int(n_way), int(k_shot), "roc_auc")
            for j in ((0, 2, 3, 4)[i], 1)
        ]
        by_hand.append(statistics.paired_difference(*pair).p)
    adjusted = statistics.holm(by_hand)
    assert [row[place + 1] for row in cell] == [f"{p:.4f}" for p in adjusted]


def test_without_each_there_is_the_comparison_alone(folders):
    blocks = blocks_of(*folders, each=False)
    assert headings(blocks)[1:] == [HEADING, "The folders side by side"]
    assert "--noeach" in to_markdown(blocks, str)


def test_only_comparable_sweeps_with_a_baseline_among_them(tmp_path, folders):
    _, lbfgs, adam, *_ = folders
    assert HEADING not in headings(blocks_of(lbfgs, adam)), "no baseline"
    other = fake_results.write(tmp_path / "other", solver="ridge", manifest="c" * 64, **GRID)
    assert HEADING not in headings(blocks_of(lbfgs, other)), "another manifest"
    same = fake_results.write(tmp_path / "same", solver="prototypes", manifest="c" * 64, **GRID)
    blocks = blocks_of(lbfgs, folders[0], other, same)
    draw(blocks)
    firsts = [table.caption for table in tables(blocks, "Each solver less")]
    assert [text.split(",")[0] for text in firsts] == [
        "Each solver less lbfgs",
        "Each solver less ridge",
    ], "a comparison for each manifest; without a linear head, with the first sweep"
    assert {"solvers_1_good", "solvers_2_good", "solvers_2_combined"} <= names(blocks)


def test_folders_of_one_solver_are_told_apart_and_other_grids_share_what_they_can(
    tmp_path, folders
):
    again = fake_results.write(
        tmp_path / "again", solver="ridge", n_way=(10,), k_shot=(5,), num_seeds=3, seed=4
    )
    alone = fake_results.write(
        tmp_path / "alone", solver="prototypes", n_way=(3,), k_shot=(1,), num_seeds=2
    )
    blocks = blocks_of(folders[1], folders[0], again, alone, each=False)
    draw(blocks)
    (values,) = tables(blocks, "Linear heads and baselines: mean [")
    assert {row[1] for row in values.rows} == {"lbfgs", "ridge (of_ridge)", "ridge (again)"}
    (table,) = tables(blocks, "Each solver less lbfgs")
    seeds = {tuple(row[:5]) for row in table.rows if row[1] == "ridge (again)"}
    assert seeds == {
        ("good", "ridge (again)", "10", "5", "2"),
        ("poor", "ridge (again)", "10", "5", "2"),
    }


def test_no_chart_without_a_line(tmp_path):
    options = {"quality": {"good": 1.0}, "n_way": (5,), "k_shot": (1, 5), "num_seeds": 2}
    unscored = [f"t{rank}" for rank in range(1, 13)]
    folders = [
        fake_results.write(tmp_path / name, solver=name, unscored=unscored, **options)
        for name in ("ridge", "prototypes")
    ]
    blocks = blocks_of(*folders, each=False)
    draw(blocks)
    assert HEADING in headings(blocks) and "solvers_good" not in names(blocks)


def test_a_caption_counts_the_seeds_of_every_sweep(tmp_path):
    options = {"quality": {"good": 1.0}, "n_way": (5,), "k_shot": (1, 5)}
    few = fake_results.write(tmp_path / "few", solver="lbfgs", num_seeds=3, **options)
    many = fake_results.write(tmp_path / "many", solver="ridge", num_seeds=7, **options)
    blocks = blocks_of(few, many, each=False)
    (values,) = tables(blocks, "Linear heads and baselines")
    (paired,) = tables(blocks, "Each solver less lbfgs")
    (figure,) = (block for block in blocks if isinstance(block, Figure))
    assert "3–7 of 7 seeds" in values.caption and "3–7 of 7 seeds" in figure.caption
    assert "3 of 7 seeds" in paired.caption
