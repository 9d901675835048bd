"""Unlabelled clips as a setting of the sweep: rows change, `full` does not. Adam refuses them:
test_sweep.py.
"""

from pathlib import Path

import pytest

from fsprobe.config import FULL, GridConfig, KShot, SolverConfig, SweepConfig
from fsprobe.study.execute import sweep
from fsprobe.study.tables import ProbeRow
from tests.support.tiny import write_data


def swept(data: Path, out: str, *k_shot: KShot, **solver: object) -> dict[object, ProbeRow]:
    """Rows of a sweep of every tag, by key."""
    config = SweepConfig(
        str(data / "manifest.csv"),
        (("poor", str(data / "poor")),),
        out=str(data / out),
        grid=GridConfig(n_way=(3,), k_shot=k_shot, num_seeds=3, tags="all"),
        solver=SolverConfig("lbfgs", **solver),  # type: ignore[arg-type]
    )
    return {row.key: row for row in sweep(config)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    write_data(data)
    return data, swept(data, "plain", 2, FULL)


@pytest.mark.parametrize("validation", ["valid", "support"])
def test_rows_with_unlabelled_clips(plain, validation):
    data, others = plain
    weak = {"unlabelled": "weak_negatives", "unlabelled_weight": 0.5, "validation": validation}
    rows = swept(data, validation, 2, FULL, **weak)
    assert rows.keys() == others.keys()
    shot = [key for key in rows if rows[key].k_shot != FULL]
    assert any(rows[key].mAP != others[key].mAP for key in shot)
    assert {rows[key].num_train for key in shot} == {others[key].num_train for key in shot}
    if validation == "valid":
        full = [key for key in rows if rows[key].k_shot == FULL]
        assert full and all(rows[key].mAP == others[key].mAP for key in full)
    episodes = [(data / out / "episodes.csv").read_bytes() for out in (validation, "plain")]
    assert episodes[0] == episodes[1]


def test_self_training_without_a_full_probe(plain):
    data, others = plain
    rows = swept(data, "self", 2, unlabelled="self_training")
    assert len(rows) == 3
    assert any(rows[key].mAP != others[key].mAP for key in rows)
