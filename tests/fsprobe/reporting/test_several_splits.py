"""fsprobe.reporting.sections.several_splits: sweeps that differ in their split alone."""

import numpy as np
import pytest
from scipy.stats import t

from fsprobe.pages.blocks import Figure
from fsprobe.reporting.reading import read_sweep
from tests.support import fake_results
from tests.support.report_blocks import blocks_of, draw, headings, names, tables, text_of


def folders(tmp_path, count=3, **options):
    return [
        fake_results.write(tmp_path / f"split{i}", manifest=str(i) * 64, **options)
        for i in range(count)
    ]


def test_means_and_intervals_are_those_of_the_splits_means(tmp_path):
    paths = [
        fake_results.write(tmp_path / f"split{i}", manifest=str(i) * 64, quality={"good": level})
        for i, level in enumerate((1.0, 1.2, 0.8))
    ]
    blocks = blocks_of(*paths)
    draw(blocks)
    (table,) = tables(blocks, "Mean [95% interval")
    row = next(row for row in table.rows if row[:3] == ["good", "10", "5"])
    means = [np.mean(list(read_sweep(path, "x").values("good", 10, 5).values())) for path in paths]
    reach = t.ppf(0.975, 2) * np.std(means, ddof=1) / np.sqrt(3)
    low, high = (float(part) for part in row[3].split("[")[1].rstrip("]").split(","))
    assert float(row[3].split()[0]) == pytest.approx(np.mean(means), abs=1e-4)
    assert (low, high) == pytest.approx((np.mean(means) - reach, np.mean(means) + reach), abs=1e-4)
    assert {"splits_adam_n5", "splits_adam_n10"} <= names(blocks)


def test_tags_that_a_split_cannot_test_are_counted(tmp_path):
    paths = folders(tmp_path, 2, extras=False)
    paths.append(
        fake_results.write(
            tmp_path / "few", manifest="f" * 64, extras=False, unscored=("t1", "t2", "t3")
        )
    )
    (table,) = tables(blocks_of(*paths), "Of the N tags that an episode draws, those that were")
    assert list(table.header) == ["embedding", "N", "split0", "split1", "few"]
    probes = [rows for key, rows in read_sweep(paths[2], "x").tags.items() if key.n_way == 10]
    tested = np.mean([sum(row.tag not in ("t1", "t2", "t3") for row in rows) for rows in probes])
    assert 7 <= tested < 9
    assert ["good", "10", "10.0", "10.0", f"{tested:.1f}"] in [*map(list, table.rows)]


def test_differences_are_paired_by_split(tmp_path):
    paths = [
        fake_results.write(tmp_path / f"split{i}", manifest=str(i) * 64, noise=1e-6)
        for i in range(3)
    ]
    (table,) = tables(blocks_of(*paths), "mAP of a less mAP of b, paired by split")
    row = next(row for row in table.rows if row[:4] == ["good", "poor", "10", "20"])
    mean, rest = row[4].split(" [")
    low, high = map(float, rest.rstrip("]").split(","))
    assert float(mean) > 0.05 and high - low < 1e-3


def test_the_same_manifest_or_other_settings_are_no_splits(tmp_path):
    same = [fake_results.write(tmp_path / name) for name in ("a", "b")]
    other = [
        fake_results.write(tmp_path / "c", manifest="c" * 64, k_shot=(1, 5)),
        fake_results.write(tmp_path / "d", manifest="d" * 64, tags="all"),
    ]
    assert "Splits together" not in headings(blocks_of(*same, *other))


def test_what_is_no_split_is_shown_as_ever(tmp_path):
    alone = fake_results.write(tmp_path / "alone", tags="all")
    blocks = blocks_of(*folders(tmp_path, 2), alone)
    draw(blocks)
    assert {"Splits together", "Exp. 2: data efficiency"} <= set(headings(blocks))
    assert {"splits_adam_n10", "exp2_map_over_k"} <= names(blocks)


def test_two_groups_of_one_solver_have_figures_of_their_own(tmp_path):
    paths = [
        fake_results.write(
            tmp_path / f"{validation}{i}",
            {"good": quality},
            (5,),
            (1, 5),
            num_seeds=2,
            manifest=str(i) * 64,
            validation=validation,
        )
        for validation, quality in (("none", 1), ("support", 2))
        for i in range(2)
    ]
    drawings = [block for block in blocks_of(*paths) if isinstance(block, Figure)]
    assert [figure.name for figure in drawings] == ["splits_adam_n5", "splits_adam_n5_2"]
    first, second = (figure.draw().axes[0].lines[0].get_ydata()[-1] for figure in drawings)
    assert second > first + 0.05


def test_what_is_missing_is_said_where_sweeps_are_shown_together_only(tmp_path):
    splits = folders(tmp_path, 2, n_way=(5,), k_shot=(1, 5), extras=False)
    alone = fake_results.write(tmp_path / "alone", n_way=(5,), k_shot=(1, 5), extras=False)
    for path in (splits[1], alone):
        fake_results.drop_probes(path, lambda row: row["k_shot"] == "1" or row["seed"] == "0")
    missing = (
        "Missing: 5 probes of good (N = 5 K = 5: 5 of 6 seeds). The sweep's command, run again, "
        "adds them."
    )
    assert f"- split1: {missing}" in text_of(*splits)
    whole = fake_results.write(tmp_path / "whole", n_way=(5,), k_shot=(1, 5), extras=False)
    assert f"- alone: {missing}" in text_of(whole, alone, each=False)


def test_what_the_first_split_lacks_is_shown_of_the_others(tmp_path):
    paths = folders(tmp_path, 3, quality={"a": 0.5, "b": 1.0}, n_way=(5,), k_shot=(1, 5))
    for path in paths:
        first = path == paths[0]
        fake_results.drop_probes(
            path, lambda row, first=first: row["k_shot"] == "1" if first else row["seed"] != "0"
        )
    fake_results.drop_probes(paths[0], lambda row: row["embedding"] == "a")
    blocks = blocks_of(*paths)
    (table,) = tables(blocks, "Mean [95% interval")
    row = next(row for row in table.rows if row[:3] == ["b", "5", "5"])
    values = [read_sweep(path, "x").summary("b", 5, 5).mean for path in paths[1:]]
    assert row[3].startswith(f"{np.mean(values):.4f} [")
    (figure,) = (b for b in blocks if isinstance(b, Figure))
    drawing = figure.draw()
    assert all(np.isfinite(line.get_ydata()).all() for line in drawing.axes[0].lines)
    assert "nan" not in figure.alt
