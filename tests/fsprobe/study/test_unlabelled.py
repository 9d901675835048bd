"""Unlabelled clips as a setting of the sweep: rows change, `full` does not, Adam refuses."""

import subprocess

import pytest

from fsprobe.config import FULL
from fsprobe.study.results import read_probes
from tests.support.sweeping import ROOT, command, sweep
from tests.support.tiny import write_data

FLAGS = ("--solver=lbfgs", "--k_shot=full", "--tags=all")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    write_data(data)
    return data, sweep(data, "plain", *FLAGS)


@pytest.mark.parametrize("validation", ["valid", "support"])
def test_rows_with_unlabelled_clips(plain, validation):
    data, without = plain
    out = sweep(
        data, f"weak_{validation}", *FLAGS, "--unlabelled=weak_negatives",
        "--unlabelled_weight=0.5", f"--validation={validation}",
    )  # fmt: skip
    rows = {row.key: row for row in read_probes(out)}
    others = {row.key: row for row in read_probes(without)}
    assert rows.keys() == others.keys()
    shot = [key for key in rows if rows[key].k_shot != FULL]
    assert any(rows[key].mAP != others[key].mAP for key in shot)
    assert {rows[key].num_train for key in shot} == {others[key].num_train for key in shot}
    if validation == "valid":
        full = [key for key in rows if rows[key].k_shot == FULL]
        assert full and all(rows[key].mAP == others[key].mAP for key in full)
    assert (out / "episodes.csv").read_bytes() == (without / "episodes.csv").read_bytes()


def test_self_training_without_a_full_probe(plain):
    data, _ = plain
    out = sweep(data, "self", "--solver=lbfgs", "--tags=all", "--unlabelled=self_training")
    assert len(read_probes(out)) == 5


def test_adam_has_no_unlabelled_clips(plain):
    data, _ = plain
    done = subprocess.run(
        command(data, "adam", "--unlabelled=weak_negatives"),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "only --solver=lbfgs heeds it" in done.stderr
