"""fsprobe.report: what stands in it, that it claims no more than the rows hold, and what it
refuses.
"""

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError
from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.reporting import blocks as document
from fsprobe.reporting import comparisons, published, statistics
from fsprobe.reporting.blocks import (
    Bullets,
    Figure,
    Heading,
    Paragraph,
    Table,
    to_html,
    to_markdown,
)
from fsprobe.reporting.page import report, write
from fsprobe.reporting.reading import labels, open_study
from fsprobe.sweep import sweep
from tests.support import fake_results, tiny

ROOT = Path(__file__).parents[2]


def run(*flags: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fsprobe.report", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def blocks_of(*paths: Path) -> list[document.Block]:
    return report(
        [
            open_study(path, label)
            for path, label in zip(paths, labels([*map(str, paths)]), strict=True)
        ]
    )


def text_of(*paths: Path) -> str:
    return to_markdown(blocks_of(*paths), "figures/{}.png".format)


def tables(blocks: list[document.Block], start: str) -> list[Table]:
    return [
        block for block in blocks if isinstance(block, Table) and block.caption.startswith(start)
    ]


def headings(blocks: list[document.Block]) -> list[str]:
    return [block.text for block in blocks if isinstance(block, Heading)]


def names(blocks: list[document.Block]) -> set[str]:
    return {block.name for block in blocks if isinstance(block, Figure)}


def draw(blocks: list[document.Block]) -> None:
    for block in blocks:
        if isinstance(block, Figure):
            block.draw()


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return fake_results.write(tmp_path_factory.mktemp("full") / "study")


def test_from_rows_to_files_and_again_byte_for_byte(full, tmp_path):
    first = run(f"--results={full}", f"--out={tmp_path / 'a'}")
    assert first.returncode == 0, first.stderr
    write(blocks_of(full), tmp_path / "b")
    files = sorted(
        path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()
    )
    assert files == sorted(
        path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file()
    )
    assert all(
        (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        for file in files
    )
    page, text = (
        (tmp_path / "a" / "report.html").read_text(),
        (tmp_path / "a" / "report.md").read_text(),
    )
    assert re.findall(r"\]\((figures/[^)]+)\)", text) == re.findall(
        r"\]\((figures/[^)]+)\)", to_markdown(blocks_of(full), "figures/{}.png".format)
    )
    assert all(
        (tmp_path / "a" / file).exists() for file in re.findall(r"\]\((figures/[^)]+)\)", text)
    )
    assert (
        page.count("<img ")
        == page.count('alt="')
        == len([f for f in files if f.suffix == ".png"])
        == 9
    )
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page


def test_default_out_is_the_first_folder(full, tmp_path):
    folder = shutil.copytree(full, tmp_path / "mine")
    assert run(f"--results={folder}").returncode == 0
    assert (folder / "report.html").exists() and (folder / "figures").is_dir()


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


def test_numbers_are_those_of_the_rows(full):
    study = open_study(full, "x")
    (table,) = tables(blocks_of(full), "mAP: mean [")
    row = next(row for row in table.rows if row[0] == "good")
    values = list(study.values("good", 10, 5).values())
    expected = statistics.summarise(values)
    assert (
        row[table.header.index("K = 5")]
        == f"{np.mean(values):.4f} [{expected.low:.4f}, {expected.high:.4f}]"
    )
    (differences,) = tables(blocks_of(full), "mAP of a less")
    row = next(row for row in differences.rows if row[:4] == ["combined", "good", "10", "5"])
    ours = np.array(
        [study.values("combined", 10, 5)[s] - study.values("good", 10, 5)[s] for s in range(6)]
    )
    assert (
        row[4] == "6" and row[5].startswith(f"{ours.mean():+.4f} [") and row[7] == "0.0312"
    )  # 2 / 2^6


def test_weight_share_and_correlation_are_those_of_the_norms(full):
    study = open_study(full, "x")
    norms = np.load(full / "weight_norms" / "combined.npy")
    keys = study.keys("combined")
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


# --- partial, small and empty results
# --------------------------------------------------------------------------------


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
        row.tag in ("t3", "t4") for rows in open_study(path, "x").tags.values() for row in rows
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


# --- findings
# --------------------------------------------------------------------------------------------------------


def verdicts(path: Path) -> list[str]:
    study = open_study(path, "x")
    return [f.verdict for f in comparisons.findings(study, comparisons.compare_embeddings(study))]


def test_planted_findings_are_found(tmp_path):
    path = fake_results.write(tmp_path / "a", num_seeds=10, noise=0.005, num_tags=10)
    assert verdicts(path)[:2] == ["holds", "holds"]
    study = open_study(path, "x")
    order = sorted(
        study.embeddings, key=lambda name: np.mean(list(study.values(name, 10, "full").values()))
    )
    assert order == list(fake_results.QUALITY)


def test_a_harmful_combination_is_said_to_be_one(tmp_path):
    path = fake_results.write(
        tmp_path / "a", {"poor": 0.8, "good": 1.2, "combined": 0.9}, num_seeds=10, noise=0.005
    )
    study = open_study(path, "x")
    finding = comparisons.combining_helps(study, comparisons.compare_embeddings(study))
    assert finding.verdict == "does not hold" and "It loses at N = 5 K = 1" in finding.detail


def test_too_few_seeds_are_undecided_and_say_so(tmp_path):
    study = open_study(fake_results.write(tmp_path / "a", num_seeds=4), "x")
    finding = comparisons.combining_helps(study, comparisons.compare_embeddings(study))
    assert finding.verdict == "undecided" and "too few" in finding.detail


@pytest.mark.parametrize(
    "change",
    [
        {"quality": {"good": 1.0}},
        {"k_shot": (1, 5, 10), "n_way": (5,)},
        {"test_clips": "tagged", "k_shot": (1, 5)},
    ],
)
def test_what_cannot_be_checked_is_not_claimed(tmp_path, change):
    assert "cannot be checked here" in verdicts(fake_results.write(tmp_path / "a", **change))


def test_flatness_compares_the_same_tags_too(tmp_path):
    study = open_study(fake_results.write(tmp_path / "a", num_seeds=10, noise=0.002), "x")
    finding = comparisons.flat_over_n(study)
    assert finding.verdict == "holds" and "on the 5 tags that both episodes have" in finding.detail


# --- published figures
# -----------------------------------------------------------------------------------------------

CLEAN = {"train": 15_247, "valid": 1_529, "test": 4_332}
UNFILTERED = {"train": 18_706, "valid": 1_825, "test": 5_329}


@pytest.mark.parametrize(
    "clips, present, absent",
    [(CLEAN, "Harmonic CNN", "Jukebox"), (UNFILTERED, "Jukebox", "Harmonic CNN")],
)
def test_published_figures_stand_only_beside_their_own_split(tmp_path, clips, present, absent):
    path = fake_results.write(
        tmp_path / "a", n_way=(50,), num_tags=50, k_shot=("full",), num_seeds=2, clips=clips
    )
    text = text_of(path)
    assert present in text and absent not in text


@pytest.mark.parametrize(
    "change",
    [
        {"n_way": (40,)},
        {"test_clips": "tagged"},
        {"tags": "all"},
        {"clips": CLEAN | {"test": 4331}},
        {"extras": False},
    ],
)
def test_published_figures_do_not_stand_beside_anything_else(tmp_path, change):
    base = {"n_way": (50,), "num_tags": 50, "k_shot": ("full",), "num_seeds": 2, "clips": CLEAN}
    text = text_of(fake_results.write(tmp_path / "a", **(base | change)))
    assert "No published figure stands beside these" in text and "Won et al." not in text


def test_published_splits_are_never_mixed():
    assert {figure.split for figure in published.CLEAN} == {published.CLEAN_SPLIT}
    assert {figure.split for figure in published.UNFILTERED} == {published.UNFILTERED_SPLIT}


# --- several folders
# -------------------------------------------------------------------------------------------------


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
    other = fake_results.write(tmp_path / "other", manifest="c" * 64)
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


def test_labels_tell_folders_apart(tmp_path):
    assert labels(["x/run", "y/run", "z"]) == ["x/run", "y/run", "z"]
    with pytest.raises(InputError, match="given twice"):
        labels(["x/run", "x/../x/run"])


# --- bad input
# -------------------------------------------------------------------------------------------------------


def edit(name, change):
    def apply(path):
        file = path / name
        file.write_text(change(file.read_text()))

    return apply


def add_line(name, line):
    return edit(name, lambda text: text + line + "\n")


def configure(change):
    return lambda path: fake_results.edit_run(path, change)


PROBE = "good,adam,5,1,0,5,0.5,0.5,0.1,0.1,1,1"
BAD = {
    "no_folder": (lambda path: shutil.rmtree(path), "no such directory"),
    "no_run": (lambda path: (path / "run.json").unlink(), "run.json"),
    "no_probes": (lambda path: (path / "probes.csv").unlink(), "probes.csv"),
    "no_per_tag": (lambda path: (path / "per_tag.csv").unlink(), "per_tag.csv"),
    "not_json": (lambda path: (path / "run.json").write_text("{"), "not JSON"),
    "no_configuration": (
        configure(lambda run: run.pop("configuration")),
        "'configuration' is missing",
    ),
    "no_grid": (configure(lambda run: run["configuration"].pop("grid")), "'grid' is missing"),
    "odd_grid": (
        configure(lambda run: run["configuration"]["grid"].update(n_way="x")),
        "configuration not as",
    ),
    "odd_k": (configure(lambda run: run["configuration"]["grid"].update(k_shot=["all"])), "k_shot"),
    "no_rows": (edit("probes.csv", lambda text: text.splitlines()[0] + "\n"), "no rows"),
    "missing_column": (
        edit("probes.csv", lambda text: text.replace("chance_mAP", "luck", 1)),
        "chance_mAP",
    ),
    "missing_tag_column": (
        edit("per_tag.csv", lambda text: text.replace("roc_auc", "auc", 1)),
        "roc_auc",
    ),
    "malformed_number": (
        edit("probes.csv", lambda text: text.replace(",3000,", ",many,", 1)),
        "line",
    ),
    "same_probe_other_value": (add_line("probes.csv", PROBE), "stands twice"),
    "other_embedding": (
        add_line("probes.csv", PROBE.replace("good", "else")),
        "not of the configuration",
    ),
    "other_solver": (
        add_line("probes.csv", PROBE.replace("adam", "lbfgs")),
        "not of the configuration",
    ),
    "other_seed": (
        add_line("probes.csv", PROBE.replace(",0,", ",77,", 1)),
        "seed 77 is not of the configuration",
    ),
    "other_cell": (add_line("probes.csv", PROBE.replace(",5,1,", ",6,1,", 1)), "N=6, K=1"),
    "repeated": (
        edit("probes.csv", lambda text: text + text.splitlines()[3] + "\n"),
        "stands twice",
    ),
    "tag_row_missing": (
        edit("per_tag.csv", lambda text: "\n".join(text.splitlines()[:-1]) + "\n"),
        "not one for each",
    ),
    "value_above_one": (
        edit("per_tag.csv", lambda text: re.sub(r"(t\d+),0\.", r"\1,7.", text, count=1)),
        "between 0 and 1",
    ),
    "other_files_tags": (
        edit("per_tag.csv", lambda text: re.sub(r"(t\d+),0\.\d", r"\1,0.9", text, count=1)),
        "files of several runs are mixed",
    ),
    "other_test_set": (
        edit("per_tag.csv", lambda text: text[:-2] + "9\n"),
        "several test sets are mixed",
    ),
    "other_norms": (
        lambda path: np.save(path / "weight_norms" / "good.npy", np.zeros((3, 8), np.float32)),
        "another grid",
    ),
    "pickled_norms": (
        lambda path: np.save(path / "weight_norms" / "good.npy", np.array([{}])),
        "not a readable .npy",
    ),
    "odd_tags": (edit("tags.csv", lambda text: text.replace("1333", "x", 1)), "tags.csv, line 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_refused_in_one_line(tmp_path, full, case):
    spoil, message = BAD[case]
    path = shutil.copytree(full, tmp_path / "bad")
    spoil(path)
    with pytest.raises((InputError, OSError)) as caught:
        open_study(path, "x")
    assert re.search(re.escape(message), str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_bad_input_exits_2_and_writes_nothing(tmp_path, full):
    path = shutil.copytree(full, tmp_path / "bad")
    (path / "probes.csv").write_text("embedding\n")
    before = sorted(path.rglob("*"))
    for flags in (
        (f"--results={path}",),
        (f"--results={full}", f"--results={path}", f"--out={tmp_path / 'out'}"),
        (),
    ):
        result = run(*flags)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert "Traceback" not in result.stderr
    assert sorted(path.rglob("*")) == before and not (tmp_path / "out").exists()
    assert not (full / "report.md").exists()


# --- the page
# --------------------------------------------------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
markup = st.text(st.sampled_from("ab _*`[]()<>|~\\$&;#-+1.!:"), min_size=1, max_size=20)


@given(anything | markup)
@settings(deadline=None, max_examples=300)
def test_any_name_survives_markdown_and_html(name):
    name = " ".join(name.split()) or "x"
    blocks = [Paragraph(name), Bullets([f"x {name}"]), Table("c", ["h"], [[name]])]
    page = to_html([Heading(1, name), *blocks], {})
    body = page[page.index("<body>") :]
    assert [
        html.unescape(found) for found in re.findall(r"<(?:h1|p)>(.*?)</(?:h1|p)>", body, re.S)
    ] == [name, name]
    assert html.unescape(re.search(r"<td[^>]*>(.*?)</td>", body, re.S).group(1)) == name
    markdown_it = pytest.importorskip("markdown_it")
    rendered = (
        markdown_it.MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(to_markdown(blocks, str))
    )
    texts = [
        "".join(child.content for child in token.children)
        for token in rendered
        if token.type == "inline"
    ]
    assert texts == [name, f"x {name}", "c", "h", name]


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


# --- through the real sweep
# ------------------------------------------------------------------------------------------


def test_planted_quality_ranks_and_a_planted_null_is_seldom_found(tmp_path):
    """Synthetic clips, embeddings of planted quality (noise 0.5, 1.5, 6) and one whose features are
    those of another in another order, so that only the initialisation tells them apart: a null
    difference. 200 groups of 6 seeds.

    Allowed: 21 significant nulls of 200 (P = 0.0005 for a test at its level; 6 seeds allow 2/64,
    4/64 …, so 3.1% are expected), and 94% ± 5% of intervals over the mean of all 1200 seeds
    (binomial standard error 1.5%).
    """
    clips = tiny.manifest(180, 4)
    tiny.write_data(tmp_path, clips)
    order = np.random.default_rng(0).permutation(12)
    base = tiny.features(clips, noise=1.5)
    stores = {
        "best": tiny.features(clips, noise=0.5),
        "middle": base,
        "shuffled": base[:, order],
        "worst": tiny.features(clips, noise=6.0),
    }
    paths = tuple(
        (name, str(tiny.write_store(tmp_path / "s" / name, clips.clip_ids, array)))
        for name, array in stores.items()
    )
    grid = GridConfig(n_way=(3,), k_shot=(4,), num_seeds=1200, tags="all")
    sweep(
        SweepConfig(
            str(tmp_path / "manifest.csv"),
            paths,
            tuple(stores),
            str(tmp_path / "out"),
            grid=grid,
            solver=SolverConfig(learning_rate=0.02, max_epochs=12),
        )
    )
    study = open_study(tmp_path / "out", "x")
    values = {name: study.values(name, 3, 4) for name in stores}
    means = {name: np.mean(list(by_seed.values())) for name, by_seed in values.items()}
    assert means["best"] > means["middle"] > means["worst"]
    nulls = covered = planted = 0
    for group in range(200):
        seeds = range(6 * group, 6 * group + 6)
        ours = {name: {seed: values[name][seed] for seed in seeds} for name in stores}
        nulls += statistics.paired_difference(ours["middle"], ours["shuffled"]).p < 0.05
        planted += statistics.paired_difference(ours["best"], ours["worst"]).mean > 0
        summary = statistics.summarise(list(ours["middle"].values()))
        covered += summary.low <= means["middle"] <= summary.high
    print(f"significant nulls {nulls}/200, planted order {planted}/200, covered {covered}/200")
    assert nulls <= 15 and planted >= 195 and 178 <= covered <= 200


def test_the_real_sweeps_folder_makes_a_report(tmp_path):
    tiny.write_data(tmp_path)
    stores = tuple((name, str(tmp_path / name)) for name in ("good", "poor"))
    sweep(
        SweepConfig(
            str(tmp_path / "manifest.csv"),
            stores,
            ("good", "poor", "combined"),
            str(tmp_path / "out"),
            grid=GridConfig(n_way=(2, 5), k_shot=(1, "full"), num_seeds=2, tags="all"),
            solver=SolverConfig(learning_rate=0.01, max_epochs=20),
            weight_norms=True,
            dataset="tiny",
        )
    )
    blocks = blocks_of(tmp_path / "out")
    assert {
        "exp2_map_over_k",
        "exp3_1_good",
        "exp1_weight_share",
        "exp2_norm_correlation",
        "data_tag_counts",
        "data_cooccurrence",
    } <= names(blocks)
    draw(blocks)


@pytest.mark.parametrize(
    "names", [["quickstart"], ["mtat_posteriors"], ["mtat_posteriors", "mtat_posteriors_lbfgs"]]
)
def test_the_committed_report_is_what_the_committed_rows_give(names):
    folders = [ROOT / "results" / "reference" / name for name in names]
    assert (folders[-1] / "report.md").read_text("utf-8") == text_of(*folders)


def test_the_report_needs_no_display_and_no_framework():
    code = "import fsprobe.report, sys; assert not {'matplotlib.pyplot', 'torch', 'tensorflow'} & set(sys.modules)"
    env = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=env)
