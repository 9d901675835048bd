"""fsprobe.reporting.reading: what is refused, in one line that says why."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from fsprobe.reporting.reading import labels, read_sweep
from tests.support import fake_results


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return fake_results.write(tmp_path_factory.mktemp("full") / "study")


def test_labels_tell_folders_apart(tmp_path):
    assert labels(["x/run", "y/run", "z"]) == ["x/run", "y/run", "z"]
    with pytest.raises(InputError, match="given twice"):
        labels(["x/run", "x/../x/run"])


def edit(name, change):
    def apply(path):
        file = path / name
        file.write_text(change(file.read_text()))

    return apply


def add_line(name, line):
    return edit(name, lambda text: text + line + "\n")


def configure(change):
    return lambda path: fake_results.edit_run(path, change)


PROBE = "good,adam,5,1,0,5,0.5,0.5,0.1,0.1,1,1,valid,,"
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
        read_sweep(path, "x")
    assert re.search(re.escape(message), str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "about",
    [
        {"versions": "x"},
        {"devices": 3},
        {"wall_time_s": [1]},
        {"dataset": 1},
        {"dataset": {"clips": {"train": "x"}}},
        {"combined_parts": [["good"]]},
    ],
)
def test_an_odd_description_in_run_json_is_refused_in_one_line(tmp_path, full, about):
    path = shutil.copytree(full, tmp_path / "bad")
    fake_results.edit_run(path, lambda run: run.update(about))
    with pytest.raises(InputError, match=r"run\.json: not as fsprobe\.sweep writes it") as caught:
        read_sweep(path, "x")
    assert "\n" not in str(caught.value)


def test_rows_that_a_kill_left_of_unfinished_probes_are_no_results(tmp_path):
    path = fake_results.write(tmp_path / "x", n_way=(5,), k_shot=(1,), solver="lbfgs")
    fake_results.drop_probes(path, lambda row: row["seed"] != "5")
    sweep = read_sweep(path, "x")
    assert set(sweep.solver_rows) == set(sweep.probes) and len(sweep.probes) == 15


@pytest.mark.parametrize("name", ["probes.csv", "per_tag.csv"])
def test_a_line_that_a_crash_cut_short_is_no_row(tmp_path, full, name):
    path = shutil.copytree(full, tmp_path / "x")
    file = path / name
    file.write_bytes(
        file.read_bytes()[:-2]
    )  # the line's end and a digit: its last number is another
    with pytest.raises(InputError, match=f"{name}: its last line is not whole"):
        read_sweep(path, "x")
