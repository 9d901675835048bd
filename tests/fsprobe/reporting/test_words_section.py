"""The report's section on words, of a sweep with them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsprobe.pages.blocks import Block, Bullets, Figure, Heading, Table
from fsprobe.pages.plot_style import render
from fsprobe.reporting.page import report
from fsprobe.reporting.reading import read_sweep
from fsprobe.study.execute import sweep
from fsprobe.study.results import read_probes
from tests.support import fake_results
from tests.support.word_sweeps import config, write_corpus

PRIORS = ("none", "words", "shuffled")


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    root = write_corpus(tmp_path_factory.mktemp("words"))
    grid = {"num_seeds": 4, "n_way": (4,)}
    sweep(config(root, "out", (0, 1, 3), grid, zero_shot=("eszsl", "conse"), prior=PRIORS))
    return root / "out"


@pytest.fixture(scope="module")
def blocks(swept) -> list[Block]:
    return report([read_sweep(swept, "out")])


def table(blocks: list[Block], caption: str) -> list[dict[str, str]]:
    (found,) = (b for b in blocks if isinstance(b, Table) and b.caption.startswith(caption))
    return [dict(zip(found.header, row, strict=True)) for row in found.rows]


def mean(swept: Path, **wanted: object) -> float:
    rows = [
        row.mAP
        for row in read_probes(swept)
        if all(getattr(row, name) == value for name, value in wanted.items())
    ]
    assert len(rows) == 4
    return float(np.mean(rows))


def test_every_way_without_examples(swept, blocks):
    rows = table(blocks, "Tags without examples")
    assert [(row["zero_shot"], row["words"]) for row in rows] == [
        (way, kind) for way in ("eszsl", "conse") for kind in ("words", "shuffled")
    ]
    for row in rows:
        expected = mean(swept, k_shot=0, zero_shot=row["zero_shot"], prior=row["words"])
        assert float(row["mAP"].split()[0]) == pytest.approx(expected, abs=6e-5)


def test_chance_is_a_mean_over_the_probes_that_have_one(swept):
    result = read_sweep(swept, "out")
    at_0 = [key for key in result.probes if key.k_shot == 0]
    lost = result.probes[at_0[0]]._replace(chance_mAP=np.nan)
    found = report([replace(result, probes={**result.probes, at_0[0]: lost})])
    (caption,) = (
        b.caption
        for b in found
        if isinstance(b, Table)
        and "chance mAP" in b.caption
        and b.caption.startswith("Tags without")
    )
    first = [key for key in at_0[1:] if key[5:] == at_0[0][5:]]
    expected = np.mean([result.probes[key].chance_mAP for key in first])
    assert f"chance mAP {expected:.4f}." in caption


def test_gains_of_the_prior(swept, blocks):
    rows = table(blocks, "mAP with the words as a prior")
    assert [(row["K"], row["b"]) for row in rows] == [
        (k_shot, other) for k_shot in "13" for other in ("none", "shuffled")
    ]
    for row in rows:
        cell = {"k_shot": int(row["K"])}
        gain = mean(swept, prior="words", **cell) - mean(swept, prior=row["b"], **cell)
        assert float(row["difference"].split()[0]) == pytest.approx(gain, abs=6e-5)


def test_curves_from_no_shot_to_many(blocks):
    (figure,) = (b for b in blocks if isinstance(b, Figure) and b.name.endswith("words_over_k"))
    _, svg = render(figure.draw())
    assert svg.startswith("<?xml")
    rows = table(blocks, "The same")
    cell = {(row["prior"], row["metric"]): row["K = 0"] for row in rows}
    assert cell["none", "mAP"] == "–" and float(cell["words", "mAP"].split()[0]) > 0


def test_near_synonyms_and_the_map(blocks):
    rows = table(blocks, "Near synonyms apart")
    assert len(rows) == 4 + 2 * 3
    assert all(0 <= float(row["others"]) <= 1 for row in rows)
    tags = table(blocks, "The map of eszsl")
    assert len(tags) > 4 and all(row["leans on"].count(",") == 4 for row in tags)
    values = [float(row["AP"]) for row in tags]
    assert values == sorted(values, reverse=True)
    clips = {row["clips"] for row in table(blocks, "Retrieval ranks clips")}
    assert clips == {"all", "seen", "unseen", "both"}


def test_the_other_sections_stand(blocks):
    headings = {b.text for b in blocks if isinstance(b, Heading)}
    assert {"Words", "Words: store", "Exp. 2: data efficiency", "Convergence"} <= headings


def test_missing_probes_are_counted_by_seed(swept, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(swept, cut)
    fake_results.drop_probes(cut, lambda row: row["seed"] == "0" or row["k_shot"] == "3")
    (item,) = (
        item
        for block in report([read_sweep(cut, "cut")])
        if isinstance(block, Bullets)
        for item in block.items
        if item.startswith("Missing")
    )
    assert "N = 4 K = 0: 3 of 4 seeds, N = 4 K = 1: 3 of 4 seeds" in item


def test_without_the_file_of_the_map_the_rest_is_there(swept, blocks, tmp_path):
    cut = tmp_path / "out"
    shutil.copytree(swept, cut)
    (cut / "zero_shot_tags.csv").unlink()
    rest = report([read_sweep(cut, "out")])
    assert rest == [b for b in blocks if not (isinstance(b, Table) and "The map of" in b.caption)]


@pytest.mark.parametrize("prior", [("none", "words"), ("words", "none")])
def test_what_was_run_says_whose_values_the_other_sections_show(tmp_path, prior):
    root = write_corpus(tmp_path)
    sweep(config(root, "out", (0, 3), {"num_seeds": 2, "n_way": (4,)}, prior=prior))
    result = read_sweep(root / "out", "out")
    items = [item for b in report([result]) if isinstance(b, Bullets) for item in b.items]
    said = "Outside of the sections on words, K = 0 is by eszsl and the prior of K in shots is"
    assert f"{said} {prior[0]}." in items
    shown = result.values("store", 4, 3)
    assert shown == result.values("store", 4, 3, variant=("", prior[0]))


def test_another_prior_is_said_to_be_why_sweeps_differ(swept, tmp_path):
    other = shutil.copytree(swept, tmp_path / "other")
    plain = report([read_sweep(swept, "out"), read_sweep(other, "other")], each=False)
    fake_results.edit_run(
        other, lambda run: run["configuration"]["words"].update(prior=["words", *PRIORS[::2]])
    )
    blocks = report([read_sweep(swept, "out"), read_sweep(other, "other")], each=False)
    said = "other has other settings of words than out."
    assert any(said in block.items for block in blocks if isinstance(block, Bullets))
    assert not any(said in block.items for block in plain if isinstance(block, Bullets))
