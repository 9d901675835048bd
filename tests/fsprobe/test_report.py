"""fsprobe.report: the command, and reports through the real sweep."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.pages.blocks import to_markdown
from fsprobe.pages.write import write
from fsprobe.reporting import statistics
from fsprobe.reporting.page import report
from fsprobe.reporting.reading import read_sweep
from fsprobe.sweep import sweep
from tests.support import fake_results, tiny
from tests.support.report_blocks import blocks_of, draw, names, text_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(commands):
    """fsprobe.report with some flags."""

    def report(*flags: object) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = commands.run("fsprobe.report", *map(str, flags))
        return done

    return report


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return fake_results.write(tmp_path_factory.mktemp("full") / "study")


def test_from_rows_to_files_and_again_byte_for_byte(run, full, tmp_path):
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


def test_default_out_is_the_first_folder(run, tmp_path):
    folder = fake_results.write(tmp_path / "mine", n_way=(5,), k_shot=(1,), num_seeds=2)
    assert run(f"--results={folder}").returncode == 0
    assert (folder / "report.html").exists() and (folder / "figures").is_dir()


def test_bad_input_exits_2_and_writes_nothing(run, tmp_path, full):
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


@pytest.mark.slow
def test_planted_quality_ranks_and_a_planted_null_is_seldom_found(tmp_path):
    """Synthetic clips, embeddings of planted quality (noise 0.5, 1.5, 6) and one whose features are
    those of another in another order, so that only the initialisation tells them apart: a null
    difference. 200 groups of 6 seeds.

    Faster tests of the same faults: the planted null and difference of test_statistics.py, the
    planted findings of test_findings.py, the next test.

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
    results = read_sweep(tmp_path / "out", "x")
    values = {name: results.values(name, 3, 4) for name in stores}
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
            ("good", "combined"),
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
    "names",
    [
        ["quickstart"],
        ["mtat_posteriors"],
        ["mtat_posteriors", "mtat_posteriors_lbfgs"],
        ["words/magnatagatune"],
        ["words/catalogue"],
    ],
)
def test_the_committed_report_is_what_the_committed_rows_give(names):
    folders = [ROOT / "results" / "reference" / name for name in names]
    assert (folders[-1] / "report.md").read_text("utf-8") == text_of(*folders)


def test_the_reports_command_names_the_folders_that_the_sweeps_wrote(tmp_path):
    folders = [fake_results.write(tmp_path / name) for name in ("as asked", "renamed", "unknown")]
    for folder, out in zip(folders, ("results/mine/as asked", "results/mine/before"), strict=False):
        fake_results.edit_run(folder, lambda run, out=out: run.update(flags={"out": out}))
    assert (
        "python -m fsprobe.report '--results=results/mine/as asked' --results=results/renamed "
        "--results=results/unknown\n"
    ) in text_of(*folders)


def test_the_reports_command_has_the_half_width_that_was_asked_for(tmp_path):
    sweeps = [read_sweep(fake_results.write(tmp_path / "mine"), "mine")]
    asked, usual = (to_markdown(report(sweeps, *width), str) for width in ((0.02,), ()))
    assert "python -m fsprobe.report --results=results/mine --half_width=0.02\n" in asked
    assert "half_width=" not in usual


@pytest.mark.slow
def test_the_catalogues_report_is_of_its_ten_sweeps():
    root = ROOT / "results" / "reference" / "catalogue"
    sweeps = [root / f"{solver}_split{i}" for solver in ("lbfgs", "adam") for i in range(5)]
    assert (root / "report.md").read_text("utf-8") == text_of(*sweeps)


def test_the_report_on_validation_is_of_its_six_sweeps():
    root = ROOT / "results" / "reference" / "validation"
    ways = ("valid", "support", "none")
    sweeps = [root / f"{solver}_{way}" for solver in ("lbfgs", "adam") for way in ways]
    assert (root / "report.md").read_text("utf-8") == text_of(*sweeps)


@pytest.mark.parametrize("data", ["mtat_posteriors", "catalogue"])
def test_the_comparison_of_solvers_is_of_five_sweeps(data):
    root = ROOT / "results" / "reference" / "baselines" / data
    sweeps = [root / name for name in ("lbfgs", "adam", "ridge", "prototypes", "lc_protonets")]
    assert (root / "report.md").read_text("utf-8") == text_of(*sweeps, each=False)


def test_the_report_needs_no_display_and_no_framework():
    code = "import fsprobe.report, sys; assert not {'matplotlib.pyplot', 'torch', 'tensorflow'} & set(sys.modules)"
    env = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=env)
