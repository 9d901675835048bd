"""fsprobe.reporting.findings: planted findings are found, and what cannot be checked is not claimed."""

from pathlib import Path

import numpy as np
import pytest

from fsprobe.reporting import comparisons, findings
from fsprobe.reporting.reading import read_sweep
from tests.support import fake_results


def verdicts(path: Path) -> list[str]:
    results = read_sweep(path, "x")
    return [f.verdict for f in findings.findings(results, comparisons.compare_embeddings(results))]


def test_planted_findings_are_found(tmp_path):
    path = fake_results.write(tmp_path / "a", num_seeds=10, noise=0.005, num_tags=10)
    assert verdicts(path)[:2] == ["holds", "holds"]
    results = read_sweep(path, "x")
    order = sorted(
        results.embeddings,
        key=lambda name: np.mean(list(results.values(name, 10, "full").values())),
    )
    assert order == list(fake_results.QUALITY)


def test_a_harmful_combination_is_said_to_be_one(tmp_path):
    path = fake_results.write(
        tmp_path / "a", {"poor": 0.8, "good": 1.2, "combined": 0.9}, num_seeds=10, noise=0.005
    )
    results = read_sweep(path, "x")
    finding = findings.combining_helps(results, comparisons.compare_embeddings(results))
    assert finding.verdict == "does not hold" and "It loses at N = 5 K = 1" in finding.detail


def test_pairs_side_by_side_are_no_single_embeddings(tmp_path):
    quality = {"poor": 0.8, "good": 0.9, "poor+good": 1.3, "combined": 1.1}
    path = fake_results.write(tmp_path / "a", quality, num_seeds=10, noise=0.005)
    assert verdicts(path)[0] == "holds"


def test_too_few_seeds_are_undecided_and_say_so(tmp_path):
    results = read_sweep(fake_results.write(tmp_path / "a", num_seeds=4), "x")
    finding = findings.combining_helps(results, comparisons.compare_embeddings(results))
    assert finding.verdict == "undecided" and "too few" in finding.detail


@pytest.mark.parametrize(
    "change",
    [
        {"quality": {"good": 1.0}},
        {"quality": {"good": 0.9, "good+poor": 1.0, "combined": 1.1}},
        {"k_shot": (1, 5, 10), "n_way": (5,)},
        {"test_clips": "tagged", "k_shot": (1, 5)},
    ],
)
def test_what_cannot_be_checked_is_not_claimed(tmp_path, change):
    assert "cannot be checked here" in verdicts(fake_results.write(tmp_path / "a", **change))


def test_flatness_compares_the_same_tags_too(tmp_path):
    results = read_sweep(fake_results.write(tmp_path / "a", num_seeds=10, noise=0.002), "x")
    finding = findings.flat_over_n(results)
    assert finding.verdict == "holds" and "on the 5 tags that both episodes have" in finding.detail
    assert "undecided" not in finding.detail  # no case is left


@pytest.mark.parametrize(("num_seeds", "weak"), [(6, 30), (7, 30), (8, 0)])
def test_seeds_are_too_few_for_all_tests_that_p_is_adjusted_over(tmp_path, num_seeds, weak):
    quality = {"a": 0.5, "b": 0.7, "c": 0.8, "combined": 1.5}  # 6 pairs, half with combined
    results = read_sweep(fake_results.write(tmp_path / "x", quality, num_seeds=num_seeds), "x")
    finding = findings.combining_helps(results, comparisons.compare_embeddings(results))
    assert (6 * 2.0 ** (1 - num_seeds) >= comparisons.ALPHA) == bool(weak)
    assert (f"In {weak} of 30 tests the seeds are too few" in finding.detail) == bool(weak)
