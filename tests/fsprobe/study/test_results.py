"""The results directory: resumable, never half a row, one configuration."""

import json
import math
import resource

import numpy as np
import pytest

from extract.errors import InputError
from fsprobe.study import results
from fsprobe.study.results import FinishedProbe, Planned, open_results
from fsprobe.study.tables import (
    EpisodeRow,
    PairRow,
    ProbeKey,
    ProbeRow,
    SolverRow,
    TagCountRow,
    TagRow,
    read_rows,
    write_rows,
)

CONFIG = {"grid": {"n_way": [2]}, "embeddings": ("a",)}
KEYS = [ProbeKey("a", "adam", 2, k_shot, seed) for k_shot in (1, "full") for seed in (0, 1)]
PLANNED = Planned(
    KEYS,
    [EpisodeRow(0, 0, 'odd, "tag"', 0, "c1"), EpisodeRow(0, 1, "t", 0, "c2")],
    [TagCountRow("t", 1, 5, 6, 7)],
    [PairRow('odd, "tag"', "t", 3)],
)


def probe(seed: int, k_shot: int | str = 1) -> FinishedProbe:
    key = ("a", "adam", 2, k_shot, seed)
    return FinishedProbe(
        ProbeRow(*key, 2, 0.1 + seed / 3, math.nan, 0.25, 0.5, 3, 4, "valid", 0.375, math.nan),
        [TagRow(*key, tag, 0.5, math.nan, 7) for tag in ('odd, "tag"', "t")],
        SolverRow(*key, 0.01, 1e-6, 40, 2e-7, 1, 3),
        np.full(3, seed, np.float32),
    )


def append(writer: results.ResultsWriter, seed: int, k_shot: int | str = 1) -> None:
    writer.append([probe(seed, k_shot)])


def fresh(path):
    return open_results(path, CONFIG, {"versions": {}}, PLANNED)


def test_rows_come_back(tmp_path):
    with fresh(tmp_path / "out") as writer:
        append(writer, 1, "full")
        append(writer, 0)
        writer.finish(1.5, True)
    rows = results.read_probes(tmp_path / "out")
    assert [row.key for row in rows] == [
        ProbeKey("a", "adam", 2, 1, 0),
        ProbeKey("a", "adam", 2, "full", 1),
    ]
    assert rows[1].mAP == pytest.approx(0.1 + 1 / 3, rel=1e-7) and math.isnan(rows[1].roc_auc)
    assert [row.tag for row in results.read_per_tag(tmp_path / "out")] == ['odd, "tag"', "t"] * 2
    lines = (tmp_path / "out" / "probes.csv").read_text().splitlines()
    assert (
        lines[0]
        == "embedding,solver,n_way,k_shot,seed,num_train,mAP,roc_auc,chance_mAP,val_loss,best_epoch,epochs,"
        "validation,macro_f1,micro_f1"
    )
    assert lines[1] == "a,adam,2,1,0,2,0.1,,0.25,0.5,3,4,valid,0.375,"
    assert (tmp_path / "out" / "per_tag.csv").read_text().splitlines()[0] == (
        "embedding,solver,n_way,k_shot,seed,tag,average_precision,roc_auc,test_positives"
    )
    assert (tmp_path / "out" / "episodes.csv").read_text().splitlines() == [
        "seed,position,tag,shot,clip_id",
        '0,0,"odd, ""tag""",0,c1',
        "0,1,t,0,c2",
    ]
    assert (tmp_path / "out" / "solver.csv").read_text().splitlines() == [
        "embedding,solver,n_way,k_shot,seed,l2,gradient_norm,iterations,gap,converged,clips_cut",
        "a,adam,2,1,0,0.01,1e-06,40,2e-07,1,3",
        "a,adam,2,full,1,0.01,1e-06,40,2e-07,1,3",
    ]
    assert (tmp_path / "out" / "tags.csv").read_text().splitlines() == [
        "tag,rank,train,valid,test",
        "t,1,5,6,7",
    ]
    assert (tmp_path / "out" / "cooccurrence.csv").read_text().splitlines() == [
        "tag_a,tag_b,clips",
        '"odd, ""tag""",t,3',
    ]
    norms = np.load(
        tmp_path / "out" / "weight_norms" / "a.npy", allow_pickle=False
    )  # rows in the order of the grid
    np.testing.assert_array_equal(norms, np.float32([[0] * 3, [np.nan] * 3, [np.nan] * 3, [1] * 3]))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["complete"] and run["wall_time_s"] == 1.5


def test_every_truncation_of_the_files_resumes_to_the_same_rows(tmp_path):
    """A crash can leave any prefix of what was written: tag rows first, the probe's row last."""
    path = tmp_path / "out"
    with fresh(path) as writer:
        append(writer, 0)
        whole = {
            name: (path / name).read_bytes() for name in ("per_tag.csv", "solver.csv", "probes.csv")
        }
        append(writer, 1)
    after = {name: (path / name).read_bytes() for name in whole}
    states = [
        {**whole, **{earlier: after[earlier] for earlier in list(whole)[:j]}, name: after[name][:i]}
        for j, name in enumerate(whole)
        for i in range(len(whole[name]), len(after[name]), 5)
    ]
    for state in states:
        for name, content in state.items():
            (path / name).write_bytes(content)
        with fresh(path) as writer:
            assert writer.done == {KEYS[0]}
            append(writer, 1)
        assert {name: (path / name).read_bytes() for name in whole} == after


def test_files_of_an_older_version_get_the_columns_that_they_lack(tmp_path):
    with fresh(tmp_path / "out") as writer:
        append(writer, 0)
    file = tmp_path / "out" / "solver.csv"
    file.write_text("".join(f"{line.rpartition(',')[0]}\n" for line in file.open()))
    with fresh(tmp_path / "out") as writer:
        append(writer, 1)
    assert [row.clips_cut for row in read_rows(file, SolverRow)] == [0, 3]


def test_a_crash_between_the_first_files(tmp_path):
    with fresh(tmp_path / "out"):
        pass
    for name in ("episodes.csv", "per_tag.csv", "probes.csv"):
        (tmp_path / "out" / name).unlink()
    with fresh(tmp_path / "out") as writer:
        assert writer.done == set()
    assert (tmp_path / "out" / "episodes.csv").read_text().count("\n") == 3


def test_another_configuration_other_files_and_two_at_once_are_refused(tmp_path):
    with (
        fresh(tmp_path / "out"),
        pytest.raises(InputError, match="another sweep is writing here"),
        fresh(tmp_path / "out"),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"another configuration: grid was .*\[2\].*, now .*\[3\]"),
        open_results(tmp_path / "out", {**CONFIG, "grid": {"n_way": [3]}}, {}, PLANNED),
    ):
        pass
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("…")
    with (
        pytest.raises(InputError, match=r"'chapter1\.tex' but no run\.json"),
        fresh(tmp_path / "thesis"),
    ):
        pass
    assert sorted(p.name for p in (tmp_path / "thesis").iterdir() if p.name[0] != ".") == [
        "chapter1.tex"
    ]


def test_a_write_that_does_not_fit_takes_itself_back(tmp_path):
    with fresh(tmp_path / "out") as writer:
        append(writer, 0)
        before = (tmp_path / "out" / "per_tag.csv").read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
        try:
            with pytest.raises(InputError, match=r"per_tag\.csv: .*make room and rerun"):
                append(writer, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "out" / "per_tag.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("mAP", "map"), "column 'mAP' is missing"),
        (lambda text: text.replace("0.1", "a lot"), "line 2: could not convert string to float"),
        (lambda text: text.replace("adam,2,1", "adam,2,half"), "line 2: invalid literal"),
    ],
)
def test_malformed_rows_are_named(tmp_path, damage, message):
    with fresh(tmp_path / "out") as writer:
        append(writer, 0)
    file = tmp_path / "out" / "probes.csv"
    file.write_text(damage(file.read_text()))
    with pytest.raises(InputError, match=message):
        results.read_probes(tmp_path / "out")


def test_numbers_survive_as_float32(tmp_path):
    values = np.random.default_rng(0).random(200, np.float32)
    rows = [probe(0).probe._replace(mAP=float(value)) for value in values]
    write_rows(tmp_path / "rows.csv", rows, ProbeRow._fields)
    found = [np.float32(row.mAP) for row in read_rows(tmp_path / "rows.csv", ProbeRow)]
    np.testing.assert_array_equal(found, values)


def test_rows_of_older_versions_lack_columns(tmp_path):
    """They have the defaults of columns that came later."""
    with fresh(tmp_path / "out") as writer:
        append(writer, 0)
    for name, kept in (("probes.csv", 12), ("solver.csv", 8)):
        lines = (tmp_path / "out" / name).read_text().splitlines()
        short = [",".join(line.split(",")[:kept]) for line in lines]
        (tmp_path / "out" / name).write_text("\n".join(short) + "\n")
    (row,) = results.read_probes(tmp_path / "out")
    assert row.validation == "" and math.isnan(row.macro_f1) and row.epochs == 4
    (solver,) = read_rows(tmp_path / "out" / "solver.csv", SolverRow)
    assert math.isnan(solver.gap) and solver.converged == 1 and solver.iterations == 40
