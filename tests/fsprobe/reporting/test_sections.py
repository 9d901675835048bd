"""fsprobe.reporting.sections: what stands in a report, and that it claims no more than the rows hold."""

import html
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from fsprobe.pages.blocks import Figure, to_markdown
from fsprobe.pages.write import write
from fsprobe.reporting import statistics
from fsprobe.reporting.reading import read_sweep
from tests.support import fake_results
from tests.support.report_blocks import blocks_of, draw, headings, names, tables, text_of


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return fake_results.write(tmp_path_factory.mktemp("full") / "study")


def test_a_section_for_every_kind_of_row(full):
    blocks = blocks_of(full)
    assert headings(blocks)[1:] == [
        "What was run",
        "The paper's findings, checked on these rows",
        "Exp. 1: full probes",
        "Share of absolute weight per embedding inside combined (Fig. 3)",
        "Exp. 2: data efficiency",
        "Exp. 3: N × K grid",
        "Differences between embeddings",
        "Seeds needed",
        "Data",
        "Per tag",
    ]
    assert names(blocks) == {
        "exp1_weight_share",
        "exp2_map_over_k",
        "exp2_norm_correlation",
        "exp3_1_poor",
        "exp3_2_good",
        "exp3_3_combined",
        "data_tag_counts",
        "data_long_tail",
        "data_cooccurrence",
    }
    for block in blocks:
        if isinstance(block, Figure):
            assert len(block.alt) > 40
            for said in (
                ("Data", "made-up clips")
                if "data_" in block.name
                else (
                    "made-up clips",
                    "3,000 training clips",
                    "top50",
                    "N = ",
                    "K = ",
                    "6 seeds",
                    "all 900 test clips",
                )
            ):
                assert said in block.caption, (block.name, said)


def test_a_figure_says_that_its_font_lacks_a_sign(tmp_path):
    tags = {"t1": "民謡", "t2": "Ünïcode – Ελληνικά, עברית"}
    path = fake_results.write(tmp_path / "a", num_seeds=2, k_shot=(1, 5), rename=tags)
    write(blocks_of(path), tmp_path / "out")
    said = "A box stands for a sign that the figure's font does not have."
    for name in ("report.md", "report.html"):
        text = html.unescape((tmp_path / "out" / name).read_text("utf-8"))
        assert text.count(said) == 2 and "民謡" in text  # tag counts and co-occurrence


@pytest.mark.parametrize("num_seeds", [1, 6])
def test_intervals_of_full_probes_are_not_said_to_be_narrow(tmp_path, num_seeds):
    text = text_of(fake_results.write(tmp_path / "a", num_seeds=num_seeds, noise=0.3))
    assert "are narrow" not in text and "nothing of other training clips" in text


def test_numbers_are_those_of_the_rows(full):
    results = read_sweep(full, "x")
    (table,) = tables(blocks_of(full), "mAP: mean [")
    row = next(row for row in table.rows if row[0] == "good")
    values = list(results.values("good", 10, 5).values())
    expected = statistics.summarise(values)
    assert (
        row[table.header.index("K = 5")]
        == f"{np.mean(values):.4f} [{expected.low:.4f}, {expected.high:.4f}]"
    )
    (differences,) = tables(blocks_of(full), "mAP of a less")
    row = next(row for row in differences.rows if row[:4] == ["combined", "good", "10", "5"])
    ours = np.array(
        [results.values("combined", 10, 5)[s] - results.values("good", 10, 5)[s] for s in range(6)]
    )
    assert (
        row[4] == "6" and row[5].startswith(f"{ours.mean():+.4f} [") and row[7] == "0.0312"
    )  # 2 / 2^6


def test_weight_share_and_correlation_are_those_of_the_norms(full):
    results = read_sweep(full, "x")
    norms = np.load(full / "weight_norms" / "combined.npy")
    keys = results.keys("combined")
    rows = [i for i, key in enumerate(keys) if key[2:4] == (10, "full")]
    share = np.mean([norms[i, :8].sum() / norms[i].sum() for i in rows])
    figure = next(
        b for b in blocks_of(full) if isinstance(b, Figure) and b.name == "exp1_weight_share"
    )
    assert f"poor {share:.3f} of the weight with 0.500 of the features" in figure.alt
    few = [i for i, key in enumerate(keys) if key[2:4] == (10, 5)]
    expected = np.mean(
        [scipy.stats.pearsonr(norms[a], norms[b]).statistic for a, b in zip(few, rows, strict=True)]
    )
    (table,) = tables(blocks_of(full), "Correlation of weight norms")
    assert table.rows[-1][0] == "combined" and table.rows[-1][2].startswith(f"{expected:.4f} [")


def test_cooccurrence_is_a_share_of_the_clips_of_all_splits(full):
    results = read_sweep(full, "x")
    shares = {
        (a, b): clips / sum(getattr(results.tag_counts[a], s) for s in ("train", "valid", "test"))
        for (a, b), clips in results.cooccurrence.items()
    }
    a, b = max(shares, key=shares.get)
    figure = next(
        b for b in blocks_of(full) if isinstance(b, Figure) and b.name == "data_cooccurrence"
    )
    assert f"{shares[a, b]:.0%} of the clips with {a} also carry {b}" in figure.alt
    assert np.nanmax(figure.draw().axes[0].images[0].get_array()) == shares[a, b]


def test_no_caption_claims_more_seeds_than_its_points_have(tmp_path):
    path = fake_results.write(tmp_path / "part")
    fake_results.drop_probes(
        path,
        lambda row: (
            not (row["embedding"] == "good" and row["k_shot"] == "20" and int(row["seed"]) > 1)
        ),
    )
    blocks = blocks_of(path)
    captions = {block.name: block.caption for block in blocks if isinstance(block, Figure)}
    assert (
        "2–6 of 6 seeds" in captions["exp2_map_over_k"]
        and "2–6 of 6 seeds" in captions["exp3_2_good"]
    )
    assert "2–6 of 6 seeds" in captions["exp2_norm_correlation"]
    assert "; 6 seeds;" in captions["exp3_1_poor"] and "; 6 seeds;" in captions["exp1_weight_share"]
    text = to_markdown(blocks, str)
    assert (
        "Missing: 8 probes of good (N = 5 K = 20: 4 of 6 seeds, N = 10 K = 20: 4 of 6 seeds)"
        in text
    )
    assert "Probes: 172 of 180." in text


def test_cells_without_any_seed_are_blank_and_told(tmp_path):
    path = fake_results.write(tmp_path / "part")
    fake_results.drop_probes(
        path, lambda row: row["embedding"] != "combined" or row["n_way"] == "5"
    )
    blocks = blocks_of(path)
    draw(blocks)
    caption = next(
        b.caption for b in blocks if isinstance(b, Figure) and b.name == "exp3_3_combined"
    )
    assert "6 seeds, 5 of 10 values without any" in caption
    grid = tables(blocks, "combined: mAP")[0]
    assert [row[2] for row in grid.rows] == ["–"] * 5


@pytest.mark.parametrize("embeddings", [{"good": 1.0}, fake_results.QUALITY])
@pytest.mark.parametrize(
    "shape",
    [
        {"num_seeds": 1},
        {"n_way": (1,), "num_tags": 1, "num_seeds": 2},
        {"n_way": (1,), "k_shot": ("full",), "num_seeds": 1},
        {"k_shot": (1,)},
        {"extras": False},
        {"num_seeds": 2, "noise": 0.0},
    ],
)
def test_small_results_make_a_report(tmp_path, shape, embeddings):
    blocks = blocks_of(fake_results.write(tmp_path / "small", quality=embeddings, **shape))
    draw(blocks)
    text = to_markdown(blocks, str)
    assert "nan" not in text
    if shape.get("num_seeds") == 1:
        assert "1 seed: no interval" in text and "[0" not in text
    if shape.get("extras") is False:
        assert (
            "tags.csv is not in the folder" in text and "weight_norms is not in the folder" in text
        )


def test_empty_metrics_stay_empty_and_are_counted(tmp_path):
    path = fake_results.write(tmp_path / "some", unscored=("t3", "t4"))
    blocks = blocks_of(path)
    (table,) = tables(blocks, "Average precision")
    row = next(row for row in table.rows if row[0] == "t3")
    assert row[5:] == ["–"] * 6 and "2 of these 12 tags have no metric" in table.caption
    rows = sum(
        row.tag in ("t3", "t4") for rows in read_sweep(path, "x").tags.values() for row in rows
    )
    assert f"Empty metrics: {rows:,} of 1,350 rows of per_tag.csv, of 2 tag(s)" in to_markdown(
        blocks, str
    )


def test_nothing_but_empty_metrics(tmp_path):
    path = fake_results.write(tmp_path / "none", unscored=[f"t{i}" for i in range(1, 13)])
    blocks = blocks_of(path)
    draw(blocks)
    text = to_markdown(blocks, str)
    assert "180 probes have no mAP at all" in text and "nan" not in text
    assert "exp2_map_over_k" not in text  # there is nothing to draw


def test_tags_with_markup_reach_every_page_and_figure(tmp_path):
    odd = {
        "t1": "<script>alert(1)</script>",
        "t2": "drum & bass",
        "t3": "a_$b$_c",
        "t4": "[x](y)",
        "t5": "日本語 😀",
    }
    blocks = blocks_of(
        fake_results.write(tmp_path / "odd", n_way=(12,), k_shot=(1,), num_seeds=2, rename=odd)
    )
    write(blocks, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "日本語" in page


def test_probes_that_did_not_converge_are_counted(tmp_path):
    path = fake_results.write(tmp_path / "a", solver="lbfgs", num_seeds=2)
    file = path / "solver.csv"
    lines = file.read_text().splitlines()
    spoilt = [line.rpartition(",")[0] + ",0" for line in lines[1:4]]
    file.write_text("\n".join([lines[0], *spoilt, *lines[4:]]) + "\n")
    (table,) = tables(blocks_of(path), "The strengths (l2)")
    assert table.header[-1] == "not converged"
    assert sum(int(row[-1]) for row in table.rows) == 3


@pytest.mark.parametrize(
    ("validation", "best", "said"),
    [("valid", 400, True), ("valid", 391, True), ("valid", 390, False), ("none", 400, False)],
)
def test_probes_at_the_last_epoch_are_those_that_might_have_gone_on(
    tmp_path, validation, best, said
):
    path = fake_results.write(
        tmp_path / "x", n_way=(5,), k_shot=(1,), num_seeds=2, validation=validation
    )
    fake_results.edit_run(path, lambda run: run["configuration"]["solver"].update(patience=10))
    file = path / "probes.csv"
    file.write_text(file.read_text().replace(",9,19,", f",{best},400,"))
    assert ("6 of 6 probes were still improving" in text_of(path)) == said


def test_diverged_probes_are_not_taken_for_tags_without_test_clips(tmp_path):
    options = {"n_way": (5,), "k_shot": (1,), "num_tags": 5, "num_seeds": 3}
    tags = tuple(f"t{i}" for i in range(1, 6))
    path = fake_results.write(tmp_path / "x", {"good": 1.0}, unscored=tags, **options)
    assert "5 of these 5 tags have no metric: no positive" in text_of(path)
    file = path / "probes.csv"
    file.write_text(file.read_text().replace(",0.2,9,19,", ",,0,11,"))
    text = text_of(path)
    assert "- Diverged: 3 probes never had a finite validation loss." in text
    assert "negative test clip" not in text and "have no mAP at all" not in text


def test_training_clips_over_rank_are_not_said_to_fall_where_they_do_not(tmp_path):
    path = fake_results.write(tmp_path / "x", n_way=(5,), k_shot=(1,), num_seeds=2)
    counts = [(f"t{rank}", rank, 40, 4, 10) for rank in range(1, 13)]
    fake_results.write_csv(path / "tags.csv", ("tag", "rank", "train", "valid", "test"), counts)
    (figure,) = (b for b in blocks_of(path) if isinstance(b, Figure) and b.name == "data_long_tail")
    assert figure.alt == "Training clips over rank, from 40 at rank 1 to 40 at rank 12."
